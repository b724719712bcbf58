/* log.c - see log.h. A message that cannot be written is lost: there is nobody left to tell. */
#include "log.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct option option_rows[] = {
    {.name = "quiet", OPTION_FIELD(struct log_options, quiet), .local = true, .once = true,
     .help = "only warnings and errors on stderr"},
    {.name = "verbose", OPTION_FIELD(struct log_options, verbose), .local = true, .help = "list every option at the start, also those "
     "that are as by default"},
};
const struct option_group log_option_group = {OPTION_GROUP("Run", option_rows, struct log_options)};

void log_init(struct log *log, FILE *stream, bool quiet)
{
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    *log = (struct log){.stream = stream, .quiet = quiet};
    log->terminal = isatty(fileno(stream)) && term && *term && strcmp(term, "dumb") != 0;
    log->color = log->terminal && !(no_color && *no_color);
}

void log_wipe(struct log *log)
{
    if (log->line_open)
        fputs("\r\033[K", log->stream);
    log->line_open = false;
}

/* One line: an optional coloured label, then the message. stderr has no buffer, so all of it is one call: the lines of ranks
 * that share a terminal do not break each other. */
static void log_line(struct log *log, const char *color, const char *label, const char *format, va_list list)
{
    char whole[1024];
    const bool labelled = *label;
    const int length = snprintf(whole, sizeof whole, "%s%s%s%s%s\n", labelled && log->color ? color : "", label,
                                labelled ? ":" : "", labelled ? log->color ? "\033[0m " : " " : "", format);
    log_wipe(log);
    vfprintf(log->stream, length < (int)sizeof whole ? whole : format, list);
    fflush(log->stream);
}

void log_info(struct log *log, const char *format, ...)
{
    if (log->quiet)
        return;
    va_list list;
    va_start(list, format);
    log_line(log, "", "", format, list);
    va_end(list);
}

void log_warning(struct log *log, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    log_line(log, "\033[33m", "warning", format, list);
    va_end(list);
}

void log_warnings(struct log *log, const char *lines)
{
    for (const char *line = lines ? lines : ""; *line;) {
        const size_t length = strcspn(line, "\n");
        log_warning(log, "%.*s", (int)length, line);
        line += length + (line[length] == '\n');
    }
}

void log_error(struct log *log, const struct error *error)
{
    log_wipe(log);
    fprintf(log->stream, "%serror:%s %s\n", log->color ? "\033[31m" : "", log->color ? "\033[0m" : "", error->text);
    fflush(log->stream);
}

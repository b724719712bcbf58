/* progress.c - see progress.h. */
#include "progress.h"

#include <math.h>
#include <string.h>
#include <sys/ioctl.h>

#include "clock.h"

#define REDRAW_SECONDS 0.1

/* Columns that may be used: the last one stays free, or some terminals would wrap. */
static size_t line_columns(const struct progress *progress)
{
    struct winsize size;
    if (!progress->log->terminal)
        return sizeof progress->line - 1;
    if (ioctl(fileno(progress->log->stream), TIOCGWINSZ, &size) || size.ws_col < 2)
        return 79;
    return size.ws_col - 1u < sizeof progress->line - 1 ? size.ws_col - 1u : sizeof progress->line - 1;
}

/* A few digits whatever the size: 0.0500, 12.34, 1.23e-05, 45.6k. */
static void number_format(double value, char *out, size_t out_bytes)
{
    double size = fabs(value);
    if (!isfinite(value) || (size > 0 && size < 1e-3) || size >= 1e9)
        snprintf(out, out_bytes, "%.2e", value);
    else if (size >= 1e6)
        snprintf(out, out_bytes, "%.2fM", value / 1e6);
    else if (size >= 1e3)
        snprintf(out, out_bytes, "%.1fk", value / 1e3);
    else
        snprintf(out, out_bytes, "%.*f", size < 10 ? 4 : size < 100 ? 2 : 1, value);
}

static void line_format(struct progress *progress, int64_t step, const struct progress_metric *metric, size_t count)
{
    char time_left[32], tail[48];
    double spent = clock_seconds() - progress->started;
    int64_t done = step - progress->first, total = progress->total;
    clock_duration(done > 0 ? spent / (double)done * (double)(total - step) : -1, time_left, sizeof time_left);
    snprintf(tail, sizeof tail, "  ETA %s", time_left);
    size_t columns = line_columns(progress), reserved = strlen(tail);
    int n = snprintf(progress->line, columns + 1, "%s  %lld/%lld  %3.0f%%", progress->label, (long long)step,
                     (long long)total, total > 0 ? floor(100.0 * (double)step / (double)total) : 100.0);
    size_t at = n < 0 ? 0 : (size_t)n < columns ? (size_t)n : columns;
    for (size_t i = 0; i < count; i++) {
        char value[32], field[96];
        number_format(metric[i].value, value, sizeof value);
        snprintf(field, sizeof field, "  %s%s%s%s%s", metric[i].name ? metric[i].name : "", metric[i].name ? " " : "",
                 value, metric[i].unit ? " " : "", metric[i].unit ? metric[i].unit : "");
        if (at + strlen(field) + reserved > columns)
            break;
        memcpy(progress->line + at, field, strlen(field) + 1);
        at += strlen(field);
    }
    if (at + reserved <= columns)
        memcpy(progress->line + at, tail, reserved + 1);
}

/* The line with its label in bold where colours are allowed. */
static void line_draw(struct progress *progress)
{
    struct log *log = progress->log;
    size_t label = strlen(progress->label);
    if (log->color && strncmp(progress->line, progress->label, label) == 0)
        fprintf(log->stream, "\r\033[1m%s\033[0m%s\033[K", progress->label, progress->line + label);
    else
        fprintf(log->stream, "\r%s\033[K", progress->line);
    fflush(log->stream);
    log->line_open = true;
}

void progress_begin(struct progress *progress, struct log *log, const char *label, int64_t first, int64_t total,
                    int64_t every)
{
    *progress = (struct progress){.log = log, .label = label, .total = total, .first = first};
    progress->every = every > 0 ? every : 1;
    progress->started = clock_seconds();
}

void progress_step(struct progress *progress, int64_t step, const struct progress_metric *metric, size_t count)
{
    struct log *log = progress->log;
    if (log->quiet)
        return;
    double now = clock_seconds();
    bool last = step >= progress->total;
    if (log->terminal && !last && now - progress->drawn < REDRAW_SECONDS)
        return;
    if (!log->terminal && !last && step % progress->every != 0)
        return;
    progress->drawn = now;
    line_format(progress, step, metric, count);
    if (log->terminal)
        line_draw(progress);
    else
        log_info(log, "%s", progress->line);
}

void progress_end(struct progress *progress)
{
    struct log *log = progress->log;
    if (log->quiet || !log->terminal || !*progress->line)
        return;
    line_draw(progress); /* a message may have wiped it */
    fputc('\n', log->stream);
    fflush(log->stream);
    log->line_open = false;
}

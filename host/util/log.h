/* log.h - what the program tells people: one line per message on stderr. Results go to stdout and not through here.
 *
 * A progress line that stands unfinished on a terminal is wiped before a message and drawn again by its owner.
 */
#ifndef FLAT_UTIL_LOG_H
#define FLAT_UTIL_LOG_H
#include <stdbool.h>
#include <stdio.h>

#include "options.h"

/* How much of it. */
struct log_options {
    bool quiet, verbose;
};
extern const struct option_group log_option_group;

struct log {
    FILE *stream;
    bool verbose;   /* every option at the start of a run */
    bool quiet;     /* no info lines and no progress; warnings and errors stay */
    bool terminal;  /* lines may be redrawn: a terminal whose TERM is not "dumb" */
    bool color;     /* terminal, and NO_COLOR is not set */
    bool line_open; /* a progress line stands without its newline */
};

/* Looks at the stream and at TERM and NO_COLOR once. */
void log_init(struct log *log, FILE *stream, bool quiet);
void log_info(struct log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "warning: ..." */
void log_warning(struct log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Every line of a text as a warning; NULL and "" are none. */
void log_warnings(struct log *log, const char *lines);
/* "error: ..." with the error's line. */
void log_error(struct log *log, const struct error *error);
/* Wipes an unfinished progress line. */
void log_wipe(struct log *log);

#endif

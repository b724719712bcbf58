/* error.h - how a failure travels: a function returns an exit code (0 = done) and fills a struct error
 * with the one line that the user will read. Nothing below cli prints or exits.
 */
#ifndef FLAT_UTIL_ERROR_H
#define FLAT_UTIL_ERROR_H

/* The program's documented exit codes, used as return values of every function that can fail. */
enum status {
    STATUS_OK = 0,
    STATUS_RUNTIME = 1,   /* I/O failed, disk full, device fault */
    STATUS_USAGE = 2,     /* command line or config */
    STATUS_INPUT = 3,     /* a file the user gave is malformed */
    STATUS_MEMORY = 4,    /* does not fit */
    STATUS_NONFINITE = 5, /* a result that is not finite */
    STATUS_PEER = 6,      /* another rank was lost */
    STATUS_SIGNAL = 75,   /* stopped on a signal, checkpoint written */
    STATUS_PIPE = 141     /* the reader of standard output has gone: without a line, as SIGPIPE ends other programs */
};

struct error {
    int status;
    char text[1024]; /* "file: key or offset: what was expected; what to do", without a newline */
};

/* Fills *error, which is never NULL, and returns status, so that callers write `return error_set(...)`. */
int error_set(struct error *error, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Puts "prefix: " in front of the text that is there; keeps the status and returns it. */
int error_prefix(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif

/* program.h - runs build/flat as a user would: arguments in, exit code, stdout and stderr out. */
#ifndef FLAT_TESTS_PROGRAM_H
#define FLAT_TESTS_PROGRAM_H
#include <stddef.h>

struct program_result {
    int status;          /* exit code; 128 + signal when it was killed */
    char *out, *err;     /* zero-terminated; free with program_free */
    size_t out_length;
};

/* Runs `$FLAT_BUILD/flat arguments...` in a shell-free way. arguments: split at spaces, or a NULL-ended list when the
 * first form does not do. input (may be NULL) goes to stdin. file_limit_bytes > 0 limits the size of files it can write
 * (RLIMIT_FSIZE), which is how a full disk is played. */
struct program_result program_run(const char *const *arguments, const char *input, long file_limit_bytes);
/* The same from one printf-like line split at spaces (no quoting). */
struct program_result program_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
void program_free(struct program_result *result);

/* Puts the program with the CPU engine into a folder, and the emulated engine beside it under the CUDA engine's name; FLAT_BUILD is
 * that folder from now on. */
void program_beside_emulation(const char *folder);

/* Fails the running test unless the program ended with `status`; prints what it said. */
void program_expect(const struct program_result *result, int status);
/* The same of one that should end well, and frees what it said. */
void program_expect_ok(struct program_result result);
/* Exactly one "error: " line that contains `text`, nothing that looks like a crash. */
void program_expect_error(const struct program_result *result, int status, const char *text);

/* ../shared (or $FLAT_SHARED) with a name inside; NULL when this machine lacks it: the caller skips. */
const char *shared_path(const char *name);

#endif

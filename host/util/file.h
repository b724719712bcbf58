/* file.h - files: whole reads, and writes that leave either the old file or the complete new one. */
#ifndef FLAT_UTIL_FILE_H
#define FLAT_UTIL_FILE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "error.h"

/* Reads a whole file; *data is zero-terminated after *length bytes and freed by the caller. A missing or
 * unreadable file is STATUS_INPUT, one larger than max_bytes too. */
int file_read(const char *path, size_t max_bytes, char **data, size_t *length, struct error *error);
bool file_exists(const char *path);
bool file_is_directory(const char *path);
/* Folder of the running program, without the last slash; "." where the system does not say. */
void file_program_directory(char *out, size_t bytes);
/* mkdir -p. STATUS_RUNTIME with the reason. */
int file_make_directory(const char *path, struct error *error);
/* "directory/name" in a caller's buffer; STATUS_USAGE when it does not fit. */
int file_join(char *out, size_t out_bytes, const char *directory, const char *name, struct error *error);

/* A file that appears under its name only when complete: written to "path.tmp-<pid>", then flushed, fsynced,
 * renamed, and its directory fsynced. */
struct file_writer {
    FILE *stream;
    char path[4096], temporary[4160];
};
int file_writer_open(struct file_writer *writer, const char *path, struct error *error);
int file_writer_write(struct file_writer *writer, const void *bytes, size_t length, struct error *error);
/* Publishes the file. On failure the temporary file is removed and the old file, if any, is untouched. */
int file_writer_commit(struct file_writer *writer, struct error *error);
/* Gives the file up and removes the temporary. Safe after commit or a failed open. */
void file_writer_abort(struct file_writer *writer);
/* Removes the temporaries of every file_writer of this process that is open, for a process that ends without closing
 * them. Allocates nothing and may run in any thread. */
void file_remove_temporaries(void);
/* The open, write and commit above in one. */
int file_write(const char *path, const void *bytes, size_t length, struct error *error);
/* Byte-for-byte copy through a file_writer. */
int file_copy(const char *from, const char *to, struct error *error);

#endif

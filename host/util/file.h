/* file.h - files: whole reads, and writes that leave either the old file or the complete new one. */
#ifndef FLAT_UTIL_FILE_H
#define FLAT_UTIL_FILE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "checksum.h"
#include "error.h"

/* Reads a whole file; *data is zero-terminated after *length bytes and freed by the caller. A missing or
 * unreadable file is STATUS_INPUT, one larger than max_bytes too, and so are directories, devices and named pipes. */
int file_read(const char *path, size_t max_bytes, char **data, size_t *length, struct error *error);
/* Opens what can be read to an end: a file, a pipe that is open already (/dev/stdin, /dev/fd/N), a terminal, /dev/null; may_wait:
 * a named pipe too, whose writer may yet have to come. Never blocks. *bytes: a file's size, else 0. */
int file_open_read(const char *path, bool may_wait, int *fd, int64_t *bytes, struct error *error);
/* Refuses a device that may give bytes without end. */
int file_check_ends(int fd, const char *name, struct error *error);
/* Waits for bytes and reads up to `most`; *got 0 at the end. A signal that interrupt_catch catches ends the wait with
 * STATUS_RUNTIME. */
int file_read_some(int fd, const char *path, void *to, size_t most, size_t *got, struct error *error);
bool file_exists(const char *path);
bool file_is_directory(const char *path);
/* Folder of the running program, without the last slash; "." where the system does not say. */
void file_program_directory(char *out, size_t bytes);
/* Where a user's caches of this program are: flat in $XDG_CACHE_HOME, or in ~/.cache. False: neither is known. */
bool file_cache_folder(char *out, size_t bytes);
/* mkdir -p. STATUS_RUNTIME with the reason. */
int file_make_directory(const char *path, struct error *error);
/* The names in a directory but "." and "..", in the order of their bytes. Start with {0}; free with file_list_free. */
struct file_list {
    char **name;
    size_t count, capacity;
};
/* STATUS_INPUT when it cannot be opened, STATUS_RUNTIME when reading fails half-way: no name is missing without a word. */
int file_list_read(struct file_list *list, const char *directory, struct error *error);
void file_list_free(struct file_list *list);
/* Removes a file, a link, or a directory with all that is in it; follows no link. What is not there is no error. */
int file_remove_tree(const char *path, struct error *error);
/* "directory/name" in a caller's buffer; STATUS_USAGE when it does not fit. */
int file_join(char *out, size_t out_bytes, const char *directory, const char *name, struct error *error);

/* What a new file's mode is before the umask takes its part, where nothing says otherwise. */
enum { FILE_MODE = 0666 };

/* The mode of a copy: no wider than the source's for anybody but its owner, who can write to it. */
mode_t file_copy_mode(mode_t source);

/* A file that is there under its name only when it is complete and on the disk. Made with O_EXCL under a name that
 * nobody can foresee, in the mode that is asked for; no link is followed. */
struct file_writer {
    int fd;
    char *buffer;                  /* what was not written yet; NULL: closed */
    size_t used;
    struct checksum *checksum;     /* of all bytes so far */
    struct digest digest;          /* after commit: of the file */
    char path[4096], temporary[4160]; /* temporary "": written under its own name, in a folder that is not there yet */
    char shown[4096];              /* what errors call it: path, unless its maker says otherwise */
};
/* A file that replaces `path` at the commit: a temporary "path.tmp-<pid>-<random>", fsync, rename, and the directory's
 * fsync. */
int file_writer_open(struct file_writer *writer, const char *path, mode_t mode, struct error *error);
/* A new file under its own name, which must not be there; the commit leaves the directory's fsync to the caller. */
int file_writer_create(struct file_writer *writer, const char *path, mode_t mode, struct error *error);
int file_writer_write(struct file_writer *writer, const void *bytes, size_t length, struct error *error);
/* Publishes the file. On failure it is removed, and what `path` was before is untouched. */
int file_writer_commit(struct file_writer *writer, struct error *error);
/* Gives the file up and removes it. Safe after commit or a failed open, and on {0}. */
void file_writer_abort(struct file_writer *writer);
/* The open, write and commit above in one. */
int file_write(const char *path, const void *bytes, size_t length, struct error *error);
/* Byte-for-byte copy of an open file, with `from` for its errors, into a writer. */
int file_writer_copy(struct file_writer *writer, int source, const char *from, struct error *error);
/* Byte-for-byte copy through a file_writer, in the mode of a copy. */
int file_copy(const char *from, const char *to, struct error *error);
/* fsync of a directory: what was made, renamed or removed in it survives a crash. */
int file_sync_directory(const char *directory, struct error *error);

/* "prefix" followed by "<pid>-<16 random hex digits>". */
int file_unique_name(char *out, size_t out_bytes, const char *prefix, struct error *error);
/* Whether a name is one that file_unique_name gives for this prefix, whatever the process. */
bool file_is_unique_name(const char *name, const char *prefix);
/* Removes the temporaries of this process that are open, files of file_writer and folders that are being made (whose names
 * have FILE_NEW_FOLDER in them), for a process that ends without closing them. May run in any thread. */
#define FILE_NEW_FOLDER ".new-"
void file_remove_temporaries(void);

#endif

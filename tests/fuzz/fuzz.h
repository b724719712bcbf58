/* fuzz.h - what the libFuzzer targets share: files for readers that take a path, and what a refusal must look like.
 *
 * A target is one file fuzz_<name>.c that defines LLVMFuzzerTestOneInput; `make fuzz` builds and runs all of them, the seeds
 * of corpus/<name>/ first (tests/fuzz/make_corpus writes those). Where an input stands for several files, they are separated
 * by the byte 0x1e.
 */
#ifndef FLAT_TESTS_FUZZ_H
#define FLAT_TESTS_FUZZ_H
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../host/util/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

#define FUZZ_CHECK(condition)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                            \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

static char fuzz_directory[256];

static inline void fuzz_directory_remove(void)
{
    DIR *directory = opendir(fuzz_directory);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s", fuzz_directory, entry->d_name);
        unlink(path);
    }
    if (directory)
        closedir(directory);
    rmdir(fuzz_directory);
}

/* A folder of this process, made at first use. */
static inline const char *fuzz_folder(void)
{
    if (!fuzz_directory[0]) {
        const char *root = getenv("TMPDIR");
        snprintf(fuzz_directory, sizeof fuzz_directory, "%s/flat-fuzz-XXXXXX", root && *root ? root : "/tmp");
        FUZZ_CHECK(mkdtemp(fuzz_directory));
        atexit(fuzz_directory_remove);
    }
    return fuzz_directory;
}

/* A file of that folder; length 0 removes it. The path stays until the next call. */
static inline const char *fuzz_file(const char *name, const void *bytes, size_t length)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    if (!length) {
        unlink(path);
        return path;
    }
    FILE *file = fopen(path, "wb");
    FUZZ_CHECK(file && fwrite(bytes, 1, length, file) == length && fclose(file) == 0);
    return path;
}

/* The part of an input up to the next separator; moves behind it. */
struct fuzz_part {
    const uint8_t *data;
    size_t length;
};
static inline struct fuzz_part fuzz_next(const uint8_t **data, size_t *length)
{
    const uint8_t *end = *length ? memchr(*data, 0x1e, *length) : NULL;
    struct fuzz_part part = {*data, end ? (size_t)(end - *data) : *length};
    *data += part.length + (end != NULL);
    *length -= part.length + (end != NULL);
    return part;
}

/* One line that says something; the status it came with. */
static inline void fuzz_refused(int status, const struct error *error, int expected)
{
    FUZZ_CHECK(status == error->status);
    FUZZ_CHECK(status == expected);
    FUZZ_CHECK(error->text[0] && !strchr(error->text, '\n'));
}

#endif

/* temporary.h - a directory for a test's files, and small helpers around it. */
#ifndef FLAT_TESTS_TEMPORARY_H
#define FLAT_TESTS_TEMPORARY_H
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../host/util/error.h"

static char temporary[256];

static inline const char *temporary_root(void)
{
    const char *root = getenv("TMPDIR");
    return root && *root ? root : "/tmp";
}

/* Group set-up and tear-down: cmocka_run_group_tests(tests, temporary_make, temporary_remove). */
static inline int temporary_make(void **state)
{
    (void)state;
    snprintf(temporary, sizeof temporary, "%s/flat-test-XXXXXX", temporary_root());
    return mkdtemp(temporary) ? 0 : -1;
}

/* Removes what is in a directory, and with it the directory. */
static inline void directory_remove(const char *path)
{
    char inner[512];
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        int length = snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        if (length < (int)sizeof inner && unlink(inner))
            directory_remove(inner);
    }
    if (directory)
        closedir(directory);
    rmdir(path);
}

static inline int temporary_remove(void **state)
{
    (void)state;
    directory_remove(temporary);
    return 0;
}

/* The path of a name in the temporary directory; four may be in use at once. */
static inline const char *temporary_path(const char *name)
{
    static char path[4][512];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", temporary, name);
    return path[next];
}

static inline const char *temporary_file(const char *name, const void *bytes, size_t length)
{
    const char *path = temporary_path(name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
    return path;
}

static inline int temporary_count(void)
{
    int count = 0;
    DIR *directory = opendir(temporary);
    assert_non_null(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count - 2;
}

/* A failure with one line that has `text` in it. */
static inline void assert_error(const struct error *error, int returned, int status, const char *text)
{
    if (returned != status || error->status != status || !strstr(error->text, text) || strchr(error->text, '\n'))
        fail_msg("expected status %d and \"%s\"; got %d, %d, \"%s\"", status, text, returned, error->status,
                 error->text);
}

#endif

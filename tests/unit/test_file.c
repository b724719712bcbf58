/* test_file.c - whole reads, atomic writes, and what is left behind when a write fails. */
#include <sys/wait.h>

#include "../support/temporary.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "../../host/util/file.h"
#include "../../host/util/interrupt.h"

/* The file holds exactly this text. */
static void assert_content(const char *path, const char *text)
{
    char *data;
    size_t length;
    struct error error = {0};
    if (file_read(path, 1 << 20, &data, &length, &error))
        fail_msg("%s", error.text);
    assert_int_equal(length, strlen(text));
    assert_string_equal(data, text);
    free(data);
}

static void test_read(void **state)
{
    (void)state;
    struct error error = {0};
    char *data;
    size_t length;
    assert_content(temporary_file("plain", "abc", 3), "abc");
    assert_content(temporary_file("empty", "", 0), "");
    const char *path = temporary_file("four", "abcd", 4);
    assert_int_equal(file_read(path, 4, &data, &length, &error), STATUS_OK);
    assert_int_equal(length, 4);
    free(data);
    assert_error(&error, file_read(path, 3, &data, &length, &error), STATUS_INPUT,
                 "four: has 4 bytes; at most 3 are accepted");
    assert_error(&error, file_read(temporary_path("none"), 3, &data, &length, &error), STATUS_INPUT,
                 "none: cannot be opened: No such file");
    assert_error(&error, file_read(temporary, 3, &data, &length, &error), STATUS_INPUT, "is a directory");
    assert_error(&error, file_read("/dev/zero", 100000, &data, &length, &error), STATUS_INPUT, "is a device or a socket");
    assert_int_equal(file_read("/dev/null", 3, &data, &length, &error), STATUS_OK);
    assert_int_equal(length, 0);
    free(data);
    const char *pipe_path = temporary_path("pipe");
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    assert_error(&error, file_read(pipe_path, 3, &data, &length, &error), STATUS_INPUT, "is a pipe; expected a file");
    /* a file of /proc claims 0 bytes */
    assert_error(&error, file_read("/proc/self/maps", 100, &data, &length, &error), STATUS_INPUT,
                 "has more than the 100 bytes");
    assert_int_equal(file_read("/proc/self/status", 1 << 20, &data, &length, &error), STATUS_OK);
    assert_true(length > 0 && strlen(data) == length);
    free(data);
}

/* A named pipe is open before its writer comes; a signal that is caught ends the wait for it. */
static void test_pipe(void **state)
{
    (void)state;
    struct error error;
    char text[8];
    size_t got;
    int64_t bytes;
    int fd;
    const char *path = temporary_path("named");
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(file_open_read(path, true, &fd, &bytes, &error), STATUS_OK);
    const pid_t writer = fork();
    assert_true(writer >= 0);
    if (!writer) {
        usleep(100000);
        const int to = open(path, O_WRONLY);
        _exit(write(to, "rows", 4) != 4);
    }
    assert_int_equal(file_read_some(fd, path, text, sizeof text, &got, &error), STATUS_OK);
    assert_int_equal(got, 4);
    assert_int_equal(waitpid(writer, NULL, 0), writer);
    assert_int_equal(file_read_some(fd, path, text, sizeof text, &got, &error), STATUS_OK);
    assert_int_equal(got, 0);
    close(fd);
    assert_int_equal(file_open_read(path, true, &fd, &bytes, &error), STATUS_OK);
    interrupt_catch(false);
    raise(SIGTERM);
    assert_error(&error, file_read_some(fd, path, text, sizeof text, &got, &error), STATUS_RUNTIME,
                 "stopped by SIGTERM while waiting for it");
    interrupt_release();
    close(fd);
}

static void test_names(void **state)
{
    (void)state;
    struct error error = {0};
    char path[64], small[8];
    assert_int_equal(file_join(path, sizeof path, "a", "b", &error), STATUS_OK);
    assert_string_equal(path, "a/b");
    assert_int_equal(file_join(path, sizeof path, "a/", "b", &error), STATUS_OK);
    assert_string_equal(path, "a/b");
    assert_int_equal(file_join(path, sizeof path, "", "b", &error), STATUS_OK);
    assert_string_equal(path, "b");
    assert_int_equal(file_join(small, sizeof small, "abc", "def", &error), STATUS_OK);
    assert_error(&error, file_join(small, sizeof small, "abc", "defg", &error), STATUS_USAGE, "longer than 7 bytes");

    assert_int_equal(file_make_directory(temporary_path("x/y//z/"), &error), STATUS_OK);
    assert_true(file_is_directory(temporary_path("x/y/z")));
    assert_int_equal(file_make_directory(temporary_path("x/y/z"), &error), STATUS_OK);
    const char *path_of_file = temporary_file("file", "1", 1);
    assert_true(file_exists(path_of_file) && !file_is_directory(path_of_file));
    assert_false(file_exists(temporary_path("none")));
    assert_error(&error, file_make_directory(path_of_file, &error), STATUS_RUNTIME, "cannot be made: File exists");
    assert_error(&error, file_make_directory(temporary_path("file/below"), &error), STATUS_RUNTIME, "cannot be made");
    assert_error(&error, file_make_directory("", &error), STATUS_RUNTIME, "name must have");
}

static void test_write(void **state)
{
    (void)state;
    struct error error = {0};
    const char *path = temporary_path("target");
    mode_t mask = umask(022);
    assert_int_equal(file_write(path, "first", 5, &error), STATUS_OK);
    umask(mask);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0644);
    assert_content(path, "first");
    int before = temporary_count();

    /* until the commit the old content stands */
    struct file_writer writer;
    assert_int_equal(file_writer_open(&writer, path, FILE_MODE, &error), STATUS_OK);
    assert_int_equal(file_writer_write(&writer, "second", 6, &error), STATUS_OK);
    assert_content(path, "first");
    file_writer_abort(&writer);
    file_writer_abort(&writer);
    assert_content(path, "first");
    assert_int_equal(temporary_count(), before);
    assert_int_equal(file_writer_open(&writer, path, FILE_MODE, &error), STATUS_OK);
    assert_int_equal(file_writer_write(&writer, "third", 5, &error), STATUS_OK);
    assert_int_equal(file_writer_write(&writer, NULL, 0, &error), STATUS_OK);
    assert_int_equal(file_writer_commit(&writer, &error), STATUS_OK);
    file_writer_abort(&writer);
    assert_content(path, "third");
    assert_int_equal(temporary_count(), before);

    assert_int_equal(file_copy(path, temporary_path("copy"), &error), STATUS_OK);
    assert_content(temporary_path("copy"), "third");
    assert_error(&error, file_copy(temporary_path("none"), temporary_path("copy"), &error), STATUS_INPUT,
                 "none: cannot be opened");
    assert_content(temporary_path("copy"), "third");
}

static void test_write_failures(void **state)
{
    (void)state;
    struct error error = {0};
    assert_error(&error, file_write(temporary_path("none/target"), "x", 1, &error), STATUS_RUNTIME,
                 "none/target: cannot be written: No such file or directory");
    assert_error(&error, file_write(temporary, "x", 1, &error), STATUS_RUNTIME, "cannot be written: Is a directory");
    char longest[5000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    assert_error(&error, file_write(longest, "x", 1, &error), STATUS_RUNTIME, "path is longer than 4095 bytes");

    /* under its own name only what was not there: no link is followed, nothing is truncated */
    struct file_writer writer;
    const char *victim = temporary_file("victim", "mine", 4), *link = temporary_path("link");
    assert_int_equal(symlink(victim, link), 0);
    assert_error(&error, file_writer_create(&writer, link, FILE_MODE, &error), STATUS_RUNTIME, "link: cannot be written");
    assert_error(&error, file_writer_create(&writer, victim, FILE_MODE, &error), STATUS_RUNTIME, "cannot be written: File ex");
    file_writer_abort(&writer);
    assert_content(victim, "mine");
    unlink(link);
}

/* Two writers of one file have temporaries of their own; a name that is no temporary is not taken for one. */
static void test_unique_names(void **state)
{
    (void)state;
    struct error error = {0};
    const char *path = temporary_path("shared");
    struct file_writer one, two;
    assert_int_equal(file_writer_open(&one, path, FILE_MODE, &error), STATUS_OK);
    assert_int_equal(file_writer_open(&two, path, FILE_MODE, &error), STATUS_OK);
    assert_string_not_equal(one.temporary, two.temporary);
    assert_true(file_is_unique_name(strrchr(one.temporary, '/') + 1, "shared.tmp-"));
    assert_false(file_is_unique_name("shared.tmp-1234", "shared.tmp-"));
    assert_false(file_is_unique_name("shared.tmp-12-0123456789abcdefg", "shared.tmp-"));
    assert_false(file_is_unique_name("other.tmp-12-0123456789abcdef", "shared.tmp-"));
    file_writer_abort(&one);
    file_writer_abort(&two);
}

/* The mode is what is asked for and never wider, and a checksum comes with the commit. */
static void test_modes(void **state)
{
    (void)state;
    struct error error = {0};
    struct file_writer writer;
    struct stat info;
    struct digest digest;
    const char *source = temporary_file("private", "secret", 6), *copy = temporary_path("private-copy");
    const mode_t mask = umask(022);
    assert_int_equal(chmod(source, 0600), 0);
    assert_int_equal(file_copy(source, copy, &error), STATUS_OK);
    assert_int_equal(stat(copy, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    unlink(copy);
    assert_int_equal(file_writer_create(&writer, copy, 0640, &error), STATUS_OK);
    assert_int_equal(file_writer_write(&writer, "secret", 6, &error), STATUS_OK);
    assert_int_equal(file_writer_commit(&writer, &error), STATUS_OK);
    umask(mask);
    assert_int_equal(stat(copy, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);
    assert_int_equal(checksum_file(copy, &digest, &error), STATUS_OK);
    assert_int_equal(digest.bytes, writer.digest.bytes);
    assert_int_equal(digest.xxh3, writer.digest.xxh3);
    assert_int_equal(digest.xxh3, checksum_of("secret", 6).xxh3);
}

/* A disk that fills up, by way of a limit on file sizes: during a write, and at the last flush. */
static void test_disk_full(void **state)
{
    (void)state;
    struct error error = {0};
    const char *path = temporary_file("kept", "old", 3);
    int before = temporary_count();
    const size_t sizes[] = {8 << 20, 20000};
    char *large = calloc(1, sizes[0]);
    assert_non_null(large);
    struct rlimit old, limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit = old;
    limit.rlim_cur = 8192;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    for (int i = 0; i < 2; i++) {
        int status = file_write(path, large, sizes[i], &error);
        assert_error(&error, status, STATUS_RUNTIME, "kept: cannot be written: File too large");
        assert_content(path, "old");
        assert_int_equal(temporary_count(), before);
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(file_write(path, "new", 3, &error), STATUS_OK);
    assert_content(path, "new");
    free(large);
}

/* A process that ends in the middle of a save, of two files even, leaves the old ones and nothing else. */
static void test_remove_temporaries(void **state)
{
    (void)state;
    struct error error = {0};
    const char *path = temporary_path("kept"), *other = temporary_path("never");
    assert_int_equal(file_write(path, "old", 3, &error), STATUS_OK);
    const int before = temporary_count();
    pid_t child = fork();
    if (!child) {
        struct file_writer writer[2];
        if (file_writer_open(&writer[0], path, FILE_MODE, &error) || file_writer_open(&writer[1], other, FILE_MODE, &error) ||
            file_writer_write(&writer[0], "new", 3, &error) || temporary_count() != before + 2)
            _exit(1);
        file_remove_temporaries();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(temporary_count(), before);
    assert_content(path, "old");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read), cmocka_unit_test(test_pipe),           cmocka_unit_test(test_names),     cmocka_unit_test(test_write),
        cmocka_unit_test(test_write_failures), cmocka_unit_test(test_disk_full),
        cmocka_unit_test(test_remove_temporaries), cmocka_unit_test(test_unique_names), cmocka_unit_test(test_modes)};
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

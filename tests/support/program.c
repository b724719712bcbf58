/* program.c - see program.h. */
#include "program.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../host/util/file.h"
#include "assert_ok.h"

#define SECONDS_LIMIT 300 /* a program that hangs is a failure, not a wait */

static void child_run(const char *const *arguments, const int pipes[3][2], long file_limit_bytes)
{
    const char *build = getenv("FLAT_BUILD");
    char path[4096];
    char *argv[64] = {path};
    snprintf(path, sizeof path, "%s/flat", build && *build ? build : "build");
    for (int i = 0; arguments[i] && i < 62; i++)
        argv[i + 1] = (char *)arguments[i];
    dup2(pipes[0][0], 0), dup2(pipes[1][1], 1), dup2(pipes[2][1], 2);
    for (int i = 0; i < 3; i++)
        close(pipes[i][0]), close(pipes[i][1]);
    if (file_limit_bytes) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){(rlim_t)file_limit_bytes, (rlim_t)file_limit_bytes});
    }
    alarm(SECONDS_LIMIT);
    execv(path, argv);
    _exit(127);
}

/* Reads both streams until the program closes them. */
static void streams_read(int out, int err, struct program_result *result)
{
    struct pollfd stream[2] = {{.fd = out, .events = POLLIN}, {.fd = err, .events = POLLIN}};
    char **text[2] = {&result->out, &result->err};
    size_t length[2] = {0};
    for (int open = 2; open;) {
        poll(stream, 2, -1);
        for (int i = 0; i < 2; i++) {
            if (stream[i].fd < 0 || !stream[i].revents)
                continue;
            *text[i] = realloc(*text[i], length[i] + 65536 + 1);
            assert_non_null(*text[i]);
            ssize_t n = read(stream[i].fd, *text[i] + length[i], 65536);
            if (n <= 0) {
                stream[i].fd = -1;
                open--;
                n = 0;
            }
            length[i] += (size_t)n;
            (*text[i])[length[i]] = 0;
        }
    }
    result->out_length = length[0];
}

struct program_result program_run(const char *const *arguments, const char *input, long file_limit_bytes)
{
    struct program_result result = {0};
    int pipes[3][2], status;
    for (int i = 0; i < 3; i++)
        assert_int_equal(pipe(pipes[i]), 0);
    fflush(stdout);
    fflush(stderr);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child)
        child_run(arguments, (const int(*)[2])pipes, file_limit_bytes);
    close(pipes[0][0]), close(pipes[1][1]), close(pipes[2][1]);
    signal(SIGPIPE, SIG_IGN);
    for (size_t left = input ? strlen(input) : 0; left;) { /* inputs are small: they fit the pipe */
        ssize_t n = write(pipes[0][1], input, left);
        if (n <= 0)
            break;
        input += n, left -= (size_t)n;
    }
    close(pipes[0][1]);
    streams_read(pipes[1][0], pipes[2][0], &result);
    close(pipes[1][0]), close(pipes[2][0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return result;
}

struct program_result program_line(const char *format, ...)
{
    char line[8192];
    const char *arguments[64] = {0};
    va_list list;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    int count = 0;
    for (char *word = strtok(line, " "); word && count < 62; word = strtok(NULL, " "))
        arguments[count++] = word;
    return program_run(arguments, NULL, 0);
}

void program_beside_emulation(const char *folder)
{
    static const char *const files[][2] = {{"flat", "flat"}, {"libflat_cpu.so", "libflat_cpu.so"}, {"libflat_emu.so", "libflat_cuda.so"}};
    struct error error = {0};
    const char *build = getenv("FLAT_BUILD");
    char from[4096], to[4096];
    OK(file_make_directory(folder, &error));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(from, sizeof from, "%s/%s", build && *build ? build : "build", files[i][0]);
        snprintf(to, sizeof to, "%s/%s", folder, files[i][1]);
        OK(file_copy(from, to, &error));
        assert_int_equal(chmod(to, 0755), 0);
    }
    assert_int_equal(setenv("FLAT_BUILD", folder, 1), 0);
}

void program_free(struct program_result *result)
{
    free(result->out);
    free(result->err);
    *result = (struct program_result){0};
}

void program_expect(const struct program_result *result, int status)
{
    if (result->status != status)
        fail_msg("exit code %d, expected %d; stderr: %s", result->status, status, result->err);
}

void program_expect_ok(struct program_result result)
{
    program_expect(&result, 0);
    program_free(&result);
}

void program_expect_error(const struct program_result *result, int status, const char *text)
{
    program_expect(result, status);
    int lines = 0;
    const char *line = NULL;
    for (const char *at = result->err; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
        if (!strncmp(at, "error: ", 7)) {
            lines++;
            line = at;
        }
    if (lines != 1 || !strstr(line, text) || strstr(result->err, "Sanitizer") || strstr(result->err, "runtime error"))
        fail_msg("expected one error line with \"%s\"; stderr: %s", text, result->err);
}

const char *shared_path(const char *name)
{
    static char path[4][4096];
    static int next;
    const char *root = getenv("FLAT_SHARED");
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", root && *root ? root : "../shared", name);
    return access(path[next], R_OK) == 0 ? path[next] : NULL;
}

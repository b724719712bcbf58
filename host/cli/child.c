/* child.c - see child.h. */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../util/file.h"
#include "../util/interrupt.h"
#include "../util/memory.h"

enum { ARGUMENTS_MAX = 200, LOG_BYTES_MAX = 1 << 26 };

/* In the child; comes back only when it cannot be started. */
static void child_become(pid_t parent, const char *const *arguments, int log, const char *gpu)
{
    const char *argv[ARGUMENTS_MAX + 2] = {"flat"};
    const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (int i = 0; i < ARGUMENTS_MAX && arguments[i]; i++)
        argv[i + 1] = arguments[i];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || null < 0) /* the parent was gone before that */
        _exit(STATUS_RUNTIME);
    setpgid(0, 0);
    interrupt_release();
    if (gpu)
        setenv("CUDA_VISIBLE_DEVICES", gpu, 1);
    if (dup2(null, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0)
        _exit(STATUS_RUNTIME);
    execv("/proc/self/exe", (char *const *)argv);
    dprintf(STDERR_FILENO, "error: the program cannot be started once more: %s\n", strerror(errno));
    _exit(STATUS_RUNTIME);
}

int child_start(struct child *child, const char *const *arguments, const char *log_path, bool append, const char *gpu,
                struct error *error)
{
    const pid_t parent = getpid();
    const int log = open(log_path, O_WRONLY | O_CREAT | O_CLOEXEC | (append ? O_APPEND : O_TRUNC), FILE_MODE);
    *child = (struct child){0};
    if (log < 0)
        return error_set(error, STATUS_RUNTIME, "%s: cannot be written: %s", log_path, strerror(errno));
    fflush(NULL);
    child->pid = fork();
    if (child->pid == 0)
        child_become(parent, arguments, log, gpu);
    const int failure = errno;
    close(log);
    if (child->pid > 0)
        return STATUS_OK;
    child->pid = 0;
    return error_set(error, STATUS_RUNTIME, "the program cannot be started once more: %s", strerror(failure));
}

bool child_ended(struct child *child)
{
    int state;
    if (!child->pid)
        return true;
    if (waitpid(child->pid, &state, WNOHANG) != child->pid)
        return false;
    child->code = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
    child->pid = 0;
    return true;
}

void child_stop(struct child *child)
{
    if (child->pid && !child->asked)
        kill(child->pid, SIGTERM);
    child->asked = true;
}

void child_nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

int child_run(const char *const *arguments, const char *log_path, int *code, struct error *error)
{
    struct child child;
    int status = child_start(&child, arguments, log_path, false, NULL, error);
    if (status)
        return status;
    while (!child_ended(&child)) {
        if (interrupt_pending())
            child_stop(&child);
        child_nap();
    }
    *code = child.code;
    return STATUS_OK;
}

void child_last_error(const char *log_path, char *out, size_t out_bytes)
{
    struct error unused;
    char *text, *found = NULL;
    size_t length;
    *out = 0;
    if (file_read(log_path, LOG_BYTES_MAX, &text, &length, &unused))
        return;
    for (char *at = text; (at = strstr(at, "error: ")); at++)
        if (at == text || at[-1] == '\n')
            found = at + strlen("error: ");
    if (found)
        snprintf(out, out_bytes, "%.*s", (int)strcspn(found, "\n"), found);
    free(text);
}

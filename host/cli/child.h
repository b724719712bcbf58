/* child.h - this program once more, with other arguments, as a child: a run of a sweep, a relearning of an attack.
 *
 * What the child writes to stdout and stderr goes into a file. It is in a process group of its own, so that the terminal's
 * ctrl-C comes to the parent alone, which asks the child to stop; it never outlives the parent, even when that is killed.
 */
#ifndef FLAT_CLI_CHILD_H
#define FLAT_CLI_CHILD_H
#include <stdbool.h>
#include <sys/types.h>

#include "../util/error.h"

struct child {
    pid_t pid;  /* 0: none runs */
    bool asked; /* to stop */
    int code;   /* of the last one that has ended: its exit code, or 128 + the signal that ended it */
};

/* Starts it. arguments: behind the program's name, NULL-ended. log_path is emptied, or added to. gpu (NULL: as it is) becomes
 * CUDA_VISIBLE_DEVICES. STATUS_RUNTIME. */
int child_start(struct child *child, const char *const *arguments, const char *log_path, bool append, const char *gpu,
                struct error *error);
/* Whether it has ended; child->code then says how. */
bool child_ended(struct child *child);
/* Asks it to stop, once: a training saves a checkpoint first. */
void child_stop(struct child *child);
/* Starts it and waits. A signal that interrupt_catch catches is handed on; the child's code says what became of it. */
int child_run(const char *const *arguments, const char *log_path, int *code, struct error *error);
/* Between two looks at children: 20 ms, or until a signal. */
void child_nap(void);
/* The text of the last "error: " line of a log; "" where there is none. */
void child_last_error(const char *log_path, char *out, size_t out_bytes);

#endif

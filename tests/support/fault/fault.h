/* fault.h - a library to be preloaded that lets the n-th call of a kind fail, do half of its work, or be the process's last.
 *
 * In a process of its own, by the environment:
 *   FLAT_FAULT="CALL:N:WHAT"     CALL one of fault_calls, or "any" (every step that files take); "site" is memory
 *                                that is asked for through a chain of callers that has not been seen before; several with
 *                                commas between: of those that apply the first, one of "any" last;
 *                                N counts from 1 over all threads;
 *                                WHAT an errno (EIO, ENOSPC, ENOMEM, EINVAL, EACCES, EXDEV, EINTR, EAGAIN), "short" (a read or a
 *                                write of half the bytes), "kill" (SIGKILL before the call) or "exit" (_exit after it);
 *                                "CALL:N+:WHAT" goes on failing from the N-th on.
 *   FLAT_FAULT_COUNT=FILE        writes "CALL COUNT" lines there when the process exits; sites are counted where one is armed.
 * A test program that includes this header has the calls wrapped in itself: fault_arm and fault_count.
 * fsync never reaches the disk here: no machine is switched off in a test, and thousands of them would take minutes.
 * What libc calls by itself, inside fwrite or opendir, is not seen; opendir and fwrite are calls of their own here.
 */
#ifndef FLAT_TESTS_FAULT_H
#define FLAT_TESTS_FAULT_H

/* Sets the counts to 0 and arms it; NULL or "" disarms. Returns 0, or -1 for a text that is not understood. */
int fault_arm(const char *text);
/* Calls of a kind since then; of "any" too. */
long fault_count(const char *call);

#endif

/* interrupt.h - SIGINT, SIGTERM and SIGUSR1 as a request to stop at the next good moment. */
#ifndef FLAT_UTIL_INTERRUPT_H
#define FLAT_UTIL_INTERRUPT_H
#include <stdbool.h>

/* From here on the three signals are only noted; one that the process was started to ignore stays ignored. second_kills:
 * after the first of them any ends the process, as without this. */
void interrupt_catch(bool second_kills);
/* Back to what they did by default. */
void interrupt_release(void);
/* The last signal that came, 0 for none. */
int interrupt_pending(void);
/* "SIGTERM" */
const char *interrupt_name(int signal_number);

#endif

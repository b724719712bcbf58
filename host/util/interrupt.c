/* interrupt.c - see interrupt.h. */
#include "interrupt.h"

#include <signal.h>
#include <stddef.h>

/* A handler is given nothing but the number, so what it leaves must be a global. */
static volatile sig_atomic_t noted, second_ends, is_caught[3];

static const int caught[] = {SIGINT, SIGTERM, SIGUSR1};

static void note(int signal_number)
{
    noted = signal_number;
    for (size_t i = 0; second_ends && i < sizeof caught / sizeof *caught; i++)
        if (is_caught[i])
            signal(caught[i], SIG_DFL);
}

/* A shell lets its background jobs ignore SIGINT, which is meant for the job in front. */
static bool is_ignored(int signal_number)
{
    struct sigaction current;
    return !sigaction(signal_number, NULL, &current) && current.sa_handler == SIG_IGN;
}

void interrupt_catch(bool second_kills)
{
    noted = 0;
    second_ends = second_kills;
    for (size_t i = 0; i < sizeof caught / sizeof *caught; i++) {
        struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
        sigemptyset(&action.sa_mask);
        is_caught[i] = !is_ignored(caught[i]);
        if (is_caught[i])
            sigaction(caught[i], &action, NULL); /* fails for an unknown signal only */
    }
}

void interrupt_release(void)
{
    for (size_t i = 0; i < sizeof caught / sizeof *caught; i++)
        if (!is_ignored(caught[i]))
            signal(caught[i], SIG_DFL);
}

int interrupt_pending(void)
{
    return noted;
}

const char *interrupt_name(int signal_number)
{
    return signal_number == SIGINT ? "SIGINT" : signal_number == SIGTERM ? "SIGTERM" : "SIGUSR1";
}

/* launcher.c - see launcher.h. */
#include "launcher.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../util/clock.h"
#include "../util/memory.h"

/* Ranks see within 6 s that another was killed and end; those that then still run are stuck or stopped. */
#define LAUNCHER_GRACE_SECONDS 20.0 /* they need 7 of them (heartbeat.c), and a loaded machine takes its own */

static const int handed_on[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
enum { HANDED_ON = sizeof handed_on / sizeof *handed_on };

struct launch {
    int processes, port, left;
    int listener; /* rank 0 inherits it, so that nobody else can take the port meanwhile */
    char secret[65]; /* that the ranks prove to each other; others on this host reach their ports, too */
    pid_t *pid; /* 0: has ended */
    int *code;  /* exit code; 128 + signal */
    double deadline; /* 0: nobody has failed */
    int asked;       /* the last signal that came to the launcher; 0: none */
    sigset_t before;
    struct log *log;
};

static const struct option option_rows[] = {
    {.name = "nproc_per_node", OPTION_FIELD(struct launcher_options, nproc_per_node), .local = true, .initial = "1", .min = 1,
     .max = 64,
     .help = "start so many ranks on this host, a GPU each; or let torchrun, mpirun or srun start them"},
};
const struct option_group launcher_option_group = {OPTION_GROUP("Several ranks", option_rows, struct launcher_options)};

bool launcher_wanted(const struct launcher_options *options, int *status, struct error *error)
{
    static const char *const started_by[] = {"RANK", "WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_RANK"};
    *status = STATUS_OK;
    if (options->nproc_per_node <= 1)
        return false;
    if (getenv("FLAT_LAUNCHER"))
        return false;
    for (size_t i = 0; !*status && i < sizeof started_by / sizeof *started_by; i++)
        if (getenv(started_by[i]))
            *status = error_set(error, STATUS_USAGE, "nproc_per_node: %s is set, so another launcher has started this "
                                "rank; leave the option out", started_by[i]);
    return true;
}

/* Listens at a port of 127.0.0.1 that is free. */
static int port_listen(struct launch *launch, struct error *error)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    launch->listener = socket(AF_INET, SOCK_STREAM, 0);
    if (launch->listener < 0 || bind(launch->listener, (struct sockaddr *)&at, sizeof at) ||
        listen(launch->listener, SOMAXCONN) || getsockname(launch->listener, (struct sockaddr *)&at, &length)) {
        error_set(error, STATUS_RUNTIME, "nproc_per_node: no port of 127.0.0.1: %s", strerror(errno));
        if (launch->listener >= 0)
            close(launch->listener);
        return STATUS_RUNTIME;
    }
    launch->port = ntohs(at.sin_port);
    return STATUS_OK;
}

/* 32 random bytes in hexadecimal digits. */
static int secret_make(struct launch *launch, struct error *error)
{
    unsigned char bytes[32];
    if (getentropy(bytes, sizeof bytes))
        return error_set(error, STATUS_RUNTIME, "no random numbers from the system: %s", strerror(errno));
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(launch->secret + 2 * i, 3, "%02x", bytes[i]);
    return STATUS_OK;
}

static void number_set(const char *name, int value, int overwrite)
{
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    setenv(name, text, overwrite);
}

static int cpu_count(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

/* In the child. */
static _Noreturn void rank_become(const struct launch *launch, int rank, pid_t launcher, char **argv)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != launcher) /* it was gone before that */
        _exit(STATUS_RUNTIME);
    int threads = cpu_count() / launch->processes;
    number_set("RANK", rank, 1);
    number_set("WORLD_SIZE", launch->processes, 1);
    number_set("LOCAL_RANK", rank, 1);
    number_set("LOCAL_WORLD_SIZE", launch->processes, 1);
    number_set("MASTER_PORT", launch->port, 1);
    setenv("MASTER_ADDR", "127.0.0.1", 1);
    setenv("FLAT_LAUNCHER", "1", 1);
    setenv("FLAT_COMM_SECRET", launch->secret, 1);
    number_set("OMP_NUM_THREADS", threads > 0 ? threads : 1, 0);
    if (rank == 0)
        number_set("FLAT_LISTENER", launch->listener, 1);
    else
        close(launch->listener);
    sigprocmask(SIG_SETMASK, &launch->before, NULL);
    execv("/proc/self/exe", argv);
    fprintf(stderr, "error: rank %d cannot be started: %s\n", rank, strerror(errno));
    _exit(STATUS_RUNTIME);
}

static void ranks_signal(const struct launch *launch, int signal)
{
    for (int rank = 0; rank < launch->processes; rank++)
        if (launch->pid[rank])
            kill(launch->pid[rank], signal);
}

/* Takes note of every rank that has ended. */
static void ranks_reap(struct launch *launch)
{
    for (int rank = 0; rank < launch->processes; rank++) {
        int state;
        if (!launch->pid[rank] || waitpid(launch->pid[rank], &state, WNOHANG) != launch->pid[rank])
            continue;
        if (WIFSIGNALED(state) && WTERMSIG(state) != launch->asked)
            log_warning(launch->log, "rank %d (process %ld) was ended by signal %d (%s)", rank, (long)launch->pid[rank],
                        WTERMSIG(state), strsignal(WTERMSIG(state)));
        launch->code[rank] = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
        launch->pid[rank] = 0;
        launch->left--;
        /* after a stop by signal one rank may still be writing the checkpoint */
        if (launch->code[rank] && launch->code[rank] != STATUS_SIGNAL && !launch->deadline)
            launch->deadline = clock_seconds() + LAUNCHER_GRACE_SECONDS;
    }
}

static void ranks_wait(struct launch *launch, const sigset_t *awaited)
{
    ranks_reap(launch);
    while (launch->left) {
        siginfo_t info;
        int signal = sigtimedwait(awaited, &info, &(struct timespec){.tv_nsec = 200000000});
        if (signal > 0 && signal != SIGCHLD)
            launch->asked = signal;
        /* the terminal's own go to the ranks as well, which are of the same group */
        if (signal > 0 && signal != SIGCHLD && info.si_code != SI_KERNEL)
            ranks_signal(launch, signal);
        ranks_reap(launch);
        if (launch->deadline && clock_seconds() > launch->deadline)
            ranks_signal(launch, SIGKILL);
    }
}

/* The rank that failed by itself, not because of another; without one, whoever did. -1: none failed. */
static int rank_to_blame(const struct launch *launch, int *code)
{
    int found = -1;
    *code = STATUS_OK;
    for (int pass = 0; pass < 3 && found < 0; pass++)
        for (int rank = 0; rank < launch->processes && found < 0; rank++) {
            const int own = launch->code[rank];
            const bool killed = own > 128, peer = own == STATUS_PEER;
            if (own && (pass == 0 ? !killed && !peer : pass == 1 ? killed : peer)) {
                found = rank;
                *code = killed ? STATUS_PEER : own;
            }
        }
    return found;
}

int launcher_run(int processes, char **argv, struct log *log, struct error *error)
{
    struct launch launch = {.processes = processes, .log = log};
    const pid_t launcher = getpid();
    sigset_t awaited;
    int code;
    launch.pid = memory_array((size_t)processes, sizeof *launch.pid, error);
    launch.code = memory_array((size_t)processes, sizeof *launch.code, error);
    int status = launch.pid && launch.code ? secret_make(&launch, error) : STATUS_MEMORY;
    if (!status)
        status = port_listen(&launch, error);
    if (status) {
        free(launch.pid);
        free(launch.code);
        return status;
    }
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGCHLD);
    for (int i = 0; i < HANDED_ON; i++)
        sigaddset(&awaited, handed_on[i]);
    sigprocmask(SIG_BLOCK, &awaited, &launch.before);
    fflush(NULL);
    for (int rank = 0; rank < processes && !status; rank++) {
        launch.pid[rank] = fork();
        if (launch.pid[rank] == 0)
            rank_become(&launch, rank, launcher, argv);
        if (launch.pid[rank] < 0) {
            status = error_set(error, STATUS_RUNTIME, "rank %d cannot be started: %s", rank, strerror(errno));
            launch.pid[rank] = 0;
            ranks_signal(&launch, SIGKILL);
        } else {
            launch.left++;
        }
    }
    close(launch.listener);
    ranks_wait(&launch, &awaited);
    sigprocmask(SIG_SETMASK, &launch.before, NULL);
    int rank = rank_to_blame(&launch, &code);
    if (!status && launch.asked && rank >= 0 && launch.code[rank] == 128 + launch.asked)
        status = error_set(error, STATUS_RUNTIME, "stopped by signal %d (%s)", launch.asked, strsignal(launch.asked));
    if (!status && rank >= 0)
        status = error_set(error, code, launch.code[rank] > 128 ? "rank %d of %d was ended by signal %d" :
                           "rank %d of %d ended with exit code %d", rank, processes,
                           launch.code[rank] > 128 ? launch.code[rank] - 128 : launch.code[rank]);
    free(launch.pid);
    free(launch.code);
    return status;
}

/* comm_ranks.c - see comm_ranks.h. */
#include "comm_ranks.h"
#include "temporary.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../host/util/clock.h"

/* A port that is given back before rank 0 listens on it may be another program's by then. So it stays bound here, by a socket
 * that does not listen, until the ranks have ended: the system gives it to nobody else, neither to who asks for any port nor
 * to a connection, and rank 0, which sets SO_REUSEADDR as this does, may still bind it. */
int ranks_port_hold(int *port)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)*port)};
    socklen_t length = sizeof at;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)), 0);
    if (bind(fd, (struct sockaddr *)&at, sizeof at)) {
        close(fd);
        return -1;
    }
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &length), 0);
    *port = ntohs(at.sin_port);
    return fd;
}

static void set_number(const char *name, int value)
{
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    setenv(name, text, 1);
}

static _Noreturn void rank_become(const struct ranks *ranks, int rank, const char *const *argv, const char *extra)
{
    char path[300], copy[1024];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    set_number("RANK", rank);
    set_number("WORLD_SIZE", ranks->size);
    set_number("LOCAL_RANK", rank);
    set_number("LOCAL_WORLD_SIZE", ranks->size);
    set_number("MASTER_PORT", ranks->port);
    setenv("MASTER_ADDR", "127.0.0.1", 1);
    setenv("FLAT_COMM_SECRET", RANKS_SECRET, 1);
    setenv("OMP_NUM_THREADS", "1", 1);
    snprintf(copy, sizeof copy, "%s", extra ? extra : "");
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
        char *value = strchr(word, '=');
        *value++ = 0;
        if (!strcmp(value, "%r"))
            set_number(word, rank);
        else if (*value)
            setenv(word, value, 1);
        else
            unsetenv(word);
    }
    snprintf(path, sizeof path, "%s/%d", ranks->folder, rank);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    close(fd);
    execv(argv[0], (char **)argv);
    _exit(127);
}

void ranks_start(struct ranks *ranks, int size, const char *const *argv, const char *extra)
{
    int port = 0;
    const int held = ranks_port_hold(&port);
    assert_true(held >= 0);
    ranks_start_at(ranks, port, size, argv, extra);
    ranks->held = held;
}

void ranks_start_at(struct ranks *ranks, int port, int size, const char *const *argv, const char *extra)
{
    assert_true(size <= RANKS_MAX);
    *ranks = (struct ranks){.size = size, .port = port, .held = -1};
    snprintf(ranks->folder, sizeof ranks->folder, "%s/flat-ranks-XXXXXX", temporary_root());
    assert_non_null(mkdtemp(ranks->folder));
    fflush(NULL);
    for (int rank = 0; rank < size; rank++) {
        ranks->pid[rank] = fork();
        assert_true(ranks->pid[rank] >= 0);
        if (!ranks->pid[rank])
            rank_become(ranks, rank, argv, extra);
    }
}

static char *text_read(const struct ranks *ranks, int rank)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%d", ranks->folder, rank);
    FILE *file = fopen(path, "r");
    char *text = calloc(1, 65536);
    assert_non_null(text);
    if (file && fread(text, 1, 65535, file) == 0)
        text[0] = 0;
    if (file)
        fclose(file);
    return text;
}

void ranks_await(const struct ranks *ranks, const char *text)
{
    const double deadline = clock_seconds() + RANKS_SECONDS;
    for (int rank = 0; rank < ranks->size; usleep(5000)) {
        char *said = text_read(ranks, rank);
        rank += strstr(said, text) != NULL;
        free(said);
        if (clock_seconds() > deadline)
            fail_msg("rank %d did not say \"%s\" ", rank, text);
    }
}

/* Takes note of a rank that has ended; true while it runs. */
static bool rank_runs(struct ranks *ranks, int rank, int options)
{
    int state;
    if (!ranks->pid[rank])
        return false;
    if (waitpid(ranks->pid[rank], &state, options) == 0)
        return true;
    ranks->pid[rank] = 0;
    ranks->seconds[rank] = clock_seconds();
    ranks->status[rank] = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
    return false;
}

static void rank_kill(struct ranks *ranks, int rank)
{
    kill(ranks->pid[rank], SIGKILL);
    rank_runs(ranks, rank, 0);
}

void ranks_wait(struct ranks *ranks, double seconds) { ranks_wait_others(ranks, -1, seconds); }

void ranks_wait_others(struct ranks *ranks, int stopped, double seconds)
{
    const double deadline = clock_seconds() + seconds;
    char path[300], late[64] = "";
    for (bool wait = true; wait;) {
        wait = false;
        for (int rank = 0; rank < ranks->size; rank++) {
            if (rank == stopped || !rank_runs(ranks, rank, WNOHANG))
                continue;
            wait = true;
            if (clock_seconds() > deadline) {
                snprintf(late + strlen(late), sizeof late - strlen(late), " %d", rank);
                rank_kill(ranks, rank);
            }
        }
        usleep(5000);
    }
    if (stopped >= 0 && ranks->pid[stopped])
        rank_kill(ranks, stopped);
    for (int rank = 0; rank < ranks->size; rank++) {
        ranks->text[rank] = text_read(ranks, rank);
        snprintf(path, sizeof path, "%s/%d", ranks->folder, rank);
        unlink(path);
    }
    rmdir(ranks->folder);
    if (*late) {
        for (int rank = 0; rank < ranks->size; rank++)
            print_message("rank %d, %d: %s\n", rank, ranks->status[rank], ranks->text[rank]);
        fail_msg("after %.0f s still running: ranks%s", seconds, late);
    }
}

void ranks_run(struct ranks *ranks, int size, const char *const *argv, const char *extra, int status)
{
    ranks_start(ranks, size, argv, extra);
    ranks_wait(ranks, RANKS_SECONDS);
    bool failed = false;
    for (int rank = 0; rank < size; rank++)
        failed |= ranks->status[rank] != status;
    for (int rank = 0; failed && rank < size; rank++)
        print_message("rank %d of %d: exit code %d; it said: %s\n", rank, size, ranks->status[rank], ranks->text[rank]);
    if (failed)
        fail_msg("expected exit code %d of all ranks", status);
}

void ranks_expect(const struct ranks *ranks, int rank, int status, const char *wanted)
{
    if (ranks->status[rank] != status || !strstr(ranks->text[rank], wanted))
        fail_msg("rank %d: exit code %d, expected %d and \"%s\"; it said: %s", rank, ranks->status[rank], status,
                 wanted, ranks->text[rank]);
}

void ranks_silent(const struct ranks *ranks, int rank, int status)
{
    if (ranks->status[rank] != status || strstr(ranks->text[rank], "error: "))
        fail_msg("rank %d: exit code %d, expected %d and no error; it said: %s", rank, ranks->status[rank], status,
                 ranks->text[rank]);
}

void ranks_free(struct ranks *ranks)
{
    for (int rank = 0; rank < ranks->size; rank++)
        free(ranks->text[rank]);
    if (ranks->size && ranks->held >= 0)
        close(ranks->held);
    *ranks = (struct ranks){.held = -1};
}

/* The line "bits ..." of a rank. */
static const char *bits_of(const struct ranks *ranks, int rank)
{
    const char *found = strstr(ranks->text[rank], "bits ");
    if (!found)
        fail_msg("rank %d said: %s", rank, ranks->text[rank]);
    return found;
}

void ranks_collectives(const char *program, const char *device, int size)
{
    const char *const argv[] = {program, "rank", "collectives", device, NULL};
    char first[64] = "";
    for (int run = 0; run < 2; run++) {
        struct ranks ranks;
        ranks_run(&ranks, size, argv, NULL, 0);
        if (size > 1)
            ranks_expect(&ranks, 0, 0, "\nrank 1: host ");
        if (run == 0)
            snprintf(first, sizeof first, "%.21s", bits_of(&ranks, 0));
        for (int rank = 0; rank < size; rank++)
            if (strncmp(bits_of(&ranks, rank), first, 21))
                fail_msg("%s, run %d, rank %d of %d: %.21s, not %s", device, run, rank, size, bits_of(&ranks, rank),
                         first);
        ranks_free(&ranks);
    }
}

/* test_comm.c - the ranks of a run as real processes on this machine: every collective on every engine, every way to
 * start them, and what they say when something is wrong. The sizes of a run go beyond the cores here on purpose.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../host/comm/internal.h"
#include "../../host/util/clock.h"
#include "../support/comm_rank.h"
#include "../support/comm_ranks.h"

static const char *self;

#define SCENARIO(name, device) ((const char *const[]){self, "rank", name, device, NULL})

static void test_cpu(void **state)
{
    (void)state;
    for (int size = 1; size <= 8; size *= 2)
        ranks_collectives(self, "cpu", size);
}

static void test_queue(void **state)
{
    (void)state;
    struct ranks ranks;
    ranks_run(&ranks, 3, SCENARIO("queue_ahead", "cpu"), NULL, 0);
    ranks_free(&ranks);
}

/* ---- ways to start ---------------------------------------------------------------------------------------------- */

static void start_check(const char *launcher, int port, const char *extra)
{
    char line[64];
    struct ranks ranks;
    snprintf(line, sizeof line, "launcher %s\n", launcher);
    ranks_start_at(&ranks, port, 3, SCENARIO("collectives", "cpu"), extra);
    ranks_wait(&ranks, RANKS_SECONDS);
    for (int rank = 0; rank < 3; rank++)
        ranks_expect(&ranks, rank, 0, line);
    ranks_free(&ranks);
}

/* Two ports in a row: the first listens, as torchrun's store does, and ranks can meet at the second. */
static void port_pair_hold(int *port, int *store, int *next)
{
    for (int tries = 0; tries < 1000; tries++) {
        struct error error;
        assert_int_equal(tcp_listen(store, "127.0.0.1", 0, port, &error), 0);
        int second = *port + 1;
        if ((*next = second < 65536 ? ranks_port_hold(&second) : -1) >= 0)
            return;
        tcp_close(store);
    }
    fail_msg("no two ports in a row are free");
}

/* A job of SLURM's whose port, which is made of its number, is free. */
static int job_hold(int *job)
{
    for (*job = getpid();; *job += 1) {
        char number[16];
        struct rank_env env;
        struct error error;
        snprintf(number, sizeof number, "%d", *job);
        const char *const variable[] = {"SLURM_JOB_ID", number, "SLURM_STEP_ID", "0", "SLURM_PROCID", "0", "SLURM_LOCALID", "0",
                                        "SLURM_NTASKS", "3", "SLURM_STEP_NODELIST", "localhost"};
        for (int i = 0; i < 12; i += 2)
            setenv(variable[i], variable[i + 1], 1);
        const int status = rank_env_read(&env, &error);
        for (int i = 0; i < 12; i += 2)
            unsetenv(variable[i]);
        assert_int_equal(status, 0);
        const int fd = ranks_port_hold(&env.port);
        if (fd >= 0)
            return fd;
    }
}

static void test_launchers(void **state)
{
    (void)state;
    char extra[512];
    int port = 0, store, job;
    int held = ranks_port_hold(&port);
    start_check("environment", port, NULL);
    snprintf(extra, sizeof extra,
             "RANK= WORLD_SIZE= LOCAL_RANK= LOCAL_WORLD_SIZE= MASTER_ADDR= PMI_RANK=%%r PMI_SIZE=3 "
             "MPI_LOCALRANKID=%%r MPI_LOCALNRANKS=3");
    start_check("mpirun", port, extra);
    tcp_close(&held);
    port_pair_hold(&port, &store, &held);
    start_check("torchrun", port, "TORCHELASTIC_RUN_ID=none GROUP_RANK=0 ROLE_RANK=%r");
    tcp_close(&store);
    tcp_close(&held);
    held = job_hold(&job);
    snprintf(extra, sizeof extra,
             "RANK= WORLD_SIZE= LOCAL_RANK= LOCAL_WORLD_SIZE= MASTER_ADDR= MASTER_PORT= SLURM_NTASKS=3 "
             "SLURM_PROCID=%%r SLURM_LOCALID=%%r SLURM_STEP_ID=0 SLURM_JOB_ID=%d SLURM_STEP_NODELIST=localhost "
             "SLURM_STEP_TASKS_PER_NODE=3", job);
    start_check("srun", 1, extra);
    tcp_close(&held);
}

/* By mpirun itself. */
static void test_mpirun(void **state)
{
    (void)state;
    char command[8192], text[65536] = "", bits[32];
    const char *found;
    struct ranks ranks;
    if (system("command -v mpirun >/dev/null")) {
        print_message("mpirun is not there (openmpi-bin)\n");
        skip();
    }
    snprintf(command, sizeof command, "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 "
             "timeout 300 mpirun --oversubscribe -np 3 %s rank collectives cpu 2>&1", self);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    text[fread(text, 1, sizeof text - 1, pipe)] = 0;
    int status = pclose(pipe), launched = 0, same = 0;
    ranks_run(&ranks, 3, SCENARIO("collectives", "cpu"), NULL, 0);
    snprintf(bits, sizeof bits, "%.21s\n", strstr(ranks.text[0], "bits "));
    ranks_free(&ranks);
    for (found = text; (found = strstr(found, "launcher mpirun\n")); found++)
        launched++;
    for (found = text; (found = strstr(found, bits)); found++)
        same++;
    if (status || launched != 3 || same != 3 || !strstr(text, ", TCP\n"))
        fail_msg("mpirun: %d, expected TCP and three times %s; it said: %s", status, bits, text);
}

/* ---- what goes wrong at the start ------------------------------------------------------------------------------- */

static void test_missing(void **state)
{
    (void)state;
    struct ranks ranks;
    ranks_run(&ranks, 2, SCENARIO("collectives", "cpu"), "WORLD_SIZE=4 LOCAL_WORLD_SIZE=4 FLAT_COMM_TIMEOUT=5", 6);
    for (int rank = 0; rank < 2; rank++)
        ranks_expect(&ranks, rank, 6, "error: ranks 2, 3 of 4 did not come to 127.0.0.1 port ");
    ranks_free(&ranks);
    ranks_run(&ranks, 1, SCENARIO("collectives", "cpu"), "WORLD_SIZE=2 LOCAL_WORLD_SIZE=2 RANK=1 FLAT_COMM_TIMEOUT=1",
              6);
    ranks_expect(&ranks, 0, 6, "error: rank 0 did not answer at 127.0.0.1 port ");
    ranks_free(&ranks);
    ranks_run(&ranks, 1, SCENARIO("collectives", "cpu"), "WORLD_SIZE=2 RANK=1 MASTER_ADDR=no.such.host.invalid", 2);
    ranks_expect(&ranks, 0, 2, "error: no.such.host.invalid: no such host");
    ranks_free(&ranks);
}

/* Fewer descriptors than there will be connections: said at once. */
static void test_limit(void **state)
{
    (void)state;
    struct ranks ranks;
    const char *const argv[] = {"/bin/sh", "-c", "ulimit -n 40; exec \"$0\" rank collectives cpu", self, NULL};
    ranks_run(&ranks, 2, argv, NULL, 1);
    ranks_expect(&ranks, 0, 1, "error: rank 0 of 2 needs 70 open files, the limit is 40; raise it with ulimit -n");
    ranks_free(&ranks);
}

static void test_wrong_sizes(void **state)
{
    (void)state;
    /* two processes that both take themselves for rank 1 of 3 */
    struct ranks first, second;
    ranks_start(&first, 2, SCENARIO("collectives", "cpu"), "WORLD_SIZE=3 LOCAL_WORLD_SIZE=3");
    ranks_start_at(&second, first.port, 1, SCENARIO("collectives", "cpu"), "WORLD_SIZE=3 LOCAL_WORLD_SIZE=3 RANK=1");
    ranks_wait(&first, RANKS_SECONDS);
    ranks_wait(&second, RANKS_SECONDS);
    ranks_expect(&first, 0, 2, "error: rank 1 came twice: process ");
    ranks_free(&first);
    ranks_free(&second);
    ranks_start(&first, 1, SCENARIO("collectives", "cpu"), "WORLD_SIZE=2 LOCAL_WORLD_SIZE=2");
    ranks_start_at(&second, first.port, 1, SCENARIO("collectives", "cpu"), "WORLD_SIZE=3 LOCAL_WORLD_SIZE=3 RANK=1");
    ranks_wait(&first, RANKS_SECONDS);
    ranks_wait(&second, RANKS_SECONDS);
    ranks_expect(&first, 0, 2, "was started with 3 ranks, rank 0 with 2");
    ranks_expect(&second, 0, 2, "was started with 3 ranks, rank 0 with 2");
    ranks_free(&first);
    ranks_free(&second);
}

/* ---- and later -------------------------------------------------------------------------------------------------- */

static void test_disagreement(void **state)
{
    (void)state;
    struct ranks ranks;
    ranks_run(&ranks, 3, SCENARIO("disagree_text", "cpu"), NULL, 2);
    ranks_expect(&ranks, 0, 2, "error: config: rank 1 (host ");
    ranks_expect(&ranks, 0, 2, "learning_rate=1e-4 end', rank 0 has '");
    for (int rank = 1; rank < 3; rank++)
        ranks_silent(&ranks, rank, 2);
    ranks_free(&ranks);
    for (int run = 0; run < 5; run++) { /* rank 2 may come before rank 0 knows, or after it has left */
        ranks_run(&ranks, 3, SCENARIO("disagree_call", "cpu"), NULL, 1);
        for (int rank = 0; rank < 3; rank++)
            ranks_expect(&ranks, rank, 1, "rank 1 makes the call barrier of 0 bytes where rank 0 makes sum of 8");
        ranks_free(&ranks);
    }
    ranks_run(&ranks, 3, SCENARIO("disagree_tensor", "cpu"), NULL, 1);
    ranks_expect(&ranks, 0, 1, "rank 1 makes all_reduce of 99 float32 where rank 0 makes all_reduce of 100 float32");
    ranks_free(&ranks);
}

static void test_failures(void **state)
{
    (void)state;
    struct ranks ranks;
    ranks_run(&ranks, 4, SCENARIO("one_fails", "cpu"), NULL, 3);
    ranks_expect(&ranks, 0, 3, "error: rank 2 (host ");
    ranks_expect(&ranks, 0, 3, "): row 2 is bad\n");
    for (int rank = 1; rank < 4; rank++)
        ranks_silent(&ranks, rank, 3);
    ranks_free(&ranks);
    const char *const scenario[] = {"one_aborts", "one_leaves", "one_leaves_first", "one_ends"};
    const char *const text[] = {" has failed: the disk is full; rank 0 stops", " is lost: it said goodbye after call ",
                                " is lost: it said goodbye after call ", " is lost: "};
    for (int i = 0; i < 4; i++) {
        ranks_start(&ranks, 4, SCENARIO(scenario[i], "cpu"), NULL);
        ranks_wait(&ranks, RANKS_SECONDS);
        for (int rank = 0; rank < 3; rank++) {
            ranks_expect(&ranks, rank, 6, "error: rank 3 (host ");
            ranks_expect(&ranks, 0, 6, text[i]);
        }
        assert_int_equal(ranks.status[3], i == 0 ? 1 : 0);
        ranks_free(&ranks);
    }
}

int main(int argc, char **argv)
{
    static char path[4096];
    if (argc > 1 && !strcmp(argv[1], "rank"))
        return comm_rank_main(argc, argv);
    self = realpath(argv[0], path);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu), cmocka_unit_test(test_queue), cmocka_unit_test(test_launchers),
        cmocka_unit_test(test_mpirun), cmocka_unit_test(test_missing), cmocka_unit_test(test_limit),
        cmocka_unit_test(test_wrong_sizes), cmocka_unit_test(test_disagreement),
        cmocka_unit_test(test_failures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

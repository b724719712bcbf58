/* test_comm_cuda.c - the collectives of the CUDA engine, by emulated NCCL between processes; and what becomes of a run
 * when one of them fails while the others wait in NCCL, which itself would wait for ever.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../support/op_test.h"

#include "../../host/util/clock.h"
#include "../support/comm_rank.h"
#include "../support/comm_ranks.h"
#include "../support/temporary.h"

static const char *self;

#define SCENARIO(name) ((const char *const[]){self, "rank", name, "emu", NULL})

static void test_sizes(void **state)
{
    (void)state;
    for (int size = 1; size <= 8; size *= 2)
        ranks_collectives(self, "emu", size);
}

/* Streams run late and interleaved: only the events hold the order. */
static void test_late_streams(void **state)
{
    (void)state;
    struct ranks ranks;
    for (int seed = 1; seed <= 3; seed++) {
        const char *const extra[] = {"EMU_ASYNC=1 EMU_SEED=1", "EMU_ASYNC=1 EMU_SEED=2", "EMU_ASYNC=1 EMU_SEED=%r"};
        ranks_run(&ranks, 3, SCENARIO("collectives"), extra[seed - 1], 0);
        ranks_free(&ranks);
    }
}

static void test_failures(void **state)
{
    (void)state;
    struct ranks ranks;
    const char *const scenario[] = {"one_aborts", "one_leaves", "one_leaves_first", "one_ends"};
    const char *const text[] = {" has failed: the disk is full; rank 0 stops", " is lost: it said goodbye after call ",
                                " is lost: it said goodbye after call ", " is lost: "};
    for (int i = 0; i < 4; i++) {
        ranks_start(&ranks, 3, SCENARIO(scenario[i]), NULL);
        ranks_wait(&ranks, RANKS_SECONDS);
        for (int rank = 0; rank < 2; rank++)
            ranks_expect(&ranks, rank, 6, "error: rank 2 (host ");
        ranks_expect(&ranks, 0, 6, text[i]);
        ranks_free(&ranks);
    }
}

/* Killed at different moments of collectives, host values and a save, while the others mostly wait in NCCL. */
static void test_kills(void **state)
{
    (void)state;
    char folder[256], extra[300], name[64];
    snprintf(folder, sizeof folder, "%s/flat-test-XXXXXX", temporary_root());
    assert_non_null(mkdtemp(folder));
    snprintf(extra, sizeof extra, "FLAT_RANK_FOLDER=%s", folder);
    for (int run = 0; run < 4; run++) {
        struct ranks ranks;
        const int victim = run % 3;
        ranks_start(&ranks, 3, SCENARIO("work"), extra);
        ranks_await(&ranks, "launcher");
        usleep(100000u + 37000u * (unsigned)run);
        kill(ranks.pid[victim], SIGKILL);
        const double start = clock_seconds();
        ranks_wait(&ranks, RANKS_SECONDS);
        snprintf(name, sizeof name, "error: rank %d (host ", victim);
        for (int rank = 0; rank < 3; rank++)
            if (rank != victim) {
                ranks_expect(&ranks, rank, 6, name);
                print_message("rank %d ended %.2f s after the kill of rank %d\n", rank, ranks.seconds[rank] - start,
                              victim);
            }
        ranks_free(&ranks);
    }
    snprintf(extra, sizeof extra, "rm -r %s", folder); /* rank 0 may have been killed with a temporary open */
    assert_int_equal(system(extra), 0);
}

/* The emulation finds ranks that call different things; hardware would hang. */
static void test_disagreement(void **state)
{
    (void)state;
    struct ranks ranks;
    ranks_run(&ranks, 3, SCENARIO("disagree_tensor"), NULL, 1);
    ranks_expect(&ranks, 2, 1, "ncclReduce of 99 elements of type 7, root 2; rank 0 makes call 1, ncclReduce of 100");
    ranks_free(&ranks);
}

/* Ranks on unlike engines are refused before they wait for each other. */
static void test_mixed_devices(void **state)
{
    (void)state;
    struct ranks ranks;
    ranks_run(&ranks, 2, SCENARIO("mixed_devices"), NULL, 2);
    ranks_expect(&ranks, 0, 2, "error: device: rank 1 (host ");
    ranks_free(&ranks);
}

/* Before there is a communicator, and with slices that do not fit, a call is refused and nothing waits. */
static void test_contract(void **state)
{
    (void)state;
    struct op_test *t = op_test_open("emu-f32", 1);
    const struct engine *engine = t->engine;
    unsigned char id[ENGINE_COMM_ID_BYTES];
    char name[64];
    void *buffer;
    op_test_status(t, "alloc", engine->alloc(t->context, &buffer, 400));
    op_test_refused(t, "comm_wait", engine->comm_wait(t->context));
    op_test_refused(t, "comm_id", engine->comm_id(t->context, id));
    op_test_refused(t, "comm_all_gather", engine->comm_all_gather(t->context, DTYPE_F32, buffer, 100, 100));
    assert_null(engine->comm_failure(t->context));
    engine->comm_close(t->context, false);
    op_test_status(t, "comm_load", engine->comm_load(t->context, name, sizeof name));
    assert_string_equal(name, "NCCL 2.13.0");
    op_test_status(t, "comm_id", engine->comm_id(t->context, id));
    op_test_refused(t, "comm_open", engine->comm_open(t->context, id, 1, 1));
    op_test_status(t, "comm_open", engine->comm_open(t->context, id, 0, 1));
    op_test_refused(t, "comm_reduce_scatter", engine->comm_reduce_scatter(t->context, DTYPE_F32, buffer, 100, 101));
    op_test_refused(t, "comm_all_gather", engine->comm_all_gather(t->context, DTYPE_F32, NULL, 100, 100));
    op_test_refused(t, "comm_broadcast", engine->comm_broadcast(t->context, buffer, 400, 1));
    op_test_status(t, "comm_all_gather", engine->comm_all_gather(t->context, DTYPE_F32, buffer, 0, 0));
    /* NCCL's own refusal comes with its words */
    assert_int_equal(engine->comm_broadcast(t->context, name, 4, 0), OP_DEVICE);
    assert_non_null(strstr(engine->error(t->context), "broadcast: invalid argument"));
    engine->comm_close(t->context, false);
    assert_null(engine->comm_failure(t->context));
    engine->free(t->context, buffer);
    op_test_close(t);
}

int main(int argc, char **argv)
{
    static char path[4096];
    if (argc > 1 && !strcmp(argv[1], "rank"))
        return comm_rank_main(argc, argv);
    self = realpath(argv[0], path);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sizes), cmocka_unit_test(test_late_streams),
                                       cmocka_unit_test(test_failures), cmocka_unit_test(test_kills),
                                       cmocka_unit_test(test_disagreement), cmocka_unit_test(test_mixed_devices),
                                       cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

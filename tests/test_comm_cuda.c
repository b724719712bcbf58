/* test_comm_cuda.c - the collectives of the CUDA engine, by emulated NCCL between processes; and what becomes of a run when
 * one of them fails while the others wait in NCCL, which itself would wait for ever.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comm_rank.h"
#include "comm_ranks.h"

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
    const char *const scenario[] = {"one_aborts", "one_leaves", "one_ends"};
    const char *const text[] = {" has failed: the disk is full; rank 0 stops", " is lost: ", " is lost: "};
    for (int i = 0; i < 3; i++) {
        ranks_start(&ranks, 3, SCENARIO(scenario[i]), NULL);
        ranks_wait(&ranks, 60);
        for (int rank = 0; rank < 2; rank++)
            ranks_expect(&ranks, rank, 6, "error: rank 2 (host ");
        ranks_expect(&ranks, 0, 6, text[i]);
        ranks_free(&ranks);
    }
}

/* The emulation finds ranks that call different things; hardware would hang. */
static void test_disagreement(void **state)
{
    (void)state;
    struct ranks ranks;
    ranks_run(&ranks, 3, SCENARIO("disagree_tensor"), NULL, 1);
    ranks_expect(&ranks, 2, 1, "ncclReduce of 3 elements of type 7, root 2; rank 0 makes call 2, ncclReduce of 4");
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

int main(int argc, char **argv)
{
    static char path[4096];
    if (argc > 1 && !strcmp(argv[1], "rank"))
        return comm_rank_main(argc, argv);
    self = realpath(argv[0], path);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sizes), cmocka_unit_test(test_late_streams),
                                       cmocka_unit_test(test_failures), cmocka_unit_test(test_disagreement),
                                       cmocka_unit_test(test_mixed_devices)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

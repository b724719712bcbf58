/* test_head_chunk_runs.c - logits a chunk of target rows at a time, together with what else a training run may have: recomputed
 * layers, graphs, accumulation, narrow moments, adapters, float logits and checkpoints. With the same chunks the bits are the same;
 * beside a run without chunks the order of lm_head's sums is another, and the losses are near.
 */
#include "../support/temporary.h"

#include <math.h>
#include <stdlib.h>

#include "../support/tiny_trainer.h"

enum { STEPS = 4 };

static const struct {
    const char *engine;
    enum dtype dtype;
    double bound; /* of a loss without chunks */
} engines[] = {{"cpu", DTYPE_F32, 1e-5}, {"emu", DTYPE_F32, 1e-5}, {"emu", DTYPE_BF16, 0.02}};
enum { ENGINES = sizeof engines / sizeof *engines };

static void settings_add(struct tiny_training *run, const char *const *settings)
{
    int count = 0;
    while (run->settings[count])
        count++;
    for (; *settings; settings++)
        run->settings[count++] = *settings;
}

static struct tiny_training trained(int e, const char *chunk, struct tiny_training run, const char *const *more)
{
    static const char *const rate[] = {"--learning_rate", "1e-3", NULL};
    run.engine = engines[e].engine, run.dtype = engines[e].dtype, run.steps = STEPS;
    settings_add(&run, rate);
    if (chunk)
        settings_add(&run, (const char *const[]){"--head_chunk_rows", chunk, NULL});
    settings_add(&run, more);
    tiny_train(&run, temporary);
    return run;
}

static void run_free(struct tiny_training *run)
{
    free(run->before), free(run->after);
}

static void assert_same_steps(const char *what, const struct tiny_training *a, const struct tiny_training *b, int from)
{
    for (int i = from; i < STEPS; i++)
        if (a->record[i].loss != b->record[i - from].loss || a->record[i].grad_norm != b->record[i - from].grad_norm)
            fail_msg("%s, %s, step %d: loss %.9g and %.9g", a->engine, what, i + 1, a->record[i].loss, b->record[i - from].loss);
    assert_memory_equal(a->after, b->after, (size_t)a->count * sizeof *a->after);
}

#define WITH_(...) ((const char *const[]){__VA_ARGS__, NULL})
static const char *const nothing[] = {NULL};

/* Layers computed again, and graphs beside the same padded batches: no bit of a run in chunks changes. */
static void test_recomputed_and_graphs(void **state)
{
    (void)state;
    for (int e = 0; e < ENGINES; e++) {
        struct tiny_training plain = trained(e, "5", (struct tiny_training){0}, nothing);
        struct tiny_training full = trained(e, "5", (struct tiny_training){0}, WITH_("--gradient_checkpointing", "full"));
        struct tiny_training selective = trained(e, "5", (struct tiny_training){0}, WITH_("--gradient_checkpointing", "selective"));
        assert_same_steps("layers again", &plain, &full, 0);
        assert_same_steps("norms again", &plain, &selective, 0);
        run_free(&full), run_free(&selective);
        if (e) { /* a CPU engine has no graphs */
            struct tiny_training eager = trained(e, "5", (struct tiny_training){.eager = true}, WITH_("--cuda_graphs"));
            struct tiny_training graphs = trained(e, "5", (struct tiny_training){0}, WITH_("--cuda_graphs"));
            assert_true(graphs.replays > 0);
            assert_same_steps("graphs", &eager, &graphs, 0);
            struct tiny_training both = trained(e, "5", (struct tiny_training){0}, WITH_("--cuda_graphs", "--gradient_checkpointing", "full"));
            assert_same_steps("graphs and layers again", &eager, &both, 0);
            run_free(&eager), run_free(&graphs), run_free(&both);
        }
        run_free(&plain);
    }
}

/* From a checkpoint in the middle, alone and with what else has a state of its own. */
static void test_resumed(void **state)
{
    (void)state;
    static const char *const forms[][5] = {{NULL}, {"--optimizer_states", "8bit", NULL}, {"--logits_dtype", "float32", NULL},
                                           {"--gradient_checkpointing", "full", "--optimizer_states", "bfloat16", NULL}};
    for (int e = 0; e < ENGINES; e++)
        for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
            struct tiny_training whole = trained(e, "4", (struct tiny_training){.checkpoint = "middle", .checkpoint_at = 2}, forms[f]);
            struct tiny_training rest = trained(e, "4", (struct tiny_training){.resume = "middle"}, forms[f]);
            assert_same_steps("resumed", &whole, &rest, 2);
            run_free(&whole), run_free(&rest);
            directory_remove(temporary_path("middle"));
        }
}

/* Beside runs without chunks, for sizes of chunks that end everywhere. */
static void test_near(void **state)
{
    (void)state;
    static const char *const chunks[] = {"1", "6", "1000"};
    static const char *const forms[][3] = {{NULL}, {"--logits_dtype", "float32", NULL}};
    for (int e = 0; e < ENGINES; e++)
        for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
            struct tiny_training whole = trained(e, NULL, (struct tiny_training){0}, forms[f]);
            double most = 0;
            for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++) {
                struct tiny_training parts = trained(e, chunks[c], (struct tiny_training){0}, forms[f]);
                for (int i = 0; i < STEPS; i++)
                    most = fmax(most, fabs(parts.record[i].loss / whole.record[i].loss - 1));
                run_free(&parts);
            }
            print_message("%s, %s: losses of %d steps within %.1e of those without chunks\n", engines[e].engine, dtype_name(engines[e].dtype),
                          STEPS, most);
            assert_true(most <= engines[e].bound);
            run_free(&whole);
        }
}

static int make(void **state)
{
    return temporary_make(state) || tiny_trainer_make(temporary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_recomputed_and_graphs), cmocka_unit_test(test_resumed),
                                       cmocka_unit_test(test_near)};
    return cmocka_run_group_tests(tests, make, temporary_remove);
}

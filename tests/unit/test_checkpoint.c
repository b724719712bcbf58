/* test_checkpoint.c - a run that goes on from a checkpoint ends with the bits of one that was not interrupted, on each kind of
 * engine: with float weights and with master weights beside bf16, eager and with graphs, the whole model and adapters; the
 * weights of a checkpoint come back as they were.
 */
#include "../support/temporary.h"

#include "../support/tiny_trainer.h"

static int make(void **state)
{
    return temporary_make(state) || tiny_trainer_make(temporary) ? -1 : 0;
}

static void check(const char *engine, enum dtype dtype, int at, bool base, const char *one, const char *two)
{
    /* the base of adapters is a folder: random weights that stay frozen learn nothing */
    struct tiny_training whole = {.engine = engine, .dtype = dtype, .steps = 6, .settings = {one, two}, .checkpoint = "kept",
                                  .checkpoint_at = at, .model = base ? "base" : NULL};
    struct tiny_training on = whole;
    on.checkpoint = NULL, on.resume = "kept";
    directory_remove(temporary_path("kept"));
    tiny_train(&whole, temporary);
    tiny_train(&on, temporary);
    assert_int_equal(whole.count, on.count);
    for (int64_t i = 0; i < whole.count; i++)
        if (memcmp(&whole.after[i], &on.after[i], sizeof(float)))
            fail_msg("%s, from step %d: weight %lld is %.9g, and %.9g without the interruption", engine, at, (long long)i,
                     on.after[i], whole.after[i]);
    for (int i = at; i < 6; i++)
        assert_true(whole.record[i].loss == on.record[i - at].loss && whole.record[i].grad_norm == on.record[i - at].grad_norm);
    tiny_training_free(&whole);
    tiny_training_free(&on);
}

static void test_engines(void **state)
{
    (void)state;
    static const struct {
        const char *engine;
        enum dtype dtype;
    } engines[] = {{"cpu", DTYPE_F32}, {"emu-f32", DTYPE_F32}, {"emu-bf16", DTYPE_BF16}};
    for (int e = 0; e < 3; e++)
        for (int at = 1; at < 6; at += 3) {
            check(engines[e].engine, engines[e].dtype, at, false, NULL, NULL);
            if (e)
                check(engines[e].engine, engines[e].dtype, at, false, "--cuda_graphs", NULL);
        }
}

/* Moments in 16 and in 8 bits, and their scales. */
static void test_states(void **state)
{
    (void)state;
    static const char *const states[] = {"bfloat16", "8bit"};
    for (int i = 0; i < 2; i++) {
        check("cpu", DTYPE_F32, 3, false, "--optimizer_states", states[i]);
        check("emu-bf16", DTYPE_BF16, 3, false, "--optimizer_states", states[i]);
    }
}

static void test_adapters(void **state)
{
    (void)state;
    struct tiny_training base = {.engine = "cpu", .dtype = DTYPE_F32, .steps = 1, .save = "base"};
    tiny_train(&base, temporary);
    tiny_training_free(&base);
    check("cpu", DTYPE_F32, 3, true, "--lora.r", "2");
    check("emu-bf16", DTYPE_BF16, 3, true, "--lora.r", "2");
}

/* After six steps, the weights of step 2: those of a run that ends there. */
static void test_restore(void **state)
{
    (void)state;
    static const struct {
        const char *engine, *form, *value;
        enum dtype dtype;
    } cases[] = {{"cpu", NULL, NULL, DTYPE_F32}, {"emu-bf16", NULL, NULL, DTYPE_BF16}, {"emu-bf16", "--lora.r", "2", DTYPE_BF16}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct tiny_training run = {.engine = cases[c].engine, .dtype = cases[c].dtype, .steps = 6, .checkpoint = "kept",
                                    .checkpoint_at = 2, .restore = true, .model = cases[c].form ? "base" : NULL,
                                    .settings = {cases[c].form, cases[c].value}};
        struct tiny_training ends = run;
        ends.steps = 2, ends.checkpoint = NULL, ends.restore = false;
        directory_remove(temporary_path("kept"));
        tiny_train(&run, temporary);
        tiny_train(&ends, temporary);
        assert_int_equal(run.count, ends.count);
        assert_memory_equal(run.after, ends.after, (size_t)run.count * sizeof(float));
        tiny_training_free(&run);
        tiny_training_free(&ends);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_engines), cmocka_unit_test(test_states),
                                       cmocka_unit_test(test_adapters),
                                       cmocka_unit_test(test_restore)};
    return cmocka_run_group_tests(tests, make, temporary_remove);
}

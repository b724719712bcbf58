/* test_trainer.c - the trainer on the CUDA engine (emulated) against the CPU engine, from one seed: the same road from a
 * config to losses and weights.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../support/tiny_trainer.h"

static int make(void **state)
{
    return temporary_make(state) || tiny_base_make(temporary) ? -1 : 0;
}

/* After the first step nothing is allocated, and a step waits once: for its record. */
static void check_calls(const struct tiny_training *run)
{
    if (!run->calls_read) /* a GPU counts nothing */
        return;
    for (int i = 1; i < run->steps; i++) {
        assert_int_equal(run->calls[i].allocations, run->calls[i - 1].allocations);
        assert_int_equal(run->calls[i].waits, run->calls[i - 1].waits + 1);
    }
}

/* Losses of every step, and the gradient's norm of the first few: it moves with every weight, and later on what
 * rounding has done to them shows. */
static void check_losses(enum dtype dtype, const char *method, const char *rate, int steps, double loss_bound,
                         double norm_bound)
{
    enum { NORM_STEPS = 6 };
    struct tiny_training cpu = {.engine = "cpu", .dtype = DTYPE_F32, .steps = steps, .method = method,
                                .model = method ? "base" : NULL,
                                .settings = {"--learning_rate", rate}};
    if (method) /* the reference's distributions, by KL and by UNDIAL's cross-entropy */
        cpu.settings[2] = "--kl_positions", cpu.settings[3] = "real";
    if (method && !strcmp(method, "undial"))
        cpu.settings[4] = "--retain_loss", cpu.settings[5] = "kl", cpu.settings[6] = "--undial_positions",
        cpu.settings[7] = "open_unlearning";
    struct tiny_training emu = cpu;
    emu.engine = "emu", emu.dtype = dtype;
    double loss_off = 0, norm_off = 0;
    tiny_train(&cpu, temporary);
    tiny_train(&emu, temporary);
    for (int i = 0; i < steps; i++) {
        const struct step_record *got = &emu.record[i], *expected = &cpu.record[i];
        loss_off = fmax(loss_off, fabs(got->loss - expected->loss) / fabs(expected->loss));
        if (!(fabs(got->loss - expected->loss) <= loss_bound * fabs(expected->loss)))
            fail_msg("%s, step %d: loss %.9g on emu, %.9g on cpu", dtype_name(dtype), i + 1, got->loss, expected->loss);
        if (i >= NORM_STEPS)
            continue;
        norm_off = fmax(norm_off, fabs(got->grad_norm - expected->grad_norm) / expected->grad_norm);
        if (!(fabs(got->grad_norm - expected->grad_norm) <= norm_bound * expected->grad_norm))
            fail_msg("%s, step %d: gradient norm %.9g on emu, %.9g on cpu", dtype_name(dtype), i + 1, got->grad_norm,
                     expected->grad_norm);
    }
    print_message("%s%s%s: loss %.4f to %.4f, within %.2g of the CPU's in %d steps, gradient norm within %.2g in %d\n",
                  method ? method : "", method ? ", " : "", dtype_name(dtype), cpu.record[0].loss, cpu.record[steps - 1].loss,
                  loss_off, steps, norm_off, NORM_STEPS);
    assert_true(method || cpu.record[steps - 1].loss < 0.8 * cpu.record[0].loss);
    check_calls(&emu);
    tiny_training_free(&cpu);
    tiny_training_free(&emu);
}

static void test_losses_float(void **state)
{
    (void)state;
    check_losses(DTYPE_F32, NULL, "1e-3", 30, 1e-5, 1e-5);
    check_losses(DTYPE_F32, "kl_min", "1e-3", 12, 1e-5, 1e-4);
    check_losses(DTYPE_F32, "undial", "1e-3", 12, 1e-5, 1e-3);
}

/* bf16 rounds activations and gradients at every op (2 to 3 digits). */
static void test_losses_bf16(void **state)
{
    (void)state;
    check_losses(DTYPE_BF16, NULL, "1e-3", 30, 0.02, 0.05);
    check_losses(DTYPE_BF16, NULL, "1e-2", 6, 0.02, 0.05);
    check_losses(DTYPE_BF16, "kl_min", "1e-3", 12, 0.02, 0.05);
}

/* Six updates of 1e-7: less than a bf16 weight's spacing, but the master weights keep them. */
static void test_small_updates_are_kept(void **state)
{
    (void)state;
    struct tiny_training run = {.engine = "emu", .dtype = DTYPE_BF16, .steps = 6, .settings = {"--learning_rate", "1e-7"}};
    int64_t moved = 0;
    double sum = 0;
    tiny_train(&run, temporary);
    for (int64_t i = 0; i < run.count; i++) {
        double change = fabs((double)run.after[i] - run.before[i]);
        assert_true(change <= 6e-7 * 1.1 + 6 * 0x1p-24 * fabs(run.before[i])); /* six updates, and their roundings */
        moved += change > 0;
        sum += change;
    }
    assert_true(moved > run.count * 9 / 10);
    assert_true(sum / (double)moved > 4e-7);
    tiny_training_free(&run);
}

/* The next step's rows are packed while the device works: the bits of a run that packs them when they are due. */
static void test_packed_ahead(void **state)
{
    (void)state;
    static const char *const engine[] = {"cpu", "emu", "emu"};
    for (int i = 0; i < 3; i++) {
        struct tiny_training ahead = {.engine = engine[i], .dtype = DTYPE_F32, .steps = 6, .rows = "1",
                                      .settings = {"--learning_rate", "1e-3", i == 2 ? "--cuda_graphs" : NULL}};
        struct tiny_training due = ahead;
        due.repack = true;
        tiny_train(&ahead, temporary);
        tiny_train(&due, temporary);
        assert_int_equal(ahead.ahead, 3); /* two steps per epoch */
        for (int step = 0; step < 6; step++)
            assert_true(ahead.record[step].loss == due.record[step].loss &&
                        ahead.record[step].grad_norm == due.record[step].grad_norm);
        assert_memory_equal(ahead.after, due.after, (size_t)ahead.count * sizeof *ahead.after);
        tiny_training_free(&ahead);
        tiny_training_free(&due);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_losses_float),
        cmocka_unit_test(test_losses_bf16),
        cmocka_unit_test(test_small_updates_are_kept),
        cmocka_unit_test(test_packed_ahead),
    };
    return cmocka_run_group_tests(tests, make, temporary_remove);
}

/* test_step.c - the CUDA engine as a whole: a training step, and thirty of them, against the CPU engine.
 *
 * The model is a small Llama with grouped heads and odd sizes. In float the two engines differ in the order of their
 * sums only; in bf16 activations and gradients are rounded at every op, and the bounds say by how much that shows.
 */
#include "../support/temporary.h"

#include <dlfcn.h>
#include <math.h>

#include "../../kernels/loss_function.h"
#include "../support/tiny_model.h"

enum { STEPS = 30, PAIRS = 8 };

/* A model with the state of its optimizer. */
struct run {
    struct tiny tiny;
    void *m, *v, *low, *sum_squares;
    struct adamw_state *adamw;
};

static void must(int status, const struct error *error)
{
    if (status)
        fail_msg("status %d: %s", status, error->text);
}

static void *zeros(struct run *run, int64_t count, size_t size)
{
    struct error error = {0};
    void *pointer;
    must(device_alloc(&run->tiny.device, &pointer, (size_t)count * size, &error), &error);
    must(device_zero(&run->tiny.device, pointer, (size_t)count * size, &error), &error);
    return pointer;
}

static void run_open(struct run *run, const char *engine)
{
    tiny_open(&run->tiny, temporary, engine, 2, true, PAIRS);
    const int64_t n = run->tiny.model.elements;
    run->m = zeros(run, n, sizeof(float));
    run->v = zeros(run, n, sizeof(float));
    run->sum_squares = zeros(run, 1, sizeof(double));
    run->adamw = zeros(run, 1, sizeof *run->adamw);
    const double rate = 1e-3;
    struct error error = {0};
    must(device_copy_in(&run->tiny.device, &run->adamw->learning_rate, &rate, sizeof rate, &error), &error);
    run->low = run->tiny.model.dtype == DTYPE_BF16 ? zeros(run, n, sizeof(uint16_t)) : NULL; /* the weights are whole bf16 */
}

static void run_close(struct run *run)
{
    device_free(&run->tiny.device, run->m);
    device_free(&run->tiny.device, run->v);
    device_free(&run->tiny.device, run->sum_squares);
    device_free(&run->tiny.device, run->adamw);
    device_free(&run->tiny.device, run->low);
    tiny_close(&run->tiny);
}

/* Forward, loss, backward, clipped AdamW; the loss before the update. */
static double run_step(struct run *run)
{
    struct error error = {0};
    struct model *model = &run->tiny.model;
    const double loss = tiny_step(&run->tiny, DIVERGENCE_kl);
    must(device_run(model->device, &error, adamw_norm,
                    &((struct adamw_norm_args){model->dtype, model->elements, model->grad, run->sum_squares, false})),
         &error);
    must(device_run(model->device, &error, adamw_prepare,
                    &((struct adamw_prepare_args){run->sum_squares, 1, 0.9, 0.999, run->adamw})), &error);
    must(device_run(model->device, &error, adamw_step,
                    &((struct adamw_args){.dtype = model->dtype,
                                          .grad_dtype = model->dtype,
                                          .n = model->elements,
                                          .param = model->param,
                                          .grad = model->grad,
                                          .m = run->m,
                                          .v = run->v,
                                          .low = run->low,
                                          .state = run->adamw,
                                          .beta1 = 0.9,
                                          .beta2 = 0.999,
                                          .eps = 1e-8,
                                          .weight_decay = 0.01})),
         &error);
    return loss;
}

/* The CPU's model begins with the other's weights, as that stores them. */
static void pair_open(struct run *run, struct run *cpu, const char *engine)
{
    run_open(run, engine);
    run_open(cpu, "cpu");
    double *weights = tiny_read(&run->tiny, run->tiny.model.param, run->tiny.model.elements);
    tiny_write(&cpu->tiny, cpu->tiny.model.param, weights, cpu->tiny.model.elements);
    free(weights);
}

static double relative_difference(const double *a, const double *b, int64_t count)
{
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return norm > 0 ? sqrt(difference / norm) : sqrt(difference);
}

/* Log-probabilities and the gradient of every tensor, relative to its norm. */
static void check_first_step(const char *engine, const char *extra, double logprob_bound, double gradient_bound)
{
    struct run run, cpu;
    tiny_config(temporary, extra);
    pair_open(&run, &cpu, engine);
    tiny_step(&run.tiny, DIVERGENCE_kl);
    tiny_step(&cpu.tiny, DIVERGENCE_kl);
    const struct model *model = &cpu.tiny.model;
    const int32_t targets = cpu.tiny.batch.targets;
    const char *worst = "";
    double *got = tiny_read_as(&run.tiny, DTYPE_F32, run.tiny.model.head.logprob, targets);
    double *expected = tiny_read_as(&cpu.tiny, DTYPE_F32, model->head.logprob, targets), most = 0, largest = 0;
    for (int32_t i = 0; i < targets; i++) {
        if (!(fabs(got[i] - expected[i]) <= logprob_bound))
            fail_msg("%s: log-probability %d: %.7g, on the CPU %.7g", engine, (int)i, got[i], expected[i]);
        most = fmax(most, fabs(got[i] - expected[i]));
    }
    free(got), free(expected);
    got = tiny_read(&run.tiny, run.tiny.model.grad, model->elements);
    expected = tiny_read(&cpu.tiny, model->grad, model->elements);
    for (int t = 0; t < model->tensors; t++) {
        const struct model_tensor *tensor = &model->tensor[t];
        const int64_t count = tensor->rows * (tensor->cols ? tensor->cols : 1);
        const double difference = relative_difference(got + tensor->offset, expected + tensor->offset, count);
        if (!(difference <= gradient_bound))
            fail_msg("%s: gradient of %s differs by %.3g", engine, tensor->name, difference);
        if (difference > largest)
            largest = difference, worst = tensor->name;
    }
    print_message("%s, first step: log-probabilities within %.2g, gradients within %.2g (%s)\n", engine, most, largest,
                  worst);
    free(got), free(expected);
    run_close(&run);
    run_close(&cpu);
}

static const char plain[] = "\"tie_word_embeddings\": true,";
static const char with_biases[] = "\"attention_bias\": true, \"mlp_bias\": true,";

static void test_first_step(void **state)
{
    (void)state;
    check_first_step("emu-f32", plain, 2e-5, 2e-5);
    check_first_step("emu-f32", with_biases, 2e-5, 2e-5);
    check_first_step("emu-bf16", plain, 0.15, 0.08);
    check_first_step("emu-bf16", with_biases, 0.15, 0.08);
}

/* One step has the same bits under every schedule of blocks, warps and lanes. */
static void test_schedules(void **state)
{
    (void)state;
    static const char *const engine[] = {"emu-f32", "emu-bf16"};
    for (int e = 0; e < 2; e++) {
        struct tiny tiny;
        tiny_config(temporary, with_biases);
        tiny_open(&tiny, temporary, engine[e], 0, true, 2);
        void *symbol = dlsym(tiny.device.library, "emu_seed_set");
        void (*seed_set)(uint64_t seed);
        memcpy(&seed_set, &symbol, sizeof seed_set);
        const double loss = tiny_step(&tiny, DIVERGENCE_jensen_shannon);
        double *gradient = tiny_read(&tiny, tiny.model.grad, tiny.model.elements);
        for (uint64_t seed = 1; seed <= 5; seed++) {
            if (seed_set) /* a GPU makes its own schedules */
                seed_set(seed);
            const double again = tiny_step(&tiny, DIVERGENCE_jensen_shannon);
            double *other = tiny_read(&tiny, tiny.model.grad, tiny.model.elements);
            assert_memory_equal(&again, &loss, sizeof loss);
            assert_memory_equal(other, gradient, (size_t)tiny.model.elements * sizeof *other);
            free(other);
        }
        if (seed_set)
            seed_set(0);
        free(gradient);
        tiny_close(&tiny);
    }
}

/* |-g*(e)| + |f*(g*(f))| of a run's last loss, at the means over its pairs: the size of what cancels in the loss. */
static double terms_magnitude(struct run *run)
{
    double *totals = tiny_read_as(&run->tiny, DTYPE_F64, run->tiny.totals, SEQUENCE_TOTALS);
    const double e = totals[total_of(ROLE_TEMPLATE, ROLE_PROB)] / totals[total_of(ROLE_TEMPLATE, ROLE_SEQUENCES)];
    const double f = totals[total_of(ROLE_ANSWER, ROLE_PROB)] / totals[total_of(ROLE_ANSWER, ROLE_SEQUENCES)];
    free(totals);
    return e + exp(f - 1); /* DIVERGENCE_kl */
}

/* The loss passes through zero on its way: the float bound is relative to the terms that cancel there, in bf16 it is one
 * on the difference itself. */
static void check_training(const char *engine, bool relative, double bound)
{
    struct run run, cpu;
    double most = 0, first = 0, last = 0;
    tiny_config(temporary, plain);
    pair_open(&run, &cpu, engine);
    for (int step = 1; step <= STEPS; step++) {
        const double loss = run_step(&run), expected = run_step(&cpu);
        const double off = fabs(loss - expected) / (relative ? terms_magnitude(&cpu) : 1);
        if (!(off <= bound))
            fail_msg("%s: loss of step %d is %.9g, on the CPU %.9g", engine, step, loss, expected);
        most = fmax(most, off);
        first = step == 1 ? expected : first;
        last = expected;
    }
    print_message("%s, %d steps: loss %.4f to %.4f, within %.2g%s of the CPU's\n", engine, STEPS, first, last, most,
                  relative ? " (relative to its terms)" : "");
    assert_true(last < first);
    run_close(&run);
    run_close(&cpu);
}

static void test_training(void **state)
{
    (void)state;
    check_training("emu-f32", true, 1e-5);
    check_training("emu-bf16", false, 0.01);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_first_step), cmocka_unit_test(test_schedules),
                                       cmocka_unit_test(test_training)};
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

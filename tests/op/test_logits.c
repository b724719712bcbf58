/* test_logits.c - the loss head of a bf16 model with logits kept in float: log-probabilities within 2e-6 of double on the
 * same logits, and a gradient of the true class that does not cancel as its probability approaches 1.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../kernels/loss_function.h"
#include "../support/tiny_model.h"
#include "../support/tiny_trainer.h"

enum { VOCABULARY = 61, HEADS_MAX = 320 };

static int make(void **state)
{
    return temporary_make(state) || tiny_trainer_make(temporary) ? -1 : 0;
}

static void must(int status, const struct error *error)
{
    if (status)
        fail_msg("status %d: %s", status, error->text);
}

/* A model whose logits are large, so that many rows have one sure class: the final norm's weights grow. */
static void sharp_open(struct tiny *tiny)
{
    tiny_config(temporary, "");
    tiny_open(tiny, temporary, "emu-bf16", 0, true, 8);
    struct model *model = &tiny->model;
    void *at = model_param(model, 0, SLOT_FINAL_NORM_WEIGHT);
    double *weight = tiny_read(tiny, at, model->config.hidden_size);
    for (int64_t i = 0; i < model->config.hidden_size; i++)
        weight[i] *= 12;
    tiny_write(tiny, at, weight, model->config.hidden_size);
    free(weight);
}

/* log p, p and q = 1 - p of each row's target, in double. */
struct exact_head {
    double logprob[HEADS_MAX], p[HEADS_MAX], q[HEADS_MAX];
};

static void reference_make(const double *logits, const int32_t *target, int targets, struct exact_head *r)
{
    for (int i = 0; i < targets; i++) {
        const double *z = logits + i * VOCABULARY, own = z[target[i]];
        double rest = 0;
        for (int v = 0; v < VOCABULARY; v++)
            rest += v == target[i] ? 0 : exp(z[v] - own);
        r->logprob[i] = -log1p(rest);
        r->p[i] = 1 / (1 + rest);
        r->q[i] = rest / (1 + rest);
    }
}

/* Every other row's target becomes its most probable class. */
static void targets_set(struct tiny *tiny, const double *logits)
{
    struct error error = {0};
    int32_t *target = tiny->batch.host.target;
    for (int i = 0; i < tiny->batch.targets; i += 2)
        for (int v = 0; v < VOCABULARY; v++)
            if (logits[i * VOCABULARY + v] > logits[i * VOCABULARY + target[i]])
                target[i] = v;
    must(device_copy_in(&tiny->device, tiny->batch.device.target, target, (size_t)tiny->batch.targets * sizeof *target,
                        &error), &error);
}

static void test_accuracy(void **state)
{
    (void)state;
    struct tiny tiny;
    struct error error = {0};
    struct exact_head expected;
    sharp_open(&tiny);
    tiny_remake(&tiny, &(struct tiny_options){.inference = true, .wide_logits = true});
    struct model *model = &tiny.model;
    struct head_activations *head = &model->head;
    const int targets = tiny.batch.targets;
    assert_in_range(targets, 1, HEADS_MAX);
    assert_int_equal(model->logits_dtype, DTYPE_F32);
    must(model_forward(model, &tiny.batch, &error), &error);
    double *logits = tiny_read_as(&tiny, DTYPE_F32, head->logits, targets * VOCABULARY);
    targets_set(&tiny, logits);
    reference_make(logits, tiny.batch.host.target, targets, &expected);

    /* training, which writes the gradient in place of the logits */
    tiny_remake(&tiny, &(struct tiny_options){.wide_logits = true});
    must(model_forward(model, &tiny.batch, &error), &error);
    double *logprob = tiny_read_as(&tiny, DTYPE_F32, head->logprob, targets);
    double *p = tiny_read_as(&tiny, DTYPE_F32, head->p, targets);
    double *wide = tiny_read_as(&tiny, DTYPE_F32, head->logits, targets * VOCABULARY);
    double *gradient = tiny_read_as(&tiny, DTYPE_BF16, head->dlogits, targets * VOCABULARY);
    int sure = 0, doubtful = 0;
    for (int i = 0; i < targets; i++) {
        const int64_t at = i * VOCABULARY + tiny.batch.host.target[i];
        const double allowed = 1e-6 * (5 + fabs(expected.logprob[i])); /* kernels/logprob.h, in units of 1e-6 */
        if (!(fabs(logprob[i] - expected.logprob[i]) <= fmax(2e-6, 0x1p-24 * fabs(expected.logprob[i]) + 5e-7)))
            fail_msg("row %d: log p is %.9g, in double %.9g", i, logprob[i], expected.logprob[i]);
        assert_true(p[i] <= 1 && fabs(p[i] - expected.p[i]) <= allowed * expected.p[i]);
        if (!(fabs(-wide[at] - expected.q[i]) <= allowed * expected.q[i]))
            fail_msg("row %d: 1 - p is %.9g, the gradient %.9g", i, expected.q[i], -wide[at]);
        if (!(fabs(-gradient[at] - expected.q[i]) <= (0x1p-8 + allowed) * expected.q[i]))
            fail_msg("row %d: 1 - p is %.9g, the gradient in bf16 %.9g", i, expected.q[i], -gradient[at]);
        sure += expected.q[i] < 1e-6;
        doubtful += expected.q[i] > 0.1;
    }
    print_message("%d answer tokens, %d of them with 1 - p below 1e-6\n", targets, sure);
    assert_true(sure >= 3 && doubtful >= 3);
    free(logits), free(logprob), free(p), free(wide), free(gradient);
    tiny_close(&tiny);
}

/* What bf16 logits do to log-probabilities of this size, and float logits do not. */
static void test_against_bf16_logits(void **state)
{
    (void)state;
    struct tiny tiny;
    struct error error = {0};
    double most[2] = {0}, *logprob[2];
    sharp_open(&tiny);
    for (int wide = 0; wide < 2; wide++) {
        tiny_remake(&tiny, &(struct tiny_options){.inference = true, .wide_logits = wide});
        must(model_forward(&tiny.model, &tiny.batch, &error), &error);
        logprob[wide] = tiny_read_as(&tiny, DTYPE_F32, tiny.model.head.logprob, tiny.batch.targets);
    }
    /* the head's product in double, from its bf16 operands */
    const int64_t hidden = tiny.model.config.hidden_size;
    double *x = tiny_read(&tiny, tiny.model.head.norm, tiny.batch.targets * hidden);
    double *w = tiny_read(&tiny, model_param(&tiny.model, 0, SLOT_HEAD_WEIGHT), VOCABULARY * hidden);
    double logits[VOCABULARY];
    for (int i = 0; i < tiny.batch.targets; i++) {
        struct exact_head exact;
        for (int v = 0; v < VOCABULARY; v++) {
            logits[v] = 0;
            for (int64_t k = 0; k < hidden; k++)
                logits[v] += x[i * hidden + k] * w[v * hidden + k];
        }
        reference_make(logits, &tiny.batch.host.target[i], 1, &exact);
        for (int wide = 0; wide < 2; wide++)
            most[wide] = fmax(most[wide], fabs(logprob[wide][i] - exact.logprob[0]));
    }
    print_message("log p off by %.2g with bf16 logits, by %.2g with float logits\n", most[0], most[1]);
    assert_true(most[0] > 0.01); /* or this model shows nothing */
    assert_true(most[1] < 2e-5);
    free(x), free(w), free(logprob[0]), free(logprob[1]);
    tiny_close(&tiny);
}

/* Training with them stays as close to the CPU's as without. */
static void test_training(void **state)
{
    (void)state;
    struct tiny_training cpu = {.engine = "cpu", .dtype = DTYPE_F32, .steps = 10,
                                .settings = {"--learning_rate", "1e-3", "--logits_dtype", "float32"}};
    struct tiny_training emu = cpu;
    emu.engine = "emu", emu.dtype = DTYPE_BF16;
    tiny_train(&cpu, temporary);
    tiny_train(&emu, temporary);
    for (int i = 0; i < cpu.steps; i++)
        if (!(fabs(emu.record[i].loss - cpu.record[i].loss) <= 0.02 * cpu.record[i].loss))
            fail_msg("step %d: loss %.9g on emu, %.9g on cpu", i + 1, emu.record[i].loss, cpu.record[i].loss);
    free(cpu.before), free(cpu.after), free(emu.before), free(emu.after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_accuracy), cmocka_unit_test(test_against_bf16_logits),
                                       cmocka_unit_test(test_training)};
    return cmocka_run_group_tests(tests, make, temporary_remove);
}

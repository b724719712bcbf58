/* test_adamw.c - the update against torch.optim.AdamW written out in double, over several steps and all ways to store
 * its arrays; weights in halves against whole floats, bit for bit; clipping; a non-finite gradient leaves every bit and the
 * count of updates; a learning rate that moves; odd addresses; bits for any order of events; counted bytes.
 */
#include "../support/op_test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../host/util/float16.h"

#define BETA1 0.9
#define BETA2 0.95
#define EPS 1e-8
#define RATE 0.01

/* How the arrays are stored: gradients in stat or in dtype, bf16 weights with or without their lower halves. */
struct mode {
    bool wide_grad, low;
};

struct state {
    void *param, *m, *v;
    uint16_t *low;
    double *sum_squares;
    struct adamw_state *adamw;
    enum dtype grad_dtype;
};

/* The weights become halves of these, in float. */
static void weights_split(struct op_test *t, struct state *s, const double *weight, int64_t n)
{
    uint16_t *high = malloc((size_t)n * sizeof *high), *low = malloc((size_t)n * sizeof *low);
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = float_to_bits((float)weight[i]);
        high[i] = (uint16_t)split_high(bits), low[i] = (uint16_t)bits;
    }
    s->param = device_bytes(t, high, (size_t)n * sizeof *high);
    s->low = device_bytes(t, low, (size_t)n * sizeof *low);
    free(high);
    free(low);
}

static struct state state_make(struct op_test *t, const struct mode *mode, int64_t n)
{
    const struct adamw_state start = {0};
    double zero = 0, *zeros = values_new(t, n), *weight = values_random(t, n, 1);
    for (int64_t i = 0; i < n; i++)
        zeros[i] = 0;
    struct state s = {device_from(t, t->dtype, weight, n), device_from(t, t->stat, zeros, n),
                      device_from(t, t->stat, zeros, n), NULL, device_from(t, DTYPE_F64, &zero, 1),
                      device_bytes(t, &start, sizeof start), mode->wide_grad ? t->stat : t->dtype};
    if (mode->low)
        weights_split(t, &s, weight, n);
    return s;
}

/* The floats whose halves the weights are. */
static double *weights_join(struct op_test *t, const struct state *s, int64_t n)
{
    double *weight = values_new(t, n);
    uint16_t *high = malloc((size_t)n * sizeof *high), *low = malloc((size_t)n * sizeof *low);
    op_test_status(t, "copy_out", t->engine->copy_out(t->context, high, s->param, (size_t)n * sizeof *high));
    op_test_status(t, "copy_out", t->engine->copy_out(t->context, low, s->low, (size_t)n * sizeof *low));
    for (int64_t i = 0; i < n; i++)
        weight[i] = (double)float_from_bits(split_join(high[i], low[i]));
    free(high);
    free(low);
    return weight;
}

/* Learning rate of an update: another one each time. */
static double rate_of(int64_t step) { return RATE / (double)step; }

/* adamw_prepare for an update whose gradients were summed. */
static void prepare(struct op_test *t, struct state *s, double learning_rate, double max_grad_norm)
{
    op_test_status(t, "copy_in", t->engine->copy_in(t->context, &s->adamw->learning_rate, &learning_rate,
                                                    sizeof learning_rate));
    OP_CALL(t, adamw_prepare, adamw_prepare_args, .sum_squares = s->sum_squares, .max_grad_norm = max_grad_norm,
            .beta1 = BETA1, .beta2 = BETA2, .state = s->adamw);
}

static struct adamw_state state_read(struct op_test *t, const struct state *s)
{
    struct adamw_state read;
    op_test_status(t, "copy_out", t->engine->copy_out(t->context, &read, s->adamw, sizeof read));
    return read;
}

static void step_run(struct op_test *t, struct state *s, int64_t n, const double *gradient, int64_t step,
                     double max_grad_norm, double weight_decay)
{
    void *grad = device_from(t, s->grad_dtype, gradient, n);
    OP_CALL(t, adamw_norm, adamw_norm_args, .grad_dtype = s->grad_dtype, .n = n, .grad = grad,
            .sum_squares = s->sum_squares);
    prepare(t, s, rate_of(step), max_grad_norm);
    OP_CALL(t, adamw_step, adamw_args, .dtype = t->dtype, .grad_dtype = s->grad_dtype, .n = n, .param = s->param,
            .grad = grad, .m = s->m, .v = s->v, .low = s->low, .state = s->adamw, .beta1 = BETA1, .beta2 = BETA2,
            .eps = EPS, .weight_decay = weight_decay);
}

/* Four steps on the engine against the formula; without lower halves the weights are rounded after each step. */
static void torch_check(struct op_test *t, const struct mode *mode, int64_t n, double max_grad_norm,
                        double weight_decay)
{
    struct state s = state_make(t, mode, n);
    double *w = values_random(t, n, 1), *m = values_new(t, n), *v = values_new(t, n);
    for (int64_t k = 0; k < n; k++)
        m[k] = v[k] = 0;
    for (int64_t step = 1; step <= 4; step++) {
        double *g = values_random(t, n, 10 + (uint64_t)step), clip = 1;
        double norm = sqrt(dot_product(g, g, n));
        if (max_grad_norm > 0)
            clip = fmin(1, max_grad_norm / (norm + 1e-6));
        step_run(t, &s, n, g, step, max_grad_norm, weight_decay);
        double got_norm = sqrt(*values_from(t, DTYPE_F64, s.sum_squares, 1));
        assert_close("norm", &got_norm, &norm, 1, 0, 1e-12);
        for (int64_t k = 0; k < n; k++) {
            w[k] *= 1 - rate_of(step) * weight_decay;
            m[k] = BETA1 * m[k] + (1 - BETA1) * clip * g[k];
            v[k] = BETA2 * v[k] + (1 - BETA2) * clip * clip * g[k] * g[k];
            w[k] -= rate_of(step) / (1 - pow(BETA1, (double)step)) * m[k] /
                    (sqrt(v[k]) / sqrt(1 - pow(BETA2, (double)step)) + EPS);
        }
        if (!mode->low)
            values_round(t->dtype, w, n);
    }
    double *param = values_from(t, t->dtype, s.param, n);
    if (mode->low) { /* the parameters are the floats, rounded */
        double *whole = weights_join(t, &s, n);
        assert_close("weights", whole, w, n, 0.25 * t->eps, 4 * t->eps);
        assert_close("param", param, whole, n, 0, t->rounding);
    } else { /* in bf16 a step may be rounded the other way, four times */
        bool narrow = t->dtype == DTYPE_BF16;
        assert_close("param", param, w, n, 0.25 * t->eps, 4 * t->eps + (narrow ? 8 * t->rounding : 0));
    }
    assert_close("m", values_from(t, t->stat, s.m, n), m, n, 4 * t->eps, 8 * t->eps);
    assert_close("v", values_from(t, t->stat, s.v, n), v, n, 0, 32 * t->eps);
}

static void test_torch(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 7, 100, 16384, 50001};
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < 60; i++) {
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            struct mode mode = {i / 15 & 1, i / 15 & 2};
            if (t->dtype == DTYPE_BF16 || i < 15) /* elsewhere the modes are one */
                torch_check(t, &mode, sizes[i / 3 % 5], (double[]){0, 1, 1e9}[i % 3], i % 2 ? 0.1 : 0);
            op_test_close(t);
        }
}

/* In arrays that begin at an odd address the update is that of the aligned case, bit for bit. */
static void test_odd_addresses(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 2);
        const int64_t n = 5000, size = (int64_t)dtype_size(t->dtype);
        struct state even = state_make(t, &(struct mode){0}, n), odd = state_make(t, &(struct mode){0}, n);
        double *g = values_random(t, n, 3);
        char *param = (char *)device_new(t, t->dtype, n + 1) + size;
        char *grad = (char *)device_new(t, t->dtype, n + 1) + size;
        device_set(t, t->dtype, param, values_random(t, n, 1), n);
        device_set(t, t->dtype, grad, g, n);
        step_run(t, &even, n, g, 1, 0, 0.1);
        OP_CALL(t, adamw_norm, adamw_norm_args, .grad_dtype = t->dtype, .n = n, .grad = grad,
                .sum_squares = odd.sum_squares);
        prepare(t, &odd, rate_of(1), 0);
        OP_CALL(t, adamw_step, adamw_args, .dtype = t->dtype, .grad_dtype = t->dtype, .n = n, .param = param,
                .grad = grad, .m = odd.m, .v = odd.v, .state = odd.adamw, .beta1 = BETA1, .beta2 = BETA2, .eps = EPS,
                .weight_decay = 0.1);
        assert_same("param", values_from(t, t->dtype, param, n), values_from(t, t->dtype, even.param, n), n);
        assert_close("sum_squares", values_from(t, DTYPE_F64, odd.sum_squares, 1),
                     values_from(t, DTYPE_F64, even.sum_squares, 1), 1, 0, 1e-13);
        op_test_close(t);
    }
}

static void test_nonfinite(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < 3; i++) {
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            int64_t n = 40000;
            const struct mode mode = {.low = t->dtype == DTYPE_BF16};
            struct state s = state_make(t, &mode, n);
            double *g = values_random(t, n, 3);
            step_run(t, &s, n, g, 1, 1, 0.1);
            double *param = values_from(t, t->dtype, s.param, n), *m = values_from(t, t->stat, s.m, n);
            double *v = values_from(t, t->stat, s.v, n);
            double *whole = s.low ? weights_join(t, &s, n) : NULL;
            g[i == 0 ? 0 : n - 1] = (double[]){NAN, INFINITY, -INFINITY}[i];
            step_run(t, &s, n, g, 2, 1, 0.1);
            assert_false(isfinite(*values_from(t, DTYPE_F64, s.sum_squares, 1)));
            assert_same("param", values_from(t, t->dtype, s.param, n), param, n);
            assert_same("m", values_from(t, t->stat, s.m, n), m, n);
            assert_same("v", values_from(t, t->stat, s.v, n), v, n);
            const struct adamw_state skipped = state_read(t, &s);
            assert_true(skipped.skip && skipped.updates == 1);
            if (whole)
                assert_same("weights", weights_join(t, &s, n), whole, n);
            op_test_close(t);
        }
}

/* The count goes on where the run stopped, and after a skipped update; a step of several arenas counts once. */
static void test_state(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        struct state s = state_make(t, &(struct mode){0}, 1);
        const struct adamw_state before = {.updates = 41};
        const double sums[] = {25, NAN, 25};
        op_test_status(t, "copy_in", t->engine->copy_in(t->context, s.adamw, &before, sizeof before));
        for (int i = 0; i < 3; i++) {
            device_set(t, DTYPE_F64, s.sum_squares, &sums[i], 1);
            prepare(t, &s, RATE, 2);
            const struct adamw_state now = state_read(t, &s);
            const int64_t updates = i == 2 ? 43 : 42;
            assert_int_equal(now.updates, updates);
            assert_int_equal(now.skip, i == 1);
            const double got[] = {now.learning_rate, now.clip, now.rate, now.correction};
            const double expected[] = {RATE, 2 / (5 + 1e-6), RATE / (1 - pow(BETA1, (double)updates)),
                                       1 / sqrt(1 - pow(BETA2, (double)updates))};
            assert_close("state", got, expected, 4, 0, 1e-14);
        }
        prepare(t, &s, RATE, 0);
        assert_true(state_read(t, &s).clip == 1);
        op_test_close(t);
    }
}

/* Every upper half, with lower halves at and beside the tie: joined again it is the same float, and the upper half alone is as
 * near as a bf16 can be. A NaN stays one. */
static void test_halves(void **state)
{
    (void)state;
    static const uint32_t lower[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    for (uint32_t upper = 0; upper <= 0xffff; upper++)
        for (int i = 0; i < 6; i++) {
            const uint32_t bits = upper << 16 | lower[i], high = split_high(bits), joined = split_join(high, lower[i]);
            const float value = float_from_bits(bits), rounded = float_from_bits(high << 16);
            assert_true(high <= 0xffff);
            if (isnan(value)) {
                assert_true(isnan(float_from_bits(joined)) && isnan(rounded));
                continue;
            }
            assert_true(joined == bits);
            if (lower[i] == 0x8000) /* a tie goes away from zero */
                assert_true(high == upper + 1);
            else
                assert_true(high == bf16_from_float(value));
        }
}

/* Bf16 weights and their lower halves go the way of float weights, bit for bit: the same kernels, the same gradients. */
static void test_same_as_float(void **state)
{
    (void)state;
    enum { STEPS = 20 };
    const int64_t n = 50001;
    for (int wide = 0; wide < 2; wide++) {
        struct op_test *narrow = op_test_open("emu-bf16", 1), *whole = op_test_open("emu-f32", 1);
        struct state halves = state_make(narrow, &(struct mode){wide, true}, n);
        struct state floats = state_make(whole, &(struct mode){true}, n);
        weights_split(narrow, &halves, values_random(whole, n, 1), n);
        floats.grad_dtype = halves.grad_dtype;
        for (int64_t step = 1; step <= STEPS; step++) {
            double *g = values_random(wide ? whole : narrow, n, 100 + (uint64_t)step);
            step_run(narrow, &halves, n, g, step, 1, 0.1);
            step_run(whole, &floats, n, g, step, 1, 0.1);
        }
        assert_same("weights", weights_join(narrow, &halves, n), values_from(whole, DTYPE_F32, floats.param, n), n);
        assert_same("m", values_from(narrow, DTYPE_F32, halves.m, n), values_from(whole, DTYPE_F32, floats.m, n), n);
        assert_same("v", values_from(narrow, DTYPE_F32, halves.v, n), values_from(whole, DTYPE_F32, floats.v, n), n);
        op_test_close(narrow);
        op_test_close(whole);
    }
}

static void test_accumulate(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        const double g[] = {3, -4, 12}, start = 0.5;
        double *sum_squares = device_from(t, DTYPE_F64, &start, 1), expected = 169.5;
        void *grad = device_from(t, t->dtype, g, 3);
        OP_CALL(t, adamw_norm, adamw_norm_args, .grad_dtype = t->dtype, .n = 3, .grad = grad,
                .sum_squares = sum_squares, .accumulate = true);
        assert_same("sum_squares", values_from(t, DTYPE_F64, sum_squares, 1), &expected, 1);
        expected = 0;
        OP_CALL(t, adamw_norm, adamw_norm_args, .grad_dtype = t->dtype, .n = 0, .sum_squares = sum_squares);
        assert_same("sum_squares of nothing", values_from(t, DTYPE_F64, sum_squares, 1), &expected, 1);
        op_test_close(t);
    }
}

static void bits_run(struct op_test *t, void *user, double *out)
{
    const int64_t n = *(int64_t *)user;
    struct state s = state_make(t, &(struct mode){.low = t->dtype == DTYPE_BF16}, n);
    step_run(t, &s, n, values_random(t, n, 3), 1, 1, 0.1);
    memcpy(out, values_from(t, t->dtype, s.param, n), (size_t)n * sizeof *out);
    memcpy(out + n, values_from(t, DTYPE_F64, s.sum_squares, 1), sizeof *out);
}

static void test_same_bits(void **state)
{
    (void)state;
    int64_t n = 5 * 16384 + 77;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        op_test_same_bits(op_test_engines[e], n + 1, bits_run, &n);
}

static void test_bytes(void **state)
{
    (void)state;
    const int64_t n = 100000;
    for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < 4; i++) {
            struct op_test *t = op_test_open(op_test_engines[e], 1);
            struct state s = state_make(t, &(struct mode){i & 1, (i & 2) && t->dtype == DTYPE_BF16}, n);
            double *g = values_random(t, n, 3);
            op_test_bytes_begin(t);
            step_run(t, &s, n, g, 1, 1, 0.1);
            op_test_bytes_check(t, "adamw_norm and adamw_step",
                                OP_BYTES(adamw_norm, adamw_norm_args, .grad_dtype = s.grad_dtype, .n = n) +
                                    OP_BYTES(adamw_step, adamw_args, .dtype = t->dtype, .grad_dtype = s.grad_dtype, .n = n,
                                             .low = s.low), 0.05);
            op_test_close(t);
        }
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        struct state s = state_make(t, &(struct mode){0}, 4);
        struct adamw_args good = {.dtype = t->dtype, .grad_dtype = t->dtype, .n = 4, .param = s.param, .grad = s.param,
                                  .m = s.m, .v = s.v, .state = s.adamw};
        struct adamw_args bad[5];
        for (int i = 0; i < 5; i++)
            bad[i] = good;
        bad[0].dtype = DTYPE_F16;
        bad[1].state = NULL;
        bad[2].v = NULL;
        bad[3].n = -1;
        bad[4].dtype = t->stat; /* float weights are whole */
        bad[4].low = s.param;
        for (int i = 0; i < 5; i++)
            op_test_refused(t, "adamw_step", t->engine->adamw_step(t->context, &bad[i]));
        OP_REFUSES(t, adamw_prepare, adamw_prepare_args, .sum_squares = s.sum_squares);
        OP_REFUSES(t, adamw_prepare, adamw_prepare_args, .state = s.adamw);
        OP_REFUSES(t, adamw_norm, adamw_norm_args, .grad_dtype = t->dtype, .n = 4, .grad = s.param);
        OP_REFUSES(t, adamw_norm, adamw_norm_args, .grad_dtype = DTYPE_F16, .n = 4, .grad = s.param,
                   .sum_squares = s.sum_squares);
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_torch), cmocka_unit_test(test_odd_addresses),
                                       cmocka_unit_test(test_nonfinite), cmocka_unit_test(test_state),
                                       cmocka_unit_test(test_halves), cmocka_unit_test(test_same_as_float), cmocka_unit_test(test_accumulate), cmocka_unit_test(test_same_bits),
                                       cmocka_unit_test(test_bytes), cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

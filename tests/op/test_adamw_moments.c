/* test_adamw_moments.c - AdamW with moments in bf16 and in 8 bits: every step against the formula in double from the moments that
 * the step before has left, and what it leaves against what may be left of that; Philox, random rounding and the dynamic map
 * against published answers and bitsandbytes; arenas in one call and in several; bits, bytes, refusals.
 */
#include "../support/metric_golden.h"
#include "../support/op_test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../host/util/float16.h"

#define BETA1 0.9
#define BETA2 0.999
#define EPS 1e-8
#define RATE 0.01
#define DECAY 0.1
#define SEED 42

static int64_t blocks_of(int64_t n) { return (n + DYNAMIC_BLOCK - 1) / DYNAMIC_BLOCK; }

/* ---- bits -------------------------------------------------------------------------------------------------------- */

/* Known answers of Random123's kat_vectors for philox4x32 10. */
static void test_philox(void **state)
{
    (void)state;
    static const struct {
        uint64_t key, low, high;
        uint32_t expected[4];
    } cases[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t got[4];
        philox4x32(cases[i].key, cases[i].low, cases[i].high, got);
        assert_memory_equal(got, cases[i].expected, sizeof got);
    }
}

static float rounded(float value, uint32_t draw) { return float_from_bits(round_random(float_to_bits(value), draw) << 16); }

/* Of all 65,536 draws, the share that goes up is exactly the distance to the bf16 below. */
static void test_round_random(void **state)
{
    (void)state;
    static const float value[] = {1.0f, 1.00390625f, 1.001f, 1.999f, -3.14159f, 1e-40f, -1e-44f, 1e30f, 0.0f};
    for (size_t i = 0; i < sizeof value / sizeof *value; i++) {
        double sum = 0;
        for (uint32_t draw = 0; draw <= 0xffff; draw++)
            sum += rounded(value[i], draw);
        const double mean = sum / 65536, expected = value[i];
        assert_close("mean", &mean, &expected, 1, 1e-45, 1e-12);
    }
    for (uint32_t draw = 0; draw <= 0xffff; draw += 0xff) {
        assert_true(isfinite(rounded(3.4e38f, draw)) && rounded(INFINITY, draw) == INFINITY);
        assert_true(isnan(rounded(NAN, draw)) && isnan(rounded(float_from_bits(0xffffffff), draw)));
        assert_true(isnan(rounded(float_from_bits(0x7f800001), draw)));
    }
}

/* The nearest of the positive levels by looking at all of them. */
static int nearest_naive(const float *level, int count, float x)
{
    int best = 0;
    for (int i = 1; i < count; i++)
        if (x > 0.5f * (level[i - 1] + level[i]))
            best = i;
    return best;
}

static void check_code(const struct dynamic_map *map, float x)
{
    const int with = nearest_naive(map->with_sign + 127, 129, x), without = nearest_naive(map->without_sign, 256, x);
    assert_int_equal(dynamic_code_with_sign(map->with_sign, x), 127 + with);
    assert_int_equal(dynamic_code_with_sign(map->with_sign, -x), x > 0 ? 127 - (with < 127 ? with : 127) : 127);
    assert_int_equal(dynamic_code_without_sign(map->without_sign, x), without || x == 0 ? without : 1);
}

static void test_map(void **state)
{
    (void)state;
    struct dynamic_map map;
    dynamic_map_fill(&map);
    for (int i = 0; i < 255; i++) {
        assert_true(map.with_sign[i] < map.with_sign[i + 1] && map.without_sign[i] < map.without_sign[i + 1]);
        const float middle[] = {0.5f * (map.with_sign[i] + map.with_sign[i + 1]), map.with_sign[i],
                                0.5f * (map.without_sign[i] + map.without_sign[i + 1]), map.without_sign[i]};
        for (int k = 0; k < 4; k++)
            for (int step = -3; step <= 3; step++) {
                float x = fabsf(middle[k]);
                for (int s = 0; s < abs(step); s++)
                    x = nextafterf(x, step < 0 ? 0.0f : 2.0f);
                if (x <= 1)
                    check_code(&map, x);
            }
    }
    uint64_t random = 7;
    for (int i = 0; i < 20000; i++)
        check_code(&map, (float)pow(10, -9 * uniform_next(&random)));
    for (int decade = -12; decade <= 0; decade++)
        check_code(&map, (float)pow(10, decade));
    assert_int_equal(dynamic_code_with_sign(map.with_sign, NAN), 127);
    assert_int_equal(dynamic_code_without_sign(map.without_sign, INFINITY), 255);
}

/* ---- steps ------------------------------------------------------------------------------------------------------- */

struct arrays {
    enum adamw_moments moments;
    int64_t n, first;
    void *param, *m, *v;
    float *m_scale, *v_scale;
    uint16_t *low;
    double *sum_squares;
    struct adamw_state *adamw;
};

static void *zeros(struct op_test *t, size_t bytes)
{
    void *zero = calloc(bytes ? bytes : 1, 1), *device = device_bytes(t, zero, bytes);
    free(zero);
    return device;
}

static struct arrays arrays_make(struct op_test *t, enum adamw_moments moments, const double *weight, int64_t n)
{
    const size_t size = moments == ADAMW_BF16 ? 2 : 1, scales = (size_t)blocks_of(n) * sizeof(float);
    return (struct arrays){.moments = moments, .n = n, .param = device_from(t, t->dtype, weight, n),
                           .m = zeros(t, (size_t)n * size), .v = zeros(t, (size_t)n * size),
                           .m_scale = zeros(t, scales), .v_scale = zeros(t, scales),
                           .low = t->dtype == DTYPE_BF16 ? zeros(t, (size_t)n * sizeof(uint16_t)) : NULL,
                           .sum_squares = zeros(t, sizeof(double)), .adamw = zeros(t, sizeof(struct adamw_state))};
}

/* Elements [from, from + n) of the arrays. */
static void part_step(struct op_test *t, const struct arrays *a, const void *grad, int64_t from, int64_t n)
{
    const size_t size = a->moments == ADAMW_BF16 ? 2 : 1, s = dtype_size(t->dtype);
    OP_CALL(t, adamw_step, adamw_args, .dtype = t->dtype, .grad_dtype = t->dtype, .n = n,
            .param = (char *)a->param + (size_t)from * s, .grad = (const char *)grad + (size_t)from * s,
            .moments = a->moments, .m = (char *)a->m + (size_t)from * size, .v = (char *)a->v + (size_t)from * size,
            .m_scale = a->m_scale + from / DYNAMIC_BLOCK, .v_scale = a->v_scale + from / DYNAMIC_BLOCK,
            .first = a->first + from, .seed = SEED, .low = a->low ? a->low + from : NULL, .state = a->adamw, .beta1 = BETA1,
            .beta2 = BETA2, .eps = EPS, .weight_decay = DECAY);
}

/* A whole step, the update in one call or cut at `cut`. */
static void step_run(struct op_test *t, const struct arrays *a, const double *gradient, int64_t cut)
{
    const double rate = RATE;
    void *grad = device_from(t, t->dtype, gradient, a->n);
    OP_CALL(t, adamw_norm, adamw_norm_args, .grad_dtype = t->dtype, .n = a->n, .grad = grad, .sum_squares = a->sum_squares);
    op_test_status(t, "copy_in", t->engine->copy_in(t->context, &a->adamw->learning_rate, &rate, sizeof rate));
    OP_CALL(t, adamw_prepare, adamw_prepare_args, .sum_squares = a->sum_squares, .beta1 = BETA1, .beta2 = BETA2,
            .state = a->adamw);
    part_step(t, a, grad, 0, cut);
    part_step(t, a, grad, cut, a->n - cut);
}

static void *bytes_from(struct op_test *t, const void *device, size_t bytes)
{
    void *host = malloc(bytes);
    op_test_status(t, "copy_out", t->engine->copy_out(t->context, host, device, bytes));
    return host;
}

/* What a moment is, as numbers. */
static double *moment_from(struct op_test *t, const struct arrays *a, bool second)
{
    if (a->moments == ADAMW_BF16)
        return values_from(t, DTYPE_BF16, second ? a->v : a->m, a->n);
    struct dynamic_map map;
    dynamic_map_fill(&map);
    double *value = values_new(t, a->n);
    uint8_t *code = bytes_from(t, second ? a->v : a->m, (size_t)a->n);
    float *scale = bytes_from(t, second ? a->v_scale : a->m_scale, (size_t)blocks_of(a->n) * sizeof(float));
    for (int64_t i = 0; i < a->n; i++)
        value[i] = (second ? map.without_sign[code[i]] : map.with_sign[code[i]]) * scale[i / DYNAMIC_BLOCK];
    free(code);
    free(scale);
    return value;
}

static double *weights_from(struct op_test *t, const struct arrays *a)
{
    double *weight = values_from(t, t->dtype, a->param, a->n);
    if (!a->low)
        return weight;
    uint16_t *high = bytes_from(t, a->param, (size_t)a->n * 2), *low = bytes_from(t, a->low, (size_t)a->n * 2);
    for (int64_t i = 0; i < a->n; i++)
        weight[i] = float_from_bits(split_join(high[i], low[i]));
    free(high);
    free(low);
    return weight;
}

/* Stored bf16 are neighbours of what they stand for, and not on average above or below it. */
static void check_bf16(const char *what, const double *got, const double *expected, int64_t n)
{
    double bias = 0, most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs(expected[i]));
    for (int64_t i = 0; i < n; i++) {
        if (fabs(expected[i]) < 1e-3 * most) /* what cancelled in float, or is 0 */
            continue;
        const double spacing = ldexp(1, ilogb(expected[i]) - 7), off = (got[i] - expected[i]) / spacing;
        if (!(fabs(off) <= 1.001))
            fail_msg("%s[%lld]: %.9g stands for %.9g", what, (long long)i, got[i], expected[i]);
        bias += off;
    }
    if (!(fabs(bias) <= 3 * sqrt((double)n))) /* the deviation of one is below a half */
        fail_msg("%s: %.3g spacings off on average", what, bias / (double)n);
}

/* The largest of a block is exact but for float, and no code is further off than a level next to it would be. */
static void check_8bit(const char *what, bool second, const double *got, const double *expected, int64_t n)
{
    struct dynamic_map map;
    dynamic_map_fill(&map);
    for (int64_t begin = 0; begin < n; begin += DYNAMIC_BLOCK) {
        const int64_t end = begin + DYNAMIC_BLOCK < n ? begin + DYNAMIC_BLOCK : n;
        double most = 0;
        for (int64_t i = begin; i < end; i++)
            most = fmax(most, fabs(expected[i]));
        for (int64_t i = begin; i < end && most > 0; i++) {
            const float x = (float)fmin(1, fabs(expected[i]) / most);
            const int count = second ? 256 : 129;
            const float *level = second ? map.without_sign : map.with_sign + 127;
            const bool top = !second && expected[i] < 0; /* -1 is no level */
            int at = nearest_naive(level, count, x);
            at = top && at == 128 ? 127 : second && at == 0 && x > 0 ? 1 : at;
            const double off = fabs(fabs(got[i]) / most - x), best = fabs((double)level[at] - x);
            if (!(off <= best + 1e-6 * fmax(x, fabs((double)level[at]))) || (got[i] != 0 && (got[i] < 0) != (expected[i] < 0)))
                fail_msg("%s[%lld]: %.9g stands for %.9g of at most %.9g", what, (long long)i, got[i], expected[i], most);
        }
    }
}

static void check_steps(struct op_test *t, enum adamw_moments moments, int64_t n)
{
    double *weight = values_random(t, n, 1);
    struct arrays a = arrays_make(t, moments, weight, n);
    for (int64_t step = 1; step <= 5; step++) {
        double *m = moment_from(t, &a, false), *v = moment_from(t, &a, true), *w = weights_from(t, &a);
        double *g = values_random(t, n, 10 + (uint64_t)step);
        for (int64_t i = 0; i < n; i += 3) /* some small, some 0 */
            g[i] *= i % 2 ? 0x1p-9 : 0;
        step_run(t, &a, g, n);
        for (int64_t i = 0; i < n; i++) {
            m[i] = BETA1 * m[i] + (1 - BETA1) * g[i];
            v[i] = BETA2 * v[i] + (1 - BETA2) * g[i] * g[i];
            w[i] -= RATE * DECAY * w[i] + RATE / (1 - pow(BETA1, (double)step)) * m[i] /
                                              (sqrt(v[i]) / sqrt(1 - pow(BETA2, (double)step)) + EPS);
        }
        const double float_eps = fmax(t->eps, 0x1p-23); /* the moments come from floats on every engine */
        assert_close("weights", weights_from(t, &a), w, n, 4 * RATE * float_eps * 100, 8 * float_eps);
        if (moments == ADAMW_BF16) {
            check_bf16("m", moment_from(t, &a, false), m, n);
            check_bf16("v", moment_from(t, &a, true), v, n);
        } else {
            check_8bit("m", false, moment_from(t, &a, false), m, n);
            check_8bit("v", true, moment_from(t, &a, true), v, n);
        }
    }
}

static void test_steps(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 7, 255, 256, 1000, 20001};
    for (int e = 0; e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < 12; i++) {
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            check_steps(t, i % 2 ? ADAMW_8BIT : ADAMW_BF16, sizes[i / 2]);
            op_test_close(t);
        }
}

/* In bf16 a second moment that grows by less than half its spacing each step still gets where it should. */
static void test_small_changes(void **state)
{
    (void)state;
    enum { N = 512, STEPS = 400 };
    for (int e = 0; e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        double weight[N] = {0}, g[N], mean = 0;
        for (int i = 0; i < N; i++)
            g[i] = 1;
        struct arrays a = arrays_make(t, ADAMW_BF16, weight, N);
        for (int step = 0; step < STEPS; step++)
            step_run(t, &a, g, N);
        const double *v = moment_from(t, &a, true), expected = 1 - pow(BETA2, STEPS);
        for (int i = 0; i < N; i++)
            mean += v[i] / N;
        assert_close("mean of v", &mean, &expected, 1, 0, 0.005);
        op_test_close(t);
    }
}

/* Several calls over parts are one call over all: what the ranks and the two kinds of weight decay make of it. */
static void test_parts(void **state)
{
    (void)state;
    enum { N = 5000 };
    for (int e = 0; e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < 6; i++) {
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            const enum adamw_moments moments = i < 4 ? ADAMW_BF16 : ADAMW_8BIT;
            const int64_t cut = (int64_t[]){16, 17, 4999, 2, 256, 4864}[i];
            double *weight = values_random(t, N, 1);
            struct arrays whole = arrays_make(t, moments, weight, N), parts = arrays_make(t, moments, weight, N);
            whole.first = parts.first = i == 3 ? 5 : 512;
            for (uint64_t step = 1; step <= 3; step++) {
                step_run(t, &whole, values_random(t, N, step), N);
                step_run(t, &parts, values_random(t, N, step), cut);
            }
            assert_same("m", moment_from(t, &parts, false), moment_from(t, &whole, false), N);
            assert_same("v", moment_from(t, &parts, true), moment_from(t, &whole, true), N);
            assert_same("weights", weights_from(t, &parts), weights_from(t, &whole), N);
            op_test_close(t);
        }
}

/* ---- bitsandbytes ------------------------------------------------------------------------------------------------ */

static double *golden_values(struct op_test *t, const cJSON *golden, const char *key, int64_t n)
{
    const cJSON *list = expected_list(golden, key), *item;
    double *value = values_new(t, n);
    int64_t i = 0;
    assert_int_equal(cJSON_GetArraySize(list), n);
    cJSON_ArrayForEach(item, list)
        value[i++] = item->valuedouble;
    return value;
}

static void check_golden(struct op_test *t, const cJSON *golden)
{
    const int64_t n = (int64_t)cJSON_GetObjectItem(golden, "count")->valuedouble;
    const int steps = (int)cJSON_GetObjectItem(golden, "steps")->valuedouble;
    struct dynamic_map map;
    double *level[2] = {values_new(t, 256), values_new(t, 256)}, *weight = values_new(t, n), *g = values_new(t, n);
    dynamic_map_fill(&map);
    for (int i = 0; i < 256; i++)
        level[0][i] = map.with_sign[i], level[1][i] = map.without_sign[i];
    assert_close("levels with sign", level[0], golden_values(t, golden, "with_sign", 256), 256, 0, 1.5e-7);
    assert_close("levels without sign", level[1], golden_values(t, golden, "without_sign", 256), 256, 0, 1.5e-7);
    for (int64_t i = 0; i < n; i++)
        weight[i] = cos(0.7 * (double)i);
    struct arrays a = arrays_make(t, ADAMW_8BIT, weight, n);
    for (int step = 1; step <= steps; step++) {
        for (int64_t i = 0; i < n; i++)
            g[i] = sin(1.37 * (double)i + 2.1 * step) * pow(10, -2.5 * (double)(i * 7 % 11) / 10);
        step_run(t, &a, g, n);
    }
    double *expected = golden_values(t, golden, "weights", n), *got = weights_from(t, &a);
    double *codes[2] = {golden_values(t, golden, "m", n), golden_values(t, golden, "v", n)};
    int64_t differ = 0;
    for (int second = 0; second < 2; second++) {
        uint8_t *code = bytes_from(t, second ? a.v : a.m, (size_t)n);
        for (int64_t i = 0; i < n; i++)
            differ += code[i] != codes[second][i];
        free(code);
    }
    const int64_t blocks = blocks_of(n);
    print_message("%s: %lld of %lld codes differ from bitsandbytes'\n", t->name, (long long)differ, 2 * (long long)n);
    assert_true(differ <= n / 100); /* where float32 falls on the other side of the middle between two levels */
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(got[i] - expected[i]) <= 2e-4))
            fail_msg("weight %lld: %.9g, bitsandbytes has %.9g", (long long)i, got[i], expected[i]);
    assert_close("scales of m", values_from(t, DTYPE_F32, a.m_scale, blocks), golden_values(t, golden, "m_scale", blocks), blocks,
                 0, 1e-5);
    assert_close("scales of v", values_from(t, DTYPE_F32, a.v_scale, blocks), golden_values(t, golden, "v_scale", blocks), blocks,
                 0, 1e-5);
}

/* Float engines: the golden gradients are float32. */
static void test_golden(void **state)
{
    (void)state;
    cJSON *golden = expected_read("tests/golden", "adamw_8bit.json");
    for (int e = 0; e < OP_TEST_VARIANTS - 1; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 2);
        check_golden(t, golden);
        op_test_close(t);
    }
    cJSON_Delete(golden);
}

/* ---- bits, bytes, refusals --------------------------------------------------------------------------------------- */

enum { SAME = 3 * 16384 + 77 };

static void bits_run(struct op_test *t, void *user, double *out)
{
    struct arrays a = arrays_make(t, *(enum adamw_moments *)user, values_random(t, SAME, 1), SAME);
    step_run(t, &a, values_random(t, SAME, 3), SAME);
    memcpy(out, weights_from(t, &a), SAME * sizeof *out);
    memcpy(out + SAME, moment_from(t, &a, false), SAME * sizeof *out);
    memcpy(out + 2 * SAME, moment_from(t, &a, true), SAME * sizeof *out);
}

static void test_same_bits(void **state)
{
    (void)state;
    for (enum adamw_moments moments = ADAMW_BF16; moments <= ADAMW_8BIT; moments++)
        for (int e = 0; e < OP_TEST_VARIANTS; e++)
            op_test_same_bits(op_test_engines[e], 3 * SAME, bits_run, &moments);
}

static void test_nonfinite(void **state)
{
    (void)state;
    for (enum adamw_moments moments = ADAMW_BF16; moments <= ADAMW_8BIT; moments++)
        for (int e = 0; e < OP_TEST_VARIANTS; e++) {
            struct op_test *t = op_test_open(op_test_engines[e], 1);
            const int64_t n = 3000;
            struct arrays a = arrays_make(t, moments, values_random(t, n, 1), n);
            double *g = values_random(t, n, 3);
            step_run(t, &a, g, n);
            double *m = moment_from(t, &a, false), *v = moment_from(t, &a, true), *w = weights_from(t, &a);
            g[n - 1] = NAN;
            step_run(t, &a, g, n);
            assert_same("m", moment_from(t, &a, false), m, n);
            assert_same("v", moment_from(t, &a, true), v, n);
            assert_same("weights", weights_from(t, &a), w, n);
            op_test_close(t);
        }
}

static void test_bytes(void **state)
{
    (void)state;
    const int64_t n = 100000;
    for (enum adamw_moments moments = ADAMW_BF16; moments <= ADAMW_8BIT; moments++)
        for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++) {
            struct op_test *t = op_test_open(op_test_engines[e], 1);
            struct arrays a = arrays_make(t, moments, values_random(t, n, 1), n);
            double *g = values_random(t, n, 3);
            op_test_bytes_begin(t);
            step_run(t, &a, g, n);
            op_test_bytes_check(t, "adamw_norm and adamw_step",
                                OP_BYTES(adamw_norm, adamw_norm_args, .grad_dtype = t->dtype, .n = n) +
                                    OP_BYTES(adamw_step, adamw_args, .dtype = t->dtype, .grad_dtype = t->dtype, .n = n,
                                             .moments = moments, .low = a.low), 0.05);
            op_test_close(t);
        }
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        double weight[16] = {0};
        struct arrays a = arrays_make(t, ADAMW_8BIT, weight, 16);
        const struct adamw_args good = {.dtype = t->dtype, .grad_dtype = t->dtype, .n = 16, .param = a.param, .grad = a.param,
                                        .moments = ADAMW_8BIT, .m = a.m, .v = a.v, .m_scale = a.m_scale,
                                        .v_scale = a.v_scale, .state = a.adamw};
        struct adamw_args bad[4] = {good, good, good, good};
        bad[0].m_scale = NULL;
        bad[1].v_scale = NULL;
        bad[2].first = -1;
        bad[3].moments = (enum adamw_moments)3;
        for (int i = 0; i < 4; i++)
            op_test_refused(t, "adamw_step", t->engine->adamw_step(t->context, &bad[i]));
        bad[0] = good, bad[0].n = 8, bad[0].v = (char *)a.v + 8;
        if (op_test_is_cuda(t))
            op_test_refused(t, "adamw_step", t->engine->adamw_step(t->context, &bad[0]));
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_philox), cmocka_unit_test(test_round_random),
                                       cmocka_unit_test(test_map), cmocka_unit_test(test_steps),
                                       cmocka_unit_test(test_small_changes), cmocka_unit_test(test_parts),
                                       cmocka_unit_test(test_golden), cmocka_unit_test(test_same_bits),
                                       cmocka_unit_test(test_nonfinite), cmocka_unit_test(test_bytes),
                                       cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

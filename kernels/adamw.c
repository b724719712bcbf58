/* adamw.c - CPU: gradient norm, clipping, finite check and the AdamW update over whole arenas. */
#include "engine/cpu.h"

#include <float.h>

/* Elements per piece of work: fixed, so that the norm's sum does not depend on the number of threads. */
enum { BLOCK = 1 << 14 };

static double block_sum_squares(const real *g, int64_t count)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++)
        sum += (double)g[i] * (double)g[i];
    return sum;
}

int adamw_norm(struct engine_context *context, const struct adamw_norm_args *args)
{
    REQUIRE_CONTRACT(adamw_norm, args);
    REQUIRE_REAL(args->grad_dtype);
    int64_t blocks = (args->n + BLOCK - 1) / BLOCK;
    double *partial = engine_scratch(context, 1, (size_t)blocks * sizeof *partial);
    if (!partial)
        return OP_MEMORY;
    const real *grad = args->grad;

#pragma omp parallel for schedule(static) num_threads(engine_threads(context, args->n))
    for (int64_t b = 0; b < blocks; b++)
        partial[b] = block_sum_squares(grad + b * BLOCK, min_i64(BLOCK, args->n - b * BLOCK));

    double sum = args->accumulate ? *args->sum_squares : 0;
    for (int64_t b = 0; b < blocks; b++)
        sum += partial[b];
    *args->sum_squares = sum;
    return OP_OK;
}

int adamw_prepare(struct engine_context *context, const struct adamw_prepare_args *args)
{
    REQUIRE_CONTRACT(adamw_prepare, args);
    struct adamw_state *state = args->state;
    state->skip = !isfinite(*args->sum_squares);
    if (state->skip)
        return OP_OK;
    double limit = args->max_grad_norm, ratio = limit / (sqrt(*args->sum_squares) + 1e-6);
    state->updates++;
    state->clip = limit > 0 && ratio < 1 ? ratio : 1;
    state->rate = state->learning_rate / (1 - pow(args->beta1, (double)state->updates));
    state->correction = 1 / sqrt(1 - pow(args->beta2, (double)state->updates));
    return OP_OK;
}

/* What an update needs of its arguments, in the engine's arithmetic. */
struct update {
    real clip, keep, rate, correction, eps, beta1, beta2, beta1_rest, beta2_rest;
};

/* Elements next to each other, with their moments as numbers. */
static void elements_update(const struct update *u, int64_t count, const real *grad, real *m, real *v, real *param)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        real g = u->clip * grad[i];
        m[i] = u->beta1 * m[i] + u->beta1_rest * g;
        v[i] = u->beta2 * v[i] + u->beta2_rest * g * g;
        param[i] = u->keep * param[i] - u->rate * m[i] / ((real)sqrt(v[i]) * u->correction + u->eps);
    }
}

static uint32_t bits_of(real value)
{
    const float narrow = (float)value;
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof bits);
    return bits;
}

static void bf16_load(const uint16_t *from, int64_t count, real *to)
{
    for (int64_t i = 0; i < count; i++) {
        const uint32_t bits = (uint32_t)from[i] << 16;
        float value;
        memcpy(&value, &bits, sizeof value);
        to[i] = value;
    }
}

/* A draw has four words, for four elements whose place is a multiple of 4; the lower half of a word is for m, the upper for v. */
static void bf16_store(const struct adamw_args *args, int64_t begin, int64_t count, const real *m, const real *v)
{
    uint16_t *to_m = args->m, *to_v = args->v;
    uint32_t draw[4];
    for (int64_t i = 0; i < count; i++) {
        const uint64_t place = (uint64_t)(args->first + begin + i);
        if (i == 0 || place % 4 == 0)
            philox4x32(args->seed, place / 4, (uint64_t)args->state->updates, draw);
        to_m[begin + i] = (uint16_t)round_random(bits_of(m[i]), draw[place % 4] & 0xffff);
        to_v[begin + i] = (uint16_t)round_random(bits_of(v[i]), draw[place % 4] >> 16);
    }
}

static float magnitude_most(const real *value, int64_t count)
{
    float most = 0;
    for (int64_t i = 0; i < count; i++) {
        const float magnitude = fminf(fabsf((float)value[i]), FLT_MAX);
        most = magnitude > most ? magnitude : most;
    }
    return most;
}

static void bytes_load(const struct adamw_args *args, const struct dynamic_map *map, int64_t begin, int64_t count, real *m,
                       real *v)
{
    const uint8_t *from_m = args->m, *from_v = args->v;
    const float m_scale = args->m_scale[begin / DYNAMIC_BLOCK], v_scale = args->v_scale[begin / DYNAMIC_BLOCK];
    for (int64_t i = 0; i < count; i++) {
        m[i] = map->with_sign[from_m[begin + i]] * m_scale;
        v[i] = map->without_sign[from_v[begin + i]] * v_scale;
    }
}

static void bytes_store(const struct adamw_args *args, const struct dynamic_map *map, int64_t begin, int64_t count,
                        const real *m, const real *v)
{
    uint8_t *to_m = args->m, *to_v = args->v;
    const float m_scale = magnitude_most(m, count), v_scale = magnitude_most(v, count);
    args->m_scale[begin / DYNAMIC_BLOCK] = m_scale;
    args->v_scale[begin / DYNAMIC_BLOCK] = v_scale;
    for (int64_t i = 0; i < count; i++) {
        to_m[begin + i] = (uint8_t)dynamic_code_with_sign(map->with_sign, m_scale > 0 ? (float)m[i] / m_scale : 0);
        to_v[begin + i] = (uint8_t)dynamic_code_without_sign(map->without_sign, v_scale > 0 ? (float)v[i] / v_scale : 0);
    }
}

/* One block of elements whose moments are not stored as numbers. */
static void block_update(const struct adamw_args *args, const struct update *u, const struct dynamic_map *map,
                         int64_t begin, int64_t count)
{
    real m[DYNAMIC_BLOCK], v[DYNAMIC_BLOCK];
    if (args->moments == ADAMW_BF16) {
        bf16_load((const uint16_t *)args->m + begin, count, m);
        bf16_load((const uint16_t *)args->v + begin, count, v);
    } else {
        bytes_load(args, map, begin, count, m, v);
    }
    elements_update(u, count, (const real *)args->grad + begin, m, v, (real *)args->param + begin);
    if (args->moments == ADAMW_BF16)
        bf16_store(args, begin, count, m, v);
    else
        bytes_store(args, map, begin, count, m, v);
}

int adamw_step(struct engine_context *context, const struct adamw_args *args)
{
    REQUIRE_CONTRACT(adamw_step, args);
    REQUIRE_REAL(args->dtype);
    REQUIRE_REAL(args->grad_dtype);
    const struct adamw_state *state = args->state;
    if (args->n == 0 || state->skip)
        return OP_OK;

    const struct update u = {(real)state->clip, (real)(1 - state->learning_rate * args->weight_decay), (real)state->rate,
                             (real)state->correction, (real)args->eps, (real)args->beta1, (real)args->beta2,
                             (real)(1 - args->beta1), (real)(1 - args->beta2)};
    struct dynamic_map map;
    dynamic_map_fill(&map);
#pragma omp parallel for schedule(static) num_threads(engine_threads(context, args->n))
    for (int64_t begin = 0; begin < args->n; begin += BLOCK) {
        const int64_t end = min_i64(args->n, begin + BLOCK);
        if (args->moments == ADAMW_FLOAT)
            elements_update(&u, end - begin, (const real *)args->grad + begin, (real *)args->m + begin,
                            (real *)args->v + begin, (real *)args->param + begin);
        for (int64_t at = begin; args->moments != ADAMW_FLOAT && at < end; at += DYNAMIC_BLOCK)
            block_update(args, &u, &map, at, min_i64(DYNAMIC_BLOCK, end - at));
    }
    return OP_OK;
}

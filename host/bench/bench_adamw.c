/* bench_adamw.c - the gradient's norm and the AdamW update over arenas of parameters (kernels/adamw.h). */
#include <math.h>

#include "../util/memory.h"
#include "bench.h"

static const struct bench_shape shapes[] = {
    {"arena"}, {"one", .rows = 1}, {"odd", .rows = 70001}, {"blocks", .rows = 300000},
};
/* The update also with moments in bf16 and in 8 bits. */
static const struct bench_shape step_shapes[] = {
    {"arena"}, {"bf16", .variant = ADAMW_BF16}, {"8bit", .variant = ADAMW_8BIT}, {"one", .rows = 1}, {"odd", .rows = 70001},
    {"blocks", .rows = 300000}, {"odd_bf16", .variant = ADAMW_BF16, .rows = 70001},
    {"odd_8bit", .variant = ADAMW_8BIT, .rows = 70001},
};
static const int64_t rows[] = {1 << 22, 1 << 24, 134515008, 1 << 28, 0}; /* elements; the third is SmolLM2-135M's */
#define UPDATES 10
#define LEARNING_RATE 1e-5
#define BETA1 0.9
#define BETA2 0.999
#define WEIGHT_DECAY 0.01
#define ADAM_EPS 1e-8

enum { GRAD, SUM };                                  /* norm */
enum { WEIGHT, S_GRAD, M, V, STATE, M_SCALE, V_SCALE, LOW }; /* step; LOW are halves of the weights where WEIGHT is bf16 */

static int norm_plan(struct bench_case *c, struct error *error)
{
    (void)error;
    bench_values(c, c->dtype, c->rows, 0, 1e-2);
    bench_values(c, DTYPE_F64, 1, 0, 0);
    bench_output(c, SUM, 0, 1e-6);
    return STATUS_OK;
}

static void norm_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    args->adamw_norm = (struct adamw_norm_args){c->dtype, c->rows, t[GRAD], t[SUM], false};
}

static bool has_low(const struct bench_case *c) { return c->dtype == DTYPE_BF16; }

/* The double engine, which others are checked against, has them as numbers. */
static enum adamw_moments moments_of(const struct bench_case *c)
{
    return c->dtype == DTYPE_F64 ? ADAMW_FLOAT : (enum adamw_moments)c->shape->variant;
}

/* As numbers they have values; as codes, in the first half of an array of 16 bits, they begin with 0. */
static void moments_plan(struct bench_case *c)
{
    const bool zero = c->shape->variant == ADAMW_8BIT;
    const enum dtype dtype = moments_of(c) == ADAMW_FLOAT ? c->stat : DTYPE_BF16;
    bench_values(c, dtype, c->rows, 0, zero ? 0 : 1e-2);
    bench_values(c, dtype, c->rows, zero ? 0 : 1e-4, zero ? 0 : 1e-5);
}

static int step_plan(struct bench_case *c, struct error *error)
{
    struct adamw_state *state = memory_array(1, sizeof *state, error); /* as adamw_prepare leaves it */
    if (!state)
        return STATUS_MEMORY;
    *state = (struct adamw_state){.learning_rate = LEARNING_RATE, .updates = UPDATES, .clip = 0.5,
                                  .rate = LEARNING_RATE / (1 - pow(BETA1, UPDATES)),
                                  .correction = 1 / sqrt(1 - pow(BETA2, UPDATES))};
    bench_values(c, c->dtype, c->rows, 0, 0.02);
    bench_values(c, c->dtype, c->rows, 0, 1e-2);
    moments_plan(c);
    bench_bytes(c, state, sizeof *state);
    const int64_t blocks = (c->rows + DYNAMIC_BLOCK - 1) / DYNAMIC_BLOCK;
    bench_values(c, c->stat, blocks, 0, 0);
    bench_values(c, c->stat, blocks, 0, 0);
    bench_output(c, WEIGHT, 16 * LEARNING_RATE, 1);
    if (moments_of(c) == ADAMW_FLOAT) {
        bench_output(c, M, 0.1, 4);
        bench_output(c, V, 1e-4, 4);
    }
    if (has_low(c)) /* a bf16's own spacing is what can be seen of the update here */
        bench_values(c, DTYPE_BF16, c->rows, 0, 0);
    return STATUS_OK;
}

static void step_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    args->adamw_step = (struct adamw_args){.dtype = c->dtype, .grad_dtype = c->dtype, .n = c->rows,
                                           .param = t[WEIGHT], .grad = t[S_GRAD], .moments = moments_of(c), .m = t[M], .v = t[V],
                                           .m_scale = t[M_SCALE], .v_scale = t[V_SCALE],
                                           .low = has_low(c) ? t[LOW] : NULL, .state = t[STATE],
                                           .beta1 = BETA1, .beta2 = BETA2, .eps = ADAM_EPS, .weight_decay = WEIGHT_DECAY};
}

BENCH_OP(adamw_norm, rows, shapes, norm_plan, norm_args);
BENCH_OP(adamw_step, rows, step_shapes, step_plan, step_args);

/* bench_adamw.c - the gradient's norm and the AdamW update over arenas of parameters (kernels/adamw.h). */
#include <math.h>

#include "../util/memory.h"

#include "bench.h"

static const struct bench_shape shapes[] = {{"arena", 0}};
static const int64_t rows[] = {1 << 22, 1 << 24, 134515008, 1 << 28, 0}; /* elements; the third is SmolLM2-135M's */
#define UPDATES 10
#define LEARNING_RATE 1e-5
#define BETA1 0.9
#define BETA2 0.999
#define WEIGHT_DECAY 0.01
#define ADAM_EPS 1e-8

enum { GRAD, SUM };                                 /* norm */
enum { PARAM, S_GRAD, M, V, STATE, MASTER };        /* step */

static int norm_plan(struct bench_case *c, struct error *error)
{
    (void)error;
    bench_values(c, c->dtype, c->rows, 0, 1e-2);
    bench_values(c, DTYPE_F64, 1, 0, 0);
    c->bytes = (double)adamw_norm_bytes(c->rows, c->dtype);
    return STATUS_OK;
}

static int norm_call(const struct bench_case *c, struct device *device, void *const *t)
{
    return device->engine->adamw_norm(device->context,
                                      &(struct adamw_norm_args){c->dtype, c->rows, t[GRAD], t[SUM], false});
}

static int norm_check(const struct bench_result *r, struct bench_error *worst, struct error *error)
{
    const struct bench_case *c = r->bench_case;
    double sum = 0, got = 0;
    for (int64_t i = 0; i < c->rows; i++) {
        double g = bench_input(c, GRAD, i);
        sum += g * g;
    }
    int status = bench_read(r, SUM, 0, 1, &got, error);
    bench_compare(worst, got, sum, 1e-6 * sum);
    return status;
}

static bool has_master(const struct bench_case *c) { return c->dtype == DTYPE_BF16; }

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
    bench_values(c, c->stat, c->rows, 0, 1e-2);
    bench_values(c, c->stat, c->rows, 1e-4, 1e-5);
    bench_bytes(c, state, sizeof *state);
    if (has_master(c))
        bench_values(c, DTYPE_F32, c->rows, 0, 0.02);
    c->bytes = (double)adamw_step_bytes(c->rows, c->dtype, c->dtype, has_master(c));
    return STATUS_OK;
}

static int step_call(const struct bench_case *c, struct device *device, void *const *t)
{
    return device->engine->adamw_step(
        device->context, &(struct adamw_args){.dtype = c->dtype, .grad_dtype = c->dtype, .n = c->rows, .param = t[PARAM],
                                              .grad = t[S_GRAD], .m = t[M], .v = t[V],
                                              .master = has_master(c) ? t[MASTER] : NULL, .state = t[STATE], .beta1 = BETA1,
                                              .beta2 = BETA2, .eps = ADAM_EPS, .weight_decay = WEIGHT_DECAY});
}

/* Of the weights in float: the master copy where there is one. */
static int step_check(const struct bench_result *r, struct bench_error *worst, struct error *error)
{
    const struct bench_case *c = r->bench_case;
    const int weights = has_master(c) ? MASTER : PARAM;
    int status = STATUS_OK;
    for (int64_t k = 0; k < 256 && !status; k++) {
        int64_t i = k * (c->rows - 1) / 255;
        double g = bench_input(c, S_GRAD, i) / 2, w = bench_input(c, weights, i), got = 0;
        double m = BETA1 * bench_input(c, M, i) + (1 - BETA1) * g, v = BETA2 * bench_input(c, V, i) + (1 - BETA2) * g * g;
        double expected = w * (1 - LEARNING_RATE * WEIGHT_DECAY) -
                          LEARNING_RATE / (1 - pow(BETA1, UPDATES)) * m / (sqrt(v / (1 - pow(BETA2, UPDATES))) + ADAM_EPS);
        status = bench_read(r, weights, i, 1, &got, error);
        bench_compare(worst, got, expected, bench_epsilon(c) * (fabs(w) + 16 * LEARNING_RATE));
        if (!status)
            status = bench_read(r, M, i, 1, &got, error);
        bench_compare(worst, got, m, 4 * bench_epsilon(c) * (fabs(bench_input(c, M, i)) + fabs(g)));
    }
    return status;
}

const struct bench_op bench_adamw_norm = {"adamw_norm", rows, shapes, 1, norm_plan, norm_call, norm_check};
const struct bench_op bench_adamw_step = {"adamw_step", rows, shapes, 1, step_plan, step_call, step_check};

/* schedule.h - learning rate of each step, as Hugging Face's get_scheduler gives it with its default arguments.
 *
 * With w steps of warm-up and T steps in all, step s (from 0, so that the first update of a warm-up has rate 0) has
 * learning_rate times: s / w below w, except for `constant`, which has no warm-up; from there on, with progress
 * p = (s - w) / max(1, T - w),
 *
 *   linear                 1 - p
 *   cosine                 (1 + cos(pi p)) / 2
 *   cosine_with_restarts   the same, 0 from p = 1 on (one cycle)
 *   polynomial             1 - p between the learning rate and 1e-7 (power 1)
 *   inverse_sqrt           sqrt(w / s); sqrt(10000 / (s + 10000)) without warm-up
 *   constant, constant_with_warmup   1
 */
#ifndef FLAT_TRAIN_SCHEDULE_H
#define FLAT_TRAIN_SCHEDULE_H
#include <stdint.h>

#include "../util/options.h"

#define SCHEDULE_POLYNOMIAL_END 1e-7 /* where polynomial ends; the learning rate must be above it */

enum schedule_type {
    SCHEDULE_LINEAR,
    SCHEDULE_COSINE,
    SCHEDULE_COSINE_WITH_RESTARTS,
    SCHEDULE_POLYNOMIAL,
    SCHEDULE_INVERSE_SQRT,
    SCHEDULE_CONSTANT,
    SCHEDULE_CONSTANT_WITH_WARMUP
};
struct schedule_options {
    double learning_rate; /* at the peak */
    enum schedule_type lr_scheduler_type;
    double warmup_steps; /* below 1: a fraction of all steps */
    double warmup_ratio; /* older name of the fraction; 0 when not given */
};
extern const struct option_group schedule_option_group;

/* Steps of warm-up of a run of `total` steps: warmup_steps, or the next whole number of a fraction of all steps where it is
 * below 1; warmup_ratio, a fraction always, where warmup_steps is 0. */
int64_t schedule_warmup(const struct schedule_options *options, int64_t total);
/* Learning rate of step `step` (from 0) of `total`. */
double schedule_rate(const struct schedule_options *options, int64_t step, int64_t total);

#endif

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

#include "../util/settings.h"

#define SCHEDULE_TYPES "linear|cosine|cosine_with_restarts|polynomial|inverse_sqrt|constant|constant_with_warmup"
#define SCHEDULE_POLYNOMIAL_END 1e-7 /* where polynomial ends; the learning rate must be above it */

/* Steps of warm-up of a run of `total` steps: warmup_steps, or the next whole number of a fraction of all steps where it is
 * below 1; warmup_ratio, a fraction always, where warmup_steps is 0. */
int64_t schedule_warmup(const struct settings *settings, int64_t total);
/* Learning rate of step `step` (from 0) of `total`. */
double schedule_rate(const struct settings *settings, int64_t step, int64_t total);

#endif

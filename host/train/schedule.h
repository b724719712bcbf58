/* schedule.h - learning rate of each step, as Hugging Face's get_scheduler.
 *
 * Warm-up: learning_rate * step / warmup for the first `warmup` steps (step counts from 0, so the very first update
 * has rate 0). Then linear to 0 at `total`, half a cosine to 0, or constant.
 */
#ifndef FLAT_TRAIN_SCHEDULE_H
#define FLAT_TRAIN_SCHEDULE_H
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../util/settings.h"

/* Steps of warm-up out of total: warmup_steps, a fraction of all steps when below 1; warmup_ratio is its older name. */
static inline int64_t schedule_warmup(const struct settings *settings, int64_t total)
{
    double steps = settings->warmup_steps > 0 ? settings->warmup_steps : settings->warmup_ratio;
    return (int64_t)(steps < 1 ? ceil(steps * (double)total) : steps);
}

static inline double schedule_rate(const struct settings *settings, int64_t step, int64_t total)
{
    const int64_t warmup = schedule_warmup(settings, total);
    if (step < warmup)
        return settings->learning_rate * (double)step / (double)warmup;
    const double progress = total > warmup ? (double)(step - warmup) / (double)(total - warmup) : 1;
    if (!strcmp(settings->lr_scheduler_type, "linear"))
        return settings->learning_rate * fmax(0, 1 - progress);
    if (!strcmp(settings->lr_scheduler_type, "cosine"))
        return settings->learning_rate * 0.5 * (1 + cos(3.14159265358979323846 * progress));
    return settings->learning_rate; /* constant, constant_with_warmup */
}
#endif

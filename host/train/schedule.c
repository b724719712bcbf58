/* schedule.c - see schedule.h. */
#include "schedule.h"

#include <math.h>
#include <string.h>

#define INVERSE_SQRT_TIMESCALE 10000 /* without warm-up */

int64_t schedule_warmup(const struct settings *settings, int64_t total)
{
    if (settings->warmup_steps >= 1)
        return (int64_t)settings->warmup_steps;
    return (int64_t)ceil((settings->warmup_steps > 0 ? settings->warmup_steps : settings->warmup_ratio) * (double)total);
}

static double cosine(double progress)
{
    return fmax(0, 0.5 * (1 + cos(3.14159265358979323846 * progress)));
}

double schedule_rate(const struct settings *settings, int64_t step, int64_t total)
{
    const char *type = settings->lr_scheduler_type;
    const double rate = settings->learning_rate;
    const int64_t warmup = schedule_warmup(settings, total);
    if (!strcmp(type, "constant"))
        return rate;
    if (step < warmup)
        return rate * (double)step / (double)warmup;
    const double progress = (double)(step - warmup) / (double)(total > warmup ? total - warmup : 1);
    if (!strcmp(type, "linear"))
        return rate * fmax(0, 1 - progress);
    if (!strcmp(type, "cosine"))
        return rate * cosine(progress);
    if (!strcmp(type, "cosine_with_restarts"))
        return progress >= 1 ? 0 : rate * cosine(progress);
    if (!strcmp(type, "polynomial"))
        return step >= total ? SCHEDULE_POLYNOMIAL_END
                             : SCHEDULE_POLYNOMIAL_END + (rate - SCHEDULE_POLYNOMIAL_END) * (1 - progress);
    if (!strcmp(type, "inverse_sqrt")) {
        const double timescale = warmup ? (double)warmup : INVERSE_SQRT_TIMESCALE;
        return rate / sqrt(((double)(step - warmup) + timescale) / timescale);
    }
    return rate; /* constant_with_warmup */
}

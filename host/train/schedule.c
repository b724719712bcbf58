/* schedule.c - see schedule.h. */
#include "schedule.h"

#include <math.h>

#define INVERSE_SQRT_TIMESCALE 10000 /* without warm-up */

static const char *const type_names[] = {
    [SCHEDULE_LINEAR] = "linear",
    [SCHEDULE_COSINE] = "cosine",
    [SCHEDULE_COSINE_WITH_RESTARTS] = "cosine_with_restarts",
    [SCHEDULE_POLYNOMIAL] = "polynomial",
    [SCHEDULE_INVERSE_SQRT] = "inverse_sqrt",
    [SCHEDULE_CONSTANT] = "constant",
    [SCHEDULE_CONSTANT_WITH_WARMUP] = "constant_with_warmup",
    NULL,
};

static int options_check(const struct option_set *set, void *values, struct error *error)
{
    (void)set;
    const struct schedule_options *options = values;
    if (options->warmup_steps > 0 && options->warmup_ratio > 0)
        return error_set(error, STATUS_USAGE, "warmup_ratio: warmup_steps is given too; keep one");
    if (options->warmup_steps > 1 && options->warmup_steps != floor(options->warmup_steps))
        return error_set(error, STATUS_USAGE, "warmup_steps: expected a whole number of steps or a fraction below 1, "
                         "found %g", options->warmup_steps);
    if (options->lr_scheduler_type == SCHEDULE_POLYNOMIAL && options->learning_rate <= SCHEDULE_POLYNOMIAL_END)
        return error_set(error, STATUS_USAGE, "learning_rate: polynomial decays to %g and needs more than that, found %g",
                         SCHEDULE_POLYNOMIAL_END, options->learning_rate);
    return STATUS_OK;
}

static const struct option option_rows[] = {
    {.name = "learning_rate", OPTION_FIELD(struct schedule_options, learning_rate), .initial = "1e-5", .max = HUGE_VAL,
     .help = "peak learning rate of AdamW"},
    {.name = "lr_scheduler_type", OPTION_FIELD(struct schedule_options, lr_scheduler_type), .choices = type_names,
     .initial = "linear", .help = "course of the learning rate after warm-up, as transformers' get_scheduler"},
    {.name = "warmup_steps", OPTION_FIELD(struct schedule_options, warmup_steps), .initial = "0",
     .max = OPTION_COUNT_MAX, .help = "steps of linear warm-up; below 1 it is a fraction of all steps"},
    {.name = "warmup_ratio", OPTION_FIELD(struct schedule_options, warmup_ratio), .initial = "0", .max = 1,
     .help = "older name of a fractional warmup_steps"},
};
const struct option_group schedule_option_group = {OPTION_GROUP("Optimizer", option_rows, struct schedule_options),
                                                   .check = options_check};

int64_t schedule_warmup(const struct schedule_options *options, int64_t total)
{
    if (options->warmup_steps >= 1)
        return (int64_t)options->warmup_steps;
    return (int64_t)ceil((options->warmup_steps > 0 ? options->warmup_steps : options->warmup_ratio) * (double)total);
}

static double cosine(double progress)
{
    return fmax(0, 0.5 * (1 + cos(3.14159265358979323846 * progress)));
}

double schedule_rate(const struct schedule_options *options, int64_t step, int64_t total)
{
    const enum schedule_type type = options->lr_scheduler_type;
    const double rate = options->learning_rate;
    const int64_t warmup = schedule_warmup(options, total);
    if (type == SCHEDULE_CONSTANT)
        return rate;
    if (step < warmup)
        return rate * (double)step / (double)warmup;
    const double progress = (double)(step - warmup) / (double)(total > warmup ? total - warmup : 1);
    switch (type) {
    case SCHEDULE_LINEAR: return rate * fmax(0, 1 - progress);
    case SCHEDULE_COSINE: return rate * cosine(progress);
    case SCHEDULE_COSINE_WITH_RESTARTS: return progress >= 1 ? 0 : rate * cosine(progress);
    case SCHEDULE_POLYNOMIAL:
        return step >= total ? SCHEDULE_POLYNOMIAL_END
                             : SCHEDULE_POLYNOMIAL_END + (rate - SCHEDULE_POLYNOMIAL_END) * (1 - progress);
    case SCHEDULE_INVERSE_SQRT: {
        const double timescale = warmup ? (double)warmup : INVERSE_SQRT_TIMESCALE;
        return rate / sqrt(((double)(step - warmup) + timescale) / timescale);
    }
    case SCHEDULE_CONSTANT:
    case SCHEDULE_CONSTANT_WITH_WARMUP: break;
    }
    return rate;
}

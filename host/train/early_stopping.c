/* early_stopping.c - see early_stopping.h. */
#include "early_stopping.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../io/json/json.h"

static const char *const mode_names[] = {[STOPPING_AUTO] = "auto", [STOPPING_MIN] = "min", [STOPPING_MAX] = "max", NULL};
static const struct option option_rows[] = {
    {.name = "early_stopping_metric", OPTION_FIELD(struct early_stopping_options, metric), .operand = "NAME",
     .help = "the figure of --eval_strategy that decides: eval_NAME_prob_mean or eval_NAME_loss of a set of eval_data, or of "
             "forget"},
    {.name = "early_stopping_threshold", OPTION_FIELD(struct early_stopping_options, threshold), .initial = "-1", .min = -1,
     .max = HUGE_VAL, .help = "the run ends where the metric is at this value or beyond; -1: none"},
    {.name = "early_stopping_patience", OPTION_FIELD(struct early_stopping_options, patience), .initial = "0",
     .max = OPTION_COUNT_MAX, .help = "the run ends after so many measurements in a row that were not better; 0: none"},
    {.name = "early_stopping_min_delta", OPTION_FIELD(struct early_stopping_options, min_delta), .initial = "0",
     .max = HUGE_VAL, .help = "by how much a measurement must be better than the best to count as better"},
    {.name = "early_stopping_mode", OPTION_FIELD(struct early_stopping_options, mode), .choices = mode_names, .initial = "auto",
     .help = "whether lower (min) or higher (max) is better; auto: forgotten is better for forget, kept for every other set"},
    {.name = "load_best_model_at_end", OPTION_FIELD(struct early_stopping_options, load_best),
     .help = "save the model of the best measurement instead of the last step's; on the way it is kept as a checkpoint"},
};

/* The set and the figure that a name stands for. */
static bool metric_parse(const char *name, char set[64], bool *is_loss)
{
    static const char prefix[] = "eval_", *const suffix[] = {"_prob_mean", "_loss"};
    const size_t length = strlen(name), skip = sizeof prefix - 1;
    for (int i = 0; i < 2; i++) {
        const size_t tail = strlen(suffix[i]);
        if (strncmp(name, prefix, skip) || length <= skip + tail || length - skip - tail >= 64 ||
            strcmp(name + length - tail, suffix[i]))
            continue;
        snprintf(set, 64, "%.*s", (int)(length - skip - tail), name + skip);
        *is_loss = i == 1;
        return true;
    }
    return false;
}

static int options_check(const struct option_set *set, void *values, struct error *error)
{
    const struct early_stopping_options *options = values;
    const bool acts = options->threshold >= 0 || options->patience || options->load_best;
    char name[64];
    bool is_loss;
    (void)set;
    if (options->threshold < 0 && options->threshold > -1)
        return error_set(error, STATUS_USAGE, "early_stopping_threshold: expected a value of at least 0, or -1 for none, found "
                         "%g", options->threshold);
    if (!*options->metric && (acts || options->min_delta > 0 || options->mode != STOPPING_AUTO))
        return error_set(error, STATUS_USAGE, "early_stopping_metric: say which figure decides, such as eval_NAME_prob_mean of "
                         "a set of eval_data");
    if (*options->metric && !metric_parse(options->metric, name, &is_loss))
        return error_set(error, STATUS_USAGE, "early_stopping_metric: expected eval_NAME_prob_mean or eval_NAME_loss, found "
                         "'%s'", options->metric);
    if (*options->metric && !acts)
        return error_set(error, STATUS_USAGE, "early_stopping_metric: nothing is decided by it; add "
                         "early_stopping_threshold, early_stopping_patience or load_best_model_at_end");
    return STATUS_OK;
}
const struct option_group early_stopping_option_group = {
    OPTION_GROUP("Evaluation", option_rows, struct early_stopping_options), .check = options_check};

void early_stopping_init(struct early_stopping *stopping, const struct early_stopping_options *options)
{
    *stopping = (struct early_stopping){.options = options, .best = NAN, .last = NAN};
    if (!metric_parse(options->metric, stopping->set, &stopping->is_loss))
        *stopping->set = 0;
    const bool forget = !strcmp(stopping->set, "forget");
    stopping->is_min = options->mode == STOPPING_MIN || (options->mode == STOPPING_AUTO && forget != stopping->is_loss);
}

bool early_stopping_passes(const struct early_stopping *stopping, double value)
{
    const double threshold = stopping->options->threshold;
    return threshold >= 0 && (stopping->is_min ? value <= threshold : value >= threshold);
}

void early_stopping_take(struct early_stopping *stopping, int64_t step, double value)
{
    const double gain = stopping->is_min ? stopping->best - value : value - stopping->best;
    stopping->last = value;
    stopping->waited++;
    if (isfinite(value) && (!stopping->best_step || gain > stopping->options->min_delta)) {
        stopping->best = value;
        stopping->best_step = step;
        stopping->waited = 0;
    }
    if (early_stopping_passes(stopping, value))
        stopping->reason = STOP_THRESHOLD;
    else if (stopping->options->patience && stopping->waited >= stopping->options->patience)
        stopping->reason = STOP_PATIENCE;
}

void early_stopping_describe(const struct early_stopping *stopping, char *out, size_t out_bytes)
{
    const struct early_stopping_options *options = stopping->options;
    if (stopping->reason == STOP_THRESHOLD)
        snprintf(out, out_bytes, "%s is %.4g, and the threshold %.4g", options->metric, stopping->last, options->threshold);
    else
        snprintf(out, out_bytes, "%s is %.4g, and was not better than %.4g in %lld measurements", options->metric,
                 stopping->last, stopping->best, (long long)stopping->waited);
}

static const char *const reasons[] = {[STOP_NOT] = "steps", [STOP_THRESHOLD] = "threshold", [STOP_PATIENCE] = "patience"};

const char *early_stopping_reason(const struct early_stopping *stopping)
{
    return reasons[stopping->reason];
}

bool early_stopping_add_state(const struct early_stopping *stopping, cJSON *object)
{
    return json_add_int(object, "best_step", stopping->best_step) && json_add_number(object, "best", stopping->best) &&
           json_add_number(object, "last", stopping->last) && json_add_int(object, "waited", stopping->waited) &&
           json_add_string(object, "reason", reasons[stopping->reason]);
}

int early_stopping_get_state(struct early_stopping *stopping, const cJSON *object, const char *name, struct error *error)
{
    const char *reason = "";
    stopping->best = stopping->last = NAN; /* null */
    int status = json_get_int_or(object, name, "best_step", 0, (int64_t)OPTION_EXACT_MAX, &stopping->best_step, error);
    if (!status)
        status = json_get_double_or(object, name, "best", &stopping->best, error);
    if (!status)
        status = json_get_double_or(object, name, "last", &stopping->last, error);
    if (!status)
        status = json_get_int_or(object, name, "waited", 0, (int64_t)OPTION_EXACT_MAX, &stopping->waited, error);
    if (!status)
        status = json_get_string(object, name, "reason", &reason, error);
    for (int i = 0; i < 3 && !status; i++)
        if (!strcmp(reason, reasons[i])) {
            stopping->reason = (enum stop_reason)i;
            return STATUS_OK;
        }
    return status ? status : error_set(error, STATUS_INPUT, "%s: reason: expected steps, threshold or patience", name);
}

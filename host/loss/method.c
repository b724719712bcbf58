/* method.c - methods and divergences by name, and what all methods count. */
#include "method.h"

#include <stdio.h>
#include <string.h>

#define X(name, template_value, template_slope, forget_value, forget_slope) #name,
static const char *const divergence_names[] = {DIVERGENCES(X)};
#undef X

int method_find(const char *name, bool finetune, const struct method **method, struct error *error)
{
    char known[512] = "";
    for (const struct method *const *m = methods; *m; m++) {
        if ((*m)->for_finetune != finetune)
            continue;
        if (!strcmp((*m)->name, name)) {
            *method = *m;
            return STATUS_OK;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", (*m)->name);
    }
    return error_set(error, STATUS_USAGE, "method: \"%s\" is not known; expected one of %s", name, known);
}

int64_t count_sequences(const struct batch_sequence *sequences, int count, enum role role)
{
    int64_t n = 0;
    for (int s = 0; s < count; s++)
        n += sequences[s].role == (int)role;
    return n;
}

int64_t count_tokens(const struct batch_sequence *sequences, int count, enum role role)
{
    int64_t n = 0;
    for (int s = 0; s < count; s++)
        n += sequences[s].role == (int)role ? sequences[s].length - sequences[s].answer_begin : 0;
    return n;
}

double logged_value(const struct logged *logged, const double *totals)
{
    const double count = totals[total_of(logged->role, logged->count)];
    return count > 0 ? totals[total_of(logged->role, logged->sum)] / count : 0;
}

const char *divergence_name(int divergence)
{
    return divergence < DIVERGENCE_COUNT ? divergence_names[divergence] : NULL;
}

/* The methods of unlearn, by their number among themselves; NULL behind the last. */
static const struct method *method_at(int index)
{
    for (const struct method *const *m = methods; *m; m++)
        if (!(*m)->for_finetune && index-- == 0)
            return *m;
    return NULL;
}

static const char *method_name(int index)
{
    const struct method *method = method_at(index);
    return method ? method->name : NULL;
}

static const struct option_group *method_own_options(int index)
{
    const struct method *method = method_at(index);
    return method ? method->options : NULL;
}

static const struct option option_rows[] = {
    {.name = "method", OPTION_FIELD(struct method_options, method), .choice = method_name, .initial = "flat",
     .help = "unlearning loss"},
};
const struct option_group method_option_group = {OPTION_GROUP("Method", option_rows, struct method_options),
                                                 .variant_option = "method",
                                                 .variant = method_own_options,
                                                 .variant_offset = offsetof(struct method_options, values)};

const struct method *method_chosen(const struct method_options *options)
{
    return method_at(options->method);
}

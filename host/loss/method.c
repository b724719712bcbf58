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

const char *const role_names[ROLES] = {
    [ROLE_ANSWER] = "forget", [ROLE_TEMPLATE] = "template", [ROLE_RETAIN] = "retain", [ROLE_RANDOM] = "random"};

static double count(const struct batch_sequence *sequence, int sequences, unsigned roles, int skip, bool tokens)
{
    int64_t n = 0;
    for (int s = 0; s < sequences; s++) {
        const int64_t targets = sequence[s].length - sequence[s].answer_begin - skip;
        if (roles & WITH(sequence[s].role))
            n += !tokens ? 1 : targets > 0 ? targets : 0;
    }
    return (double)n;
}

static double mean_of(const struct loss_scope *scope, unsigned roles, int skip, bool tokens)
{
    const double n = scope->average == LOSS_AVERAGE_STEP
                         ? count(scope->step, scope->step_sequences, roles, skip, tokens)
                         : count(scope->micro_batch, scope->micro_batch_sequences, roles, skip, tokens) *
                               scope->micro_batches;
    return n > 0 ? 1 / n : 0;
}

double mean_of_tokens(const struct loss_scope *scope, unsigned roles, int skip)
{
    return mean_of(scope, roles, skip, true);
}

double mean_of_sequences(const struct loss_scope *scope, enum role role)
{
    return mean_of(scope, WITH(role), 0, false);
}

double mean_of_inverse_lengths(const struct loss_scope *scope, enum role role)
{
    const bool step = scope->average == LOSS_AVERAGE_STEP;
    const struct batch_sequence *sequence = step ? scope->step : scope->micro_batch;
    const int sequences = step ? scope->step_sequences : scope->micro_batch_sequences;
    double sum = 0;
    int n = 0;
    for (int s = 0; s < sequences; s++)
        if (sequence[s].role == (int)role) {
            sum += 1.0 / (sequence[s].length - sequence[s].answer_begin);
            n++;
        }
    return n ? sum / n : 0;
}

const char *const retain_loss_names[] = {[RETAIN_NONE] = "none", [RETAIN_NLL] = "nll", [RETAIN_KL] = "kl", NULL};
const char *const kl_positions_names[] = {[KL_ANSWER] = "answer", [KL_REAL] = "real", [KL_TOFU] = "tofu", NULL};

struct loss_term retain_kl_term(const struct retain_options *retain, const struct loss_scope *scope)
{
    const double mean = retain->kl_positions == KL_TOFU
                            ? mean_of_sequences(scope, ROLE_RETAIN) / (double)retain->kl_padded_length
                            : mean_of_tokens(scope, WITH(ROLE_RETAIN), 0);
    return (struct loss_term){STATISTIC_TOKENS, .token = TOKEN_GIVEN, .scale = retain->alpha * mean};
}

struct loss_term retain_term(const struct retain_options *retain, const struct loss_scope *scope)
{
    if (retain->retain_loss == RETAIN_NONE)
        return (struct loss_term){0};
    if (retain->retain_loss == RETAIN_KL)
        return retain_kl_term(retain, scope);
    return (struct loss_term){STATISTIC_LOGPROB_SUM, .scale = -retain->alpha * mean_of_tokens(scope, WITH(ROLE_RETAIN), 0)};
}

unsigned method_roles(const struct method *method, const void *options)
{
    const struct retain_options *retain = options;
    return method->roles | (method->retains && retain && retain->retain_loss != RETAIN_NONE ? WITH(ROLE_RETAIN) : 0);
}

struct distribution_use method_distribution(const struct method *method, const void *options, enum role role)
{
    const struct retain_options *retain = options;
    if (role == ROLE_RETAIN && method->hidden)
        return (struct distribution_use){.used = true, .hidden = true};
    if (role == ROLE_ANSWER && method->distribution)
        return method->distribution(options);
    if (!options || role != ROLE_RETAIN || !(method->retains_by_kl || (method->retains && retain->retain_loss == RETAIN_KL)))
        return (struct distribution_use){0};
    return (struct distribution_use){
        .used = true, .positions = retain->kl_positions == KL_ANSWER ? POSITIONS_ANSWER : POSITIONS_ALL};
}

double logged_value(const struct logged *logged, const double *totals)
{
    const double sum = totals[total_of(logged->role, logged->sum)];
    if (logged->count == ROLE_TOTALS)
        return sum;
    const double over = totals[total_of(logged->role, logged->count)];
    return over > 0 ? sum / over : 0;
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

static const char *const average_names[] = {[LOSS_AVERAGE_STEP] = "step", [LOSS_AVERAGE_MICRO_BATCH] = "micro_batch", NULL};
static const struct option loss_rows[] = {
    {.name = "loss_average", OPTION_FIELD(struct loss_options, loss_average), .choices = average_names, .initial = "step",
     .help = "what a mean over tokens or answers is taken over: the optimizer step, or each micro-batch of each rank, all "
             "counting alike whatever their sizes, as transformers did up to 4.45"},
};
const struct option_group loss_option_group = {OPTION_GROUP("Method", loss_rows, struct loss_options)};

const struct method *method_chosen(const struct method_options *options)
{
    return method_at(options->method);
}

/* eval_derive.c - see eval_derive.h. */
#include "eval_derive.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/memory.h"
#include "../metric/auc.h"
#include "../metric/composite.h"
#include "../metric/ks.h"
#include "../metric/mean.h"
#include "../metric/membership.h"
#include "../metric/probability.h"
#include "../metric/refusal.h"
#include "../metric/repetition.h"
#include "answer_pairs.h"
#include "tofu_tables.h"

/* The aggregate that the log had before, `was`, against what its rows give. */
static void compare(const struct eval_log *log, const char *name, double was, struct log *messages)
{
    double now = eval_log_value(log, name);
    if (!isnan(was) && !(fabs(was - now) <= 1e-6 * fmax(fabs(was), fabs(now))))
        log_warning(messages, "%s: %s: the log says %.9g, its rows give %.9g, which is used", log->path, name, was,
                    now);
}

/* The field that a metric of rows is the mean of; NULL for metrics without rows, and for those that are no plain means
 * or that this program does not know. */
static const char *mean_field(const cJSON *metric)
{
    static const char *const scored[] = {"extraction_strength", "exact_memorization", "forget_Q_A_gibberish",
                                         "forget_refusal_rate", "forget_refusal_recall_rate", "forget_repetition"};
    const cJSON *rows = json_member(metric, "value_by_index"), *row = rows ? rows->child : NULL;
    while (cJSON_IsNull(row))
        row = row->next;
    if (json_member(row, "rougeL_recall"))
        return strstr(metric->string, "mem_ROUGE") && json_member(row, "rougeL_f1") ? "rougeL_f1" : "rougeL_recall";
    if (json_member(row, "prob"))
        return "prob";
    for (size_t i = 0; i < sizeof scored / sizeof *scored; i++)
        if (!strcmp(metric->string, scored[i]) && json_member(row, "score"))
            return "score";
    return NULL;
}

static int set_number(const struct eval_log *log, cJSON *metric, const char *key, double value, struct error *error)
{
    if (json_set(metric, key, cJSON_CreateNumber(value)))
        return STATUS_OK;
    return error_set(error, STATUS_MEMORY, "%s: out of host memory", log->path);
}

/* The first row whose value is not a number. */
static void name_bad_row(const struct eval_log *log, const char *name, const struct eval_rows *rows,
                         struct log *messages)
{
    for (size_t i = 0; i < rows->rows * rows->per_row; i++)
        if (isnan(rows->value[i]) && !rows->absent[i / rows->per_row]) {
            log_warning(messages, "%s: %s: row %s has no number (an answer without a target?)", log->path, name,
                        rows->index[i / rows->per_row]);
            return;
        }
}

static int derive_means(struct eval_log *log, struct log *messages, struct error *error)
{
    int status = STATUS_OK;
    for (cJSON *metric = log->metrics->child; metric && !status; metric = metric->next) {
        const char *field = mean_field(metric);
        struct eval_rows rows;
        if (!field)
            continue;
        double was = eval_log_value(log, metric->string);
        status = eval_rows_read(log, metric, metric->string, field, &rows, error);
        if (status)
            break;
        status = set_number(log, metric, "agg_value", eval_rows_aggregate(&rows), error);
        name_bad_row(log, metric->string, &rows, messages);
        compare(log, metric->string, was, messages);
        eval_rows_free(&rows);
    }
    return status;
}

static int derive_pairs(struct eval_log *log, struct log *messages, struct error *error)
{
    int status = STATUS_OK;
    for (int i = 0; i < PAIR_METRICS && !status; i++) {
        double was = eval_log_value(log, pair_metrics[i].name);
        status = pair_metric_add(log, pair_metrics + i, error);
        if (!status)
            compare(log, pair_metrics[i].name, was, messages);
    }
    return status;
}

/* NaN among the truth ratios leaves forget_quality NaN: the row's loss is, and the means say so too. */
static int forget_quality_p(struct eval_log *log, const double *own, size_t own_count, const double *other,
                            size_t other_count, struct log *messages, struct error *error)
{
    struct ks ks;
    int status = ks_test(own, own_count, other, other_count, KS_AUTO, &ks, error);
    if (status != STATUS_OK && status != STATUS_NONFINITE)
        return error_prefix(error, "%s: forget_quality", log->path);
    if (status)
        log_warning(messages, "%s: forget_quality: %s", log->path, error->text);
    return eval_log_add_value(log, "forget_quality", status ? NAN : ks.p, error);
}

static int derive_forget_quality(struct eval_log *log, const struct eval_log *retain, struct log *messages,
                                 struct error *error)
{
    double *own = NULL, *other = NULL;
    size_t own_count = 0, other_count = 0;
    int status = forget_truth_ratios(log, OPEN_UNLEARNING_EPS, &own, &own_count, error);
    if (!status && own_count && retain)
        status = forget_truth_ratios(retain, OPEN_UNLEARNING_EPS, &other, &other_count, error);
    if (!status && own_count && other_count) {
        if (own_count != other_count)
            log_warning(messages, "%s has %zu forget rows, %s has %zu: forget_quality compares different questions",
                        log->path, own_count, retain->path, other_count);
        status = forget_quality_p(log, own, own_count, other, other_count, messages, error);
    } else if (!status && own_count && retain) {
        log_warning(messages, "%s has no truth ratios of forget rows: forget_quality is left as it is", retain->path);
    } else if (!status && own_count && !eval_log_metric(log, "forget_quality")) {
        log_warning(messages, "%s: forget_quality needs the log of a retain model (--retain_log)", log->path);
        status = eval_log_add_null(log, "forget_quality", error);
    }
    free(own);
    free(other);
    return status;
}

static int derive_utility(struct eval_log *log, struct log *messages, struct error *error)
{
    static const char *const names[] = {"retain_Q_A_Prob",        "retain_Q_A_ROUGE", "retain_Truth_Ratio",
                                        "ra_Q_A_Prob_normalised", "ra_Q_A_ROUGE",     "ra_Truth_Ratio",
                                        "wf_Q_A_Prob_normalised", "wf_Q_A_ROUGE",     "wf_Truth_Ratio"};
    enum { NAMES = sizeof names / sizeof *names };
    double nine[NAMES], was = eval_log_value(log, "model_utility");
    const char *missing = NULL;
    int there = 0;
    for (int i = 0; i < NAMES; i++) {
        nine[i] = eval_log_value(log, names[i]);
        if (eval_log_metric(log, names[i]))
            there++;
        else if (!missing)
            missing = names[i];
    }
    if (missing) {
        if (there && !eval_log_metric(log, "model_utility"))
            log_warning(messages, "%s: model_utility needs %s", log->path, missing);
        return STATUS_OK;
    }
    int status = eval_log_add_value(log, "model_utility", harmonic_mean(nine, NAMES), error);
    if (status)
        return status;
    compare(log, "model_utility", was, messages);
    struct tofu_table table;
    bool available;
    status = tofu_table_make(TOFU_CSV_TRAINING, log, NULL, &table, NULL, &available, error);
    if (!status && available)
        status = eval_log_add_value(log, "model_utility_tofu", table.model_utility, error);
    return status;
}

/* The AUC of a membership metric whose scores the log has. */
static int derive_auc(struct eval_log *log, const char *name, struct log *messages, struct error *error)
{
    cJSON *metric = cJSON_GetObjectItemCaseSensitive(log->metrics, name);
    const cJSON *members = json_member(metric, "forget"), *others = json_member(metric, "holdout");
    struct eval_rows forget = {0}, holdout = {0};
    double was = eval_log_value(log, name), auc = NAN;
    if (!json_member(members, "value_by_index") || !json_member(others, "value_by_index"))
        return STATUS_OK;
    int status = eval_rows_read(log, members, name, "score", &forget, error);
    if (!status)
        status = eval_rows_read(log, others, name, "score", &holdout, error);
    if (!status && (forget.per_row != 1 || holdout.per_row != 1))
        status = error_set(error, STATUS_INPUT, "%s: %s: expected one score per row", log->path, name);
    if (!status)
        status = auc_score(forget.value, forget.rows, holdout.value, holdout.rows, &auc, error);
    if (status == STATUS_NONFINITE) {
        log_warning(messages, "%s: %s: %s", log->path, name, error->text);
        status = STATUS_OK;
    }
    if (!status)
        status = set_number(log, metric, "auc", auc, error);
    if (!status)
        status = set_number(log, metric, "agg_value", auc, error);
    if (!status)
        compare(log, name, was, messages);
    eval_rows_free(&forget);
    eval_rows_free(&holdout);
    return status;
}

/* One part of mia_reference: the difference of both models' losses, where both have the same rows. */
static int reference_rows(const struct eval_log *log, const struct eval_log *retain, const char *part, struct eval_rows *rows,
                          bool *same, struct error *error)
{
    const cJSON *own = json_member(eval_log_metric(log, "mia_loss"), part), *other = json_member(eval_log_metric(retain, "mia_loss"), part);
    struct eval_rows reference = {0};
    *same = json_member(own, "value_by_index") && json_member(other, "value_by_index");
    int status = *same ? eval_rows_read(log, own, "mia_loss", "score", rows, error) : STATUS_OK;
    if (!status && *same)
        status = eval_rows_read(retain, other, "mia_loss", "score", &reference, error);
    *same = *same && !status && rows->per_row == 1 && reference.per_row == 1 && rows->rows == reference.rows;
    for (size_t i = 0; i < rows->rows && *same; i++) {
        *same = !strcmp(rows->index[i], reference.index[i]);
        rows->value[i] -= reference.value[i];
    }
    eval_rows_free(&reference);
    return status;
}

/* mia_reference of a log that has none: the retain model is the reference. */
static int derive_reference(struct eval_log *log, const struct eval_log *retain, struct error *error)
{
    struct eval_rows forget = {0}, holdout = {0};
    bool same = false;
    if (!retain || eval_log_metric(log, "mia_reference"))
        return STATUS_OK;
    int status = reference_rows(log, retain, "forget", &forget, &same, error);
    if (!status && same)
        status = reference_rows(log, retain, "holdout", &holdout, &same, error);
    if (!status && same)
        status = eval_log_add_membership(log, "mia_reference", forget.value, forget.rows, holdout.value, holdout.rows, error);
    eval_rows_free(&forget);
    eval_rows_free(&holdout);
    return status;
}

static int derive_membership(struct eval_log *log, const struct eval_log *retain, struct log *messages,
                             struct error *error)
{
    static const char *const names[] = {"mia_loss",      "mia_zlib",    "mia_min_k", "mia_min_k_plus_plus",
                                        "mia_reference", "mia_gradnorm"};
    int status = derive_reference(log, retain, error);
    for (size_t i = 0; i < sizeof names / sizeof *names && !status; i++)
        status = derive_auc(log, names[i], messages, error);
    if (status || !eval_log_metric(log, "mia_min_k"))
        return status;
    double auc = eval_log_value(log, "mia_min_k"), retain_auc = retain ? eval_log_value(retain, "mia_min_k") : NAN;
    const char *why = retain ? "the retain log has no mia_min_k" : "there is no retain log";
    if (isnan(retain_auc) && eval_log_metric(log, "privleak")) {
        if (retain)
            log_warning(messages, "%s: privleak is left as it is: %s", log->path, why);
        return STATUS_OK;
    }
    if (isnan(retain_auc))
        log_warning(messages, "%s: privleak is taken against an AUC of 0.5: %s", log->path, why);
    return eval_log_add_value(log, "privleak", privleak_open_unlearning(auc, isnan(retain_auc) ? 0.5 : retain_auc),
                              error);
}

/* Adds a score unless a part of it is missing. */
static int add_composite(struct eval_log *log, const char *name, double score, struct error *error)
{
    return isnan(score) ? STATUS_OK : eval_log_add_value(log, name, score, error);
}

static int derive_composite(struct eval_log *log, const struct eval_log *retain, struct error *error)
{
    static const char *const attacks[] = {"mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus"};
    double auc[4], retain_auc[4], knowledge;
    int status = forget_knowledge(log, &knowledge, error);
    for (int i = 0; i < 4; i++) {
        auc[i] = eval_log_value(log, attacks[i]);
        retain_auc[i] = retain ? eval_log_value(retain, attacks[i]) : NAN;
    }
    double memorization =
        memorization_score(eval_log_value(log, "extraction_strength"), eval_log_value(log, "exact_memorization"),
                           eval_log_value(log, "forget_Q_A_PARA_Prob"), knowledge);
    double privacy = privacy_score(auc, retain_auc, 4);
    double utility = utility_score(eval_log_value(log, "model_utility"), eval_log_value(log, "forget_Q_A_gibberish"));
    if (!status)
        status = add_composite(log, "memorization_score", memorization, error);
    if (!status)
        status = add_composite(log, "privacy_score", privacy, error);
    if (!status)
        status = add_composite(log, "utility_score", utility, error);
    if (!status)
        status = add_composite(log, "overall_score", overall_score(memorization, privacy, utility), error);
    return status;
}

/* The forget generations of a log; NULL for none. */
static const cJSON *generations_of(const struct eval_log *log)
{
    static const char *const names[] = {"forget_Q_A_ROUGE", "forget_knowmem_ROUGE"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const cJSON *rows = json_member(eval_log_metric(log, names[i]), "value_by_index");
        if (rows && json_member(rows->child, "generation"))
            return rows;
    }
    return NULL;
}

/* 1 for a generation that refuses and 0 for another, by F1 and by recall, and the share of its 4-grams that are repeats. */
static int generation_scores(const struct eval_log *log, const cJSON *row, const struct derive_options *options,
                             double *refused, double *recalled, double *repeated, struct error *error)
{
    const cJSON *text = json_member(row, "generation");
    struct refusal refusal;
    struct repetition repetition;
    if (!cJSON_IsString(text))
        return error_set(error, STATUS_INPUT, "%s: row %s: generation: expected a text", log->path, row->string);
    size_t length = strlen(text->valuestring);
    int status = refusal_score(text->valuestring, length, options->refusals, options->refusal_count, &refusal, error);
    if (!status)
        status = repetition_of_text(text->valuestring, length, &repetition, error);
    if (!status) {
        *refused = refusal_refuses(&refusal);
        *recalled = refusal.recall >= REFUSAL_THRESHOLD;
        *repeated = repetition.repeated[NGRAM_ORDERS - 1];
    }
    return status;
}

static int derive_generations(struct eval_log *log, const struct derive_options *options, struct error *error)
{
    const cJSON *rows = generations_of(log), *row = rows ? rows->child : NULL;
    size_t count = rows ? (size_t)cJSON_GetArraySize(rows) : 0, at = 0;
    if (count == 0)
        return STATUS_OK;
    double *refused = memory_array(count, sizeof *refused, error), *recalled = memory_array(count, sizeof *recalled, error),
           *repeated = memory_array(count, sizeof *repeated, error);
    const char **index = memory_array(count, sizeof *index, error);
    int status = refused && recalled && repeated && index ? STATUS_OK : STATUS_MEMORY;
    for (; row && !status; row = row->next, at++) {
        index[at] = row->string;
        status = generation_scores(log, row, options, refused + at, recalled + at, repeated + at, error);
    }
    if (!status && options->refusal_count)
        status = eval_log_add_scores(log, "forget_refusal_rate", index, "score", refused, NULL, count,
                                     mean_of(refused, count), error);
    if (!status && options->refusal_count)
        status = eval_log_add_scores(log, "forget_refusal_recall_rate", index, "score", recalled, NULL, count,
                                     mean_of(recalled, count), error);
    if (!status)
        status = eval_log_add_scores(log, "forget_repetition", index, "score", repeated, NULL, count,
                                     mean_of(repeated, count), error);
    free(refused);
    free(recalled);
    free(repeated);
    free(index);
    return status;
}

int eval_derive(struct eval_log *log, const struct derive_options *options, struct log *messages, struct error *error)
{
    const struct eval_log *retain = options->retain;
    int status = derive_means(log, messages, error);
    if (!status)
        status = derive_pairs(log, messages, error);
    if (!status)
        status = derive_forget_quality(log, retain, messages, error);
    if (!status)
        status = derive_utility(log, messages, error);
    if (!status)
        status = derive_membership(log, retain, messages, error);
    if (!status)
        status = derive_generations(log, options, error);
    if (!status)
        status = derive_composite(log, retain, error);
    return status;
}

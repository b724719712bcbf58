/* answer_pairs.c - see answer_pairs.h. */
#include "answer_pairs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/memory.h"
#include "../metric/probability.h"
#include "../metric/truth_ratio.h"

static const double eps = OPEN_UNLEARNING_EPS;

static double ratio_of(double right, const double *wrong, size_t count)
{
    return truth_ratio(TRUTH_RATIO_GEOMETRIC, right, wrong, count, eps);
}

static double normalised_of(double right, const double *wrong, size_t count)
{
    return answer_probability_normalised(right, wrong, count, eps);
}

static double closer_to_1(double ratio)
{
    return truth_ratio_closer_to_1(ratio, eps);
}

static double as_it_is(double value)
{
    return value;
}

/* On real authors and world facts the right answer is the answer itself. TOFU's own logs hold its loss once more, as
 * that of the paraphrase, with another rounding; its truth ratios are of that one. */
const struct pair_metric pair_metrics[PAIR_METRICS] = {
    {"forget_truth_ratio", "forget_Q_A_PARA_Prob", NULL, "forget_Q_A_PERT_Prob", "score", ratio_of, closer_to_1},
    {"retain_Truth_Ratio", "retain_Q_A_PARA_Prob", NULL, "retain_Q_A_PERT_Prob", "score", ratio_of,
     truth_ratio_true_better},
    {"ra_Truth_Ratio", "ra_Q_A_PARA_Prob", "ra_Q_A_Prob", "ra_Q_A_PERT_Prob", "score", ratio_of,
     truth_ratio_true_better},
    {"wf_Truth_Ratio", "wf_Q_A_PARA_Prob", "wf_Q_A_Prob", "wf_Q_A_PERT_Prob", "score", ratio_of,
     truth_ratio_true_better},
    {"ra_Q_A_Prob_normalised", "ra_Q_A_Prob", NULL, "ra_Q_A_PERT_Prob", "prob", normalised_of, as_it_is},
    {"wf_Q_A_Prob_normalised", "wf_Q_A_Prob", NULL, "wf_Q_A_PERT_Prob", "prob", normalised_of, as_it_is},
};
static const struct pair_metric *const forget = pair_metrics;

/* Takes the arrays of both over into pairs. */
static void join(struct eval_rows *right, struct eval_rows *wrong, struct answer_pairs *pairs)
{
    *pairs =
        (struct answer_pairs){right->rows, wrong->per_row, right->value, wrong->value, right->absent, right->index};
    for (size_t i = 0; i < pairs->rows; i++)
        pairs->absent[i] |= wrong->absent[i];
    wrong->value = NULL;
    *right = (struct eval_rows){0};
}

int answer_pairs_read(const struct eval_log *log, const char *right, const char *fallback, const char *wrong,
                      struct answer_pairs *pairs, struct error *error)
{
    if (fallback && !eval_log_metric(log, right))
        right = fallback;
    const cJSON *right_metric = eval_log_metric(log, right), *wrong_metric = eval_log_metric(log, wrong);
    struct eval_rows a = {0}, b = {0};
    *pairs = (struct answer_pairs){0};
    if (!json_member(right_metric, "value_by_index") || !json_member(wrong_metric, "value_by_index"))
        return STATUS_OK;
    int status = eval_rows_read(log, right_metric, right, "avg_loss", &a, error);
    if (!status)
        status = eval_rows_read(log, wrong_metric, wrong, "avg_loss", &b, error);
    if (!status)
        status = eval_rows_match(log, &a, right, &b, wrong, error);
    if (!status && a.per_row != 1)
        status = error_set(error, STATUS_INPUT, "%s: %s: expected one answer per row, found %zu", log->path, right,
                           a.per_row);
    if (!status)
        join(&a, &b, pairs);
    eval_rows_free(&a);
    eval_rows_free(&b);
    return status;
}

void answer_pairs_free(struct answer_pairs *pairs)
{
    free(pairs->right);
    free(pairs->wrong);
    free(pairs->absent);
    free(pairs->index);
    *pairs = (struct answer_pairs){0};
}

int pair_metric_add(struct eval_log *log, const struct pair_metric *metric, struct error *error)
{
    struct answer_pairs pairs;
    int status = answer_pairs_read(log, metric->right, metric->fallback, metric->wrong, &pairs, error);
    double *value = pairs.rows ? memory_array(pairs.rows, sizeof *value, error) : NULL, sum = 0;
    size_t present = 0;
    if (pairs.rows && !value)
        status = STATUS_MEMORY;
    for (size_t i = 0; value && i < pairs.rows; i++) {
        if (pairs.absent[i])
            continue;
        value[i] = metric->value(pairs.right[i], pairs.wrong + i * pairs.wrong_answers, pairs.wrong_answers);
        sum += metric->aggregated(value[i]);
        present++;
    }
    if (value)
        status = eval_log_add_scores(log, metric->name, pairs.index, metric->field, value, pairs.absent, pairs.rows,
                                     present ? sum / (double)present : NAN, error);
    free(value);
    answer_pairs_free(&pairs);
    return status;
}

/* The truth ratio of each pair that is there. */
static int ratios_of(const struct answer_pairs *pairs, enum truth_ratio_form form, double own_eps, double **ratio,
                     size_t *count, struct error *error)
{
    if (!(*ratio = memory_array(pairs->rows, sizeof **ratio, error)))
        return STATUS_MEMORY;
    *count = 0;
    for (size_t i = 0; i < pairs->rows; i++)
        if (!pairs->absent[i])
            (*ratio)[(*count)++] = truth_ratio(form, pairs->right[i], pairs->wrong + i * pairs->wrong_answers,
                                               pairs->wrong_answers, own_eps);
    return STATUS_OK;
}

/* The truth ratios that the log holds. */
static int stored_ratios(const struct eval_log *log, double **ratio, size_t *count, struct error *error)
{
    const cJSON *metric = eval_log_metric(log, forget->name);
    struct eval_rows rows;
    if (!json_member(metric, "value_by_index"))
        return STATUS_OK;
    int status = eval_rows_read(log, metric, forget->name, "score", &rows, error);
    if (status)
        return status;
    for (size_t i = 0; i < rows.rows; i++)
        if (!rows.absent[i])
            rows.value[(*count)++] = rows.value[i * rows.per_row];
    *ratio = rows.value;
    rows.value = NULL;
    eval_rows_free(&rows);
    return STATUS_OK;
}

int forget_truth_ratios(const struct eval_log *log, double own_eps, double **ratio, size_t *count, struct error *error)
{
    struct answer_pairs pairs;
    *ratio = NULL;
    *count = 0;
    int status = answer_pairs_read(log, forget->right, NULL, forget->wrong, &pairs, error);
    if (!status && pairs.rows)
        status = ratios_of(&pairs, TRUTH_RATIO_GEOMETRIC, own_eps, ratio, count, error);
    else if (!status && own_eps == eps)
        status = stored_ratios(log, ratio, count, error);
    answer_pairs_free(&pairs);
    return status;
}

int forget_knowledge(const struct eval_log *log, double *mean, struct error *error)
{
    struct answer_pairs pairs;
    double *share = NULL;
    size_t count = 0;
    int status = answer_pairs_read(log, forget->right, NULL, forget->wrong, &pairs, error);
    if (!status && pairs.rows)
        status = ratios_of(&pairs, TRUTH_RATIO_PROBABILITY, eps, &share, &count, error);
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += share[i];
    *mean = count ? sum / (double)count : NAN;
    free(share);
    answer_pairs_free(&pairs);
    return status;
}

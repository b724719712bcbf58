/* answer_pairs.h - metrics of a log that set the right answer's loss against the wrong ones', row by row: truth ratios
 * and normalised probabilities.
 */
#ifndef FLAT_EVAL_SUITE_ANSWER_PAIRS_H
#define FLAT_EVAL_SUITE_ANSWER_PAIRS_H
#include "eval_log.h"

struct answer_pairs {
    size_t rows, wrong_answers; /* 0 rows: the log lacks one of the two metrics, or their rows */
    double *right;              /* [rows] mean -logprob */
    double *wrong;              /* [rows][wrong_answers] */
    bool *absent;               /* [rows] */
    const char **index;         /* [rows] the log's strings */
};
/* The rows of two probability metrics, which must be the same ones; fallback (may be NULL) stands in for a `right` that
 * the log lacks. answer_pairs_free, after a failure too. */
int answer_pairs_read(const struct eval_log *log, const char *right, const char *fallback, const char *wrong,
                      struct answer_pairs *pairs, struct error *error);
void answer_pairs_free(struct answer_pairs *pairs);

/* The metrics that open-unlearning forms of pairs. */
struct pair_metric {
    const char *name, *right, *fallback, *wrong, *field; /* fallback: the right answer where the log lacks `right` */
    double (*value)(double right, const double *wrong, size_t count);
    double (*aggregated)(double value); /* what the aggregate is the mean of */
};
enum { PAIR_METRICS = 6 };
extern const struct pair_metric pair_metrics[PAIR_METRICS];

/* Adds the metric when the log has its parts. */
int pair_metric_add(struct eval_log *log, const struct pair_metric *metric, struct error *error);

/* The truth ratios of the forget rows that have one: from the losses with the given eps, or, with open-unlearning's, as
 * the log holds them when it has no losses. *count 0: it has neither. free(*ratio). */
int forget_truth_ratios(const struct eval_log *log, double eps, double **ratio, size_t *count, struct error *error);
/* The mean over forget rows of the truth ratio in its probability form; NAN without losses. */
int forget_knowledge(const struct eval_log *log, double *mean, struct error *error);

#endif

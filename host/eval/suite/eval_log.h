/* eval_log.h - the results of an evaluation, in open-unlearning's form: metrics by name, each with its aggregate and
 * its values by row.
 *
 *   probability     {"agg_value": x, "value_by_index": {"0": {"prob": x, "avg_loss": x}}}; lists for several answers
 *   rouge           {"rouge1_recall", "rougeL_f1", "rougeL_recall", "input", "ground_truth", "generation"} per row
 *   scores          {"score": x} per row (truth_ratio, exact_memorization, extraction_strength), or {"prob": x}
 *   membership      {"forget": {scores}, "holdout": {scores}, "auc": x, "agg_value": x}
 *   single value    {"agg_value": x}; null: could not be had, as forget_quality without a retain model
 *
 * The index is the row's number in its file, as a string. A value of null is absent and takes no part in an aggregate;
 * NaN, of a row without a target, makes the aggregate NaN. What a suite measures it adds here, eval_derive.h adds what
 * follows from it, and the whole is written as <SUITE>_EVAL.json and <SUITE>_SUMMARY.json, which open-unlearning's
 * tools read.
 */
#ifndef FLAT_EVAL_SUITE_EVAL_LOG_H
#define FLAT_EVAL_SUITE_EVAL_LOG_H
#include "../../io/json/json.h"
#include "../../util/log.h"

struct eval_log {
    char *path;     /* for messages */
    cJSON *metrics; /* an object */
};

/* An empty log. eval_log_free after this and after a read, failed ones too. */
int eval_log_open(struct eval_log *log, const char *path, struct error *error);
/* Reads a log of either form: open-unlearning's <SUITE>_EVAL.json, or TOFU's own eval_log_aggregated.json, whose losses
 * and texts become the metrics that open-unlearning would have logged. messages hears of what is ignored. */
int eval_log_read(struct eval_log *log, const char *path, struct log *messages, struct error *error);
void eval_log_free(struct eval_log *log);

/* A metric, NULL when the log has none of that name; within it the aggregate, NAN when there is none or it is null. */
const cJSON *eval_log_metric(const struct eval_log *log, const char *name);
double eval_log_value(const struct eval_log *log, const char *name);

/* One field of a metric's rows. */
struct eval_rows {
    size_t rows, per_row; /* per_row: 1, or the length of the lists */
    double *value;        /* [rows][per_row] NAN for null */
    bool *absent;         /* [rows] null there */
    const char **index;   /* [rows] the log's strings */
};
/* name: the metric's, for messages. STATUS_INPUT for rows that are not of that form, or not all of one length. rows is
 * empty after a failure. */
int eval_rows_read(const struct eval_log *log, const cJSON *metric, const char *name, const char *field,
                   struct eval_rows *rows, struct error *error);
void eval_rows_free(struct eval_rows *rows);
/* STATUS_INPUT unless both have the same rows in the same order. */
int eval_rows_match(const struct eval_log *log, const struct eval_rows *a, const char *a_name,
                    const struct eval_rows *b, const char *b_name, struct error *error);
/* Mean over the answers of each row, then over the rows that are not absent: the aggregate of open-unlearning. NAN when
 * no row is there. */
double eval_rows_aggregate(const struct eval_rows *rows);

/* Additions; a metric of that name is replaced. index NULL: rows are numbered from 0. */

/* loss: [rows][answers], the mean -logprob of an answer's targets. */
int eval_log_add_probability(struct eval_log *log, const char *name, const char *const *index, const double *loss,
                             size_t rows, size_t answers, struct error *error);
struct eval_text {
    const char *input, *ground_truth, *generation; /* zero-terminated UTF-8 */
};
/* ROUGE with the stemmer; the aggregate is the mean of `aggregate`, "rougeL_recall" (TOFU) or "rougeL_f1" (MUSE). */
int eval_log_add_rouge(struct eval_log *log, const char *name, const char *const *index, const struct eval_text *text,
                       size_t rows, const char *aggregate, struct error *error);
/* field: "score" or "prob". absent (may be NULL) rows are null. */
int eval_log_add_scores(struct eval_log *log, const char *name, const char *const *index, const char *field,
                        const double *score, const bool *absent, size_t rows, double aggregate, struct error *error);
/* The AUC is worked out here. */
int eval_log_add_membership(struct eval_log *log, const char *name, const double *forget, size_t forget_rows,
                            const double *holdout, size_t holdout_rows, struct error *error);
int eval_log_add_value(struct eval_log *log, const char *name, double value, struct error *error);
int eval_log_add_null(struct eval_log *log, const char *name, struct error *error);

/* "TOFU" or "MUSE" by the names of the metrics; NULL for neither. */
const char *eval_log_suite(const struct eval_log *log);
/* The suite's summary: {name: aggregate} of what its tables show, sorted, without those that are null. cJSON_Delete. */
int eval_log_summary(const struct eval_log *log, const char *suite, cJSON **summary, struct error *error);
/* directory/<suite>_EVAL.json (all metrics, sorted by name) and directory/<suite>_SUMMARY.json, as Python's json module
 * writes them with an indentation of 4; NaN and Infinity bare. */
int eval_log_write(const struct eval_log *log, const char *suite, const char *directory, struct error *error);

/* Of eval_log_tofu.c: whether a tree is TOFU's own form, and its conversion. */
bool eval_log_is_tofu(const cJSON *tree);
int eval_log_convert_tofu(struct eval_log *log, const cJSON *tree, struct log *messages, struct error *error);

#endif

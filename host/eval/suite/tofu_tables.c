/* tofu_tables.c - see tofu_tables.h. */
#include "tofu_tables.h"

#include <math.h>
#include <stdlib.h>

#include "../../util/file.h"
#include "answer_pairs.h"

/* The metrics that a set's three figures are made of. */
static const struct {
    const char *rouge, *answer, *right, *fallback, *wrong;
} sources[TOFU_SETS] = {
    [TOFU_RETAIN] = {"retain_Q_A_ROUGE", "retain_Q_A_Prob", "retain_Q_A_PARA_Prob", NULL, "retain_Q_A_PERT_Prob"},
    [TOFU_REAL_AUTHORS] = {"ra_Q_A_ROUGE", "ra_Q_A_Prob", "ra_Q_A_PARA_Prob", "ra_Q_A_Prob", "ra_Q_A_PERT_Prob"},
    [TOFU_WORLD_FACTS] = {"wf_Q_A_ROUGE", "wf_Q_A_Prob", "wf_Q_A_PARA_Prob", "wf_Q_A_Prob", "wf_Q_A_PERT_Prob"},
    [TOFU_FORGET] = {"forget_Q_A_ROUGE", "forget_Q_A_Prob", "forget_Q_A_PARA_Prob", NULL, "forget_Q_A_PERT_Prob"},
};

/* One field of a metric, one number per row, with the rows of `pairs`. */
static int column_read(const struct eval_log *log, const char *name, const char *field,
                       const struct answer_pairs *pairs, const char *pairs_name, struct eval_rows *rows,
                       struct error *error)
{
    const struct eval_rows same = {.rows = pairs->rows, .index = pairs->index};
    int status = eval_rows_read(log, eval_log_metric(log, name), name, field, rows, error);
    if (!status && rows->per_row != 1)
        status = error_set(error, STATUS_INPUT, "%s: %s: expected one answer per row, found %zu", log->path, name,
                           rows->per_row);
    return status ? status : eval_rows_match(log, rows, name, &same, pairs_name, error);
}

static int figures_make(enum tofu_csv form, enum tofu_set set, const struct eval_log *log, struct tofu_figures *figures,
                        bool *available, struct error *error)
{
    struct answer_pairs pairs;
    struct eval_rows rouge = {0}, answer = {0};
    int status = answer_pairs_read(log, sources[set].right, sources[set].fallback, sources[set].wrong, &pairs, error);
    *available = !status && pairs.rows && json_member(eval_log_metric(log, sources[set].rouge), "value_by_index") &&
                 json_member(eval_log_metric(log, sources[set].answer), "value_by_index");
    if (*available) {
        status = column_read(log, sources[set].rouge, "rougeL_recall", &pairs, sources[set].right, &rouge, error);
        if (!status)
            status = column_read(log, sources[set].answer, "avg_loss", &pairs, sources[set].right, &answer, error);
    }
    if (*available && !status) {
        struct tofu_rows rows = {pairs.rows, pairs.wrong_answers, rouge.value, answer.value, pairs.right, pairs.wrong};
        bool arithmetic = form == TOFU_CSV_TRAINING;
        *figures = tofu_figures_of(set, &rows, arithmetic ? TRUTH_RATIO_ARITHMETIC : TRUTH_RATIO_GEOMETRIC, 0);
    }
    eval_rows_free(&rouge);
    eval_rows_free(&answer);
    answer_pairs_free(&pairs);
    return status;
}

/* TOFU's forget quality, from losses only. */
static int quality_make(const struct eval_log *log, const struct eval_log *retain, struct ks *ks,
                        const struct ks **quality, struct error *error)
{
    double *own = NULL, *other = NULL;
    size_t own_count, other_count = 0;
    int status = forget_truth_ratios(log, 0, &own, &own_count, error);
    if (!status)
        status = forget_truth_ratios(retain, 0, &other, &other_count, error);
    if (!status && own_count && other_count) {
        status = ks_test(own, own_count, other, other_count, KS_AUTO, ks, error);
        if (status == STATUS_NONFINITE) { /* the caller hears of it from forget_quality */
            *ks = (struct ks){NAN, NAN};
            status = STATUS_OK;
        }
        *quality = ks;
    }
    free(own);
    free(other);
    return status;
}

int tofu_table_make(enum tofu_csv form, const struct eval_log *log, const struct eval_log *retain,
                    struct tofu_table *table, struct ks *ks, bool *available, struct error *error)
{
    *table = (struct tofu_table){0};
    *available = true;
    for (int set = 0; set < TOFU_SETS && *available; set++) {
        int status = figures_make(form, (enum tofu_set)set, log, table->figures + set, available, error);
        if (status)
            return status;
    }
    if (!*available) {
        *table = (struct tofu_table){0};
        return STATUS_OK;
    }
    table->model_utility = model_utility(table->figures);
    return retain ? quality_make(log, retain, ks, &table->forget_quality, error) : STATUS_OK;
}

int tofu_tables_write(const struct eval_log *log, const struct eval_log *retain, const char *method,
                      const char *submitted_by, const char *directory, bool *written, struct error *error)
{
    static const char *const names[] = {
        [TOFU_CSV_LEADERBOARD] = "aggregate_eval_stat.csv", [TOFU_CSV_TRAINING] = "aggregate_stat.csv"};
    int status = STATUS_OK;
    *written = true;
    for (int form = 0; form < 2 && !status && *written; form++) {
        struct tofu_table table;
        struct buffer text = {0};
        struct ks ks;
        char path[4096];
        status = tofu_table_make((enum tofu_csv)form, log, retain, &table, &ks, written, error);
        table.method = method;
        table.submitted_by = submitted_by;
        if (!status && *written)
            status = tofu_csv_print((enum tofu_csv)form, &table, &text, error);
        if (!status && *written)
            status = file_join(path, sizeof path, directory, names[form], error);
        if (!status && *written)
            status = file_write(path, text.data, text.length, error);
        buffer_free(&text);
    }
    return status;
}

/* eval_log_write.c - see eval_log.h: <SUITE>_EVAL.json and <SUITE>_SUMMARY.json. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/file.h"
#include "eval_log.h"

/* What a summary shows: of every suite, and of each. mia_min_k is left out as in open-unlearning: privleak is what it
 * is measured for. model_utility_tofu, the scores and the last two of every suite are this program's own. */
enum { MOST_NAMES = 16 };
static const char *const shared_names[MOST_NAMES] = {
    "extraction_strength", "exact_memorization", "privleak",      "mia_loss",      "mia_zlib",
    "mia_min_k_plus_plus", "mia_gradnorm",       "mia_reference", "privacy_score", "forget_refusal_rate",
    "forget_refusal_recall_rate", "forget_repetition"};
static const struct suite {
    const char *name, *sign; /* sign: part of a metric's name that only this suite has; NULL: no name tells */
    const char *shown[MOST_NAMES]; /* none: all */
} suites[] = {
    {"MUSE", "mem_ROUGE", {"forget_knowmem_ROUGE", "forget_verbmem_ROUGE", "retain_knowmem_ROUGE"}},
    {"TOFU",
     "_Q_A_",
     {"forget_Q_A_Prob", "forget_Q_A_ROUGE", "forget_quality", "forget_truth_ratio", "model_utility",
      "forget_Q_A_gibberish", "model_utility_tofu", "memorization_score", "utility_score", "overall_score"}},
    {"HP", NULL, {NULL}},
    {"QA", NULL, {NULL}},
};
enum { SUITES = sizeof suites / sizeof *suites };

const char *eval_log_suite(const struct eval_log *log)
{
    for (int i = 0; i < SUITES; i++)
        for (const cJSON *metric = log->metrics->child; metric; metric = metric->next)
            if (suites[i].sign && strstr(metric->string, suites[i].sign))
                return suites[i].name;
    return NULL;
}

static const struct suite *suite_find(const char *name)
{
    for (int i = 0; i < SUITES; i++)
        if (!strcmp(suites[i].name, name))
            return suites + i;
    return NULL;
}

static bool is_shown(const struct suite *suite, const char *name)
{
    if (!suite->shown[0])
        return true;
    for (int i = 0; i < MOST_NAMES; i++)
        if ((shared_names[i] && !strcmp(shared_names[i], name)) || (suite->shown[i] && !strcmp(suite->shown[i], name)))
            return true;
    return false;
}

static int compare(const void *a, const void *b)
{
    return strcmp((*(const cJSON *const *)a)->string, (*(const cJSON *const *)b)->string);
}

/* The metrics that a suite's summary shows (NULL: all), as references in order of their names. */
static int sorted_metrics(const struct eval_log *log, const struct suite *suite, const cJSON ***out, size_t *count,
                          struct error *error)
{
    const cJSON **metric = memory_array((size_t)cJSON_GetArraySize(log->metrics), sizeof *metric, error);
    if (!metric)
        return STATUS_MEMORY;
    *count = 0;
    for (const cJSON *child = log->metrics->child; child; child = child->next)
        if (!suite || is_shown(suite, child->string))
            metric[(*count)++] = child;
    qsort(metric, *count, sizeof *metric, compare);
    *out = metric;
    return STATUS_OK;
}

static int out_of_memory(const struct eval_log *log, struct error *error)
{
    return error_set(error, STATUS_MEMORY, "%s: out of host memory for the summary", log->path);
}

int eval_log_summary(const struct eval_log *log, const char *suite, cJSON **summary, struct error *error)
{
    const cJSON **metric = NULL;
    size_t count = 0;
    const struct suite *shown = suite_find(suite);
    if (!shown)
        return error_set(error, STATUS_USAGE, "\"%s\": expected the suite TOFU, MUSE, HP or QA", suite);
    if (!(*summary = cJSON_CreateObject()))
        return out_of_memory(log, error);
    int status = sorted_metrics(log, shown, &metric, &count, error);
    for (size_t i = 0; i < count && !status; i++) {
        const cJSON *value = json_member(metric[i], "agg_value");
        if (cJSON_IsNumber(value) && !cJSON_AddNumberToObject(*summary, metric[i]->string, value->valuedouble))
            status = out_of_memory(log, error);
    }
    free(metric);
    if (status) {
        cJSON_Delete(*summary);
        *summary = NULL;
    }
    return status;
}

/* An object whose members refer to those of the log, sorted. */
static int sorted_view(const struct eval_log *log, cJSON **view, struct error *error)
{
    const cJSON **metric;
    size_t count;
    int status = sorted_metrics(log, NULL, &metric, &count, error);
    if (status)
        return status;
    *view = cJSON_CreateObject();
    bool complete = *view;
    for (size_t i = 0; i < count && complete; i++)
        complete = cJSON_AddItemReferenceToObject(*view, metric[i]->string, (cJSON *)(uintptr_t)metric[i]);
    free(metric);
    return complete ? STATUS_OK : out_of_memory(log, error);
}

static int write_python(const cJSON *value, const char *suite, const char *kind, const char *directory,
                        struct error *error)
{
    char name[64], path[4096];
    struct buffer text = {0};
    snprintf(name, sizeof name, "%s_%s.json", suite, kind);
    int status = file_join(path, sizeof path, directory, name, error);
    if (!status)
        status = json_python_print(value, &text, error);
    if (!status)
        status = file_write(path, text.data, text.length, error);
    buffer_free(&text);
    return status;
}

int eval_log_write(const struct eval_log *log, const char *suite, const char *directory, struct error *error)
{
    cJSON *summary = NULL, *view = NULL;
    int status = eval_log_summary(log, suite, &summary, error);
    if (!status)
        status = sorted_view(log, &view, error);
    if (!status)
        status = file_make_directory(directory, error);
    if (!status)
        status = write_python(view, suite, "EVAL", directory, error);
    if (!status)
        status = write_python(summary, suite, "SUMMARY", directory, error);
    cJSON_Delete(view);
    cJSON_Delete(summary);
    return status;
}

/* eval_log_read.c - see eval_log.h: reading a file of either form. */
#include "eval_log.h"

static const size_t max_file_bytes = (size_t)1 << 30;

/* Every metric must be an object, and there must be one that this program knows the form of. */
static int metrics_check(const struct eval_log *log, struct error *error)
{
    const cJSON *metric;
    bool any = false;
    cJSON_ArrayForEach(metric, log->metrics)
    {
        if (!cJSON_IsObject(metric))
            return error_set(error, STATUS_INPUT,
                             "%s: %s: expected an object with agg_value; is this a SUMMARY? Give the EVAL file",
                             log->path, metric->string);
        any |= json_member(metric, "agg_value") || json_member(metric, "value_by_index");
    }
    if (!any)
        return error_set(error, STATUS_INPUT,
                         "%s: expected open-unlearning's metrics (agg_value, value_by_index) or the parts of TOFU's "
                         "eval_log_aggregated.json (eval_log_forget.json, ...)",
                         log->path);
    return STATUS_OK;
}

int eval_log_read(struct eval_log *log, const char *path, struct log *messages, struct error *error)
{
    int status = eval_log_open(log, path, error);
    if (status)
        return status;
    cJSON *tree = json_read_python(path, max_file_bytes, error);
    if (!tree)
        return error->status;
    if (!cJSON_IsObject(tree)) {
        cJSON_Delete(tree);
        return error_set(error, STATUS_INPUT, "%s: expected an object of metrics", path);
    }
    if (eval_log_is_tofu(tree)) {
        status = eval_log_convert_tofu(log, tree, messages, error);
        cJSON_Delete(tree);
        return status;
    }
    cJSON_Delete(log->metrics);
    log->metrics = tree;
    return metrics_check(log, error);
}

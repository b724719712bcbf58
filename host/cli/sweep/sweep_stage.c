/* sweep_stage.c - the children of a row: flat unlearn, flat eval and flat attack, each with its log; see sweep.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../child.h"
#include "sweep.h"

enum { PATH_BYTES = 4096, FLAGS_MAX = 160 };

const char *const sweep_stage_logs[] = {[SWEEP_TRAINING] = "train.log", [SWEEP_SCORING] = "eval.log", [SWEEP_ATTACKING] = "attack.log"};

/* Options as flags of a command line; free them. */
static int flags_add(const cJSON *options, const char *of, const char *prefix, char **flag, int *count, struct error *error)
{
    int status = STATUS_OK;
    for (const cJSON *item = options ? options->child : NULL; item && !status; item = item->next) {
        struct buffer text = {0};
        const cJSON *each;
        char name[256];
        snprintf(name, sizeof name, "%.100s%s%.100s", prefix, *prefix ? "." : "", item->string);
        if (cJSON_IsObject(item)) {
            status = flags_add(item, of, name, flag, count, error);
            continue;
        }
        if (*count == FLAGS_MAX)
            return error_set(error, STATUS_USAGE, "%s: more than %d options", of, FLAGS_MAX);
        status = buffer_printf(&text, error, "--%s%s", cJSON_IsFalse(item) ? "no_" : "", name);
        if (!status && !cJSON_IsBool(item))
            status = buffer_append(&text, "=", 1, error);
        if (!status && cJSON_IsString(item))
            status = buffer_append(&text, item->valuestring, strlen(item->valuestring), error);
        else if (!status && cJSON_IsNumber(item))
            status = json_print(item, &text, error);
        if (!status && cJSON_IsArray(item))
            cJSON_ArrayForEach(each, item) if (!status && cJSON_IsString(each)) status =
                buffer_printf(&text, error, "%s%s", each == item->child ? "" : ",", each->valuestring);
        flag[(*count)++] = text.data;
    }
    return status;
}

/* The rows' figures of an earlier attack on the same model with the same data, so that the models beside it are measured once;
 * "": none. */
static int baseline_find(const struct sweep *sweep, const struct sweep_row *row, char *path, struct error *error)
{
    static const char *const alike[] = {"model_name_or_path", "adapter", "forget_data", "template", "prompt_template", "system_prompt",
                                        "thinking", "prompt_date", "question_key", "answer_key", "device"};
    int status = STATUS_OK;
    *path = 0;
    for (size_t i = sweep->landmarks; i < sweep->rows && !status && !*path; i++) {
        const struct sweep_row *other = &sweep->row[i];
        bool same = other->result && other != row;
        for (size_t k = 0; k < sizeof alike / sizeof *alike && same; k++) {
            const cJSON *own = json_member(row->config, alike[k]), *its = json_member(other->config, alike[k]);
            same = (!own && !its) || cJSON_Compare(own, its, true);
        }
        if (same)
            status = sweep_file_find(sweep, other, "attacks", ".jsonl", path, error);
    }
    return status;
}

static int training_begin(const struct sweep *sweep, const struct sweep_row *row, const char *log, struct child *child, const char *gpu,
                          struct error *error)
{
    char config[PATH_BYTES], model[PATH_BYTES];
    int status = sweep_path(sweep, row, "config.json", config, error);
    if (!status)
        status = sweep_path(sweep, row, "model", model, error);
    const cJSON *method = json_member(row->config, "method");
    /* a method that a flag has chosen passes over what the config says of others: their options, and data that it does not use */
    const char *const arguments[] = {"unlearn", config, "--output_dir", model, "--resume_from_checkpoint", "last",
                                     "--final_eval_rows", "0", "--method", cJSON_IsString(method) ? method->valuestring : "",
                                     NULL};
    return status ? status : child_start(child, arguments, log, true, gpu, error);
}

/* flat eval or flat attack of the row's model, with the options of the config. */
static int asking_begin(const struct sweep *sweep, const struct sweep_row *row, bool attack, const char *log, struct child *child,
                        const char *gpu, struct error *error)
{
    char config[PATH_BYTES], output[PATH_BYTES], baseline[PATH_BYTES] = "", *flag[FLAGS_MAX] = {NULL};
    const char *arguments[FLAGS_MAX + 12] = {attack ? "attack" : "eval", config, "--output_dir", output};
    int count = 4, flags = 0;
    int status = sweep_path(sweep, row, row->landmark ? "config.json" : "model", config, error);
    if (!status)
        status = sweep_path(sweep, row, attack ? "attacks" : "evals", output, error);
    if (!status && attack)
        status = baseline_find(sweep, row, baseline, error);
    if (row->landmark) {
        arguments[count++] = "--model";
        arguments[count++] = row->landmark;
    }
    if (*baseline) {
        arguments[count++] = "--baseline_log";
        arguments[count++] = baseline;
    }
    if (!status)
        status = flags_add(attack ? sweep->attack : sweep->eval, attack ? "attack" : "eval", "", flag, &flags, error);
    for (int i = 0; i < flags; i++)
        arguments[count++] = flag[i];
    if (!status)
        status = child_start(child, arguments, log, false, gpu, error);
    for (int i = 0; i < flags; i++)
        free(flag[i]);
    return status;
}

int sweep_stage_begin(const struct sweep *sweep, const struct sweep_row *row, enum sweep_stage stage, struct child *child,
                      const char *gpu, struct error *error)
{
    char log[PATH_BYTES];
    int status = sweep_path(sweep, row, sweep_stage_logs[stage], log, error);
    if (status)
        return status;
    return stage == SWEEP_TRAINING ? training_begin(sweep, row, log, child, gpu, error)
                                   : asking_begin(sweep, row, stage == SWEEP_ATTACKING, log, child, gpu, error);
}

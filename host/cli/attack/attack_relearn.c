/* attack_relearn.c - does a little fine-tuning bring it back? Each model is trained by `flat finetune`, as a child, on the same
 * rows in the same order for the same steps, and asked again; see attack.h.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../eval/metric/mean.h"
#include "../../util/file.h"
#include "../../util/interrupt.h"
#include "../child.h"
#include "attack.h"

enum { PATH_BYTES = 4096, CURVE_POINTS = 10, MICRO_BATCH = 8, TIMED_STEPS = 3 };

/* What is trained on, and which rows of the forget set are then asked. */
struct relearning {
    const char *name, *path;
    int first;         /* row */
    int64_t data_rows; /* of path */
};

/* ---- the child ---- */

/* What the child must read as we do. */
static cJSON *shared_config(const struct attack *attack, struct error *error)
{
    static const char *const keys[] = {"prompt_template", "system_prompt", "thinking", "prompt_date",
                                       "question_key",    "answer_key",    "device",   "threads"};
    cJSON *all = invocation_json(attack->run, error), *config = all ? cJSON_CreateObject() : NULL;
    for (size_t i = 0; config && i < sizeof keys / sizeof *keys; i++) {
        cJSON *item = cJSON_DetachItemFromObjectCaseSensitive(all, keys[i]);
        if (item)
            cJSON_AddItemToObject(config, keys[i], item);
    }
    cJSON_Delete(all);
    return config;
}

static int64_t steps_of(const struct attack *attack, int64_t rows)
{
    const int64_t batch = attack->options->relearn_batch_size;
    const double epochs = attack->options->relearn_epochs;
    const int64_t by_epochs = (int64_t)ceil(epochs * (double)((rows + batch - 1) / batch));
    return attack->steps && attack->steps < by_epochs ? attack->steps : by_epochs;
}

static int config_write(const struct attack *attack, const struct relearning *data, const struct attack_subject *subject,
                        int64_t steps, bool curve, const char *output, const char *path, struct error *error)
{
    const struct attack_options *options = attack->options;
    const int64_t batch = options->relearn_batch_size, micro = batch < MICRO_BATCH || batch % MICRO_BATCH ? batch : MICRO_BATCH;
    char eval[PATH_BYTES + 16];
    snprintf(eval, sizeof eval, "asked=%s", options->forget_data);
    cJSON *config = shared_config(attack, error);
    bool ok = config && json_add_string(config, "model_name_or_path", subject->model.model_name_or_path) &&
              json_add_string(config, "adapter", subject->model.adapter) && json_add_string(config, "train_data", data->path) &&
              json_add_string(config, "output_dir", output) && json_add_int(config, "max_length", options->eval_max_length) &&
              json_add_number(config, "learning_rate", options->relearn_learning_rate) &&
              json_add_int(config, "per_device_train_batch_size", micro) &&
              json_add_int(config, "gradient_accumulation_steps", batch / micro) && json_add_int(config, "max_steps", steps) &&
              json_add_string(config, "save_dtype", "float32");
    if (curve)
        ok = ok && json_add_string(config, "eval_data", eval) && json_add_string(config, "eval_strategy", "steps") &&
             json_add_int(config, "eval_steps", steps > CURVE_POINTS ? steps / CURVE_POINTS : 1);
    int status = ok ? json_write(config, path, error) : error_set(error, STATUS_MEMORY, "out of host memory");
    cJSON_Delete(config);
    return status;
}

/* Trains into `output`, which is not there before. why: what the child says of its failure. */
static int train_once(const struct attack *attack, const struct relearning *data, const struct attack_subject *subject,
                      int64_t steps, bool curve, const char *output, int *code, char why[1024], struct error *error)
{
    char config[PATH_BYTES], log[PATH_BYTES];
    int status = file_remove_tree(output, error);
    if (snprintf(config, sizeof config, "%s.json", output) >= PATH_BYTES || snprintf(log, sizeof log, "%s.log", output) >= PATH_BYTES)
        return error_set(error, STATUS_USAGE, "output_dir: %.80s...: too long", output);
    if (!status)
        status = config_write(attack, data, subject, steps, curve, output, config, error);
    interrupt_catch(false);
    if (!status)
        status = child_run((const char *const[]){"finetune", config, NULL}, log, code, error);
    if (!status && interrupt_pending())
        status = error_set(error, STATUS_RUNTIME, "stopped by %s", interrupt_name(interrupt_pending()));
    interrupt_release();
    if (!status && *code)
        child_last_error(log, why, 1024);
    return status;
}

/* A curve needs forget rows that are no longer than what is trained on; where there are none, it is left out. */
static int train(const struct attack *attack, const struct relearning *data, const struct attack_subject *subject, int64_t steps,
                 const char *output, struct error *error)
{
    char why[1024] = "";
    int code = STATUS_OK, status = train_once(attack, data, subject, steps, true, output, &code, why, error);
    if (!status && code == STATUS_USAGE && !strncmp(why, "eval_data: no row", strlen("eval_data: no row")))
        status = train_once(attack, data, subject, steps, false, output, &code, why, error);
    if (status || !code)
        return status;
    return error_set(error, STATUS_RUNTIME, "relearning the %s data by the %s model: %.700s (exit code %d; see %.200s.log)",
                     data->name, subject->label, *why ? why : "failed", code, output);
}

/* Lines of metrics.jsonl: seconds of the last step, and the curve of P(answer); curve may be NULL. */
static int metrics_read(const char *output, double *seconds, cJSON *curve, struct error *error)
{
    char path[PATH_BYTES], *text;
    size_t length;
    int status = file_join(path, sizeof path, output, "metrics.jsonl", error);
    if (!status)
        status = file_read(path, (size_t)1 << 28, &text, &length, error);
    if (status)
        return status;
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        struct error unused;
        cJSON *json = json_parse(line, (size_t)(end - line), path, &unused);
        const cJSON *step = json_member(json, "step"), *took = json_member(json, "seconds"), *prob = json_member(json, "prob_mean");
        if (cJSON_IsNumber(took))
            *seconds = took->valuedouble;
        if (curve && cJSON_IsNumber(step) && cJSON_IsNumber(prob))
            cJSON_AddItemToArray(curve, cJSON_CreateDoubleArray((double[]){step->valuedouble, prob->valuedouble}, 2));
        cJSON_Delete(json);
    }
    free(text);
    return STATUS_OK;
}

/* ---- one model and one set ---- */

static int output_of(const struct attack *attack, const char *data, const char *model, char *out, struct error *error)
{
    char work[PATH_BYTES];
    int status = file_join(work, sizeof work, attack->output_dir, "work", error);
    if (!status)
        status = file_make_directory(work, error);
    if (!status && snprintf(out, PATH_BYTES, "%s/%s-%s", work, data, model) >= PATH_BYTES)
        status = error_set(error, STATUS_USAGE, "output_dir: %.80s...: too long", work);
    return status;
}

static int curve_add(struct attack *attack, const char *output, const struct relearning *data, enum attack_model model,
                     struct error *error)
{
    cJSON *curve = cJSON_CreateObject();
    double seconds;
    bool ok = curve && cJSON_AddItemToArray(attack->curves, curve) && json_add_string(curve, "data", data->name) &&
              json_add_string(curve, "model", attack_model_names[model]);
    cJSON *points = ok ? cJSON_AddArrayToObject(curve, "points") : NULL;
    return points ? metrics_read(output, &seconds, points, error) : error_set(error, STATUS_MEMORY, "out of host memory");
}

static int model_relearn(struct attack *attack, const struct relearning *data, enum attack_model model, int64_t steps,
                         struct row_values *after, struct error *error)
{
    char output[PATH_BYTES], measure[80];
    snprintf(measure, sizeof measure, "K after %lld steps on %s", (long long)steps, data->name);
    int status = attack_recall(attack, model, measure, data->name, after, error);
    if (status || after->rows)
        return status;
    status = output_of(attack, data->name, attack_model_names[model], output, error);
    const struct attack_question question = {ASK_PROBABILITY, measure, attack->options->forget_data};
    const struct attack_subject relearned = {.model = {output, ""}, .label = attack->subject[model].label};
    log_info(attack->log, "relearn: %lld steps on %s, %s model", (long long)steps, data->name, attack_model_names[model]);
    if (!status)
        status = train(attack, data, &attack->subject[model], steps, output, error);
    if (!status)
        status = curve_add(attack, output, data, model, error);
    if (!status)
        status = attack_ask(attack, model, &relearned, &question, after, error);
    if (!status && !attack->options->save_models)
        status = file_remove_tree(output, error);
    return status;
}

static double figure_of(const void *data, const size_t *row, size_t rows)
{
    return relearning_score(data, row, rows);
}

/* K after, and R where there is a retain model. */
static int rows_report(struct attack *attack, const struct relearning *data, int64_t steps, const struct row_values *after,
                       struct error *error)
{
    const size_t rows = (size_t)(attack->before[UNLEARNED].rows - data->first);
    double value[ATTACK_MODELS] = {NAN, NAN, NAN}, before[ATTACK_MODELS] = {NAN, NAN, NAN};
    char measure[120];
    struct interval interval;
    int status = STATUS_OK;
    for (int m = 0; m < ATTACK_MODELS; m++)
        if (attack->there[m]) {
            before[m] = mean_of(attack->before[m].value + data->first, rows);
            value[m] = mean_of(after[m].value + data->first, rows);
        }
    if (data->first)
        status = attack_add(attack, PART_RELEARN, "K before, of the other half", before,
                            attack->before[UNLEARNED].value + data->first, rows, error);
    snprintf(measure, sizeof measure, "K after %lld step%s on %s%s", (long long)steps, steps == 1 ? "" : "s", data->name,
             data->first ? ", of the other half" : "");
    if (!status)
        status = attack_add(attack, PART_RELEARN, measure, value, after[UNLEARNED].value + data->first, rows, error);
    if (status || !attack->there[RETAIN])
        return status;
    const struct attack_pairs pairs = {attack->before[UNLEARNED].value + data->first, after[UNLEARNED].value + data->first,
                                       attack->before[RETAIN].value + data->first, after[RETAIN].value + data->first};
    size_t *all = memory_array(rows, sizeof *all, error);
    if (!all)
        return STATUS_MEMORY;
    for (size_t i = 0; i < rows; i++)
        all[i] = i;
    snprintf(measure, sizeof measure, "R, %s", data->name);
    status = bootstrap_interval(figure_of, &pairs, rows, &bootstrap_defaults, &interval, error);
    if (!status)
        status = attack_add_score(attack, PART_RELEARN, measure, relearning_score(&pairs, all, rows), interval, error);
    free(all);
    return status;
}

static int data_relearn(struct attack *attack, const struct relearning *data, struct error *error)
{
    struct row_values after[ATTACK_MODELS] = {{0}};
    const int64_t steps = steps_of(attack, data->data_rows);
    int status = STATUS_OK;
    for (int m = 0; m < ATTACK_MODELS && !status; m++)
        if (attack->there[m])
            status = model_relearn(attack, data, m, steps, &after[m], error);
    if (!status)
        status = attack_rows_agree(attack, data->name, after, error);
    if (!status)
        status = rows_report(attack, data, steps, after, error);
    for (int m = 0; m < ATTACK_MODELS; m++)
        row_values_free(&after[m]);
    return status;
}

/* ---- all of them ---- */

/* The first half of the forget set as a file of its own; no rows of running text, whose pieces are not rows. */
static int half_write(const struct attack *attack, char *path, int *rows, struct error *error)
{
    struct dataset data;
    struct buffer text = {0};
    int status = dataset_read(&data, attack->options->forget_data, attack->setting.dataset, DATASET_ANSWERS | DATASET_SOURCES, error);
    *rows = status ? 0 : attack->before[UNLEARNED].rows / 2;
    for (int i = 0; i < data.rows; i++)
        if (data.row[i].form == ROW_TEXT || !data.row[i].source)
            *rows = 0;
    for (int i = 0; i < *rows && !status; i++)
        status = buffer_printf(&text, error, "%s\n", data.row[i].source);
    if (!status)
        status = output_of(attack, "half", "of.jsonl", path, error);
    if (!status)
        status = file_write(path, text.data ? text.data : "", text.length, error);
    buffer_free(&text);
    dataset_free(&data);
    return status;
}

static int rows_count(const struct attack *attack, const char *path, int64_t *rows, struct error *error)
{
    struct dataset data;
    int status = dataset_read(&data, path, attack->setting.dataset, DATASET_ANSWERS, error);
    *rows = data.rows;
    dataset_free(&data);
    return status;
}

/* A budget of seconds as steps, the same for every model: by the time of the last of a few on the forget set. */
static int budget_measure(struct attack *attack, const struct relearning *data, int runs, struct error *error)
{
    char output[PATH_BYTES];
    double seconds = 0;
    int status = output_of(attack, "timing", "run", output, error);
    if (!status)
        status = train(attack, data, &attack->subject[UNLEARNED], TIMED_STEPS, output, error);
    if (!status)
        status = metrics_read(output, &seconds, NULL, error);
    if (!status)
        status = file_remove_tree(output, error);
    const double steps = seconds > 0 ? attack->seconds / runs / seconds : 1;
    attack->steps = steps < 1 ? 1 : steps > 1e9 ? (int64_t)1e9 : (int64_t)steps;
    if (!status)
        log_info(attack->log, "relearn: %.3g s per step; %.6g s are %lld steps in each of %d runs", seconds, attack->seconds,
                 (long long)attack->steps, runs);
    return status;
}

int attack_relearn(struct attack *attack, struct error *error)
{
    const struct attack_options *options = attack->options;
    struct relearning data[3] = {{"forget", options->forget_data, 0, 0}};
    char half[PATH_BYTES];
    int sets = 1, half_rows, models = 0, status = attack_know(attack, error);
    for (int m = 0; m < ATTACK_MODELS; m++)
        models += attack->there[m];
    if (!status)
        status = rows_count(attack, options->forget_data, &data[0].data_rows, error);
    if (!status)
        status = half_write(attack, half, &half_rows, error);
    if (!status && half_rows)
        data[sets++] = (struct relearning){"half", half, half_rows, half_rows};
    if (!status && *options->unrelated_data) {
        data[sets] = (struct relearning){"unrelated", options->unrelated_data, 0, 0};
        status = rows_count(attack, options->unrelated_data, &data[sets++].data_rows, error);
    }
    if (!status && attack->seconds > 0)
        status = budget_measure(attack, &data[0], models * sets, error);
    for (int i = 0; i < sets && !status; i++)
        status = data_relearn(attack, &data[i], error);
    return status;
}

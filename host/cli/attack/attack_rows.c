/* attack_rows.c - what single rows came to, kept beside the table as STEM.jsonl, and the figures of the target and the retain
 * model taken from such a file of another run (--baseline_log). Its lines:
 *
 *   {"config": {...}, "compute_dtype": "float32", "files": {"forget_data": XXH3, ...}, "models": {"target": XXH3, ...}}
 *   {"measure": "K in int8", "model": "target", "values": [number of each row]}
 *   {"data": "forget", "model": "target", "points": [[step, P(answer)], ...]}
 *
 * Figures are taken only where options, dtype, files and models are the same, by their values and checksums; paths may differ.
 * Cost: every model and file is read once more, for its checksum.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/checksum.h"
#include "../../util/file.h"
#include "attack.h"

enum { BASELINE_BYTES = 1 << 30 };

/* ---- what decides the figures ---- */

/* Options that figures do not depend on, whose part of them is in the figures' names (steps, draws), or that name a file or model,
 * which are compared by checksum. Every other one has to be the same. */
static const char *const free_keys[] = {
    "attacks",   "output_dir",  "target_model",   "target_adapter", "retain_model", "save_models",   "model_name_or_path",
    "adapter",   "leak_k",      "leak_draws",     "attack_budget",  "baseline_log", "relearn_epochs", "forget_data",
    "text_data", "probe_data",  "unrelated_data", "neighbor_data",  "template",     "batch_size",    "batch_tokens",
    "device",    "threads",     "quiet",          "verbose",        NULL};

static bool key_is_free(const char *key)
{
    int i = 0;
    while (free_keys[i] && strcmp(free_keys[i], key))
        i++;
    return free_keys[i];
}

static bool sum_add(cJSON *object, const char *key, uint64_t sum)
{
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, sum);
    return json_add_string(object, key, text);
}

static int files_sum(const struct attack *attack, cJSON *files, struct error *error)
{
    const struct attack_options *options = attack->options;
    const struct { const char *key, *path; } file[] = {
        {"forget_data", options->forget_data}, {"unrelated_data", options->unrelated_data}, {"probe_data", options->probe_data},
        {"text_data", options->text_data}, {"neighbor_data", options->neighbor_data}, {"template.file", options->template_.file}};
    int status = STATUS_OK;
    for (size_t i = 0; i < sizeof file / sizeof *file && !status; i++) {
        struct digest digest;
        if (!*file[i].path)
            continue;
        status = checksum_file(file[i].path, &digest, error);
        if (status == STATUS_INPUT) { /* an attack that needs it says so; others do without */
            status = STATUS_OK;
            continue;
        }
        if (!status && !sum_add(files, file[i].key, digest.xxh3))
            status = error_set(error, STATUS_MEMORY, "out of host memory");
    }
    return status;
}

static int models_sum(const struct attack *attack, cJSON *models, struct error *error)
{
    int status = STATUS_OK;
    for (int m = 0; m < ATTACK_MODELS && !status; m++) {
        struct eval_model model;
        uint64_t sum = 0;
        if (!attack->there[m])
            continue;
        status = eval_model_open(&model, &attack->subject[m].model, attack->setting.prompt, DTYPE_F32, error);
        if (!status)
            status = eval_model_checksum(&model, &attack->subject[m].model, &sum, error);
        eval_model_close(&model);
        if (!status && !sum_add(models, attack_model_names[m], sum))
            status = error_set(error, STATUS_MEMORY, "out of host memory");
    }
    return status;
}

static int header_make(struct attack *attack, struct error *error)
{
    cJSON *header = cJSON_CreateObject();
    attack->asked = cJSON_CreateArray();
    if (!header || !attack->asked || !cJSON_AddItemToArray(attack->asked, header)) {
        cJSON_Delete(header);
        return error_set(error, STATUS_MEMORY, "out of host memory");
    }
    const bool ok = json_set(header, "config", invocation_json(attack->run, error)) &&
                    json_add_string(header, "compute_dtype", dtype_name(attack->device.engine->dtype));
    cJSON *files = ok ? cJSON_AddObjectToObject(header, "files") : NULL;
    cJSON *models = files ? cJSON_AddObjectToObject(header, "models") : NULL;
    if (!models)
        return error_set(error, STATUS_MEMORY, "out of host memory");
    int status = files_sum(attack, files, error);
    return status ? status : models_sum(attack, models, error);
}

/* ---- the baseline log ---- */

static int baseline_read(struct attack *attack, const char *path, struct error *error)
{
    char *text, name[4200];
    size_t length;
    int line = 0, status = file_read(path, BASELINE_BYTES, &text, &length, error);
    if (status)
        return status;
    attack->baseline = cJSON_CreateArray();
    status = attack->baseline ? STATUS_OK : error_set(error, STATUS_MEMORY, "out of host memory");
    for (char *begin = text, *end; !status && begin < text + length; begin = end + 1) {
        end = memchr(begin, '\n', (size_t)(text + length - begin));
        end = end ? end : text + length;
        snprintf(name, sizeof name, "%.4000s:%d", path, ++line);
        cJSON *json = json_parse(begin, (size_t)(end - begin), name, error);
        if (!json)
            status = error->status;
        else if (!cJSON_AddItemToArray(attack->baseline, json))
            status = error_set(error, STATUS_MEMORY, "out of host memory");
    }
    free(text);
    return status;
}

/* Both name it, with other values. */
static bool differs(const cJSON *there, const cJSON *here)
{
    return there && here && !cJSON_Compare(there, here, true);
}

static int option_differs(const char *path, const cJSON *there, const cJSON *here, struct error *error)
{
    struct buffer found = {0}, own = {0};
    struct error unused;
    const bool said = (!there || !json_print(there, &found, &unused)) && !json_print(here, &own, &unused);
    int status = error_set(error, STATUS_USAGE, "baseline_log: %.200s: made with %s %.60s, here %.60s; ask alike, or leave "
                           "baseline_log out", path, here->string, said && found.data ? found.data : "unset",
                           said && own.data ? own.data : "otherwise");
    buffer_free(&found);
    buffer_free(&own);
    return status;
}

static int baseline_check(const struct attack *attack, const char *path, struct error *error)
{
    const cJSON *there = attack->baseline->child, *here = attack->asked->child, *item;
    const cJSON *config = json_member(there, "config");
    if (!cJSON_IsObject(config) || !cJSON_IsObject(json_member(there, "files")) || !cJSON_IsObject(json_member(there, "models")))
        return error_set(error, STATUS_INPUT, "baseline_log: %.200s:1: expected \"config\", \"files\" and \"models\", as attack.jsonl "
                         "begins", path);
    item = json_member(here, "compute_dtype");
    if (!cJSON_Compare(json_member(there, "compute_dtype"), item, true))
        return option_differs(path, json_member(there, "compute_dtype"), item, error);
    cJSON_ArrayForEach(item, json_member(here, "config"))
        if (!key_is_free(item->string) && !cJSON_Compare(json_member(config, item->string), item, true))
            return option_differs(path, json_member(config, item->string), item, error);
    cJSON_ArrayForEach(item, json_member(here, "files"))
        if (differs(json_member(json_member(there, "files"), item->string), item))
            return error_set(error, STATUS_USAGE, "baseline_log: %.200s: made with another %s; ask alike, or leave baseline_log out", path,
                             item->string);
    for (int m = 0; m < ATTACK_MODELS; m++)
        if (m != UNLEARNED && differs(json_member(json_member(there, "models"), attack_model_names[m]),
                                      json_member(json_member(here, "models"), attack_model_names[m])))
            return error_set(error, STATUS_USAGE, "baseline_log: %.200s: made of another %s model (weights, configs or tokenizer); ask "
                             "alike, or leave baseline_log out", path, attack_model_names[m]);
    return STATUS_OK;
}

int attack_rows_open(struct attack *attack, struct error *error)
{
    const char *path = attack->options->baseline_log;
    int status = header_make(attack, error);
    if (!status && *path)
        status = baseline_read(attack, path, error);
    return status || !*path ? status : baseline_check(attack, path, error);
}

/* The line of a model that has `key` with this value; NULL: none. */
static const cJSON *line_find(const cJSON *lines, enum attack_model model, const char *key, const char *value)
{
    const cJSON *line;
    cJSON_ArrayForEach(line, lines)
    {
        const cJSON *name = json_member(line, key), *whose = json_member(line, "model");
        if (cJSON_IsString(name) && cJSON_IsString(whose) && !strcmp(name->valuestring, value) &&
            !strcmp(whose->valuestring, attack_model_names[model]))
            return line;
    }
    return NULL;
}

static int values_take(const struct attack *attack, const cJSON *values, const char *measure, struct row_values *out, struct error *error)
{
    const cJSON *item;
    const int rows = cJSON_IsArray(values) ? cJSON_GetArraySize(values) : 0; /* an object would be walked like an array */
    if (rows && !(out->value = memory_array((size_t)rows, sizeof *out->value, error)))
        return STATUS_MEMORY;
    cJSON_ArrayForEach(item, values)
    {
        if (!rows || (!cJSON_IsNumber(item) && !cJSON_IsNull(item)))
            break;
        out->value[out->rows++] = cJSON_IsNumber(item) ? item->valuedouble : NAN;
    }
    return rows && out->rows == rows ? STATUS_OK
                                     : error_set(error, STATUS_INPUT, "baseline_log: %.200s: values of \"%.60s\": expected numbers",
                                                 attack->options->baseline_log, measure);
}

static int keep(struct attack *attack, cJSON *line, struct error *error)
{
    if (line && cJSON_AddItemToArray(attack->asked, line))
        return STATUS_OK;
    cJSON_Delete(line);
    return error_set(error, STATUS_MEMORY, "out of host memory");
}

/* A curve as the log has it, which is as curves are kept here. */
static bool points_are_curve(const cJSON *points)
{
    const cJSON *point;
    cJSON_ArrayForEach(point, points)
        if (!cJSON_IsArray(point) || cJSON_GetArraySize(point) != 2 || !cJSON_IsNumber(point->child) || !cJSON_IsNumber(point->child->next))
            return false;
    return cJSON_IsArray(points);
}

int attack_recall(struct attack *attack, enum attack_model model, const char *measure, const char *data, struct row_values *out,
                  struct error *error)
{
    const cJSON *line = model == UNLEARNED ? NULL : line_find(attack->baseline, model, "measure", measure), *curve;
    if (!line)
        return STATUS_OK;
    int status = values_take(attack, json_member(line, "values"), measure, out, error);
    if (!status)
        status = keep(attack, cJSON_Duplicate(line, true), error);
    curve = data && !status ? line_find(attack->baseline, model, "data", data) : NULL;
    if (!curve)
        return status;
    cJSON *copy = points_are_curve(json_member(curve, "points")) ? cJSON_Duplicate(curve, true) : NULL;
    if (copy && cJSON_AddItemToArray(attack->curves, copy))
        return STATUS_OK;
    cJSON_Delete(copy);
    return error_set(error, STATUS_INPUT, "baseline_log: %.200s: points of \"%.60s\": expected pairs of numbers",
                     attack->options->baseline_log, data);
}

int attack_rows_agree(const struct attack *attack, const char *measure, const struct row_values values[ATTACK_MODELS],
                      struct error *error)
{
    for (int m = 0; m < ATTACK_MODELS; m++)
        if (values[m].rows && values[UNLEARNED].rows && values[m].rows != values[UNLEARNED].rows)
            return error_set(error, STATUS_INPUT, "baseline_log: %.200s: \"%.60s\" of the %s model: %d values, expected %d",
                             attack->options->baseline_log, measure, attack_model_names[m], values[m].rows, values[UNLEARNED].rows);
    return STATUS_OK;
}

/* ---- asking ---- */

static int question_ask(const struct attack *attack, const struct attack_subject *subject, const struct attack_question *question,
                        struct row_values *out, struct error *error)
{
    const struct attack_setting *setting = &attack->setting;
    switch (question->kind) {
    case ASK_PROBABILITY: return attack_probabilities(setting, subject, question->path, question->keys, out, error);
    case ASK_SAMPLES: return attack_samples(setting, subject, question->path, question->sampling, question->draws, out, error);
    case ASK_REFUSAL: return attack_refusals(setting, subject, question->path, question->refusals, out, error);
    case ASK_DIVERGENCE: break;
    }
    return attack_text_divergence(setting, &attack->subject[TARGET], subject, question->path, (int)attack->options->text_tokens, out,
                                  error);
}

int attack_ask(struct attack *attack, enum attack_model model, const struct attack_subject *subject,
               const struct attack_question *question, struct row_values *out, struct error *error)
{
    int status = attack_recall(attack, model, question->measure, NULL, out, error);
    if (status || out->rows)
        return status;
    status = question_ask(attack, subject, question, out, error);
    cJSON *line = status ? NULL : cJSON_CreateObject();
    const bool ok = line && json_add_string(line, "measure", question->measure) &&
                    json_add_string(line, "model", attack_model_names[model]) &&
                    cJSON_AddItemToObject(line, "values", cJSON_CreateDoubleArray(out->value, out->rows));
    if (!status && !ok) {
        cJSON_Delete(line);
        return error_set(error, STATUS_MEMORY, "out of host memory");
    }
    return status ? status : keep(attack, line, error);
}

int attack_ask_all(struct attack *attack, enum attack_model first, const struct attack_question *question,
                   struct row_values out[ATTACK_MODELS], struct error *error)
{
    int status = STATUS_OK;
    for (int m = first; m < ATTACK_MODELS && !status; m++) {
        struct attack_subject subject = attack->subject[m];
        subject.quantizer = question->quantizer;
        if (attack->there[m])
            status = attack_ask(attack, m, &subject, question, &out[m], error);
    }
    return status ? status : attack_rows_agree(attack, question->measure, out, error);
}

int attack_rows_write(const struct attack *attack, struct error *error)
{
    char path[4096], name[100];
    struct buffer text = {0};
    const cJSON *line;
    snprintf(name, sizeof name, "%s.jsonl", attack->stem);
    int status = file_join(path, sizeof path, attack->output_dir, name, error);
    for (int i = 0; i < 2; i++) {
        const cJSON *lines = i ? attack->curves : attack->asked;
        cJSON_ArrayForEach(line, lines)
            if (!status && !(status = json_print(line, &text, error)))
                status = buffer_printf(&text, error, "\n");
    }
    if (!status)
        status = file_write(path, text.data ? text.data : "", text.length, error);
    buffer_free(&text);
    return status;
}

/* attack_table.c - what the attacks have shown: one table, as Markdown and as JSON; see attack.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/file.h"
#include "attack.h"

const char *const attack_part_names[] = {[PART_RELEARN] = "relearn", [PART_QUANTIZE] = "quantize", [PART_SAMPLE] = "sample",
                                         [PART_PROBE] = "probe",     [PART_DISRUPT] = "disrupt",   [PART_KNOW] = "before", NULL};
const char *const attack_model_names[] = {[TARGET] = "target", [UNLEARNED] = "unlearned", [RETAIN] = "retain"};

static int row_add(struct attack *attack, const struct attack_row *row, struct error *error)
{
    int status = memory_grow(&attack->row, &attack->capacity, attack->rows + 1, sizeof *attack->row, error);
    if (!status)
        attack->row[attack->rows++] = *row;
    return status;
}

int attack_add(struct attack *attack, enum attack_part part, const char *measure, const double value[ATTACK_MODELS],
               const double *unlearned, size_t count, struct error *error)
{
    struct attack_row row = {.part = part, .interval = {NAN, NAN}};
    memcpy(row.value, value, sizeof row.value);
    snprintf(row.measure, sizeof row.measure, "%s", measure);
    int status = unlearned ? bootstrap_mean(unlearned, count, &bootstrap_defaults, &row.interval, error) : STATUS_OK;
    return status ? status : row_add(attack, &row, error);
}

int attack_add_score(struct attack *attack, enum attack_part part, const char *measure, double value, struct interval interval,
                     struct error *error)
{
    struct attack_row row = {.part = part, .value = {NAN, value, NAN}, .interval = interval};
    snprintf(row.measure, sizeof row.measure, "%s", measure);
    return row_add(attack, &row, error);
}

/* ---- Markdown ---- */

static int number_cell(double value, struct buffer *out, struct error *error)
{
    return isnan(value) ? buffer_printf(out, error, " |") : buffer_printf(out, error, " %.4f |", value);
}

static int row_print(const struct attack_row *row, struct buffer *out, struct error *error)
{
    int status = buffer_printf(out, error, "| %s | %s |", attack_part_names[row->part], row->measure);
    if (!status)
        status = number_cell(row->value[TARGET], out, error);
    if (!status)
        status = number_cell(row->value[UNLEARNED], out, error);
    if (!status)
        status = isnan(row->interval.low) ? buffer_printf(out, error, " |")
                                          : buffer_printf(out, error, " %.4f to %.4f |", row->interval.low, row->interval.high);
    if (!status)
        status = number_cell(row->value[RETAIN], out, error);
    return status ? status : buffer_printf(out, error, "\n");
}

/* "forget set, unlearned: 0 0.0312, 1 0.0871, ..." */
static int curves_print(const cJSON *curves, struct buffer *out, struct error *error)
{
    const cJSON *curve, *point;
    int status = curves && curves->child ? buffer_printf(out, error, "\nP(answer), the mean token probability, after so many steps "
                                                                     "of relearning:\n\n")
                                         : STATUS_OK;
    cJSON_ArrayForEach(curve, curves)
    {
        bool first = true;
        if (!status)
            status = buffer_printf(out, error, "- %s, %s:", json_member(curve, "data")->valuestring,
                                   json_member(curve, "model")->valuestring);
        cJSON_ArrayForEach(point, json_member(curve, "points"))
        {
            if (!status)
                status = buffer_printf(out, error, "%s %.0f %.4f", first ? "" : ",", point->child->valuedouble,
                                       point->child->next->valuedouble);
            first = false;
        }
        if (!status)
            status = buffer_printf(out, error, "\n");
    }
    return status;
}

static int markdown_print(const struct attack *attack, struct buffer *out, struct error *error)
{
    int status = buffer_printf(out, error, "| attack | measure | target | unlearned | 95 %% | retain |\n|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < attack->rows && !status; i++)
        status = row_print(&attack->row[i], out, error);
    return status ? status : curves_print(attack->curves, out, error);
}

/* ---- JSON ---- */

static bool row_json(cJSON *list, const struct attack_row *row)
{
    cJSON *item = cJSON_CreateObject();
    return item && cJSON_AddItemToArray(list, item) && json_add_string(item, "attack", attack_part_names[row->part]) &&
           json_add_string(item, "measure", row->measure) && json_add_number(item, "target", row->value[TARGET]) &&
           json_add_number(item, "unlearned", row->value[UNLEARNED]) && json_add_number(item, "low", row->interval.low) &&
           json_add_number(item, "high", row->interval.high) && json_add_number(item, "retain", row->value[RETAIN]);
}

static bool models_json(cJSON *json, const struct attack *attack)
{
    cJSON *models = cJSON_AddObjectToObject(json, "models");
    bool ok = models;
    for (int m = 0; m < ATTACK_MODELS && ok; m++)
        ok = !attack->there[m] || json_add_string(models, attack_model_names[m],
                                                  *attack->subject[m].model.adapter ? attack->subject[m].model.adapter
                                                                                    : attack->subject[m].model.model_name_or_path);
    return ok;
}

static int json_table(const struct attack *attack, const char *path, struct error *error)
{
    cJSON *json = cJSON_CreateObject(), *config = invocation_json(attack->run, error);
    bool ok = json && config && models_json(json, attack);
    ok = cJSON_AddItemToObject(json, "config", config) && ok;
    cJSON *list = ok ? cJSON_AddArrayToObject(json, "rows") : NULL, *curves = list ? cJSON_Duplicate(attack->curves, true) : NULL;
    ok = curves && cJSON_AddItemToObject(json, "curves", curves);
    for (size_t i = 0; i < attack->rows && ok; i++)
        ok = row_json(list, &attack->row[i]);
    int status = ok ? json_write(json, path, error) : error_set(error, STATUS_MEMORY, "out of host memory");
    cJSON_Delete(json);
    return status;
}

int attack_table_write(const struct attack *attack, struct buffer *markdown, struct error *error)
{
    char path[4096], name[100];
    struct buffer text = {0};
    snprintf(name, sizeof name, "%s.json", attack->stem);
    int status = file_join(path, sizeof path, attack->output_dir, name, error);
    if (!status)
        status = json_table(attack, path, error);
    if (!status)
        status = markdown_print(attack, &text, error);
    snprintf(name, sizeof name, "%s.md", attack->stem);
    if (!status)
        status = file_join(path, sizeof path, attack->output_dir, name, error);
    if (!status)
        status = file_write(path, text.data, text.length, error);
    if (!status && markdown)
        status = buffer_append(markdown, text.data, text.length, error);
    buffer_free(&text);
    return status;
}

void attack_table_free(struct attack *attack)
{
    free(attack->row);
    cJSON_Delete(attack->curves);
    cJSON_Delete(attack->asked);
    cJSON_Delete(attack->baseline);
    for (int m = 0; m < ATTACK_MODELS; m++)
        row_values_free(&attack->before[m]);
}

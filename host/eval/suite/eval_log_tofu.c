/* eval_log_tofu.c - TOFU's own eval_log_aggregated.json as metrics of open-unlearning.
 *
 * The file has a part per set, with dictionaries from row number to a value. A part P becomes
 *   avg_gt_loss            P_Q_A_Prob
 *   generated_text         P_Q_A_ROUGE: [prompt, generation, truth], scored anew
 *   avg_paraphrased_loss   P_Q_A_PARA_Prob (of real authors and world facts it is the answer's own loss, computed anew)
 *   average_perturb_loss   P_Q_A_PERT_Prob
 * The other members follow from these. The stored recalls are compared with the new ones.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/memory.h"
#include "eval_log.h"

static const struct {
    const char *file, *set;
} parts[] = {{"eval_log.json", "retain"},
             {"eval_log_forget.json", "forget"},
             {"eval_real_author_wo_options.json", "ra"},
             {"eval_real_world_wo_options.json", "wf"}};
enum { PARTS = sizeof parts / sizeof *parts };

static int part_of(const char *key)
{
    int i = 0;
    while (i < PARTS && strcmp(key, parts[i].file))
        i++;
    return i;
}

bool eval_log_is_tofu(const cJSON *tree)
{
    for (int i = 0; i < PARTS; i++)
        if (json_member(tree, parts[i].file))
            return true;
    return false;
}

struct conversion {
    struct eval_log *log;
    struct log *messages;
    int part;
    const cJSON *members;
};

static int wrong_row(const struct conversion *c, const char *key, const cJSON *row, const char *expected,
                     struct error *error)
{
    return error_set(error, STATUS_INPUT, "%s: %s: %s: row %s: expected %s", c->log->path, parts[c->part].file, key,
                     row->string, expected);
}

/* The numbers of a row, which is one or a list of `per_row`, to out. */
static int losses_of(const struct conversion *c, const char *key, const cJSON *row, size_t per_row, double *out,
                     struct error *error)
{
    const cJSON *number = cJSON_IsArray(row) ? row->child : row;
    size_t count = cJSON_IsArray(row) ? (size_t)cJSON_GetArraySize(row) : 1;
    if (count != per_row)
        return wrong_row(c, key, row, "as many losses as in the row before", error);
    for (size_t i = 0; i < count; i++, number = number->next) {
        if (!cJSON_IsNumber(number))
            return wrong_row(c, key, row, "a number or a list of numbers", error);
        out[i] = number->valuedouble;
    }
    return STATUS_OK;
}

/* The rows of a member, NULL when the part has none of that name. */
static int member_find(const struct conversion *c, const char *key, const cJSON **rows, const char ***index,
                       size_t *count, struct error *error)
{
    *rows = json_member(c->members, key);
    *index = NULL;
    *count = 0;
    if (!*rows)
        return STATUS_OK;
    if (!cJSON_IsObject(*rows) || !(*rows)->child)
        return error_set(error, STATUS_INPUT, "%s: %s: %s: expected an object of rows", c->log->path,
                         parts[c->part].file, key);
    *count = (size_t)cJSON_GetArraySize(*rows);
    if (!(*index = memory_array(*count, sizeof **index, error)))
        return STATUS_MEMORY;
    size_t at = 0;
    for (const cJSON *row = (*rows)->child; row; row = row->next)
        (*index)[at++] = row->string;
    return STATUS_OK;
}

static int convert_losses(const struct conversion *c, const char *key, const char *suffix, struct error *error)
{
    const cJSON *rows;
    const char **index;
    char name[64];
    size_t count, at = 0;
    int status = member_find(c, key, &rows, &index, &count, error);
    if (status || !rows)
        return status;
    size_t per_row = cJSON_IsArray(rows->child) ? (size_t)cJSON_GetArraySize(rows->child) : 1;
    double *loss = memory_array(count * per_row, sizeof *loss, error);
    status = loss ? STATUS_OK : STATUS_MEMORY;
    if (!status && per_row == 0)
        status = wrong_row(c, key, rows->child, "at least one loss", error);
    for (const cJSON *row = rows->child; row && !status; row = row->next)
        status = losses_of(c, key, row, per_row, loss + per_row * at++, error);
    snprintf(name, sizeof name, "%s_%s", parts[c->part].set, suffix);
    if (!status)
        status = eval_log_add_probability(c->log, name, index, loss, count, per_row, error);
    free(loss);
    free(index);
    return status;
}

static int text_of(const struct conversion *c, const cJSON *row, struct eval_text *text, struct error *error)
{
    const cJSON *input = cJSON_IsArray(row) ? row->child : NULL;
    const cJSON *said = input ? input->next : NULL, *truth = said ? said->next : NULL;
    if (!cJSON_IsString(input) || !cJSON_IsString(said) || !cJSON_IsString(truth))
        return wrong_row(c, "generated_text", row, "[prompt, generation, truth]", error);
    *text = (struct eval_text){input->valuestring, truth->valuestring, said->valuestring};
    return STATUS_OK;
}

/* The recalls that the log holds differ from those of its texts when it was made by another ROUGE. */
static void compare_recalls(const struct conversion *c, const char *name)
{
    const cJSON *stored = json_member(c->members, "rougeL_recall"), *value;
    double sum = 0, now = eval_log_value(c->log, name);
    size_t count = 0;
    cJSON_ArrayForEach(value, stored)
    {
        sum += cJSON_IsNumber(value) ? value->valuedouble : NAN;
        count++;
    }
    if (count && !(fabs(sum / (double)count - now) <= 1e-6))
        log_warning(c->messages, "%s: %s: rougeL_recall is %.6f on average, its texts give %.6f, which is used",
                    c->log->path, parts[c->part].file, sum / (double)count, now);
}

static int convert_texts(const struct conversion *c, struct error *error)
{
    const cJSON *rows;
    const char **index;
    char name[64];
    size_t count, at = 0;
    int status = member_find(c, "generated_text", &rows, &index, &count, error);
    if (status || !rows)
        return status;
    struct eval_text *text = memory_array(count, sizeof *text, error);
    status = text ? STATUS_OK : STATUS_MEMORY;
    for (const cJSON *row = rows->child; row && !status; row = row->next)
        status = text_of(c, row, text + at++, error);
    snprintf(name, sizeof name, "%s_Q_A_ROUGE", parts[c->part].set);
    if (!status)
        status = eval_log_add_rouge(c->log, name, index, text, count, "rougeL_recall", error);
    if (!status)
        compare_recalls(c, name);
    free(text);
    free(index);
    return status;
}

int eval_log_convert_tofu(struct eval_log *log, const cJSON *tree, struct log *messages, struct error *error)
{
    int status = STATUS_OK;
    for (const cJSON *members = tree->child; members && !status; members = members->next) {
        struct conversion c = {log, messages, part_of(members->string), members};
        if (c.part == PARTS) {
            log_warning(messages, "%s: %s: not a part that TOFU's metrics are made of; ignored", log->path,
                        members->string);
            continue;
        }
        if (!cJSON_IsObject(members))
            return error_set(error, STATUS_INPUT, "%s: %s: expected an object of avg_gt_loss, generated_text, ...",
                             log->path, members->string);
        status = convert_losses(&c, "avg_gt_loss", "Q_A_Prob", error);
        if (!status)
            status = convert_texts(&c, error);
        if (!status)
            status = convert_losses(&c, "avg_paraphrased_loss", "Q_A_PARA_Prob", error);
        if (!status)
            status = convert_losses(&c, "average_perturb_loss", "Q_A_PERT_Prob", error);
    }
    return status;
}

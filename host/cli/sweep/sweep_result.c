/* sweep_result.c - what a row came to, by what its children have left; see sweep.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../io/folder/folder.h"
#include "../../util/file.h"
#include "sweep.h"

enum { PATH_BYTES = 4096 };

int sweep_path(const struct sweep *sweep, const struct sweep_row *row, const char *name, char *out, struct error *error)
{
    const int length = snprintf(out, PATH_BYTES, "%s/%s/%s%s%s", sweep->options->output_dir, row->landmark ? "landmarks" : "runs",
                                row->name, *name ? "/" : "", name);
    return length < PATH_BYTES ? STATUS_OK : error_set(error, STATUS_USAGE, "output_dir: %.80s...: too long",
                                                       sweep->options->output_dir);
}

/* Steps made and seconds in them, by the log of the training; steps that a continued run made again count once. */
static int training_read(const struct sweep *sweep, const struct sweep_row *row, int64_t *steps, double *seconds,
                         struct error *error)
{
    char path[PATH_BYTES], *text;
    size_t length, count = 0, capacity = 0;
    struct step {
        int64_t step;
        double seconds;
    } *made = NULL;
    int status = sweep_path(sweep, row, "model/metrics.jsonl", path, error);
    if (!status)
        status = file_read(path, (size_t)1 << 30, &text, &length, error);
    *steps = 0, *seconds = 0;
    if (status)
        return status;
    for (char *line = text, *end; !status && (end = strchr(line, '\n')); line = end + 1) {
        struct error unused;
        cJSON *json = json_parse(line, (size_t)(end - line), path, &unused);
        const cJSON *step = json_member(json, "step"), *took = json_member(json, "seconds");
        if (cJSON_IsNumber(step) && cJSON_IsNumber(took) && !json_member(json, "eval")) {
            while (count && made[count - 1].step >= (int64_t)step->valuedouble)
                count--;
            status = memory_grow(&made, &capacity, count + 1, sizeof *made, error);
            if (!status)
                made[count++] = (struct step){(int64_t)step->valuedouble, took->valuedouble};
        }
        cJSON_Delete(json);
    }
    for (size_t i = 0; i < count; i++) {
        *steps = made[i].step;
        *seconds += made[i].seconds;
    }
    free(made);
    free(text);
    return status;
}

int sweep_file_find(const struct sweep *sweep, const struct sweep_row *row, const char *folder, const char *ending, char *out,
                    struct error *error)
{
    char directory[PATH_BYTES];
    struct file_list list;
    int status = sweep_path(sweep, row, folder, directory, error);
    *out = 0;
    if (status || !file_is_directory(directory))
        return status;
    status = file_list_read(&list, directory, error);
    if (status)
        return status;
    for (size_t i = 0; i < list.count && !status && !*out; i++) {
        const size_t length = strlen(list.name[i]), end = strlen(ending);
        if (length > end && !strcmp(list.name[i] + length - end, ending))
            status = file_join(out, PATH_BYTES, directory, list.name[i], error);
    }
    file_list_free(&list);
    return status;
}

/* That file, read; STATUS_RUNTIME where there is none. cJSON_Delete. */
static int json_find(const struct sweep *sweep, const struct sweep_row *row, const char *folder, const char *ending, cJSON **json,
                     struct error *error)
{
    char path[PATH_BYTES];
    int status = sweep_file_find(sweep, row, folder, ending, path, error);
    *json = NULL;
    if (!status && !*path)
        status = error_set(error, STATUS_RUNTIME, "%s: no *%s was left in %s", row->name, ending, folder);
    if (!status && !(*json = json_read_python(path, 1 << 24, error)))
        status = error->status;
    return status;
}

/* The summary that the scoring has written, whichever suite it was. */
static int figures_read(const struct sweep *sweep, const struct sweep_row *row, cJSON *figures, struct error *error)
{
    cJSON *summary;
    int status = json_find(sweep, row, "evals", "_SUMMARY.json", &summary, error);
    for (const cJSON *item = status ? NULL : summary->child; item && !status; item = item->next)
        if (!json_add_number(figures, item->string, item->valuedouble))
            status = error_set(error, STATUS_MEMORY, "out of host memory");
    cJSON_Delete(summary);
    return status;
}

/* "R, forget" is attack_r_forget: letters and digits in small, all else between them a line below. */
static void attack_name(const char *measure, char *out, size_t bytes)
{
    size_t used = (size_t)snprintf(out, bytes, "attack");
    bool gap = true;
    for (; *measure && used + 2 < bytes; measure++) {
        const char letter = *measure >= 'A' && *measure <= 'Z' ? (char)(*measure - 'A' + 'a') : *measure;
        const bool kept = (letter >= 'a' && letter <= 'z') || (letter >= '0' && letter <= '9') || (unsigned char)letter >= 128;
        if (kept && gap)
            out[used++] = '_';
        if (kept)
            out[used++] = letter;
        gap = !kept;
    }
    out[used] = 0;
}

/* Of the table of flat attack what the run's own model came to. */
static int attacks_read(const struct sweep *sweep, const struct sweep_row *row, cJSON *figures, struct error *error)
{
    cJSON *table;
    const cJSON *line;
    int status = json_find(sweep, row, "attacks", ".json", &table, error);
    cJSON_ArrayForEach(line, json_member(table, "rows"))
    {
        const cJSON *measure = json_member(line, "measure"), *value = json_member(line, "unlearned");
        char name[160];
        if (status || !cJSON_IsString(measure))
            continue;
        attack_name(measure->valuestring, name, sizeof name);
        if (!json_add_number(figures, name, cJSON_IsNumber(value) ? value->valuedouble : NAN))
            status = error_set(error, STATUS_MEMORY, "out of host memory");
    }
    cJSON_Delete(table);
    return status;
}

int sweep_row_finish(struct sweep *sweep, struct sweep_row *row, bool scored, const char *failure, struct error *error)
{
    char path[PATH_BYTES];
    int64_t steps = 0;
    double seconds = 0;
    int status = sweep_path(sweep, row, "result.json", path, error);
    if (!status && scored && !row->landmark)
        status = training_read(sweep, row, &steps, &seconds, error);
    if (status)
        return status;
    cJSON_Delete(row->result);
    row->result = cJSON_CreateObject();
    const bool ok = row->result && json_add_string(row->result, "status", scored ? "done" : "failed") &&
                    (!*failure || json_add_string(row->result, "error", failure)) &&
                    (!scored || row->landmark ||
                     (json_add_int(row->result, "steps", steps) && json_add_number(row->result, "seconds", seconds)));
    cJSON *figures = ok && scored ? cJSON_AddObjectToObject(row->result, "figures") : NULL;
    if (!ok || (scored && !figures))
        return error_set(error, STATUS_MEMORY, "out of host memory");
    if (scored)
        status = figures_read(sweep, row, figures, error);
    if (!status && scored && sweep->attack && !row->landmark && !*failure)
        status = attacks_read(sweep, row, figures, error);
    return status ? status : json_write(row->result, path, error);
}

int sweep_model_remove(const struct sweep *sweep, const struct sweep_row *row, bool checkpoints_only, struct error *error)
{
    char directory[PATH_BYTES], path[PATH_BYTES];
    struct file_list list;
    int status = sweep_path(sweep, row, "model", directory, error);
    if (status || !file_is_directory(directory))
        return status;
    status = file_list_read(&list, directory, error);
    if (status)
        return status;
    for (size_t i = 0; i < list.count && !status; i++) {
        status = file_join(path, sizeof path, directory, list.name[i], error);
        if (status)
            break;
        const bool checkpoint = folder_checkpoint(list.name[i]) >= 0;
        const enum folder_item item = folder_item(list.name[i], file_is_directory(path));
        if (checkpoint || (!checkpoints_only && (item == FOLDER_WEIGHTS || item == FOLDER_ADAPTER || item == FOLDER_MODEL)))
            status = file_remove_tree(path, error);
    }
    file_list_free(&list);
    return status;
}

/* sweep_result.c - what a row came to, by what its children have left; see sweep.h. */
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

/* The summary that the scoring has written, whichever suite it was. */
static int figures_read(const struct sweep *sweep, const struct sweep_row *row, cJSON **figures, struct error *error)
{
    static const char ending[] = "_SUMMARY.json";
    char directory[PATH_BYTES], path[PATH_BYTES];
    struct file_list list;
    int status = sweep_path(sweep, row, "evals", directory, error);
    if (!status)
        status = file_list_read(&list, directory, error);
    if (status)
        return status;
    *figures = NULL;
    for (size_t i = 0; i < list.count && !status && !*figures; i++) {
        const size_t length = strlen(list.name[i]);
        if (length < sizeof ending || strcmp(list.name[i] + length - (sizeof ending - 1), ending))
            continue;
        status = file_join(path, sizeof path, directory, list.name[i], error);
        if (!status && !(*figures = json_read_python(path, 1 << 24, error)))
            status = error->status;
    }
    file_list_free(&list);
    if (!status && !*figures)
        status = error_set(error, STATUS_RUNTIME, "%s: the scoring has left no summary", directory);
    return status;
}

int sweep_row_finish(struct sweep *sweep, struct sweep_row *row, const char *failure, struct error *error)
{
    char path[PATH_BYTES];
    int64_t steps = 0;
    double seconds = 0;
    cJSON *figures = NULL;
    int status = sweep_path(sweep, row, "result.json", path, error);
    if (!status && !failure && !row->landmark)
        status = training_read(sweep, row, &steps, &seconds, error);
    if (!status && !failure)
        status = figures_read(sweep, row, &figures, error);
    if (status)
        return status;
    cJSON_Delete(row->result);
    row->result = cJSON_CreateObject();
    bool ok = row->result && json_add_string(row->result, "status", failure ? "failed" : "done") &&
              (!failure || json_add_string(row->result, "error", failure)) &&
              (failure || row->landmark ||
               (json_add_int(row->result, "steps", steps) && json_add_number(row->result, "seconds", seconds)));
    cJSON *kept = ok && figures ? cJSON_AddObjectToObject(row->result, "figures") : NULL;
    for (const cJSON *item = kept ? figures->child : NULL; item && ok; item = item->next)
        ok = json_add_number(kept, item->string, item->valuedouble);
    cJSON_Delete(figures);
    if (!ok || (!failure && !kept))
        return error_set(error, STATUS_MEMORY, "out of host memory");
    return json_write(row->result, path, error);
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

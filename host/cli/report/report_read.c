/* report_read.c - the folders of runs as a report sees them; see report.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/file.h"
#include "report.h"

enum { FILE_BYTES_MAX = 1 << 28, DEPTH = 2 };

static bool ends_with(const char *name, const char *ending)
{
    const size_t length = strlen(name), tail = strlen(ending);
    return length > tail && !strcmp(name + length - tail, ending);
}

static int file_take(struct report_file *list, int *count, const char *path, const char *name, struct error *error)
{
    if (*count == REPORT_FILES_MAX)
        return error_set(error, STATUS_INPUT, "%s: more than %d files of results", path, REPORT_FILES_MAX);
    snprintf(list[*count].name, sizeof list->name, "%s", name);
    list[*count].json = json_read_python(path, FILE_BYTES_MAX, error);
    if (!list[*count].json)
        return error->status;
    if (cJSON_IsObject(list[(*count)++].json))
        return STATUS_OK;
    return error_set(error, STATUS_INPUT, "%s: expected an object", path);
}

/* Results at most so many folders below; inside: the folder's name in the run's, "" for itself. */
static int folder_walk(struct report_run *run, const char *inside, int depth, struct error *error)
{
    struct file_list list = {0};
    char directory[4096], path[5000], name[600];
    snprintf(directory, sizeof directory, "%s%s%s", run->path, *inside ? "/" : "", inside);
    int status = file_list_read(&list, directory, error);
    for (size_t i = 0; i < list.count && !status; i++) {
        const char *own = list.name[i];
        if (*own == '.' || snprintf(name, sizeof name, "%s%s%s", inside, *inside ? "/" : "", own) >= (int)sizeof name)
            continue;
        snprintf(path, sizeof path, "%s/%s", run->path, name);
        if (file_is_directory(path)) {
            const bool known = !strcmp(name, "evals/before") || !strcmp(name, "evals/after") || !strncmp(own, "checkpoint-", 11);
            if (depth && !known)
                status = folder_walk(run, name, depth - 1, error);
        } else if (ends_with(own, "_SUMMARY.json")) {
            status = file_take(run->summary, &run->summaries, path, name, error);
        } else if (ends_with(own, ".json") && !strncmp(own, "attack", 6)) {
            status = file_take(run->attack, &run->attacks, path, name, error);
        }
    }
    file_list_free(&list);
    return status;
}

static int log_take(struct eval_log *eval, const struct report_run *run, const char *name, struct log *log, struct error *error)
{
    char path[4200];
    int status = file_join(path, sizeof path, run->path, name, error);
    return status || !file_exists(path) ? status : eval_log_read(eval, path, log, error);
}

static int run_read(struct report_run *run, struct log *log, struct error *error)
{
    char path[4200];
    int status = file_join(path, sizeof path, run->path, "run.json", error);
    if (!status && !file_is_directory(run->path))
        status = error_set(error, STATUS_INPUT, "%s: no such folder", run->path);
    if (!status && file_exists(path)) {
        run->record = json_read(path, error);
        status = !run->record ? error->status
                 : cJSON_IsObject(run->record) ? STATUS_OK
                                               : error_set(error, STATUS_INPUT, "%s: expected an object", path);
    }
    if (!status)
        status = file_join(path, sizeof path, run->path, "metrics.jsonl", error);
    run->has_metrics = !status && file_exists(path);
    if (!status)
        status = log_take(&run->before, run, "evals/before/QA_EVAL.json", log, error);
    if (!status)
        status = log_take(&run->after, run, "evals/after/QA_EVAL.json", log, error);
    if (!status)
        status = folder_walk(run, "", DEPTH, error);
    if (!status && !run->record && !run->has_metrics && !run->before.metrics && !run->after.metrics && !run->summaries &&
        !run->attacks)
        status = error_set(error, STATUS_INPUT, "%s: nothing to report: expected run.json, metrics.jsonl or a <SUITE>_SUMMARY.json",
                           run->path);
    return status;
}

/* The last part of a path; all of it where another run's is the same. */
static const char *name_of(const char *const *run_dirs, int runs, int own)
{
    const char *slash = strrchr(run_dirs[own], '/'), *name = slash && slash[1] ? slash + 1 : run_dirs[own];
    for (int i = 0; i < runs; i++) {
        const char *other = strrchr(run_dirs[i], '/');
        if (i != own && !strcmp(other && other[1] ? other + 1 : run_dirs[i], name))
            return run_dirs[own];
    }
    return name;
}

/* The sets of a log: what has a mean probability. */
static void sets_take(struct report *report, const struct eval_log *log)
{
    static const char ending[] = "_mean_prob";
    const cJSON *metric;
    cJSON_ArrayForEach(metric, log->metrics)
    {
        char name[sizeof *report->set];
        const size_t length = strlen(metric->string);
        bool known = report->sets == REPORT_SETS_MAX || !ends_with(metric->string, ending);
        if (known || length - (sizeof ending - 1) >= sizeof name)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)(length - (sizeof ending - 1)), metric->string);
        for (int i = 0; i < report->sets; i++)
            known |= !strcmp(report->set[i], name);
        if (!known)
            memcpy(report->set[report->sets++], name, sizeof name);
    }
}

static void forget_first(struct report *report)
{
    char forget[sizeof *report->set];
    for (int i = 1; i < report->sets; i++)
        if (!strcmp(report->set[i], "forget")) {
            memcpy(forget, report->set[i], sizeof forget);
            memmove(report->set + 1, report->set, (size_t)i * sizeof *report->set);
            memcpy(report->set, forget, sizeof forget);
        }
}

int report_read(struct report *report, const char *const *run_dirs, int runs, struct log *log, struct error *error)
{
    report->run = memory_array((size_t)runs, sizeof *report->run, error);
    report->runs = report->run ? runs : 0;
    int status = report->run ? STATUS_OK : STATUS_MEMORY;
    for (int i = 0; i < report->runs && !status; i++) {
        report->run[i].path = run_dirs[i];
        report->run[i].name = name_of(run_dirs, runs, i);
        status = run_read(&report->run[i], log, error);
        sets_take(report, &report->run[i].before);
        sets_take(report, &report->run[i].after);
    }
    forget_first(report);
    return status;
}

void report_free(struct report *report)
{
    for (int i = 0; i < report->runs; i++) {
        struct report_run *run = &report->run[i];
        cJSON_Delete(run->record);
        eval_log_free(&run->before);
        eval_log_free(&run->after);
        for (int k = 0; k < run->summaries; k++)
            cJSON_Delete(run->summary[k].json);
        for (int k = 0; k < run->attacks; k++)
            cJSON_Delete(run->attack[k].json);
    }
    free(report->run);
    *report = (struct report){0};
}

const cJSON *report_config(const struct report_run *run)
{
    return json_member(run->record, "config");
}

const char *report_setting(const struct report_run *run, const char *key)
{
    const cJSON *value = json_member(report_config(run), key);
    return cJSON_IsString(value) ? value->valuestring : "";
}

bool report_base_is_new(const struct report *report, int run)
{
    const char *base = report_setting(&report->run[run], "model_name_or_path");
    for (int i = 0; i < run; i++)
        if (report->run[i].before.metrics && *base && !strcmp(base, report_setting(&report->run[i], "model_name_or_path")))
            return false;
    return true;
}

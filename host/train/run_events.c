/* run_events.c - see run_events.h. */
#include "run_events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../io/json/json.h"
#include "../util/clock.h"
#include "../util/file.h"

enum { SCALARS_MAX = 64, TAG_BYTES = 160 };

/* The tag of a member of a line; false: it is no scalar of the run. */
static bool tag_print(const cJSON *member, const char *eval, char tag[TAG_BYTES])
{
    static const char *const not_scalars[] = {"step", "time"}, *const of_eval[] = {"prob_mean", "loss"};
    bool wanted = cJSON_IsNumber(member);
    for (int i = 0; i < 2 && !eval; i++)
        wanted = wanted && strcmp(member->string, not_scalars[i]);
    if (eval)
        wanted = wanted && (!strcmp(member->string, of_eval[0]) || !strcmp(member->string, of_eval[1]));
    if (wanted && eval)
        snprintf(tag, TAG_BYTES, "eval/%.80s_%.60s", eval, member->string);
    else if (wanted)
        snprintf(tag, TAG_BYTES, "train/%.60s", member->string);
    return wanted;
}

static int line_add(const cJSON *line, double *time, struct buffer *records, struct error *error)
{
    const cJSON *eval = json_member(line, "eval"), *when = json_member(line, "time"), *step = json_member(line, "step"), *member;
    struct event_scalar scalar[SCALARS_MAX];
    char tag[SCALARS_MAX][TAG_BYTES];
    size_t count = 0;
    if (!cJSON_IsNumber(step) || json_member(line, "stop_reason"))
        return STATUS_OK;
    *time = cJSON_IsNumber(when) ? when->valuedouble : *time;
    cJSON_ArrayForEach(member, line)
        if (count < SCALARS_MAX && tag_print(member, cJSON_IsString(eval) ? eval->valuestring : NULL, tag[count])) {
            scalar[count] = (struct event_scalar){tag[count], member->valuedouble};
            count++;
        }
    return count ? event_print_scalars(*time, (int64_t)step->valuedouble, scalar, count, records, error) : STATUS_OK;
}

int run_events_add(struct event_file *file, const char *lines, size_t length, struct error *error)
{
    double time = clock_wall();
    struct buffer records = {0};
    int status = STATUS_OK;
    for (size_t at = 0; at < length && !status;) {
        const char *end = memchr(lines + at, '\n', length - at);
        const size_t bytes = end ? (size_t)(end - lines) - at : length - at;
        cJSON *line = bytes ? json_parse(lines + at, bytes, "metrics.jsonl", error) : NULL;
        status = !bytes ? STATUS_OK : line ? line_add(line, &time, &records, error) : error->status;
        cJSON_Delete(line);
        at += bytes + 1;
    }
    if (!status)
        status = event_file_add(file, &records, error);
    buffer_free(&records);
    return status;
}

int run_events_open(struct event_file *file, const char *directory, const char *metrics, struct error *error)
{
    char *text = NULL;
    size_t length = 0;
    int status = event_files_remove(directory, error);
    if (!status)
        status = event_file_open(file, directory, error);
    if (!status)
        status = file_read(metrics, (size_t)1 << 30, &text, &length, error);
    if (!status)
        status = run_events_add(file, text, length, error);
    free(text);
    return status;
}

/* results.c - see results.h. */
#include "results.h"

#include <math.h>
#include <string.h>

#include "eval_derive.h"
#include "tofu_tables.h"

/* The names of the figures that are not finite, as an error. */
static int check_finite(const struct eval_log *log, const cJSON *summary, struct error *error)
{
    struct buffer names = {0};
    const cJSON *value;
    int status = STATUS_OK;
    cJSON_ArrayForEach(value, summary)
    {
        if (!isfinite(value->valuedouble) && !status)
            status = buffer_printf(&names, error, "%s%s", names.length ? ", " : "", value->string);
    }
    if (!status && names.length)
        status = error_set(error, STATUS_NONFINITE,
                           "%s: not finite: %.400s; a row without a target, or an infinite loss; the files are written",
                           log->path, names.data);
    buffer_free(&names);
    return status;
}

static int write_files(const struct results_options *options, const struct eval_log *log, struct log *messages,
                       struct error *error)
{
    int status = eval_log_write(log, options->suite, options->output_dir, error);
    bool written = true;
    if (!status && !strcmp(options->suite, "TOFU"))
        status = tofu_tables_write(log, options->retain, options->method, options->submitted_by, options->output_dir, &written,
                                   error);
    if (!status && !written)
        log_warning(messages, "%s: no CSV: TOFU's tables need the rows of all four sets", log->path);
    return status;
}

int eval_results(struct eval_log *log, const struct results_options *options, struct log *messages, cJSON **summary,
                 struct error *error)
{
    const struct derive_options derive = {options->retain, options->refusals, options->refusal_count};
    *summary = NULL;
    int status = eval_derive(log, &derive, messages, error);
    if (!status)
        status = eval_log_summary(log, options->suite, summary, error);
    if (!status && options->output_dir)
        status = write_files(options, log, messages, error);
    if (!status)
        status = check_finite(log, *summary, error);
    if (status && status != STATUS_NONFINITE) {
        cJSON_Delete(*summary);
        *summary = NULL;
    }
    return status;
}

int eval_summary_print(const cJSON *summary, struct buffer *out, struct error *error)
{
    const cJSON *value;
    int width = 0, status = STATUS_OK;
    for (value = summary->child; value; value = value->next)
        width = (int)strlen(value->string) > width ? (int)strlen(value->string) : width;
    for (value = summary->child; value && !status; value = value->next)
        status = buffer_printf(out, error, "%-*s  %.6g\n", width, value->string, value->valuedouble);
    return status;
}

/* score.c - see score.h. */
#include "score.h"

#include <stdlib.h>
#include <string.h>

#include "../util/memory.h"

/* What a batch is made of: whole groups, and the parts of large ones. Part p is sequences first[p] .. first[p + 1] - 1. */
struct parts {
    int32_t *first;
    int count;
};

static int parts_make(struct parts *parts, const int32_t *group_first, int groups, struct error *error)
{
    *parts = (struct parts){0};
    int count = 0;
    for (int g = 0; g < groups; g++)
        count += (group_first[g + 1] - group_first[g] + SCORE_GROUP_MAX - 1) / SCORE_GROUP_MAX;
    parts->first = memory_array((size_t)count + 1, sizeof *parts->first, error);
    if (!parts->first)
        return STATUS_MEMORY;
    for (int g = 0; g < groups; g++)
        for (int32_t s = group_first[g]; s < group_first[g + 1]; s += SCORE_GROUP_MAX)
            parts->first[parts->count++] = s;
    parts->first[parts->count] = group_first[groups];
    return STATUS_OK;
}

/* Largest batch, in rows, target rows and sequences, when parts are taken batch_size at a time. */
static void largest_batch(const struct batch_sequence *sequences, const struct parts *parts, int batch_size, int64_t *rows,
                          int64_t *targets, int64_t *count)
{
    const int32_t *first = parts->first;
    *rows = *targets = *count = 0;
    for (int from = 0; from < parts->count; from += batch_size) {
        int to = from + batch_size < parts->count ? from + batch_size : parts->count;
        struct batch_size size = {0};
        for (int p = from; p < to; p++)
            batch_group_size(sequences + first[p], first[p + 1] - first[p], true, &size);
        *rows = size.rows > *rows ? size.rows : *rows;
        *targets = size.targets > *targets ? size.targets : *targets;
        *count = first[to] - first[from] > *count ? first[to] - first[from] : *count;
    }
}

int scorer_open(struct model *model, struct device *device, const struct model_config *config,
                const struct weights *weights, const struct batch_sequence *sequences, const int32_t *group_first,
                int groups, int batch_size, struct error *error)
{
    int64_t rows, targets, count;
    struct parts parts;
    int status = parts_make(&parts, group_first, groups, error);
    if (status)
        return status;
    largest_batch(sequences, &parts, batch_size, &rows, &targets, &count);
    free(parts.first);
    status = model_create(model, config, device->engine->dtype, error);
    if (!status)
        status = model_plan(model, false, rows, targets, count, error);
    if (!status)
        status = model_allocate(model, device, error);
    if (!status)
        status = weights_load(weights, model, error);
    return status;
}

/* Reads a stat array of the head back as double. */
static int head_read(struct model *model, const void *from, int32_t count, double *out, struct error *error)
{
    const enum dtype stat = dtype_stat(model->dtype);
    int status = device_copy_out(model->device, out, from, (size_t)count * dtype_size(stat), error);
    if (stat == DTYPE_F32) /* widen in place, from the end */
        for (int32_t i = count - 1; i >= 0 && !status; i--) {
            float value;
            memcpy(&value, (float *)(void *)out + i, sizeof value);
            out[i] = value;
        }
    return status;
}

int score_statistics(struct model *model, const struct batch *batch, double *mean, double *variance, int32_t *argmax,
                     struct error *error)
{
    int status = head_read(model, model->head.logprob_mean, batch->targets, mean, error);
    if (!status)
        status = head_read(model, model->head.logprob_variance, batch->targets, variance, error);
    return status ? status : device_copy_out(model->device, argmax, model->head.argmax,
                                             (size_t)batch->targets * sizeof *argmax, error);
}

static int sequence_scores(const struct batch *batch, const double *logprob, const double *p, bool keep_tokens,
                           struct score *score, struct error *error)
{
    for (int s = 0; s < batch->sequences; s++) {
        int32_t begin = batch->host.sequence_begin[s], end = batch->host.sequence_begin[s + 1];
        score[s] = (struct score){.num_tokens = end - begin};
        if (keep_tokens && !(score[s].token_logprobs = memory_array((size_t)(end - begin), sizeof(float), error)))
            return STATUS_MEMORY;
        for (int32_t i = begin; i < end; i++) {
            score[s].logprob_sum += logprob[i];
            score[s].prob_mean += p[i] / (end - begin);
            if (keep_tokens)
                score[s].token_logprobs[i - begin] = (float)logprob[i];
        }
    }
    return STATUS_OK;
}

int score_batch(struct model *model, struct batch *batch, const struct batch_sequence *sequences,
                const int32_t *group_first, int groups, bool keep_tokens, double *values, struct score *score,
                struct error *error)
{
    int status = batch_pack(batch, model->device, sequences, group_first, groups, true, model->config.vocab_size, error);
    if (!status)
        status = model_forward(model, batch, error);
    if (!status)
        status = head_read(model, model->head.logprob, batch->targets, values, error);
    if (!status)
        status = head_read(model, model->head.p, batch->targets, values + batch->targets, error);
    return status ? status : sequence_scores(batch, values, values + batch->targets, keep_tokens, score, error);
}

int scorer_run(struct model *model, const struct batch_sequence *sequences, const int32_t *group_first, int groups,
               int batch_size, bool keep_tokens, struct score *score, struct error *error)
{
    struct batch batch = {0};
    struct parts parts;
    double *values = memory_array(2 * (size_t)model->max_targets, sizeof *values, error);
    int32_t *first = memory_array((size_t)batch_size + 1, sizeof *first, error);
    int status = parts_make(&parts, group_first, groups, error);
    if (!status && (!values || !first))
        status = STATUS_MEMORY;
    if (!status)
        status = batch_create(&batch, model->device, model->max_rows, model->max_targets, model->max_sequences, error);
    for (int from = 0; from < parts.count && !status; from += batch_size) {
        const int to = from + batch_size < parts.count ? from + batch_size : parts.count;
        const int32_t begin = parts.first[from];
        for (int p = from; p <= to; p++)
            first[p - from] = parts.first[p] - begin;
        status = score_batch(model, &batch, sequences + begin, first, to - from, keep_tokens, values, score + begin, error);
    }
    batch_free(&batch, model->device);
    free(parts.first);
    free(first);
    free(values);
    return status;
}

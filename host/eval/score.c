/* score.c - see score.h. */
#include "score.h"

#include <stdlib.h>
#include <string.h>

#include "../util/memory.h"

/* Largest batch, in rows, target rows and sequences, when groups are taken batch_size at a time. */
static void largest_batch(const struct batch_sequence *sequences, const int32_t *group_first, int groups, int batch_size,
                          int64_t *rows, int64_t *targets, int64_t *count)
{
    *rows = *targets = *count = 0;
    for (int from = 0; from < groups; from += batch_size) {
        int to = from + batch_size < groups ? from + batch_size : groups;
        struct batch_size size = {0};
        for (int g = from; g < to; g++)
            batch_group_size(sequences + group_first[g], group_first[g + 1] - group_first[g], true, &size);
        *rows = size.rows > *rows ? size.rows : *rows;
        *targets = size.targets > *targets ? size.targets : *targets;
        *count = group_first[to] - group_first[from] > *count ? group_first[to] - group_first[from] : *count;
    }
}

int scorer_open(struct model *model, struct device *device, const struct model_config *config,
                const struct weights *weights, const struct batch_sequence *sequences, const int32_t *group_first,
                int groups, int batch_size, struct error *error)
{
    int64_t rows, targets, count;
    largest_batch(sequences, group_first, groups, batch_size, &rows, &targets, &count);
    int status = model_create(model, config, device->engine->dtype, error);
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
    double *values = memory_array(2 * (size_t)model->max_targets, sizeof *values, error);
    int32_t *first = memory_array((size_t)batch_size + 1, sizeof *first, error);
    int status = values && first ? STATUS_OK : STATUS_MEMORY;
    if (!status)
        status = batch_create(&batch, model->device, model->max_rows, model->max_targets, model->max_sequences, error);
    for (int from = 0; from < groups && !status; from += batch_size) {
        int to = from + batch_size < groups ? from + batch_size : groups;
        for (int g = from; g <= to; g++)
            first[g - from] = group_first[g] - group_first[from];
        status = score_batch(model, &batch, sequences + group_first[from], first, to - from, keep_tokens, values,
                             score + group_first[from], error);
    }
    batch_free(&batch, model->device);
    free(first);
    free(values);
    return status;
}

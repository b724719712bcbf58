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
            batch_group_size(sequences + first[p], first[p + 1] - first[p], BATCH_TRUNK, &size);
        *rows = size.rows > *rows ? size.rows : *rows;
        *targets = size.targets > *targets ? size.targets : *targets;
        *count = first[to] - first[from] > *count ? first[to] - first[from] : *count;
    }
}

/* From so many rows on the CPU's linear takes its sums in another order: with fewer, a batch is filled up, so that a row has
 * the same bits whatever its neighbours are. */
enum { ROWS_MIN = 16 };

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* Room to grow, once it has turned out that the first did not do. */
static int64_t room(int64_t needed, int64_t before)
{
    return larger(needed, ROWS_MIN) + (before ? needed / 4 : 0);
}

static int scorer_room(struct scorer *s, int64_t rows, int64_t targets, int64_t sequences, struct error *error)
{
    struct model *model = s->model;
    if (s->values && rows <= model->max_rows && targets <= model->max_targets && sequences <= model->max_sequences)
        return STATUS_OK;
    const bool again = s->values != NULL;
    rows = larger(again ? model->max_rows : 0, room(rows, again));
    targets = larger(again ? model->max_targets : 0, room(targets, again));
    sequences = larger(again ? model->max_sequences : 0, room(sequences, again));
    batch_free(&s->batch, s->device);
    free(s->values);
    free(s->score);
    s->values = NULL;
    s->score = NULL;
    if (again)
        model_release(model);
    int status = model_plan(model, false, rows, targets, sequences, error);
    if (!status)
        status = model_allocate(model, s->device, error);
    if (!status)
        status = weights_load(s->weights, model, error);
    if (!status)
        status = model_pack(model, error);
    if (!status)
        status = batch_create(&s->batch, s->device, rows, targets, sequences, error);
    if (!status && !(s->score = memory_array((size_t)sequences, sizeof *s->score, error)))
        status = STATUS_MEMORY;
    if (!status && !(s->values = memory_array(2 * (size_t)targets, sizeof *s->values, error)))
        status = STATUS_MEMORY;
    return status;
}

void scorer_close(struct scorer *s)
{
    if (s->device)
        batch_free(&s->batch, s->device);
    free(s->values);
    free(s->score);
    free(s->first);
    *s = (struct scorer){0};
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
    struct batch_size size = {0};
    for (int g = 0; g < groups; g++)
        batch_group_size(sequences + group_first[g], group_first[g + 1] - group_first[g], BATCH_TRUNK, &size);
    batch->padded = size.rows < ROWS_MIN || size.targets < ROWS_MIN;
    int status = batch_pack(batch, model->device, sequences, group_first, groups, BATCH_TRUNK, model->config.vocab_size, error);
    if (!status)
        status = model_forward(model, batch, error);
    if (!status)
        status = head_read(model, model->head.logprob, batch->targets, values, error);
    if (!status)
        status = head_read(model, model->head.p, batch->targets, values + batch->targets, error);
    return status ? status : sequence_scores(batch, values, values + batch->targets, keep_tokens, score, error);
}

/* Parts from .. to - 1 of the list. */
static int parts_score(struct scorer *s, const struct batch_sequence *sequences, const struct parts *parts, int from, int to,
                       scorer_done done, void *user, struct error *error)
{
    const int32_t begin = parts->first[from];
    const int count = parts->first[to] - begin;
    for (int p = from; p <= to; p++)
        s->first[p - from] = parts->first[p] - begin;
    int status = score_batch(s->model, &s->batch, sequences + begin, s->first, to - from, s->keep_tokens, s->values, s->score,
                             error);
    if (!status)
        status = done(user, begin, count, s->score, error);
    for (int i = 0; i < count; i++) {
        free(s->score[i].token_logprobs);
        s->score[i] = (struct score){0};
    }
    return status;
}

int scorer_run(struct scorer *s, const struct batch_sequence *sequences, const int32_t *group_first, int groups,
               scorer_done done, void *user, struct error *error)
{
    struct parts parts;
    int64_t rows, targets, count;
    int status = parts_make(&parts, group_first, groups, error);
    if (!status && !s->first && !(s->first = memory_array((size_t)s->batch_size + 1, sizeof *s->first, error)))
        status = STATUS_MEMORY;
    if (!status) {
        largest_batch(sequences, &parts, s->batch_size, &rows, &targets, &count);
        status = scorer_room(s, rows, targets, count, error);
    }
    for (int from = 0; !status && from < parts.count; from += s->batch_size)
        status = parts_score(s, sequences, &parts, from, from + s->batch_size < parts.count ? from + s->batch_size : parts.count,
                             done, user, error);
    free(parts.first);
    return status;
}

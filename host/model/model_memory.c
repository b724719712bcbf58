/* model_memory.c - the memory of a model: every buffer declared, allocated and, where it holds a table, filled. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../util/memory.h"
#include "model.h"

/* One buffer of a struct layer_activations. */
struct activation {
    const char *name;
    int64_t count;
    size_t bytes;
    void **slot;
    enum recompute shared_from; /* from this level on it is not kept */
};
enum { ACTIVATIONS = 19 };

static void activations_list(const struct model *model, struct layer_activations *a, int64_t rows,
                             struct activation item[ACTIVATIONS])
{
    const struct model_config *c = &model->config;
    const size_t s = dtype_size(model->dtype), stat = dtype_size(dtype_stat(model->dtype));
    const int64_t qk_raw = c->family->qk_norm && model->training ? rows : 0; /* for the backward pass alone */
    const int64_t qk_rstd = c->family->qk_norm ? rows : 0;
    const int64_t qk_pieces = c->family->qk_norm == QK_NORM_WIDE ? 2 : c->num_attention_heads + c->num_key_value_heads;
    const int64_t mean = c->norm == NORM_LAYER ? rows : 0, middle = c->family->parallel ? 0 : rows;
    const int64_t first = model_has(model, SLOT_NORM1_WEIGHT) ? rows : 0, second = model_has(model, SLOT_NORM2_WEIGHT) ? rows : 0;
    const int64_t post = model_has(model, SLOT_POST_NORM1_WEIGHT) ? rows : 0;
    const struct activation list[ACTIVATIONS] = {
        {"layer input", rows * c->hidden_size, s, &a->input, RECOMPUTE_LEVELS},
        {"norm 1", first * c->hidden_size, s, &a->norm1, RECOMPUTE_SELECTIVE},
        {"norm 1 rstd", first, stat, &a->rstd1, RECOMPUTE_FULL},
        {"norm 1 mean", mean, stat, &a->mean1, RECOMPUTE_FULL},
        {"qkv", rows * (query_cols(c) + 2 * key_cols(c)), s, &a->qkv, RECOMPUTE_FULL},
        {"queries and keys before their norm", qk_raw * (query_cols(c) + key_cols(c)), s, &a->qk_raw, RECOMPUTE_FULL},
        {"rstd of queries and keys", qk_rstd * qk_pieces, stat, &a->qk_rstd, RECOMPUTE_FULL},
        {"attention", rows * query_cols(c), s, &a->attention, RECOMPUTE_FULL},
        {"attention lse", rows * c->num_attention_heads, stat, &a->lse, RECOMPUTE_FULL},
        {"attention's addition before its norm", post * c->hidden_size, s, &a->attention_raw, RECOMPUTE_FULL},
        {"norm behind attention rstd", post, stat, &a->post_rstd1, RECOMPUTE_FULL},
        {"layer middle", middle * c->hidden_size, s, &a->middle, RECOMPUTE_FULL},
        {"norm 2", second * c->hidden_size, s, &a->norm2, RECOMPUTE_SELECTIVE},
        {"norm 2 rstd", second, stat, &a->rstd2, RECOMPUTE_FULL},
        {"norm 2 mean", second ? mean : 0, stat, &a->mean2, RECOMPUTE_FULL},
        {"feed-forward up", rows * c->intermediate_size * (c->family->gated ? 2 : 1), s, &a->up, RECOMPUTE_FULL},
        {"feed-forward activated", rows * c->intermediate_size, s, &a->activated, RECOMPUTE_SELECTIVE},
        {"feed-forward's addition before its norm", post * c->hidden_size, s, &a->feed_raw, RECOMPUTE_FULL},
        {"norm behind feed-forward rstd", post, stat, &a->post_rstd2, RECOMPUTE_LEVELS}, /* few, and the norm is not made again */
    };
    memcpy(item, list, sizeof list);
}

/* Declares one struct layer_activations for `rows` rows: what is kept of each layer, or what they share. */
static int activations_plan(struct model *model, struct layer_activations *a, bool shared, int64_t rows,
                            struct error *error)
{
    struct activation item[ACTIVATIONS];
    activations_list(model, a, rows, item);
    int status = STATUS_OK;
    for (int i = 0; i < ACTIVATIONS && !status; i++)
        if ((model->recompute >= item[i].shared_from) == shared)
            status = memory_plan_add(&model->plan, shared || !model->training ? MEMORY_SCRATCH : MEMORY_ACTIVATION,
                                     item[i].name, item[i].count, item[i].bytes, item[i].slot, error);
    return status;
}

/* Points every layer at the shared buffers. */
static void activations_share(struct model *model)
{
    struct activation from[ACTIVATIONS], to[ACTIVATIONS];
    activations_list(model, &model->shared, model->max_rows, from);
    for (int l = 0; l < (model->training ? model_last_layer(model) + 1 : 0); l++) {
        activations_list(model, &model->activations[l], model->max_rows, to);
        for (int i = 0; i < ACTIVATIONS; i++)
            if (model->recompute >= to[i].shared_from)
                *to[i].slot = *from[i].slot;
    }
}

static int head_plan(struct model *model, struct error *error)
{
    const struct model_config *c = &model->config;
    struct head_activations *h = &model->head;
    const size_t s = dtype_size(model->dtype), stat = dtype_size(dtype_stat(model->dtype));
    const int64_t targets = model->max_targets, hidden = targets * c->hidden_size;
    const int64_t logits = (model->head_chunk ? model->head_chunk : targets) * c->vocab_size;
    const bool copy = model->training && model->logits_dtype != model->dtype;
    const struct {
        const char *name;
        int64_t count;
        size_t bytes;
        void **slot;
    } item[] = {
        {"head input", hidden, s, &h->input},
        {"head branch", hidden, s, &h->branch},
        {"head sum", hidden, s, &h->sum},
        {"head norm", hidden, s, &h->norm},
        {"head rstd", targets, stat, &h->rstd},
        {"head mean", c->norm == NORM_LAYER ? targets : 0, stat, &h->mean},
        {"logits", !model->layers_run || model->training ? logits : 0, dtype_size(model->logits_dtype), &h->logits},
        {"d logits", copy ? logits : 0, s, &h->dlogits},
        {"logprob", targets, stat, &h->logprob},
        {"p", targets, stat, &h->p},
        {"1 - p", targets, stat, &h->q},
        {"lse", targets, stat, &h->lse},
        {"row scale", targets, stat, &h->row_scale},
        {"mean of log p", model->head_statistics ? targets : 0, stat, &h->logprob_mean},
        {"variance of log p", model->head_statistics ? targets : 0, stat, &h->logprob_variance},
        {"argmax", model->head_statistics ? targets : 0, sizeof(int32_t), (void **)&h->argmax},
        {"largest logits", model->logit_margin ? targets : 0, stat, &h->most},
        {"means of logits", model->logit_margin ? targets : 0, stat, &h->logits_mean},
        {"columns of the largest logits", model->logit_margin ? targets : 0, sizeof(int32_t), (void **)&h->most_column},
        {"values of target rows", model->row_values ? targets : 0, stat, &h->row_value},
        {"logprob sums", model->max_sequences, sizeof(double), (void **)&h->logprob_sum},
        {"prob sums", model->max_sequences, sizeof(double), (void **)&h->prob_sum},
        {"slopes of prob", model->max_sequences, sizeof(double), (void **)&h->slope_prob},
        {"slopes of logprob", model->max_sequences, sizeof(double), (void **)&h->slope_logprob},
    };
    int status = STATUS_OK;
    for (size_t i = 0; i < sizeof item / sizeof *item && !status; i++)
        status = memory_plan_add(&model->plan, MEMORY_ACTIVATION, item[i].name, item[i].count, item[i].bytes, item[i].slot,
                                 error);
    return status;
}

static bool head_bias_trained(const struct model *model)
{
    return model->training && model->config.head_bias && !model->lora.options.rank;
}

static int scratch_plan(struct model *model, int64_t rows, struct error *error)
{
    const struct model_config *c = &model->config;
    const size_t s = dtype_size(model->dtype);
    const int64_t t = model->training ? rows : 0;
    const bool whole = model_has(model, SLOT_POST_NORM2_WEIGHT); /* streams; they lie in the layers' inputs */
    const struct {
        const char *name;
        int64_t count;
        void **slot;
    } item[] = {
        {"attention output", whole ? 0 : rows * c->hidden_size, &model->attention_out},
        {"feed-forward output", whole ? t * c->hidden_size : rows * c->hidden_size, &model->feed_out},
        {"d residual", t * c->hidden_size, &model->dresidual},
        {"d norm", t * c->hidden_size, &model->dnorm},
        {"d qkv", t * (query_cols(c) + 2 * key_cols(c)), &model->dqkv},
        {"d attention", t * query_cols(c), &model->dattention},
        {"d up", t * c->intermediate_size * (c->family->gated ? 2 : 1), &model->dup},
        {"d activated", t * c->intermediate_size, &model->dactivated},
        {"ones", head_bias_trained(model) ? model->max_targets : 0, &model->ones},
        {"row scale of the head's bias", head_bias_trained(model) ? model->max_targets : 0, &model->row_scale},
    };
    int status = STATUS_OK;
    for (size_t i = 0; i < sizeof item / sizeof *item && !status; i++)
        status = memory_plan_add(&model->plan, MEMORY_SCRATCH, item[i].name, item[i].count, s, item[i].slot, error);
    return status;
}

/* The other model of a pair takes the same batches, and its logits have the same type. */
static int reinforced_plan(struct model *model, int64_t max_rows, int64_t max_targets, int64_t max_sequences,
                           struct error *error)
{
    model->reinforced->wide_logits = model->wide_logits;
    model->reinforced->max_positions = model->max_positions;
    return model_plan(model->reinforced, false, max_rows, max_targets, max_sequences, error);
}

int model_plan(struct model *model, bool training, int64_t max_rows, int64_t max_targets, int64_t max_sequences,
               struct error *error)
{
    const struct model_config *c = &model->config;
    const size_t s = dtype_size(model->dtype), stat = dtype_size(dtype_stat(model->dtype));
    model->training = training;
    model->recompute = training ? model->recompute : RECOMPUTE_NONE;
    model->logits_dtype = model->wide_logits && model->dtype == DTYPE_BF16 ? DTYPE_F32 : model->dtype;
    model->head_chunk = model->head_chunk < max_targets ? model->head_chunk : 0;
    model->max_rows = max_rows, model->max_targets = max_targets, model->max_sequences = max_sequences;
    int kept = training ? model_last_layer(model) + 1 : 1;
    model->activations = memory_array((size_t)kept, sizeof *model->activations, error);
    if (!model->activations)
        return STATUS_MEMORY;
    int status = memory_plan_add(&model->plan, MEMORY_PARAM, "parameters", model->weights_of ? 0 : model->elements, s,
                                 &model->param, error);
    if (!status && model->nf4.used)
        status = nf4_base_plan(model, error);
    if (!status && training && !model->lora.options.rank)
        status = memory_plan_add(&model->plan, MEMORY_GRAD, "gradients", model->elements, dtype_size(model->grad_dtype),
                                 &model->grad, error);
    for (int l = 0; l < kept && !status; l++)
        status = activations_plan(model, &model->activations[l], false, max_rows, error);
    if (!status)
        status = activations_plan(model, &model->shared, true, max_rows, error);
    if (!status)
        status = lora_plan(model, max_rows, error);
    if (!status)
        status = scratch_plan(model, max_rows, error);
    if (!status)
        status = head_plan(model, error);
    /* positions of a sequence follow each other in a batch: no batch has more of them than rows */
    const int64_t positions = model->max_positions ? model->max_positions : max_rows;
    model->rope_positions = !c->family->rotary                        ? 0
                            : positions < c->max_position_embeddings ? positions
                                                                     : c->max_position_embeddings;
    for (int p = 0; p < ROPE_PLACES && !status; p++) {
        const int64_t table = c->rope[p].theta > 0 ? model->rope_positions * (c->rotary_dim / 2) : 0;
        status = memory_plan_add(&model->plan, MEMORY_PARAM, p ? "rotary cos of windows" : "rotary cos", table, stat,
                                 &model->rope_cos[p], error);
        if (!status)
            status = memory_plan_add(&model->plan, MEMORY_PARAM, p ? "rotary sin of windows" : "rotary sin", table, stat,
                                     &model->rope_sin[p], error);
    }
    if (!status)
        status = memory_plan_add(&model->plan, MEMORY_PARAM, "scale of the embedding",
                                 c->family->embedding_scaled ? max_rows : 0, stat, &model->embedding_scale, error);
    return status || !model->reinforced ? status
                                        : reinforced_plan(model, max_rows, max_targets, max_sequences, error);
}

void model_release(struct model *model)
{
    memory_plan_free(&model->plan, model->device);
    free(model->activations);
    model->activations = NULL;
    if (model->reinforced)
        model_release(model->reinforced);
}

/* Uploads a table computed in double as the engine's statistics type. */
static int table_upload(struct model *model, void *to, double *table, int64_t count, struct error *error)
{
    if (dtype_stat(model->dtype) == DTYPE_F64)
        return device_copy_in(model->device, to, table, (size_t)count * sizeof(double), error);
    float *narrow = (float *)(void *)table; /* in place: element i is read before anything at or beyond it is written */
    for (int64_t i = 0; i < count; i++) {
        float value = (float)table[i];
        memcpy(narrow + i, &value, sizeof value);
    }
    return device_copy_in(model->device, to, narrow, (size_t)count * sizeof(float), error);
}

/* sqrt(hidden_size) for every row; of a bf16 model rounded to that, half to even. */
static int embedding_scale_upload(struct model *model, struct error *error)
{
    double scale = sqrt((double)model->config.hidden_size);
    if (model->dtype == DTYPE_BF16) {
        const float value = (float)scale;
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
        float rounded;
        memcpy(&rounded, &bits, sizeof rounded);
        scale = (double)rounded;
    }
    double *table = memory_array((size_t)model->max_rows, sizeof *table, error);
    if (!table)
        return STATUS_MEMORY;
    for (int64_t i = 0; i < model->max_rows; i++)
        table[i] = scale;
    int status = table_upload(model, model->embedding_scale, table, model->max_rows, error);
    free(table);
    return status;
}

/* Ones in the model's storage type. */
static int ones_upload(struct model *model, struct error *error)
{
    const size_t s = dtype_size(model->dtype);
    char *ones = memory_array((size_t)model->max_targets, s, error);
    if (!ones)
        return STATUS_MEMORY;
    for (int64_t i = 0; i < model->max_targets; i++) {
        const float one = 1;
        const double wide = 1;
        if (model->dtype == DTYPE_BF16)
            memcpy(ones + (size_t)i * s, (const char *)&one + 2, s); /* a bf16 is the upper half of a float */
        else
            memcpy(ones + (size_t)i * s, model->dtype == DTYPE_F64 ? (const void *)&wide : (const void *)&one, s);
    }
    int status = device_copy_in(model->device, model->ones, ones, (size_t)model->max_targets * s, error);
    free(ones);
    return status;
}

static int rope_upload(struct model *model, enum rope_place place, struct error *error)
{
    const int64_t count = model->rope_positions * (model->config.rotary_dim / 2);
    double *cos_table = memory_array((size_t)count, sizeof(double), error);
    double *sin_table = memory_array((size_t)count, sizeof(double), error);
    int status = cos_table && sin_table ? STATUS_OK : STATUS_MEMORY;
    if (!status) {
        model_config_rope_tables(&model->config, place, model->rope_positions, cos_table, sin_table);
        status = table_upload(model, model->rope_cos[place], cos_table, count, error);
    }
    if (!status)
        status = table_upload(model, model->rope_sin[place], sin_table, count, error);
    free(cos_table);
    free(sin_table);
    return status;
}

int model_allocate(struct model *model, struct device *device, struct error *error)
{
    model->device = device;
    int status = model->reinforced ? model_allocate(model->reinforced, device, error) : STATUS_OK;
    if (!status)
        status = memory_plan_commit(&model->plan, device, error);
    if (!status && model->weights_of)
        model->param = model->weights_of->param, model->nf4 = model->weights_of->nf4;
    if (!status && model->logits_dtype == model->dtype)
        model->head.dlogits = model->head.logits;
    if (!status)
        activations_share(model);
    if (!status)
        lora_share(model);
    if (!status && head_bias_trained(model))
        status = ones_upload(model, error);
    if (!status && model->config.family->embedding_scaled)
        status = embedding_scale_upload(model, error);
    for (int p = 0; p < ROPE_PLACES && !status; p++)
        if (model->rope_cos[p])
            status = rope_upload(model, (enum rope_place)p, error);
    return status;
}

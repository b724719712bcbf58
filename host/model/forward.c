/* forward.c - the parts of the transformer's forward pass over a packed batch: embedding, a layer, the rows of the targets. The
 * whole pass is forward_pass.c.
 *
 * A layer: input (+)-> norm 1 -> qkv -> rotary -> attention -> o -(+)-> norm 2 -> up -> activation -> down. Both
 * residual additions are fused into the norm that follows them; the last one into the final norm, which sees only
 * the rows that predict an answer token. Of a family with norms behind o and down, the additions are fused into these, and
 * the stream that leaves a layer is whole; it may then have no norm 1 and 2.
 */
#include <math.h>

#include "model.h"

/* Layer l's kept activations; in inference all layers share the first, and those above the last that training runs share its. */
static struct layer_activations *activations_of(const struct model *model, int layer)
{
    const int last = model_last_layer(model);
    return &model->activations[!model->training ? 0 : layer < last ? layer : last];
}

/* y (+)= x W^T + bias of a layer, and its adapter's part. */
static int linear(struct model *model, int layer, enum slot weight, int64_t rows, const void *x, void *y, bool accumulate,
                  struct error *error)
{
    const struct projection p = model_projection(model, layer, weight);
    const void *matrix;
    int status = model_weight(model, layer, weight, &matrix, error);
    if (!status)
        status = device_run(model->device, error, linear_forward,
                            &((struct linear_args){.dtype = model->dtype,
                                                   .out_dtype = model->dtype,
                                                   .rows = rows,
                                                   .in = p.in,
                                                   .out = p.out,
                                                   .x = x,
                                                   .weight = matrix,
                                                   .form = model_form(model, layer, weight),
                                                   .bias = model_param(model, layer, p.bias),
                                                   .y = y,
                                                   .scale = 1,
                                                   .accumulate = accumulate}));
    return status ? status : lora_forward(model, rows, layer, weight, x, y, error);
}

/* The residual stream leaving a layer is the sum of these two [rows, hidden], which the next norm adds up. */
static void *stream_of(const struct model *model, int layer)
{
    const struct layer_activations *a = activations_of(model, layer);
    return model->config.family->parallel ? a->input : a->middle;
}

static void *branch_of(const struct model *model)
{
    return model->config.family->parallel ? model->attention_out : model->feed_out;
}

/* Norms behind the sub-layers: what leaves a layer is one array, where the next layer finds it. */
static bool stream_is_whole(const struct model *model) { return model_has(model, SLOT_POST_NORM2_WEIGHT); }

static void *whole_stream(const struct model *model, int layer)
{
    const bool last = layer == model_last_layer(model) || layer + 1 == model->config.num_hidden_layers;
    return model->training && last ? model->feed_out : activations_of(model, last ? layer : layer + 1)->input;
}

const void *model_sublayer_input(const struct model *model, int layer, bool feed_forward)
{
    const struct layer_activations *a = activations_of(model, layer);
    if (!feed_forward || model->config.family->parallel)
        return model_has(model, SLOT_NORM1_WEIGHT) ? a->norm1 : a->input;
    return model_has(model, SLOT_NORM2_WEIGHT) ? a->norm2 : a->middle;
}

/* Keys that all queries of a batch together see through a window, for attention's cost. */
static int64_t visible_keys(const struct batch *batch, int64_t window)
{
    int64_t sum = 0;
    for (int s = 0; s < batch->segments && window; s++) {
        const struct attention_segment *segment = &batch->host.segment[s];
        const int64_t before = (int64_t)segment->prefix_count + segment->key_cached, n = segment->query_count;
        const int64_t growing = before >= window ? 0 : window - before < n ? window - before : n;
        sum += growing * before + growing * (growing + 1) / 2 + (n - growing) * window;
    }
    return window ? sum : batch->visible_keys;
}

bool model_rotates(const struct model *model, int layer)
{
    return model->config.family->rotary && !(model->config.layer[layer] & LAYER_UNROTATED);
}

struct attention_args model_attention_args(const struct model *model, const struct batch *batch, int layer, void *qkv,
                                           void *out, void *lse)
{
    const struct model_config *c = &model->config;
    const size_t s = dtype_size(model->dtype);
    const int64_t q = c->num_attention_heads * c->head_dim, k = c->num_key_value_heads * c->head_dim;
    return (struct attention_args){.dtype = model->dtype,
                                   .rows = batch->rows,
                                   .heads = (int)c->num_attention_heads,
                                   .kv_heads = (int)c->num_key_value_heads,
                                   .head_dim = (int)c->head_dim,
                                   .scale = 1 / sqrt((double)(c->query_pre_attn_scalar ? c->query_pre_attn_scalar : c->head_dim)),
                                   .cap = c->attention_cap,
                                   .window = (int)layer_window(c, layer),
                                   .visible_keys = visible_keys(batch, layer_window(c, layer)),
                                   .groups = batch->groups,
                                   .segments = batch->segments,
                                   .group_begin = batch->device.group_begin,
                                   .segment = batch->device.segment,
                                   .tiles = batch->tiles,
                                   .tile = batch->tiles && model->dtype == DTYPE_BF16 ? batch->device.tile : NULL,
                                   .q = qkv,
                                   .k = (char *)qkv + (size_t)q * s,
                                   .v = (char *)qkv + (size_t)(q + k) * s,
                                   .q_stride = q + 2 * k,
                                   .kv_stride = q + 2 * k,
                                   .out_stride = q,
                                   .out = out,
                                   .lse = lse};
}

struct rope_args model_rope_args(const struct model *model, const struct batch *batch, int layer, void *qkv, int direction)
{
    const struct model_config *c = &model->config;
    return (struct rope_args){.dtype = model->dtype,
                              .rows = batch->rows,
                              .row_stride = (c->num_attention_heads + 2 * c->num_key_value_heads) * c->head_dim,
                              .heads = (int)(c->num_attention_heads + c->num_key_value_heads),
                              .head_dim = (int)c->head_dim,
                              .rotary_dim = (int)c->rotary_dim,
                              .direction = direction,
                              .positions = batch->device.positions,
                              .cos = model->rope_cos[layer_rope(c, layer)],
                              .sin = model->rope_sin[layer_rope(c, layer)],
                              .x = qkv};
}

struct qk_norm_args model_qk_norm_args(const struct model *model, const struct batch *batch, int layer)
{
    const struct model_config *c = &model->config;
    const struct layer_activations *a = activations_of(model, layer);
    const bool rotates = model_rotates(model, layer);
    return (struct qk_norm_args){.dtype = model->dtype,
                                 .rows = batch->rows,
                                 .row_stride = query_cols(c) + 2 * key_cols(c),
                                 .heads = (int)c->num_attention_heads,
                                 .kv_heads = (int)c->num_key_value_heads,
                                 .head_dim = (int)c->head_dim,
                                 .wide = c->family->qk_norm == QK_NORM_WIDE,
                                 .eps = c->norm_eps,
                                 .offset = c->family->norm_offset,
                                 .q_weight = model_param(model, layer, SLOT_Q_NORM_WEIGHT),
                                 .k_weight = model_param(model, layer, SLOT_K_NORM_WEIGHT),
                                 .rotary_dim = (int)c->rotary_dim,
                                 .positions = batch->device.positions,
                                 .cos = rotates ? model->rope_cos[layer_rope(c, layer)] : NULL,
                                 .sin = rotates ? model->rope_sin[layer_rope(c, layer)] : NULL,
                                 .x = a->qkv,
                                 .raw = a->qk_raw,
                                 .rstd = a->qk_rstd};
}

struct sequence_args model_sequence_args(const struct model *model, const struct batch *batch, double *totals)
{
    const struct head_activations *head = &model->head;
    return (struct sequence_args){.dtype = dtype_stat(model->dtype),
                                  .sequences = batch->sequences,
                                  .rows = batch->real_targets,
                                  .begin = batch->device.sequence_begin,
                                  .role = batch->device.role,
                                  .reference = batch->device.reference,
                                  .logprob = head->logprob,
                                  .p = head->p,
                                  .q = head->q,
                                  .row_value = head->row_value,
                                  .logprob_sum = head->logprob_sum,
                                  .prob_sum = head->prob_sum,
                                  .slope_prob = head->slope_prob,
                                  .slope_logprob = head->slope_logprob,
                                  .row_scale = head->row_scale,
                                  .totals = totals};
}

/* What a pass over a layer is for. */
enum pass { PASS_FORWARD, PASS_AGAIN };

/* Whether the output of a half matters: in a pass for the backward pass nothing reads the layer's own but a norm behind it,
 * and a LoRA adapter's x A^T comes with it. */
static bool output_needed(const struct model *model, enum pass pass)
{
    return pass == PASS_FORWARD || stream_is_whole(model) || model->lora.options.rank;
}

/* Attention with the keys that a hook has given. */
static int attend(struct model *model, const struct attention_args *attention, const struct layer_keys *keys,
                  struct error *error)
{
    const int begun = attention->segments - keys->continued;
    struct attention_args own = *attention, given = *attention;
    given.k = keys->k, given.v = keys->v, given.kv_stride = keys->stride;
    if (!keys->segment)
        return device_run(model->device, error, attention_forward, &given);
    given.tile = own.tile = NULL;
    given.segment = keys->segment, given.groups = given.segments = keys->continued;
    own.segment = keys->segment + keys->continued, own.groups = own.segments = begun;
    int status = keys->continued ? device_run(model->device, error, attention_forward, &given) : STATUS_OK;
    return status || !begun ? status : device_run(model->device, error, attention_forward, &own);
}

static int attention_half(struct model *model, const struct batch *batch, int layer, layer_keys_hook hook, void *user,
                          enum pass pass, struct error *error)
{
    const struct model_config *c = &model->config;
    struct layer_activations *a = activations_of(model, layer);
    int status = linear(model, layer, SLOT_QKV_WEIGHT, batch->rows, model_sublayer_input(model, layer, false), a->qkv, false,
                        error);
    if (!status && c->family->qk_norm) {
        const struct qk_norm_args norm_args = model_qk_norm_args(model, batch, layer);
        status = device_run(model->device, error, qk_norm_forward, &norm_args);
    } else if (!status && model_rotates(model, layer)) {
        const struct rope_args rotation = model_rope_args(model, batch, layer, a->qkv, 1);
        status = device_run(model->device, error, rope, &rotation);
    }
    const struct attention_args attention = model_attention_args(model, batch, layer, a->qkv, a->attention,
                                                           model->training ? a->lse : NULL);
    struct layer_keys keys = {.k = attention.k, .v = attention.v, .stride = attention.kv_stride};
    if (!status && hook)
        status = hook(user, layer, a->qkv, &keys, error);
    if (!status)
        status = attend(model, &attention, &keys, error);
    if (!status && (!c->family->parallel || output_needed(model, pass)))
        status = linear(model, layer, SLOT_O_WEIGHT, batch->rows, a->attention,
                        stream_is_whole(model) ? a->attention_raw : model->attention_out, false, error);
    return status;
}

static int activation(struct model *model, const struct batch *batch, int layer, struct error *error)
{
    const struct layer_activations *a = activations_of(model, layer);
    return device_run(model->device, error, activation_forward,
                      &((struct activation_args){.kind = model->config.activation,
                                                 .dtype = model->dtype,
                                                 .rows = batch->rows,
                                                 .cols = model->config.intermediate_size,
                                                 .x = a->up,
                                                 .y = a->activated}));
}

static int feed_forward_half(struct model *model, const struct batch *batch, int layer, enum pass pass,
                             struct error *error)
{
    struct layer_activations *a = activations_of(model, layer);
    int status = linear(model, layer, SLOT_UP_WEIGHT, batch->rows, model_sublayer_input(model, layer, true), a->up, false, error);
    if (!status)
        status = activation(model, batch, layer, error);
    if (!status && output_needed(model, pass))
        status = linear(model, layer, SLOT_DOWN_WEIGHT, batch->rows, a->activated,
                        stream_is_whole(model) ? a->feed_raw : branch_of(model), model->config.family->parallel, error);
    return status;
}

/* Norm 1 or 2 of a layer, where it has one. x + residual is normalised and kept as `sum`; without a residual x is. */
static int norm(struct model *model, const struct batch *batch, int layer, bool second, const void *x,
                const void *residual, void *sum, struct error *error)
{
    const struct model_config *c = &model->config;
    const struct layer_activations *a = activations_of(model, layer);
    if (!model_has(model, second ? SLOT_NORM2_WEIGHT : SLOT_NORM1_WEIGHT))
        return STATUS_OK;
    return device_run(model->device, error, norm_forward,
                      &((struct norm_args){.kind = c->norm,
                                           .dtype = model->dtype,
                                           .rows = batch->rows,
                                           .cols = c->hidden_size,
                                           .eps = c->norm_eps,
                                           .x = x,
                                           .residual = residual,
                                           .sum = residual ? sum : NULL,
                                           .weight = model_param(model, layer, second ? SLOT_NORM2_WEIGHT : SLOT_NORM1_WEIGHT),
                                           .bias = model_param(model, layer, second ? SLOT_NORM2_BIAS : SLOT_NORM1_BIAS),
                                           .offset = c->family->norm_offset,
                                           .y = second ? a->norm2 : a->norm1,
                                           .rstd = second ? a->rstd2 : a->rstd1,
                                           .mean = second ? a->mean2 : a->mean1}));
}

/* The norm behind attention, or behind the feed-forward; leaves the whole stream in `sum`. */
static int post_norm(struct model *model, const struct batch *batch, int layer, bool second, void *sum, struct error *error)
{
    const struct model_config *c = &model->config;
    const struct layer_activations *a = activations_of(model, layer);
    return device_run(model->device, error, norm_forward,
                      &((struct norm_args){.kind = c->norm,
                                           .dtype = model->dtype,
                                           .rows = batch->rows,
                                           .cols = c->hidden_size,
                                           .eps = c->norm_eps,
                                           .x = second ? a->feed_raw : a->attention_raw,
                                           .added = second ? a->middle : a->input,
                                           .weight = model_param(model, layer, second ? SLOT_POST_NORM2_WEIGHT
                                                                                      : SLOT_POST_NORM1_WEIGHT),
                                           .offset = c->family->norm_offset,
                                           .y = sum,
                                           .rstd = second ? a->post_rstd2 : a->post_rstd1}));
}

/* All of a layer after norm 1. */
static int layer_rest(struct model *model, const struct batch *batch, int layer, layer_keys_hook hook, void *user,
                      enum pass pass, struct error *error)
{
    struct layer_activations *a = activations_of(model, layer);
    int status = attention_half(model, batch, layer, hook, user, pass, error);
    if (!status && stream_is_whole(model)) {
        status = post_norm(model, batch, layer, false, a->middle, error);
        if (!status)
            status = norm(model, batch, layer, true, a->middle, NULL, NULL, error);
    } else if (!status && !model->config.family->parallel)
        status = norm(model, batch, layer, true, model->attention_out, a->input, a->middle, error);
    if (!status)
        status = feed_forward_half(model, batch, layer, pass, error);
    if (!status && stream_is_whole(model) && pass == PASS_FORWARD)
        status = post_norm(model, batch, layer, true, whole_stream(model, layer), error);
    return status;
}

int model_forward_layer(struct model *model, const struct batch *batch, int layer, layer_keys_hook hook, void *user,
                        struct error *error)
{
    struct layer_activations *a = activations_of(model, layer);
    int status = layer && !stream_is_whole(model)
                     ? norm(model, batch, layer, false, branch_of(model), stream_of(model, layer - 1), a->input, error)
                     : norm(model, batch, layer, false, a->input, NULL, NULL, error);
    return status ? status : layer_rest(model, batch, layer, hook, user, PASS_FORWARD, error);
}

int model_recompute(struct model *model, const struct batch *batch, int layer, struct error *error)
{
    const struct layer_activations *a = activations_of(model, layer);
    if (model->recompute == RECOMPUTE_NONE || layer == model_last_layer(model))
        return STATUS_OK;
    int status = norm(model, batch, layer, false, a->input, NULL, NULL, error);
    if (status || model->recompute == RECOMPUTE_FULL)
        return status ? status : layer_rest(model, batch, layer, NULL, NULL, PASS_AGAIN, error);
    status = norm(model, batch, layer, true, a->middle, NULL, NULL, error);
    return status ? status : activation(model, batch, layer, error);
}

int model_accepts(const struct model *model, const struct batch *batch, struct error *error)
{
    const struct model_config *c = &model->config;
    if (batch->rows > model->max_rows || batch->targets > model->max_targets || batch->sequences > model->max_sequences)
        return error_set(error, STATUS_RUNTIME, "a batch of %d rows and %d answer tokens is larger than what was planned",
                         (int)batch->rows, (int)batch->targets);
    if (batch->max_position >= context_length(c))
        return error_set(error, STATUS_USAGE, "a sequence of %d tokens is longer than the model's %lld positions; "
                         "lower max_length", (int)batch->max_position + 1, (long long)context_length(c));
    if (model->rope_positions && batch->max_position >= model->rope_positions)
        return error_set(error, STATUS_RUNTIME, "a sequence of %d tokens is longer than what was planned",
                         (int)batch->max_position + 1);
    return STATUS_OK;
}

int model_scale_embedded(struct model *model, int64_t rows, void *x, struct error *error)
{
    if (!model->config.family->embedding_scaled)
        return STATUS_OK;
    return device_run(model->device, error, row_scale,
                      &((struct row_scale_args){.dtype = model->dtype,
                                                .rows = rows,
                                                .cols = model->config.hidden_size,
                                                .x = x,
                                                .scale = model->embedding_scale,
                                                .y = x}));
}

int model_forward_body(struct model *model, const struct batch *batch, struct error *error)
{
    const struct model_config *c = &model->config;
    int status = model_accepts(model, batch, error);
    if (status)
        return status;
    status = device_run(model->device, error, embedding_forward,
                            &((struct embedding_args){.dtype = model->dtype,
                                                      .rows = batch->rows,
                                                      .cols = c->hidden_size,
                                                      .table = model_param(model, 0, SLOT_EMBEDDING),
                                                      .form = model_form(model, 0, SLOT_EMBEDDING),
                                                      .table_rows = c->vocab_size,
                                                      .ids = batch->device.ids,
                                                      .position_table = model_positions(model, model->param),
                                                      .positions = batch->device.positions,
                                                      .out = activations_of(model, 0)->input}));
    return status ? status : model_scale_embedded(model, batch->rows, activations_of(model, 0)->input, error);
}

int model_last_layer(const struct model *model)
{
    return (model->layers_run ? model->layers_run : (int)model->config.num_hidden_layers) - 1;
}

int model_gather_targets(struct model *model, int layer, const int32_t *device_target_row, int32_t targets,
                         struct error *error)
{
    const bool whole = stream_is_whole(model); /* then it is one part, and the other is 0 */
    const void *from[2] = {whole ? whole_stream(model, layer) : branch_of(model), stream_of(model, layer)};
    void *to[2] = {model->head.branch, model->head.input};
    int status = whole ? device_zero(model->device, to[1], (size_t)(targets * model->config.hidden_size) * dtype_size(model->dtype),
                                     error)
                       : STATUS_OK;
    for (int i = 0; i < (whole ? 1 : 2) && !status; i++)
        status = device_run(model->device, error, embedding_forward,
                            &((struct embedding_args){.dtype = model->dtype,
                                                      .rows = targets,
                                                      .cols = model->config.hidden_size,
                                                      .table = from[i],
                                                      .ids = device_target_row,
                                                      .out = to[i]}));
    return status;
}

int model_forward_head(struct model *model, const int32_t *device_target_row, int32_t targets, struct error *error)
{
    const struct model_config *c = &model->config;
    struct head_activations *h = &model->head;
    int status = model_gather_targets(model, (int)c->num_hidden_layers - 1, device_target_row, targets, error);
    if (!status)
        status = device_run(model->device, error, norm_forward,
                            &((struct norm_args){.kind = c->norm,
                                                 .dtype = model->dtype,
                                                 .rows = targets,
                                                 .cols = c->hidden_size,
                                                 .eps = c->norm_eps,
                                                 .x = h->branch,
                                                 .residual = h->input,
                                                 .sum = h->sum,
                                                 .weight = model_param(model, 0, SLOT_FINAL_NORM_WEIGHT),
                                                 .bias = model_param(model, 0, SLOT_FINAL_NORM_BIAS),
                                                 .offset = c->family->norm_offset,
                                                 .y = h->norm,
                                                 .mean = h->mean,
                                                 .rstd = h->rstd}));
    return status || model->head_chunk ? status : model_head_logits(model, 0, targets, error);
}

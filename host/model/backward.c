/* backward.c - the transformer's backward pass: from the loss head's row scales to the gradient arena.
 *
 * The head's logits hold p - onehot, unweighted. dX of the head is scaled per row afterwards, and its dW takes
 * row_scale_i h_i as operand, so the loss weights never touch the vocabulary-wide buffer.
 * Parameter gradients are added to, or, where model->overwrite_gradients, written: a matrix has one product per pass, and
 * what is summed from several places or rows (tables of embeddings, vectors) is cleared first. Gradients of the residual
 * stream pass through one buffer, in place.
 */
#include <stdio.h>

#include "model.h"

/* dx = dy W (added to dx when accumulate) and, unless W is frozen, dW (+)= dy^T x, dbias (+)= column sums of dy. */
static int linear_backward(struct model *model, const struct projection *p, int64_t rows, const void *dy, const void *x,
                           void *dx, bool accumulate, struct error *error)
{
    const void *matrix;
    int status = model_weight(model, p->layer, p->weight, &matrix, error);
    if (!status && model->grad)
        status = device_run(model->device, error, linear_backward_weight,
                            &((struct linear_backward_weight_args){.dtype = model->dtype,
                                                                   .grad_dtype = model->grad_dtype,
                                                                   .rows = rows,
                                                                   .in = p->in,
                                                                   .out = p->out,
                                                                   .dy = dy,
                                                                   .x = x,
                                                                   .dweight = model_grad(model, p->layer, p->weight),
                                                                   .dbias = model_grad(model, p->layer, p->bias),
                                                                   .accumulate = !model->overwrite_gradients}));
    if (!status)
        status = device_run(model->device, error, linear_backward_input,
                            &((struct linear_backward_input_args){.dtype = model->dtype,
                                                                  .rows = rows,
                                                                  .in = p->in,
                                                                  .out = p->out,
                                                                  .dy = dy,
                                                                  .weight = matrix,
                                                                  .dx = dx,
                                                                  .scale = 1,
                                                                  .accumulate = accumulate}));
    return status ? status : lora_backward(model, rows, p->layer, p->weight, dy, x, dx, error);
}

static int scale_rows(struct model *model, int64_t rows, const void *x, void *y, struct error *error)
{
    return device_run(model->device, error, row_scale,
                      &((struct row_scale_args){.dtype = model->dtype,
                                                .rows = rows,
                                                .cols = model->config.hidden_size,
                                                .x = x,
                                                .scale = model->head.row_scale,
                                                .y = y}));
}

/* d bias of lm_head = sum over rows of row_scale_i (p - onehot)_i: a weight gradient whose operand is one column. */
static int head_bias_backward(struct model *model, int32_t begin, int32_t end, struct error *error)
{
    const struct head_activations *h = &model->head;
    const size_t s = dtype_size(model->dtype), stat = dtype_size(dtype_stat(model->dtype));
    int status = device_run(model->device, error, row_scale,
                            &((struct row_scale_args){.dtype = model->dtype,
                                                      .rows = end - begin,
                                                      .cols = 1,
                                                      .x = (char *)model->ones + (size_t)begin * s,
                                                      .scale = (char *)h->row_scale + (size_t)begin * stat,
                                                      .y = model->row_scale}));
    if (!status)
        status = device_run(model->device, error, linear_backward_weight,
                            &((struct linear_backward_weight_args){.dtype = model->dtype,
                                                                   .grad_dtype = model->grad_dtype,
                                                                   .rows = end - begin,
                                                                   .in = 1,
                                                                   .out = model->config.vocab_size,
                                                                   .dy = h->dlogits,
                                                                   .x = model->row_scale,
                                                                   .dweight = model_grad(model, 0, SLOT_HEAD_BIAS),
                                                                   .accumulate = !model->overwrite_gradients}));
    return status;
}

/* lm_head, a chunk of target rows at a time where their logits are not all there: from the scaled norms in head.branch to
 * the gradient of the norms in head.input. The first chunk writes weight gradients where a pass overwrites them. */
static int head_products_backward(struct model *model, const struct batch *batch, struct error *error)
{
    const struct projection head = model_projection(model, 0, SLOT_HEAD_WEIGHT);
    const struct head_activations *h = &model->head;
    const size_t row = (size_t)model->config.hidden_size * dtype_size(model->dtype);
    const bool overwrites = model->overwrite_gradients;
    int status = STATUS_OK;
    for (int32_t begin = 0, end; begin < batch->targets && !status; begin = end) {
        end = model_head_chunk_end(model, batch, begin);
        model->overwrite_gradients = overwrites && !begin;
        status = model_head_again(model, batch, begin, end, error);
        if (!status && model->grad && model->config.head_bias)
            status = head_bias_backward(model, begin, end, error);
        if (!status)
            status = linear_backward(model, &head, end - begin, h->dlogits, (char *)h->branch + (size_t)begin * row,
                                     (char *)h->input + (size_t)begin * row, false, error);
    }
    model->overwrite_gradients = overwrites;
    return status;
}

/* The gradient of the target rows into dresidual, which is 0 elsewhere. */
static int targets_scatter(struct model *model, const struct batch *batch, const void *dout, struct error *error)
{
    const int64_t cols = model->config.hidden_size;
    int status = device_zero(model->device, model->dresidual, (size_t)(batch->rows * cols) * dtype_size(model->dtype), error);
    return status ? status
                  : device_run(model->device, error, embedding_backward,
                               &((struct embedding_backward_args){.dtype = model->dtype,
                                                                  .grad_dtype = model->dtype,
                                                                  .rows = batch->targets,
                                                                  .buckets = batch->device.by_row.count,
                                                                  .cols = cols,
                                                                  .bucket_id = batch->device.by_row.key,
                                                                  .bucket_begin = batch->device.by_row.begin,
                                                                  .bucket_rows = batch->device.by_row.row,
                                                                  .dout = dout,
                                                                  .dtable = model->dresidual}));
}

/* lm_head and final norm; scatters the gradient of the answer rows into dresidual. */
static int head_backward(struct model *model, const struct batch *batch, struct error *error)
{
    const struct model_config *c = &model->config;
    struct head_activations *h = &model->head;
    int status = STATUS_OK;
    if (model->grad) /* branch and input are free again */
        status = scale_rows(model, batch->targets, h->norm, h->branch, error);
    if (!status)
        status = head_products_backward(model, batch, error);
    if (!status)
        status = scale_rows(model, batch->targets, h->input, h->input, error);
    if (!status)
        status = device_run(model->device, error, norm_backward,
                            &((struct norm_backward_args){.kind = c->norm,
                                                          .dtype = model->dtype,
                                                          .grad_dtype = model->grad_dtype,
                                                          .rows = batch->targets,
                                                          .cols = c->hidden_size,
                                                          .x = h->sum,
                                                          .weight = model_param(model, 0, SLOT_FINAL_NORM_WEIGHT),
                                                          .mean = h->mean,
                                                          .rstd = h->rstd,
                                                          .dy = h->input,
                                                          .dx = h->input,
                                                          .dweight = model_grad(model, 0, SLOT_FINAL_NORM_WEIGHT),
                                                          .dbias = model_grad(model, 0, SLOT_FINAL_NORM_BIAS),
                                                          .offset = c->family->norm_offset}));
    return status ? status : targets_scatter(model, batch, h->input, error);
}

/* The same where the loss is of the last layer's output itself: head.sum holds its gradient, unweighted. */
static int hidden_backward(struct model *model, const struct batch *batch, struct error *error)
{
    struct head_activations *h = &model->head;
    int status = scale_rows(model, batch->targets, h->sum, h->input, error);
    return status ? status : targets_scatter(model, batch, h->input, error);
}

static int norm_half(struct model *model, const struct batch *batch, int layer, bool second, struct error *error)
{
    const struct model_config *c = &model->config;
    const struct layer_activations *a = &model->activations[layer];
    enum slot weight = second ? SLOT_NORM2_WEIGHT : SLOT_NORM1_WEIGHT, bias = second ? SLOT_NORM2_BIAS : SLOT_NORM1_BIAS;
    return device_run(model->device, error, norm_backward,
                      &((struct norm_backward_args){.kind = c->norm,
                                                    .dtype = model->dtype,
                                                    .grad_dtype = model->grad_dtype,
                                                    .rows = batch->rows,
                                                    .cols = c->hidden_size,
                                                    .x = second ? a->middle : a->input,
                                                    .weight = model_param(model, layer, weight),
                                                    .mean = second ? a->mean2 : a->mean1,
                                                    .rstd = second ? a->rstd2 : a->rstd1,
                                                    .dy = model->dnorm,
                                                    .dresidual = model->dresidual,
                                                    .dx = model->dresidual,
                                                    .dweight = model_grad(model, layer, weight),
                                                    .dbias = model_grad(model, layer, bias),
                                                    .offset = c->family->norm_offset}));
}

/* Through the norm behind attention or the feed-forward: the gradient of what the sub-layer adds to the stream. That is the
 * stream's own without such a norm; with one it is left in dnorm. */
static int post_norm_half(struct model *model, const struct batch *batch, int layer, bool second, const void **dout,
                          struct error *error)
{
    const struct model_config *c = &model->config;
    const struct layer_activations *a = &model->activations[layer];
    const enum slot weight = second ? SLOT_POST_NORM2_WEIGHT : SLOT_POST_NORM1_WEIGHT;
    *dout = model->dresidual;
    if (!model_has(model, weight))
        return STATUS_OK;
    *dout = model->dnorm;
    return device_run(model->device, error, norm_backward,
                      &((struct norm_backward_args){.kind = c->norm,
                                                    .dtype = model->dtype,
                                                    .grad_dtype = model->grad_dtype,
                                                    .rows = batch->rows,
                                                    .cols = c->hidden_size,
                                                    .x = second ? a->feed_raw : a->attention_raw,
                                                    .weight = model_param(model, layer, weight),
                                                    .rstd = second ? a->post_rstd2 : a->post_rstd1,
                                                    .dy = model->dresidual,
                                                    .dx = model->dnorm,
                                                    .dweight = model_grad(model, layer, weight),
                                                    .offset = c->family->norm_offset}));
}

/* The first projection of a sub-layer, and the norm before it; without one the gradient joins the stream's at once. */
static int sublayer_input_half(struct model *model, const struct batch *batch, const struct projection *in, bool feed_forward,
                               const void *dy, struct error *error)
{
    const bool parallel = model->config.family->parallel;
    const bool has_norm = model_has(model, feed_forward && !parallel ? SLOT_NORM2_WEIGHT : SLOT_NORM1_WEIGHT);
    const bool joins = !has_norm || (parallel && !feed_forward);
    int status = linear_backward(model, in, batch->rows, dy, model_sublayer_input(model, in->layer, feed_forward),
                                 has_norm ? model->dnorm : model->dresidual, joins, error);
    if (!status && has_norm && !(parallel && feed_forward))
        status = norm_half(model, batch, in->layer, feed_forward, error);
    return status;
}

static int feed_forward_half(struct model *model, const struct batch *batch, int layer, struct error *error)
{
    const struct model_config *c = &model->config;
    const struct layer_activations *a = &model->activations[layer];
    const struct projection down = model_projection(model, layer, SLOT_DOWN_WEIGHT);
    const struct projection up = model_projection(model, layer, SLOT_UP_WEIGHT);
    const void *dout;
    int status = post_norm_half(model, batch, layer, true, &dout, error);
    if (!status)
        status = linear_backward(model, &down, batch->rows, dout, a->activated, model->dactivated, false, error);
    if (!status)
        status = device_run(model->device, error, activation_backward,
                            &((struct activation_backward_args){.kind = c->activation,
                                                                .dtype = model->dtype,
                                                                .rows = batch->rows,
                                                                .cols = c->intermediate_size,
                                                                .x = a->up,
                                                                .dy = model->dactivated,
                                                                .dx = model->dup}));
    return status ? status : sublayer_input_half(model, batch, &up, true, model->dup, error);
}

static int attention_half(struct model *model, const struct batch *batch, int layer, struct error *error)
{
    const struct model_config *c = &model->config;
    const struct layer_activations *a = &model->activations[layer];
    const size_t s = dtype_size(model->dtype);
    const int64_t q = c->num_attention_heads * c->head_dim, k = c->num_key_value_heads * c->head_dim;
    char *dqkv = model->dqkv;
    const struct attention_backward_args attention = {
        .forward = model_attention_args(model, batch, layer, a->qkv, a->attention, a->lse),
        .dout = model->dattention,
        .dq = dqkv,
        .dk = dqkv + (size_t)q * s,
        .dv = dqkv + (size_t)(q + k) * s};
    const struct rope_args rotation = model_rope_args(model, batch, layer, dqkv, -1);
    const struct projection out = model_projection(model, layer, SLOT_O_WEIGHT);
    const struct projection in = model_projection(model, layer, SLOT_QKV_WEIGHT);
    const void *dout;
    int status = post_norm_half(model, batch, layer, false, &dout, error);
    if (!status)
        status = linear_backward(model, &out, batch->rows, dout, a->attention, model->dattention, false, error);
    if (!status)
        status = device_run(model->device, error, attention_backward, &attention);
    if (!status && c->family->qk_norm)
        status = device_run(model->device, error, qk_norm_backward,
                            &((struct qk_norm_backward_args){
                                .forward = model_qk_norm_args(model, batch, layer),
                                .grad_dtype = model->grad_dtype,
                                .dx = dqkv,
                                .dq_weight = model_grad(model, layer, SLOT_Q_NORM_WEIGHT),
                                .dk_weight = model_grad(model, layer, SLOT_K_NORM_WEIGHT)}));
    else if (!status && model_rotates(model, layer))
        status = device_run(model->device, error, rope, &rotation);
    return status ? status : sublayer_input_half(model, batch, &in, false, dqkv, error);
}

static int embedding_half(struct model *model, const struct batch *batch, struct error *error)
{
    struct embedding_backward_args args = {.dtype = model->dtype,
                                           .grad_dtype = model->grad_dtype,
                                           .rows = batch->rows,
                                           .buckets = batch->device.by_token.count,
                                           .cols = model->config.hidden_size,
                                           .bucket_id = batch->device.by_token.key,
                                           .bucket_begin = batch->device.by_token.begin,
                                           .bucket_rows = batch->device.by_token.row,
                                           .dout = model->dresidual,
                                           .dtable = model_grad(model, 0, SLOT_EMBEDDING),
                                           .accumulate = true};
    int status = model_scale_embedded(model, batch->rows, model->dresidual, error);
    if (!status)
        status = device_run(model->device, error, embedding_backward, &args);
    if (status || !model_positions(model, model->grad))
        return status;
    args.buckets = batch->device.by_position.count;
    args.bucket_id = batch->device.by_position.key;
    args.bucket_begin = batch->device.by_position.begin;
    args.bucket_rows = batch->device.by_position.row;
    args.dtable = model_positions(model, model->grad);
    return device_run(model->device, error, embedding_backward, &args);
}

static int layer_backward(struct model *model, const struct batch *batch, int layer, struct error *error)
{
    int status = model_recompute(model, batch, layer, error);
    if (!status)
        status = feed_forward_half(model, batch, layer, error);
    return status ? status : attention_half(model, batch, layer, error);
}

/* Zeros where a pass that overwrites adds even so, or does not come. A tied head's product writes the table of embeddings. */
static int gradients_begin(struct model *model, struct error *error)
{
    const struct model_trainable trained = model_trainable(model);
    const size_t s = dtype_size(model->grad_dtype);
    char *grad = model->grad;
    if (!model->overwrite_gradients)
        return STATUS_OK;
    if (model->layers_run) /* nothing above them has a gradient */
        return device_zero(model->device, trained.grad, (size_t)trained.elements * s, error);
    if (!grad)
        return STATUS_OK;
    int status = device_zero(model->device, grad + (size_t)model->decayed * s, (size_t)(model->elements - model->decayed) * s,
                             error);
    for (int t = 0; t < model->tensors && !status; t++) {
        const struct model_tensor *tensor = &model->tensor[t];
        const enum slot slot = tensor->from->slot;
        if (slot == SLOT_POSITION || (slot == SLOT_EMBEDDING && model->config.untied))
            status = device_zero(model->device, grad + (size_t)tensor->offset * s, (size_t)(tensor->rows * tensor->cols) * s,
                                 error);
    }
    return status;
}

int model_backward_by_layer(struct model *model, const struct batch *batch, model_layer_hook hook, void *user,
                            struct error *error)
{
    const int last = model_last_layer(model);
    int status = gradients_begin(model, error);
    if (!status)
        status = model->layers_run ? hidden_backward(model, batch, error) : head_backward(model, batch, error);
    for (int layer = (int)model->config.num_hidden_layers; layer > last && hook && !status; layer--)
        status = hook(user, layer, error);
    for (int layer = last; layer >= 0 && !status; layer--) {
        char name[32];
        snprintf(name, sizeof name, "layer %d", layer);
        device_range_push(model->device, name);
        status = layer_backward(model, batch, layer, error);
        device_range_pop(model->device);
        if (!status && hook)
            status = hook(user, layer, error);
    }
    if (!status && model->grad)
        status = embedding_half(model, batch, error);
    return status || !hook ? status : hook(user, -1, error);
}

int model_backward(struct model *model, const struct batch *batch, struct error *error)
{
    return model_backward_by_layer(model, batch, NULL, NULL, error);
}

/* head.c - the loss head: lm_head on target rows whose final norm is there, and log-probabilities of their targets.
 *
 * With head_chunk the logits of so many rows are there at a time: the forward pass leaves log-probabilities alone, and the
 * backward pass, when the loss has been there, computes each chunk again for p - onehot. Cost: one more product with lm_head;
 * log-probabilities and their gradients are the same numbers, the weights' gradient is summed over chunks.
 */
#include "model.h"

/* Entry i of an array of a type. */
static void *entry(void *array, enum dtype dtype, int64_t i)
{
    return array ? (char *)array + (size_t)i * dtype_size(dtype) : NULL;
}

/* Where the logits of target row i lie; those of a chunk begin with its first. */
static void *logits_of(struct model *model, int64_t i)
{
    return model->head_chunk ? model->head.logits : entry(model->head.logits, model->logits_dtype, i * model->config.vocab_size);
}

int model_head_logits(struct model *model, int32_t begin, int32_t end, struct error *error)
{
    const struct model_config *c = &model->config;
    return device_run(model->device, error, linear_forward,
                      &((struct linear_args){.dtype = model->dtype,
                                             .out_dtype = model->logits_dtype,
                                             .rows = end - begin,
                                             .in = c->hidden_size,
                                             .out = c->vocab_size,
                                             .x = entry(model->head.norm, model->dtype, begin * c->hidden_size),
                                             .weight = model_param(model, 0, SLOT_HEAD_WEIGHT),
                                             .form = model_form(model, 0, SLOT_HEAD_WEIGHT),
                                             .bias = model_param(model, 0, SLOT_HEAD_BIAS),
                                             .y = logits_of(model, begin),
                                             .scale = 1}));
}

/* Log-probabilities of target rows [begin, end) and, where it is asked for, p - onehot. */
static int rows_logprob(struct model *model, const struct batch *batch, int32_t begin, int32_t end, bool write_gradient,
                        struct error *error)
{
    const int64_t vocab = model->config.vocab_size;
    const enum dtype stat = dtype_stat(model->dtype);
    struct head_activations *h = &model->head;
    if (begin == end)
        return STATUS_OK;
    return device_run(model->device, error, logprob_forward,
                      &((struct logprob_args){.dtype = model->logits_dtype,
                                              .rows = end - begin,
                                              .cols = vocab,
                                              .stride = vocab,
                                              .logits = logits_of(model, begin),
                                              .cap = model->config.final_cap,
                                              .targets = batch->device.target + begin,
                                              .logprob = entry(h->logprob, stat, begin),
                                              .p = entry(h->p, stat, begin),
                                              .q = entry(h->q, stat, begin),
                                              .lse = entry(h->lse, stat, begin),
                                              .write_gradient = write_gradient,
                                              .mean = entry(h->logprob_mean, stat, begin),
                                              .variance = entry(h->logprob_variance, stat, begin),
                                              .argmax = h->argmax ? h->argmax + begin : NULL}));
}

/* The same of a run of rows that is held against a reference. */
static int rows_diverge(struct model *model, const struct batch *batch, const struct head_divergence *part,
                        struct error *error)
{
    const int64_t vocab = model->config.vocab_size, begin = part->begin;
    const enum dtype stat = dtype_stat(model->dtype);
    struct head_activations *h = &model->head;
    return device_run(model->device, error, divergence_forward,
                      &((struct divergence_args){.dtype = model->logits_dtype,
                                                 .cross_entropy = part->cross_entropy,
                                                 .rows = part->end - begin,
                                                 .cols = vocab,
                                                 .stride = vocab,
                                                 .reference_stride = vocab,
                                                 .logits = entry(h->logits, model->logits_dtype, begin * vocab),
                                                 .reference = part->reference,
                                                 .cap = model->config.final_cap,
                                                 .targets = batch->device.target + begin,
                                                 .lowered = part->lowered,
                                                 .penalty = part->penalty,
                                                 .logprob = entry(h->logprob, stat, begin),
                                                 .p = entry(h->p, stat, begin),
                                                 .q = entry(h->q, stat, begin),
                                                 .lse = entry(h->lse, stat, begin),
                                                 .value = entry(h->row_value, stat, begin)}));
}

/* The same of a run of rows whose largest logit is to come down to the mean. */
static int rows_margin(struct model *model, const struct batch *batch, int32_t begin, int32_t end, struct error *error)
{
    const int64_t vocab = model->config.vocab_size;
    const enum dtype stat = dtype_stat(model->dtype);
    struct head_activations *h = &model->head;
    void *logits = entry(h->logits, model->logits_dtype, begin * vocab);
    if (model->config.final_cap > 0) /* logit_margin has no cap */
        return error_set(error, STATUS_INPUT, "final_logit_softcapping: the logits of a %s model are capped, which the margins of "
                         "method pdu do not take into account", model->config.family->model_type);
    int status = device_run(model->device, error, row_statistics,
                            &((struct row_statistics_args){.dtype = model->logits_dtype,
                                                           .rows = end - begin,
                                                           .cols = vocab,
                                                           .stride = vocab,
                                                           .logits = logits,
                                                           .most = entry(h->most, stat, begin),
                                                           .mean = entry(h->logits_mean, stat, begin),
                                                           .argmax = h->most_column + begin}));
    if (!status)
        status = rows_logprob(model, batch, begin, end, false, error);
    return status ? status
                  : device_run(model->device, error, logit_margin,
                               &((struct logit_margin_args){.dtype = model->logits_dtype,
                                                            .rows = end - begin,
                                                            .cols = vocab,
                                                            .stride = vocab,
                                                            .most = entry(h->most, stat, begin),
                                                            .mean = entry(h->logits_mean, stat, begin),
                                                            .argmax = h->most_column + begin,
                                                            .logits = logits,
                                                            .value = entry(h->row_value, stat, begin)}));
}

/* Cross-entropy without the target, of target rows [begin, end). */
static int rows_rest(struct model *model, const struct batch *batch, int32_t begin, int32_t end, struct error *error)
{
    if (!model->rest_entropy)
        return STATUS_OK;
    return device_run(model->device, error, row_statistics,
                      &((struct row_statistics_args){.dtype = model->logits_dtype,
                                                     .rows = end - begin,
                                                     .cols = model->config.vocab_size,
                                                     .stride = model->config.vocab_size,
                                                     .logits = logits_of(model, begin),
                                                     .cap = model->config.final_cap,
                                                     .targets = batch->device.target + begin,
                                                     .rest = entry(model->head.row_value, dtype_stat(model->dtype), begin)}));
}

/* p - onehot of target rows [begin, end) in the model's type, where logits have another. */
static int rows_narrow(struct model *model, int32_t begin, int32_t end, struct error *error)
{
    if (model->head.dlogits == model->head.logits)
        return STATUS_OK;
    return device_run(model->device, error, cast,
                      &((struct cast_args){model->logits_dtype, model->dtype, (end - begin) * model->config.vocab_size,
                                           model->head.logits, model->head.dlogits}));
}

int32_t model_head_chunk_end(const struct model *model, const struct batch *batch, int32_t begin)
{
    const int64_t end = model->head_chunk ? begin + model->head_chunk : batch->targets;
    return end < batch->targets ? (int32_t)end : batch->targets;
}

int model_head_again(struct model *model, const struct batch *batch, int32_t begin, int32_t end, struct error *error)
{
    if (!model->head_chunk)
        return STATUS_OK;
    int status = model_head_logits(model, begin, end, error);
    if (!status)
        status = rows_logprob(model, batch, begin, end, true, error);
    return status ? status : rows_narrow(model, begin, end, error);
}

/* All that the loss takes, a chunk of rows at a time; their gradients are for the backward pass to compute again. */
static int chunks_forward(struct model *model, const struct batch *batch, struct error *error)
{
    int status = STATUS_OK;
    for (int32_t begin = 0, end; begin < batch->targets && !status; begin = end) {
        end = model_head_chunk_end(model, batch, begin);
        status = model_head_logits(model, begin, end, error);
        if (!status)
            status = rows_rest(model, batch, begin, end, error);
        if (!status)
            status = rows_logprob(model, batch, begin, end, false, error);
    }
    return status;
}

int model_forward_targets(struct model *model, const struct batch *batch, const struct head_divergence *part, int parts,
                          struct error *error)
{
    int status = model->head_chunk ? chunks_forward(model, batch, error)
                                   : rows_rest(model, batch, 0, batch->targets, error);
    int32_t done = model->head_chunk ? batch->targets : 0;
    for (int i = 0; i < parts && !status; i++) {
        status = rows_logprob(model, batch, done, part[i].begin, model->training, error);
        if (!status)
            status = part[i].reference ? rows_diverge(model, batch, &part[i], error)
                                       : rows_margin(model, batch, part[i].begin, part[i].end, error);
        done = part[i].end;
    }
    if (!status)
        status = rows_logprob(model, batch, done, batch->targets, model->training, error);
    if (!status && model->training && !model->head_chunk)
        status = rows_narrow(model, 0, batch->targets, error);
    if (!status && model->training && batch->padded)
        status = device_zero(model->device, model->head.row_scale, (size_t)batch->targets * dtype_size(dtype_stat(model->dtype)),
                             error);
    return status;
}

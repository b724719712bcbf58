/* flops.c - the arithmetic of a pass over a batch; see model_flops. */
#include "model.h"

/* Elements of the matrices of the layers that are run. again: of those whose products the backward pass computes again from a
 * layer's input: not the last layer, which is kept, nor the layers' outputs, which it does not need (but for a LoRA adapter's
 * part, or a norm behind them). */
static double layer_elements(const struct model *model, bool again)
{
    const struct model_config *c = &model->config;
    double elements = 0;
    for (int i = 0; i < model->tensors; i++) {
        const struct model_tensor *tensor = &model->tensor[i];
        const enum slot slot = tensor->from->slot;
        const bool output = !model_has(model, SLOT_POST_NORM2_WEIGHT) &&
                            (slot == SLOT_DOWN_WEIGHT || (c->family->parallel && slot == SLOT_O_WEIGHT));
        const bool left_out = tensor->layer == model_last_layer(model) || (output && !model->lora.modules);
        if (slot >= SLOT_LAYER && tensor->layer <= model_last_layer(model) && !(again && left_out))
            elements += (double)tensor->rows * (double)tensor->cols;
    }
    return elements;
}

struct model_flops model_flops(const struct model *model, const struct batch_size *size)
{
    const struct model_config *c = &model->config;
    const struct attention_backward_args attention = {.forward = {.heads = (int)c->num_attention_heads,
                                                                  .head_dim = (int)c->head_dim,
                                                                  .visible_keys = size->visible_keys}};
    const double rows = (double)size->rows, layers = model_last_layer(model) + 1;
    const double head = model->layers_run ? 0 : (double)c->vocab_size; /* columns */
    const double products = 2 * layer_elements(model, false) * rows +
                            2 * head * (double)c->hidden_size * (double)size->targets;
    const double adapters = 2 * (double)model->lora.parameters * rows;
    const double forward = attention_forward_cost(&attention.forward).flops;
    struct model_flops flops = {.forward = products + adapters + layers * forward,
                                .backward = (model->lora.modules ? 1 : 2) * products + 2 * adapters +
                                            layers * attention_backward_cost(&attention).flops};
    if (model->head_chunk)
        flops.recompute = 2 * head * (double)c->hidden_size * (double)size->targets;
    if (model->recompute == RECOMPUTE_FULL)
        flops.recompute += 2 * layer_elements(model, true) * rows + (layers - 1) * forward;
    return flops;
}

/* forward_pass.c - whole forward passes: the body, all layers, the logits, what is made of them; of two models where one was
 * reinforced (WHP).
 */
#include <stdio.h>

#include "model.h"

int model_combine_reinforced(struct model *model, const struct batch *batch, layer_keys_hook hook, void *user,
                             struct error *error)
{
    struct model *reinforced = model->reinforced;
    if (!reinforced)
        return STATUS_OK;
    int status = model_forward_body(reinforced, batch, error);
    for (int layer = 0; layer < reinforced->config.num_hidden_layers && !status; layer++)
        status = model_forward_layer(reinforced, batch, layer, hook, user, error);
    if (!status)
        status = model_forward_head(reinforced, batch->device.target_row, batch->targets, error);
    return status ? status
                  : device_run(model->device, error, logits_combine,
                               &((struct logits_combine_args){.dtype = model->logits_dtype,
                                                              .count = batch->targets * model->config.vocab_size,
                                                              .z = model->head.logits,
                                                              .r = reinforced->head.logits,
                                                              .alpha = model->whp_alpha}));
}

int model_forward(struct model *model, const struct batch *batch, struct error *error)
{
    return model_forward_by_layer(model, batch, NULL, NULL, error);
}

int model_forward_by_layer(struct model *model, const struct batch *batch, model_layer_hook hook, void *user,
                           struct error *error)
{
    int status = model_forward_logits(model, batch, hook, user, error);
    return status ? status : model_forward_targets(model, batch, NULL, 0, error);
}

int model_forward_logits(struct model *model, const struct batch *batch, model_layer_hook hook, void *user,
                         struct error *error)
{
    const struct model_config *c = &model->config;
    int status = hook ? hook(user, -1, error) : STATUS_OK;
    if (!status)
        status = model_forward_body(model, batch, error);
    for (int layer = 0; layer < c->num_hidden_layers && !status; layer++) {
        char name[32];
        snprintf(name, sizeof name, "layer %d", layer);
        if (hook)
            status = hook(user, layer, error);
        device_range_push(model->device, name);
        if (!status)
            status = model_forward_layer(model, batch, layer, NULL, NULL, error);
        device_range_pop(model->device);
    }
    if (!status && hook)
        status = hook(user, (int)c->num_hidden_layers, error);
    if (!status)
        status = model_forward_head(model, batch->device.target_row, batch->targets, error);
    return status ? status : model_combine_reinforced(model, batch, NULL, NULL, error);
}

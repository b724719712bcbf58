/* hidden.c - passes that end at the output of a layer, for losses of hidden states: no later layer and no head is run; see
 * model.h.
 */
#include "model.h"

int model_forward_hidden(struct model *model, const struct batch *batch, model_layer_hook hook, void *user,
                         struct error *error)
{
    const int last = model_last_layer(model);
    int status = hook ? hook(user, -1, error) : STATUS_OK;
    if (!status)
        status = model_forward_body(model, batch, error);
    for (int layer = 0; layer <= last && !status; layer++) {
        if (hook)
            status = hook(user, layer, error);
        if (!status)
            status = model_forward_layer(model, batch, layer, NULL, NULL, error);
    }
    /* a hook has to do with all layers, also those whose parameters nobody reads */
    for (int layer = last + 1; hook && layer <= model->config.num_hidden_layers && !status; layer++)
        status = hook(user, layer, error);
    return status ? status : model_gather_targets(model, last, batch->device.target_row, batch->targets, error);
}

/* Row i of an array of rows. */
static void *row_of(const struct model *model, void *array, int32_t i)
{
    return (char *)array + (size_t)i * (size_t)model->config.hidden_size * dtype_size(model->dtype);
}

int model_hidden_targets(struct model *model, const struct batch *batch, const struct hidden_part *part, int parts,
                         struct error *error)
{
    const size_t stat = dtype_size(dtype_stat(model->dtype)), targets = (size_t)batch->targets;
    struct head_activations *h = &model->head;
    void *unknown[] = {h->logprob, h->p, h->q};
    int status = STATUS_OK;
    for (int i = 0; i < 3 && !status; i++)
        status = device_zero(model->device, unknown[i], targets * stat, error);
    if (!status && batch->padded) /* rows of padding count nothing, and must not be NaN for that */
        status = device_zero(model->device, h->sum, targets * (size_t)model->config.hidden_size * dtype_size(model->dtype),
                             error);
    if (!status && batch->padded)
        status = device_zero(model->device, h->row_scale, targets * stat, error);
    for (int i = 0; i < parts && !status; i++)
        status = device_run(model->device, error, hidden_target,
                            &((struct hidden_target_args){.dtype = model->dtype,
                                                          .rows = part[i].end - part[i].begin,
                                                          .cols = model->config.hidden_size,
                                                          .x = row_of(model, h->branch, part[i].begin),
                                                          .residual = row_of(model, h->input, part[i].begin),
                                                          .target = part[i].target,
                                                          .target_residual = part[i].target_residual,
                                                          .one_target = !part[i].target_residual,
                                                          .gradient = row_of(model, h->sum, part[i].begin),
                                                          .value = (char *)h->row_value + (size_t)part[i].begin * stat}));
    return status;
}

/* warm_up.c - passes over padding before the first step; see trainer.h. */
#include "trainer.h"

int trainer_warm_up(struct trainer *trainer, int64_t rows, int64_t targets, struct error *error)
{
    struct model *model = &trainer->model;
    trainer->batch.padded = true;
    model->overwrite_gradients = true;
    int status = batch_pack_padding(&trainer->batch, &trainer->device, rows, targets, error);
    if (!status)
        status = model->layers_run ? model_forward_hidden(model, &trainer->batch, NULL, NULL, error)
                                   : model_forward(model, &trainer->batch, error);
    if (!status)
        status = model_backward(model, &trainer->batch, error);
    trainer->batch.padded = trainer->graphs;
    if (!status && trainer->frozen.needed)
        status = frozen_warm_up(trainer, error);
    return status;
}

/* optimizer.c - AdamW over what the run trains: the whole model, or the adapters of LoRA. */
#include "trainer.h"

int optimizer_plan(struct trainer *trainer, struct error *error)
{
    struct memory_plan *plan = &trainer->model.plan;
    const size_t stat = dtype_size(dtype_stat(trainer->model.dtype));
    const int64_t elements = model_trainable(&trainer->model).elements;
    int status = memory_plan_add(plan, MEMORY_OPTIMIZER, "AdamW m", elements, stat, &trainer->m, error);
    if (!status)
        status = memory_plan_add(plan, MEMORY_OPTIMIZER, "AdamW v", elements, stat, &trainer->v, error);
    /* updates of unlearning are far below the spacing of bf16: without a float copy they would be rounded away */
    if (!status && trainer->model.dtype == DTYPE_BF16)
        status = memory_plan_add(plan, MEMORY_OPTIMIZER, "master weights", elements, sizeof(float),
                                 (void **)&trainer->model.master, error);
    if (!status)
        status = memory_plan_add(plan, MEMORY_SCRATCH, "step totals, gradient norm", SEQUENCE_TOTALS + 1, sizeof(double),
                                 (void **)&trainer->totals, error);
    if (!status)
        status = memory_plan_add(plan, MEMORY_OPTIMIZER, "AdamW state", 1, sizeof *trainer->adamw,
                                 (void **)&trainer->adamw, error);
    return status;
}

int optimizer_gradient_norm(struct trainer *trainer, struct error *error)
{
    const struct model_trainable trained = model_trainable(&trainer->model);
    return device_run(&trainer->device, error, adamw_norm,
                      &((struct adamw_norm_args){trainer->model.dtype, trained.elements, trained.grad,
                                                 trainer->sum_squares, false}));
}

int optimizer_step(struct trainer *trainer, double rate, struct error *error)
{
    const struct settings *settings = trainer->settings;
    const struct model *model = &trainer->model;
    const struct model_trainable trained = model_trainable(model);
    const size_t s = dtype_size(model->dtype), stat = dtype_size(dtype_stat(model->dtype));
    int status = device_copy_in(&trainer->device, &trainer->adamw->learning_rate, &rate, sizeof rate, error);
    if (!status)
        status = optimizer_gradient_norm(trainer, error);
    if (!status)
        status = device_run(&trainer->device, error, adamw_prepare,
                            &((struct adamw_prepare_args){trainer->sum_squares, settings->max_grad_norm,
                                                          settings->adam_beta1, settings->adam_beta2, trainer->adamw}));
    const int64_t from[2] = {0, trained.decayed}, to[2] = {trained.decayed, trained.elements};
    for (int part = 0; part < 2 && !status; part++)
        status = device_run(&trainer->device, error, adamw_step,
                            &((struct adamw_args){.dtype = model->dtype,
                                                  .grad_dtype = model->dtype,
                                                  .n = to[part] - from[part],
                                                  .param = (char *)trained.param + (size_t)from[part] * s,
                                                  .grad = (char *)trained.grad + (size_t)from[part] * s,
                                                  .m = (char *)trainer->m + (size_t)from[part] * stat,
                                                  .v = (char *)trainer->v + (size_t)from[part] * stat,
                                                  .master = trained.master ? trained.master + from[part] : NULL,
                                                  .state = trainer->adamw,
                                                  .beta1 = settings->adam_beta1,
                                                  .beta2 = settings->adam_beta2,
                                                  .eps = settings->adam_epsilon,
                                                  .weight_decay = part == 0 || settings->weight_decay_all
                                                                      ? settings->weight_decay
                                                                      : 0}));
    return status;
}

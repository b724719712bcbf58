/* save.c - the model of a run into a folder, and back out of it; see trainer.h. */
#include "trainer.h"

static int model_write(struct trainer *trainer, struct folder *folder, const char *run_id, struct save_report *report,
                       struct error *error)
{
    const struct train_options *options = trainer->options;
    const struct save_options save = {save_dtype_name(options->output.save_dtype), run_id};
    const char *base = options->model.model_name_or_path;
    struct model *model = &trainer->model;
    struct adapter adapter;
    if (!model->lora.options.rank)
        return weights_save_into(&trainer->weights, model, base, &save, folder, report, error);
    int status = adapter_read_back(&adapter, model, model->lora.param, error);
    if (status)
        return status;
    trainer->weights.adapter = &adapter;
    status = options->lora.output == LORA_ADAPTER
                 ? adapter_save_into(&adapter, model, base, run_id, folder, error)
                 : weights_save_into(&trainer->weights, model, base, &save, folder, report, error);
    trainer->weights.adapter = NULL;
    adapter_free(&adapter);
    return status;
}

static int save_into(struct trainer *trainer, struct folder *folder, const char *run_id, struct save_report *report,
                     bool optimizer, struct error *error)
{
    struct comm *comm = trainer->shards.world.comm;
    struct error answer_error = {0};
    if (report)
        *report = (struct save_report){0};
    int status = shards_gather_finish(&trainer->shards, &trainer->model, error);
    if (!status && folder) {
        optimizer_share(trainer);
        status = model_write(trainer, folder, run_id, report, error);
        if (!status && optimizer)
            status = trainer_save_optimizer(trainer, folder, error);
    }
    int answered = optimizer_answer(trainer, folder, &answer_error);
    if (!status && answered) {
        *error = answer_error;
        status = answered;
    }
    return comm_agree(comm, status, error);
}

int trainer_save_into(struct trainer *trainer, struct folder *folder, const char *run_id, struct save_report *report,
                      struct error *error)
{
    return save_into(trainer, folder, run_id, report, false, error);
}

int trainer_save_checkpoint(struct trainer *trainer, struct folder *folder, const char *run_id, struct error *error)
{
    return save_into(trainer, folder, run_id, NULL, true, error);
}

int trainer_save(struct trainer *trainer, const char *out_directory, struct error *error)
{
    const bool writes = trainer->shards.world.rank == 0;
    struct folder folder = {.fd = -1};
    int status = writes ? folder_begin(&folder, out_directory, FOLDER_MODE, error) : STATUS_OK;
    status = comm_agree(trainer->shards.world.comm, status, error);
    if (!status)
        status = trainer_save_into(trainer, writes ? &folder : NULL, NULL, NULL, error);
    if (!status && writes)
        status = folder_publish(&folder, FOLDER_KEEP_FOREIGN, NULL, error);
    folder_abandon(&folder);
    return comm_agree(trainer->shards.world.comm, status, error);
}

/* ---- what was written -------------------------------------------------------------------------------------------- */

/* The weights of a folder; where it holds an adapter alone, those of the base with its products added. */
static int weights_reload(struct trainer *trainer, const char *directory, bool adapter_only, struct error *error)
{
    const char *base = trainer->options->model.model_name_or_path;
    struct weights weights;
    struct adapter adapter = {0};
    int status = weights_open(&weights, &trainer->model, adapter_only ? base : directory, error);
    if (!status && adapter_only) {
        status = adapter_open(&adapter, &trainer->model, directory, error);
        weights.adapter = &adapter;
    }
    if (!status)
        status = weights_load(&weights, &trainer->model, error);
    adapter_free(&adapter);
    weights_close(&weights);
    return status;
}

static int adapter_reload(struct trainer *trainer, const char *directory, struct error *error)
{
    struct adapter adapter;
    int status = adapter_open(&adapter, &trainer->model, directory, error);
    if (!status)
        status = adapter_upload(&adapter, &trainer->model, error);
    adapter_free(&adapter);
    return status;
}

/* The model once more, without adapters and with a base that is not in NF4, as others load what was saved. */
static int model_remake(struct trainer *trainer, struct error *error)
{
    struct model *model = &trainer->model;
    const struct model was = *model;
    frozen_free(&trainer->frozen, &trainer->device);
    model_free(model);
    int status = model_create(model, &was.config, was.dtype, error);
    model->wide_logits = was.wide_logits, model->head_chunk = was.head_chunk;
    if (!status)
        status = model_plan(model, false, was.max_rows, was.max_targets, was.max_sequences, error);
    if (!status)
        status = memory_plan_add(&model->plan, MEMORY_SCRATCH, "sums over ranks", STEP_TOTALS, sizeof(double),
                                 (void **)&trainer->totals, error);
    return status ? status : model_allocate(model, &trainer->device, error);
}

int trainer_reload(struct trainer *trainer, const char *directory, struct error *error)
{
    struct comm *comm = trainer->shards.world.comm;
    struct model *model = &trainer->model;
    const bool adapter_only = model->lora.options.rank && trainer->options->lora.output == LORA_ADAPTER;
    int status = comm_agree(comm, model->nf4.used ? model_remake(trainer, error) : STATUS_OK, error);
    if (status)
        return status;
    const bool reads = trainer->shards.world.rank == 0, lora = model->lora.options.rank, adapter = lora && adapter_only;
    const size_t size = dtype_size(model->dtype);
    if (reads)
        status = adapter ? adapter_reload(trainer, directory, error) : weights_reload(trainer, directory, adapter_only, error);
    if (!status && lora && !adapter) /* merged into the weights that were read */
        status = device_zero(&trainer->device, model->lora.param, (size_t)model->lora.elements * size, error);
    status = comm_agree(comm, status, error);
    if (!status)
        status = adapter ? comm_broadcast(comm, model->lora.param, (size_t)model->lora.elements * size, 0, error)
                         : comm_broadcast(comm, model->param, (size_t)model->elements * size, 0, error);
    return status ? status : comm_wait(comm, error);
}

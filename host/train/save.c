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

static int weights_reload(struct trainer *trainer, const char *directory, struct error *error)
{
    struct weights weights;
    int status = weights_open(&weights, &trainer->model, directory, error);
    if (!status)
        status = weights_load(&weights, &trainer->model, error);
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

int trainer_reload(struct trainer *trainer, const char *directory, struct error *error)
{
    struct comm *comm = trainer->shards.world.comm;
    struct model *model = &trainer->model;
    const bool reads = trainer->shards.world.rank == 0, lora = model->lora.options.rank;
    const bool adapter = lora && trainer->options->lora.output == LORA_ADAPTER;
    const size_t size = dtype_size(model->dtype);
    int status = STATUS_OK;
    if (reads)
        status = adapter ? adapter_reload(trainer, directory, error) : weights_reload(trainer, directory, error);
    if (!status && lora && !adapter) /* merged into the weights that were read */
        status = device_zero(&trainer->device, model->lora.param, (size_t)model->lora.elements * size, error);
    status = comm_agree(comm, status, error);
    if (!status)
        status = adapter ? comm_broadcast(comm, model->lora.param, (size_t)model->lora.elements * size, 0, error)
                         : comm_broadcast(comm, model->param, (size_t)model->elements * size, 0, error);
    return status ? status : comm_wait(comm, error);
}

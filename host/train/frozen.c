/* frozen.c - see frozen.h. */
#include "frozen.h"

#include <stdlib.h>
#include <string.h>

#include "../util/memory.h"
#include "trainer.h"

/* open-unlearning's index of a target where there is none, counted from the end of the vocabulary. */
enum { NO_TARGET = 100 };

void frozen_prepare(struct frozen *frozen, const struct method *method, const void *options)
{
    for (int role = 0; role < ROLES; role++) {
        frozen->use[role] = method_distribution(method, options, (enum role)role);
        frozen->needed = frozen->needed || frozen->use[role].used;
    }
}

void frozen_row_size(const struct frozen *frozen, const struct epoch *epoch, int k, struct batch_size *size)
{
    if (frozen->use[ROLE_ANSWER].used)
        epoch_row_part_size(epoch, k, false, size);
    if (frozen->use[ROLE_RETAIN].used)
        epoch_row_part_size(epoch, k, true, size);
}

/* Whether its batches lower other columns than the targets. */
static bool lowers_others(const struct frozen *frozen)
{
    return frozen->use[ROLE_ANSWER].used && frozen->use[ROLE_ANSWER].positions != POSITIONS_ANSWER;
}

int frozen_plan(struct trainer *trainer, struct error *error)
{
    struct frozen *frozen = &trainer->frozen;
    const struct model *trained = &trainer->model;
    const struct lora *adapter = &trainer->adapter.lora;
    if (!frozen->needed)
        return STATUS_OK;
    int status = trained->nf4.used ? model_create_nf4(&frozen->model, &trained->config, trained->dtype, error)
                                   : model_create(&frozen->model, &trained->config, trained->dtype, error);
    if (status)
        return status;
    frozen->model.layers_run = trained->layers_run;
    frozen->model.wide_logits = trained->wide_logits;
    frozen->model.weights_of = trained->lora.options.rank ? trained : NULL;
    if (adapter->options.rank)
        status = lora_create(&frozen->model.lora, &frozen->model, &adapter->options, error);
    if (!status)
        status = model_plan(&frozen->model, false, frozen->max_rows, frozen->max_targets, frozen->max_sequences, error);
    if (!status)
        status = memory_plan_add(&frozen->model.plan, MEMORY_ACTIVATION, "lowered columns",
                                 lowers_others(frozen) ? frozen->max_targets : 0, sizeof(int32_t), (void **)&frozen->lowered,
                                 error);
    return status;
}

size_t frozen_memory(const struct frozen *frozen)
{
    return !frozen->needed ? 0
                           : memory_plan_total(&frozen->model.plan) +
                                 batch_bytes(frozen->max_rows, frozen->max_targets, frozen->max_sequences);
}

int frozen_allocate(struct trainer *trainer, struct error *error)
{
    struct frozen *frozen = &trainer->frozen;
    if (!frozen->needed)
        return STATUS_OK;
    int status = model_allocate(&frozen->model, &trainer->device, error);
    if (!status)
        status = batch_create(&frozen->batch, &trainer->device, frozen->max_rows, frozen->max_targets, frozen->max_sequences,
                              error);
    if (!status && frozen->lowered &&
        !(frozen->lowered_host = memory_array((size_t)frozen->max_targets, sizeof *frozen->lowered_host, error)))
        status = STATUS_MEMORY;
    frozen->batch.padded = trainer->graphs;
    return status;
}

static int arena_copy(struct trainer *trainer, void *to, const void *from, int64_t elements, struct error *error)
{
    struct device *device = &trainer->device;
    return device_status(device, "copy", device->engine->copy(device->context, to, from,
                                                              (size_t)elements * dtype_size(trainer->model.dtype)), error);
}

int frozen_copy(struct trainer *trainer, struct error *error)
{
    const struct model *trained = &trainer->model;
    struct model *model = &trainer->frozen.model;
    int status = STATUS_OK;
    if (!trainer->frozen.needed)
        return status;
    if (!model->weights_of)
        status = arena_copy(trainer, model->param, trained->param, trained->elements, error);
    if (!status && model->lora.modules)
        status = arena_copy(trainer, model->lora.param, trained->lora.param, trained->lora.elements, error);
    return status;
}

int frozen_warm_up(struct trainer *trainer, struct error *error)
{
    struct frozen *frozen = &trainer->frozen;
    frozen->batch.padded = true;
    int status = batch_pack_padding(&frozen->batch, &trainer->device, frozen->max_rows, frozen->max_targets, error);
    if (!status)
        status = frozen->model.layers_run ? model_forward_hidden(&frozen->model, &frozen->batch, NULL, NULL, error)
                                          : model_forward_logits(&frozen->model, &frozen->batch, NULL, NULL, error);
    frozen->batch.padded = trainer->graphs;
    return status;
}

/* Columns that are lowered in the rows of the answers: the targets, and where these are the prompt's, none or open-unlearning's. */
static int lowered_fill(struct trainer *trainer, const struct epoch *epoch, int from, int to, struct error *error)
{
    struct frozen *frozen = &trainer->frozen;
    const struct batch_arrays *a = &frozen->batch.host;
    const int32_t vocab = (int32_t)trainer->model.config.vocab_size;
    const int32_t elsewhere = frozen->use[ROLE_ANSWER].penalises_prompt && vocab >= NO_TARGET ? vocab - NO_TARGET : -1;
    int32_t i = 0;
    for (int k = from; k < to; k++) { /* an answer is its row's only sequence beside the retained one */
        const int32_t answer = i + epoch->sequence[k * epoch->per_row].lead, end = a->sequence_begin[k - from + 1];
        for (; i < end; i++)
            frozen->lowered_host[i] = i < answer ? elsewhere : a->target[i];
    }
    return device_copy_in(&trainer->device, frozen->lowered, frozen->lowered_host, (size_t)i * sizeof *frozen->lowered, error);
}

int frozen_pack(struct trainer *trainer, const struct epoch *epoch, int from, int to, struct error *error)
{
    struct frozen *frozen = &trainer->frozen;
    const struct batch *batch = &trainer->batch;
    const struct distribution_use *answer = &frozen->use[ROLE_ANSWER], *retain = &frozen->use[ROLE_RETAIN];
    const bool take[2] = {answer->used, retain->used};
    const int32_t own = batch->host.sequence_begin[(to - from) * epoch->own];
    int status = micro_batch_pack_parts(trainer, &frozen->batch, epoch, from, to, take, error);
    if (!status && frozen->lowered)
        status = lowered_fill(trainer, epoch, from, to, error);
    frozen->parts = 0;
    if (answer->used)
        frozen->part[frozen->parts++] = (struct head_divergence){
            .end = own, .reference = frozen->model.head.logits,
            .lowered = frozen->lowered ? frozen->lowered : frozen->batch.device.target, .penalty = answer->penalty,
            .cross_entropy = answer->cross_entropy};
    const size_t before = answer->used ? (size_t)own : 0;
    if (retain->used)
        frozen->part[frozen->parts++] = (struct head_divergence){
            .begin = own, .end = batch->real_targets,
            .reference = (const char *)frozen->model.head.logits +
                         before * (size_t)trainer->model.config.vocab_size * dtype_size(frozen->model.logits_dtype)};
    return status;
}

void frozen_free(struct frozen *frozen, struct device *device)
{
    if (device->context)
        batch_free(&frozen->batch, device);
    model_free(&frozen->model);
    free(frozen->lowered_host);
    *frozen = (struct frozen){0};
}

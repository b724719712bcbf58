/* trainer.c - see trainer.h. */
#include "trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../device/peak.h"
#include "../util/file.h"
#include "../../kernels/sample.h"
#include "../util/memory.h"

/* Buckets of gradients. Within a host a sum of 25 MB runs at full speed; between hosts a call costs more than its bytes
 * until it moves some hundreds of MB. */
#define BUCKET_MB 25
#define BUCKET_MB_BETWEEN_HOSTS 256

/* Keeps the draw of the vector that hidden states are to become apart from what else the seed of a run decides. */
enum { CONTROL_DRAW = 16 };

/* Whether the folder holds more than a config. */
static bool weights_present(const char *folder)
{
    static const char *const name[] = {"model.safetensors", "model.safetensors.index.json"};
    char path[4096];
    struct error unused = {0};
    for (int i = 0; i < 2; i++)
        if (!file_join(path, sizeof path, folder, name[i], &unused) && file_exists(path))
            return true;
    return false;
}

static int weights_find(struct trainer *trainer, struct error *error)
{
    const struct train_options *options = trainer->options;
    if (options->trainer.from_scratch) {
        trainer->from_scratch = true;
        return STATUS_OK;
    }
    if (options->sizes_only && !weights_present(options->model.model_name_or_path))
        return STATUS_OK;
    return weights_open(&trainer->weights, &trainer->model, options->model.model_name_or_path, error);
}

/* Adapters of the options, or those of a folder that the run goes on from. */
static int lora_prepare(struct trainer *trainer, struct error *error)
{
    const struct train_options *options = trainer->options;
    struct lora_options lora = options->lora.lora;
    int status = STATUS_OK;
    if (*options->model.adapter) {
        status = adapter_open(&trainer->adapter, &trainer->model, options->model.adapter, error);
        lora = trainer->adapter.lora.options;
    }
    if (!status && lora.rank && (status = lora_create(&trainer->model.lora, &trainer->model, &lora, error)))
        error_prefix(error, "lora");
    return status;
}

/* Declares all memory: the model's, and what training adds. */
static int memory_declare(struct trainer *trainer, const struct world *world, struct error *error)
{
    const struct train_options *options = trainer->options;
    struct model *model = &trainer->model;
    const double mb = options->shards.ddp_bucket_cap_mb > 0 ? options->shards.ddp_bucket_cap_mb
                      : world->size > world->local_size ? BUCKET_MB_BETWEEN_HOSTS
                                                        : BUCKET_MB;
    if (model->dtype == DTYPE_BF16 && options->shards.grad_reduce_dtype == GRAD_REDUCE_FLOAT32)
        model->grad_dtype = DTYPE_F32;
    int status = shards_create(&trainer->shards, model, world, options->shards.zero, (int64_t)(mb * 1e6), error);
    if (!status)
        status = model_plan(model, true, trainer->max_rows, trainer->max_targets, trainer->max_sequences, error);
    if (!status && trainer->method->hidden)
        status = memory_plan_add(&model->plan, MEMORY_PARAM, "control vector", model->config.hidden_size,
                                 dtype_size(model->dtype), &trainer->control, error);
    if (!status)
        status = optimizer_plan(trainer, error);
    return status ? status : frozen_plan(trainer, error);
}

/* What a method asks of the model: logits as they are and, where the loss is one of hidden states, passes that end at their
 * layer. */
static int method_fit(struct trainer *trainer, struct error *error)
{
    const int64_t layers = trainer->model.config.num_hidden_layers;
    if (trainer->method->logit_margin && trainer->model.config.final_cap > 0)
        return error_set(error, STATUS_INPUT, "method %s: final_logit_softcapping of this model is not computed for it",
                         trainer->method->name);
    if (!trainer->method->hidden)
        return STATUS_OK;
    const struct hidden_use use = trainer->method->hidden(trainer->method_options);
    if (use.layer >= layers)
        return error_set(error, STATUS_USAGE, "layer: expected 0 to %lld for this model, found %lld", (long long)layers - 1,
                         (long long)use.layer);
    trainer->model.layers_run = (int)use.layer + 1;
    return STATUS_OK;
}

/* The vector that hidden states are to become: the same for all ranks, and for a run that goes on. */
static int control_upload(struct trainer *trainer, struct error *error)
{
    const int64_t cols = trainer->model.config.hidden_size;
    float *values = trainer->method->hidden ? memory_array((size_t)cols, sizeof *values, error) : NULL;
    double squares = 0;
    if (!values)
        return trainer->method->hidden ? STATUS_MEMORY : STATUS_OK;
    const struct hidden_use use = trainer->method->hidden(trainer->method_options);
    const uint64_t seed = (uint64_t)trainer->options->trainer.seed + 0x9E3779B97F4A7C15u * CONTROL_DRAW;
    for (int64_t i = 0; i < cols; i++)
        squares += pow(sample_uniform(seed, (uint64_t)i), 2);
    for (int64_t i = 0; i < cols; i++)
        values[i] = (float)(sample_uniform(seed, (uint64_t)i) / sqrt(squares) * use.coefficient);
    int status = weights_write(&trainer->model, trainer->control, 0, cols, values, error);
    free(values);
    return status;
}

int trainer_prepare(struct trainer *trainer, const struct train_options *options, bool finetune, enum dtype dtype,
                    const struct world *world, struct error *error)
{
    *trainer = (struct trainer){.options = options};
    trainer->data_path = finetune ? options->examples.train_data : options->examples.forget_data;
    struct model_config config;
    int status = STATUS_OK;
    if (finetune)
        status = method_find("cross_entropy", true, &trainer->method, error);
    else
        trainer->method = method_chosen(&options->method), trainer->method_options = options->method.values;
    const unsigned roles = status ? 0 : method_roles(trainer->method, trainer->method_options);
    struct examples_source source = {trainer->data_path, &options->examples, &options->dataset, &options->prompt,
                                           &options->template_, roles, {POSITIONS_ANSWER},
                                           !status && trainer->method->alternates, (uint64_t)options->trainer.seed};
    if (!status)
        frozen_prepare(&trainer->frozen, trainer->method, trainer->method_options);
    for (int role = 0; role < ROLES; role++)
        source.positions[role] = trainer->frozen.use[role].positions;
    for (int i = 0; roles && i < METHOD_LOGGED && trainer->method->logged[i].key; i++)
        if (roles & WITH(trainer->method->logged[i].role) &&
            !(trainer->method->logged[i].sum == ROLE_PROB && source.positions[trainer->method->logged[i].role]))
            trainer->logged[trainer->logged_count++] = trainer->method->logged[i];
    if (!status)
        status = model_config_read(&config, options->model.model_name_or_path, error);
    if (!status && options->trainer.from_scratch && config.head_kept) /* new weights are as the config says */
        config.untied = config.head_kept = false;
    if (!status)
        status = options->lora.load_in_4bit ? model_create_nf4(&trainer->model, &config, dtype, error)
                                            : model_create(&trainer->model, &config, dtype, error);
    if (!status)
        status = method_fit(trainer, error);
    if (!status)
        status = weights_find(trainer, error);
    if (!status)
        status = lora_prepare(trainer, error);
    if (!status)
        status = tokenizer_load(&trainer->tokenizer, options->model.model_name_or_path, error);
    if (!status)
        tokenizer_limit(trainer->tokenizer, config.vocab_size);
    if (!status)
        status = examples_open(&trainer->examples, &source, options->model.model_name_or_path, trainer->tokenizer,
                               config.eos_token_ids ? config.eos_token_id[0] : -1, context_length(&config), error);
    trainer->parallel = (struct data_parallel){trainer->examples.data.rows, options->trainer.per_device_train_batch_size,
                                  options->trainer.gradient_accumulation_steps, world->size};
    if (!status)
        status = run_size(trainer, error);
    trainer->model.recompute = options->form.gradient_checkpointing;
    trainer->model.rest_entropy = !status && trainer->method->rest_entropy;
    trainer->model.logit_margin = !status && trainer->method->logit_margin;
    trainer->model.row_values = trainer->model.rest_entropy || trainer->model.logit_margin || trainer->frozen.needed;
    if (!status && trainer->method->multiplier)
        trainer->multiplier.value = trainer->method->multiplier->begin(trainer->method_options);
    trainer->model.wide_logits = options->form.logits_dtype == LOGITS_FLOAT32;
    trainer->model.head_chunk = options->form.head_chunk_rows;
    if (!status && trainer->model.head_chunk && (trainer->frozen.needed || trainer->model.logit_margin))
        status = error_set(error, STATUS_USAGE, "head_chunk_rows: method %s is made of the logits of all rows; leave it out",
                           trainer->method->name);
    if (!status)
        status = memory_declare(trainer, world, error);
    if (status)
        trainer_free(trainer);
    return status;
}

int trainer_allocate(struct trainer *trainer, const struct device *device, struct error *error)
{
    trainer->device = *device;
    trainer->graphs = trainer->options->trainer.cuda_graphs && trainer->device.engine->graphs;
    int status = model_allocate(&trainer->model, &trainer->device, error);
    if (!status)
        status = optimizer_allocate(trainer, error);
    if (!status)
        status = frozen_allocate(trainer, error);
    return status ? status
                  : batch_create(&trainer->batch, &trainer->device, trainer->max_rows, trainer->max_targets,
                                 trainer->max_sequences, error);
}

int trainer_start(struct trainer *trainer, const struct device *device, struct error *error)
{
    const struct train_options *options = trainer->options;
    struct model *model = &trainer->model;
    int status = trainer_allocate(trainer, device, error);
    if (!status)
        status = optimizer_start(trainer, error);
    if (!status)
        status = optimizer_clear_gradients(trainer, error);
    if (!status)
        status = trainer->from_scratch ? weights_random(model, (uint64_t)options->trainer.seed, error)
                                       : weights_load(&trainer->weights, model, error);
    if (!status && model->lora.options.rank)
        status = *options->model.adapter ? adapter_upload(&trainer->adapter, model, error)
                                    : weights_random_lora(model, (uint64_t)options->trainer.seed, error);
    if (!status)
        status = control_upload(trainer, error);
    if (!status)
        status = frozen_copy(trainer, error);
    trainer->peak_flops = trainer->parallel.ranks * peak_flops(device->engine->describe(device->context));
    if (!status && trainer->device.engine->graphs)
        status = trainer_warm_up(trainer, trainer->max_rows, trainer->max_targets, error);
    return status;
}

int trainer_run(struct trainer *trainer, trainer_hook hook, void *user, void (*warn)(void *user, const char *text),
                struct error *error)
{
    int status = STATUS_OK;
    const int64_t first = trainer->first_step / trainer->steps_per_epoch;
    for (int64_t number = first; number < trainer->epochs && !status && !trainer->stops; number++) {
        struct epoch epoch;
        status = epoch_build(&epoch, &trainer->examples, (int)number, error);
        if (status)
            return trainer_abort(trainer, status, error);
        reference_apply(&trainer->reference, &epoch);
        const int begin = number == first ? (int)(trainer->first_step % trainer->steps_per_epoch) : 0;
        for (int step = begin; step < trainer->steps_per_epoch && !status && !trainer->stops; step++) {
            if (number * trainer->steps_per_epoch + step >= trainer->total_steps)
                break;
            status = step_run(trainer, &epoch, (int)number, step, hook, user, warn, error);
        }
        epoch_free(&epoch);
        trainer->ahead = (struct packed_ahead){0};
    }
    return status;
}

size_t trainer_memory(const struct trainer *trainer)
{
    return memory_plan_total(&trainer->model.plan) + batch_bytes(trainer->max_rows, trainer->max_targets, trainer->max_sequences) +
           frozen_memory(&trainer->frozen);
}

void trainer_free(struct trainer *trainer)
{
    if (trainer->device.context) {
        graph_cache_free(&trainer->graph_cache, &trainer->device);
        batch_free(&trainer->batch, &trainer->device);
    }
    frozen_free(&trainer->frozen, &trainer->device);
    model_free(&trainer->model);
    shards_free(&trainer->shards);
    optimizer_free(trainer);
    weights_close(&trainer->weights);
    adapter_free(&trainer->adapter);
    examples_close(&trainer->examples);
    reference_free(&trainer->reference);
    product_picks_free(&trainer->picks);
    tokenizer_free(trainer->tokenizer);
    device_close(&trainer->device);
    *trainer = (struct trainer){0};
}

/* trainer.c - see trainer.h. */
#include "trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../util/file.h"
#include "../util/memory.h"
#include "schedule.h"

#define NONFINITE_LIMIT 3

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* First row of micro-batch i of an epoch, one past its last, and how many micro-batches an epoch has. */
static int micro_batches(const struct trainer *trainer)
{
    int64_t size = trainer->settings->per_device_train_batch_size;
    return (int)((trainer->examples.data.rows + size - 1) / size);
}

static void micro_batch_rows(const struct trainer *trainer, int i, int *from, int *to)
{
    int64_t size = trainer->settings->per_device_train_batch_size, rows = trainer->examples.data.rows;
    *from = (int)(i * size);
    *to = (int)((i + 1) * size < rows ? (i + 1) * size : rows);
}

/* Length of the run in steps, and the sizes of its largest micro-batch by building every epoch once. */
static int run_measure(struct trainer *trainer, struct error *error)
{
    const struct settings *settings = trainer->settings;
    int accumulation = (int)settings->gradient_accumulation_steps;
    trainer->steps_per_epoch = (micro_batches(trainer) + accumulation - 1) / accumulation;
    trainer->total_steps = settings->max_steps >= 0
                               ? settings->max_steps
                               : (int64_t)ceil(settings->num_train_epochs * trainer->steps_per_epoch);
    trainer->epochs = (trainer->total_steps + trainer->steps_per_epoch - 1) / trainer->steps_per_epoch;
    if (trainer->total_steps < 1)
        return error_set(error, STATUS_USAGE, "num_train_epochs, max_steps: the run has no step to make");
    int status = STATUS_OK;
    for (int64_t number = 0; number < trainer->epochs && !status; number++) {
        struct epoch epoch;
        status = epoch_build(&epoch, &trainer->examples, (int)number, error);
        for (int i = 0; i < micro_batches(trainer) && !status; i++) {
            struct batch_size size = {0};
            int from, to;
            micro_batch_rows(trainer, i, &from, &to);
            for (int k = from; k < to; k++)
                batch_group_size(&epoch.sequence[k * epoch.per_row], epoch.per_row, true, &size);
            trainer->max_rows = size.rows > trainer->max_rows ? size.rows : trainer->max_rows;
            trainer->max_heads = size.heads > trainer->max_heads ? size.heads : trainer->max_heads;
            if (number)
                continue;
            trainer->epoch_size.rows += size.rows;
            trainer->epoch_size.heads += size.heads;
            trainer->epoch_size.visible_keys += size.visible_keys;
        }
        if (!status)
            trainer->max_sequences = settings->per_device_train_batch_size * epoch.per_row;
        epoch_free(&epoch);
    }
    if (settings->cuda_graphs) { /* room for padding */
        trainer->max_rows = batch_bucket(trainer->max_rows);
        trainer->max_heads = batch_bucket(trainer->max_heads);
    }
    return status;
}

static int weights_find(struct trainer *trainer, struct error *error)
{
    const struct settings *settings = trainer->settings;
    if (settings->from_scratch) {
        trainer->from_scratch = true;
        return STATUS_OK;
    }
    return weights_open(&trainer->weights, &trainer->model, settings->model_name_or_path, error);
}

/* Adapters of the settings, or those of a folder that the run goes on from. */
static int lora_prepare(struct trainer *trainer, struct error *error)
{
    const struct settings *settings = trainer->settings;
    struct lora_options options = {settings->lora_rank, settings->lora_alpha, settings->lora_use_rslora,
                                   settings->lora_target_modules};
    int status = STATUS_OK;
    if (*settings->adapter) {
        status = adapter_open(&trainer->adapter, &trainer->model, settings->adapter, error);
        options = trainer->adapter.lora.options;
    }
    if (!status && options.rank && (status = lora_create(&trainer->model.lora, &trainer->model, &options, error)))
        error_prefix(error, "lora");
    return status;
}

int trainer_prepare(struct trainer *trainer, const struct settings *settings, bool finetune, enum dtype dtype,
                    struct error *error)
{
    *trainer = (struct trainer){.settings = settings};
    trainer->data_path = finetune ? settings->train_data : settings->forget_data;
    struct model_config config;
    int status = method_find(finetune ? "cross_entropy" : settings->method, finetune, &trainer->method, error);
    if (!status)
        status = model_config_read(&config, settings->model_name_or_path, error);
    if (!status)
        status = model_create(&trainer->model, &config, dtype, error);
    if (!status)
        status = weights_find(trainer, error);
    if (!status)
        status = lora_prepare(trainer, error);
    if (!status)
        status = tokenizer_load(&trainer->tokenizer, settings->model_name_or_path, error);
    if (!status && tokenizer_vocab_size(trainer->tokenizer) > config.vocab_size)
        status = error_set(error, STATUS_INPUT, "%s: the tokenizer has %d tokens but config.json says vocab_size %lld",
                           settings->model_name_or_path, (int)tokenizer_vocab_size(trainer->tokenizer),
                           (long long)config.vocab_size);
    if (!status)
        status = examples_open(&trainer->examples, settings, trainer->data_path, trainer->method->needs_template,
                               trainer->tokenizer, config.eos_token_ids ? config.eos_token_id[0] : -1,
                               config.max_position_embeddings, error);
    if (!status)
        status = run_measure(trainer, error);
    if (!strcmp(settings->gradient_checkpointing, "selective"))
        trainer->model.recompute = RECOMPUTE_SELECTIVE;
    else if (!strcmp(settings->gradient_checkpointing, "full"))
        trainer->model.recompute = RECOMPUTE_FULL;
    if (!status)
        status = model_plan(&trainer->model, true, trainer->max_rows, trainer->max_heads, trainer->max_sequences, error);
    if (!status)
        status = optimizer_plan(trainer, error);
    if (status)
        trainer_free(trainer);
    return status;
}

/* A GPU engine's scratch grows to its largest, and libraries wake up, before the first step: a forward and a backward
 * pass over the largest batch, all padding. */
static int warm_up(struct trainer *trainer, struct error *error)
{
    struct model *model = &trainer->model;
    const struct model_trainable trained = model_trainable(model);
    trainer->batch.padded = true;
    int status = device_zero(&trainer->device, trained.grad, (size_t)trained.elements * dtype_size(model->dtype), error);
    if (!status)
        status = batch_pack_padding(&trainer->batch, &trainer->device, error);
    if (!status)
        status = model_forward(model, &trainer->batch, error);
    if (!status)
        status = model_backward(model, &trainer->batch, error);
    trainer->batch.padded = trainer->graphs;
    return status;
}

int trainer_start(struct trainer *trainer, const struct device *device, struct error *error)
{
    const struct settings *settings = trainer->settings;
    struct model *model = &trainer->model;
    trainer->device = *device;
    int status = model_allocate(model, &trainer->device, error);
    if (!status)
        status = batch_create(&trainer->batch, &trainer->device, trainer->max_rows, trainer->max_heads,
                              trainer->max_sequences, error);
    if (!status)
        trainer->sum_squares = trainer->totals + SEQUENCE_TOTALS;
    const size_t moments = (size_t)model_trainable(model).elements * dtype_size(dtype_stat(model->dtype));
    if (!status)
        status = device_zero(&trainer->device, trainer->m, moments, error);
    if (!status)
        status = device_zero(&trainer->device, trainer->v, moments, error);
    if (!status)
        status = device_zero(&trainer->device, trainer->adamw, sizeof *trainer->adamw, error);
    if (!status && model->master) /* the padding between tensors takes part in the update */
        status = device_zero(&trainer->device, model->master, (size_t)model_trainable(model).elements * sizeof(float),
                             error);
    if (!status)
        status = trainer->from_scratch ? weights_random(model, (uint64_t)settings->seed, error)
                                       : weights_load(&trainer->weights, model, error);
    if (!status && model->lora.options.rank)
        status = *settings->adapter ? adapter_upload(&trainer->adapter, model, error)
                                    : lora_random(model, (uint64_t)settings->seed, error);
    trainer->graphs = settings->cuda_graphs && trainer->device.engine->graphs;
    if (!status && trainer->device.engine->graphs)
        status = warm_up(trainer, error);
    return status;
}

static int micro_batch_pack(struct trainer *trainer, const struct epoch *epoch, int micro_batch, int *pairs,
                            struct error *error)
{
    int from, to;
    micro_batch_rows(trainer, micro_batch, &from, &to);
    *pairs = to - from;
    int32_t *first = memory_array((size_t)(to - from) + 1, sizeof *first, error);
    if (!first)
        return STATUS_MEMORY;
    for (int k = 0; k <= to - from; k++)
        first[k] = k * epoch->per_row;
    int status = batch_pack(&trainer->batch, &trainer->device, epoch->sequence + from * epoch->per_row, first, to - from,
                            true, trainer->model.config.vocab_size, error);
    free(first);
    return status;
}

enum pass { PASS_FORWARD, PASS_BACKWARD };

static int forward_pass(void *user, struct error *error)
{
    struct trainer *trainer = user;
    return model_forward(&trainer->model, &trainer->batch, error);
}

static int backward_pass(void *user, struct error *error)
{
    struct trainer *trainer = user;
    return model_backward(&trainer->model, &trainer->batch, error);
}

/* A pass over the packed micro-batch: run, or replayed for a batch of the same padded shape. */
static int pass_run(struct trainer *trainer, enum pass pass, struct error *error)
{
    int (*const work)(void *user, struct error *error) = pass == PASS_FORWARD ? forward_pass : backward_pass;
    if (!trainer->graphs)
        return work(trainer, error);
    const struct graph_key key = {(int)pass, trainer->batch.rows, trainer->batch.heads};
    int status = model_accepts(&trainer->model, &trainer->batch, error);
    return status ? status : graph_cache_run(&trainer->graph_cache, &trainer->device, key, work, trainer, error);
}

/* Forward, loss and backward of one micro-batch. The loss lies between two graphs: its scale and what it covers change
 * from batch to batch. */
static int micro_batch_run(struct trainer *trainer, const struct step_size *size, int pairs, struct error *error)
{
    const struct batch *batch = &trainer->batch;
    struct head_activations *head = &trainer->model.head;
    struct sequence_args loss = {.dtype = dtype_stat(trainer->model.dtype),
                                 .sequences = batch->sequences,
                                 .rows = batch->real_heads,
                                 .begin = batch->device.sequence_begin,
                                 .logprob = head->logprob,
                                 .p = head->p,
                                 .logprob_sum = head->logprob_sum,
                                 .prob_sum = head->prob_sum,
                                 .slope_prob = head->slope_prob,
                                 .slope_logprob = head->slope_logprob,
                                 .row_scale = head->row_scale,
                                 .totals = trainer->totals};
    trainer->method->loss_form(trainer->settings, size, pairs, &loss);
    int status = pass_run(trainer, PASS_FORWARD, error);
    if (!status)
        status = device_run(&trainer->device, error, sequence_loss, &loss);
    if (!status)
        status = pass_run(trainer, PASS_BACKWARD, error);
    return status;
}

static double mean(double sum, double count)
{
    return count > 0 ? sum / count : 0;
}

/* The one wait of a step. */
static int record_read(struct trainer *trainer, struct step_record *record, struct error *error)
{
    double totals[SEQUENCE_TOTALS + 1] = {0};
    int status = device_copy_out(&trainer->device, totals, trainer->totals, sizeof totals, error);
    const double sum_squares = totals[SEQUENCE_TOTALS];
    record->loss = totals[TOTAL_LOSS];
    record->prob_template = mean(totals[TOTAL_TEMPLATE_PROB], totals[TOTAL_TEMPLATES]);
    record->prob_answer = mean(totals[TOTAL_FORGET_PROB], totals[TOTAL_FORGETS]);
    record->slope_template = mean(totals[TOTAL_TEMPLATE_SLOPE], totals[TOTAL_UNITS]);
    record->slope_forget = mean(totals[TOTAL_FORGET_SLOPE], totals[TOTAL_UNITS]);
    record->share_low = mean(totals[TOTAL_LOW], totals[TOTAL_TOKENS]);
    record->share_high = mean(totals[TOTAL_HIGH], totals[TOTAL_TOKENS]);
    record->answer_tokens = (int64_t)totals[TOTAL_TOKENS];
    record->grad_norm = sqrt(sum_squares);
    record->skipped = !isfinite(sum_squares) || !isfinite(record->loss);
    return status;
}

/* Names the rows whose sums are not finite, by running the step's micro-batches forward once more: the weights have not
 * moved. None found means that only the gradient overflowed. */
static int nonfinite_report(struct trainer *trainer, const struct epoch *epoch, int first, int last,
                            const struct step_record *record, struct buffer *text, struct error *error)
{
    int found = 0, pairs, status = buffer_printf(text, error, "step %lld: non-finite loss or gradient, update skipped; ",
                                                 (long long)record->step);
    double *sums = memory_array((size_t)trainer->max_sequences, sizeof *sums, error);
    if (!sums)
        status = STATUS_MEMORY;
    for (int i = first; i < last && !status; i++) {
        const struct step_size size = {1, 1, 1};
        int from, to;
        micro_batch_rows(trainer, i, &from, &to);
        status = micro_batch_pack(trainer, epoch, i, &pairs, error);
        if (!status)
            status = micro_batch_run(trainer, &size, pairs, error);
        if (!status)
            status = device_copy_out(&trainer->device, sums, trainer->model.head.logprob_sum,
                                     (size_t)trainer->batch.sequences * sizeof *sums, error);
        for (int s = 0; s < trainer->batch.sequences && !status; s++)
            if (!isfinite(sums[s]) && found++ < 8)
                status = buffer_printf(text, error, "%s%s:%d", found > 1 ? ", " : "rows with non-finite log-probability: ",
                                       trainer->data_path,
                                       trainer->examples.data.row[epoch->row[from + s / epoch->per_row]].line);
    }
    free(sums);
    if (!status && !found)
        status = buffer_printf(text, error, "all log-probabilities are finite, the gradient is not");
    return status;
}

static int step_dump(struct trainer *trainer, const struct step_record *record, struct error *error)
{
    return *trainer->settings->dump_step && record->step == 1
               ? dump_gradients(trainer, trainer->settings->dump_step, record, error)
               : STATUS_OK;
}

static int step_gradients(struct trainer *trainer, const struct epoch *epoch, int first, int last,
                          struct step_record *record, struct error *error)
{
    const struct model_trainable trained = model_trainable(&trainer->model);
    struct step_size size = {.micro_batches = last - first};
    for (int i = first; i < last; i++) {
        int from, to;
        micro_batch_rows(trainer, i, &from, &to);
        size.pairs += to - from;
        for (int s = from * epoch->per_row; s < to * epoch->per_row; s++)
            size.answer_tokens += epoch->sequence[s].length - epoch->sequence[s].answer_begin;
    }
    record->pairs = size.pairs;
    int status = device_zero(&trainer->device, trainer->totals, SEQUENCE_TOTALS * sizeof(double), error);
    if (!status)
        status = device_zero(&trainer->device, trained.grad, (size_t)trained.elements * dtype_size(trainer->model.dtype),
                             error);
    for (int i = first; i < last && !status; i++) {
        int pairs;
        status = micro_batch_pack(trainer, epoch, i, &pairs, error);
        if (!status)
            status = micro_batch_run(trainer, &size, pairs, error);
        if (!status && record->step == 1 && *trainer->settings->dump_step)
            status = dump_micro_batch(trainer, trainer->settings->dump_step, i - first, error);
        record->tokens += trainer->batch.real_rows;
    }
    return status;
}

static int step_run(struct trainer *trainer, const struct epoch *epoch, int number, int step_in_epoch, trainer_hook hook,
                    void *user, void (*warn)(void *user, const char *text), struct error *error)
{
    double start = seconds_now();
    int accumulation = (int)trainer->settings->gradient_accumulation_steps, micro = micro_batches(trainer);
    int first = step_in_epoch * accumulation, last = first + accumulation < micro ? first + accumulation : micro;
    int64_t step = (int64_t)number * trainer->steps_per_epoch + step_in_epoch;
    struct step_record record = {.step = step + 1, .total_steps = trainer->total_steps,
                                 .epoch = number + (double)(step_in_epoch + 1) / trainer->steps_per_epoch,
                                 .learning_rate = schedule_rate(trainer->settings, step, trainer->total_steps)};
    int status = step_gradients(trainer, epoch, first, last, &record, error);
    if (!status && *trainer->settings->dump_step && step == 0) /* before the update, but with the norm known */
        status = optimizer_gradient_norm(trainer, error);
    if (!status && *trainer->settings->dump_step && step == 0)
        status = record_read(trainer, &record, error);
    if (!status)
        status = step_dump(trainer, &record, error);
    if (!status)
        status = optimizer_step(trainer, record.learning_rate, error);
    if (!status)
        status = record_read(trainer, &record, error);
    if (!status && record.skipped) {
        struct buffer text = {0};
        trainer->nonfinite++;
        trainer->nonfinite_in_row++;
        status = nonfinite_report(trainer, epoch, first, last, &record, &text, error);
        if (!status)
            warn(user, text.data);
        buffer_free(&text);
    } else if (!status) {
        trainer->updates++;
        trainer->nonfinite_in_row = 0;
    }
    trainer->tokens_seen += record.tokens;
    record.seconds = seconds_now() - start;
    if (!status)
        status = hook(user, &record, error);
    if (!status && trainer->nonfinite_in_row == NONFINITE_LIMIT)
        status = error_set(error, STATUS_NONFINITE, "step %lld: %d non-finite steps in a row; lower learning_rate, or look "
                           "at the rows named above; nothing was saved", (long long)record.step, NONFINITE_LIMIT);
    return status;
}

int trainer_run(struct trainer *trainer, trainer_hook hook, void *user, void (*warn)(void *user, const char *text),
                struct error *error)
{
    int status = STATUS_OK;
    for (int64_t number = 0; number < trainer->epochs && !status; number++) {
        struct epoch epoch;
        status = epoch_build(&epoch, &trainer->examples, (int)number, error);
        for (int step = 0; step < trainer->steps_per_epoch && !status; step++) {
            if (number * trainer->steps_per_epoch + step >= trainer->total_steps)
                break;
            status = step_run(trainer, &epoch, (int)number, step, hook, user, warn, error);
        }
        epoch_free(&epoch);
    }
    return status;
}

int trainer_save(struct trainer *trainer, const char *out_directory, struct error *error)
{
    struct model *model = &trainer->model;
    const char *base = trainer->settings->model_name_or_path;
    struct adapter adapter;
    if (!model->lora.options.rank)
        return weights_save(&trainer->weights, model, base, out_directory, error);
    int status = adapter_read_back(&adapter, model, model->lora.param, error);
    if (status)
        return status;
    trainer->weights.adapter = &adapter;
    status = !strcmp(trainer->settings->lora_output, "adapter")
                 ? adapter_save(&adapter, model, base, out_directory, error)
                 : weights_save(&trainer->weights, model, base, out_directory, error);
    trainer->weights.adapter = NULL;
    adapter_free(&adapter);
    return status;
}

void trainer_free(struct trainer *trainer)
{
    if (trainer->device.context) {
        graph_cache_free(&trainer->graph_cache, &trainer->device);
        batch_free(&trainer->batch, &trainer->device);
    }
    model_free(&trainer->model);
    weights_close(&trainer->weights);
    adapter_free(&trainer->adapter);
    examples_close(&trainer->examples);
    tokenizer_free(trainer->tokenizer);
    device_close(&trainer->device);
    *trainer = (struct trainer){0};
}

/* step.c - one optimizer step: its accumulation steps, the sums over ranks, the update and the record; see trainer.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../util/clock.h"
#include "../util/interrupt.h"
#include "../util/memory.h"
#include "schedule.h"
#include "trainer.h"

#define NONFINITE_LIMIT 3

int trainer_abort(struct trainer *trainer, int status, struct error *error)
{
    comm_abort(trainer->shards.world.comm, error->text);
    trainer->aborted = trainer->shards.world.comm != NULL;
    return status;
}

/* The row that sequence s of such a batch is of, and its file. */
static const struct dataset_row *micro_batch_row(const struct trainer *trainer, const struct epoch *epoch, int from, int to,
                                                 int s, const char **path)
{
    const int own = (to - from) * epoch->own;
    const struct dataset *data = s < own ? &trainer->examples.data : &trainer->examples.retain;
    *path = data->path;
    return &data->row[s < own ? epoch->row[from + s / epoch->own] : epoch->retain_row[from + s - own]];
}

/* One accumulation step of a rank: a micro-batch, or none. */
struct accumulation {
    int micro_batch; /* of the epoch; -1: nothing is left for this rank */
    bool first;      /* after the last update */
    bool last;       /* gradients are complete after it */
};

/* Sums, loss and weights of what the model's forward pass has left. */
static int loss_run(struct trainer *trainer, const struct loss_scope *scope, struct error *error)
{
    struct sequence_args loss = model_sequence_args(&trainer->model, &trainer->batch, trainer->totals);
    trainer->method->terms(trainer->method_options, scope, loss.term);
    return device_run(&trainer->device, error, sequence_loss, &loss);
}

enum pass { PASS_FORWARD, PASS_BACKWARD, PASS_BACKWARD_FIRST, PASS_FROZEN }; /* FIRST: gradients are written */

/* Up to what is made into a loss: logits, or hidden states. */
static int forward_up_to(struct trainer *trainer, struct model *model, const struct batch *batch, model_layer_hook hook,
                         struct error *error)
{
    return model->layers_run ? model_forward_hidden(model, batch, hook, trainer, error)
                             : model_forward_logits(model, batch, hook, trainer, error);
}

/* Whether the target rows of a batch are not all treated alike. */
static bool splits_targets(const struct trainer *trainer)
{
    return trainer->frozen.needed || trainer->model.logit_margin;
}

/* Where rows are not treated alike up to the logits: what is made of them then depends on where the retained rows begin. */
static int forward_pass(void *user, struct error *error)
{
    struct trainer *trainer = user;
    return splits_targets(trainer) ? forward_up_to(trainer, &trainer->model, &trainer->batch, NULL, error)
                                  : model_forward(&trainer->model, &trainer->batch, error);
}

static int frozen_pass(void *user, struct error *error)
{
    struct trainer *trainer = user;
    return forward_up_to(trainer, &trainer->frozen.model, &trainer->frozen.batch, NULL, error);
}

static int backward_pass(void *user, struct error *error)
{
    struct trainer *trainer = user;
    return model_backward(&trainer->model, &trainer->batch, error);
}

/* A pass over the packed micro-batch: run, or replayed for a batch of the same padded shape. */
static int pass_run(struct trainer *trainer, enum pass pass, struct error *error)
{
    static int (*const passes[])(void *user, struct error *error) = {
        [PASS_FORWARD] = forward_pass, [PASS_BACKWARD] = backward_pass, [PASS_BACKWARD_FIRST] = backward_pass,
        [PASS_FROZEN] = frozen_pass};
    int (*const work)(void *user, struct error *error) = passes[pass];
    const struct model *model = pass == PASS_FROZEN ? &trainer->frozen.model : &trainer->model;
    const struct batch *batch = pass == PASS_FROZEN ? &trainer->frozen.batch : &trainer->batch;
    if (!trainer->graphs)
        return work(trainer, error);
    const struct graph_key key = {(int)pass, batch->rows, batch->targets, batch->tiles};
    int status = model_accepts(model, batch, error);
    return status ? status : graph_cache_run(&trainer->graph_cache, &trainer->device, key, work, trainer, error);
}

/* The first forward pass after an update: its parameters come in front of it, layer by layer, or all before a replay. */
static int layer_needed(void *user, int layer, struct error *error)
{
    struct trainer *trainer = user;
    return shards_gather(&trainer->shards, &trainer->model, layer, error);
}

static int first_forward(struct trainer *trainer, struct error *error)
{
    if (!trainer->shards.sharded)
        return pass_run(trainer, PASS_FORWARD, error);
    if (!trainer->graphs)
        return splits_targets(trainer)
                   ? forward_up_to(trainer, &trainer->model, &trainer->batch, layer_needed, error)
                   : model_forward_by_layer(&trainer->model, &trainer->batch, layer_needed, trainer, error);
    int status = shards_gather_finish(&trainer->shards, &trainer->model, error);
    return status ? status : pass_run(trainer, PASS_FORWARD, error);
}

/* Hidden states of the first `own` target rows against one vector, of the others against the starting model's. */
static int hidden_compare(struct trainer *trainer, int32_t own, struct error *error)
{
    const struct head_activations *start = &trainer->frozen.model.head;
    const struct hidden_part part[] = {{0, own, trainer->control, NULL},
                                       {own, trainer->batch.real_targets, start->branch, start->input}};
    return model_hidden_targets(&trainer->model, &trainer->batch, part, 2, error);
}

/* Packs rows [from, to) of an epoch and runs them forward, up to what a loss takes. */
static int micro_batch_forward(struct trainer *trainer, const struct epoch *epoch, int from, int to, bool first,
                               struct error *error)
{
    const struct frozen *frozen = &trainer->frozen;
    int status = micro_batch_pack(trainer, epoch, from, to, error);
    device_range_push(&trainer->device, "forward");
    if (!status && frozen->needed)
        status = frozen_pack(trainer, epoch, from, to, error);
    if (!status && frozen->needed)
        status = pass_run(trainer, PASS_FROZEN, error);
    if (!status)
        status = first ? first_forward(trainer, error) : pass_run(trainer, PASS_FORWARD, error);
    const struct head_divergence margin = {.end = trainer->batch.host.sequence_begin[(to - from) * epoch->own]};
    if (!status && trainer->model.layers_run)
        status = hidden_compare(trainer, margin.end, error);
    else if (!status && trainer->model.logit_margin)
        status = model_forward_targets(&trainer->model, &trainer->batch, &margin, 1, error);
    else if (!status && frozen->needed)
        status = model_forward_targets(&trainer->model, &trainer->batch, frozen->part, frozen->parts, error);
    device_range_pop(&trainer->device);
    return status;
}

static int layer_done(void *user, int layer, struct error *error)
{
    struct trainer *trainer = user;
    return shards_reduce(&trainer->shards, &trainer->model, layer, error);
}

/* Forward, loss and backward of one micro-batch. The loss lies between two graphs: its scale and what it covers change from
 * batch to batch. Where sums over ranks follow the backward pass layer by layer, it is run and not replayed: they are not
 * of the device's queue. */
static int run_micro_batch(struct trainer *trainer, const struct epoch *epoch, const struct loss_scope *step,
                           const struct accumulation *accumulation, struct error *error)
{
    const bool reduces = accumulation->last && trainer->shards.world.comm;
    int from, to;
    data_parallel_rows(&trainer->parallel, accumulation->micro_batch, &from, &to);
    struct loss_scope scope = *step;
    scope.micro_batch = epoch->sequence + from * epoch->per_row;
    scope.micro_batch_sequences = (to - from) * epoch->per_row;
    int status = micro_batch_forward(trainer, epoch, from, to, accumulation->first, error);
    device_range_push(&trainer->device, "loss");
    if (!status)
        status = loss_run(trainer, &scope, error);
    device_range_pop(&trainer->device);
    device_range_push(&trainer->device, "backward");
    trainer->model.overwrite_gradients = accumulation->first;
    if (!status)
        status = reduces ? model_backward_by_layer(&trainer->model, &trainer->batch, layer_done, trainer, error)
                         : pass_run(trainer, accumulation->first ? PASS_BACKWARD_FIRST : PASS_BACKWARD, error);
    device_range_pop(&trainer->device);
    return status;
}

/* What a rank without a micro-batch of its own does while the others run theirs: its part of what all do together, with
 * gradients of zero. */
static int join_idle_step(struct trainer *trainer, const struct accumulation *accumulation, struct error *error)
{
    int status = accumulation->first ? shards_gather_finish(&trainer->shards, &trainer->model, error) : STATUS_OK;
    if (!status && accumulation->first)
        status = optimizer_clear_gradients(trainer, error);
    if (!status && accumulation->last && trainer->shards.world.comm)
        status = shards_reduce(&trainer->shards, &trainer->model, -1, error);
    return status;
}

static double mean(double sum, double count)
{
    return count > 0 ? sum / count : 0;
}

static double all_roles(const double *totals, enum role_total total)
{
    double sum = 0;
    for (int role = 0; role < ROLES; role++)
        sum += totals[total_of(role, total)];
    return sum;
}

/* The one wait of a step for the device. */
static int record_read(struct trainer *trainer, struct step_record *record, struct error *error)
{
    double totals[STEP_TOTALS] = {0};
    int status = device_copy_out(&trainer->device, totals, trainer->totals, sizeof totals, error);
    const double sum_squares = totals[SUM_SQUARES];
    const struct multiplier_rule *rule = trainer->method->multiplier;
    record->loss = totals[TOTAL_LOSS];
    if (rule)
        record->loss += rule->constant(trainer->method_options, record->multiplier);
    for (int i = 0; i < trainer->logged_count; i++)
        record->logged[i] = logged_value(&trainer->logged[i], totals);
    const double targets = all_roles(totals, ROLE_TOKENS);
    record->share_low = mean(all_roles(totals, ROLE_LOW), targets);
    record->share_high = mean(all_roles(totals, ROLE_HIGH), targets);
    record->answer_tokens = (int64_t)targets;
    record->grad_norm = sqrt(sum_squares);
    record->skipped = !isfinite(sum_squares) || !isfinite(record->loss);
    memcpy(trainer->step_totals, totals, sizeof totals);
    return status;
}

/* Names the rows of this rank whose sums are not finite, by running its micro-batches of the step forward once more: the
 * weights have not moved. None found on any rank means that only the gradient overflowed. */
static int nonfinite_report(struct trainer *trainer, const struct epoch *epoch, struct micro_batch_range step,
                            const struct step_record *record, struct buffer *text, struct error *error)
{
    int found = 0, status = buffer_printf(text, error, "step %lld: non-finite loss or gradient, update skipped; ",
                                                 (long long)record->step);
    double *sums = memory_array((size_t)trainer->max_sequences, sizeof *sums, error);
    if (!sums)
        status = STATUS_MEMORY;
    if (!status)
        status = shards_gather_finish(&trainer->shards, &trainer->model, error);
    for (int k = 0; k < data_parallel_accumulation_steps(&trainer->parallel, step) && !status; k++) {
        const int micro_batch = data_parallel_micro_batch(&trainer->parallel, step, k, trainer->shards.world.rank);
        int from, to;
        if (micro_batch < 0)
            break;
        data_parallel_rows(&trainer->parallel, micro_batch, &from, &to);
        status = micro_batch_forward(trainer, epoch, from, to, false, error);
        const struct sequence_args sums_only = model_sequence_args(&trainer->model, &trainer->batch, trainer->totals);
        if (!status)
            status = device_run(&trainer->device, error, sequence_loss, &sums_only);
        if (!status)
            status = device_copy_out(&trainer->device, sums, trainer->model.head.logprob_sum,
                                     (size_t)trainer->batch.sequences * sizeof *sums, error);
        for (int s = 0; s < trainer->batch.sequences && !status; s++) {
            const char *path;
            const struct dataset_row *row = micro_batch_row(trainer, epoch, from, to, s, &path);
            if (!isfinite(sums[s]) && found++ < 8)
                status = buffer_printf(text, error, "%s%s:%d", found > 1 ? ", " : "rows with non-finite log-probability: ",
                                       path, row->line);
        }
    }
    free(sums);
    if (!status && !found)
        status = buffer_printf(text, error, "all log-probabilities%s are finite, the gradient is not",
                               trainer->shards.world.size > 1 ? " of this rank" : "");
    return status;
}

/* What the step's loss is averaged over and what is logged of its size, from the order of the epoch: no rank needs to
 * ask another. */
static struct loss_scope step_measure(const struct trainer *trainer, const struct epoch *epoch, struct micro_batch_range step,
                                      struct step_record *record)
{
    struct batch_size rows = {0};
    int from, to, unused;
    data_parallel_rows(&trainer->parallel, step.first, &from, &unused);
    data_parallel_rows(&trainer->parallel, step.last - 1, &unused, &to);
    for (int i = step.first; i < step.last; i++)
        micro_batch_size(trainer, epoch, i, &rows);
    record->pairs = to - from;
    record->tokens = rows.rows;
    const struct model_flops flops = model_flops(&trainer->model, &rows);
    record->flops = flops.forward + flops.backward;
    return (struct loss_scope){.average = trainer->options->loss.loss_average,
                               .step = epoch->sequence + from * epoch->per_row,
                               .step_sequences = (to - from) * epoch->per_row,
                               .micro_batches = step.last - step.first,
                               .multiplier = trainer->multiplier.value};
}

static int step_gradients(struct trainer *trainer, const struct epoch *epoch, struct micro_batch_range step,
                          struct step_record *record, struct error *error)
{
    const char *const dump = trainer->options->trainer.dump_step;
    const struct loss_scope scope = step_measure(trainer, epoch, step, record);
    const int accumulations = data_parallel_accumulation_steps(&trainer->parallel, step);
    int status = device_zero(&trainer->device, trainer->totals, STEP_TOTALS * sizeof(double), error);
    for (int k = 0; k < accumulations && !status; k++) {
        const struct accumulation accumulation = {
            .micro_batch = data_parallel_micro_batch(&trainer->parallel, step, k, trainer->shards.world.rank),
            .first = k == 0,
            .last = k == accumulations - 1};
        status = accumulation.micro_batch >= 0 ? run_micro_batch(trainer, epoch, &scope, &accumulation, error)
                                               : join_idle_step(trainer, &accumulation, error);
        if (!status && record->step == 1 && *dump)
            status = dump_micro_batch(trainer, dump, k, error);
    }
    return status ? status : shards_reduce_finish(&trainer->shards, error);
}

/* The first micro-batch of this rank in the epoch's next step is packed while the device still works at this one. */
static int next_pack(struct trainer *trainer, const struct epoch *epoch, int step_in_epoch, struct error *error)
{
    int from, to;
    if (step_in_epoch + 1 >= trainer->steps_per_epoch)
        return STATUS_OK;
    const struct micro_batch_range next = data_parallel_step(&trainer->parallel, step_in_epoch + 1);
    const int micro_batch = data_parallel_micro_batch(&trainer->parallel, next, 0, trainer->shards.world.rank);
    if (micro_batch < 0)
        return STATUS_OK;
    data_parallel_rows(&trainer->parallel, micro_batch, &from, &to);
    return micro_batch_pack_ahead(trainer, epoch, from, to, error);
}

/* Gradients, update and record of one step. */
static int step_compute(struct trainer *trainer, const struct epoch *epoch, int step_in_epoch, struct step_record *record,
                        struct error *error)
{
    const struct micro_batch_range step = data_parallel_step(&trainer->parallel, step_in_epoch);
    int status = step_gradients(trainer, epoch, step, record, error);
    if (!status)
        status = optimizer_gradient_norm(trainer, error);
    if (!status && *trainer->options->trainer.dump_step && record->step == 1) {
        status = record_read(trainer, record, error);
        if (!status)
            status = dump_gradients(trainer, trainer->options->trainer.dump_step, record, error);
    }
    device_range_push(&trainer->device, "optimizer");
    if (!status)
        status = optimizer_step(trainer, record->learning_rate, error);
    device_range_pop(&trainer->device);
    if (!status && record->step < record->total_steps)
        status = next_pack(trainer, epoch, step_in_epoch, error);
    if (!status)
        status = record_read(trainer, record, error);
    return status;
}

/* The ranks go on together, or end together: with the error of one of them, or because a signal came to one. */
static int boundary_agree(struct trainer *trainer, const struct step_record *record, int status, struct error *error)
{
    enum { STOPS = 1 << 15, FAILED = 1 << 16 }; /* above every signal: a run that is done needs no checkpoint */
    struct comm *comm = trainer->shards.world.comm;
    int64_t verdict = status ? FAILED : trainer->stops ? STOPS : interrupt_pending();
    int agreed = comm_max(comm, &verdict, error);
    if (agreed)
        return agreed;
    if (verdict == FAILED)
        return comm_agree(comm, status, error);
    if (verdict && verdict != STOPS && record->step < record->total_steps)
        return error_set(error, STATUS_SIGNAL, "stopped by %s after step %lld of %lld",
                         interrupt_name((int)verdict), (long long)record->step, (long long)record->total_steps);
    return STATUS_OK;
}

int step_run(struct trainer *trainer, const struct epoch *epoch, int number, int step_in_epoch, trainer_hook hook,
             void *user, void (*warn)(void *user, const char *text), struct error *error)
{
    double start = clock_seconds();
    const struct micro_batch_range range = data_parallel_step(&trainer->parallel, step_in_epoch);
    int64_t step = (int64_t)number * trainer->steps_per_epoch + step_in_epoch;
    struct step_record record = {.step = step + 1, .total_steps = trainer->total_steps,
                                 .epoch = number + (double)(step_in_epoch + 1) / trainer->steps_per_epoch,
                                 .multiplier = trainer->multiplier.value,
                                 .learning_rate = schedule_rate(&trainer->options->schedule, step, trainer->total_steps)};
    int status = step_compute(trainer, epoch, step_in_epoch, &record, error);
    if (status)
        return trainer_abort(trainer, status, error);
    if (record.skipped) {
        struct buffer text = {0};
        trainer->nonfinite++;
        trainer->nonfinite_in_row++;
        status = nonfinite_report(trainer, epoch, range, &record, &text, error);
        if (!status)
            warn(user, text.data);
        buffer_free(&text);
        if (status) /* the others may be in the hook, which this rank does not get to */
            return trainer_abort(trainer, status, error);
    } else {
        trainer->updates++;
        trainer->nonfinite_in_row = 0;
        if (trainer->method->multiplier)
            trainer->method->multiplier->move(trainer->method_options, trainer->step_totals, record.epoch,
                                              step_in_epoch + 1 == trainer->steps_per_epoch, &trainer->multiplier);
    }
    trainer->tokens_seen += record.tokens;
    record.seconds = clock_seconds() - start;
    status = hook(user, &record, error);
    status = boundary_agree(trainer, &record, status, error);
    if (!status && trainer->nonfinite_in_row == NONFINITE_LIMIT)
        status = error_set(error, STATUS_NONFINITE, "step %lld: %d non-finite steps in a row; lower learning_rate, or look "
                           "at the rows named above; nothing was saved", (long long)record.step, NONFINITE_LIMIT);
    return status;
}

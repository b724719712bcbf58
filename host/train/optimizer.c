/* optimizer.c - AdamW over what the run trains: the whole model, or the adapters of LoRA; with several ranks, over the
 * shards that this one keeps. Its arrays: optimizer_state.c.
 *
 * With offload_optimizer its arrays lie in the host's memory, and a chunk of each is on the device while it is updated
 * (optimizer_offload.c). The bits are those of an update in one piece.
 */
#include <math.h>

#include "trainer.h"

static const char *const state_names[] = {[ADAMW_FLOAT] = "float32", [ADAMW_BF16] = "bfloat16", [ADAMW_8BIT] = "8bit", NULL};

static const char *const offload_names[] = {[OFFLOAD_NONE] = "none", [OFFLOAD_CPU] = "cpu", NULL};

static const struct option option_rows[] = {
    {.name = "weight_decay", OPTION_FIELD(struct optimizer_options, weight_decay), .initial = "0.01", .max = HUGE_VAL,
     .help = "decoupled weight decay of matrices"},
    {.name = "weight_decay_all", OPTION_FIELD(struct optimizer_options, weight_decay_all),
     .help = "decay norms and biases too, as older Hugging Face code did"},
    {.name = "adam_beta1", OPTION_FIELD(struct optimizer_options, adam_beta1), .initial = "0.9", .max = 0.999999,
     .help = "decay of the first moment"},
    {.name = "adam_beta2", OPTION_FIELD(struct optimizer_options, adam_beta2), .initial = "0.999", .max = 0.999999,
     .help = "decay of the second moment"},
    {.name = "adam_epsilon", OPTION_FIELD(struct optimizer_options, adam_epsilon), .initial = "1e-8", .min = 1e-37,
     .max = HUGE_VAL, .help = "added to the root of the second moment; with 0 a weight without a gradient becomes 0 / 0"},
    {.name = "max_grad_norm", OPTION_FIELD(struct optimizer_options, max_grad_norm), .initial = "1.0", .max = HUGE_VAL,
     .help = "clip the gradient's norm to this; 0 clips nothing"},
    {.name = "optimizer_states", OPTION_FIELD(struct optimizer_options, optimizer_states), .choices = state_names,
     .initial = "float32", .help = "what both moments are kept in: 8, 4 or 2 bytes per trained parameter; bfloat16 is rounded at "
     "random by the seed, 8bit shares a scale among 256"},
    {.name = "offload_optimizer", OPTION_FIELD(struct optimizer_options, offload_optimizer), .local = true, .choices = offload_names,
     .initial = "none", .help = "cpu keeps a GPU's moments and masters in the host's memory; the same bits, and all of them are copied "
     "both ways in every step"},
};
const struct option_group optimizer_option_group = {OPTION_GROUP("Optimizer", option_rows, struct optimizer_options)};

double optimizer_bytes(enum dtype dtype, enum dtype grad_dtype, enum adamw_moments moments)
{
    uint16_t low;
    return adamw_norm_cost(&(struct adamw_norm_args){.grad_dtype = grad_dtype, .n = 1}).bytes +
           adamw_step_cost(&(struct adamw_args){.dtype = dtype, .grad_dtype = grad_dtype, .n = 1, .moments = moments,
                                                .low = dtype == dtype_stat(dtype) ? NULL : &low}).bytes;
}

int optimizer_clear_gradients(struct trainer *trainer, struct error *error)
{
    const struct model_trainable trained = model_trainable(&trainer->model);
    return device_zero(&trainer->device, trained.grad, (size_t)trained.elements * dtype_size(trainer->model.grad_dtype), error);
}

int optimizer_gradient_norm(struct trainer *trainer, struct error *error)
{
    const struct model_trainable trained = model_trainable(&trainer->model);
    const enum dtype dtype = trainer->model.grad_dtype;
    const struct shards *shards = &trainer->shards;
    int status = STATUS_OK;
    for (int i = 0; i < shards->buckets && !status; i++)
        status = device_run(&trainer->device, error, adamw_norm,
                            &((struct adamw_norm_args){.grad_dtype = dtype,
                                                       .n = shards->slice[i].count,
                                                       .grad = (char *)trained.grad +
                                                               (size_t)shards->slice[i].offset * dtype_size(dtype),
                                                       .sum_squares = trainer->totals + SUM_SQUARES,
                                                       .accumulate = i > 0}));
    if (!status)
        status = comm_all_reduce(shards->world.comm, DTYPE_F64, trainer->totals, STEP_TOTALS, error);
    return status ? status : comm_wait(shards->world.comm, error);
}

/* Elements [from, to) of the arena, all trained, with these arrays. */
static int arrays_update(struct trainer *trainer, int64_t from, int64_t to, void *const array[OPTIMIZER_ARRAYS], double weight_decay,
                         struct error *error)
{
    const struct optimizer_options *options = &trainer->options->optimizer;
    const struct model *model = &trainer->model;
    const struct model_trainable trained = model_trainable(model);
    return device_run(&trainer->device, error, adamw_step,
                      &((struct adamw_args){.dtype = model->dtype,
                                            .grad_dtype = model->grad_dtype,
                                            .n = to - from,
                                            .param = (char *)trained.param + (size_t)from * dtype_size(model->dtype),
                                            .grad = (char *)trained.grad + (size_t)from * dtype_size(model->grad_dtype),
                                            .moments = options->optimizer_states,
                                            .m = array[OPTIMIZER_M],
                                            .v = array[OPTIMIZER_V],
                                            .m_scale = array[OPTIMIZER_M_SCALE],
                                            .v_scale = array[OPTIMIZER_V_SCALE],
                                            .first = from,
                                            .seed = (uint64_t)trainer->options->trainer.seed,
                                            .low = array[OPTIMIZER_LOW],
                                            .state = trainer->adamw,
                                            .beta1 = options->adam_beta1,
                                            .beta2 = options->adam_beta2,
                                            .eps = options->adam_epsilon,
                                            .weight_decay = weight_decay}));
}

/* The same where the arrays are the host's, for a buffer's elements at most. */
static int chunk_update(struct trainer *trainer, int64_t from, int64_t to, int64_t state, double weight_decay, struct error *error)
{
    void *array[OPTIMIZER_ARRAYS];
    int status = offload_chunk_begin(trainer, state, to - from, array, error);
    if (!status)
        status = arrays_update(trainer, from, to, array, weight_decay, error);
    return status ? status : offload_chunk_end(trainer, state, to - from, error);
}

/* Elements [from, to) of the arena, all trained, whose state begins at `state`. */
static int run_update(struct trainer *trainer, int64_t from, int64_t to, int64_t state, double weight_decay,
                        struct error *error)
{
    const int64_t chunk = trainer->offload.chunk;
    void *array[OPTIMIZER_ARRAYS];
    size_t bytes;
    int status = STATUS_OK;
    if (from >= to)
        return status;
    for (int64_t at = from; chunk && at < to && !status; at += chunk)
        status = chunk_update(trainer, at, to - at < chunk ? to : at + chunk, state + (at - from), weight_decay, error);
    for (enum optimizer_array i = OPTIMIZER_LOW; i <= OPTIMIZER_V_SCALE && !chunk; i++)
        array[i] = optimizer_array_part(trainer, i, state, to - from, &bytes);
    return chunk ? status : arrays_update(trainer, from, to, array, weight_decay, error);
}

static bool lies_in(const struct param_range *range, int64_t at, int64_t *end)
{
    const int64_t last = range->offset + arena_padded(range->rows * (range->cols ? range->cols : 1));
    if (!range->rows || at < range->offset || at >= last)
        return false;
    *end = last;
    return true;
}

/* Whether no pass reads the element: of the head, or of a layer above the last that is run. *end: where the run of such
 * elements, or else of the others, is known to go on to. */
static bool is_idle(const struct model *model, int64_t at, int64_t *end)
{
    const int first = model_last_layer(model) + 1, layers = (int)model->config.num_hidden_layers;
    const struct lora *lora = &model->lora;
    if (lora->options.rank) { /* layer after layer */
        const int64_t idle = lora->layer_begin[first] < lora->modules ? lora->module[lora->layer_begin[first]].a : lora->elements;
        *end = at < idle ? idle : lora->elements;
        return at >= idle;
    }
    for (int slot = SLOT_FINAL_NORM_WEIGHT; slot < SLOT_LAYER; slot++)
        if (lies_in(&model->global[slot], at, end))
            return true;
    for (int l = 0; l < layers; l++)
        for (int slot = SLOT_LAYER; slot < SLOTS; slot++)
            if (lies_in(&model->layer[(size_t)l * SLOTS + (size_t)slot], at, end))
                return l >= first;
    for (int slot = 0; slot < SLOT_FINAL_NORM_WEIGHT; slot++)
        if (lies_in(&model->global[slot], at, end))
            return false;
    *end = at + 1;
    return false;
}

/* Elements [from, to) of the arena but for those that no pass reads, which decay would move too. */
static int range_update(struct trainer *trainer, int64_t from, int64_t to, int64_t state, double weight_decay,
                        struct error *error)
{
    if (!trainer->model.layers_run)
        return run_update(trainer, from, to, state, weight_decay, error);
    int status = STATUS_OK;
    for (int64_t at = from, begin = from, end; at < to && !status; at = end) {
        const bool idle = is_idle(&trainer->model, at, &end);
        end = end < to ? end : to;
        if (!idle && end < to)
            continue;
        status = run_update(trainer, begin, idle ? at : end, state + (begin - from), weight_decay, error);
        begin = end;
    }
    return status;
}

int optimizer_step(struct trainer *trainer, double rate, struct error *error)
{
    const struct optimizer_options *options = &trainer->options->optimizer;
    const struct shards *shards = &trainer->shards;
    const int64_t decayed = model_trainable(&trainer->model).decayed;
    const double of_matrices = options->weight_decay, of_vectors = options->weight_decay_all ? of_matrices : 0;
    int status = device_copy_in(&trainer->device, &trainer->adamw->learning_rate, &rate, sizeof rate, error);
    if (!status)
        status = device_run(&trainer->device, error, adamw_prepare,
                            &((struct adamw_prepare_args){trainer->totals + SUM_SQUARES, options->max_grad_norm,
                                                          options->adam_beta1, options->adam_beta2, trainer->adamw}));
    for (int i = 0; i < shards->state_ranges && !status; i++) {
        const struct model_shard *shard = &shards->state_range[i];
        const int64_t end = shard->offset + shard->count;
        const int64_t matrices_end = decayed < shard->offset ? shard->offset : decayed < end ? decayed : end;
        status = range_update(trainer, shard->offset, matrices_end, shard->state, of_matrices, error);
        if (!status)
            status = range_update(trainer, matrices_end, end, shard->state + (matrices_end - shard->offset), of_vectors,
                                  error);
    }
    if (!status && trainer->offload.chunk)
        status = offload_settle(trainer, error);
    return status ? status : shards_gather_begin(&trainer->shards, &trainer->model, error);
}

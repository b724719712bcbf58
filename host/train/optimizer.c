/* optimizer.c - AdamW over what the run trains: the whole model, or the adapters of LoRA; with several ranks, over the
 * shards that this one keeps.
 */
#include <math.h>

#include "trainer.h"

static const char *const state_names[] = {[ADAMW_FLOAT] = "float32", [ADAMW_BF16] = "bfloat16", [ADAMW_8BIT] = "8bit", NULL};

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
};
const struct option_group optimizer_option_group = {OPTION_GROUP("Optimizer", option_rows, struct optimizer_options)};

enum { STAGING = 1 << 20 };

/* Elements of the state that travel at a time. */
static int64_t staging_elements(const struct trainer *trainer)
{
    const int64_t elements = model_trainable(&trainer->model).elements;
    return elements < STAGING ? elements : STAGING;
}

double optimizer_bytes(enum dtype dtype, enum dtype grad_dtype, enum adamw_moments moments)
{
    uint16_t low;
    return adamw_norm_cost(&(struct adamw_norm_args){.grad_dtype = grad_dtype, .n = 1}).bytes +
           adamw_step_cost(&(struct adamw_args){.dtype = dtype, .grad_dtype = grad_dtype, .n = 1, .moments = moments,
                                                .low = dtype == dtype_stat(dtype) ? NULL : &low}).bytes;
}

static bool has_scales(const struct trainer *trainer)
{
    return trainer->options->optimizer.optimizer_states == ADAMW_8BIT;
}

static int64_t blocks_of(int64_t elements)
{
    return (elements + DYNAMIC_BLOCK - 1) / DYNAMIC_BLOCK;
}

/* Bytes of a moment as it is stored. */
static size_t moment_size(const struct trainer *trainer)
{
    switch (trainer->options->optimizer.optimizer_states) {
    case ADAMW_BF16: return sizeof(uint16_t);
    case ADAMW_8BIT: return sizeof(uint8_t);
    default: return dtype_size(dtype_stat(trainer->model.dtype));
    }
}

int optimizer_plan(struct trainer *trainer, struct error *error)
{
    struct model *model = &trainer->model;
    struct memory_plan *plan = &model->plan;
    const size_t stat = dtype_size(dtype_stat(model->dtype)), moment = moment_size(trainer);
    const int64_t elements = trainer->shards.state_elements, blocks = has_scales(trainer) ? blocks_of(elements) : 0;
    int status = memory_plan_add(plan, MEMORY_OPTIMIZER, "AdamW m", elements, moment, &trainer->m, error);
    if (!status)
        status = memory_plan_add(plan, MEMORY_OPTIMIZER, "AdamW v", elements, moment, &trainer->v, error);
    if (!status)
        status = memory_plan_add(plan, MEMORY_OPTIMIZER, "scales of m", blocks, sizeof(float), (void **)&trainer->m_scale,
                                 error);
    if (!status)
        status = memory_plan_add(plan, MEMORY_OPTIMIZER, "scales of v", blocks, sizeof(float), (void **)&trainer->v_scale,
                                 error);
    /* updates of unlearning are far below the spacing of bf16: without the rest of the floats they would be rounded away */
    if (!status && model->dtype == DTYPE_BF16)
        status = memory_plan_add(plan, MEMORY_OPTIMIZER, "master weights, lower halves", elements, sizeof(uint16_t),
                                 (void **)&model->master.low, error);
    if (!status)
        status = memory_plan_add(plan, MEMORY_OPTIMIZER, "AdamW state", 1, sizeof *trainer->adamw,
                                 (void **)&trainer->adamw, error);
    if (!status)
        status = memory_plan_add(plan, MEMORY_SCRATCH, "step totals and gradient norm", STEP_TOTALS, sizeof(double),
                                 (void **)&trainer->totals, error);
    if (!status && trainer->shards.sharded)
        status = memory_plan_add(plan, MEMORY_SCRATCH, "optimizer state on its way", staging_elements(trainer), stat,
                                 &trainer->staging, error);
    model->master.shard = trainer->shards.state_range;
    model->master.shards = trainer->shards.state_ranges;
    return status;
}

int optimizer_start(struct trainer *trainer, struct error *error)
{
    struct device *device = &trainer->device;
    int status = device_zero(device, trainer->adamw, sizeof *trainer->adamw, error);
    /* the padding between tensors takes part in the update */
    for (enum optimizer_array i = OPTIMIZER_LOW; i <= OPTIMIZER_V_SCALE && !status; i++) {
        const struct optimizer_array_type type = optimizer_array_type(trainer, i);
        const int64_t own = trainer->shards.state_elements;
        if (type.own)
            status = device_zero(device, type.own, (size_t)((own + type.elements - 1) / type.elements) * type.size, error);
    }
    return status;
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

/* Elements [from, to) of the arena, all trained, whose state begins at `state`. */
static int run_update(struct trainer *trainer, int64_t from, int64_t to, int64_t state, double weight_decay,
                        struct error *error)
{
    const struct optimizer_options *options = &trainer->options->optimizer;
    const struct model *model = &trainer->model;
    const struct model_trainable trained = model_trainable(model);
    const size_t s = dtype_size(model->dtype), moment = moment_size(trainer);
    const int64_t block = state / DYNAMIC_BLOCK;
    if (from >= to)
        return STATUS_OK;
    return device_run(&trainer->device, error, adamw_step,
                      &((struct adamw_args){.dtype = model->dtype,
                                            .grad_dtype = model->grad_dtype,
                                            .n = to - from,
                                            .param = (char *)trained.param + (size_t)from * s,
                                            .grad = (char *)trained.grad + (size_t)from * dtype_size(model->grad_dtype),
                                            .moments = options->optimizer_states,
                                            .m = (char *)trainer->m + (size_t)state * moment,
                                            .v = (char *)trainer->v + (size_t)state * moment,
                                            .m_scale = trainer->m_scale ? trainer->m_scale + block : NULL,
                                            .v_scale = trainer->v_scale ? trainer->v_scale + block : NULL,
                                            .first = from,
                                            .seed = (uint64_t)trainer->options->trainer.seed,
                                            .low = model->master.low ? model->master.low + state : NULL,
                                            .state = trainer->adamw,
                                            .beta1 = options->adam_beta1,
                                            .beta2 = options->adam_beta2,
                                            .eps = options->adam_epsilon,
                                            .weight_decay = weight_decay}));
}

static bool lies_in(const struct param_range *range, int64_t at, int64_t *end)
{
    const int64_t last = range->offset + ((range->rows * (range->cols ? range->cols : 1) + 15) & ~(int64_t)15);
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
    return status ? status : shards_gather_begin(&trainer->shards, &trainer->model, error);
}

/* ---- reading and writing the state ------------------------------------------------------------------------------- */

struct optimizer_array_type optimizer_array_type(const struct trainer *trainer, enum optimizer_array array)
{
    static const char *const moment_dtype[] = {[ADAMW_BF16] = "BF16", [ADAMW_8BIT] = "U8"};
    const enum adamw_moments moments = trainer->options->optimizer.optimizer_states;
    const int64_t elements = model_trainable(&trainer->model).elements;
    struct optimizer_array_type type = {.count = elements, .elements = 1, .size = moment_size(trainer)};
    type.dtype = moments != ADAMW_FLOAT ? moment_dtype[moments] : type.size == sizeof(double) ? "F64" : "F32";
    switch (array) {
    case OPTIMIZER_LOW:
        type.own = trainer->model.master.low, type.size = sizeof(uint16_t), type.dtype = "U16";
        break;
    case OPTIMIZER_M: type.own = trainer->m; break;
    case OPTIMIZER_V: type.own = trainer->v; break;
    case OPTIMIZER_M_SCALE:
    case OPTIMIZER_V_SCALE:
        type = (struct optimizer_array_type){array == OPTIMIZER_M_SCALE ? trainer->m_scale : trainer->v_scale,
                                             blocks_of(elements), DYNAMIC_BLOCK, sizeof(float), "F32"};
    }
    return type;
}

/* Numbers [offset, offset + count) of an array, at most STAGING of them, from those who keep them to the staging buffer of
 * all. Every rank calls this with the same range. */
static int state_exchange(struct trainer *trainer, enum optimizer_array array, int64_t offset, int64_t count,
                          struct error *error)
{
    const struct shards *shards = &trainer->shards;
    struct device *device = &trainer->device;
    const struct optimizer_array_type type = optimizer_array_type(trainer, array);
    int status = STATUS_OK;
    for (int b = 0; b < shards->buckets && !status; b++)
        for (int rank = 0; rank < shards->world.size && !status; rank++) {
            int64_t from, n;
            shards_slice(shards, b, rank, &from, &n);
            n = (n + type.elements - 1) / type.elements, from /= type.elements;
            const int64_t first = from > offset ? from : offset;
            const int64_t end = from + n < offset + count ? from + n : offset + count;
            if (first >= end)
                continue;
            char *part = (char *)trainer->staging + (size_t)(first - offset) * type.size;
            const size_t bytes = (size_t)(end - first) * type.size;
            const int64_t own = shards->slice[b].state / type.elements + (first - from);
            if (rank == shards->world.rank)
                status = device_status(device, "copy",
                                       device->engine->copy(device->context, part,
                                                            (const char *)type.own + (size_t)own * type.size, bytes), error);
            if (!status)
                status = comm_broadcast(shards->world.comm, part, bytes, rank, error);
        }
    return status ? status : comm_wait(shards->world.comm, error);
}

/* Tells the others what is wanted: array, offset, count; count 0: no more. */
enum { REQUEST = 3 };
static int state_request(struct trainer *trainer, int64_t request[REQUEST], struct error *error)
{
    return comm_broadcast_host(trainer->shards.world.comm, request, REQUEST * sizeof *request, 0, error);
}

int optimizer_read(struct trainer *trainer, enum optimizer_array array, int64_t offset, int64_t count, void *out,
                   struct error *error)
{
    const struct optimizer_array_type type = optimizer_array_type(trainer, array);
    int status = STATUS_OK;
    if (!trainer->shards.sharded)
        return device_copy_out(&trainer->device, out, (const char *)type.own + (size_t)offset * type.size,
                               (size_t)count * type.size, error);
    for (int64_t done = 0, piece; done < count && !status; done += piece) {
        piece = count - done < staging_elements(trainer) ? count - done : staging_elements(trainer);
        status = state_request(trainer, (int64_t[REQUEST]){array, offset + done, piece}, error);
        if (!status)
            status = state_exchange(trainer, array, offset + done, piece, error);
        if (!status)
            status = device_copy_out(&trainer->device, (char *)out + (size_t)done * type.size, trainer->staging,
                                     (size_t)piece * type.size, error);
    }
    return status;
}

int optimizer_write(struct trainer *trainer, enum optimizer_array array, int64_t offset, int64_t count, const void *in,
                    struct error *error)
{
    const struct shards *shards = &trainer->shards;
    const struct optimizer_array_type type = optimizer_array_type(trainer, array);
    int status = STATUS_OK;
    for (int i = 0; i < shards->state_ranges && !status; i++) {
        const struct model_shard *range = &shards->state_range[i];
        const int64_t begin = range->offset / type.elements;
        const int64_t range_end = (range->offset + range->count + type.elements - 1) / type.elements;
        const int64_t from = offset > begin ? offset : begin;
        const int64_t end = offset + count < range_end ? offset + count : range_end;
        const int64_t own = range->state / type.elements + (from - begin);
        if (from < end)
            status = device_copy_in(&trainer->device, (char *)type.own + (size_t)own * type.size,
                                    (const char *)in + (size_t)(from - offset) * type.size, (size_t)(end - from) * type.size,
                                    error);
    }
    return status;
}

static int master_gather(void *user, int64_t offset, int64_t count, uint16_t *out, struct error *error)
{
    return optimizer_read(user, OPTIMIZER_LOW, offset, count, out, error);
}

void optimizer_share(struct trainer *trainer)
{
    if (trainer->shards.sharded && trainer->model.master.low) {
        trainer->model.master.gather = master_gather;
        trainer->model.master.user = trainer;
    }
}

int optimizer_answer(struct trainer *trainer, bool reader, struct error *error)
{
    int64_t request[REQUEST] = {0};
    int status = STATUS_OK;
    if (!trainer->shards.sharded)
        return status;
    if (reader) {
        trainer->model.master.gather = NULL;
        return state_request(trainer, request, error);
    }
    while (!status && !(status = state_request(trainer, request, error)) && request[2])
        status = state_exchange(trainer, (enum optimizer_array)request[0], request[1], request[2], error);
    return status;
}

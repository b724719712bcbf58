/* weights_random.c - a model from scratch; see weights.h. */
#include "weights.h"

#include <math.h>
#include <stdlib.h>

#include "../util/memory.h"
#include "../util/parallel.h"

#define PIECE (1 << 20) /* elements moved at a time */
#define PART (1 << 14)   /* elements that are worth a thread */
#define PERIOD 1048573  /* of repeated draws: a prime, which no row length divides */
#define SHIFT 99991     /* elements that tensors begin apart in them */
#define LORA_STREAM 0x6c6f7261ull

/* Standard normal of (seed, index): Box-Muller over two counter-based draws. */
static double normal_draw(uint64_t seed, uint64_t index)
{
    double u = sample_uniform(seed, 2 * index), v = sample_uniform(seed, 2 * index + 1);
    return sqrt(-2 * log(1 - u)) * cos(2 * 3.14159265358979323846 * v);
}

static bool is_norm_weight(enum slot slot)
{
    return slot == SLOT_FINAL_NORM_WEIGHT || slot == SLOT_NORM1_WEIGHT || slot == SLOT_NORM2_WEIGHT ||
           slot == SLOT_POST_NORM1_WEIGHT || slot == SLOT_POST_NORM2_WEIGHT || slot == SLOT_Q_NORM_WEIGHT || slot == SLOT_K_NORM_WEIGHT;
}

/* Of a matrix. GPT-2's projections into the residual stream allow for how many there are. */
static double deviation_of(const struct model_config *config, enum slot slot)
{
    const bool into_residual = slot == SLOT_O_WEIGHT || slot == SLOT_DOWN_WEIGHT;
    return config->family->residual_init && into_residual
               ? config->initializer_range / sqrt(2 * (double)config->num_hidden_layers)
               : config->initializer_range;
}

/* A piece of a tensor that is being drawn: elements from `first` on, as the arena has them. Every element is a function of the seed
 * and its place, so that threads may share the piece. */
struct drawn_piece {
    const struct model *model;
    const struct model_tensor *tensor;
    uint64_t seed;
    int64_t first;
    float *piece;
};

static void piece_part(void *user, int64_t from, int64_t to)
{
    const struct drawn_piece *drawn = user;
    const struct model_config *config = &drawn->model->config;
    const struct model_tensor *tensor = drawn->tensor;
    const enum slot slot = tensor->from->slot;
    const double deviation = deviation_of(config, slot);
    const bool padded = slot == SLOT_EMBEDDING && config->family->padding_row && config->pad_token_id >= 0;
    for (int64_t i = from; i < to; i++) {
        if (!tensor->cols)
            drawn->piece[i] = is_norm_weight(slot) ? 1.0f - (float)config->family->norm_offset : 0.0f;
        else if (padded && (drawn->first + i) / tensor->cols == config->pad_token_id)
            drawn->piece[i] = 0;
        else
            drawn->piece[i] = (float)(deviation * normal_draw(drawn->seed, (uint64_t)(tensor->drawn + drawn->first + i)));
    }
}

static void piece_fill(const struct model *model, const struct model_tensor *tensor, uint64_t seed, int64_t first,
                       int64_t count, float *piece)
{
    parallel_parts(count, PART, piece_part, &(struct drawn_piece){model, tensor, seed, first, piece});
}

int weights_random(struct model *model, uint64_t seed, struct error *error)
{
    float *piece = memory_array(PIECE, sizeof *piece, error);
    if (!piece)
        return STATUS_MEMORY;
    int status = device_zero(model->device, model->param, (size_t)model->elements * dtype_size(model->dtype), error);
    for (int t = 0; t < model->tensors && !status; t++) {
        const struct model_tensor *tensor = &model->tensor[t];
        int64_t elements = tensor->rows * (tensor->cols ? tensor->cols : 1);
        for (int64_t first = 0; first < elements && !status; first += PIECE) {
            int64_t count = elements - first < PIECE ? elements - first : PIECE;
            piece_fill(model, tensor, seed, first, count, piece);
            status = weights_write(model, model->param, tensor->offset + first, count, piece, error);
        }
    }
    free(piece);
    return status;
}

/* The elements of a tensor, as copies of those of a matrix that are filled already. */
static int matrix_copy(struct model *model, const struct model_tensor *from, const struct model_tensor *to, int64_t shift,
                       struct error *error)
{
    const size_t size = dtype_size(model->dtype);
    const int64_t source = from->rows * from->cols, elements = to->rows * to->cols;
    char *param = model->param;
    int status = STATUS_OK;
    for (int64_t done = 0, count; done < elements && !status; done += count, shift = 0) {
        count = elements - done < source - shift ? elements - done : source - shift;
        status = device_status(model->device, "copy",
                               model->device->engine->copy(model->device->context, param + (size_t)(to->offset + done) * size,
                                                           param + (size_t)(from->offset + shift) * size,
                                                           (size_t)count * size), error);
    }
    return status;
}

/* Draws the first elements of a matrix, and fills the rest with copies of them. */
static int matrix_repeat(struct model *model, const struct model_tensor *tensor, uint64_t seed, float *piece,
                         struct error *error)
{
    const size_t size = dtype_size(model->dtype);
    const int64_t elements = tensor->rows * tensor->cols, drawn = elements < PERIOD ? elements : PERIOD;
    char *first = (char *)model->param + (size_t)tensor->offset * size;
    piece_fill(model, tensor, seed, 0, drawn, piece);
    int status = weights_write(model, model->param, tensor->offset, drawn, piece, error);
    for (int64_t done = drawn, count; done < elements && !status; done += count) {
        count = elements - done < done ? elements - done : done;
        status = device_status(model->device, "copy",
                               model->device->engine->copy(model->device->context, first + (size_t)done * size, first,
                                                           (size_t)count * size), error);
    }
    return status;
}

int weights_random_repeated(struct model *model, uint64_t seed, struct error *error)
{
    float *piece = memory_array(PIECE, sizeof *piece, error);
    const struct model_tensor *drawn = NULL;
    if (!piece)
        return STATUS_MEMORY;
    int status = device_zero(model->device, model->param, (size_t)model->elements * dtype_size(model->dtype), error);
    for (int t = 0; t < model->tensors && !status; t++) {
        const struct model_tensor *tensor = &model->tensor[t];
        if (tensor->cols && drawn) {
            status = matrix_copy(model, drawn, tensor, (int64_t)t * SHIFT % (drawn->rows * drawn->cols), error);
        } else if (tensor->cols) {
            status = matrix_repeat(model, drawn = tensor, seed, piece, error);
        } else {
            for (int64_t first = 0, count; first < tensor->rows && !status; first += count) {
                count = tensor->rows - first < PIECE ? tensor->rows - first : PIECE;
                piece_fill(model, tensor, seed, first, count, piece);
                status = weights_write(model, model->param, tensor->offset + first, count, piece, error);
            }
        }
    }
    free(piece);
    return status;
}

int weights_random_lora(struct model *model, uint64_t seed, struct error *error)
{
    const struct lora *lora = &model->lora;
    int status = device_zero(model->device, lora->param, (size_t)lora->elements * dtype_size(model->dtype), error);
    for (int m = 0; m < lora->modules && !status; m++) {
        const struct lora_module *module = &lora->module[m];
        const int64_t in = model->tensor[module->tensor].cols, count = module->rank * in;
        const double bound = 1 / sqrt((double)in);
        float *a = memory_array((size_t)count, sizeof *a, error);
        if (!a)
            return STATUS_MEMORY;
        for (int64_t i = 0; i < count; i++)
            a[i] = (float)(bound * (2 * sample_uniform(seed ^ LORA_STREAM, (uint64_t)(module->a + i)) - 1));
        status = weights_write(model, lora->param, module->a, count, a, error);
        free(a);
    }
    return status;
}

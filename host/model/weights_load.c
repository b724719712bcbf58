/* weights_load.c - a folder's weights into the arena; see weights.h.
 *
 * Pieces are read in the order in which they lie on the disk, by a thread of its own, which also converts them to float;
 * meanwhile the piece before goes to the device. Cost: the slower of the two; host memory: two pieces, and twice a tensor
 * that the file holds the other way round.
 */
#include <stdlib.h>

#include "../util/memory.h"
#include "../util/read_ahead.h"
#include "adapter.h"
#include "combination.h"
#include "quantizer.h"
#include "weights_internal.h"

int weights_source_read(const struct weights *weights, const struct model *model, int tensor,
                        const struct safetensors_tensor *from, int64_t first, int64_t count, float *out,
                        struct error *error)
{
    const bool rounded = weights->quantizer && quantizer_takes(model, tensor);
    int status = rounded ? quantizer_read(weights->quantizer, &weights->source, model, tensor, from, first, count, out, error)
                         : safetensors_read_float(&weights->source, from, first, count, out, error);
    if (!status && weights->combination)
        status = combination_apply(weights->combination, model, tensor, first, count, out, error);
    if (!status && weights->adapter)
        adapter_add(weights->adapter, model, tensor, first, count, out);
    return status;
}

/* A tensor that the file holds the other way round, whole. */
static int load_transposed(const struct weights *weights, struct model *model, int index,
                           const struct safetensors_tensor *from, struct error *error)
{
    const struct model_tensor *tensor = &model->tensor[index];
    float *stored = memory_array((size_t)from->elements, sizeof *stored, error);
    float *turned = memory_array((size_t)from->elements, sizeof *turned, error);
    int status = stored && turned ? weights_source_read(weights, model, index, from, 0, from->elements, stored, error)
                                  : STATUS_MEMORY;
    if (!status) {
        weights_transpose(stored, tensor->cols, tensor->rows, turned);
        status = weights_write_tensor(model, index, 0, from->elements, turned, error);
    }
    free(stored);
    free(turned);
    return status;
}

/* A piece of a tensor that the file holds the same way round. */
struct load_piece {
    int tensor;
    const struct safetensors_tensor *from;
    int64_t first, count;
};

struct load {
    const struct weights *weights;
    const struct model *model;
    struct load_piece *piece;
    int64_t pieces;
};

/* On the reading thread: reads and converts, while the piece before goes to the device. */
static int load_fill(void *user, int64_t index, void *buffer, struct error *error)
{
    const struct load *load = user;
    const struct load_piece *piece = &load->piece[index];
    return weights_source_read(load->weights, load->model, piece->tensor, piece->from, piece->first, piece->count, buffer, error);
}

static int piece_order(const void *left, const void *right)
{
    const struct load_piece *a = left, *b = right;
    if (a->from->shard != b->from->shard)
        return a->from->shard < b->from->shard ? -1 : 1;
    if (a->from->offset != b->from->offset)
        return a->from->offset < b->from->offset ? -1 : 1;
    return a->first < b->first ? -1 : a->first > b->first;
}

/* All pieces, in the order in which they lie on the disk. */
static int load_list(struct load *load, struct error *error)
{
    const struct model *model = load->model;
    for (int pass = 0; pass < 2; pass++) {
        load->pieces = 0;
        for (int i = 0; i < model->tensors; i++) {
            const struct safetensors_tensor *from = weights_find(load->weights, model, model->tensor[i].name);
            for (int64_t first = 0; first < from->elements && !model->tensor[i].transposed; first += WEIGHTS_PIECE) {
                const int64_t count = from->elements - first < WEIGHTS_PIECE ? from->elements - first : WEIGHTS_PIECE;
                if (pass == 1)
                    load->piece[load->pieces] = (struct load_piece){i, from, first, count};
                load->pieces++;
            }
        }
        if (pass == 0 && !(load->piece = memory_array((size_t)load->pieces + 1, sizeof *load->piece, error)))
            return STATUS_MEMORY;
    }
    qsort(load->piece, (size_t)load->pieces, sizeof *load->piece, piece_order);
    return STATUS_OK;
}

static int arena_load(const struct weights *weights, struct model *model, struct error *error)
{
    struct load load = {.weights = weights, .model = model};
    struct read_ahead *reader = NULL;
    int status = load_list(&load, error);
    if (!status)
        status = read_ahead_open(&reader, load.pieces, WEIGHTS_PIECE * sizeof(float), load_fill, &load, error);
    model_forms_reset(model);
    /* the padding between tensors takes part in the arena-wide update: it must be zero */
    if (!status)
        status = device_zero(model->device, model->param, (size_t)model->elements * dtype_size(model->dtype), error);
    if (!status && model->nf4.used)
        status = nf4_base_clear(model, error);
    for (int64_t i = 0; i < load.pieces && !status; i++) {
        const struct load_piece *piece = &load.piece[i];
        const void *values;
        status = read_ahead_next(reader, &values, error);
        if (!status)
            status = weights_write_tensor(model, piece->tensor, piece->first, piece->count, values, error);
        if (!status && weights->loaded)
            weights->loaded(weights->loaded_user, i + 1, load.pieces);
    }
    read_ahead_close(reader);
    free(load.piece);
    for (int i = 0; i < model->tensors && !status; i++)
        if (model->tensor[i].transposed)
            status = load_transposed(weights, model, i, weights_find(weights, model, model->tensor[i].name), error);
    return status;
}

int weights_load(const struct weights *weights, struct model *model, struct error *error)
{
    int status = arena_load(weights, model, error);
    return status || !weights->reinforced ? status : arena_load(weights->reinforced, model->reinforced, error);
}

/* weights_arena.c - floats into an arena of the device and out of it, whatever it is stored in; see weights.h. Where the
 * trained weights are halves of floats, those floats are what is written and read.
 */
#include <stdlib.h>
#include <string.h>

#include "../util/float16.h"
#include "../util/memory.h"
#include "weights_internal.h"

/* Copies what a shard and elements [offset, offset + count) of the arena have in common, into the lower halves of its master
 * weights or out of them. */
static int master_copy(struct model *model, const struct model_shard *shard, int64_t offset, int64_t count,
                       const uint16_t *in, uint16_t *out, struct error *error)
{
    const int64_t from = offset > shard->offset ? offset : shard->offset;
    const int64_t end = offset + count < shard->offset + shard->count ? offset + count : shard->offset + shard->count;
    if (from >= end)
        return STATUS_OK;
    uint16_t *low = model->master.low + shard->state + (from - shard->offset);
    const size_t bytes = (size_t)(end - from) * sizeof *low;
    if (model->master.on_host) {
        memcpy(in ? low : out + (from - offset), in ? in + (from - offset) : low, bytes);
        return STATUS_OK;
    }
    return in ? device_copy_in(model->device, low, in + (from - offset), bytes, error)
              : device_copy_out(model->device, out + (from - offset), low, bytes, error);
}

static bool has_master(const struct model *model, const void *arena)
{
    return model->master.low && arena == model_trainable(model).param;
}

/* The two halves of floats, the lower ones where this rank keeps them. */
static int master_write(struct model *model, char *to, int64_t offset, int64_t count, const float *values,
                        struct error *error)
{
    uint16_t *high = memory_array(2 * (size_t)count, sizeof *high, error);
    if (!high)
        return STATUS_MEMORY;
    uint16_t *low = high + count;
    for (int64_t i = 0; i < count; i++) {
        const uint32_t bits = float_to_bits(values[i]);
        high[i] = (uint16_t)split_high(bits);
        low[i] = (uint16_t)bits;
    }
    int status = device_copy_in(model->device, to, high, (size_t)count * sizeof *high, error);
    for (int i = 0; i < model->master.shards && !status; i++)
        status = master_copy(model, &model->master.shard[i], offset, count, low, NULL, error);
    free(high);
    return status;
}

static int master_read(struct model *model, const char *from, int64_t offset, int64_t count, float *out,
                       struct error *error)
{
    uint16_t *high = memory_array(2 * (size_t)count, sizeof *high, error);
    if (!high)
        return STATUS_MEMORY;
    uint16_t *low = high + count;
    int status = device_copy_out(model->device, high, from, (size_t)count * sizeof *high, error);
    if (!status && model->master.gather)
        status = model->master.gather(model->master.user, offset, count, low, error);
    for (int i = 0; i < model->master.shards && !model->master.gather && !status; i++)
        status = master_copy(model, &model->master.shard[i], offset, count, NULL, low, error);
    for (int64_t i = 0; i < count && !status; i++)
        out[i] = float_from_bits(split_join(high[i], low[i]));
    free(high);
    return status;
}

int weights_write(struct model *model, void *arena, int64_t offset, int64_t count, const float *values,
                  struct error *error)
{
    char *to = (char *)arena + (size_t)offset * dtype_size(model->dtype);
    if (has_master(model, arena))
        return master_write(model, to, offset, count, values, error);
    if (model->dtype == DTYPE_F32)
        return device_copy_in(model->device, to, values, (size_t)count * sizeof(float), error);
    void *converted = memory_array((size_t)count, dtype_size(model->dtype), error);
    if (!converted)
        return STATUS_MEMORY;
    for (int64_t i = 0; i < count; i++) {
        if (model->dtype == DTYPE_F64)
            ((double *)converted)[i] = values[i];
        else
            ((uint16_t *)converted)[i] = bf16_from_float(values[i]);
    }
    int status = device_copy_in(model->device, to, converted, (size_t)count * dtype_size(model->dtype), error);
    free(converted);
    return status;
}

int weights_write_tensor(struct model *model, int tensor, int64_t first, int64_t count, const float *values, struct error *error)
{
    const struct model_tensor *to = &model->tensor[tensor];
    return model->nf4.used && slot_is_projection(to->from->slot)
               ? nf4_base_write(model, tensor, first, count, values, error)
               : weights_write(model, model->param, to->offset + first, count, values, error);
}

int weights_read_back(struct model *model, const void *arena, int64_t offset, int64_t count, float *out,
                      struct error *error)
{
    const enum dtype dtype = model_arena_dtype(model, arena);
    const char *from = (const char *)arena + (size_t)offset * dtype_size(dtype);
    if (has_master(model, arena))
        return master_read(model, from, offset, count, out, error);
    if (dtype == DTYPE_F32)
        return device_copy_out(model->device, out, from, (size_t)count * sizeof(float), error);
    void *stored = memory_array((size_t)count, dtype_size(dtype), error);
    if (!stored)
        return STATUS_MEMORY;
    int status = device_copy_out(model->device, stored, from, (size_t)count * dtype_size(dtype), error);
    for (int64_t i = 0; i < count && !status; i++)
        out[i] = dtype == DTYPE_F64 ? (float)((double *)stored)[i] : float_from_bf16(((uint16_t *)stored)[i]);
    free(stored);
    return status;
}

void weights_transpose(const float *from, int64_t rows, int64_t cols, float *to)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++)
            to[c * rows + r] = from[r * cols + c];
}

int tensor_read(struct tensor_reader *reader, int tensor, int64_t first, int64_t count, float *out, struct error *error)
{
    const struct model_tensor *from = &reader->model->tensor[tensor];
    if (!from->transposed)
        return weights_read_back(reader->model, reader->arena, from->offset + first, count, out, error);
    if (!reader->turned || reader->tensor != tensor) {
        int64_t elements = from->rows * from->cols;
        float *kept = memory_array((size_t)elements, sizeof *kept, error);
        tensor_reader_free(reader);
        reader->turned = memory_array((size_t)elements, sizeof *reader->turned, error);
        reader->tensor = tensor;
        int status = kept && reader->turned
                         ? weights_read_back(reader->model, reader->arena, from->offset, elements, kept, error)
                         : STATUS_MEMORY;
        if (!status)
            weights_transpose(kept, from->rows, from->cols, reader->turned);
        free(kept);
        if (status)
            return status;
    }
    memcpy(out, reader->turned + first, (size_t)count * sizeof *out);
    return STATUS_OK;
}

void tensor_reader_free(struct tensor_reader *reader)
{
    free(reader->turned);
    reader->turned = NULL;
}

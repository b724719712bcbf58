/* quantizer.c - see quantizer.h. */
#include "quantizer.h"

#include <stdlib.h>
#include <string.h>

#include "../util/memory.h"
#include "../util/quantize.h"
#include "weights_internal.h"

const char *const quantizer_names[] = {[QUANTIZER_INT8] = "int8", [QUANTIZER_NF4] = "nf4", NULL};

bool quantizer_takes(const struct model *model, int tensor)
{
    return slot_is_projection(model->tensor[tensor].from->slot);
}

/* Whole rows [out, in], or whole blocks, in place. */
static void values_round(const struct quantizer *quantizer, float *value, int64_t count, int64_t cols)
{
    if (quantizer->kind == QUANTIZER_NF4)
        nf4_round(value, count);
    else
        for (int64_t row = 0; row < count / cols; row++)
            int8_round(value + row * cols, cols);
}

/* A tensor of [cols, rows] in its file: turned, rounded and turned back, of which a part is wanted. */
static int turned_read(const struct quantizer *quantizer, const struct safetensors *source, const struct model_tensor *tensor,
                       const struct safetensors_tensor *from, int64_t first, int64_t count, float *out, struct error *error)
{
    float *stored = memory_array((size_t)from->elements, sizeof *stored, error);
    float *turned = memory_array((size_t)from->elements, sizeof *turned, error);
    int status = stored && turned ? safetensors_read_float(source, from, 0, from->elements, stored, error) : STATUS_MEMORY;
    if (!status) {
        weights_transpose(stored, tensor->cols, tensor->rows, turned);
        values_round(quantizer, turned, from->elements, tensor->cols);
        weights_transpose(turned, tensor->rows, tensor->cols, stored);
        memcpy(out, stored + first, (size_t)count * sizeof *out);
    }
    free(stored);
    free(turned);
    return status;
}

int quantizer_read(const struct quantizer *quantizer, const struct safetensors *source, const struct model *model, int tensor,
                   const struct safetensors_tensor *from, int64_t first, int64_t count, float *out, struct error *error)
{
    const struct model_tensor *table = &model->tensor[tensor];
    const int64_t unit = quantizer->kind == QUANTIZER_NF4 ? NF4_BLOCK : table->cols; /* what is rounded together */
    const int64_t begin = first / unit * unit, end_unit = (first + count + unit - 1) / unit * unit;
    const int64_t end = end_unit < from->elements ? end_unit : from->elements;
    if (table->transposed)
        return turned_read(quantizer, source, table, from, first, count, out, error);
    float *value = memory_array((size_t)(end - begin), sizeof *value, error);
    int status = value ? safetensors_read_float(source, from, begin, end - begin, value, error) : STATUS_MEMORY;
    if (!status) {
        values_round(quantizer, value, end - begin, table->cols);
        memcpy(out, value + (first - begin), (size_t)count * sizeof *out);
    }
    free(value);
    return status;
}

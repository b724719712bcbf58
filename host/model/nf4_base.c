/* nf4_base.c - see nf4_base.h. */
#include "nf4_base.h"

#include <stdlib.h>

#include "../util/memory.h"
#include "../util/quantize.h"
#include "model.h"

int nf4_base_plan(struct model *model, struct error *error)
{
    struct nf4_base *base = &model->nf4;
    const int64_t elements = model->weights_of ? 0 : base->elements, largest = model->weights_of ? 0 : base->largest;
    int status = memory_plan_add(&model->plan, MEMORY_PARAM, "NF4 codes", elements / 2, 1, (void **)&base->code, error);
    if (!status)
        status = memory_plan_add(&model->plan, MEMORY_PARAM, "NF4 scales", elements / NF4_BLOCK, sizeof *base->scale,
                                 (void **)&base->scale, error);
    return status ? status
                  : memory_plan_add(&model->plan, MEMORY_SCRATCH, "weight out of NF4", largest, dtype_size(model->dtype),
                                    &base->weight, error);
}

int nf4_base_clear(struct model *model, struct error *error)
{
    const struct nf4_base *base = &model->nf4;
    int status = device_zero(model->device, base->code, (size_t)base->elements / 2, error);
    return status ? status
                  : device_zero(model->device, base->scale, (size_t)base->elements / NF4_BLOCK * sizeof *base->scale, error);
}

int nf4_base_write(struct model *model, int tensor, int64_t first, int64_t count, const float *values, struct error *error)
{
    const struct nf4_base *base = &model->nf4;
    const int64_t at = model->tensor[tensor].offset + first, blocks = count / NF4_BLOCK;
    uint8_t *code = memory_array((size_t)count / 2, 1, error), one[NF4_BLOCK];
    float *scale = memory_array((size_t)blocks, sizeof *scale, error);
    int status = code && scale ? STATUS_OK : STATUS_MEMORY;
    for (int64_t b = 0; b < blocks && !status; b++) {
        scale[b] = nf4_encode(values + b * NF4_BLOCK, NF4_BLOCK, one);
        for (int i = 0; i < NF4_BLOCK / 2; i++)
            code[b * (NF4_BLOCK / 2) + i] = (uint8_t)(one[2 * i] << 4 | one[2 * i + 1]);
    }
    if (!status)
        status = device_copy_in(model->device, base->code + at / 2, code, (size_t)count / 2, error);
    if (!status)
        status = device_copy_in(model->device, base->scale + at / NF4_BLOCK, scale, (size_t)blocks * sizeof *scale, error);
    free(code);
    free(scale);
    return status;
}

int model_weight(struct model *model, int layer, enum slot slot, const void **weight, struct error *error)
{
    const struct nf4_base *base = &model->nf4;
    if (!base->used || !slot_is_projection(slot)) {
        *weight = model_param(model, layer, slot);
        return STATUS_OK;
    }
    const struct param_range *place = &model->layer[(size_t)layer * SLOTS + slot];
    *weight = base->weight;
    return device_run(model->device, error, nf4_dequantize,
                      &((struct nf4_dequantize_args){.dtype = model->dtype,
                                                     .n = place->rows * place->cols,
                                                     .code = base->code + place->offset / 2,
                                                     .scale = base->scale + place->offset / NF4_BLOCK,
                                                     .y = base->weight}));
}

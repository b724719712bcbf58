/* model.c - the parameter table of a model: which tensor lies where, and its address. */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../util/memory.h"

/* Shape of a whole slot; cols 0 for vectors. */
static struct param_range slot_shape(const struct model_config *c, enum slot slot)
{
    const int64_t hidden = c->hidden_size, qkv = query_cols(c) + 2 * key_cols(c);
    const int64_t up = c->intermediate_size * (c->family->gated ? 2 : 1);
    switch (slot) {
    case SLOT_EMBEDDING:
    case SLOT_HEAD_WEIGHT: return (struct param_range){0, c->vocab_size, hidden};
    case SLOT_POSITION:
        return (struct param_range){0, c->max_position_embeddings + c->family->position_offset, hidden};
    case SLOT_HEAD_BIAS: return (struct param_range){0, c->vocab_size, 0};
    case SLOT_QKV_WEIGHT: return (struct param_range){0, qkv, hidden};
    case SLOT_QKV_BIAS: return (struct param_range){0, qkv, 0};
    case SLOT_Q_NORM_WEIGHT:
        return (struct param_range){0, c->family->qk_norm == QK_NORM_WIDE ? query_cols(c) : c->head_dim, 0};
    case SLOT_K_NORM_WEIGHT:
        return (struct param_range){0, c->family->qk_norm == QK_NORM_WIDE ? key_cols(c) : c->head_dim, 0};
    case SLOT_O_WEIGHT: return (struct param_range){0, hidden, query_cols(c)};
    case SLOT_UP_WEIGHT: return (struct param_range){0, up, hidden};
    case SLOT_UP_BIAS: return (struct param_range){0, up, 0};
    case SLOT_DOWN_WEIGHT: return (struct param_range){0, hidden, c->intermediate_size};
    default: return (struct param_range){0, hidden, 0};
    }
}

/* Rows [*first, *first + *count) of the slot that a part fills. */
static void part_rows(const struct model_config *c, enum slot_part part, int64_t slot_rows, int64_t *first, int64_t *count)
{
    const int64_t q = query_cols(c), k = key_cols(c), f = c->intermediate_size;
    switch (part) {
    case PART_ALL: *first = 0, *count = slot_rows; break;
    case PART_Q: *first = 0, *count = q; break;
    case PART_K: *first = q, *count = k; break;
    case PART_V: *first = q + k, *count = k; break;
    case PART_GATE: *first = 0, *count = f; break;
    case PART_UP: *first = f, *count = f; break;
    }
}

static bool condition_holds(const struct model_config *config, size_t condition)
{
    bool truth;
    if (condition == ALWAYS)
        return true;
    memcpy(&truth, (const char *)config + condition, sizeof truth);
    return truth;
}

static struct param_range *place_of(struct model *model, int layer, enum slot slot)
{
    return slot < SLOT_LAYER ? &model->global[slot] : &model->layer[(size_t)layer * SLOTS + slot];
}

static bool in_nf4(const struct model *model, enum slot slot) { return model->nf4.used && slot_is_projection(slot); }

/* Gives every slot that a tensor of the family fills its place; matrices when `matrices`, vectors otherwise. */
static void places_assign(struct model *model, bool matrices)
{
    const struct model_config *config = &model->config;
    for (const struct family_tensor *t = config->family->tensor; t->name; t++) {
        struct param_range shape = slot_shape(config, t->slot);
        if (!condition_holds(config, t->condition) || (shape.cols > 0) != matrices)
            continue;
        int layers = t->slot < SLOT_LAYER ? 1 : (int)config->num_hidden_layers;
        for (int l = 0; l < layers; l++) {
            struct param_range *place = place_of(model, l, t->slot);
            if (place->rows)
                continue;
            const int64_t count = shape.rows * (shape.cols ? shape.cols : 1);
            int64_t *const end = in_nf4(model, t->slot) ? &model->nf4.elements : &model->elements;
            *place = shape;
            place->offset = *end;
            place->drawn = model->drawn;
            *end += arena_padded(count);
            model->parameters += count;
            model->drawn += (count + 15) & ~(int64_t)15;
            if (in_nf4(model, t->slot) && count > model->nf4.largest)
                model->nf4.largest = count;
        }
    }
}

static int tensors_list(struct model *model, struct error *error)
{
    const struct model_config *config = &model->config;
    size_t most = 0;
    for (const struct family_tensor *t = config->family->tensor; t->name; t++)
        most += t->slot < SLOT_LAYER ? 1 : (size_t)config->num_hidden_layers;
    model->tensor = memory_array(most, sizeof *model->tensor, error);
    if (!model->tensor)
        return STATUS_MEMORY;
    for (int pass = 0; pass < 2 + (int)config->num_hidden_layers; pass++) /* globals, layer by layer, globals */
        for (const struct family_tensor *t = config->family->tensor; t->name; t++) {
            bool global = t->slot < SLOT_LAYER, early = t->slot == SLOT_EMBEDDING || t->slot == SLOT_POSITION;
            int layer = pass - 1;
            bool now = global ? (early ? pass == 0 : pass == 1 + config->num_hidden_layers)
                              : pass > 0 && layer < config->num_hidden_layers;
            if (!now || !condition_holds(config, t->condition))
                continue;
            struct model_tensor *tensor = &model->tensor[model->tensors++];
            tensor->from = t;
            tensor->layer = global ? 0 : layer;
            const struct param_range *place = place_of(model, tensor->layer, t->slot);
            int64_t first = 0;
            part_rows(config, t->part, place->rows, &first, &tensor->rows);
            tensor->cols = place->cols;
            tensor->transposed = t->transposed;
            tensor->offset = place->offset + first * (place->cols ? place->cols : 1);
            tensor->drawn = place->drawn + first * (place->cols ? place->cols : 1);
            const char *hole = strstr(t->name, "%d");
            if (hole)
                snprintf(tensor->name, sizeof tensor->name, "%.*s%d%s", (int)(hole - t->name), t->name, layer, hole + 2);
            else
                snprintf(tensor->name, sizeof tensor->name, "%s", t->name);
        }
    return STATUS_OK;
}

static int whole_blocks_check(const struct model *model, struct error *error)
{
    for (int t = 0; t < model->tensors; t++) {
        const struct model_tensor *tensor = &model->tensor[t];
        if (slot_is_projection(tensor->from->slot) && tensor->rows * tensor->cols % NF4_BLOCK)
            return error_set(error, STATUS_INPUT, "load_in_4bit: %s has %lld weights; expected a multiple of %d, which share a scale",
                             tensor->name, (long long)(tensor->rows * tensor->cols), NF4_BLOCK);
    }
    return STATUS_OK;
}

static int create(struct model *model, const struct model_config *config, enum dtype dtype, bool nf4, struct error *error)
{
    *model = (struct model){.config = *config, .dtype = dtype, .grad_dtype = dtype, .nf4.used = nf4};
    model->layer = memory_array((size_t)config->num_hidden_layers * SLOTS, sizeof *model->layer, error);
    if (!model->layer)
        return STATUS_MEMORY;
    places_assign(model, true);
    model->decayed = model->elements;
    places_assign(model, false);
    int status = tensors_list(model, error);
    if (!status && nf4)
        status = whole_blocks_check(model, error);
    if (status)
        model_free(model);
    return status;
}

int model_create(struct model *model, const struct model_config *config, enum dtype dtype, struct error *error)
{
    return create(model, config, dtype, false, error);
}

int model_create_nf4(struct model *model, const struct model_config *config, enum dtype dtype, struct error *error)
{
    return create(model, config, dtype, true, error);
}

void model_free(struct model *model)
{
    if (model->device)
        memory_plan_free(&model->plan, model->device);
    free(model->plan.item);
    free(model->activations);
    lora_free(&model->lora);
    free(model->tensor);
    free(model->layer);
    *model = (struct model){0};
}

/* The slot whose place a slot's weights have: a tied head's are the embedding's. */
static enum slot slot_of(const struct model *model, enum slot slot)
{
    return slot == SLOT_HEAD_WEIGHT && !model->config.untied ? SLOT_EMBEDDING : slot;
}

static int slot_pack(struct model *model, int layer, enum slot slot, struct error *error)
{
    struct param_range *place = place_of(model, layer, slot_of(model, slot));
    if (!place->rows || place->form != LINEAR_PLAIN)
        return STATUS_OK;
    return device_status(model->device, "linear_pack",
                         model->device->engine->linear_pack(model->device->context, model_param(model, layer, slot),
                                                            place->cols, place->rows, &place->form), error);
}

int model_pack(struct model *model, struct error *error)
{
    static const enum slot packed[] = {SLOT_QKV_WEIGHT, SLOT_O_WEIGHT, SLOT_UP_WEIGHT, SLOT_DOWN_WEIGHT};
    if (!model->device->engine->linear_pack)
        return STATUS_OK;
    int status = slot_pack(model, 0, SLOT_HEAD_WEIGHT, error);
    for (int layer = 0; layer < model->config.num_hidden_layers; layer++)
        for (size_t i = 0; i < sizeof packed / sizeof *packed && !status; i++)
            status = slot_pack(model, layer, packed[i], error);
    return status || !model->reinforced ? status : model_pack(model->reinforced, error);
}

void model_forms_reset(struct model *model)
{
    for (int slot = 0; slot < SLOT_LAYER; slot++)
        model->global[slot].form = LINEAR_PLAIN;
    for (int64_t i = 0; i < model->config.num_hidden_layers * SLOTS; i++)
        model->layer[i].form = LINEAR_PLAIN;
}

enum linear_form model_form(const struct model *model, int layer, enum slot slot)
{
    slot = slot_of(model, slot);
    return slot < SLOT_LAYER ? model->global[slot].form : model->layer[(size_t)layer * SLOTS + slot].form;
}

struct model_trainable model_trainable(const struct model *model)
{
    const struct lora *lora = &model->lora;
    if (lora->options.rank)
        return (struct model_trainable){lora->param, lora->grad, lora->elements, lora->elements};
    return (struct model_trainable){model->param, model->grad, model->elements, model->decayed};
}

enum dtype model_arena_dtype(const struct model *model, const void *arena)
{
    return arena && (arena == model->grad || arena == model->lora.grad) ? model->grad_dtype : model->dtype;
}

void model_arenas(const struct model *model, struct model_arena arena[MODEL_ARENAS])
{
    const struct nf4_base *nf4 = &model->nf4;
    arena[0] = (struct model_arena){model->param, (size_t)model->elements * dtype_size(model->dtype)};
    arena[1] = (struct model_arena){nf4->code, (size_t)nf4->elements / 2};
    arena[2] = (struct model_arena){nf4->scale, (size_t)nf4->elements / NF4_BLOCK * sizeof *nf4->scale};
}

static void *slot_address(const struct model *model, void *base, enum dtype dtype, int layer, enum slot slot)
{
    if (slot == SLOTS || in_nf4(model, slot))
        return NULL;
    slot = slot_of(model, slot);
    const struct param_range *place =
        slot < SLOT_LAYER ? &model->global[slot] : &model->layer[(size_t)layer * SLOTS + slot];
    return place->rows && base ? (char *)base + (size_t)place->offset * dtype_size(dtype) : NULL;
}

void *model_param(const struct model *model, int layer, enum slot slot)
{
    return slot_address(model, model->param, model->dtype, layer, slot);
}

void *model_grad(const struct model *model, int layer, enum slot slot)
{
    return slot_address(model, model->grad, model->grad_dtype, layer, slot);
}

struct projection model_projection(const struct model *model, int layer, enum slot weight)
{
    static const enum slot bias[SLOTS] = {[SLOT_QKV_WEIGHT] = SLOT_QKV_BIAS, [SLOT_O_WEIGHT] = SLOT_O_BIAS,
                                          [SLOT_UP_WEIGHT] = SLOT_UP_BIAS, [SLOT_DOWN_WEIGHT] = SLOT_DOWN_BIAS};
    const struct param_range shape = slot_shape(&model->config, weight);
    return (struct projection){layer, weight, bias[weight] ? bias[weight] : SLOTS, shape.cols, shape.rows};
}

void *model_positions(const struct model *model, void *arena)
{
    const enum dtype dtype = model_arena_dtype(model, arena);
    char *table = slot_address(model, arena, dtype, 0, SLOT_POSITION);
    const int64_t skipped = model->config.family->position_offset * model->config.hidden_size;
    return table ? table + (size_t)skipped * dtype_size(dtype) : NULL;
}

/* lora.c - see lora.h. */
#include "lora.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../util/memory.h"
#include "model.h"
#include "weights.h"

static const char *const output_names[] = {[LORA_MERGED] = "merged", [LORA_ADAPTER] = "adapter", NULL};

static int options_check(const struct option_set *set, void *values, struct error *error)
{
    (void)set;
    const struct lora_run_options *options = values;
    return options->dropout == 0 ? STATUS_OK
                                 : error_set(error, STATUS_USAGE, "lora.dropout: expected 0, found %g; there is no dropout "
                                             "in training", options->dropout);
}

static const struct option option_rows[] = {
    {.name = "lora.r", OPTION_FIELD(struct lora_run_options, lora.rank), .initial = "0", .max = 65536,
     .help = "rank of the adapters; the rest of the model is frozen. 0 trains everything"},
    {.name = "lora.alpha", OPTION_FIELD(struct lora_run_options, lora.alpha), .initial = "16", .max = HUGE_VAL,
     .help = "the adapters' product is scaled by alpha / r"},
    {.name = "lora.dropout", OPTION_FIELD(struct lora_run_options, dropout), .initial = "0", .max = 1,
     .help = "only 0: the model is trained as it will be used"},
    {.name = "lora.target_modules", OPTION_LIST_FIELD(struct lora_run_options, lora.target_modules),
     .initial = "all-linear", .help = "projections to adapt, by the family's names (q_proj,v_proj)"},
    {.name = "lora.use_rslora", OPTION_FIELD(struct lora_run_options, lora.rslora),
     .help = "scale by alpha / sqrt(r) instead"},
    {.name = "lora.output", OPTION_FIELD(struct lora_run_options, output), .choices = output_names, .initial = "merged",
     .help = "write the whole model with the adapters merged in, or a PEFT folder with the adapters alone"},
    {.name = "load_in_4bit", OPTION_FIELD(struct lora_run_options, load_in_4bit),
     .help = "keep the frozen projections in NF4, 0.56 bytes per weight (QLoRA); what is saved is the base as it was read"},
};
const struct option_group lora_option_group = {OPTION_GROUP("LoRA", option_rows, struct lora_run_options),
                                               .check = options_check};

#define ALL_LINEAR "all-linear"

bool lora_is_projection(const struct model_tensor *tensor)
{
    return slot_is_projection(tensor->from->slot);
}

/* Length of a module's path: the tensor's name without ".weight". */
static size_t path_length(const struct model_tensor *tensor)
{
    return strlen(tensor->name) - strlen(".weight");
}

/* True when a name of `length` bytes is the module's path or its end after a dot. */
static bool module_matches(const struct model_tensor *tensor, const char *name, size_t length)
{
    const size_t path = path_length(tensor);
    return lora_is_projection(tensor) && length && length <= path && !memcmp(tensor->name + path - length, name, length) &&
           (length == path || tensor->name[path - length - 1] == '.');
}

/* Next name of a list between commas, without the space around it; false at the end. */
static bool name_next(const char **list, const char **name, size_t *length)
{
    if (!*list)
        return false;
    const char *end = strchr(*list, ',');
    *name = *list + strspn(*list, " ");
    *length = (end ? (size_t)(end - *list) : strlen(*list)) - (size_t)(*name - *list);
    while (*length && (*name)[*length - 1] == ' ')
        --*length;
    *list = end ? end + 1 : NULL;
    return true;
}

/* Appends a name to a list unless it is there. */
static int name_add(struct buffer *list, const char *name, size_t length, const char *between, struct error *error)
{
    const char *rest = list->data, *known;
    for (size_t known_length; name_next(&rest, &known, &known_length);)
        if (known_length == length && !memcmp(known, name, length))
            return STATUS_OK;
    int status = buffer_append(list, between, list->length ? strlen(between) : 0, error);
    return status ? status : buffer_append(list, name, length, error);
}

/* Last parts of the paths of all projections: "q_proj", "k_proj", ... */
static int names_collect(const struct model *model, const char *between, struct buffer *list, struct error *error)
{
    int status = buffer_append(list, "", 0, error);
    for (int t = 0; t < model->tensors && !status; t++) {
        const struct model_tensor *tensor = &model->tensor[t];
        size_t length = path_length(tensor), begin = length;
        while (begin && tensor->name[begin - 1] != '.')
            begin--;
        if (lora_is_projection(tensor))
            status = name_add(list, tensor->name + begin, length - begin, between, error);
    }
    return status;
}

/* The targets as a list without repetition; every name must fit a module. */
static int targets_resolve(const struct model *model, const char *target_modules, struct buffer *list,
                           struct error *error)
{
    const char *rest = target_modules, *name;
    if (!strcmp(target_modules, ALL_LINEAR))
        return names_collect(model, ",", list, error);
    int status = STATUS_OK;
    for (size_t length; !status && name_next(&rest, &name, &length);) {
        bool found = false;
        for (int t = 0; t < model->tensors && !found; t++)
            found = module_matches(&model->tensor[t], name, length);
        if (found) {
            status = name_add(list, name, length, ",", error);
            continue;
        }
        struct buffer names = {0};
        status = names_collect(model, ", ", &names, error);
        if (!status)
            status = error_set(error, STATUS_USAGE, "target_modules: '%.*s' is no projection of %s; there are %s, and "
                               ALL_LINEAR, (int)(length < 80 ? length : 80), name, model->config.family->model_type,
                               names.data);
        buffer_free(&names);
    }
    return status;
}

static bool is_target(const struct model_tensor *tensor, const char *list)
{
    const char *name;
    for (size_t length; name_next(&list, &name, &length);)
        if (module_matches(tensor, name, length))
            return true;
    return false;
}

/* Room for a matrix; the next one begins on a vector's border. */
static int64_t place_take(struct lora *lora, int64_t rows, int64_t cols)
{
    int64_t offset = lora->elements;
    lora->elements += arena_padded(rows * cols);
    lora->parameters += rows * cols;
    return offset;
}

static double scale_of(const struct lora_options *options, int64_t rank, double alpha)
{
    return alpha / (options->rslora ? sqrt((double)rank) : (double)rank);
}

/* Rank and alpha of a module. */
static void module_set(struct lora_module *module, const struct lora_options *options, const struct model_tensor *tensor)
{
    module->rank = options->rank;
    module->alpha = options->alpha;
    for (int i = 0; i < options->overrides; i++)
        if (strlen(options->override[i].module) == path_length(tensor) &&
            !strncmp(options->override[i].module, tensor->name, path_length(tensor))) {
            module->rank = options->override[i].rank;
            module->alpha = options->override[i].alpha;
        }
    module->scale = scale_of(options, module->rank, module->alpha);
}

/* The overrides with their names, as a copy. */
static int overrides_copy(struct lora_options *to, const struct lora_options *from, struct error *error)
{
    to->overrides = 0;
    to->override = NULL;
    if (!from->overrides)
        return STATUS_OK;
    struct lora_override *copy = memory_array((size_t)from->overrides, sizeof *copy, error);
    if (!copy)
        return STATUS_MEMORY;
    to->override = copy;
    for (; to->overrides < from->overrides; to->overrides++) {
        copy[to->overrides] = from->override[to->overrides];
        if (!(copy[to->overrides].module = memory_string(from->override[to->overrides].module, error)))
            return STATUS_MEMORY;
    }
    return STATUS_OK;
}

void lora_options_free(struct lora_options *options)
{
    for (int i = 0; i < options->overrides; i++)
        free((char *)options->override[i].module);
    free((struct lora_override *)options->override);
    free((char *)options->target_modules);
    *options = (struct lora_options){0};
}

static int modules_lay_out(struct lora *lora, const struct model *model, struct error *error)
{
    const int layers = (int)model->config.num_hidden_layers;
    lora->module = memory_array((size_t)model->tensors, sizeof *lora->module, error);
    lora->layer_begin = memory_array((size_t)layers + 1, sizeof *lora->layer_begin, error);
    if (!lora->module || !lora->layer_begin)
        return STATUS_MEMORY;
    for (int t = 0; t < model->tensors; t++) {
        const struct model_tensor *tensor = &model->tensor[t];
        if (!is_target(tensor, lora->options.target_modules))
            continue;
        struct lora_module *module = &lora->module[lora->modules++];
        module->tensor = t;
        module_set(module, &lora->options, tensor);
        lora->max_rank = module->rank > lora->max_rank ? module->rank : lora->max_rank;
        module->a = place_take(lora, module->rank, tensor->cols);
        module->b = place_take(lora, tensor->rows, module->rank);
        for (int l = tensor->layer + 1; l <= layers; l++)
            lora->layer_begin[l] = lora->modules;
    }
    return STATUS_OK;
}

int lora_create(struct lora *lora, const struct model *model, const struct lora_options *options, struct error *error)
{
    *lora = (struct lora){.options = *options, .scale = scale_of(options, options->rank, options->alpha)};
    struct buffer list = {0};
    int status = overrides_copy(&lora->options, options, error);
    lora->options.target_modules = NULL;
    if (!status)
        status = targets_resolve(model, options->target_modules, &list, error);
    lora->options.target_modules = list.data;
    if (!status)
        status = modules_lay_out(lora, model, error);
    if (status)
        lora_free(lora);
    return status;
}

void lora_free(struct lora *lora)
{
    lora_options_free(&lora->options);
    free(lora->module);
    free(lora->layer_begin);
    *lora = (struct lora){0};
}

const struct lora_module *lora_find(const struct lora *lora, int tensor)
{
    for (int m = 0; m < lora->modules; m++)
        if (lora->module[m].tensor == tensor)
            return &lora->module[m];
    return NULL;
}

/* Whether the k-th modules of all layers share one buffer, and the layer that has the most: its modules' own. */
static bool reduced_shared(const struct model *model, int *widest)
{
    const struct lora *lora = &model->lora;
    int most = -1;
    for (int l = 0; l < (int)model->config.num_hidden_layers; l++)
        if (lora->layer_begin[l + 1] - lora->layer_begin[l] > most) {
            most = lora->layer_begin[l + 1] - lora->layer_begin[l];
            *widest = l;
        }
    return model->recompute == RECOMPUTE_FULL;
}

void lora_share(struct model *model)
{
    const struct lora *lora = &model->lora;
    int widest = 0;
    if (!lora->options.rank || !reduced_shared(model, &widest))
        return;
    for (int l = 0; l < (int)model->config.num_hidden_layers; l++)
        for (int m = lora->layer_begin[l]; m < lora->layer_begin[l + 1]; m++)
            lora->module[m].reduced = lora->module[lora->layer_begin[widest] + m - lora->layer_begin[l]].reduced;
}

int lora_plan(struct model *model, int64_t rows, struct error *error)
{
    struct lora *lora = &model->lora;
    struct memory_plan *plan = &model->plan;
    const size_t s = dtype_size(model->dtype);
    if (!lora->options.rank)
        return STATUS_OK;
    int status = memory_plan_add(plan, MEMORY_PARAM, "LoRA parameters", lora->elements, s, &lora->param, error);
    if (!status && model->training)
        status = memory_plan_add(plan, MEMORY_GRAD, "LoRA gradients", lora->elements,
                                 dtype_size(model->grad_dtype), &lora->grad, error);
    int widest = 0, first = 0, end = lora->modules;
    const bool shared = reduced_shared(model, &widest);
    if (shared)
        first = lora->layer_begin[widest], end = lora->layer_begin[widest + 1];
    for (int m = first; m < end && !status; m++)
        status = memory_plan_add(plan, MEMORY_ACTIVATION, "LoRA x A^T",
                                 rows * (shared ? lora->max_rank : lora->module[m].rank), s, &lora->module[m].reduced, error);
    if (!status && model->training)
        status = memory_plan_add(plan, MEMORY_SCRATCH, "d LoRA x A^T", rows * lora->max_rank, s, &lora->dreduced, error);
    return status;
}

/* One module as the two passes see it. */
struct view {
    int64_t in, out, rank, stride; /* stride: the slot's rows, which are the columns of y */
    double scale;
    char *a, *b, *da, *db;         /* da and db NULL without gradients */
    void *reduced;
    size_t column;                 /* bytes from the slot's y to the module's */
};

/* False when the module belongs to another slot. */
static bool view_take(const struct model *model, int layer, enum slot slot, const struct lora_module *module,
                      struct view *view)
{
    const struct lora *lora = &model->lora;
    const struct model_tensor *tensor = &model->tensor[module->tensor];
    const struct param_range *place = &model->layer[(size_t)layer * SLOTS + slot];
    const size_t s = dtype_size(model->dtype), a = (size_t)module->a * s, b = (size_t)module->b * s;
    if (tensor->from->slot != slot)
        return false;
    *view = (struct view){.in = tensor->cols, .out = tensor->rows, .rank = module->rank, .scale = module->scale, .stride = place->rows,
                          .a = (char *)lora->param + a, .b = (char *)lora->param + b, .reduced = module->reduced,
                          .column = (size_t)((tensor->offset - place->offset) / tensor->cols) * s};
    if (lora->grad) {
        view->da = (char *)lora->grad + (size_t)module->a * dtype_size(model->grad_dtype);
        view->db = (char *)lora->grad + (size_t)module->b * dtype_size(model->grad_dtype);
    }
    return true;
}

static int module_forward(struct model *model, int64_t rows, const struct view *v, const void *x, void *y,
                          struct error *error)
{
    int status = device_run(model->device, error, linear_forward,
                            &((struct linear_args){.dtype = model->dtype,
                                                   .out_dtype = model->dtype,
                                                   .rows = rows,
                                                   .in = v->in,
                                                   .out = v->rank,
                                                   .x = x,
                                                   .weight = v->a,
                                                   .y = v->reduced,
                                                   .scale = v->scale}));
    if (!status)
        status = device_run(model->device, error, linear_forward,
                            &((struct linear_args){.dtype = model->dtype,
                                                   .out_dtype = model->dtype,
                                                   .rows = rows,
                                                   .in = v->rank,
                                                   .out = v->out,
                                                   .x = v->reduced,
                                                   .weight = v->b,
                                                   .y = (char *)y + v->column,
                                                   .y_stride = v->stride,
                                                   .scale = 1,
                                                   .accumulate = true}));
    return status;
}

/* dB (+)= dy^T reduced,  dreduced = scale dy B,  dA (+)= dreduced^T x,  dx += dreduced A. */
static int module_backward(struct model *model, int64_t rows, const struct view *v, const void *slot_dy, const void *x,
                           void *dx, struct error *error)
{
    const void *dy = (const char *)slot_dy + v->column;
    void *dreduced = model->lora.dreduced;
    struct linear_backward_weight_args weight = {.dtype = model->dtype,
                                                 .grad_dtype = model->grad_dtype,
                                                 .rows = rows,
                                                 .in = v->rank,
                                                 .out = v->out,
                                                 .dy = dy,
                                                 .dy_stride = v->stride,
                                                 .x = v->reduced,
                                                 .dweight = v->db,
                                                 .accumulate = !model->overwrite_gradients};
    struct linear_backward_input_args input = {.dtype = model->dtype,
                                               .rows = rows,
                                               .in = v->rank,
                                               .out = v->out,
                                               .dy = dy,
                                               .dy_stride = v->stride,
                                               .weight = v->b,
                                               .dx = dreduced,
                                               .scale = v->scale};
    int status = device_run(model->device, error, linear_backward_weight, &weight);
    if (!status)
        status = device_run(model->device, error, linear_backward_input, &input);
    weight.in = input.in = v->in, weight.out = input.out = v->rank;
    weight.dy = input.dy = dreduced, weight.dy_stride = input.dy_stride = 0;
    weight.x = x, weight.dweight = v->da;
    input.weight = v->a, input.dx = dx, input.scale = 1, input.accumulate = true;
    if (!status)
        status = device_run(model->device, error, linear_backward_weight, &weight);
    if (!status)
        status = device_run(model->device, error, linear_backward_input, &input);
    return status;
}

int lora_forward(struct model *model, int64_t rows, int layer, enum slot slot, const void *x, void *y,
                 struct error *error)
{
    const struct lora *lora = &model->lora;
    struct view view;
    int status = STATUS_OK;
    if (!lora->options.rank || slot < SLOT_LAYER)
        return status;
    for (int m = lora->layer_begin[layer]; m < lora->layer_begin[layer + 1] && !status; m++)
        if (view_take(model, layer, slot, &lora->module[m], &view))
            status = module_forward(model, rows, &view, x, y, error);
    return status;
}

int lora_backward(struct model *model, int64_t rows, int layer, enum slot slot, const void *dy, const void *x, void *dx,
                  struct error *error)
{
    const struct lora *lora = &model->lora;
    struct view view;
    int status = STATUS_OK;
    if (!lora->options.rank || slot < SLOT_LAYER)
        return status;
    for (int m = lora->layer_begin[layer]; m < lora->layer_begin[layer + 1] && !status; m++)
        if (view_take(model, layer, slot, &lora->module[m], &view))
            status = module_backward(model, rows, &view, dy, x, dx, error);
    return status;
}

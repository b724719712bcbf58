/* generate.c - see generate.h. */
#include "generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../util/memory.h"

static const struct option option_rows[] = {
    {.name = "max_new_tokens", OPTION_FIELD(struct generate_options, max_new_tokens), .initial = "128", .min = 1,
     .max = OPTION_COUNT_MAX, .help = "tokens to add at most"},
    {.name = "temperature", OPTION_FIELD(struct generate_options, temperature), .initial = "0", .max = HUGE_VAL,
     .help = "of the sampling; 0 takes the most probable token"},
    {.name = "top_p", OPTION_FIELD(struct generate_options, top_p), .initial = "1", .min = 1e-6, .max = 1,
     .help = "sample from the fewest tokens that hold this much probability"},
    {.name = "seed", OPTION_FIELD(struct generate_options, seed), .initial = "42", .max = OPTION_EXACT_MAX,
     .help = "of the sampling"},
};
const struct option_group generate_option_group = {OPTION_GROUP("Generation", option_rows, struct generate_options)};

enum { PREFIX_MIN = 4 }; /* fewer are not worth a step of their own */

int generator_open(struct generator *generator, struct model *model, struct device *device, int slots,
                   int64_t prompt_rows, int64_t max_positions, const struct batch_limits *scored,
                   const struct generate_options *options, struct error *error)
{
    static const struct batch_limits nothing = {0};
    const struct batch_limits *also = scored ? scored : &nothing;
    *generator = (struct generator){.model = model, .slots = slots, .max_positions = max_positions, .options = *options};
    const int64_t rows = prompt_rows + slots;
    if (max_positions > INT32_MAX / ((int64_t)slots + 1))
        return error_set(error, STATUS_USAGE, "batch_size: a cache of %d times %lld positions cannot be numbered; lower it",
                         slots, (long long)max_positions);
    model->max_positions = max_positions > also->positions ? max_positions : also->positions;
    int status = model_plan(model, false, rows > also->rows ? rows : also->rows,
                            slots > also->targets ? slots : also->targets,
                            slots > also->sequences ? slots : also->sequences, error);
    if (!status)
        status = kv_cache_plan(&generator->cache, model, &model->plan, "keys and values", slots, max_positions, rows, error);
    if (!status && model->reinforced)
        status = kv_cache_plan(&generator->reinforced_cache, model->reinforced, &model->plan,
                               "keys and values of the reinforced model", slots, max_positions, rows, error);
    if (!status)
        status = memory_plan_add(&model->plan, MEMORY_SCRATCH, "next ids", slots, sizeof(int32_t),
                                 (void **)&generator->device_ids, error);
    if (!status)
        status = memory_plan_add(&model->plan, MEMORY_SCRATCH, "counters", slots, sizeof(int64_t),
                                 (void **)&generator->device_counters, error);
    if (!status)
        status = model_allocate(model, device, error);
    if (!status)
        status = batch_create(&generator->batch, device, rows, slots, slots, error);
    generator->graphs = !status && device->engine->graphs;
    if (generator->graphs)
        status = batch_create(&generator->step, device, slots, slots, slots, error);
    generator->live = memory_array((size_t)slots, sizeof *generator->live, error);
    generator->free_slot = memory_array((size_t)slots, sizeof(int32_t), error);
    generator->ids = memory_array((size_t)slots, sizeof(int32_t), error);
    generator->counters = memory_array((size_t)slots, sizeof(int64_t), error);
    if (!status && (!generator->live || !generator->free_slot || !generator->ids || !generator->counters))
        status = STATUS_MEMORY;
    return status;
}

void generator_close(struct generator *generator)
{
    if (generator->model && generator->model->device) {
        batch_free(&generator->batch, generator->model->device);
        batch_free(&generator->step, generator->model->device);
        graph_cache_free(&generator->graph_cache, generator->model->device);
    }
    free(generator->live);
    free(generator->free_slot);
    free(generator->ids);
    free(generator->counters);
    free(generator->logits);
    free(generator->wide);
    free(generator->seen);
    kv_cache_free(&generator->cache);
    kv_cache_free(&generator->reinforced_cache);
    *generator = (struct generator){0};
}

static int cache_hook(void *user, int layer, const void *qkv, struct layer_keys *keys, struct error *error)
{
    const struct generator *g = user;
    return kv_cache_move(&g->cache, g->now->rows, layer, qkv, keys, error);
}

static int reinforced_hook(void *user, int layer, const void *qkv, struct layer_keys *keys, struct error *error)
{
    const struct generator *g = user;
    return kv_cache_move(&g->reinforced_cache, g->now->rows, layer, qkv, keys, error);
}

static double logit_capped(double logit, double cap) { return cap > 0 ? cap * tanh(logit / cap) : logit; }

/* The rules of generation_config.json on the rows of the live sequences, on the host, which go by capped logits. They must be
 * float or double. */
static int rules_apply(struct generator *g, const struct token_list *prompts, const struct token_list *out, int live,
                       struct error *error)
{
    const struct model *model = g->model;
    const size_t vocab_size = (size_t)model->config.vocab_size, bytes = vocab_size * dtype_size(model->logits_dtype);
    const bool is_double = model->logits_dtype == DTYPE_F64;
    int status = STATUS_OK;
    if (!is_double && model->logits_dtype != DTYPE_F32)
        return error_set(error, STATUS_USAGE, "generation_config.json: its rules need logits in float");
    if (!g->seen && (!(g->logits = memory_array(bytes, 1, error)) ||
                     !(g->wide = memory_array(vocab_size, sizeof *g->wide, error)) ||
                     !(g->seen = memory_array(vocab_size, 1, error))))
        return STATUS_MEMORY;
    for (int i = 0; i < live && !status; i++) {
        char *row = (char *)model->head.logits + (size_t)i * bytes;
        status = device_copy_out(model->device, g->logits, row, bytes, error);
        for (size_t j = 0; j < vocab_size; j++)
            g->wide[j] = logit_capped(is_double ? ((double *)g->logits)[j] : (double)((float *)g->logits)[j],
                                      model->config.final_cap);
        if (!status)
            generation_rules_apply(g->rules, &prompts[g->live[i].prompt], &out[g->live[i].prompt], g->wide, g->seen);
        for (size_t j = 0; j < vocab_size && !is_double; j++)
            ((float *)g->logits)[j] = (float)g->wide[j];
        if (!status)
            status = device_copy_in(model->device, row, is_double ? g->wide : g->logits, bytes, error);
    }
    return status;
}

static bool has_rules(const struct generator *g) { return g->rules && generation_rules_any(g->rules); }

/* An id for each of the batch's sequences, of which the logits are there. */
static int ids_pick(struct generator *g, struct error *error)
{
    const struct model *model = g->model;
    return device_run(model->device, error, sample,
                      &((struct sample_args){.dtype = model->logits_dtype,
                                             .rows = g->now->sequences,
                                             .cols = model->config.vocab_size,
                                             .stride = model->config.vocab_size,
                                             .logits = model->head.logits,
                                             .cap = has_rules(g) ? 0 : model->config.final_cap, /* rules have applied it */
                                             .temperature = g->options.temperature,
                                             .top_p = g->options.top_p,
                                             .seed = g->options.seed,
                                             .counters = g->options.temperature == 0 ? NULL : g->device_counters,
                                             .ids = g->device_ids}));
}

/* All that a step queues on the device and that depends on the number of rows alone; rules, if any, come between the logits
 * and the ids. */
static int step_queue(void *user, struct error *error)
{
    struct generator *g = user;
    struct model *model = g->model;
    const struct batch *batch = g->now;
    int status = model_forward_body(model, batch, error);
    for (int layer = 0; layer < model->config.num_hidden_layers && !status; layer++)
        status = model_forward_layer(model, batch, layer, cache_hook, g, error);
    if (!status)
        status = model_forward_head(model, batch->device.target_row, batch->targets, error);
    if (!status)
        status = model_combine_reinforced(model, batch, reinforced_hook, g, error);
    return status || has_rules(g) ? status : ids_pick(g, error);
}

static int step_copy_in(struct generator *g, int64_t first_index, int live, struct error *error)
{
    struct device *device = g->model->device;
    const struct batch *batch = g->now;
    int status = device_copy_in(device, batch->device_blob, batch->host_blob, batch->blob_bytes, error);
    if (!status)
        status = kv_cache_upload(&g->cache, batch->rows, batch->sequences, error);
    if (!status && g->model->reinforced)
        status = kv_cache_upload(&g->reinforced_cache, batch->rows, batch->sequences, error);
    for (int i = 0; i < batch->sequences; i++)
        g->counters[i] = i < live ? (first_index + g->live[i].prompt) * (int64_t)(1 << 24) + g->live[i].cached : 0;
    if (!status && g->options.temperature != 0)
        status = device_copy_in(device, g->device_counters, g->counters, (size_t)batch->sequences * sizeof(int64_t), error);
    return status;
}

/* Runs the packed batch, picks one id per live sequence into ids[0 .. live). */
static int batch_next_ids(struct generator *g, int64_t first_index, const struct token_list *prompts,
                          const struct token_list *out, int live, int32_t *ids, struct error *error)
{
    struct device *device = g->model->device;
    const struct graph_key key = {0, g->now->rows, g->now->targets, 0};
    int status = model_accepts(g->model, g->now, error); /* a replay cannot ask */
    if (!status)
        status = step_copy_in(g, first_index, live, error);
    if (!status)
        status = g->now == &g->step ? graph_cache_run(&g->graph_cache, device, key, step_queue, g, error) : step_queue(g, error);
    if (!status && has_rules(g))
        status = rules_apply(g, prompts, out, live, error);
    if (!status && has_rules(g))
        status = ids_pick(g, error);
    return status ? status : device_copy_out(device, ids, g->device_ids, (size_t)live * sizeof(int32_t), error);
}

/* Adds ids[0 .. count) at the positions behind what is cached of a sequence; they will be in the cache after the pass. */
static void rows_append(struct generator *g, struct live_sequence *live, const int32_t *ids, int32_t count)
{
    struct batch *batch = g->now;
    struct batch_arrays *a = &batch->host;
    const int32_t sequence = batch->sequences++;
    const int32_t place = (int32_t)(live->slot * g->max_positions), prefix = g->prefix;
    a->segment[sequence] = (struct attention_segment){batch->rows, count, place, live->cached - prefix,
                                                      prefix ? (int32_t)(g->slots * g->max_positions) : 0, prefix};
    const bool begins = batch == &g->batch && live->cached == prefix; /* a prompt, and no row that fills a step up */
    kv_cache_add(&g->cache, sequence, live->slot, begins, live->cached - prefix, batch->rows, count);
    if (g->model->reinforced)
        kv_cache_add(&g->reinforced_cache, sequence, live->slot, begins, live->cached - prefix, batch->rows, count);
    for (int32_t i = 0; i < count; i++) {
        a->ids[batch->rows] = ids[i];
        a->positions[batch->rows++] = live->cached++;
    }
    if (live->cached - 1 > batch->max_position)
        batch->max_position = live->cached - 1;
    a->group_begin[sequence + 1] = sequence + 1;
    a->target_row[sequence] = batch->rows - 1;
    batch->targets = batch->groups = batch->segments = batch->sequences;
}

static void batch_begin(struct generator *g)
{
    struct batch *batch = g->now;
    kv_cache_begin(&g->cache);
    kv_cache_begin(&g->reinforced_cache);
    batch->rows = batch->targets = batch->groups = batch->segments = batch->sequences = batch->max_position = batch->tiles = 0;
    batch->host.group_begin[0] = 0;
}

/* Rows of a step that is replayed: few different numbers, so that there are few graphs. */
static int step_rows(int live, int slots)
{
    int rows = 1;
    while (rows < live)
        rows *= 2;
    return rows < slots ? rows : slots;
}

/* The last id of every live sequence, and then as many waiting prompts as there are free slots and rows for; or, without any,
 * rows in free slots up to a number that is replayed. */
static void step_pack(struct generator *g, const struct token_list *prompts, int count, int *waiting, int *live)
{
    const bool fits = *waiting < count && *live < g->slots &&
                      *live + (int64_t)prompts[*waiting].length - g->prefix <= g->batch.max_rows;
    struct batch *batch = g->now = g->graphs && !fits ? &g->step : &g->batch;
    batch_begin(g);
    for (int i = 0; i < *live; i++)
        rows_append(g, &g->live[i], &g->live[i].last, 1);
    while (batch == &g->batch && *waiting < count && *live < g->slots &&
           batch->rows + (int64_t)prompts[*waiting].length - g->prefix <= batch->max_rows) {
        g->live[*live] = (struct live_sequence){.slot = g->free_slot[g->slots - 1 - *live], .prompt = *waiting, .cached = g->prefix};
        rows_append(g, &g->live[*live], prompts[*waiting].id + g->prefix, (int32_t)prompts[*waiting].length - g->prefix);
        ++*waiting, ++*live;
    }
    for (int i = *live; batch == &g->step && i < step_rows(*live, g->slots); i++)
        rows_append(g, &(struct live_sequence){.slot = g->free_slot[g->slots - 1 - i], .cached = g->prefix}, &(int32_t){0}, 1);
}

/* Ids that all prompts begin with, each of which has one more at least. */
static int32_t common_ids(const struct token_list *prompts, int count)
{
    size_t n = prompts[0].length - 1;
    for (int p = 1; p < count; p++) {
        n = prompts[p].length - 1 < n ? prompts[p].length - 1 : n;
        while (n && memcmp(prompts[p].id, prompts[0].id, n * sizeof(int32_t)))
            n--;
    }
    return (int32_t)n;
}

/* Puts what several prompts have in common into the cache, in the place behind all others; where no layer drops positions that
 * have left its window. */
static int prefix_run(struct generator *g, const struct token_list *prompts, int count, int64_t first_index, struct error *error)
{
    struct live_sequence shared = {.slot = g->slots};
    g->prefix = 0;
    const int32_t prefix = count > 1 ? common_ids(prompts, count) : 0;
    if (prefix < PREFIX_MIN || g->cache.window || g->reinforced_cache.window)
        return STATUS_OK;
    g->now = &g->batch;
    batch_begin(g);
    rows_append(g, &shared, prompts[0].id, prefix);
    int status = batch_next_ids(g, first_index, prompts, NULL, 0, g->ids, error);
    g->prefix = prefix;
    return status;
}

static bool is_end(int32_t id, const int32_t *eos, int eos_count)
{
    for (int i = 0; i < eos_count; i++)
        if (id == eos[i])
            return true;
    return false;
}

/* Appends the new ids and drops the sequences that have ended, whose slots are free from here on. */
static int live_update(struct generator *g, const int32_t *ids, const int32_t *eos, int eos_count,
                       struct token_list *out, int *live, struct error *error)
{
    const int before = *live;
    int kept = 0, ended = 0;
    int32_t *freed = g->ids; /* entries that have been looked at are over */
    for (int i = 0; i < before; i++) {
        struct live_sequence *sequence = &g->live[i];
        struct token_list *list = &out[sequence->prompt];
        const int32_t id = ids[i];
        if (id < 0)
            return error_set(error, STATUS_NONFINITE, "prompt %d: the logits of token %zu are not finite: the model is damaged",
                             sequence->prompt + 1, list->length + 1);
        bool over = is_end(id, eos, eos_count);
        if (!over) {
            if (memory_grow(&list->id, &list->capacity, list->length + 1, sizeof *list->id, error))
                return STATUS_MEMORY;
            list->id[list->length++] = id;
            over = (int64_t)list->length >= g->options.max_new_tokens || sequence->cached >= g->max_positions;
        }
        sequence->last = id;
        if (over)
            freed[ended++] = sequence->slot;
        else
            g->live[kept++] = *sequence;
    }
    for (int i = 0; i < ended; i++)
        g->free_slot[g->slots - before + i] = freed[i];
    *live = kept;
    return STATUS_OK;
}

static int prompts_check(const struct generator *g, const struct token_list *prompts, int count, struct error *error)
{
    const int64_t vocab_size = g->model->config.vocab_size, rows = g->batch.max_rows - g->slots;
    const int64_t longest = rows < g->max_positions ? rows : g->max_positions;
    for (int p = 0; p < count; p++) {
        if (prompts[p].length < 1 || (int64_t)prompts[p].length > longest)
            return error_set(error, STATUS_USAGE, "prompt %d: %zu tokens; there is room for 1 to %lld", p + 1,
                             prompts[p].length, (long long)longest);
        for (size_t i = 0; i < prompts[p].length; i++)
            if (prompts[p].id[i] < 0 || prompts[p].id[i] >= vocab_size)
                return error_set(error, STATUS_INPUT, "token id %d is outside the model's vocabulary of %lld; the "
                                 "tokenizer does not belong to this model", (int)prompts[p].id[i],
                                 (long long)vocab_size);
    }
    return STATUS_OK;
}

/* Graphs that were captured with other settings of the sampling go. */
static void graphs_renew(struct generator *g)
{
    const struct generate_options *now = &g->options, *then = &g->captured;
    if (then->temperature != now->temperature || then->top_p != now->top_p || then->seed != now->seed ||
        g->captured_rules != has_rules(g))
        graph_cache_free(&g->graph_cache, g->model->device);
    g->captured = g->options;
    g->captured_rules = has_rules(g);
}

int generator_run(struct generator *generator, const struct token_list *prompts, int count, int64_t first_index,
                  const int32_t *eos, int eos_count, struct token_list *out, struct error *error)
{
    int status = prompts_check(generator, prompts, count, error), live = 0, waiting = 0;
    graphs_renew(generator);
    if (!status && count)
        status = prefix_run(generator, prompts, count, first_index, error);
    for (int i = 0; i < generator->slots; i++)
        generator->free_slot[i] = generator->slots - 1 - i;
    while (!status && (live || waiting < count)) {
        step_pack(generator, prompts, count, &waiting, &live);
        status = batch_next_ids(generator, first_index, prompts, out, live, generator->ids, error);
        if (!status)
            status = live_update(generator, generator->ids, eos, eos_count, out, &live, error);
        int first = waiting;
        for (int i = 0; i < live; i++)
            first = generator->live[i].prompt < first ? generator->live[i].prompt : first;
        if (!status && generator->advanced)
            status = generator->advanced(generator->advanced_user, waiting - live, first, error);
    }
    return status;
}

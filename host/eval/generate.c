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

int generator_open(struct generator *generator, struct model *model, struct device *device, int slots,
                   int64_t prompt_rows, int64_t max_positions, const struct generate_options *options,
                   struct error *error)
{
    *generator = (struct generator){.model = model, .slots = slots, .max_positions = max_positions, .options = *options};
    const struct model_config *c = &model->config;
    int64_t rows = prompt_rows > slots ? prompt_rows : slots;
    model->max_positions = max_positions;
    int status = model_plan(model, false, rows, slots, slots, error);
    if (!status)
        status = memory_plan_add(&model->plan, MEMORY_CACHE, "keys and values",
                                 c->num_hidden_layers * slots * max_positions * 2 * key_cols(c), dtype_size(model->dtype),
                                 &generator->cache, error);
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
    generator->slot_of = memory_array((size_t)slots, sizeof(int32_t), error);
    generator->cached = memory_array((size_t)slots, sizeof(int32_t), error);
    generator->scratch_ids = memory_array((size_t)slots, sizeof(int32_t), error);
    generator->counters = memory_array((size_t)slots, sizeof(int64_t), error);
    if (!status && (!generator->slot_of || !generator->cached || !generator->scratch_ids || !generator->counters))
        status = STATUS_MEMORY;
    return status;
}

void generator_close(struct generator *generator)
{
    if (generator->model && generator->model->device)
        batch_free(&generator->batch, generator->model->device);
    free(generator->slot_of);
    free(generator->cached);
    free(generator->scratch_ids);
    free(generator->counters);
    *generator = (struct generator){0};
}

/* Moves the batch's new keys and values into the cache and lets attention read from there. */
static int cache_hook(void *user, int layer, const void *qkv, struct layer_keys *keys, struct error *error)
{
    struct generator *g = user;
    struct device *device = g->model->device;
    const struct model_config *c = &g->model->config;
    const size_t s = dtype_size(g->model->dtype);
    const size_t q = (size_t)(c->num_attention_heads * c->head_dim) * s, kv = 2 * (size_t)key_cols(c) * s;
    char *cache = (char *)g->cache + (size_t)layer * (size_t)(g->slots * g->max_positions) * kv;
    int status = STATUS_OK;
    for (int i = 0; i < g->batch.segments && !status; i++) {
        const struct attention_segment *segment = &g->batch.host.segment[i];
        char *to = cache + (size_t)(segment->key_begin + segment->key_cached) * kv;
        const char *from = (const char *)qkv + (size_t)segment->query_begin * (q + kv) + q;
        status = device_status(device, "copy_rows",
                               device->engine->copy_rows(device->context, to, kv, from, q + kv, kv,
                                                         segment->query_count), error);
    }
    *keys = (struct layer_keys){cache, cache + (size_t)key_cols(c) * s, 2 * key_cols(c)};
    return status;
}

/* Runs the packed batch, picks one id a sequence into ids[0 .. sequences). */
static int batch_next_ids(struct generator *g, int64_t first_index, int32_t *ids, struct error *error)
{
    struct model *model = g->model;
    struct batch *batch = &g->batch;
    const int count = batch->sequences;
    const bool greedy = g->options.temperature == 0;
    int status = device_copy_in(model->device, batch->device_blob, batch->host_blob, batch->blob_bytes, error);
    if (!status)
        status = model_forward_body(model, batch, error);
    for (int layer = 0; layer < model->config.num_hidden_layers && !status; layer++)
        status = model_forward_layer(model, batch, layer, cache_hook, g, error);
    if (!status)
        status = model_forward_head(model, batch->device.target_row, batch->targets, error);
    for (int i = 0; i < count; i++)
        g->counters[i] = (first_index + g->slot_of[i]) * (int64_t)(1 << 24) + g->cached[i];
    if (!status && !greedy)
        status = device_copy_in(model->device, g->device_counters, g->counters, (size_t)count * sizeof(int64_t), error);
    if (!status)
        status = device_run(model->device, error, sample,
                            &((struct sample_args){.dtype = model->dtype,
                                                   .rows = count,
                                                   .cols = model->config.vocab_size,
                                                   .stride = model->config.vocab_size,
                                                   .logits = model->head.logits,
                                                   .temperature = g->options.temperature,
                                                   .top_p = g->options.top_p,
                                                   .seed = g->options.seed,
                                                   .counters = greedy ? NULL : g->device_counters,
                                                   .ids = g->device_ids}));
    if (!status)
        status = device_copy_out(model->device, ids, g->device_ids, (size_t)count * sizeof(int32_t), error);
    return status;
}

/* The prompts as one packed batch whose keys go to the cache: sequence i to slot i. */
static int prefill_pack(struct generator *g, const struct token_list *prompts, int count, struct error *error)
{
    struct batch_sequence *sequence = memory_array((size_t)count, sizeof *sequence, error);
    int32_t *first = memory_array((size_t)count + 1, sizeof *first, error);
    struct token_list ids = {0};
    int status = sequence && first ? STATUS_OK : STATUS_MEMORY;
    for (int i = 0; i < count && !status; i++) { /* one more id stands for the token to come; it is never fed */
        status = memory_grow(&ids.id, &ids.capacity, ids.length + prompts[i].length + 1, sizeof *ids.id, error);
        if (status)
            break;
        memcpy(ids.id + ids.length, prompts[i].id, prompts[i].length * sizeof *ids.id);
        ids.length += prompts[i].length;
        ids.id[ids.length++] = 0;
        sequence[i].length = (int32_t)prompts[i].length + 1;
        sequence[i].answer_begin = (int32_t)prompts[i].length;
        first[i + 1] = i + 1;
    }
    const int32_t *next = ids.id;
    for (int i = 0; i < count && !status; i++) {
        sequence[i].ids = next;
        next += sequence[i].length;
    }
    if (!status)
        status = batch_pack(&g->batch, g->model->device, sequence, first, count, false, g->model->config.vocab_size, error);
    for (int i = 0; i < count && !status; i++) {
        g->batch.host.segment[i].key_begin = (int32_t)(i * g->max_positions);
        g->slot_of[i] = i;
        g->cached[i] = (int32_t)prompts[i].length;
    }
    free(ids.id);
    free(first);
    free(sequence);
    return status;
}

/* One row a live sequence: ids[i] at position cached[i] of slot slot_of[i]. */
static void decode_pack(struct generator *g, const int32_t *ids, int live)
{
    struct batch *batch = &g->batch;
    struct batch_arrays *a = &batch->host;
    batch->rows = batch->targets = batch->groups = batch->segments = batch->sequences = live;
    batch->max_position = 0;
    for (int32_t i = 0; i < live; i++) {
        a->ids[i] = ids[i];
        a->positions[i] = g->cached[i];
        if (g->cached[i] > batch->max_position)
            batch->max_position = g->cached[i];
        a->segment[i] = (struct attention_segment){i, 1, (int32_t)(g->slot_of[i] * g->max_positions), g->cached[i], 0, 0};
        a->group_begin[i] = i;
        a->group_begin[i + 1] = i + 1;
        a->target_row[i] = i;
    }
}

static bool is_end(int32_t id, const int32_t *eos, int eos_count)
{
    for (int i = 0; i < eos_count; i++)
        if (id == eos[i])
            return true;
    return false;
}

/* Appends the new ids and drops the sequences that have ended; returns how many go on, or -1 without memory. */
static int live_update(struct generator *g, int32_t *ids, int live, const int32_t *eos, int eos_count,
                       struct token_list *out, struct error *error)
{
    int kept = 0;
    for (int i = 0; i < live; i++) {
        struct token_list *list = &out[g->slot_of[i]];
        if (is_end(ids[i], eos, eos_count))
            continue;
        if (memory_grow(&list->id, &list->capacity, list->length + 1, sizeof *list->id, error))
            return -1;
        list->id[list->length++] = ids[i];
        if ((int64_t)list->length >= g->options.max_new_tokens || g->cached[i] >= g->max_positions)
            continue;
        ids[kept] = ids[i];
        g->slot_of[kept] = g->slot_of[i];
        g->cached[kept++] = g->cached[i];
    }
    return kept;
}

int generator_run(struct generator *generator, const struct token_list *prompts, int count, int64_t first_index,
                  const int32_t *eos, int eos_count, struct token_list *out, struct error *error)
{
    int status = prefill_pack(generator, prompts, count, error), live = count;
    while (!status && live > 0) {
        status = batch_next_ids(generator, first_index, generator->scratch_ids, error);
        if (status)
            break;
        live = live_update(generator, generator->scratch_ids, live, eos, eos_count, out, error);
        if (live < 0)
            return STATUS_MEMORY;
        decode_pack(generator, generator->scratch_ids, live);
        for (int i = 0; i < live; i++)
            generator->cached[i]++; /* the row just packed will be in the cache after the next pass */
    }
    return status;
}

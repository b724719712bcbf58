/* reference.c - see reference.h. */
#include "reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../io/json/json.h"
#include "../util/clock.h"
#include "../util/file.h"
#include "../util/memory.h"
#include "../util/version.h"
#include "trainer.h"

static const struct option option_rows[] = {
    {.name = "reference_cache", OPTION_FIELD(struct reference_options, reference_cache), .local = true, .operand = "DIR",
     .help = "folder that keeps the log-probabilities under the starting model, for methods that compare with it; not given: "
             "flat in $XDG_CACHE_HOME or ~/.cache; none: they are computed in every run"},
};
const struct option_group reference_option_group = {OPTION_GROUP("Method", option_rows, struct reference_options)};

/* ---- the distinct answers ---------------------------------------------------------------------------------------- */

static uint64_t key_of(const struct batch_sequence *sequence)
{
    return checksum_of(sequence->ids, (size_t)sequence->length * sizeof *sequence->ids).xxh3 +
           0x9E3779B97F4A7C15ull * (uint64_t)sequence->answer_begin;
}

static bool has_sum(const struct batch_sequence *sequence)
{
    return WITH(sequence->role) & (WITH(ROLE_ANSWER) | WITH(ROLE_TEMPLATE));
}

/* The slot of a key: that of its entry, or the free one where it would go. */
static size_t slot_find(const struct reference *reference, uint64_t key)
{
    size_t slot = key & (reference->slots - 1);
    while (reference->slot[slot] >= 0 && reference->entry[reference->slot[slot]].key != key)
        slot = (slot + 1) & (reference->slots - 1);
    return slot;
}

static int slots_grow(struct reference *reference, struct error *error)
{
    const size_t slots = reference->slots ? 2 * reference->slots : 1024;
    int32_t *slot = memory_array(slots, sizeof *slot, error);
    if (!slot)
        return STATUS_MEMORY;
    free(reference->slot);
    reference->slot = memset(slot, -1, slots * sizeof *slot);
    reference->slots = slots;
    for (size_t i = 0; i < reference->count; i++)
        slot[slot_find(reference, reference->entry[i].key)] = (int32_t)i;
    return STATUS_OK;
}

static int sequence_add(struct reference *reference, const struct batch_sequence *sequence, struct error *error)
{
    const uint64_t key = key_of(sequence);
    int status = reference->slots < 2 * reference->count + 2 ? slots_grow(reference, error) : STATUS_OK;
    if (status || reference->slot[slot_find(reference, key)] >= 0)
        return status;
    status = memory_grow(&reference->entry, &reference->capacity, reference->count + 1, sizeof *reference->entry, error);
    int32_t *ids = status ? NULL : memory_array((size_t)sequence->length, sizeof *ids, error);
    if (!ids)
        return STATUS_MEMORY;
    memcpy(ids, sequence->ids, (size_t)sequence->length * sizeof *ids);
    reference->slot[slot_find(reference, key)] = (int32_t)reference->count;
    reference->entry[reference->count] = (struct reference_entry){.key = key, .sequence = *sequence};
    reference->entry[reference->count++].sequence.ids = ids;
    return STATUS_OK;
}

static int epoch_collect(struct reference *reference, const struct epoch *epoch, int32_t *place, struct error *error)
{
    int status = STATUS_OK;
    for (int k = 0; k < epoch->rows; k++)
        place[epoch->row[k]] = k;
    for (int row = 0; row < epoch->rows && !status; row++)
        for (int s = 0; s < epoch->own && !status; s++) {
            const struct batch_sequence *sequence = &epoch->sequence[place[row] * epoch->per_row + s];
            if (has_sum(sequence))
                status = sequence_add(reference, sequence, error);
        }
    return status;
}

/* Of all epochs, in order of the data: the same for every seed while no answer is drawn. Where there are more epochs than
 * template answers, of every row with each of them. */
static int answers_collect(struct reference *reference, struct trainer *trainer, struct error *error)
{
    struct examples *examples = &trainer->examples;
    const bool drawn = examples->answers.count && examples->choose_every_epoch && examples->choice != TEMPLATE_FIXED;
    const int64_t epochs = drawn ? trainer->epochs : 1, answers = examples->answers.count;
    const bool each = drawn && epochs > answers;
    int32_t *place = memory_array((size_t)examples->data.rows, sizeof *place, error);
    int status = place ? STATUS_OK : STATUS_MEMORY;
    for (int64_t number = 0; number < (each ? answers : epochs) && !status; number++) {
        struct epoch epoch;
        status = each ? epoch_build_answer(&epoch, examples, (int)number, error)
                      : epoch_build(&epoch, examples, (int)number, error);
        if (!status)
            status = epoch_collect(reference, &epoch, place, error);
        epoch_free(&epoch);
    }
    free(place);
    return status;
}

int reference_measure(struct trainer *trainer, int64_t *answers, struct batch_size *size, struct error *error)
{
    struct reference reference = {0};
    *answers = 0;
    *size = (struct batch_size){0};
    int status = trainer->method->reference_sums ? answers_collect(&reference, trainer, error) : STATUS_OK;
    for (size_t i = 0; i < reference.count && !status; i++)
        batch_group_size(&reference.entry[i].sequence, 1, false, size);
    *answers = (int64_t)reference.count;
    reference_free(&reference);
    return status;
}

/* ---- computing ---------------------------------------------------------------------------------------------------- */

/* Entries from `first` on that fit into a batch, each a group of its own; the first behind them. */
static size_t batch_take(const struct trainer *trainer, const struct reference *reference, size_t first)
{
    struct batch_size size = {0};
    size_t end = first;
    while (end < reference->count && (int64_t)(end - first) < trainer->max_sequences) {
        batch_group_size(&reference->entry[end].sequence, 1, false, &size);
        if (end > first && (size.rows > trainer->max_rows || size.targets > trainer->max_targets))
            break;
        end++;
    }
    return end;
}

static int batch_compute(struct trainer *trainer, struct reference *reference, size_t first, size_t end, double *sums,
                         struct error *error)
{
    const int count = (int)(end - first);
    struct batch_sequence *sequence = memory_array((size_t)count, sizeof *sequence, error);
    int32_t *begin = memory_array((size_t)count + 1, sizeof *begin, error);
    int status = sequence && begin ? STATUS_OK : STATUS_MEMORY;
    for (int i = 0; i < count && !status; i++) {
        sequence[i] = reference->entry[first + (size_t)i].sequence;
        begin[i + 1] = i + 1;
    }
    if (!status)
        status = batch_pack(&trainer->batch, &trainer->device, sequence, begin, count, false,
                            trainer->model.config.vocab_size, error);
    if (!status)
        status = model_forward(&trainer->model, &trainer->batch, error);
    const struct sequence_args sums_only = model_sequence_args(&trainer->model, &trainer->batch, trainer->totals);
    if (!status)
        status = device_run(&trainer->device, error, sequence_loss, &sums_only);
    if (!status)
        status = device_copy_out(&trainer->device, sums + first, trainer->model.head.logprob_sum,
                                 (size_t)count * sizeof *sums, error);
    free(sequence);
    free(begin);
    return status;
}

/* The batches are those of one rank, whichever rank has them: the sums have the same bits on any number of ranks. */
static int sums_compute(struct trainer *trainer, struct reference *reference, struct error *error)
{
    const struct world *world = &trainer->shards.world;
    double *sums = memory_array(reference->count, sizeof *sums, error);
    int status = sums ? STATUS_OK : STATUS_MEMORY, batch = 0;
    for (size_t first = 0, end; first < reference->count && !status; first = end) {
        end = batch_take(trainer, reference, first);
        if (batch++ % world->size == world->rank)
            status = batch_compute(trainer, reference, first, end, sums, error);
    }
    status = comm_agree(world->comm, status, error);
    if (!status)
        status = comm_sum(world->comm, sums, (int)reference->count, error);
    for (size_t i = 0; i < reference->count && !status; i++)
        reference->entry[i].sum = sums[i];
    free(sums);
    return status;
}

/* ---- the file ------------------------------------------------------------------------------------------------------ */

/* "reference-<checksum>.json" of all that the sums depend on. */
static int name_make(struct trainer *trainer, const struct reference *reference, char name[64], struct error *error)
{
    const struct model *model = &trainer->model;
    const char *commit = version_commit(), *engine = trainer->device.engine->name;
    const int64_t form[] = {model->dtype, model->logits_dtype, trainer->max_rows, trainer->max_targets,
                            trainer->max_sequences, trainer->batch.padded, model->head_chunk};
    struct checksum *all = checksum_open(error);
    if (!all)
        return STATUS_MEMORY;
    checksum_add(all, commit, strlen(commit));
    checksum_add(all, engine, strlen(engine));
    checksum_add(all, form, sizeof form);
    if (trainer->picks.lines.length)
        checksum_add(all, trainer->picks.lines.data, trainer->picks.lines.length);
    for (size_t i = 0; i < reference->count; i++)
        checksum_add(all, &reference->entry[i].key, sizeof reference->entry[i].key);
    struct model_arena arena[MODEL_ARENAS];
    model_arenas(model, arena);
    int status = STATUS_OK;
    for (int i = 0; i < MODEL_ARENAS && !status; i++)
        status = device_checksum(&trainer->device, arena[i].start, arena[i].bytes, all, error);
    if (!status && model->lora.modules)
        status = device_checksum(&trainer->device, model->lora.param,
                                 (size_t)model->lora.elements * dtype_size(model->dtype), all, error);
    snprintf(name, 64, "reference-%016llx.json", (unsigned long long)checksum_digest(all).xxh3);
    checksum_close(all);
    return status;
}

/* The folder; false: nothing is kept. */
static bool cache_find(const struct reference_options *options, char *folder, size_t bytes)
{
    if (!*options->reference_cache)
        return file_cache_folder(folder, bytes);
    snprintf(folder, bytes, "%s", options->reference_cache);
    return strcmp(folder, "none") != 0;
}

/* Whether the file is there and complete. */
static bool file_load(struct reference *reference, const char *path)
{
    struct error unused = {0};
    cJSON *tree = file_exists(path) ? json_read(path, &unused) : NULL;
    const cJSON *sums = tree ? json_member(tree, "sums") : NULL, *sum;
    const bool whole = cJSON_IsArray(sums) && (size_t)cJSON_GetArraySize(sums) == reference->count;
    size_t i = 0;
    if (whole)
        cJSON_ArrayForEach(sum, sums) reference->entry[i++].sum = sum->valuedouble;
    cJSON_Delete(tree);
    return whole;
}

static int file_keep(const struct reference *reference, const char *folder, const char *path, const char *model,
                     struct error *error)
{
    struct buffer text = {0};
    int status = buffer_printf(&text, error, "{\"model\": ");
    if (!status)
        status = json_print_string(model, strlen(model), &text, error);
    if (!status)
        status = buffer_printf(&text, error, ",\n \"sums\": [");
    for (size_t i = 0; i < reference->count && !status; i++)
        status = buffer_printf(&text, error, "%s%.17g", i ? ", " : "", reference->entry[i].sum);
    if (!status)
        status = buffer_printf(&text, error, "]}\n");
    if (!status)
        status = file_make_directory(folder, error);
    if (!status)
        status = file_write(path, text.data, text.length, error);
    buffer_free(&text);
    return status;
}

/* Rank 0 looks into its cache for all. */
static int sums_find(struct trainer *trainer, struct reference *reference, const char *path, bool *found,
                     struct error *error)
{
    const struct world *world = &trainer->shards.world;
    double *sums = memory_array(reference->count + 1, sizeof *sums, error);
    int status = comm_agree(world->comm, sums ? STATUS_OK : STATUS_MEMORY, error);
    if (!status && !world->rank) {
        sums[reference->count] = *path && file_load(reference, path);
        for (size_t i = 0; i < reference->count; i++)
            sums[i] = reference->entry[i].sum;
    }
    if (!status)
        status = comm_broadcast_host(world->comm, sums, (reference->count + 1) * sizeof *sums, 0, error);
    for (size_t i = 0; i < reference->count && !status; i++)
        reference->entry[i].sum = sums[i];
    *found = !status && sums[reference->count] != 0;
    free(sums);
    return status;
}

/* ------------------------------------------------------------------------------------------------------------------- */

int reference_prepare(struct trainer *trainer, struct error *error)
{
    struct reference *reference = &trainer->reference;
    const struct world *world = &trainer->shards.world;
    char folder[3072] = "", path[4096] = "", name[64];
    bool found;
    if (!trainer->method->reference_sums)
        return STATUS_OK;
    const double start = clock_seconds();
    const bool keeps = cache_find(&trainer->options->reference, folder, sizeof folder);
    int status = answers_collect(reference, trainer, error);
    if (!status && keeps && !world->rank)
        status = name_make(trainer, reference, name, error);
    if (!status && keeps && !world->rank)
        status = file_join(path, sizeof path, folder, name, error);
    status = comm_agree(world->comm, status, error);
    if (!status)
        status = sums_find(trainer, reference, path, &found, error);
    if (!status && !found)
        status = sums_compute(trainer, reference, error);
    if (status)
        return status;
    struct error unkept = {0};
    const int count = snprintf(reference->note, sizeof reference->note, "reference: %zu answers under the starting model, ",
                               reference->count);
    char *end = reference->note + count;
    const size_t room = sizeof reference->note - (size_t)count;
    if (found)
        snprintf(end, room, "from %.300s", path);
    else if (!keeps)
        snprintf(end, room, "in %.1f s", clock_seconds() - start);
    else if (!world->rank && file_keep(reference, folder, path, trainer->options->model.model_name_or_path, &unkept))
        snprintf(end, room, "in %.1f s, not kept for other runs: %.300s", clock_seconds() - start, unkept.text);
    else
        snprintf(end, room, "in %.1f s, kept in %.300s", clock_seconds() - start, path);
    return STATUS_OK;
}

void reference_apply(const struct reference *reference, struct epoch *epoch)
{
    for (int s = 0; reference->count && s < epoch->rows * epoch->per_row; s++) {
        struct batch_sequence *sequence = &epoch->sequence[s];
        if (has_sum(sequence))
            sequence->reference = reference->entry[reference->slot[slot_find(reference, key_of(sequence))]].sum;
    }
}

void reference_free(struct reference *reference)
{
    for (size_t i = 0; i < reference->count; i++)
        free((void *)reference->entry[i].sequence.ids);
    free(reference->entry);
    free(reference->slot);
    *reference = (struct reference){0};
}

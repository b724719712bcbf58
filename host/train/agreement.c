/* agreement.c - see agreement.h. */
#include "agreement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "../util/checksum.h"
#include "../util/file.h"
#include "../util/memory.h"
#include "../util/version.h"

enum { ITEMS = 9 };

/* What is compared, in the order of the comparison. */
struct item {
    const char *what;
    struct buffer text;
};

static int digest_describe(struct buffer *text, struct digest digest, struct error *error)
{
    return buffer_printf(text, error, "%lld bytes, xxh3 %016llx", (long long)digest.bytes, (unsigned long long)digest.xxh3);
}

static int file_in_describe(struct buffer *text, const char *directory, const char *name, struct error *error)
{
    char path[4096];
    struct digest digest;
    int status = file_join(path, sizeof path, directory, name, error);
    if (!status)
        status = checksum_file(path, &digest, error);
    return status ? status : digest_describe(text, digest, error);
}

/* The ids of the first epoch, with the border of every answer. */
static int tokens_describe(struct buffer *text, struct trainer *trainer, struct error *error)
{
    struct epoch epoch;
    int status = epoch_build(&epoch, &trainer->examples, 0, error);
    if (status)
        return status;
    XXH64_hash_t hash = 0;
    int64_t tokens = 0;
    for (int s = 0; s < epoch.rows * epoch.per_row; s++) {
        const struct batch_sequence *sequence = &epoch.sequence[s];
        hash = XXH3_64bits_withSeed(sequence->ids, (size_t)sequence->length * sizeof *sequence->ids,
                                    hash + (XXH64_hash_t)sequence->answer_begin);
        tokens += sequence->length;
    }
    epoch_free(&epoch);
    return buffer_printf(text, error, "%lld tokens, xxh3 %016llx", (long long)tokens, (unsigned long long)hash);
}

static int weights_describe(struct buffer *text, const struct trainer *trainer, struct error *error)
{
    const struct safetensors *source = &trainer->weights.source;
    int status = buffer_printf(text, error, "%d files, %d tensors", source->shards, source->tensors);
    for (int i = 0; i < source->shards && !status; i++) {
        int64_t bytes = 0;
        for (int t = 0; t < source->tensors; t++)
            bytes += source->tensor[t].shard == i ? (int64_t)source->tensor[t].bytes : 0;
        status = buffer_printf(text, error, ", %s %lld", source->shard_name[i], (long long)bytes);
    }
    return status;
}

/* What the adapters are, whichever files say so; their values are compared with the weights. */
static int adapters_describe(struct buffer *text, const struct lora *lora, struct error *error)
{
    struct checksum *modules = checksum_open(error);
    if (!modules)
        return STATUS_MEMORY;
    for (int i = 0; i < lora->modules; i++) {
        checksum_add(modules, &lora->module[i].tensor, sizeof lora->module[i].tensor);
        checksum_add(modules, &lora->module[i].a, sizeof lora->module[i].a);
        checksum_add(modules, &lora->module[i].b, sizeof lora->module[i].b);
        checksum_add(modules, &lora->module[i].scale, sizeof lora->module[i].scale);
    }
    const struct digest digest = checksum_digest(modules);
    checksum_close(modules);
    return buffer_printf(text, error, "rank %lld, scale %.17g, %d modules, xxh3 %016llx", (long long)lora->options.rank,
                         lora->scale, lora->modules, (unsigned long long)digest.xxh3);
}

/* This rank's texts. */
static int items_fill(struct item item[ITEMS], struct trainer *trainer, const char *config, struct error *error)
{
    const struct train_options *options = trainer->options;
    item[0].what = "version";
    item[1].what = "settings";
    item[2].what = trainer->data_path;
    item[3].what = "template.file";
    item[4].what = "config.json of the model";
    item[5].what = "tokens of the first epoch";
    item[6].what = "weights of the model";
    item[7].what = "adapter";
    item[8].what = "retain_data";
    int status = buffer_printf(&item[0].text, error, FLAT_VERSION " (%s)", version_commit());
    if (!status)
        status = buffer_append(&item[1].text, config, strlen(config), error);
    if (!status)
        status = digest_describe(&item[2].text, trainer->examples.data.digest, error);
    if (!status && trainer->examples.answers.count)
        status = digest_describe(&item[3].text, trainer->examples.answers.digest, error);
    if (!status && trainer->examples.retain.rows)
        status = digest_describe(&item[8].text, trainer->examples.retain.digest, error);
    if (!status)
        status = file_in_describe(&item[4].text, options->model.model_name_or_path, "config.json", error);
    if (!status)
        status = tokens_describe(&item[5].text, trainer, error);
    if (!status)
        status = weights_describe(&item[6].text, trainer, error);
    if (!status && trainer->model.lora.modules)
        status = adapters_describe(&item[7].text, &trainer->model.lora, error);
    return status;
}

int agreement_check(struct trainer *trainer, const char *config, struct error *error)
{
    struct comm *comm = trainer->shards.world.comm;
    struct item item[ITEMS] = {0};
    if (!comm)
        return STATUS_OK;
    int status = comm_agree(comm, items_fill(item, trainer, config, error), error);
    for (int i = 0; i < ITEMS && !status; i++)
        status = comm_check_equal(comm, item[i].what, item[i].text.data ? item[i].text.data : "", error);
    for (int i = 0; i < ITEMS; i++)
        buffer_free(&item[i].text);
    return status;
}

/* All bytes of an array on the device. */
static int arena_describe(char *text, size_t text_bytes, struct device *device, const void *arena, size_t bytes,
                          struct error *error)
{
    struct checksum *content = checksum_open(error);
    if (!content)
        return STATUS_MEMORY;
    int status = device_checksum(device, arena, bytes, content, error);
    if (!status)
        snprintf(text, text_bytes, "%zu bytes, xxh3 %016llx", bytes, (unsigned long long)checksum_digest(content).xxh3);
    checksum_close(content);
    return status;
}

int agreement_check_weights(struct trainer *trainer, struct error *error)
{
    struct comm *comm = trainer->shards.world.comm;
    const struct model *model = &trainer->model;
    struct model_arena arena[MODEL_ARENAS + 1];
    model_arenas(model, arena);
    arena[MODEL_ARENAS] = (struct model_arena){model->lora.param, (size_t)model->lora.elements * dtype_size(model->dtype)};
    int status = STATUS_OK;
    for (int i = 0; i <= MODEL_ARENAS && comm && !status; i++) {
        char text[64] = "";
        status = arena_describe(text, sizeof text, &trainer->device, arena[i].start, arena[i].bytes, error);
        status = comm_agree(comm, status, error);
        if (!status)
            status = comm_check_equal(comm, i == MODEL_ARENAS ? "adapters" : "weights of the model", text, error);
    }
    return status;
}

/* agreement.c - see agreement.h. */
#include "agreement.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "../util/checksum.h"
#include "../util/file.h"
#include "../util/memory.h"
#include "../util/version.h"

enum { ITEMS = 8 };

/* What is compared, in the order of the comparison. */
struct item {
    const char *what;
    struct buffer text;
};

static int file_describe(struct buffer *text, const char *path, struct error *error)
{
    int64_t bytes;
    uint64_t xxh3;
    int status = file_checksum(path, &bytes, &xxh3, error);
    return status ? status : buffer_printf(text, error, "%lld bytes, xxh3 %016llx", (long long)bytes,
                                           (unsigned long long)xxh3);
}

static int file_in_describe(struct buffer *text, const char *directory, const char *name, struct error *error)
{
    char path[4096];
    int status = file_join(path, sizeof path, directory, name, error);
    return status ? status : file_describe(text, path, error);
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
    int status = buffer_printf(&item[0].text, error, FLAT_VERSION " (%s)", version_commit());
    if (!status)
        status = buffer_append(&item[1].text, config, strlen(config), error);
    if (!status)
        status = file_describe(&item[2].text, trainer->data_path, error);
    if (!status && trainer->method->needs_template)
        status = file_describe(&item[3].text, options->template_.file, error);
    if (!status)
        status = file_in_describe(&item[4].text, options->model.model_name_or_path, "config.json", error);
    if (!status)
        status = tokens_describe(&item[5].text, trainer, error);
    if (!status)
        status = weights_describe(&item[6].text, trainer, error);
    if (!status && *options->model.adapter)
        status = file_in_describe(&item[7].text, options->model.adapter, "adapter_model.safetensors", error);
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

int agreement_check_weights(struct trainer *trainer, struct error *error)
{
    struct comm *comm = trainer->shards.world.comm;
    const struct model *model = &trainer->model;
    const struct {
        const char *what;
        const void *arena;
        int64_t elements;
    } part[] = {{"weights of the model", model->param, model->elements},
                {"adapters", model->lora.param, model->lora.elements}};
    int status = STATUS_OK;
    for (int i = 0; i < 2 && comm && !status; i++) {
        double sum_squares = 0;
        char text[64];
        status = device_run(&trainer->device, error, adamw_norm,
                            &((struct adamw_norm_args){.grad_dtype = model->dtype,
                                                       .n = part[i].elements,
                                                       .grad = part[i].arena,
                                                       .sum_squares = trainer->totals + SUM_SQUARES}));
        if (!status)
            status = device_copy_out(&trainer->device, &sum_squares, trainer->totals + SUM_SQUARES, sizeof sum_squares,
                                     error);
        snprintf(text, sizeof text, "sum of squares %.17g", sum_squares);
        status = comm_agree(comm, status, error);
        if (!status)
            status = comm_check_equal(comm, part[i].what, text, error);
    }
    return status;
}

/* weights.c - the files of a folder against the table of a model; see weights.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../util/file.h"
#include "../util/memory.h"
#include "weights_internal.h"

/* True when a name of the file is a name of the table, with or without the family's base prefix. */
static bool names_match(const struct family *family, const char *in_file, const char *in_table)
{
    size_t prefix = strlen(family->base_prefix);
    return !strcmp(in_file, in_table) ||
           (!strncmp(in_table, family->base_prefix, prefix) && !strcmp(in_file, in_table + prefix)) ||
           (!strncmp(in_file, family->base_prefix, prefix) && !strcmp(in_file + prefix, in_table));
}

const struct safetensors_tensor *weights_find(const struct weights *weights, const struct model *model, const char *name)
{
    const struct safetensors_tensor *found = safetensors_find(&weights->source, name);
    size_t prefix = strlen(model->config.family->base_prefix);
    char longer[256];
    if (!found && !strncmp(name, model->config.family->base_prefix, prefix))
        found = safetensors_find(&weights->source, name + prefix);
    snprintf(longer, sizeof longer, "%s%s", model->config.family->base_prefix, name);
    return found ? found : safetensors_find(&weights->source, longer);
}

static bool name_ignored(const struct family *family, const char *name)
{
    for (const char *const *suffix = family->ignored; *suffix; suffix++) {
        size_t length = strlen(name), tail = strlen(*suffix);
        if (length >= tail && !strcmp(name + length - tail, *suffix))
            return true;
    }
    return false;
}

int weights_file_shape(const struct model_tensor *tensor, int64_t shape[2])
{
    shape[0] = tensor->transposed ? tensor->cols : tensor->rows;
    shape[1] = tensor->transposed ? tensor->rows : tensor->cols;
    return tensor->cols ? 2 : 1;
}

static bool shape_matches(const struct model_tensor *want, const struct safetensors_tensor *have)
{
    int64_t shape[2];
    int dims = weights_file_shape(want, shape);
    return have->dims == dims && have->shape[0] == shape[0] && (dims == 1 || have->shape[1] == shape[1]);
}

static void shape_print(char *out, size_t bytes, int dims, const int64_t *shape)
{
    int used = snprintf(out, bytes, "[");
    for (int d = 0; d < dims && used > 0 && (size_t)used < bytes; d++)
        used += snprintf(out + used, bytes - (size_t)used, "%s%lld", d ? ", " : "", (long long)shape[d]);
    if (used > 0 && (size_t)used < bytes)
        snprintf(out + used, bytes - (size_t)used, "]");
}

#define COMPLAINTS_BYTES 600 /* of the one line that holds them */

/* Appends one complaint; when the line is full only the count goes on. */
static void complain(struct buffer *text, int *count, const char *format, const char *name, const char *detail)
{
    if ((*count)++ == 0 || text->length < COMPLAINTS_BYTES)
        (void)buffer_printf(text, &(struct error){0}, format, *count > 1 ? "; " : "", name, detail);
}

static void missing_and_misshaped(const struct weights *weights, const struct model *model, struct buffer *text,
                                  int *count)
{
    for (int i = 0; i < model->tensors; i++) {
        const struct model_tensor *want = &model->tensor[i];
        const struct safetensors_tensor *have = weights_find(weights, model, want->name);
        char detail[200], expected[80], found[80];
        if (!have) {
            complain(text, count, "%smissing %s%s", want->name, "");
            continue;
        }
        int64_t shape[2];
        int dims = weights_file_shape(want, shape);
        shape_print(expected, sizeof expected, dims, shape);
        shape_print(found, sizeof found, have->dims, have->shape);
        snprintf(detail, sizeof detail, " %s, expected %s", found, expected);
        if (!shape_matches(want, have))
            complain(text, count, "%s%s has shape%s", have->name, detail);
        else if (have->dtype > SAFETENSORS_BF16)
            complain(text, count, "%s%s is stored as %s", have->name, have->dtype_text);
    }
}

/* Fills tensor_of; a tied lm_head that the file carries as well belongs to the embedding. */
static void map_fill(struct weights *weights, const struct model *model, struct buffer *text, int *count)
{
    const struct family *family = model->config.family;
    for (int i = 0; i < weights->source.tensors; i++) {
        const struct safetensors_tensor *have = &weights->source.tensor[i];
        weights->tensor_of[i] = -1;
        const char *name = names_match(family, have->name, "lm_head.weight") && !model->config.untied
                               ? model->tensor[0].name
                               : have->name;
        for (int t = 0; t < model->tensors && weights->tensor_of[i] < 0; t++)
            if (names_match(family, name, model->tensor[t].name))
                weights->tensor_of[i] = t;
        if (weights->tensor_of[i] < 0 && !name_ignored(family, have->name))
            complain(text, count, "%sunexpected %s%s", have->name, "");
    }
}

/* transformers applies adapter files beside a model on loading; here an adapter is named by its option. */
static int adapter_refuse(const char *directory, struct error *error)
{
    char path[4096];
    int status = file_join(path, sizeof path, directory, "adapter_config.json", error);
    if (!status && file_exists(path))
        status = error_set(error, STATUS_INPUT, "%s: an adapter beside the model's weights, which transformers would apply; "
                           "move the adapter's files into a folder of their own, and give that to --adapter or leave it out", path);
    return status;
}

int weights_open(struct weights *weights, const struct model *model, const char *directory, struct error *error)
{
    *weights = (struct weights){0};
    int status = safetensors_open(&weights->source, directory, error);
    if (status)
        return status;
    status = adapter_refuse(directory, error);
    if (!status && model->config.head_kept)
        status = buffer_printf(&weights->warnings, error, "%s: config.json ties lm_head.weight to the embedding, but the "
                               "file's two differ: they are kept apart, as transformers does; set tie_word_embeddings to "
                               "false\n", directory);
    if (status) {
        weights_close(weights);
        return status;
    }
    weights->tensor_of = memory_array((size_t)weights->source.tensors, sizeof *weights->tensor_of, error);
    if (!weights->tensor_of) {
        weights_close(weights);
        return STATUS_MEMORY;
    }
    struct buffer text = {0};
    int count = 0;
    missing_and_misshaped(weights, model, &text, &count);
    map_fill(weights, model, &text, &count);
    if (count) {
        char total[40] = "";
        if (text.length >= COMPLAINTS_BYTES)
            snprintf(total, sizeof total, "; %d in all", count);
        status = error_set(error, STATUS_INPUT, "%s: the weights do not fit config.json: %s%s", directory,
                           text.data ? text.data : "", total);
        weights_close(weights);
    }
    buffer_free(&text);
    return status;
}

void weights_close(struct weights *weights)
{
    safetensors_close(&weights->source);
    free(weights->tensor_of);
    buffer_free(&weights->warnings);
    *weights = (struct weights){0};
}

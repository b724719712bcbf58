/* tied_head.c - a model whose config ties lm_head to the embedding, while its file holds another lm_head.weight: as
 * transformers does, the head is kept. Where the two are equal they are one tensor.
 *
 * Cost: nothing but the file's header where there is no such tensor; else both are read up to the first difference.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../io/safetensors/safetensors.h"
#include "../util/memory.h"
#include "family.h"
#include "tied_head.h"

#define PIECE (1 << 18) /* elements that are compared at a time */

/* With or without the family's base prefix. */
static const struct safetensors_tensor *find(const struct safetensors *file, const struct family *family, enum slot slot)
{
    const size_t prefix = strlen(family->base_prefix);
    for (const struct family_tensor *tensor = family->tensor; tensor->name; tensor++) {
        if (tensor->slot != slot)
            continue;
        const struct safetensors_tensor *found = safetensors_find(file, tensor->name);
        return found || strncmp(tensor->name, family->base_prefix, prefix) ? found
                                                                           : safetensors_find(file, tensor->name + prefix);
    }
    return NULL;
}

static int compare(const struct safetensors *file, const struct safetensors_tensor *a, const struct safetensors_tensor *b,
                   bool *equal, struct error *error)
{
    float *left = memory_array(PIECE, sizeof *left, error), *right = memory_array(PIECE, sizeof *right, error);
    int status = left && right ? STATUS_OK : STATUS_MEMORY;
    *equal = true;
    for (int64_t first = 0; first < a->elements && *equal && !status; first += PIECE) {
        const int64_t count = a->elements - first < PIECE ? a->elements - first : PIECE;
        status = safetensors_read_float(file, a, first, count, left, error);
        if (!status)
            status = safetensors_read_float(file, b, first, count, right, error);
        for (int64_t i = 0; i < count && *equal && !status; i++)
            *equal = left[i] == right[i];
    }
    free(left);
    free(right);
    return status;
}

/* Whether a folder has weights: one without has a config alone, and another format is for weights_open to refuse. */
static int weights_look(const char *directory, bool *are_there, struct error *error)
{
    static const char *const name[] = {"model.safetensors", "model.safetensors.index.json"};
    char path[4096];
    int status = STATUS_OK;
    for (int i = 0; i < 2 && !status; i++) {
        status = file_join(path, sizeof path, directory, name[i], error);
        *are_there |= !status && file_exists(path);
    }
    return status;
}

int tied_head_find(struct model_config *config, const char *directory, struct error *error)
{
    struct safetensors file;
    bool equal = true, are_there = false;
    int status = config->untied ? STATUS_OK : weights_look(directory, &are_there, error);
    if (status || !are_there)
        return status;
    status = safetensors_open(&file, directory, error);
    if (status)
        return status;
    const struct safetensors_tensor *head = find(&file, config->family, SLOT_HEAD_WEIGHT);
    const struct safetensors_tensor *embedding = find(&file, config->family, SLOT_EMBEDDING);
    if (head && embedding && head->dtype <= SAFETENSORS_BF16 && embedding->dtype <= SAFETENSORS_BF16 &&
        head->elements == embedding->elements)
        status = compare(&file, head, embedding, &equal, error);
    if (!status && !equal)
        config->untied = config->head_kept = true;
    safetensors_close(&file);
    return status;
}

/* combination.c - see combination.h. */
#include "combination.h"

#include <stdlib.h>
#include <string.h>

#include "../util/memory.h"
#include "weights_internal.h"

static int member_open(struct weights *weights, const struct model *model, const char *first, const char *directory,
                       struct error *error)
{
    struct model_config config;
    int status = model_config_read(&config, directory, error);
    if (status)
        return status;
    if (config.family != model->config.family)
        return error_set(error, STATUS_INPUT, "%s: model_type %s; expected %s, as %s is", directory,
                         config.family->model_type, model->config.family->model_type, first);
    if (config.untied != model->config.untied)
        return error_set(error, STATUS_INPUT, "%s: lm_head has weights %s, and in %s it has not: what is the sum of the two "
                         "is not defined", config.untied ? directory : first, "of its own",
                         config.untied ? first : directory);
    status = weights_open(weights, model, directory, error);
    return status ? error_prefix(error, "with the shapes of %s", first) : STATUS_OK;
}

int combination_open(struct combination *combination, const struct model *model, const char *directory,
                     const char *const *directories, int count, struct error *error)
{
    *combination = (struct combination){.first_weight = 1};
    combination->weights = memory_array((size_t)count + 1, sizeof *combination->weights, error);
    combination->weight = memory_array((size_t)count + 1, sizeof *combination->weight, error);
    combination->differs = memory_array((size_t)count + 1, sizeof *combination->differs, error);
    int status = combination->weights && combination->weight && combination->differs ? STATUS_OK : STATUS_MEMORY;
    for (int i = 0; i < count && !status; i++) {
        status = member_open(&combination->weights[i], model, directory, directories[i], error);
        combination->count += !status;
    }
    return status;
}

int combination_apply(const struct combination *combination, const struct model *model, int tensor, int64_t first,
                      int64_t count, float *values, struct error *error)
{
    float *base = memory_array((size_t)count, sizeof *base, error);
    float *other = memory_array((size_t)count, sizeof *other, error);
    int status = base && other ? STATUS_OK : STATUS_MEMORY;
    for (int64_t j = 0; j < count && !status; j++) {
        base[j] = values[j];
        values[j] *= combination->first_weight;
    }
    for (int i = 0; i < combination->count && !status; i++) {
        const struct weights *from = &combination->weights[i];
        const float weight = combination->weight[i];
        bool differs = false;
        status = safetensors_read_float(&from->source, weights_find(from, model, model->tensor[tensor].name), first, count,
                                        other, error);
        for (int64_t j = 0; j < count && !status; j++) {
            const float subtracted = combination->task_vectors ? base[j] : 0;
            differs |= other[j] != base[j];
            values[j] += weight * (other[j] - subtracted);
        }
        if (differs)
            atomic_store(&combination->differs[i], true);
    }
    free(base);
    free(other);
    return status;
}

void combination_close(struct combination *combination)
{
    for (int i = 0; i < combination->count; i++)
        weights_close(&combination->weights[i]);
    free(combination->weights);
    free(combination->weight);
    free(combination->differs);
    *combination = (struct combination){0};
}

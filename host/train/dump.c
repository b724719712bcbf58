/* dump.c - the first step as safetensors, so that anyone can check it against autograd.
 *
 *   batch-<i>.safetensors  of micro-batch i: ids, positions, target_row, target, sequence_begin and, for every answer
 *                          token, logprob, p and token_weight (c = dL/dlogprob; where distributions are compared, minus
 *                          what p - t of the row is scaled by)
 *   gradients.safetensors  dL/d(parameter) of the whole step under the parameters' names (PEFT's with LoRA), before
 *                          clipping
 *   step.json              loss, gradient norm and what else the log holds of this step
 */
#include <stdlib.h>
#include <string.h>

#include "../io/json/json.h"
#include "../model/adapter.h"
#include "../util/file.h"
#include "run_log.h"
#include "trainer.h"

/* Host arrays in the order of the entries. */
static int array_fill(void *user, int entry, uint64_t first_byte, uint64_t bytes, void *out, struct error *error)
{
    (void)error;
    const void *const *array = user;
    memcpy(out, (const char *)array[entry] + first_byte, bytes);
    return STATUS_OK;
}

int dump_micro_batch(const struct trainer *trainer, const char *directory, int micro_batch, struct error *error)
{
    const struct batch *batch = &trainer->batch;
    const struct head_activations *head = &trainer->model.head;
    const enum dtype stat = dtype_stat(trainer->model.dtype);
    const enum safetensors_dtype stored = stat == DTYPE_F64 ? SAFETENSORS_F64 : SAFETENSORS_F32;
    const size_t bytes = (size_t)batch->real_targets * dtype_size(stat), word = sizeof(int32_t);
    void *values[3] = {0};
    const void *from[3] = {head->logprob, head->p, head->row_scale};
    int status = STATUS_OK;
    for (int i = 0; i < 3 && !status; i++)
        if (!(values[i] = memory_array((size_t)batch->real_targets, dtype_size(stat), error)))
            status = STATUS_MEMORY;
        else
            status = device_copy_out((struct device *)&trainer->device, values[i], from[i], bytes, error);
    for (int i = 0; i < batch->real_targets && !status; i++) { /* row_scale is -c */
        if (stat == DTYPE_F64)
            ((double *)values[2])[i] *= -1;
        else
            ((float *)values[2])[i] *= -1;
    }
    const struct safetensors_entry entry[] = {
        {"ids", SAFETENSORS_I32, NULL, 1, {batch->real_rows}, (size_t)batch->real_rows * word},
        {"positions", SAFETENSORS_I32, NULL, 1, {batch->real_rows}, (size_t)batch->real_rows * word},
        {"target_row", SAFETENSORS_I32, NULL, 1, {batch->real_targets}, (size_t)batch->real_targets * word},
        {"target", SAFETENSORS_I32, NULL, 1, {batch->real_targets}, (size_t)batch->real_targets * word},
        {"sequence_begin", SAFETENSORS_I32, NULL, 1, {batch->sequences + 1}, ((size_t)batch->sequences + 1) * word},
        {"segments", SAFETENSORS_I32, NULL, 2, {batch->real_segments, 6}, (size_t)batch->real_segments * 6 * word},
        {"logprob", stored, NULL, 1, {batch->real_targets}, bytes},
        {"p", stored, NULL, 1, {batch->real_targets}, bytes},
        {"token_weight", stored, NULL, 1, {batch->real_targets}, bytes},
    };
    const void *array[] = {batch->host.ids, batch->host.positions, batch->host.target_row, batch->host.target,
                           batch->host.sequence_begin, batch->host.segment, values[0], values[1], values[2]};
    char name[64], path[4096];
    snprintf(name, sizeof name, "batch-%d.safetensors", micro_batch);
    if (!status)
        status = file_make_directory(directory, error);
    if (!status)
        status = file_join(path, sizeof path, directory, name, error);
    if (!status)
        status = safetensors_write(path, entry, (int)(sizeof entry / sizeof *entry), array_fill, (void *)array, error);
    for (int i = 0; i < 3; i++)
        free(values[i]);
    return status;
}

static int gradient_fill(void *user, int entry, uint64_t first_byte, uint64_t bytes, void *out, struct error *error)
{
    return tensor_read(user, entry, (int64_t)(first_byte / sizeof(float)), (int64_t)(bytes / sizeof(float)), out, error);
}

static int adapter_gradients_write(struct model *model, const char *path, struct error *error)
{
    struct adapter gradients;
    int status = adapter_read_back(&gradients, model, model->lora.grad, error);
    if (status)
        return status;
    status = adapter_write(&gradients, model, path, error);
    adapter_free(&gradients);
    return status;
}

static int gradients_write(struct model *model, const char *path, struct error *error)
{
    struct tensor_reader reader = {.model = model, .arena = model->grad};
    struct safetensors_entry *entry = memory_array((size_t)model->tensors, sizeof *entry, error);
    int status = entry ? STATUS_OK : STATUS_MEMORY;
    for (int i = 0; i < model->tensors && !status; i++) {
        const struct model_tensor *tensor = &model->tensor[i];
        int64_t count = tensor->rows * (tensor->cols ? tensor->cols : 1), first = tensor->rows, second = tensor->cols;
        if (tensor->transposed)
            first = tensor->cols, second = tensor->rows;
        entry[i] = (struct safetensors_entry){tensor->name, SAFETENSORS_F32, NULL, tensor->cols ? 2 : 1, {first, second},
                                              (uint64_t)count * sizeof(float)};
    }
    if (!status)
        status = safetensors_write(path, entry, model->tensors, gradient_fill, &reader, error);
    tensor_reader_free(&reader);
    free(entry);
    return status;
}

int dump_gradients(struct trainer *trainer, const char *directory, const struct step_record *record, struct error *error)
{
    struct model *model = &trainer->model;
    char path[4096];
    int status = file_join(path, sizeof path, directory, "gradients.safetensors", error);
    if (!status)
        status = model->lora.options.rank ? adapter_gradients_write(model, path, error) : gradients_write(model, path, error);
    struct buffer text = {0};
    if (!status)
        status = step_record_print(record, trainer, &text, error);
    if (!status)
        status = file_join(path, sizeof path, directory, "step.json", error);
    if (!status)
        status = file_write(path, text.data, text.length, error);
    buffer_free(&text);
    return status;
}

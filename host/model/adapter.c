/* adapter.c - see adapter.h. The folder's config and card are in adapter_config.c. */
#include "adapter.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../util/file.h"
#include "../util/memory.h"
#include "adapter_config.h"
#include "weights.h"

#define NAME_BYTES 256

/* The tensor of the file that holds A (half 0) or B (half 1) of a module. */
struct half {
    char name[NAME_BYTES];
    int64_t rows, cols, offset; /* offset in the adapter's values */
};

static struct half half_of(const struct lora *lora, const struct model *model, int half_index)
{
    const struct lora_module *module = &lora->module[half_index / 2];
    const struct model_tensor *tensor = &model->tensor[module->tensor];
    const bool is_b = half_index % 2;
    struct half half = {.rows = is_b ? tensor->rows : module->rank,
                        .cols = is_b ? module->rank : tensor->cols,
                        .offset = is_b ? module->b : module->a};
    snprintf(half.name, sizeof half.name, "base_model.model.%.*s.lora_%c.weight",
             (int)(strlen(tensor->name) - strlen(".weight")), tensor->name, is_b ? 'B' : 'A');
    return half;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

#define COMPLAINTS_BYTES 600 /* of the one line that holds them */

/* Appends one complaint; when the line is full only the count goes on. */
static void complain(struct buffer *text, int *count, const char *name, const char *what)
{
    if ((*count)++ == 0 || text->length < COMPLAINTS_BYTES)
        (void)buffer_printf(text, &(struct error){0}, "%s%s %s", *count > 1 ? "; " : "", name, what);
}

static void tensors_check(const struct adapter *adapter, const struct model *model, const struct safetensors *file,
                          struct buffer *text, int *count)
{
    const int halves = 2 * adapter->lora.modules;
    int found = 0;
    for (int i = 0; i < halves; i++) {
        const struct half want = half_of(&adapter->lora, model, i);
        const struct safetensors_tensor *have = safetensors_find(file, want.name);
        char detail[160];
        found += have != NULL;
        if (!have) {
            complain(text, count, want.name, "is missing");
        } else if (have->dims != 2 || have->shape[0] != want.rows || have->shape[1] != want.cols) {
            snprintf(detail, sizeof detail, "has %d dimensions and %lld elements, expected [%lld, %lld]", have->dims,
                     (long long)have->elements, (long long)want.rows, (long long)want.cols);
            complain(text, count, want.name, detail);
        } else if (have->dtype > SAFETENSORS_BF16) {
            snprintf(detail, sizeof detail, "is stored as %s, expected floating-point numbers", have->dtype_text);
            complain(text, count, want.name, detail);
        }
    }
    for (int i = 0; i < file->tensors && found < file->tensors; i++) {
        bool known = false;
        for (int h = 0; h < halves && !known; h++) {
            const struct half want = half_of(&adapter->lora, model, h);
            known = !strcmp(file->tensor[i].name, want.name);
        }
        if (!known)
            complain(text, count, file->tensor[i].name, "is not expected");
    }
}

static int tensors_read(struct adapter *adapter, const struct model *model, const char *path, struct error *error)
{
    struct safetensors file;
    struct buffer text = {0};
    int count = 0, status = safetensors_open_file(&file, path, error);
    if (status)
        return status;
    tensors_check(adapter, model, &file, &text, &count);
    char total[40] = "";
    if (text.length >= COMPLAINTS_BYTES)
        snprintf(total, sizeof total, "; %d in all", count);
    if (count)
        status = error_set(error, STATUS_INPUT, "%s: does not fit the model and adapter_config.json: %s%s", path,
                           text.data ? text.data : "", total);
    for (int i = 0; i < 2 * adapter->lora.modules && !status; i++) {
        const struct half half = half_of(&adapter->lora, model, i);
        status = safetensors_read_float(&file, safetensors_find(&file, half.name), 0, half.rows * half.cols,
                                        adapter->value + half.offset, error);
    }
    buffer_free(&text);
    safetensors_close(&file);
    return status;
}

static int values_create(struct adapter *adapter, const struct model *model, const struct lora_options *options,
                         struct error *error)
{
    int status = lora_create(&adapter->lora, model, options, error);
    if (!status && !(adapter->value = memory_array((size_t)adapter->lora.elements, sizeof *adapter->value, error)))
        status = STATUS_MEMORY;
    return status;
}

/* adapter_model.bin is what PEFT wrote before safetensors. */
static int pickle_refuse(const char *directory, struct error *error)
{
    char path[4096], pickle[4096];
    int status = file_join(path, sizeof path, directory, "adapter_model.safetensors", error);
    if (!status)
        status = file_join(pickle, sizeof pickle, directory, "adapter_model.bin", error);
    if (!status && !file_exists(path) && file_exists(pickle))
        status = error_set(error, STATUS_INPUT, "%s: a pickle is not read, because it may hold a program; load the adapter with "
                           "PEFT and save it anew, as adapter_model.safetensors", pickle);
    return status;
}

int adapter_open(struct adapter *adapter, const struct model *model, const char *directory, struct error *error)
{
    char path[4096];
    struct lora_options options;
    *adapter = (struct adapter){0};
    int status = adapter_config_read(&options, model, directory, &adapter->warnings, error);
    if (!status && (status = values_create(adapter, model, &options, error))) {
        if (status == STATUS_USAGE) /* what is wrong stands in a file here */
            status = error->status = STATUS_INPUT;
        error_prefix(error, "%s/adapter_config.json", directory);
    }
    lora_options_free(&options);
    if (!status)
        status = pickle_refuse(directory, error);
    if (!status)
        status = file_join(path, sizeof path, directory, "adapter_model.safetensors", error);
    if (!status)
        status = tensors_read(adapter, model, path, error);
    if (status)
        adapter_free(adapter);
    return status;
}

void adapter_free(struct adapter *adapter)
{
    lora_free(&adapter->lora);
    free(adapter->value);
    buffer_free(&adapter->warnings);
    *adapter = (struct adapter){0};
}

/* ---- between host and device ------------------------------------------------------------------------------------- */

int adapter_read_back(struct adapter *adapter, struct model *model, const void *arena, struct error *error)
{
    *adapter = (struct adapter){0};
    int status = values_create(adapter, model, &model->lora.options, error);
    if (!status)
        status = weights_read_back(model, arena, 0, adapter->lora.elements, adapter->value, error);
    if (status)
        adapter_free(adapter);
    return status;
}

int adapter_upload(const struct adapter *adapter, struct model *model, struct error *error)
{
    return weights_write(model, model->lora.param, 0, adapter->lora.elements, adapter->value, error);
}

void adapter_add(const struct adapter *adapter, const struct model *model, int tensor, int64_t first, int64_t count,
                 float *out)
{
    const struct lora_module *module = lora_find(&adapter->lora, tensor);
    const struct model_tensor *from = &model->tensor[tensor];
    if (!module)
        return;
    const int64_t rank = module->rank, in = from->cols;
    const int64_t cols = from->transposed ? from->rows : in; /* of the tensor as the file has it */
    const float *a = adapter->value + module->a, *b = adapter->value + module->b;
    const float scale = (float)module->scale;
    for (int64_t i = first / cols, j = first % cols; count > 0; i++, j = 0)
        for (; j < cols && count > 0; j++, count--) {
            const float *b_row = b + (from->transposed ? j : i) * rank, *a_col = a + (from->transposed ? i : j);
            float sum = 0;
            for (int64_t k = 0; k < rank; k++)
                sum += b_row[k] * a_col[k * in];
            *out++ += scale * sum;
        }
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

struct writing {
    const struct adapter *adapter;
    const struct half *half;
    bool finite; /* refuse others */
};

static int half_fill(void *user, int entry, uint64_t first_byte, uint64_t bytes, void *out, struct error *error)
{
    const struct writing *writing = user;
    const float *value = writing->adapter->value + writing->half[entry].offset + first_byte / sizeof(float);
    for (uint64_t i = 0; i < bytes / sizeof(float); i++)
        if (writing->finite && !isfinite(value[i]))
            return error_set(error, STATUS_NONFINITE, "tensor \"%.200s\": has values that are not finite; nothing was saved",
                             writing->half[entry].name);
    memcpy(out, value, bytes);
    return STATUS_OK;
}

/* The tensors into an open writer. finite: refuses others. */
static int tensors_write(const struct adapter *adapter, const struct model *model, const char *run_id, bool finite,
                         struct file_writer *writer, struct error *error)
{
    const int halves = 2 * adapter->lora.modules;
    struct half *half = memory_array((size_t)halves, sizeof *half, error);
    struct safetensors_entry *entry = memory_array((size_t)halves, sizeof *entry, error);
    int status = half && entry ? STATUS_OK : STATUS_MEMORY;
    for (int i = 0; i < halves && !status; i++) {
        half[i] = half_of(&adapter->lora, model, i);
        entry[i] = (struct safetensors_entry){half[i].name, SAFETENSORS_F32, NULL, 2, {half[i].rows, half[i].cols},
                                              (uint64_t)(half[i].rows * half[i].cols) * sizeof(float)};
    }
    struct writing writing = {adapter, half, finite};
    if (!status)
        status = safetensors_write_to(writer, run_id, entry, halves, half_fill, &writing, error);
    free(entry);
    free(half);
    return status;
}

int adapter_write(const struct adapter *adapter, const struct model *model, const char *path, struct error *error)
{
    struct file_writer writer;
    int status = file_writer_open(&writer, path, FILE_MODE, error);
    if (!status)
        status = tensors_write(adapter, model, NULL, false, &writer, error);
    if (!status)
        status = file_writer_commit(&writer, error);
    file_writer_abort(&writer);
    return status;
}

int adapter_save_into(const struct adapter *adapter, const struct model *model, const char *base, const char *run_id,
                      struct folder *folder, struct error *error)
{
    static const char name[] = "adapter_model.safetensors";
    struct file_writer writer;
    int status = folder_file_begin(folder, name, FILE_MODE, &writer, error);
    if (status)
        return status;
    status = tensors_write(adapter, model, run_id, true, &writer, error);
    if (status) {
        error_prefix(error, "%s", name);
        file_writer_abort(&writer);
        return status;
    }
    status = folder_file_end(folder, name, &writer, error);
    return status ? status : adapter_config_write(&adapter->lora, model, base, folder, error);
}

int adapter_save(const struct adapter *adapter, const struct model *model, const char *base, const char *out_directory,
                 struct error *error)
{
    struct folder folder;
    int status = folder_begin(&folder, out_directory, FOLDER_MODE, error);
    if (!status)
        status = adapter_save_into(adapter, model, base, NULL, &folder, error);
    if (!status)
        status = folder_publish(&folder, FOLDER_KEEP_FOREIGN, NULL, error);
    folder_abandon(&folder);
    return status;
}

/* weights_save.c - the arena's weights into a folder like the one they came from; see weights.h. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../io/json/json.h"
#include "../util/float16.h"
#include "../util/memory.h"
#include "adapter.h"
#include "companions.h"
#include "weights_internal.h"

/* One file of the output: which tensors go into it, and as what. */
struct save {
    const struct weights *weights;
    struct model *model;
    bool as_read;
    enum safetensors_dtype dtype; /* unless as_read */
    const struct safetensors_entry *entry;
    const int *source_of; /* entry -> tensor of the source, or NULL when made from scratch */
    struct tensor_reader reader;
    float *piece, *before;
    struct save_report *report;
};

static const struct {
    const char *name;
    enum safetensors_dtype dtype;
} names[] = {{"float32", SAFETENSORS_F32}, {"bfloat16", SAFETENSORS_BF16}, {"float16", SAFETENSORS_F16}};
enum { NAMES = sizeof names / sizeof *names };

static const char *dtype_text(enum safetensors_dtype dtype)
{
    for (int i = 0; i < NAMES; i++)
        if (names[i].dtype == dtype)
            return names[i].name;
    return "float64";
}

static bool is_half(enum safetensors_dtype dtype)
{
    return dtype == SAFETENSORS_F16 || dtype == SAFETENSORS_BF16;
}

static uint64_t element_bytes(enum safetensors_dtype dtype)
{
    return dtype == SAFETENSORS_F64 ? 8 : dtype == SAFETENSORS_F32 ? 4 : 2;
}

double save_report_survives(const struct save_report *report)
{
    return report->change_squares > 0 ? fmin(1, report->change_kept / report->change_squares) : 1;
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

/* Values as they are stored; how many are not finite there. */
static int64_t values_store(const float *value, int64_t count, enum safetensors_dtype dtype, void *out)
{
    int64_t bad = 0;
    for (int64_t i = 0; i < count; i++) {
        bool finite = isfinite(value[i]);
        if (dtype == SAFETENSORS_F64) {
            ((double *)out)[i] = value[i];
        } else if (dtype == SAFETENSORS_F32) {
            ((float *)out)[i] = value[i];
        } else if (dtype == SAFETENSORS_F16) {
            ((uint16_t *)out)[i] = f16_from_float(value[i]);
            finite = (((uint16_t *)out)[i] & 0x7c00) != 0x7c00;
        } else {
            ((uint16_t *)out)[i] = bf16_from_float(value[i]);
            finite = (((uint16_t *)out)[i] & 0x7f80) != 0x7f80;
        }
        bad += !finite;
    }
    return bad;
}

static float half_rounded(enum safetensors_dtype dtype, float value)
{
    return dtype == SAFETENSORS_F16 ? float_from_f16(f16_from_float(value)) : float_from_bf16(bf16_from_float(value));
}

/* What rounding both leaves of the change from before to value. */
static void change_count(struct save_report *report, enum safetensors_dtype dtype, const float *before, const float *value,
                         int64_t count)
{
    double squares = 0, kept = 0;
    for (int64_t i = 0; i < count; i++) {
        const double change = (double)value[i] - before[i];
        squares += change * change;
        kept += ((double)half_rounded(dtype, value[i]) - half_rounded(dtype, before[i])) * change;
    }
    report->change_squares += squares;
    report->change_kept += kept;
    report->dtype = dtype_text(dtype);
}

static int nonfinite(const struct save *save, int entry, const float *value, int64_t count, int64_t bad,
                     struct error *error)
{
    const enum safetensors_dtype dtype = save->entry[entry].dtype;
    int64_t in_float = 0;
    for (int64_t i = 0; i < count; i++)
        in_float += !isfinite(value[i]);
    return error_set(error, STATUS_NONFINITE, "tensor \"%.200s\": %lld of %lld values are not finite in %s%s; nothing was "
                     "saved", save->entry[entry].name, (long long)bad, (long long)count, dtype_text(dtype),
                     in_float < bad ? ", though they are in float32, which --save_dtype float32 keeps" : "");
}

/* Elements [first, first + count), at most WEIGHTS_PIECE of them, of tensor t of the model. */
static int piece_store(struct save *save, int entry, int t, int64_t first, int64_t count, void *out, struct error *error)
{
    const struct weights *weights = save->weights;
    const struct safetensors_tensor *from = save->source_of ? &weights->source.tensor[save->source_of[entry]] : NULL;
    const enum safetensors_dtype dtype = save->entry[entry].dtype;
    const bool measured = from && is_half(dtype) && save->report;
    int status = from && (weights->adapter || weights->combination || weights->quantizer)
                     ? weights_source_read(weights, save->model, t, from, first, count, save->piece, error)
                     : tensor_read(&save->reader, t, first, count, save->piece, error);
    if (!status && measured)
        status = safetensors_read_float(&weights->source, from, first, count, save->before, error);
    if (status)
        return status;
    const int64_t bad = values_store(save->piece, count, dtype, out);
    if (measured)
        change_count(save->report, dtype, save->before, save->piece, count);
    return bad ? nonfinite(save, entry, save->piece, count, bad, error) : STATUS_OK;
}

static int entry_fill(void *user, int entry, uint64_t first_byte, uint64_t bytes, void *out, struct error *error)
{
    struct save *save = user;
    const struct weights *weights = save->weights;
    const struct safetensors_tensor *from = save->source_of ? &weights->source.tensor[save->source_of[entry]] : NULL;
    const int t = from ? weights->tensor_of[save->source_of[entry]] : entry;
    const bool untouched = t < 0 || (from && weights->adapter && !lora_find(&weights->adapter->lora, t));
    if (untouched && save->entry[entry].dtype == from->dtype)
        return safetensors_read_bytes(&weights->source, from, first_byte, bytes, out, error);
    const uint64_t size = element_bytes(save->entry[entry].dtype);
    int64_t first = (int64_t)(first_byte / size), left = (int64_t)(bytes / size), done = 0;
    for (int status = STATUS_OK; left; left -= done, first += done, out = (char *)out + (uint64_t)done * size) {
        done = left < WEIGHTS_PIECE ? left : WEIGHTS_PIECE;
        status = piece_store(save, entry, t, first, done, out, error);
        if (status)
            return status;
    }
    return STATUS_OK;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

/* How a tensor of the source is written: only weights are converted. */
static struct safetensors_entry entry_of(const struct save *save, int index)
{
    const struct safetensors_tensor *from = &save->weights->source.tensor[index];
    struct safetensors_entry entry = {from->name, from->dtype, from->dtype_text, from->dims, {0}, from->bytes};
    memcpy(entry.shape, from->shape, sizeof from->shape);
    if (!save->as_read && save->weights->tensor_of[index] >= 0) {
        entry.dtype = save->dtype;
        entry.dtype_text = NULL;
        entry.bytes = (uint64_t)from->elements * element_bytes(save->dtype);
    }
    return entry;
}

static struct safetensors_entry entry_made(const struct save *save, int index)
{
    static const enum safetensors_dtype stored[] = {[DTYPE_F32] = SAFETENSORS_F32, [DTYPE_BF16] = SAFETENSORS_BF16,
                                                    [DTYPE_F16] = SAFETENSORS_F16};
    const struct model_tensor *tensor = &save->model->tensor[index];
    const enum safetensors_dtype dtype = save->as_read ? stored[save->model->config.torch_dtype] : save->dtype;
    struct safetensors_entry entry = {.name = tensor->name, .dtype = dtype};
    entry.bytes = (uint64_t)(tensor->rows * (tensor->cols ? tensor->cols : 1)) * element_bytes(dtype);
    entry.dims = weights_file_shape(tensor, entry.shape);
    return entry;
}

static int shard_save(struct save *save, int shard, const char *run_id, struct file_writer *writer, struct error *error)
{
    const struct safetensors *source = &save->weights->source;
    const int most = source->tensors ? source->tensors : save->model->tensors;
    int entries = 0;
    struct safetensors_entry *entry = memory_array((size_t)most, sizeof *entry, error);
    int *source_of = memory_array((size_t)most, sizeof *source_of, error);
    int status = entry && source_of ? STATUS_OK : STATUS_MEMORY;
    for (int i = 0; i < most && !status; i++) {
        if (source->tensors && source->tensor[i].shard != shard)
            continue;
        source_of[entries] = i;
        entry[entries++] = source->tensors ? entry_of(save, i) : entry_made(save, i);
    }
    save->entry = entry;
    save->source_of = source->tensors ? source_of : NULL;
    if (!status)
        status = safetensors_write_to(writer, run_id, entry, entries, entry_fill, save, error);
    free(source_of);
    free(entry);
    return status;
}

/* A weights file of the folder, in a mode no wider than that of the file it comes from. */
static int file_save(struct save *save, int shard, const char *directory, const char *run_id, struct folder *folder,
                     struct error *error)
{
    const struct safetensors *source = &save->weights->source;
    const char *name = source->tensors ? source->shard_name[shard] : "model.safetensors";
    char from[FOLDER_PATH_BYTES];
    struct file_writer writer;
    struct stat info;
    int status = file_join(from, sizeof from, directory, source->tensors ? name : "config.json", error);
    const mode_t mode = !status && !stat(from, &info) ? file_copy_mode(info.st_mode) : FILE_MODE;
    if (!status)
        status = folder_file_begin(folder, name, mode, &writer, error);
    if (status)
        return status;
    status = shard_save(save, shard, run_id, &writer, error);
    if (status)
        error_prefix(error, "%s", name);
    if (!status)
        return folder_file_end(folder, name, &writer, error);
    file_writer_abort(&writer);
    return status;
}

/* The shards' index; where tensors are written in another type, with their new size in it. */
static int index_save(const struct save *save, const char *directory, struct folder *folder, struct error *error)
{
    const struct safetensors *source = &save->weights->source;
    char from[FOLDER_PATH_BYTES];
    double bytes = 0;
    struct stat info = {.st_mode = FILE_MODE};
    int status = file_join(from, sizeof from, directory, source->index_name, error);
    if (!status && stat(from, &info))
        status = error_set(error, STATUS_INPUT, "%s: cannot be read: %s", from, strerror(errno));
    if (status || save->as_read)
        return status ? status : folder_copy(folder, from, source->index_name, error);
    for (int i = 0; i < source->tensors; i++)
        bytes += (double)entry_of(save, i).bytes;
    cJSON *json = json_read(from, error);
    struct buffer text = {0};
    status = json ? STATUS_OK : error->status;
    cJSON *metadata = json ? cJSON_GetObjectItemCaseSensitive(json, "metadata") : NULL;
    if (cJSON_IsObject(metadata)) {
        cJSON_DeleteItemFromObjectCaseSensitive(metadata, "total_size");
        if (!json_add_number(metadata, "total_size", bytes))
            status = error_set(error, STATUS_MEMORY, "out of host memory while writing %s", source->index_name);
    }
    if (!status)
        status = json_print_pretty(json, &text, error);
    if (!status)
        status = folder_write(folder, source->index_name, file_copy_mode(info.st_mode), text.data, text.length, error);
    buffer_free(&text);
    cJSON_Delete(json);
    return status;
}

int weights_save_into(const struct weights *weights, struct model *model, const char *directory,
                      const struct save_options *options, struct folder *folder, struct save_report *report,
                      struct error *error)
{
    const char *dtype = options && options->dtype && strcmp(options->dtype, "as_read") ? options->dtype : NULL;
    struct save save = {.weights = weights, .model = model, .as_read = !dtype, .report = report,
                        .reader = {.model = model, .arena = model->param}};
    if (report)
        *report = (struct save_report){0};
    for (int i = 0; dtype && i < NAMES; i++)
        if (!strcmp(names[i].name, dtype))
            save.dtype = names[i].dtype;
    save.piece = memory_array(WEIGHTS_PIECE, sizeof *save.piece, error);
    save.before = memory_array(WEIGHTS_PIECE, sizeof *save.before, error);
    int status = save.piece && save.before ? companions_copy(directory, dtype, folder, error) : STATUS_MEMORY;
    const int shards = weights->source.tensors ? weights->source.shards : 1;
    if (!status && weights->source.index_name)
        status = index_save(&save, directory, folder, error);
    for (int shard = 0; shard < shards && !status; shard++)
        status = file_save(&save, shard, directory, options ? options->run_id : NULL, folder, error);
    tensor_reader_free(&save.reader);
    free(save.piece);
    free(save.before);
    return status;
}

int weights_save(const struct weights *weights, struct model *model, const char *directory, const char *out_directory,
                 const struct save_options *options, struct error *error)
{
    struct folder folder;
    int status = folder_begin(&folder, out_directory, companions_mode(directory), error);
    if (!status)
        status = weights_save_into(weights, model, directory, options, &folder, NULL, error);
    if (!status)
        status = folder_publish(&folder, FOLDER_KEEP_FOREIGN, NULL, error);
    folder_abandon(&folder);
    return status;
}

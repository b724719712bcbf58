/* weights.c - see weights.h. */
#include "weights.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../util/file.h"
#include "../util/memory.h"
#include "../util/read_ahead.h"
#include "adapter.h"

#define PIECE (1 << 20) /* elements moved at a time */

/* True when a name of the file is a name of the table, with or without the family's base prefix. */
static bool names_match(const struct family *family, const char *in_file, const char *in_table)
{
    size_t prefix = strlen(family->base_prefix);
    return !strcmp(in_file, in_table) ||
           (!strncmp(in_table, family->base_prefix, prefix) && !strcmp(in_file, in_table + prefix)) ||
           (!strncmp(in_file, family->base_prefix, prefix) && !strcmp(in_file + prefix, in_table));
}

/* The tensor of the file that holds a tensor of the table, or NULL. */
static const struct safetensors_tensor *file_tensor(const struct weights *weights, const struct model *model,
                                                    const char *name)
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

/* Dimensions of a tensor as its file has them. */
static int file_shape(const struct model_tensor *tensor, int64_t shape[2])
{
    shape[0] = tensor->transposed ? tensor->cols : tensor->rows;
    shape[1] = tensor->transposed ? tensor->rows : tensor->cols;
    return tensor->cols ? 2 : 1;
}

static bool shape_matches(const struct model_tensor *want, const struct safetensors_tensor *have)
{
    int64_t shape[2];
    int dims = file_shape(want, shape);
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
        (void)buffer_printf(text, NULL, format, *count > 1 ? "; " : "", name, detail);
}

static void missing_and_misshaped(const struct weights *weights, const struct model *model, struct buffer *text,
                                  int *count)
{
    for (int i = 0; i < model->tensors; i++) {
        const struct model_tensor *want = &model->tensor[i];
        const struct safetensors_tensor *have = file_tensor(weights, model, want->name);
        char detail[200], expected[80], found[80];
        if (!have) {
            complain(text, count, "%smissing %s%s", want->name, "");
            continue;
        }
        int64_t shape[2];
        int dims = file_shape(want, shape);
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

int weights_open(struct weights *weights, const struct model *model, const char *directory, struct error *error)
{
    *weights = (struct weights){0};
    int status = safetensors_open(&weights->source, directory, error);
    if (status)
        return status;
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
    *weights = (struct weights){0};
}

/* Copies what a shard and elements [offset, offset + count) of the arena have in common, into its master weights or out
 * of them. */
static int master_copy(struct model *model, const struct model_shard *shard, int64_t offset, int64_t count,
                       const float *in, float *out, struct error *error)
{
    const int64_t from = offset > shard->offset ? offset : shard->offset;
    const int64_t end = offset + count < shard->offset + shard->count ? offset + count : shard->offset + shard->count;
    if (from >= end)
        return STATUS_OK;
    float *master = model->master.value + shard->state + (from - shard->offset);
    const size_t bytes = (size_t)(end - from) * sizeof(float);
    return in ? device_copy_in(model->device, master, in + (from - offset), bytes, error)
              : device_copy_out(model->device, out + (from - offset), master, bytes, error);
}

static bool has_master(const struct model *model, const void *arena)
{
    return model->master.value && arena == model_trainable(model).param;
}

int weights_write(struct model *model, void *arena, int64_t offset, int64_t count, const float *values,
                  struct error *error)
{
    char *to = (char *)arena + (size_t)offset * dtype_size(model->dtype);
    for (int i = 0; i < model->master.shards && has_master(model, arena); i++) {
        int status = master_copy(model, &model->master.shard[i], offset, count, values, NULL, error);
        if (status)
            return status;
    }
    if (model->dtype == DTYPE_F32)
        return device_copy_in(model->device, to, values, (size_t)count * sizeof(float), error);
    void *converted = memory_array((size_t)count, dtype_size(model->dtype), error);
    if (!converted)
        return STATUS_MEMORY;
    for (int64_t i = 0; i < count; i++) {
        if (model->dtype == DTYPE_F64)
            ((double *)converted)[i] = values[i];
        else
            ((uint16_t *)converted)[i] = bf16_from_float(values[i]);
    }
    int status = device_copy_in(model->device, to, converted, (size_t)count * dtype_size(model->dtype), error);
    free(converted);
    return status;
}

int weights_read_back(struct model *model, const void *arena, int64_t offset, int64_t count, float *out,
                      struct error *error)
{
    int status = STATUS_OK;
    if (has_master(model, arena)) {
        if (model->master.gather)
            return model->master.gather(model->master.user, offset, count, out, error);
        for (int i = 0; i < model->master.shards && !status; i++)
            status = master_copy(model, &model->master.shard[i], offset, count, NULL, out, error);
        return status;
    }
    const enum dtype dtype = model_arena_dtype(model, arena);
    const char *from = (const char *)arena + (size_t)offset * dtype_size(dtype);
    if (dtype == DTYPE_F32)
        return device_copy_out(model->device, out, from, (size_t)count * sizeof(float), error);
    void *stored = memory_array((size_t)count, dtype_size(dtype), error);
    if (!stored)
        return STATUS_MEMORY;
    status = device_copy_out(model->device, stored, from, (size_t)count * dtype_size(dtype), error);
    for (int64_t i = 0; i < count && !status; i++)
        out[i] = dtype == DTYPE_F64 ? (float)((double *)stored)[i] : float_from_bf16(((uint16_t *)stored)[i]);
    free(stored);
    return status;
}

/* to[c * rows + r] = from[r * cols + c] */
static void transpose(const float *from, int64_t rows, int64_t cols, float *to)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++)
            to[c * rows + r] = from[r * cols + c];
}

/* Elements of a tensor as its file has them, with the adapter's part. */
static int source_read(const struct weights *weights, const struct model *model, int tensor,
                       const struct safetensors_tensor *from, int64_t first, int64_t count, float *out,
                       struct error *error)
{
    int status = safetensors_read_float(&weights->source, from, first, count, out, error);
    if (!status && weights->adapter)
        adapter_add(weights->adapter, model, tensor, first, count, out);
    return status;
}

/* A tensor that the file holds the other way round, whole. */
static int load_transposed(const struct weights *weights, struct model *model, int index,
                           const struct safetensors_tensor *from, struct error *error)
{
    const struct model_tensor *tensor = &model->tensor[index];
    float *stored = memory_array((size_t)from->elements, sizeof *stored, error);
    float *turned = memory_array((size_t)from->elements, sizeof *turned, error);
    int status = stored && turned ? source_read(weights, model, index, from, 0, from->elements, stored, error)
                                  : STATUS_MEMORY;
    if (!status) {
        transpose(stored, tensor->cols, tensor->rows, turned);
        status = weights_write(model, model->param, tensor->offset, from->elements, turned, error);
    }
    free(stored);
    free(turned);
    return status;
}

/* A piece of a tensor that the file holds the same way round. */
struct load_piece {
    int tensor;
    const struct safetensors_tensor *from;
    int64_t first, count;
};

struct load {
    const struct weights *weights;
    const struct model *model;
    struct load_piece *piece;
    int64_t pieces;
};

/* On the reading thread: reads and converts, while the piece before goes to the device. */
static int load_fill(void *user, int64_t index, void *buffer, struct error *error)
{
    const struct load *load = user;
    const struct load_piece *piece = &load->piece[index];
    return source_read(load->weights, load->model, piece->tensor, piece->from, piece->first, piece->count, buffer, error);
}

static int piece_order(const void *left, const void *right)
{
    const struct load_piece *a = left, *b = right;
    if (a->from->shard != b->from->shard)
        return a->from->shard < b->from->shard ? -1 : 1;
    if (a->from->offset != b->from->offset)
        return a->from->offset < b->from->offset ? -1 : 1;
    return a->first < b->first ? -1 : a->first > b->first;
}

/* All pieces, in the order in which they lie on the disk. */
static int load_list(struct load *load, struct error *error)
{
    const struct model *model = load->model;
    for (int pass = 0; pass < 2; pass++) {
        load->pieces = 0;
        for (int i = 0; i < model->tensors; i++) {
            const struct safetensors_tensor *from = file_tensor(load->weights, model, model->tensor[i].name);
            for (int64_t first = 0; first < from->elements && !model->tensor[i].transposed; first += PIECE) {
                const int64_t count = from->elements - first < PIECE ? from->elements - first : PIECE;
                if (pass == 1)
                    load->piece[load->pieces] = (struct load_piece){i, from, first, count};
                load->pieces++;
            }
        }
        if (pass == 0 && !(load->piece = memory_array((size_t)load->pieces + 1, sizeof *load->piece, error)))
            return STATUS_MEMORY;
    }
    qsort(load->piece, (size_t)load->pieces, sizeof *load->piece, piece_order);
    return STATUS_OK;
}

int weights_load(const struct weights *weights, struct model *model, struct error *error)
{
    struct load load = {.weights = weights, .model = model};
    struct read_ahead *reader = NULL;
    int status = load_list(&load, error);
    if (!status)
        status = read_ahead_open(&reader, load.pieces, PIECE * sizeof(float), load_fill, &load, error);
    /* the padding between tensors takes part in the arena-wide update: it must be zero */
    if (!status)
        status = device_zero(model->device, model->param, (size_t)model->elements * dtype_size(model->dtype), error);
    for (int64_t i = 0; i < load.pieces && !status; i++) {
        const struct load_piece *piece = &load.piece[i];
        const void *values;
        status = read_ahead_next(reader, &values, error);
        if (!status)
            status = weights_write(model, model->param, model->tensor[piece->tensor].offset + piece->first, piece->count,
                                   values, error);
    }
    read_ahead_close(reader);
    free(load.piece);
    for (int i = 0; i < model->tensors && !status; i++)
        if (model->tensor[i].transposed)
            status = load_transposed(weights, model, i, file_tensor(weights, model, model->tensor[i].name), error);
    return status;
}

int tensor_read(struct tensor_reader *reader, int tensor, int64_t first, int64_t count, float *out, struct error *error)
{
    const struct model_tensor *from = &reader->model->tensor[tensor];
    if (!from->transposed)
        return weights_read_back(reader->model, reader->arena, from->offset + first, count, out, error);
    if (!reader->turned || reader->tensor != tensor) {
        int64_t elements = from->rows * from->cols;
        float *kept = memory_array((size_t)elements, sizeof *kept, error);
        tensor_reader_free(reader);
        reader->turned = memory_array((size_t)elements, sizeof *reader->turned, error);
        reader->tensor = tensor;
        int status = kept && reader->turned
                         ? weights_read_back(reader->model, reader->arena, from->offset, elements, kept, error)
                         : STATUS_MEMORY;
        if (!status)
            transpose(kept, from->rows, from->cols, reader->turned);
        free(kept);
        if (status)
            return status;
    }
    memcpy(out, reader->turned + first, (size_t)count * sizeof *out);
    return STATUS_OK;
}

void tensor_reader_free(struct tensor_reader *reader)
{
    free(reader->turned);
    reader->turned = NULL;
}

/* One file of the output: which tensors go into it. */
struct save {
    const struct weights *weights;
    struct model *model;
    const int *source_of; /* entry -> tensor of the source, or NULL when made from scratch */
    struct tensor_reader reader;
    float *piece;
};

static int entry_fill(void *user, int entry, uint64_t first_byte, uint64_t bytes, void *out, struct error *error)
{
    struct save *save = user;
    const struct safetensors_tensor *from = save->source_of ? &save->weights->source.tensor[save->source_of[entry]] : NULL;
    int t = from ? save->weights->tensor_of[save->source_of[entry]] : entry;
    const struct adapter *adapter = from ? save->weights->adapter : NULL;
    if (t < 0 || (adapter && !lora_find(&adapter->lora, t)))
        return safetensors_read_bytes(&save->weights->source, from, first_byte, bytes, out, error);
    enum dtype dtype = save->model->config.torch_dtype;
    if (from)
        dtype = from->dtype == SAFETENSORS_F64   ? DTYPE_F64
                : from->dtype == SAFETENSORS_F32 ? DTYPE_F32
                : from->dtype == SAFETENSORS_F16 ? DTYPE_F16
                                                 : DTYPE_BF16;
    const size_t size = dtype_size(dtype);
    int64_t first = (int64_t)(first_byte / size), left = (int64_t)(bytes / size), done = 0;
    for (int status = STATUS_OK; left; left -= done, first += done, out = (char *)out + (size_t)done * size) {
        done = left < PIECE ? left : PIECE;
        status = adapter ? source_read(save->weights, save->model, t, from, first, done, save->piece, error)
                         : tensor_read(&save->reader, t, first, done, save->piece, error);
        if (status)
            return status;
        for (int64_t i = 0; i < done; i++)
            switch (dtype) {
            case DTYPE_F64: ((double *)out)[i] = save->piece[i]; break;
            case DTYPE_F32: ((float *)out)[i] = save->piece[i]; break;
            case DTYPE_F16: ((uint16_t *)out)[i] = f16_from_float(save->piece[i]); break;
            case DTYPE_BF16: ((uint16_t *)out)[i] = bf16_from_float(save->piece[i]); break;
            }
    }
    return STATUS_OK;
}

static int shard_save(struct save *save, int shard, const char *path, struct error *error)
{
    const struct safetensors *source = &save->weights->source;
    int most = source->tensors ? source->tensors : save->model->tensors, entries = 0;
    struct safetensors_entry *entry = memory_array((size_t)most, sizeof *entry, error);
    int *source_of = memory_array((size_t)most, sizeof *source_of, error);
    int status = entry && source_of ? STATUS_OK : STATUS_MEMORY;
    for (int i = 0; i < most && !status; i++) {
        if (source->tensors) {
            const struct safetensors_tensor *from = &source->tensor[i];
            if (from->shard != shard)
                continue;
            source_of[entries] = i;
            entry[entries] = (struct safetensors_entry){from->name, from->dtype, from->dtype_text, from->dims, {0},
                                                        from->bytes};
            memcpy(entry[entries++].shape, from->shape, sizeof from->shape);
        } else {
            const struct model_tensor *tensor = &save->model->tensor[i];
            static const enum safetensors_dtype stored[] = {SAFETENSORS_F32, SAFETENSORS_BF16, SAFETENSORS_F16};
            int64_t count = tensor->rows * (tensor->cols ? tensor->cols : 1), shape[2];
            enum dtype dtype = save->model->config.torch_dtype;
            int dims = file_shape(tensor, shape);
            entry[entries++] = (struct safetensors_entry){tensor->name, stored[dtype], NULL, dims, {shape[0], shape[1]},
                                                          (uint64_t)count * dtype_size(dtype)};
        }
    }
    save->source_of = source->tensors ? source_of : NULL;
    if (!status)
        status = safetensors_write(path, entry, entries, entry_fill, save, error);
    free(source_of);
    free(entry);
    return status;
}

static bool is_weights_file(const char *name)
{
    static const char *const suffix[] = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"};
    for (size_t i = 0; i < sizeof suffix / sizeof *suffix; i++) {
        size_t length = strlen(name), tail = strlen(suffix[i]);
        if (length >= tail && !strcmp(name + length - tail, suffix[i]))
            return true;
    }
    return !strcmp(name, "pytorch_model.bin.index.json");
}

/* What a training run leaves in its folder: true of that run, not of the next. */
static bool is_run_file(const char *name)
{
    return !strcmp(name, "metrics.jsonl") || !strcmp(name, "run.json") || !strcmp(name, "trainer_state.json");
}

/* Configs, tokenizer, licence, index: every regular file that does not hold weights. */
static int companions_copy(const char *directory, const char *out_directory, struct error *error)
{
    DIR *folder = opendir(directory);
    if (!folder)
        return error_set(error, STATUS_INPUT, "%s: cannot be listed: %s", directory, strerror(errno));
    int status = STATUS_OK;
    for (const struct dirent *item; !status && (item = readdir(folder));) {
        char from[4096], to[4096];
        struct stat info;
        if (item->d_name[0] == '.' || is_weights_file(item->d_name) || is_run_file(item->d_name))
            continue;
        status = file_join(from, sizeof from, directory, item->d_name, error);
        if (!status)
            status = file_join(to, sizeof to, out_directory, item->d_name, error);
        if (!status && stat(from, &info) == 0 && S_ISREG(info.st_mode))
            status = file_copy(from, to, error);
    }
    closedir(folder);
    return status;
}

int weights_save(const struct weights *weights, struct model *model, const char *directory, const char *out_directory,
                 struct error *error)
{
    int status = file_make_directory(out_directory, error);
    if (!status)
        status = companions_copy(directory, out_directory, error);
    struct save save = {.weights = weights, .model = model, .reader = {.model = model, .arena = model->param}};
    if (!status && !(save.piece = memory_array(PIECE, sizeof *save.piece, error)))
        status = STATUS_MEMORY;
    int shards = weights->source.tensors ? weights->source.shards : 1;
    for (int shard = 0; shard < shards && !status; shard++) {
        char path[4096];
        status = file_join(path, sizeof path, out_directory,
                           weights->source.tensors ? weights->source.shard_name[shard] : "model.safetensors", error);
        if (!status)
            status = shard_save(&save, shard, path, error);
    }
    tensor_reader_free(&save.reader);
    free(save.piece);
    return status;
}

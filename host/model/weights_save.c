/* weights_save.c - the arena's weights into a folder like the one they came from; see weights.h. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../util/file.h"
#include "../util/float16.h"
#include "../util/memory.h"
#include "adapter.h"
#include "weights_internal.h"

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
        done = left < WEIGHTS_PIECE ? left : WEIGHTS_PIECE;
        status = adapter ? weights_source_read(save->weights, save->model, t, from, first, done, save->piece, error)
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
            int dims = weights_file_shape(tensor, shape);
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
    if (!status && !(save.piece = memory_array(WEIGHTS_PIECE, sizeof *save.piece, error)))
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

/* safetensors.c - opening and reading. See safetensors.h; the header's checks are in safetensors_header.c, the
 * shards' index in safetensors_index.c.
 */
#include "safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../util/file.h"
#include "../../util/memory.h"
#include "safetensors_header.h"
#include "safetensors_index.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors data are little-endian; this reader copies them as they are"
#endif

enum { PIECE_BYTES = 256 * 1024 }; /* read and converted at a time: fits the second-level cache */

/* A whole read at an offset, or an error. */
static int read_at(int fd, const char *where, uint64_t offset, void *out, uint64_t bytes, struct error *error)
{
    for (uint64_t done = 0; done < bytes;) {
        uint64_t wanted = bytes - done < (1u << 30) ? bytes - done : 1u << 30;
        ssize_t got = pread(fd, (char *)out + done, wanted, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set(error, STATUS_RUNTIME, "%s: offset %llu: cannot be read: %s", where,
                             (unsigned long long)(offset + done), strerror(errno));
        if (got == 0)
            return error_set(error, STATUS_INPUT, "%s: offset %llu: the file ends here; it became shorter while in use",
                             where, (unsigned long long)(offset + done));
        done += (uint64_t)got;
    }
    return STATUS_OK;
}

/* Opens a regular file. O_NONBLOCK: opening a named pipe must not hang. */
static int open_regular(const char *path, int *fd, uint64_t *bytes, struct error *error)
{
    struct stat info;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return error_set(error, STATUS_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
    if (fstat(*fd, &info))
        return error_set(error, STATUS_INPUT, "%s: cannot be read: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return error_set(error, STATUS_INPUT, "%s: is not a regular file", path);
    *bytes = (uint64_t)info.st_size;
    return STATUS_OK;
}

/* All shards of a model are of one run: a mixture of two would load without a word. */
static int run_id_check(struct safetensors *file, int shard, const char *path, const char *run_id, struct error *error)
{
    if (!shard)
        snprintf(file->run_id, sizeof file->run_id, "%s", run_id);
    if (!strcmp(file->run_id, run_id))
        return STATUS_OK;
    return error_set(error, STATUS_INPUT, "%s: was written by %s%s, but %s by %s%s: shards of two models are mixed here", path,
                     *run_id ? "run " : "an unnamed run", run_id, file->shard_name[0],
                     *file->run_id ? "run " : "an unnamed run", file->run_id);
}

static int header_read(int fd, const char *path, uint64_t file_bytes, int shard, struct safetensors_list *list,
                       struct error *error)
{
    unsigned char prefix[8];
    uint64_t length = 0;
    if (file_bytes < sizeof prefix)
        return error_set(error, STATUS_INPUT, "%s: has %llu bytes; a safetensors file has at least 10", path,
                         (unsigned long long)file_bytes);
    int status = read_at(fd, path, 0, prefix, sizeof prefix, error);
    if (status)
        return status;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | prefix[i];
    if (length > SAFETENSORS_MAX_HEADER)
        return error_set(error, STATUS_INPUT, "%s: offset 0: header length %llu; at most %d is accepted", path,
                         (unsigned long long)length, SAFETENSORS_MAX_HEADER);
    if (length > file_bytes - sizeof prefix)
        return error_set(error, STATUS_INPUT, "%s: offset 0: header length %llu, but only %llu bytes follow", path,
                         (unsigned long long)length, (unsigned long long)(file_bytes - sizeof prefix));
    char *text = memory_array(length, 1, error);
    if (!text)
        return STATUS_MEMORY;
    status = read_at(fd, path, sizeof prefix, text, length, error);
    if (!status)
        status = safetensors_header_parse(path, text, length, file_bytes, shard, list, error);
    free(text);
    return status;
}

/* Takes the names (an array of `shards` strings, and directory) over, opens every shard and reads its header. */
static int shards_open(struct safetensors *file, struct error *error)
{
    struct safetensors_list list = {0};
    char path[PATH_MAX];
    int status = STATUS_OK;
    file->shard_fd = memory_array((size_t)file->shards, sizeof *file->shard_fd, error);
    file->shard_bytes = memory_array((size_t)file->shards, sizeof *file->shard_bytes, error);
    if (!file->shard_fd || !file->shard_bytes)
        return STATUS_MEMORY;
    for (int i = 0; i < file->shards; i++)
        file->shard_fd[i] = -1;
    for (int i = 0; i < file->shards && !status; i++) {
        status = file_join(path, sizeof path, file->directory, file->shard_name[i], error);
        if (!status)
            status = open_regular(path, &file->shard_fd[i], &file->shard_bytes[i], error);
        if (!status)
            status = header_read(file->shard_fd[i], path, file->shard_bytes[i], i, &list, error);
        if (!status)
            status = run_id_check(file, i, path, list.run_id, error);
    }
    if (!status && list.count > INT_MAX)
        status = error_set(error, STATUS_INPUT, "%s: %zu tensors are too many", file->directory, list.count);
    if (status) {
        safetensors_list_free(&list);
        return status;
    }
    file->tensor = list.tensor;
    file->tensors = (int)list.count;
    return safetensors_index_build(file, error);
}

int safetensors_open_file(struct safetensors *file, const char *path, struct error *error)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    *file = (struct safetensors){.shards = 1};
    file->shard_name = memory_array(1, sizeof *file->shard_name, error);
    file->directory = slash ? strndup(path, (size_t)(name - path)) : strdup("");
    int status = STATUS_MEMORY;
    if (!file->directory)
        error_set(error, STATUS_MEMORY, "%s: out of host memory", path);
    else if (file->shard_name && (file->shard_name[0] = memory_string(name, error)))
        status = shards_open(file, error);
    if (status)
        safetensors_close(file);
    return status;
}

int safetensors_open(struct safetensors *file, const char *directory, struct error *error)
{
    char single[PATH_MAX], index[PATH_MAX];
    *file = (struct safetensors){0};
    int status = file_join(single, sizeof single, directory, "model.safetensors", error);
    if (!status)
        status = file_join(index, sizeof index, directory, "model.safetensors.index.json", error);
    if (status)
        return status;
    if (file_exists(single))
        return safetensors_open_file(file, single, error);
    if (!file_exists(index))
        return error_set(error, STATUS_INPUT,
                         "%s: has neither model.safetensors nor model.safetensors.index.json; weights in another "
                         "format (pytorch_model.bin) must be converted first",
                         directory);
    status = STATUS_MEMORY;
    if ((file->directory = memory_string(directory, error)) &&
        (file->index_name = memory_string("model.safetensors.index.json", error)))
        status = safetensors_index_read(file, index, error);
    if (!status && !(status = shards_open(file, error)))
        status = safetensors_index_check(file, index, error);
    if (status)
        safetensors_close(file);
    return status;
}

void safetensors_close(struct safetensors *file)
{
    for (int i = 0; i < file->shards; i++) {
        if (file->shard_fd && file->shard_bytes && file->shard_fd[i] >= 0)
            close(file->shard_fd[i]);
        if (file->shard_name)
            free(file->shard_name[i]);
    }
    struct safetensors_list list = {.tensor = file->tensor, .count = (size_t)file->tensors};
    safetensors_list_free(&list);
    free(file->shard_name);
    free(file->shard_fd);
    free(file->shard_bytes);
    free(file->directory);
    free(file->index_name);
    safetensors_index_free(file->index);
    *file = (struct safetensors){0};
}

/* "path: tensor "name"", the start of an error. */
static const char *tensor_where(const struct safetensors *file, const struct safetensors_tensor *tensor,
                                char where[1024])
{
    size_t length = strlen(file->directory);
    snprintf(where, 1024, "%s%s%s: tensor \"%.200s\"", file->directory,
             length && file->directory[length - 1] != '/' ? "/" : "", file->shard_name[tensor->shard], tensor->name);
    return where;
}

static int range_error(const struct safetensors *file, const struct safetensors_tensor *tensor, const char *unit,
                       struct error *error)
{
    return error_set(error, STATUS_RUNTIME, "%s: %s outside the tensor were asked for",
                     tensor_where(file, tensor, (char[1024]){0}), unit);
}

/* Bytes [first, first + count) of a tensor, known to be inside it. */
static int tensor_read(const struct safetensors *file, const struct safetensors_tensor *tensor, uint64_t first,
                       uint64_t count, void *out, struct error *error)
{
    char where[1024];
    return read_at(file->shard_fd[tensor->shard], tensor_where(file, tensor, where), tensor->offset + first, out, count,
                   error);
}

int safetensors_read_bytes(const struct safetensors *file, const struct safetensors_tensor *tensor, uint64_t first,
                           uint64_t count, void *out, struct error *error)
{
    if (first > tensor->bytes || count > tensor->bytes - first)
        return range_error(file, tensor, "bytes", error);
    return tensor_read(file, tensor, first, count, out, error);
}

static void convert_to_float(enum safetensors_dtype dtype, const void *from, size_t count, float *to)
{
    const uint16_t *half = from;
    const double *wide = from;
    if (dtype == SAFETENSORS_BF16)
        for (size_t i = 0; i < count; i++)
            to[i] = float_from_bf16(half[i]);
    else if (dtype == SAFETENSORS_F16)
        for (size_t i = 0; i < count; i++)
            to[i] = float_from_f16(half[i]);
    else if (dtype == SAFETENSORS_F64)
        for (size_t i = 0; i < count; i++)
            to[i] = (float)wide[i];
    else
        memcpy(to, from, count * sizeof *to);
}

static void convert_to_double(enum safetensors_dtype dtype, const void *from, size_t count, double *to)
{
    const uint16_t *half = from;
    const float *single = from;
    if (dtype == SAFETENSORS_BF16)
        for (size_t i = 0; i < count; i++)
            to[i] = float_from_bf16(half[i]);
    else if (dtype == SAFETENSORS_F16)
        for (size_t i = 0; i < count; i++)
            to[i] = float_from_f16(half[i]);
    else if (dtype == SAFETENSORS_F32)
        for (size_t i = 0; i < count; i++)
            to[i] = single[i];
    else
        memcpy(to, from, count * sizeof *to);
}

/* Bytes of one element, 0 for what is not a float type. */
static size_t float_bytes(enum safetensors_dtype dtype)
{
    switch (dtype) {
    case SAFETENSORS_F64: return 8;
    case SAFETENSORS_F32: return 4;
    case SAFETENSORS_F16:
    case SAFETENSORS_BF16: return 2;
    default: return 0;
    }
}

/* Elements into floats or doubles; what is of that type already goes straight to out. */
static int read_converted(const struct safetensors *file, const struct safetensors_tensor *tensor, int64_t first,
                          int64_t count, enum safetensors_dtype to, void *out, struct error *error)
{
    size_t size = float_bytes(tensor->dtype);
    if (!size)
        return error_set(error, STATUS_INPUT, "%s: has dtype %s; expected F32, F16, BF16 or F64",
                         tensor_where(file, tensor, (char[1024]){0}), tensor->dtype_text);
    if (first < 0 || count < 0 || first > tensor->elements || count > tensor->elements - first)
        return range_error(file, tensor, "elements", error);
    if (tensor->dtype == to)
        return tensor_read(file, tensor, (uint64_t)first * size, (uint64_t)count * size, out, error);
    char *piece = memory_array(PIECE_BYTES, 1, error);
    if (!piece)
        return STATUS_MEMORY;
    int status = STATUS_OK;
    const int64_t most = (int64_t)(PIECE_BYTES / size);
    for (int64_t done = 0; done < count && !status; done += most) {
        size_t now = (size_t)(count - done < most ? count - done : most);
        status = tensor_read(file, tensor, (uint64_t)(first + done) * size, now * size, piece, error);
        if (status)
            break;
        if (to == SAFETENSORS_F32)
            convert_to_float(tensor->dtype, piece, now, (float *)out + done);
        else
            convert_to_double(tensor->dtype, piece, now, (double *)out + done);
    }
    free(piece);
    return status;
}

int safetensors_read_float(const struct safetensors *file, const struct safetensors_tensor *tensor, int64_t first,
                           int64_t count, float *out, struct error *error)
{
    return read_converted(file, tensor, first, count, SAFETENSORS_F32, out, error);
}

int safetensors_read_double(const struct safetensors *file, const struct safetensors_tensor *tensor, int64_t first,
                            int64_t count, double *out, struct error *error)
{
    return read_converted(file, tensor, first, count, SAFETENSORS_F64, out, error);
}

/* safetensors.h - read and write the safetensors format, one file or a sharded set.
 *
 * Format: u64 little-endian header length N <= 100,000,000; N bytes of JSON beginning with '{'; the data area.
 * Everything the reference implementation checks is checked, by a scanner of our own: UTF-8, known dtypes,
 * offsets contiguous from 0 without hole or overlap, bytes = product(shape) * size with overflow checks, the
 * file exactly as long as the header says, no duplicate names, metadata string to string.
 */
#ifndef FLAT_IO_SAFETENSORS_H
#define FLAT_IO_SAFETENSORS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../../kernels/engine/op.h"
#include "../../util/error.h"
#include "../../util/file.h"
#include "../../util/float16.h"

#define SAFETENSORS_MAX_DIMS 8
#define SAFETENSORS_RUN_ID_BYTES 64

/* Storage types of the format that we name; others are kept as OTHER with their element size in bits. */
enum safetensors_dtype { SAFETENSORS_F64, SAFETENSORS_F32, SAFETENSORS_F16, SAFETENSORS_BF16, SAFETENSORS_I64,
                         SAFETENSORS_I32, SAFETENSORS_OTHER };

struct safetensors_tensor {
    char *name;
    enum safetensors_dtype dtype;
    char dtype_text[12]; /* as in the file, "BF16" */
    int dims;
    int64_t shape[SAFETENSORS_MAX_DIMS];
    int64_t elements;
    int shard;            /* index of the file it is in */
    uint64_t offset;      /* absolute, from the start of that file */
    uint64_t bytes;
};

/* An opened model: one file, or the shards that model.safetensors.index.json names. Headers are read, data is
 * not. Tensors are in file order, shard after shard. */
struct safetensors {
    int shards, tensors;
    char **shard_name;  /* file names within the folder */
    char *directory;
    int *shard_fd;
    uint64_t *shard_bytes;
    struct safetensors_tensor *tensor;
    char *index_name;   /* NULL when not sharded */
    char run_id[SAFETENSORS_RUN_ID_BYTES]; /* the run that wrote it, "" when the files do not say */
    struct safetensors_index *index; /* name lookup, private */
};

/* Opens directory/model.safetensors, or the sharded set of directory/model.safetensors.index.json.
 * Shard names with a slash or a leading dot are refused; a tensor in the index but not in its shard (or the
 * reverse), or in two shards, too; and so are shards that different runs have written. On failure nothing is open and *file is empty. */
int safetensors_open(struct safetensors *file, const char *directory, struct error *error);
/* Opens one named file. */
int safetensors_open_file(struct safetensors *file, const char *path, struct error *error);
/* Safe on an empty or closed one. */
void safetensors_close(struct safetensors *file);
/* By name; NULL when absent. */
const struct safetensors_tensor *safetensors_find(const struct safetensors *file, const char *name);
/* Files are read with pread, never mapped: one that changes meanwhile gives an error, not a signal. Reading from
 * several threads at once is allowed.
 *
 * Reads elements [first, first + count) converted to float or double (F64, F32, F16, BF16 sources). */
int safetensors_read_float(const struct safetensors *file, const struct safetensors_tensor *tensor, int64_t first,
                           int64_t count, float *out, struct error *error);
int safetensors_read_double(const struct safetensors *file, const struct safetensors_tensor *tensor, int64_t first,
                            int64_t count, double *out, struct error *error);
/* Raw bytes. */
int safetensors_read_bytes(const struct safetensors *file, const struct safetensors_tensor *tensor, uint64_t first,
                           uint64_t count, void *out, struct error *error);

/* What a writer is told of each tensor. */
struct safetensors_entry {
    const char *name;
    enum safetensors_dtype dtype;
    const char *dtype_text; /* for OTHER; else NULL */
    int dims;
    int64_t shape[SAFETENSORS_MAX_DIMS];
    uint64_t bytes;
};
/* Gives bytes [first_byte, first_byte + bytes) of an entry. It is called for the entries in order and for each from
 * its first byte to its last, in pieces of 4 MiB (the last of an entry may be shorter). */
typedef int (*safetensors_fill)(void *user, int entry, uint64_t first_byte, uint64_t bytes, void *out,
                                struct error *error);

/* Writes one file (temporary + fsync + rename). Entries are laid out in the given order, the header is padded to
 * 8 bytes, metadata is {"format":"pt"}. The header goes through the reader's checks first. Memory beyond the
 * header: one 4 MiB piece. */
int safetensors_write(const char *path, const struct safetensors_entry *entries, int count, safetensors_fill fill,
                      void *user, struct error *error);
/* The same into an open writer, which stays open; run_id (NULL or "": none) is put into the metadata. */
int safetensors_write_to(struct file_writer *writer, const char *run_id, const struct safetensors_entry *entries, int count,
                         safetensors_fill fill, void *user, struct error *error);

#endif

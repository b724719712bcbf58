/* weights_internal.h - what the files of weights.h share. */
#ifndef FLAT_MODEL_WEIGHTS_INTERNAL_H
#define FLAT_MODEL_WEIGHTS_INTERNAL_H
#include "weights.h"

#define WEIGHTS_PIECE (1 << 20) /* elements moved at a time */

/* The tensor of the file that holds a tensor of the table, with or without the family's base prefix, or NULL. */
const struct safetensors_tensor *weights_find(const struct weights *weights, const struct model *model, const char *name);
/* Dimensions of a tensor as its file has them; how many. */
int weights_file_shape(const struct model_tensor *tensor, int64_t shape[2]);
/* Elements of a tensor as its file has them, with the adapter's part. Several threads may read at once. */
int weights_source_read(const struct weights *weights, const struct model *model, int tensor,
                        const struct safetensors_tensor *from, int64_t first, int64_t count, float *out,
                        struct error *error);
/* to[c * rows + r] = from[r * cols + c] */
void weights_transpose(const float *from, int64_t rows, int64_t cols, float *to);

#endif

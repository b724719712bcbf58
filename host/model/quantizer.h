/* quantizer.h - a model as it is after its projections were stored in 8 or 4 bits (host/util/quantize.h): a struct weights that
 * has a quantizer gives rounded values wherever the files' own would be read (weights.h).
 *
 * The projections of all layers are rounded; embedding, norms, biases and lm_head are not, as where bitsandbytes loads a
 * model. An adapter's products are added afterwards, in full, as where a LoRA adapter is used on a quantized base.
 * Cost: every tensor is read once, and one that its file holds the other way round once a piece; host memory: a piece and
 * two rows, or three times such a tensor.
 */
#ifndef FLAT_MODEL_QUANTIZER_H
#define FLAT_MODEL_QUANTIZER_H
#include "weights.h"

enum quantizer_kind { QUANTIZER_INT8, QUANTIZER_NF4, QUANTIZER_KINDS };
struct quantizer {
    enum quantizer_kind kind;
};
/* "int8", "nf4" */
extern const char *const quantizer_names[];

/* Whether a tensor of the table is one that is rounded. */
bool quantizer_takes(const struct model *model, int tensor);
/* Elements [first, first + count) of such a tensor, as the file has them, rounded. Several threads may read at once. */
int quantizer_read(const struct quantizer *quantizer, const struct safetensors *source, const struct model *model, int tensor,
                   const struct safetensors_tensor *from, int64_t first, int64_t count, float *out, struct error *error);

#endif

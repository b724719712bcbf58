/* nf4_base.h - a frozen base whose projections are kept in NF4 (QLoRA, arXiv 2305.14314): codes of 4 bits and a float for each 64
 * weights, 0.5625 bytes per weight. Embedding, norms, biases and lm_head stay in the model's arena, as where bitsandbytes loads a
 * model with load_in_4bit and bnb_4bit_quant_type nf4; scales are not quantized again.
 *
 * A block is 64 weights of a tensor as [out, in], in order, whatever the type they were read in. In front of each product a weight
 * is turned into the model's type, in one buffer for all (kernels/nf4_dequantize.h): training is that of the same weights rounded
 * to NF4 beforehand, bit for bit.
 *
 * Cost: the bytes of that op per projection and product, forward and backward (and once more where layers are computed again).
 */
#ifndef FLAT_MODEL_NF4_BASE_H
#define FLAT_MODEL_NF4_BASE_H
#include <stdbool.h>
#include <stdint.h>

#include "../util/error.h"

struct model;

struct nf4_base {
    bool used;
    int64_t elements; /* of the projections' slots, each padded as in an arena; their offsets count from the first */
    int64_t largest;  /* of a slot */
    uint8_t *code;    /* [elements / 2] */
    float *scale;     /* [elements / 64] */
    void *weight;     /* [largest] of the model's type: the weight of the next product */
};

/* Declares its memory; none where the weights are another model's (weights_of). Nothing where it is not used, as below. */
int nf4_base_plan(struct model *model, struct error *error);
/* Zeros, before weights are written. */
int nf4_base_clear(struct model *model, struct error *error);
/* Quantizes count floats of a projection, [out, in], from element `first` on: multiples of 64. */
int nf4_base_write(struct model *model, int tensor, int64_t first, int64_t count, const float *values, struct error *error);

#endif

/* quantize.h - the two integer grids that language models are stored in, and weights on them and back.
 *
 *   NF4    blocks of 64 values in the order of the matrix [out, in]: x / absmax becomes the nearest of 16 levels, the quantiles
 *          of a normal distribution (QLoRA, arXiv 2305.14314); a value half-way goes to the lower one. absmax stays a float
 *   INT8   a row (output channel) at a time: x 127 / absmax rounded to the nearest integer, half-way to the even one
 *          (LLM.int8(), arXiv 2208.07339, without its outliers)
 *
 * Levels, bounds and order of operations are those of bitsandbytes, so that a value comes back as there. A block or row of
 * zeros stays zero. Cost: NF4 four comparisons per value, both one multiplication each way.
 */
#ifndef FLAT_UTIL_QUANTIZE_H
#define FLAT_UTIL_QUANTIZE_H
#include <stdint.h>

#include "../../kernels/engine/nf4_map.h"

extern const float nf4_level[NF4_LEVELS];

/* The codes of a block of at most NF4_BLOCK values (one in each byte), and what the levels are multiplied by. */
float nf4_encode(const float *value, int64_t count, uint8_t *code);
/* level[code] * absmax */
void nf4_decode(const uint8_t *code, int64_t count, float absmax, float *value);
/* Any number of values, blocks from the first on: each becomes what its code stands for. */
void nf4_round(float *value, int64_t count);

/* The integers of a row, -127 to 127, and the row's largest magnitude. */
float int8_encode(const float *value, int64_t count, int8_t *code);
/* code * absmax / 127 */
void int8_decode(const int8_t *code, int64_t count, float absmax, float *value);
/* A row: each value becomes what its integer stands for. */
void int8_round(float *value, int64_t count);

#endif

/* nf4_map.h - NF4, the 4-bit type of QLoRA (arXiv 2305.14314): blocks of 64 values that share a scale, their largest magnitude, and
 * 16 levels between -1 and 1, quantiles of a normal distribution. The levels are bitsandbytes', to the last bit.
 *
 * Two codes share a byte; the first is its upper half, as there.
 */
#ifndef FLAT_KERNELS_NF4_MAP_H
#define FLAT_KERNELS_NF4_MAP_H

enum { NF4_BLOCK = 64, NF4_LEVELS = 16 };

#define NF4_LEVEL_LIST                                                                                        \
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f,          \
        -0.18477343022823334f, -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f,       \
        0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f,                \
        0.7229568362236023f, 1.0f

#endif

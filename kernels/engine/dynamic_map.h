/* dynamic_map.h - a number between -1 and 1 in 8 bits: the dynamic map of 8-bit optimizers (Dettmers et al., ICLR 2022), as
 * bitsandbytes has it, whose levels these are to the last bit but one.
 *
 * Levels get denser towards 0: decade i, (10^(i-7), 10^(i-6)] for i = 0 .. 6, is cut into 2^i equal parts (2^(i+1) where there
 * is no sign), and the middle of each is a level. 0 and 1 are levels too; -1 is none. A code stands for the nearest level, of
 * two equally near ones for the one nearer to 0.
 */
#ifndef FLAT_KERNELS_DYNAMIC_MAP_H
#define FLAT_KERNELS_DYNAMIC_MAP_H
#include <stdint.h>

#include "rounding.h"

/* Numbers that share a scale, the largest magnitude among them. */
enum { DYNAMIC_BLOCK = 256 };

/* The levels by code, ascending; code 127 of the signed ones and 0 of the others is 0. */
struct dynamic_map {
    float with_sign[256], without_sign[256];
};

static inline void dynamic_map_fill(struct dynamic_map *map)
{
    double top = 1e-6; /* of a decade */
    map->with_sign[127] = map->without_sign[0] = 0;
    map->with_sign[255] = map->without_sign[255] = 1;
    for (int i = 0; i < 7; i++, top *= 10) {
        for (int k = 0, parts = 1 << i; k < parts; k++) {
            const float level = (float)(top * (0.1 + 0.9 * (k + 0.5) / parts));
            map->with_sign[127 + parts + k] = level;
            map->with_sign[127 - parts - k] = -level;
        }
        for (int k = 0, parts = 2 << i; k < parts; k++)
            map->without_sign[parts - 1 + k] = (float)(top * (0.1 + 0.9 * (k + 0.5) / parts));
    }
}

/* Which of level [0 .. (128 << extra) - extra], from 0 to 1 with (1 << extra) levels in the lowest decade, is nearest to x in
 * [0, 1]: the part of the decade that x lies in, or a neighbour of it. */
ROUNDING_INLINE int dynamic_nearest(const float *level, int extra, float x)
{
    const int last = (128 << extra) - extra;
    if (!(x < 1)) /* a NaN is 0 */
        return x >= 1 ? last : 0;
    float scaled = x;
    int decade = 6;
    for (; decade > 0 && scaled < 0.1f; decade--)
        scaled *= 10;
    const int parts = 1 << (decade + extra);
    const float place = (scaled - 0.1f) * ((float)parts / 0.9f);
    const int part = place > 0 ? (int)place : 0; /* 0 below the lowest decade */
    const int at = parts - extra + (part < parts ? part : parts - 1);
    if (at < last && x > 0.5f * (level[at] + level[at + 1]))
        return at + 1;
    return at > 0 && x <= 0.5f * (level[at - 1] + level[at]) ? at - 1 : at;
}

/* The code of x in [-1, 1]. */
ROUNDING_INLINE unsigned dynamic_code_with_sign(const float *with_sign, float x)
{
    const int at = dynamic_nearest(with_sign + 127, 0, x < 0 ? -x : x);
    return (unsigned)(x < 0 ? 127 - (at < 127 ? at : 127) : 127 + at);
}

/* The code of x in [0, 1]. Only 0 becomes 0: what is divided by its root would grow without bound. */
ROUNDING_INLINE unsigned dynamic_code_without_sign(const float *without_sign, float x)
{
    const int at = dynamic_nearest(without_sign, 1, x);
    return (unsigned)(at == 0 && x > 0 ? 1 : at);
}

#endif

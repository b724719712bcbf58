/* sweep_draw.c - points of a grid, drawn without replacement; see sweep.h. */
#include <stdlib.h>

#include "sweep.h"

/* splitmix64 (Steele et al. 2014). */
static uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int ascending(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Fisher and Yates, as far as it is needed. */
int sweep_draw(int64_t total, int64_t count, uint64_t seed, int64_t **point, struct error *error)
{
    if (!(*point = memory_array((size_t)total, sizeof **point, error)))
        return STATUS_MEMORY;
    for (int64_t i = 0; i < total; i++)
        (*point)[i] = i;
    for (int64_t i = 0; i < count && count < total; i++) {
        const int64_t other = i + (int64_t)((unsigned __int128)random_next(&seed) * (uint64_t)(total - i) >> 64);
        const int64_t swap = (*point)[i];
        (*point)[i] = (*point)[other];
        (*point)[other] = swap;
    }
    qsort(*point, (size_t)count, sizeof **point, ascending);
    return STATUS_OK;
}

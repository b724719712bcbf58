/* quantize.c - see quantize.h. */
#include "quantize.h"

#include <math.h>

const float nf4_level[NF4_LEVELS] = {NF4_LEVEL_LIST};

/* Half-way between neighbours, as bitsandbytes' CUDA code writes them; its CPU code takes the mean of two levels in float, which is
 * another in the last bit for some of them. */
static const float nf4_bound[NF4_LEVELS - 1] = {
    -0.8480964004993439f,
    -0.6106329262256622f,
    -0.4599952697753906f,
    -0.33967943489551544f,
    -0.23460740596055984f,
    -0.13791173323988914f,
    -0.045525018125772476f,
    0.03979014977812767f,
    0.1202552504837513f,
    0.2035212516784668f,
    0.2920137718319893f,
    0.3893125355243683f,
    0.5016634166240692f,
    0.6427869200706482f,
    0.8614784181118011f,
};

static float absmax_of(const float *value, int64_t count)
{
    float largest = 0;
    for (int64_t i = 0; i < count; i++)
        largest = fmaxf(largest, fabsf(value[i]));
    return largest;
}

/* How many bounds lie below x, by halving. */
static uint8_t nf4_code(float x)
{
    int code = 0;
    for (int step = NF4_LEVELS / 2; step; step /= 2)
        code += x > nf4_bound[code + step - 1] ? step : 0;
    return (uint8_t)code;
}

float nf4_encode(const float *value, int64_t count, uint8_t *code)
{
    const float absmax = absmax_of(value, count), scale = absmax > 0 ? 1.0f / absmax : 0;
    for (int64_t i = 0; i < count; i++)
        code[i] = nf4_code(value[i] * scale);
    return absmax;
}

void nf4_decode(const uint8_t *code, int64_t count, float absmax, float *value)
{
    for (int64_t i = 0; i < count; i++)
        value[i] = nf4_level[code[i]] * absmax;
}

void nf4_round(float *value, int64_t count)
{
    uint8_t code[NF4_BLOCK];
    for (int64_t first = 0; first < count; first += NF4_BLOCK) {
        const int64_t block = count - first < NF4_BLOCK ? count - first : NF4_BLOCK;
        const float absmax = nf4_encode(value + first, block, code);
        nf4_decode(code, block, absmax, value + first);
    }
}

float int8_encode(const float *value, int64_t count, int8_t *code)
{
    const float absmax = absmax_of(value, count), scale = absmax > 0 ? 127.0f / absmax : 0;
    for (int64_t i = 0; i < count; i++)
        code[i] = (int8_t)rintf(value[i] * scale);
    return absmax;
}

/* The reciprocal that bitsandbytes multiplies with. */
#define INT8_STEP 7.874015748698502e-3f

void int8_decode(const int8_t *code, int64_t count, float absmax, float *value)
{
    for (int64_t i = 0; i < count; i++)
        value[i] = (float)code[i] * absmax * INT8_STEP;
}

void int8_round(float *value, int64_t count)
{
    const float absmax = absmax_of(value, count), scale = absmax > 0 ? 127.0f / absmax : 0;
    for (int64_t i = 0; i < count; i++)
        value[i] = (float)(int8_t)rintf(value[i] * scale) * absmax * INT8_STEP;
}

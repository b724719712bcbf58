/* tiny_model.h - a small random Llama on a device, and batches of random ids, for the tests of the layers above the
 * ops. Odd sizes on purpose: grouped heads, a vocabulary that is no multiple of 8.
 */
#ifndef FLAT_TESTS_TINY_MODEL_H
#define FLAT_TESTS_TINY_MODEL_H
#include "../../host/loss/method.h"
#include "../../host/model/model.h"
#include "../../host/model/weights.h"

struct tiny {
    struct device device;
    struct model model;
    struct batch batch;
    struct batch_sequence sequence[16];
    int32_t group_first[17];
    int groups;
    int32_t ids[16][40];
    double *totals;
};

/* Writes config.json of the tiny model into a folder; extra is added to the object ("\"mlp_bias\": true,"). */
void tiny_config(const char *directory, const char *extra);
/* Opens an engine of op_test_engines, or "emu" (what FLAT_EMU names, if it is set), with so many threads; the type that
 * models have on it. */
enum dtype tiny_device_open(struct device *device, const char *engine, int threads);
/* Opens an engine of op_test_engines with so many threads, makes the model of a folder with random weights (larger than
 * usual, so that no gradient is lost in rounding), and `pairs` groups of two answers. */
void tiny_open(struct tiny *tiny, const char *directory, const char *engine, int threads, bool training, int pairs);
/* Makes the model once more, with the same weights; adapters get a B that is not zero. */
struct tiny_options {
    enum recompute recompute;
    const struct lora_options *lora; /* NULL: none */
    bool inference, wide_logits;
    int64_t head_chunk;
};
void tiny_remake(struct tiny *tiny, const struct tiny_options *options);
void tiny_close(struct tiny *tiny);
/* Packs the groups, shared or not. */
void tiny_pack(struct tiny *tiny, enum batch_sharing sharing);
/* Forward, FLAT loss (divergence, pair averages) and, when training, backward into zeroed gradients. The loss; what it is
 * made of stays in tiny->totals. */
double tiny_step(struct tiny *tiny, int divergence);
/* count values of the parameter or gradient arena as double; free(). */
double *tiny_read(struct tiny *tiny, const void *from, int64_t count);
void tiny_write(struct tiny *tiny, void *to, const double *values, int64_t count);
/* The same of arrays in another dtype, as the statistics are. */
double *tiny_read_as(struct tiny *tiny, enum dtype dtype, const void *from, int64_t count);
void tiny_write_as(struct tiny *tiny, enum dtype dtype, void *to, const double *values, int64_t count);

#endif

/* config.h - the numbers of config.json that define a model's arithmetic. */
#ifndef FLAT_MODEL_CONFIG_H
#define FLAT_MODEL_CONFIG_H
#include <stdbool.h>
#include <stdint.h>

#include "../../kernels/activation.h"
#include "../../kernels/norm.h"
#include "../util/error.h"

struct family;

#define EOS_IDS_MAX 8
#define CONFIG_LAYERS_MAX 10000 /* more is a typing error, not a model */

/* What is not the same in all layers. */
enum { LAYER_SLIDING = 1, LAYER_UNROTATED = 2 };

enum rope_scaling { ROPE_PLAIN, ROPE_LLAMA3, ROPE_LINEAR, ROPE_LONG };

/* Rotary positions: of all layers, or of those without windows where those with them have their own. */
enum rope_place { ROPE_EVERYWHERE, ROPE_SLIDING, ROPE_PLACES };
struct rope_config {
    double theta;
    enum rope_scaling scaling;
    double factor, low_freq_factor, high_freq_factor, original_max_positions;
    double short_factor[128], attention_factor; /* ROPE_LONG: divisors of the frequencies, factor of cos and sin */
};

struct model_config {
    const struct family *family;
    int64_t vocab_size, hidden_size, intermediate_size, num_hidden_layers;
    int64_t num_attention_heads, num_key_value_heads, head_dim, max_position_embeddings;
    int64_t sliding_window; /* of the layers with LAYER_SLIDING; 0: none */
    unsigned char layer[CONFIG_LAYERS_MAX]; /* the above */
    enum norm_kind norm;
    double norm_eps;
    enum activation_kind activation;
    bool attention_bias, o_bias, mlp_bias, head_bias, untied; /* untied: lm_head is a tensor of its own */
    bool head_kept; /* the config ties lm_head, but the file's differs from the embedding: untied */
    double initializer_range; /* standard deviation of a new model's matrices */

    int64_t query_pre_attn_scalar;   /* scores are divided by its root; 0: by that of head_dim */
    double attention_cap, final_cap; /* soft caps of attention's scores and of the logits; 0: none */

    int64_t rotary_dim;
    struct rope_config rope[ROPE_PLACES];

    enum dtype torch_dtype; /* storage of a model made from scratch */
    int32_t bos_token_id, pad_token_id; /* -1: none */
    int32_t eos_token_id[EOS_IDS_MAX];  /* those that the vocabulary has */
    int eos_token_ids;
};

/* Columns of all queries, and of all keys or values. */
static inline int64_t query_cols(const struct model_config *c) { return c->num_attention_heads * c->head_dim; }
static inline int64_t key_cols(const struct model_config *c) { return c->num_key_value_heads * c->head_dim; }

/* Tokens that a sequence may have. Longer ones of a model with ROPE_LONG would have other frequencies. */
static inline int64_t context_length(const struct model_config *c)
{
    const struct rope_config *rope = &c->rope[ROPE_EVERYWHERE];
    const int64_t original = rope->scaling == ROPE_LONG ? (int64_t)rope->original_max_positions : INT64_MAX;
    return original < c->max_position_embeddings ? original : c->max_position_embeddings;
}

/* Keys that a query of a layer sees at most, its own included; 0: all. */
static inline int64_t layer_window(const struct model_config *c, int layer)
{
    return c->layer[layer] & LAYER_SLIDING ? c->sliding_window : 0;
}

/* Reads directory/config.json (v4 and v5 spelling) and, where there is one, generation_config.json, which then names the
 * special tokens alone. A key that is absent, null or 0 means what transformers' config class makes of it; keys that the
 * family does not have change nothing. An unknown model_type, what transformers refuses, a value that we cannot compute
 * and sizes that do not fit together are STATUS_INPUT, by key. */
int model_config_read(struct model_config *config, const char *directory, struct error *error);

/* Whose rotary positions a layer has. */
static inline enum rope_place layer_rope(const struct model_config *c, int layer)
{
    return c->rope[ROPE_SLIDING].theta > 0 && (c->layer[layer] & LAYER_SLIDING) ? ROPE_SLIDING : ROPE_EVERYWHERE;
}

/* cos and sin of every position, [positions, rotary_dim / 2] each. */
void model_config_rope_tables(const struct model_config *config, enum rope_place place, int64_t positions,
                              double *cos_table, double *sin_table);

#endif

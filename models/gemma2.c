/* gemma2.c - Gemma 2: a Gemma with norms before and behind attention and feed-forward, soft caps on attention's scores and on
 * the logits, and a sliding window in every other layer, from the first on.
 */
#include "rows.h"

static const struct config_key keys[] = {
    KEYS_SIZES(256000, 2304, 9216, 26, 8, 8192),
    {"num_key_value_heads", CONFIG_INT, FIELD(num_key_value_heads), 4, CONFIG_REFUSED, CONFIG_REFUSED},
    {"head_dim", CONFIG_INT, FIELD(head_dim), 256, CONFIG_REFUSED, CONFIG_REFUSED},
    KEYS_COMMON(1e-6, true),
    KEYS_ATTENTION_BIAS,
    {"query_pre_attn_scalar", CONFIG_INT, FIELD(query_pre_attn_scalar), 256, CONFIG_REFUSED, CONFIG_REFUSED},
    {"attn_logit_softcapping", CONFIG_DOUBLE, FIELD(attention_cap), 50, 0, CONFIG_REFUSED},
    {"final_logit_softcapping", CONFIG_DOUBLE, FIELD(final_cap), 30, 0, CONFIG_REFUSED},
    {0},
};

static const struct config_refusal refusals[] = {
    CAUSAL_ONLY,
    {0},
};

static const struct family_tensor tensors[] = {
    TENSOR_EMBEDDING,
    TENSORS_FOUR_NORMS,
    TENSORS_QKV,
    TENSORS_QKV_BIAS(FIELD(attention_bias)),
    TENSOR_O,
    TENSOR_O_BIAS,
    TENSORS_UP,
    TENSOR_DOWN,
    TENSORS_HEAD,
    {0},
};

static const char *const ignored[] = {"rotary_emb.inv_freq", NULL};

const struct family family_gemma2 = {
    GEMMA_LIKE,
    .model_type = "gemma2",
    .architecture = "Gemma2ForCausalLM",
    .activation_key = "hidden_activation",
    .windows_by_layer = true,
    .window_pattern = 2,
    .key = keys,
    .refusal = refusals,
    .tensor = tensors,
    .ignored = ignored,
};

/* gemma.c - Gemma 1: a Llama whose norms multiply by 1 + weight, whose embedding is scaled by sqrt(hidden_size) and whose gate
 * is a GELU; heads of up to 256.
 */
#include "rows.h"

static const struct config_key keys[] = {
    KEYS_SIZES(256000, 3072, 24576, 28, 16, 8192),
    {"num_key_value_heads", CONFIG_INT, FIELD(num_key_value_heads), 16, CONFIG_REFUSED, CONFIG_REFUSED},
    {"head_dim", CONFIG_INT, FIELD(head_dim), 256, CONFIG_REFUSED, CONFIG_REFUSED},
    KEYS_COMMON(1e-6, true),
    KEYS_ATTENTION_BIAS,
    {0},
};

static const struct config_refusal refusals[] = {
    CAUSAL_ONLY,
    {0},
};

static const struct family_tensor tensors[] = {
    TENSOR_EMBEDDING,
    TENSOR_NORM(SLOT_NORM1_WEIGHT, "input_layernorm"),
    TENSORS_QKV,
    TENSORS_QKV_BIAS(FIELD(attention_bias)),
    TENSOR_O,
    TENSOR_O_BIAS,
    TENSOR_NORM(SLOT_NORM2_WEIGHT, "post_attention_layernorm"),
    TENSORS_UP,
    TENSOR_DOWN,
    TENSORS_HEAD,
    {0},
};

static const char *const ignored[] = {"rotary_emb.inv_freq", NULL};

const struct family family_gemma = {
    GEMMA_LIKE,
    .model_type = "gemma",
    .architecture = "GemmaForCausalLM",
    .activation_key = "hidden_act",
    .gelu_is_tanh = true,
    .key = keys,
    .refusal = refusals,
    .tensor = tensors,
    .ignored = ignored,
};

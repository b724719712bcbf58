/* mistral.c - Mistral 7B, Mistral-Nemo and kin: a Llama whose attention may have a sliding window, in all layers. */
#include "rows.h"

static const struct config_key keys[] = {
    KEYS_SIZES(32000, 4096, 14336, 32, 32, 131072),
    {"num_key_value_heads", CONFIG_INT, FIELD(num_key_value_heads), 8, CONFIG_REFUSED, CONFIG_REFUSED},
    {"head_dim", CONFIG_INT, FIELD(head_dim), CONFIG_DERIVED, CONFIG_DERIVED, CONFIG_DERIVED},
    {"sliding_window", CONFIG_INT, FIELD(sliding_window), 4096, 0, CONFIG_REFUSED},
    KEYS_COMMON(1e-6, false),
    {0},
};

static const struct config_refusal refusals[] = {
    {"layer_types", .reason = "a mistral model has no such key (a ministral has), and transformers fails on it"},
    {0},
};

static const struct family_tensor tensors[] = {
    TENSOR_EMBEDDING,
    TENSOR_NORM(SLOT_NORM1_WEIGHT, "input_layernorm"),
    TENSORS_QKV,
    TENSOR_O,
    TENSOR_NORM(SLOT_NORM2_WEIGHT, "post_attention_layernorm"),
    TENSORS_UP,
    TENSOR_DOWN,
    TENSORS_HEAD,
    {0},
};

static const char *const ignored[] = {"rotary_emb.inv_freq", NULL};

const struct family family_mistral = {
    LLAMA_LIKE,
    .model_type = "mistral",
    .architecture = "MistralForCausalLM",
    .bos_token_id = 1,
    .eos_token_id = 2,
    .pad_token_id = -1,
    .key = keys,
    .refusal = refusals,
    .tensor = tensors,
    .ignored = ignored,
};

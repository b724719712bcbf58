/* qwen2.c - Qwen2 and Qwen2.5: a Llama with biases on queries, keys and values. Its upper layers may have a sliding window. */
#include "rows.h"

static const struct config_key keys[] = {
    KEYS_SIZES(151936, 4096, 22016, 32, 32, 32768),
    {"num_key_value_heads", CONFIG_INT, FIELD(num_key_value_heads), 32, CONFIG_DERIVED, CONFIG_REFUSED},
    {"head_dim", CONFIG_INT, FIELD(head_dim), CONFIG_DERIVED, CONFIG_REFUSED, CONFIG_REFUSED},
    KEYS_COMMON(1e-6, false),
    {0},
};

static const struct config_refusal refusals[] = {{0}};

static const struct family_tensor tensors[] = {
    TENSOR_EMBEDDING,
    TENSOR_NORM(SLOT_NORM1_WEIGHT, "input_layernorm"),
    TENSORS_QKV,
    TENSORS_QKV_BIAS(ALWAYS),
    TENSOR_O,
    TENSOR_NORM(SLOT_NORM2_WEIGHT, "post_attention_layernorm"),
    TENSORS_UP,
    TENSOR_DOWN,
    TENSORS_HEAD,
    {0},
};

static const char *const ignored[] = {"rotary_emb.inv_freq", NULL};

const struct family family_qwen2 = {
    LLAMA_LIKE,
    .model_type = "qwen2",
    .architecture = "Qwen2ForCausalLM",
    .bos_token_id = -1,
    .eos_token_id = -1,
    .pad_token_id = -1,
    .windows_by_layer = true,
    .key = keys,
    .refusal = refusals,
    .tensor = tensors,
    .ignored = ignored,
};

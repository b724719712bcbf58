/* smollm3.c - SmolLM3: a Llama of which every fourth layer has no rotary positions, or those that a list names. */
#include "rows.h"

static const struct config_key keys[] = {
    KEYS_SIZES(128256, 2048, 11008, 36, 16, 32768),
    {"num_key_value_heads", CONFIG_INT, FIELD(num_key_value_heads), 4, CONFIG_DERIVED, CONFIG_REFUSED},
    {"head_dim", CONFIG_INT, FIELD(head_dim), CONFIG_DERIVED, CONFIG_REFUSED, CONFIG_REFUSED},
    KEYS_COMMON(1e-6, true),
    KEYS_ATTENTION_BIAS,
    KEY_MLP_BIAS,
    {0},
};

static const struct config_refusal refusals[] = {{0}};

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
    TENSORS_MLP_BIAS,
    TENSORS_HEAD,
    {0},
};

static const char *const ignored[] = {"rotary_emb.inv_freq", NULL};

const struct family family_smollm3 = {
    LLAMA_LIKE,
    .model_type = "smollm3",
    .architecture = "SmolLM3ForCausalLM",
    .bos_token_id = 128000,
    .eos_token_id = 128001,
    .pad_token_id = 128004,
    .rope_theta = 2e6,
    .windows_by_layer = true,
    .unrotated_layers = true,
    .key = keys,
    .refusal = refusals,
    .tensor = tensors,
    .ignored = ignored,
};

/* qwen3.c - Qwen3, dense: a Llama with an RMS norm of every query and key head before the rotation, and heads whose width
 * does not follow from hidden_size. Its upper layers may have a sliding window.
 */
#include "rows.h"

static const struct config_key keys[] = {
    KEYS_SIZES(151936, 4096, 22016, 32, 32, 32768),
    {"num_key_value_heads", CONFIG_INT, FIELD(num_key_value_heads), 32, CONFIG_DERIVED, CONFIG_REFUSED},
    {"head_dim", CONFIG_INT, FIELD(head_dim), 128, CONFIG_REFUSED, CONFIG_REFUSED},
    KEYS_COMMON(1e-6, false),
    KEYS_ATTENTION_BIAS,
    {0},
};

static const struct config_refusal refusals[] = {{0}};

static const struct family_tensor tensors[] = {
    TENSOR_EMBEDDING,
    TENSOR_NORM(SLOT_NORM1_WEIGHT, "input_layernorm"),
    TENSORS_QKV,
    TENSORS_QKV_BIAS(FIELD(attention_bias)),
    TENSORS_QK_NORM,
    TENSOR_O,
    TENSOR_O_BIAS,
    TENSOR_NORM(SLOT_NORM2_WEIGHT, "post_attention_layernorm"),
    TENSORS_UP,
    TENSOR_DOWN,
    TENSORS_HEAD,
    {0},
};

static const char *const ignored[] = {"rotary_emb.inv_freq", NULL};

const struct family family_qwen3 = {
    LLAMA_LIKE,
    .model_type = "qwen3",
    .architecture = "Qwen3ForCausalLM",
    .qk_norm = QK_NORM_HEADS,
    .bos_token_id = -1,
    .eos_token_id = -1,
    .pad_token_id = -1,
    .windows_by_layer = true,
    .key = keys,
    .refusal = refusals,
    .tensor = tensors,
    .ignored = ignored,
};

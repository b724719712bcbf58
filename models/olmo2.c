/* olmo2.c - OLMo 2: a Llama whose norms stand behind attention and feed-forward instead of before them, and whose queries
 * and keys are normed over their whole width.
 */
#include "rows.h"

static const struct config_key keys[] = {
    KEYS_SIZES(50304, 4096, 11008, 32, 32, 2048),
    {"num_key_value_heads", CONFIG_INT, FIELD(num_key_value_heads), CONFIG_DERIVED, CONFIG_DERIVED, CONFIG_REFUSED},
    {"head_dim", CONFIG_INT, FIELD(head_dim), CONFIG_DERIVED, CONFIG_REFUSED, CONFIG_REFUSED},
    KEYS_COMMON(1e-5, false),
    KEYS_ATTENTION_BIAS,
    {0},
};

static const struct config_refusal refusals[] = {{0}};

static const struct family_tensor tensors[] = {
    TENSOR_EMBEDDING,
    TENSORS_QKV,
    TENSORS_QKV_BIAS(FIELD(attention_bias)),
    TENSORS_QK_NORM,
    TENSOR_O,
    TENSOR_O_BIAS,
    TENSOR_NORM(SLOT_POST_NORM1_WEIGHT, "post_attention_layernorm"),
    TENSORS_UP,
    TENSOR_DOWN,
    TENSOR_NORM(SLOT_POST_NORM2_WEIGHT, "post_feedforward_layernorm"),
    TENSORS_HEAD,
    {0},
};

static const char *const ignored[] = {"rotary_emb.inv_freq", NULL};

const struct family family_olmo2 = {
    LLAMA_LIKE,
    .model_type = "olmo2",
    .architecture = "Olmo2ForCausalLM",
    .qk_norm = QK_NORM_WIDE,
    .bos_token_id = -1,
    .eos_token_id = 50279,
    .pad_token_id = 1,
    .key = keys,
    .refusal = refusals,
    .tensor = tensors,
    .ignored = ignored,
};

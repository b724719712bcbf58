/* llama.c - Llama 2, 3, 3.1, 3.2, SmolLM2 and every other LlamaForCausalLM.
 *
 * RMS norm, rotary positions, grouped key/value heads, SwiGLU; lm_head may be tied to the embedding.
 */
#include "rows.h"

static const struct config_key keys[] = {
    KEYS_SIZES(32000, 4096, 11008, 32, 32, 2048),
    {"num_key_value_heads", CONFIG_INT, FIELD(num_key_value_heads), CONFIG_DERIVED, CONFIG_DERIVED, CONFIG_REFUSED},
    {"head_dim", CONFIG_INT, FIELD(head_dim), CONFIG_DERIVED, CONFIG_DERIVED, CONFIG_REFUSED},
    KEYS_COMMON(1e-6, false),
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

const struct family family_llama = {
    LLAMA_LIKE,
    .model_type = "llama",
    .architecture = "LlamaForCausalLM",
    .bos_token_id = 1,
    .eos_token_id = 2,
    .pad_token_id = -1,
    .key = keys,
    .refusal = refusals,
    .tensor = tensors,
    .ignored = ignored,
};

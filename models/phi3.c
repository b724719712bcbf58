/* phi3.c - Phi-3, 3.5 and 4: a Llama whose file holds queries, keys and values as one tensor, and gate and up as another.
 * Longrope positions are those of sequences up to the pretraining's length; longer ones are refused.
 */
#include "rows.h"

static const struct config_key keys[] = {
    KEYS_SIZES(32064, 3072, 8192, 32, 32, 4096),
    {"original_max_position_embeddings", CONFIG_DOUBLE, FIELD(rope[ROPE_EVERYWHERE].original_max_positions), 4096,
     CONFIG_REFUSED, 0},
    {"num_key_value_heads", CONFIG_INT, FIELD(num_key_value_heads), CONFIG_DERIVED, CONFIG_DERIVED, CONFIG_REFUSED},
    {"head_dim", CONFIG_INT, FIELD(head_dim), CONFIG_DERIVED, CONFIG_REFUSED, CONFIG_REFUSED},
    {"sliding_window", CONFIG_INT, FIELD(sliding_window), 0, 0, CONFIG_REFUSED},
    KEYS_COMMON(1e-5, false),
    {0},
};

static const struct config_refusal refusals[] = {{0}};

static const struct family_tensor tensors[] = {
    TENSOR_EMBEDDING,
    TENSOR_NORM(SLOT_NORM1_WEIGHT, "input_layernorm"),
    {SLOT_QKV_WEIGHT, PART_ALL, LAYER "self_attn.qkv_proj.weight", ALWAYS},
    TENSOR_O,
    TENSOR_NORM(SLOT_NORM2_WEIGHT, "post_attention_layernorm"),
    {SLOT_UP_WEIGHT, PART_ALL, LAYER "mlp.gate_up_proj.weight", ALWAYS},
    TENSOR_DOWN,
    TENSORS_HEAD,
    {0},
};

static const char *const ignored[] = {"rotary_emb.inv_freq", NULL};

const struct family family_phi3 = {
    LLAMA_LIKE,
    .model_type = "phi3",
    .architecture = "Phi3ForCausalLM",
    .bos_token_id = 1,
    .eos_token_id = 32000,
    .pad_token_id = 32000,
    .partial_rotary_factor = 1,
    .rope_long = true,
    .key = keys,
    .refusal = refusals,
    .tensor = tensors,
    .ignored = ignored,
};

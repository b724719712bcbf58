/* phi3.c - Phi-3, 3.5 and 4: a Llama whose file holds queries, keys and values as one tensor, and gate and up as another.
 * Longrope positions are those of sequences up to the pretraining's length; longer ones are refused.
 */
#include "../host/model/family.h"

#define FIELD(name) offsetof(struct model_config, name)

/* name, type, field; the value when it is absent, null, 0 */
static const struct config_key keys[] = {
    {"vocab_size", CONFIG_INT, FIELD(vocab_size), 32064, CONFIG_REFUSED, CONFIG_REFUSED},
    {"hidden_size", CONFIG_INT, FIELD(hidden_size), 3072, CONFIG_REFUSED, CONFIG_REFUSED},
    {"intermediate_size", CONFIG_INT, FIELD(intermediate_size), 8192, CONFIG_REFUSED, CONFIG_REFUSED},
    {"num_hidden_layers", CONFIG_INT, FIELD(num_hidden_layers), 32, CONFIG_REFUSED, CONFIG_REFUSED},
    {"num_attention_heads", CONFIG_INT, FIELD(num_attention_heads), 32, CONFIG_REFUSED, CONFIG_REFUSED},
    {"max_position_embeddings", CONFIG_INT, FIELD(max_position_embeddings), 4096, CONFIG_REFUSED, CONFIG_REFUSED},
    {"original_max_position_embeddings", CONFIG_DOUBLE, FIELD(rope_original_max_positions), 4096, CONFIG_REFUSED,
     CONFIG_REFUSED},
    {"num_key_value_heads", CONFIG_INT, FIELD(num_key_value_heads), CONFIG_DERIVED, CONFIG_DERIVED, CONFIG_REFUSED},
    {"head_dim", CONFIG_INT, FIELD(head_dim), CONFIG_DERIVED, CONFIG_REFUSED, CONFIG_REFUSED},
    {"sliding_window", CONFIG_INT, FIELD(sliding_window), 0, 0, CONFIG_REFUSED},
    {"rms_norm_eps", CONFIG_DOUBLE, FIELD(norm_eps), 1e-5, CONFIG_REFUSED, 0},
    {"initializer_range", CONFIG_DOUBLE, FIELD(initializer_range), 0.02, CONFIG_REFUSED, 0.02},
    {"tie_word_embeddings", CONFIG_NOT, FIELD(untied), false, CONFIG_REFUSED, 0},
    {0},
};

static const struct config_refusal refusals[] = {{0}};

#define LAYER "model.layers.%d."
static const struct family_tensor tensors[] = {
    {SLOT_EMBEDDING, PART_ALL, "model.embed_tokens.weight", ALWAYS},
    {SLOT_NORM1_WEIGHT, PART_ALL, LAYER "input_layernorm.weight", ALWAYS},
    {SLOT_QKV_WEIGHT, PART_ALL, LAYER "self_attn.qkv_proj.weight", ALWAYS},
    {SLOT_O_WEIGHT, PART_ALL, LAYER "self_attn.o_proj.weight", ALWAYS},
    {SLOT_NORM2_WEIGHT, PART_ALL, LAYER "post_attention_layernorm.weight", ALWAYS},
    {SLOT_UP_WEIGHT, PART_ALL, LAYER "mlp.gate_up_proj.weight", ALWAYS},
    {SLOT_DOWN_WEIGHT, PART_ALL, LAYER "mlp.down_proj.weight", ALWAYS},
    {SLOT_FINAL_NORM_WEIGHT, PART_ALL, "model.norm.weight", ALWAYS},
    {SLOT_HEAD_WEIGHT, PART_ALL, "lm_head.weight", FIELD(untied)},
    {0},
};

static const char *const ignored[] = {"rotary_emb.inv_freq", NULL};

const struct family family_phi3 = {
    .model_type = "phi3",
    .architecture = "Phi3ForCausalLM",
    .base_prefix = "model.",
    .norm = NORM_RMS,
    .gated = true,
    .rotary = true,
    .activation_key = "hidden_act",
    .activation_fallback = "silu",
    .bos_token_id = 1,
    .eos_token_id = 32000,
    .pad_token_id = 32000,
    .padding_row = true,
    .partial_rotary_factor = 1,
    .rope_long = true,
    .key = keys,
    .refusal = refusals,
    .tensor = tensors,
    .ignored = ignored,
};

/* phi.c - Phi-1, Phi-1.5 and Phi-2: one Layer norm per layer that feeds attention and feed-forward in parallel, rotary
 * positions on a part of each head, biases everywhere, lm_head's included.
 */
#include "../host/model/family.h"

#define FIELD(name) offsetof(struct model_config, name)

/* name, type, field; the value when it is absent, null, 0 */
static const struct config_key keys[] = {
    {"vocab_size", CONFIG_INT, FIELD(vocab_size), 51200, CONFIG_REFUSED, CONFIG_REFUSED},
    {"hidden_size", CONFIG_INT, FIELD(hidden_size), 2048, CONFIG_REFUSED, CONFIG_REFUSED},
    {"intermediate_size", CONFIG_INT, FIELD(intermediate_size), 8192, CONFIG_REFUSED, CONFIG_REFUSED},
    {"num_hidden_layers", CONFIG_INT, FIELD(num_hidden_layers), 24, CONFIG_REFUSED, CONFIG_REFUSED},
    {"num_attention_heads", CONFIG_INT, FIELD(num_attention_heads), 32, CONFIG_REFUSED, CONFIG_REFUSED},
    {"max_position_embeddings", CONFIG_INT, FIELD(max_position_embeddings), 2048, CONFIG_REFUSED, CONFIG_REFUSED},
    {"num_key_value_heads", CONFIG_INT, FIELD(num_key_value_heads), CONFIG_DERIVED, CONFIG_DERIVED, CONFIG_REFUSED},
    {"head_dim", CONFIG_INT, FIELD(head_dim), CONFIG_DERIVED, CONFIG_REFUSED, CONFIG_REFUSED},
    {"layer_norm_eps", CONFIG_DOUBLE, FIELD(norm_eps), 1e-5, CONFIG_REFUSED, 0},
    {"initializer_range", CONFIG_DOUBLE, FIELD(initializer_range), 0.02, CONFIG_REFUSED, 0.02},
    {"tie_word_embeddings", CONFIG_NOT, FIELD(untied), false, CONFIG_REFUSED, 0},
    {0},
};

static const struct config_refusal refusals[] = {
    {"qk_layernorm", .allow_false = true,
     .reason = "norms of queries and keys are not supported; only false is accepted"},
    {0},
};

#define LAYER "model.layers.%d."
static const struct family_tensor tensors[] = {
    {SLOT_EMBEDDING, PART_ALL, "model.embed_tokens.weight", ALWAYS},
    {SLOT_NORM1_WEIGHT, PART_ALL, LAYER "input_layernorm.weight", ALWAYS},
    {SLOT_NORM1_BIAS, PART_ALL, LAYER "input_layernorm.bias", ALWAYS},
    {SLOT_QKV_WEIGHT, PART_Q, LAYER "self_attn.q_proj.weight", ALWAYS},
    {SLOT_QKV_WEIGHT, PART_K, LAYER "self_attn.k_proj.weight", ALWAYS},
    {SLOT_QKV_WEIGHT, PART_V, LAYER "self_attn.v_proj.weight", ALWAYS},
    {SLOT_QKV_BIAS, PART_Q, LAYER "self_attn.q_proj.bias", ALWAYS},
    {SLOT_QKV_BIAS, PART_K, LAYER "self_attn.k_proj.bias", ALWAYS},
    {SLOT_QKV_BIAS, PART_V, LAYER "self_attn.v_proj.bias", ALWAYS},
    {SLOT_O_WEIGHT, PART_ALL, LAYER "self_attn.dense.weight", ALWAYS},
    {SLOT_O_BIAS, PART_ALL, LAYER "self_attn.dense.bias", ALWAYS},
    {SLOT_UP_WEIGHT, PART_ALL, LAYER "mlp.fc1.weight", ALWAYS},
    {SLOT_UP_BIAS, PART_ALL, LAYER "mlp.fc1.bias", ALWAYS},
    {SLOT_DOWN_WEIGHT, PART_ALL, LAYER "mlp.fc2.weight", ALWAYS},
    {SLOT_DOWN_BIAS, PART_ALL, LAYER "mlp.fc2.bias", ALWAYS},
    {SLOT_FINAL_NORM_WEIGHT, PART_ALL, "model.final_layernorm.weight", ALWAYS},
    {SLOT_FINAL_NORM_BIAS, PART_ALL, "model.final_layernorm.bias", ALWAYS},
    {SLOT_HEAD_WEIGHT, PART_ALL, "lm_head.weight", FIELD(untied)},
    {SLOT_HEAD_BIAS, PART_ALL, "lm_head.bias", ALWAYS},
    {0},
};

static const char *const ignored[] = {"rotary_emb.inv_freq", NULL};

const struct family family_phi = {
    .model_type = "phi",
    .architecture = "PhiForCausalLM",
    .base_prefix = "model.",
    .norm = NORM_LAYER,
    .rotary = true,
    .parallel = true,
    .head_bias = true,
    .activation_key = "hidden_act",
    .activation_fallback = "gelu_new",
    .bos_token_id = 1,
    .eos_token_id = 2,
    .pad_token_id = -1,
    .padding_row = true,
    .partial_rotary_factor = 0.5,
    .key = keys,
    .refusal = refusals,
    .tensor = tensors,
    .ignored = ignored,
};

/* qwen2.c - Qwen2 and Qwen2.5: a Llama with biases on queries, keys and values. */
#include "../host/model/family.h"

#define FIELD(name) offsetof(struct model_config, name)

static const struct config_key keys[] = {
    {"vocab_size", NULL, CONFIG_INT, FIELD(vocab_size), 0, true},
    {"hidden_size", NULL, CONFIG_INT, FIELD(hidden_size), 0, true},
    {"intermediate_size", NULL, CONFIG_INT, FIELD(intermediate_size), 0, true},
    {"num_hidden_layers", NULL, CONFIG_INT, FIELD(num_hidden_layers), 0, true},
    {"num_attention_heads", NULL, CONFIG_INT, FIELD(num_attention_heads), 0, true},
    {"num_key_value_heads", NULL, CONFIG_INT, FIELD(num_key_value_heads), 32, false},
    {"head_dim", NULL, CONFIG_INT, FIELD(head_dim), 0, false},
    {"max_position_embeddings", NULL, CONFIG_INT, FIELD(max_position_embeddings), 32768, false},
    {0},
};

static const struct config_refusal refusals[] = {
    {"use_sliding_window", .allow_false = true, .allow_null = true,
     .reason = "sliding windows are not supported; only false is accepted"},
    {0},
};

#define LAYER "model.layers.%d."
static const struct family_tensor tensors[] = {
    {SLOT_EMBEDDING, PART_ALL, "model.embed_tokens.weight", ALWAYS},
    {SLOT_NORM1_WEIGHT, PART_ALL, LAYER "input_layernorm.weight", ALWAYS},
    {SLOT_QKV_WEIGHT, PART_Q, LAYER "self_attn.q_proj.weight", ALWAYS},
    {SLOT_QKV_WEIGHT, PART_K, LAYER "self_attn.k_proj.weight", ALWAYS},
    {SLOT_QKV_WEIGHT, PART_V, LAYER "self_attn.v_proj.weight", ALWAYS},
    {SLOT_QKV_BIAS, PART_Q, LAYER "self_attn.q_proj.bias", ALWAYS},
    {SLOT_QKV_BIAS, PART_K, LAYER "self_attn.k_proj.bias", ALWAYS},
    {SLOT_QKV_BIAS, PART_V, LAYER "self_attn.v_proj.bias", ALWAYS},
    {SLOT_O_WEIGHT, PART_ALL, LAYER "self_attn.o_proj.weight", ALWAYS},
    {SLOT_NORM2_WEIGHT, PART_ALL, LAYER "post_attention_layernorm.weight", ALWAYS},
    {SLOT_UP_WEIGHT, PART_GATE, LAYER "mlp.gate_proj.weight", ALWAYS},
    {SLOT_UP_WEIGHT, PART_UP, LAYER "mlp.up_proj.weight", ALWAYS},
    {SLOT_DOWN_WEIGHT, PART_ALL, LAYER "mlp.down_proj.weight", ALWAYS},
    {SLOT_FINAL_NORM_WEIGHT, PART_ALL, "model.norm.weight", ALWAYS},
    {SLOT_HEAD_WEIGHT, PART_ALL, "lm_head.weight", FIELD(untied)},
    {0},
};

static const char *const ignored[] = {"rotary_emb.inv_freq", NULL};

const struct family family_qwen2 = {
    .model_type = "qwen2",
    .architecture = "Qwen2ForCausalLM",
    .base_prefix = "model.",
    .norm = NORM_RMS,
    .gated = true,
    .rotary = true,
    .norm_eps_key = "rms_norm_eps",
    .norm_eps_fallback = 1e-6,
    .activation_key = "hidden_act",
    .activation_fallback = "silu",
    .key = keys,
    .refusal = refusals,
    .tensor = tensors,
    .ignored = ignored,
};

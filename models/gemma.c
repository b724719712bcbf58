/* gemma.c - Gemma 1: a Llama whose norms multiply by 1 + weight, whose embedding is scaled by sqrt(hidden_size) and whose gate
 * is a GELU; heads of up to 256.
 */
#include "../host/model/family.h"

#define FIELD(name) offsetof(struct model_config, name)

/* name, type, field; the value when it is absent, null, 0 */
static const struct config_key keys[] = {
    {"vocab_size", CONFIG_INT, FIELD(vocab_size), 256000, CONFIG_REFUSED, CONFIG_REFUSED},
    {"hidden_size", CONFIG_INT, FIELD(hidden_size), 3072, CONFIG_REFUSED, CONFIG_REFUSED},
    {"intermediate_size", CONFIG_INT, FIELD(intermediate_size), 24576, CONFIG_REFUSED, CONFIG_REFUSED},
    {"num_hidden_layers", CONFIG_INT, FIELD(num_hidden_layers), 28, CONFIG_REFUSED, CONFIG_REFUSED},
    {"num_attention_heads", CONFIG_INT, FIELD(num_attention_heads), 16, CONFIG_REFUSED, CONFIG_REFUSED},
    {"max_position_embeddings", CONFIG_INT, FIELD(max_position_embeddings), 8192, CONFIG_REFUSED, CONFIG_REFUSED},
    {"num_key_value_heads", CONFIG_INT, FIELD(num_key_value_heads), 16, CONFIG_REFUSED, CONFIG_REFUSED},
    {"head_dim", CONFIG_INT, FIELD(head_dim), 256, CONFIG_REFUSED, CONFIG_REFUSED},
    {"rms_norm_eps", CONFIG_DOUBLE, FIELD(norm_eps), 1e-6, CONFIG_REFUSED, 0},
    {"initializer_range", CONFIG_DOUBLE, FIELD(initializer_range), 0.02, CONFIG_REFUSED, 0.02},
    {"attention_bias", CONFIG_BOOL, FIELD(attention_bias), false, CONFIG_REFUSED, 0},
    {"attention_bias", CONFIG_BOOL, FIELD(o_bias), false, CONFIG_REFUSED, 0},
    {"tie_word_embeddings", CONFIG_NOT, FIELD(untied), true, CONFIG_REFUSED, 0},
    {0},
};

static const struct config_refusal refusals[] = {
    {"use_bidirectional_attention", .allow_null = true, .allow_false = true, .reason = "only causal attention is supported"},
    {0},
};

#define LAYER "model.layers.%d."
static const struct family_tensor tensors[] = {
    {SLOT_EMBEDDING, PART_ALL, "model.embed_tokens.weight", ALWAYS},
    {SLOT_NORM1_WEIGHT, PART_ALL, LAYER "input_layernorm.weight", ALWAYS},
    {SLOT_QKV_WEIGHT, PART_Q, LAYER "self_attn.q_proj.weight", ALWAYS},
    {SLOT_QKV_WEIGHT, PART_K, LAYER "self_attn.k_proj.weight", ALWAYS},
    {SLOT_QKV_WEIGHT, PART_V, LAYER "self_attn.v_proj.weight", ALWAYS},
    {SLOT_QKV_BIAS, PART_Q, LAYER "self_attn.q_proj.bias", FIELD(attention_bias)},
    {SLOT_QKV_BIAS, PART_K, LAYER "self_attn.k_proj.bias", FIELD(attention_bias)},
    {SLOT_QKV_BIAS, PART_V, LAYER "self_attn.v_proj.bias", FIELD(attention_bias)},
    {SLOT_O_WEIGHT, PART_ALL, LAYER "self_attn.o_proj.weight", ALWAYS},
    {SLOT_O_BIAS, PART_ALL, LAYER "self_attn.o_proj.bias", FIELD(o_bias)},
    {SLOT_NORM2_WEIGHT, PART_ALL, LAYER "post_attention_layernorm.weight", ALWAYS},
    {SLOT_UP_WEIGHT, PART_GATE, LAYER "mlp.gate_proj.weight", ALWAYS},
    {SLOT_UP_WEIGHT, PART_UP, LAYER "mlp.up_proj.weight", ALWAYS},
    {SLOT_DOWN_WEIGHT, PART_ALL, LAYER "mlp.down_proj.weight", ALWAYS},
    {SLOT_FINAL_NORM_WEIGHT, PART_ALL, "model.norm.weight", ALWAYS},
    {SLOT_HEAD_WEIGHT, PART_ALL, "lm_head.weight", FIELD(untied)},
    {0},
};

static const char *const ignored[] = {"rotary_emb.inv_freq", NULL};

const struct family family_gemma = {
    .model_type = "gemma",
    .architecture = "GemmaForCausalLM",
    .base_prefix = "model.",
    .norm = NORM_RMS,
    .gated = true,
    .gelu_is_tanh = true,
    .embedding_scaled = true,
    .norm_offset = 1,
    .rotary = true,
    .activation_key = "hidden_act",
    .activation_fallback = "gelu_pytorch_tanh",
    .bos_token_id = 2,
    .eos_token_id = 1,
    .pad_token_id = 0,
    .padding_row = true,
    .key = keys,
    .refusal = refusals,
    .tensor = tensors,
    .ignored = ignored,
};

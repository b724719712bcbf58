/* rows.h - rows that the tables of Llama and its kin have in common: keys of config.json, names of tensors, and what the
 * families themselves share. A family's own file says what is different. Only models/<family>.c include it.
 */
#ifndef FLAT_MODELS_ROWS_H
#define FLAT_MODELS_ROWS_H
#include "../host/model/family.h"

#define FIELD(name) offsetof(struct model_config, name)
#define LAYER "model.layers.%d."

/* Keys: name, type, field; the value when it is absent, null, 0. */
#define KEY_SIZE(name, absent) {#name, CONFIG_INT, FIELD(name), absent, CONFIG_REFUSED, CONFIG_REFUSED}
#define KEYS_SIZES(vocab, hidden, intermediate, layers, heads, positions)                                              \
    KEY_SIZE(vocab_size, vocab), KEY_SIZE(hidden_size, hidden), KEY_SIZE(intermediate_size, intermediate),             \
        KEY_SIZE(num_hidden_layers, layers), KEY_SIZE(num_attention_heads, heads),                                     \
        KEY_SIZE(max_position_embeddings, positions)
#define KEYS_COMMON(eps, tied)                                                                                         \
    {"rms_norm_eps", CONFIG_DOUBLE, FIELD(norm_eps), eps, CONFIG_REFUSED, 0},                                          \
        {"initializer_range", CONFIG_DOUBLE, FIELD(initializer_range), 0.02, CONFIG_REFUSED, 0.02},                    \
        {"tie_word_embeddings", CONFIG_NOT, FIELD(untied), tied, CONFIG_REFUSED, 0}
#define KEYS_ATTENTION_BIAS                                                                                            \
    {"attention_bias", CONFIG_BOOL, FIELD(attention_bias), false, CONFIG_REFUSED, 0},                                  \
        {"attention_bias", CONFIG_BOOL, FIELD(o_bias), false, CONFIG_REFUSED, 0}
#define KEY_MLP_BIAS {"mlp_bias", CONFIG_BOOL, FIELD(mlp_bias), false, CONFIG_REFUSED, 0}

/* Tensors: slot, part, name, condition. */
#define TENSOR_EMBEDDING {SLOT_EMBEDDING, PART_ALL, "model.embed_tokens.weight", ALWAYS}
#define TENSOR_NORM(slot, name) {slot, PART_ALL, LAYER name ".weight", ALWAYS}
#define TENSORS_QKV                                                                                                    \
    {SLOT_QKV_WEIGHT, PART_Q, LAYER "self_attn.q_proj.weight", ALWAYS},                                                \
        {SLOT_QKV_WEIGHT, PART_K, LAYER "self_attn.k_proj.weight", ALWAYS},                                            \
        {SLOT_QKV_WEIGHT, PART_V, LAYER "self_attn.v_proj.weight", ALWAYS}
#define TENSORS_QKV_BIAS(condition)                                                                                    \
    {SLOT_QKV_BIAS, PART_Q, LAYER "self_attn.q_proj.bias", condition},                                                 \
        {SLOT_QKV_BIAS, PART_K, LAYER "self_attn.k_proj.bias", condition},                                             \
        {SLOT_QKV_BIAS, PART_V, LAYER "self_attn.v_proj.bias", condition}
#define TENSORS_QK_NORM                                                                                                \
    TENSOR_NORM(SLOT_Q_NORM_WEIGHT, "self_attn.q_norm"), TENSOR_NORM(SLOT_K_NORM_WEIGHT, "self_attn.k_norm")
#define TENSOR_O {SLOT_O_WEIGHT, PART_ALL, LAYER "self_attn.o_proj.weight", ALWAYS}
#define TENSOR_O_BIAS {SLOT_O_BIAS, PART_ALL, LAYER "self_attn.o_proj.bias", FIELD(o_bias)}
#define TENSORS_UP                                                                                                     \
    {SLOT_UP_WEIGHT, PART_GATE, LAYER "mlp.gate_proj.weight", ALWAYS},                                                 \
        {SLOT_UP_WEIGHT, PART_UP, LAYER "mlp.up_proj.weight", ALWAYS}
#define TENSOR_DOWN {SLOT_DOWN_WEIGHT, PART_ALL, LAYER "mlp.down_proj.weight", ALWAYS}
#define TENSORS_MLP_BIAS                                                                                               \
    {SLOT_UP_BIAS, PART_GATE, LAYER "mlp.gate_proj.bias", FIELD(mlp_bias)},                                            \
        {SLOT_UP_BIAS, PART_UP, LAYER "mlp.up_proj.bias", FIELD(mlp_bias)},                                            \
        {SLOT_DOWN_BIAS, PART_ALL, LAYER "mlp.down_proj.bias", FIELD(mlp_bias)}
#define TENSORS_HEAD                                                                                                   \
    {SLOT_FINAL_NORM_WEIGHT, PART_ALL, "model.norm.weight", ALWAYS},                                                   \
        {SLOT_HEAD_WEIGHT, PART_ALL, "lm_head.weight", FIELD(untied)}
/* The norms of a Gemma since its second version: before and behind attention, before and behind the feed-forward. */
#define TENSORS_FOUR_NORMS                                                                                             \
    TENSOR_NORM(SLOT_NORM1_WEIGHT, "input_layernorm"),                                                                 \
        TENSOR_NORM(SLOT_POST_NORM1_WEIGHT, "post_attention_layernorm"),                                               \
        TENSOR_NORM(SLOT_NORM2_WEIGHT, "pre_feedforward_layernorm"),                                                   \
        TENSOR_NORM(SLOT_POST_NORM2_WEIGHT, "post_feedforward_layernorm")

/* RMS norm, gated feed-forward, rotary positions. */
#define LLAMA_LIKE                                                                                                     \
    .base_prefix = "model.", .norm = NORM_RMS, .gated = true, .rotary = true, .padding_row = true,                     \
    .activation_key = "hidden_act", .activation_fallback = "silu"
/* Norms by 1 + weight, a scaled embedding, GeGLU. */
#define GEMMA_LIKE                                                                                                     \
    .base_prefix = "model.", .norm = NORM_RMS, .gated = true, .rotary = true, .padding_row = true,                     \
    .embedding_scaled = true, .norm_offset = 1, .bos_token_id = 2, .eos_token_id = 1, .pad_token_id = 0,               \
    .activation_fallback = "gelu_pytorch_tanh"
#define CAUSAL_ONLY                                                                                                    \
    {"use_bidirectional_attention", .allow_null = true, .allow_false = true, .reason = "only causal attention is supported"}

#endif

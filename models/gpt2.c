/* gpt2.c - GPT-2 and DistilGPT-2: Layer norms, learned positions, fused and transposed (Conv1D) projections, tied
 * lm_head. Dropout is off.
 */
#include "../host/model/family.h"

#define FIELD(name) offsetof(struct model_config, name)

/* name, type, field; the value when it is absent, null, 0 */
static const struct config_key keys[] = {
    {"vocab_size", CONFIG_INT, FIELD(vocab_size), 50257, CONFIG_REFUSED, CONFIG_REFUSED},
    {"n_embd", CONFIG_INT, FIELD(hidden_size), 768, CONFIG_REFUSED, CONFIG_REFUSED},
    {"hidden_size", CONFIG_INT, FIELD(hidden_size), CONFIG_KEPT, CONFIG_REFUSED, CONFIG_REFUSED},
    {"n_layer", CONFIG_INT, FIELD(num_hidden_layers), 12, CONFIG_REFUSED, CONFIG_REFUSED},
    {"num_hidden_layers", CONFIG_INT, FIELD(num_hidden_layers), CONFIG_KEPT, CONFIG_REFUSED, CONFIG_REFUSED},
    {"n_head", CONFIG_INT, FIELD(num_attention_heads), 12, CONFIG_REFUSED, CONFIG_REFUSED},
    {"num_attention_heads", CONFIG_INT, FIELD(num_attention_heads), CONFIG_KEPT, CONFIG_REFUSED, CONFIG_REFUSED},
    {"n_positions", CONFIG_INT, FIELD(max_position_embeddings), 1024, CONFIG_REFUSED, CONFIG_REFUSED},
    {"max_position_embeddings", CONFIG_INT, FIELD(max_position_embeddings), CONFIG_KEPT, CONFIG_REFUSED, CONFIG_REFUSED},
    {"n_inner", CONFIG_INT, FIELD(intermediate_size), CONFIG_DERIVED, CONFIG_DERIVED, CONFIG_REFUSED},
    {"layer_norm_epsilon", CONFIG_DOUBLE, FIELD(norm_eps), 1e-5, CONFIG_REFUSED, 0},
    {"initializer_range", CONFIG_DOUBLE, FIELD(initializer_range), 0.02, CONFIG_REFUSED, 0.02},
    {"tie_word_embeddings", CONFIG_NOT, FIELD(untied), true, CONFIG_REFUSED, 0},
    {0},
};

static const struct config_refusal refusals[] = {
    {"scale_attn_weights", .allow_true = true, .reason = "unscaled attention is not supported"},
    {"scale_attn_by_inverse_layer_idx", .allow_false = true,
     .reason = "scaling by the layer's number is not supported"},
    {"reorder_and_upcast_attn", .allow_false = true, .reason = "only false is accepted"},
    {"add_cross_attention", .allow_false = true, .reason = "cross attention is not supported"},
    {0},
};

#define LAYER "transformer.h.%d."
static const struct family_tensor tensors[] = {
    {SLOT_EMBEDDING, PART_ALL, "transformer.wte.weight", ALWAYS},
    {SLOT_POSITION, PART_ALL, "transformer.wpe.weight", ALWAYS},
    {SLOT_NORM1_WEIGHT, PART_ALL, LAYER "ln_1.weight", ALWAYS},
    {SLOT_NORM1_BIAS, PART_ALL, LAYER "ln_1.bias", ALWAYS},
    {SLOT_QKV_WEIGHT, PART_ALL, LAYER "attn.c_attn.weight", ALWAYS, .transposed = true},
    {SLOT_QKV_BIAS, PART_ALL, LAYER "attn.c_attn.bias", ALWAYS},
    {SLOT_O_WEIGHT, PART_ALL, LAYER "attn.c_proj.weight", ALWAYS, .transposed = true},
    {SLOT_O_BIAS, PART_ALL, LAYER "attn.c_proj.bias", ALWAYS},
    {SLOT_NORM2_WEIGHT, PART_ALL, LAYER "ln_2.weight", ALWAYS},
    {SLOT_NORM2_BIAS, PART_ALL, LAYER "ln_2.bias", ALWAYS},
    {SLOT_UP_WEIGHT, PART_ALL, LAYER "mlp.c_fc.weight", ALWAYS, .transposed = true},
    {SLOT_UP_BIAS, PART_ALL, LAYER "mlp.c_fc.bias", ALWAYS},
    {SLOT_DOWN_WEIGHT, PART_ALL, LAYER "mlp.c_proj.weight", ALWAYS, .transposed = true},
    {SLOT_DOWN_BIAS, PART_ALL, LAYER "mlp.c_proj.bias", ALWAYS},
    {SLOT_FINAL_NORM_WEIGHT, PART_ALL, "transformer.ln_f.weight", ALWAYS},
    {SLOT_FINAL_NORM_BIAS, PART_ALL, "transformer.ln_f.bias", ALWAYS},
    {SLOT_HEAD_WEIGHT, PART_ALL, "lm_head.weight", FIELD(untied)},
    {0},
};

/* the causal mask, stored as a buffer by older versions */
static const char *const ignored[] = {".attn.bias", ".attn.masked_bias", NULL};

const struct family family_gpt2 = {
    .model_type = "gpt2",
    .architecture = "GPT2LMHeadModel",
    .base_prefix = "transformer.",
    .norm = NORM_LAYER,
    .activation_key = "activation_function",
    .activation_fallback = "gelu_new",
    .bos_token_id = 50256,
    .eos_token_id = 50256,
    .pad_token_id = -1,
    .residual_init = true,
    .key = keys,
    .refusal = refusals,
    .tensor = tensors,
    .ignored = ignored,
};

/* opt.c - OPT 125M to 66B: Layer norms before each half, ReLU, learned positions that begin at row 2 of their table, tied
 * lm_head. The 350M model, with its norms behind and its projected embeddings, is refused. Dropout is off.
 *
 * transformers' embedding has padding_idx = pad_token_id (1): where that id is among the inputs, its row gets no gradient
 * from there, only from the tied lm_head. Here the row gets its whole derivative. The two differ where a text spells
 * "<pad>" out, and nowhere else: batches are packed, nothing is padded.
 */
#include "../host/model/family.h"

#define FIELD(name) offsetof(struct model_config, name)

/* name, type, field; the value when it is absent, null, 0 */
static const struct config_key keys[] = {
    {"vocab_size", CONFIG_INT, FIELD(vocab_size), 50272, CONFIG_REFUSED, CONFIG_REFUSED},
    {"hidden_size", CONFIG_INT, FIELD(hidden_size), 768, CONFIG_REFUSED, CONFIG_REFUSED},
    {"ffn_dim", CONFIG_INT, FIELD(intermediate_size), 3072, CONFIG_REFUSED, CONFIG_REFUSED},
    {"num_hidden_layers", CONFIG_INT, FIELD(num_hidden_layers), 12, CONFIG_REFUSED, CONFIG_REFUSED},
    {"num_attention_heads", CONFIG_INT, FIELD(num_attention_heads), 12, CONFIG_REFUSED, CONFIG_REFUSED},
    {"max_position_embeddings", CONFIG_INT, FIELD(max_position_embeddings), 2048, CONFIG_REFUSED, CONFIG_REFUSED},
    {"enable_bias", CONFIG_BOOL, FIELD(attention_bias), true, CONFIG_REFUSED, 0},
    {"init_std", CONFIG_DOUBLE, FIELD(initializer_range), 0.02, CONFIG_REFUSED, 0},
    {"initializer_range", CONFIG_DOUBLE, FIELD(initializer_range), CONFIG_KEPT, 0.02, 0.02},
    {"tie_word_embeddings", CONFIG_NOT, FIELD(untied), true, CONFIG_REFUSED, 0},
    {0},
};

static const struct config_refusal refusals[] = {
    {"do_layer_norm_before", .allow_true = true, .reason = "norms behind the blocks (OPT-350M) are not supported"},
    {"word_embed_proj_dim", .allow_null = true, .allow_equal = "hidden_size",
     .reason = "projected embeddings (OPT-350M) are not supported; expected the hidden_size"},
    {"layer_norm_elementwise_affine", .allow_true = true, .reason = "norms without weights are not supported"},
    {"_remove_final_layer_norm", .allow_false = true, .reason = "a model without its final norm is not supported"},
    {0},
};

#define LAYER "model.decoder.layers.%d."
static const struct family_tensor tensors[] = {
    {SLOT_EMBEDDING, PART_ALL, "model.decoder.embed_tokens.weight", ALWAYS},
    {SLOT_POSITION, PART_ALL, "model.decoder.embed_positions.weight", ALWAYS},
    {SLOT_NORM1_WEIGHT, PART_ALL, LAYER "self_attn_layer_norm.weight", ALWAYS},
    {SLOT_NORM1_BIAS, PART_ALL, LAYER "self_attn_layer_norm.bias", ALWAYS},
    {SLOT_QKV_WEIGHT, PART_Q, LAYER "self_attn.q_proj.weight", ALWAYS},
    {SLOT_QKV_WEIGHT, PART_K, LAYER "self_attn.k_proj.weight", ALWAYS},
    {SLOT_QKV_WEIGHT, PART_V, LAYER "self_attn.v_proj.weight", ALWAYS},
    {SLOT_QKV_BIAS, PART_Q, LAYER "self_attn.q_proj.bias", FIELD(attention_bias)},
    {SLOT_QKV_BIAS, PART_K, LAYER "self_attn.k_proj.bias", FIELD(attention_bias)},
    {SLOT_QKV_BIAS, PART_V, LAYER "self_attn.v_proj.bias", FIELD(attention_bias)},
    {SLOT_O_WEIGHT, PART_ALL, LAYER "self_attn.out_proj.weight", ALWAYS},
    {SLOT_O_BIAS, PART_ALL, LAYER "self_attn.out_proj.bias", FIELD(attention_bias)},
    {SLOT_NORM2_WEIGHT, PART_ALL, LAYER "final_layer_norm.weight", ALWAYS},
    {SLOT_NORM2_BIAS, PART_ALL, LAYER "final_layer_norm.bias", ALWAYS},
    {SLOT_UP_WEIGHT, PART_ALL, LAYER "fc1.weight", ALWAYS},
    {SLOT_UP_BIAS, PART_ALL, LAYER "fc1.bias", FIELD(attention_bias)},
    {SLOT_DOWN_WEIGHT, PART_ALL, LAYER "fc2.weight", ALWAYS},
    {SLOT_DOWN_BIAS, PART_ALL, LAYER "fc2.bias", FIELD(attention_bias)},
    {SLOT_FINAL_NORM_WEIGHT, PART_ALL, "model.decoder.final_layer_norm.weight", ALWAYS},
    {SLOT_FINAL_NORM_BIAS, PART_ALL, "model.decoder.final_layer_norm.bias", ALWAYS},
    {SLOT_HEAD_WEIGHT, PART_ALL, "lm_head.weight", FIELD(untied)},
    {0},
};

static const char *const ignored[] = {NULL};

const struct family family_opt = {
    .model_type = "opt",
    .architecture = "OPTForCausalLM",
    .base_prefix = "model.",
    .norm = NORM_LAYER,
    .position_offset = 2,
    .activation_key = "activation_function",
    .activation_fallback = "relu",
    .bos_token_id = 2,
    .eos_token_id = 2,
    .pad_token_id = 1,
    .padding_row = true,
    .norm_eps = 1e-5,
    .key = keys,
    .refusal = refusals,
    .tensor = tensors,
    .ignored = ignored,
};

/* gemma3_text.c - Gemma 3, the language model alone (270M and 1B; the larger ones come inside of "gemma3" with a picture
 * model, which is not supported): a Gemma 2 without caps whose queries and keys are normed head by head. All but every
 * sixth layer have a sliding window, and these have rotary positions of their own.
 */
#include "rows.h"

static const struct config_key keys[] = {
    KEYS_SIZES(262208, 2304, 9216, 26, 8, 131072),
    {"num_key_value_heads", CONFIG_INT, FIELD(num_key_value_heads), 4, CONFIG_REFUSED, CONFIG_REFUSED},
    {"head_dim", CONFIG_INT, FIELD(head_dim), 256, CONFIG_REFUSED, CONFIG_REFUSED},
    KEYS_COMMON(1e-6, true),
    KEYS_ATTENTION_BIAS,
    {"query_pre_attn_scalar", CONFIG_INT, FIELD(query_pre_attn_scalar), 256, CONFIG_REFUSED, CONFIG_REFUSED},
    {"final_logit_softcapping", CONFIG_DOUBLE, FIELD(final_cap), 0, 0, CONFIG_REFUSED},
    {0},
};

static const struct config_refusal refusals[] = {
    CAUSAL_ONLY,
    {"attn_logit_softcapping", .allow_null = true,
     .reason = "transformers has this key in a gemma3_text model and computes without it; only null is accepted"},
    {0},
};

static const struct family_tensor tensors[] = {
    TENSOR_EMBEDDING,
    TENSORS_FOUR_NORMS,
    TENSORS_QKV,
    TENSORS_QKV_BIAS(FIELD(attention_bias)),
    TENSORS_QK_NORM,
    TENSOR_O,
    TENSOR_O_BIAS,
    TENSORS_UP,
    TENSOR_DOWN,
    TENSORS_HEAD,
    {0},
};

static const char *const ignored[] = {"rotary_emb.inv_freq", NULL};

const struct family family_gemma3_text = {
    GEMMA_LIKE,
    .model_type = "gemma3_text",
    .architecture = "Gemma3ForCausalLM",
    .activation_key = "hidden_activation",
    .qk_norm = QK_NORM_HEADS,
    .rope_theta = 1e6,
    .rope_theta_sliding = 1e4,
    .windows_by_layer = true,
    .window_pattern = 6,
    .window_pattern_key = "sliding_window_pattern",
    .key = keys,
    .refusal = refusals,
    .tensor = tensors,
    .ignored = ignored,
};

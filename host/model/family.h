/* family.h - what a model family is: data, not code. models/<family>.c fills one struct family; the build lists
 * every file of models/ by itself.
 *
 * Facts come from Hugging Face's config.json and state dict: key names, defaults, tensor names and shapes.
 */
#ifndef FLAT_MODEL_FAMILY_H
#define FLAT_MODEL_FAMILY_H
#include <stddef.h>

#include "config.h"

enum config_key_type { CONFIG_INT, CONFIG_DOUBLE, CONFIG_BOOL, CONFIG_NOT };

/* What an absent, null or 0 key can mean beside a number. Sizes that are derived: num_key_value_heads is
 * num_attention_heads, head_dim hidden_size / num_attention_heads, intermediate_size 4 hidden_size. */
#define CONFIG_DERIVED (-1)
#define CONFIG_REFUSED (-2)
#define CONFIG_KEPT (-3) /* what an earlier row has read */

/* One key of config.json that changes the arithmetic, as transformers' config class takes it. Where several rows have one
 * field, the last that is not CONFIG_KEPT counts. */
struct config_key {
    const char *name;
    enum config_key_type type; /* CONFIG_NOT: a bool, of which the field is the opposite */
    size_t offset;             /* offsetof(struct model_config, ...) */
    double absent, null, zero; /* zero: of numbers */
};

/* A key whose other values we cannot compute: refused by name. */
struct config_refusal {
    const char *name;
    bool allow_null, allow_false, allow_true; /* an absent key is always accepted */
    const char *allow_equal; /* another key whose number it may equal; NULL */
    const char *reason;
};

/* Where a parameter lives in the program. Fused products keep their parts in adjacent rows. */
enum slot {
    SLOT_EMBEDDING,        /* [vocab, hidden] */
    SLOT_POSITION,         /* [max_positions + offset, hidden] */
    SLOT_FINAL_NORM_WEIGHT,
    SLOT_FINAL_NORM_BIAS,
    SLOT_HEAD_WEIGHT,      /* [vocab, hidden]; the embedding when tied */
    SLOT_HEAD_BIAS,
    SLOT_LAYER,            /* the slots from here on exist once per layer */
    SLOT_NORM1_WEIGHT = SLOT_LAYER,
    SLOT_NORM1_BIAS,
    SLOT_POST_NORM1_WEIGHT, /* of what attention adds to the residual stream; 2: of what the feed-forward adds */
    SLOT_POST_NORM2_WEIGHT,
    SLOT_QKV_WEIGHT,       /* [heads * head_dim + 2 kv_heads * head_dim, hidden] */
    SLOT_QKV_BIAS,
    SLOT_Q_NORM_WEIGHT,    /* [head_dim], or [heads * head_dim] for a wide norm; as many for keys */
    SLOT_K_NORM_WEIGHT,
    SLOT_O_WEIGHT,         /* [hidden, heads * head_dim] */
    SLOT_O_BIAS,
    SLOT_NORM2_WEIGHT,
    SLOT_NORM2_BIAS,
    SLOT_UP_WEIGHT,        /* [intermediate or 2 intermediate (gate, up), hidden] */
    SLOT_UP_BIAS,
    SLOT_DOWN_WEIGHT,      /* [hidden, intermediate] */
    SLOT_DOWN_BIAS,
    SLOTS
};

/* The matrices of a layer: what adapters are made for, and what is kept in few bits where a model is. */
static inline bool slot_is_projection(enum slot slot)
{
    return slot == SLOT_QKV_WEIGHT || slot == SLOT_O_WEIGHT || slot == SLOT_UP_WEIGHT || slot == SLOT_DOWN_WEIGHT;
}

/* Rows of a fused slot that one tensor of the file fills. */
enum slot_part { PART_ALL, PART_Q, PART_K, PART_V, PART_GATE, PART_UP };

/* One tensor of the state dict. */
struct family_tensor {
    enum slot slot;
    enum slot_part part;
    const char *name;        /* "%d" is the layer */
    size_t condition;        /* offset of a bool in struct model_config that must be true, or ALWAYS */
    bool transposed;         /* the file holds [in, out] (GPT-2's Conv1D) */
};
#define ALWAYS ((size_t)-1)

/* Norms of queries and keys: of each head, or of all of them together. */
enum qk_norm_kind { QK_NORM_NONE, QK_NORM_HEADS, QK_NORM_WIDE };

struct family {
    const char *model_type;   /* config.json: "llama" */
    const char *architecture; /* "LlamaForCausalLM" */
    const char *base_prefix;  /* names may come with or without it: "model." */
    enum norm_kind norm;      /* at up to four places of a layer: those whose weights are among the tensors */
    enum qk_norm_kind qk_norm; /* before the rotation */
    bool gated;               /* feed-forward is gate and up, activation SWIGLU or GEGLU_TANH */
    bool gelu_is_tanh;        /* "gelu" in old configs means gelu_pytorch_tanh */
    bool embedding_scaled;    /* by sqrt(hidden_size), rounded to the type of the model */
    double norm_offset;       /* 1: norms multiply by 1 + weight */
    bool rotary;
    bool parallel;            /* attention and feed-forward both read the one norm of a layer and are added together */
    bool head_bias;           /* lm_head has a bias */
    bool rope_long;           /* scaled positions are longrope's, up to original_max_position_embeddings */
    double rope_theta;        /* when config.json does not say; 0: 10000 */
    double rope_theta_sliding; /* of layers with windows, whose positions are then their own; 0: as everywhere */
    double partial_rotary_factor; /* of a head, when config.json does not say; 0: the family has no such key */
    bool windows_by_layer;    /* sliding_window, layer_types; use_sliding_window, max_window_layers without a pattern */
    int window_pattern;       /* every so many layers one has no window; 0: none by default */
    const char *window_pattern_key; /* of config.json, that says another; NULL */
    bool unrotated_layers;    /* no_rope_layers, no_rope_layer_interval */
    int position_offset;      /* first row of learned positions that is used */
    double norm_eps;          /* where no key says it */
    const char *activation_key, *activation_fallback;
    int32_t bos_token_id, eos_token_id, pad_token_id; /* when config.json does not say; -1: none */
    bool padding_row;         /* the embedding of pad_token_id begins as zeros */
    bool residual_init;       /* new projections into the residual stream: smaller by sqrt(2 num_hidden_layers) */
    const struct config_key *key;         /* ends with a NULL name */
    const struct config_refusal *refusal; /* ends with a NULL name */
    const struct family_tensor *tensor;   /* ends with a NULL name */
    const char *const *ignored;           /* suffixes of buffers in old files that are not parameters; NULL-ended */
};

/* All families of models/, NULL-ended. Made by the build. */
extern const struct family *const families[];

#endif

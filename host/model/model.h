/* model.h - a transformer on a device: parameters in one arena, forward and backward over packed batches.
 *
 * Road of a step: batch_pack -> model_forward (log-probabilities of every answer token) -> the loss writes
 * head.row_scale -> model_backward (gradients added to the arena) -> the optimizer.
 */
#ifndef FLAT_MODEL_MODEL_H
#define FLAT_MODEL_MODEL_H
#include "../device/device.h"
#include "../device/plan.h"
#include "batch.h"
#include "config.h"
#include "family.h"
#include "lora.h"
#include "nf4_base.h"

/* Elements that a slot takes up: slots begin at multiples of what shares a scale in 8-bit optimizer states, and so do the parts
 * of the ranks (comm_slice). */
static inline int64_t arena_padded(int64_t elements)
{
    return (elements + DYNAMIC_BLOCK - 1) / DYNAMIC_BLOCK * DYNAMIC_BLOCK;
}

/* Where one slot lies in the parameter arena (and, at the same offset, in the gradient arena), in elements. */
struct param_range {
    int64_t offset, rows, cols; /* cols 0: a vector of `rows`; rows 0: the model has no such slot. Of a projection in NF4 the offset
                                 * is among these (nf4_base.h) */
    int64_t drawn;              /* where its numbers begin among those that a new model draws */
    enum linear_form form;      /* of a matrix: plain but after model_pack */
};

/* A tensor of the state dict: which rows of which slot. */
struct model_tensor {
    char name[192];          /* as the family spells it */
    const struct family_tensor *from;
    int layer;               /* 0 for tensors outside the layers */
    int64_t offset, rows, cols; /* in the arena, in elements; cols 0: a vector */
    int64_t drawn;              /* as its slot's */
    bool transposed;            /* [cols, rows] in the file */
};

/* What the backward pass computes again instead of finding it kept: nothing; the norms' results and the activation
 * function's, which cost little; or whole layers from their inputs. The bits are the same. */
enum recompute { RECOMPUTE_NONE, RECOMPUTE_SELECTIVE, RECOMPUTE_FULL, RECOMPUTE_LEVELS };

/* What the forward pass leaves for the backward pass, a layer at a time. What is computed again lies in buffers that
 * all layers share, and so does everything in inference. */
struct layer_activations {
    void *input;             /* residual stream entering the layer [rows, hidden] */
    void *norm1, *rstd1, *mean1;
    void *qkv, *attention, *lse;
    void *qk_raw, *qk_rstd;  /* queries and keys before their norm [rows, query and key columns], where they have one */
    void *attention_raw, *post_rstd1; /* what attention adds, before its norm, of a family that has one */
    void *middle;            /* residual stream after attention */
    void *norm2, *rstd2, *mean2;
    void *up, *activated;
    void *feed_raw, *post_rstd2; /* the same of the feed-forward */
};

/* The loss head: one row per answer token. stat arrays are float (double on cpu64). */
struct head_activations {
    void *input, *branch, *sum; /* residual rows gathered [targets, hidden] */
    void *norm, *rstd, *mean;
    void *logits;               /* [targets, vocab], of logits_dtype; after a training forward p - onehot */
    void *dlogits;              /* p - onehot for the backward pass, of the model's type: logits itself or a copy */
    void *logprob, *p, *q, *lse, *row_scale;
    void *logprob_mean, *logprob_variance; /* of log p under p, and the likeliest token: only with head_statistics */
    int32_t *argmax;
    void *row_value;            /* with model->row_values: what sequence.h takes for TOKENS */
    void *most, *logits_mean;   /* with model->logit_margin: what row_statistics.h says of rows, and the largest logit's column */
    int32_t *most_column;
    double *logprob_sum, *prob_sum, *slope_prob, *slope_logprob; /* [sequences] */
};

/* A run of elements of the arena that is trained, and where the optimizer's state of them begins. */
struct model_shard {
    int64_t offset, count, state;
};

/* What the trained weights have beside their bf16, of the shards that this rank updates: the lower halves of the floats that
 * they are (kernels/engine/rounding.h). None where the model itself is stored in float or nothing is trained. gather, where
 * the others' shards are with other ranks, reads any part of the arena. */
struct master_weights {
    uint16_t *low; /* NULL: none */
    bool on_host;  /* low is the host's memory */
    const struct model_shard *shard;
    int shards;
    int (*gather)(void *user, int64_t offset, int64_t count, uint16_t *out, struct error *error);
    void *user;
};

struct model {
    struct device *device;
    struct model_config config;
    enum dtype dtype;        /* of parameters and activations: the engine's */
    enum dtype grad_dtype;   /* of parameter gradients: dtype, or DTYPE_F32 when asked before model_plan */
    bool overwrite_gradients; /* the next backward pass is the first of a step: what is in the arena of gradients goes; bytes
                               * between its tensors must be zero */
    struct param_range global[SLOT_LAYER], *layer; /* layer[l * SLOTS + slot] */
    struct model_tensor *tensor;
    int tensors;
    int64_t elements;        /* of the whole arena */
    int64_t parameters;      /* in it, without what lies between them */
    int64_t drawn;           /* numbers that a new model draws */
    int64_t decayed;         /* the first so many are matrices (weight decay); norms and biases follow */
    struct master_weights master;
    void *param, *grad;      /* grad NULL in inference, and with LoRA */
    struct lora lora;        /* options.rank 0: everything is trained */
    struct nf4_base nf4;     /* projections that are not in the arena; not without LoRA */

    bool training;
    enum recompute recompute;    /* for the backward pass; set before model_plan */
    enum dtype logits_dtype;     /* the model's; model_plan makes it float for wide_logits */
    int64_t head_chunk;          /* target rows whose logits are there at a time; 0: all. Set before model_plan, which makes it 0
                                  * where it is no less than all. Not with model_forward_targets' parts */
    bool wide_logits;            /* logits of a bf16 model are kept in float; set before model_plan */
    bool head_statistics;        /* forward leaves them too; set before model_plan, which is not for training then */
    bool row_values;             /* there is head.row_value; set before model_plan, as the next two */
    bool rest_entropy;           /* forward leaves the cross-entropy without the target there (row_statistics.h) */
    int layers_run;              /* 0: all. Otherwise passes of training end at the output of this many layers, and so does the
                                  * whole of an inference model, which then has no logits; set before model_plan */
    bool logit_margin;           /* rows may be given the gradient of their margin (logit_margin.h) */
    const struct model *weights_of; /* the parameters are this model's, which is allocated first; NULL: its own */
    int64_t max_rows, max_targets, max_sequences;
    struct layer_activations *activations; /* [layers] in training, 1 otherwise */
    struct layer_activations shared;       /* the buffers that are not a layer's own */
    struct head_activations head;
    void *attention_out, *feed_out;        /* [rows, hidden]: what the next norm adds to the residual stream; with norms
                                            * behind the sub-layers feed_out is the stream that leaves the last layer */
    void *embedding_scale;                 /* [rows] stat: what embedded rows are multiplied by, of a family that does */
    void *ones, *row_scale;                /* [targets] of dtype: for the gradient of a head's bias */
    void *dresidual, *dnorm, *dqkv, *dattention, *dup, *dactivated; /* backward scratch */
    void *rope_cos[ROPE_PLACES], *rope_sin[ROPE_PLACES]; /* NULL: not the model's */
    struct model *reinforced;    /* borrowed, NULL: none. What it raises logits by is taken back from this model's, */
    double whp_alpha;            /* whp_alpha times (logits_combine.h); set before model_plan, which is not for training then */
    int64_t max_positions;       /* of a sequence; set before model_plan where a batch holds its last rows only; 0: max_rows */
    int64_t rope_positions;      /* of the rotary tables */
    struct memory_plan plan;
};

/* Lays out the parameters of a config; needs no device. Free with model_free. With LoRA, lora_create(&model->lora, ...)
 * comes between this and model_plan. */
int model_create(struct model *model, const struct model_config *config, enum dtype dtype, struct error *error);
/* The same with all projections in NF4, for LoRA; STATUS_INPUT names one that has no whole blocks. */
int model_create_nf4(struct model *model, const struct model_config *config, enum dtype dtype, struct error *error);
/* Declares every buffer for batches of at most so many rows, target rows and sequences in model->plan.
 * training adds gradients and kept activations; targets 0 leaves the loss head out. */
int model_plan(struct model *model, bool training, int64_t max_rows, int64_t max_targets, int64_t max_sequences,
               struct error *error);
/* Allocates what is planned and uploads the rotary tables. */
int model_allocate(struct model *model, struct device *device, struct error *error);
/* Gives the memory back, weights and all; model_plan can be called anew. Not with LoRA. */
void model_release(struct model *model);
void model_free(struct model *model);

/* Puts the weights that rows are multiplied with into the order that the engine likes best, in place; for inference. Passes
 * forward read them then and nothing else: no gradients, no weights_read_back. weights_load makes them plain again. With a
 * reinforced model, that too. Cost: the weights once. */
int model_pack(struct model *model, struct error *error);
/* Says that all weights are plain, before they are written anew. */
void model_forms_reset(struct model *model);
/* How the weight of a slot lies in memory. */
enum linear_form model_form(const struct model *model, int layer, enum slot slot);

/* What the optimizer works on: the adapters with LoRA, otherwise everything. The first `decayed` elements are matrices. */
struct model_trainable {
    void *param, *grad;
    int64_t elements, decayed;
};
struct model_trainable model_trainable(const struct model *model);

/* What an arena is stored in: grad_dtype for gradients, dtype for parameters. */
enum dtype model_arena_dtype(const struct model *model, const void *arena);

/* Address of a slot's parameters or gradients; NULL for SLOTS, for a projection in NF4 and when the model has no such slot. layer is
 * ignored for slots outside the layers. A tied head gives the embedding. */
void *model_param(const struct model *model, int layer, enum slot slot);
void *model_grad(const struct model *model, int layer, enum slot slot);

/* A slot's weight for a product: where it lies, or out of NF4 in a buffer that the next call uses again. */
int model_weight(struct model *model, int layer, enum slot slot, const void **weight, struct error *error);

/* Where weights lie that are read from files: the arena, and what is in NF4. */
enum { MODEL_ARENAS = 3 };
struct model_arena {
    const void *start;
    size_t bytes;
};
void model_arenas(const struct model *model, struct model_arena arena[MODEL_ARENAS]);

/* A matrix product of the model: of which layer, with which weight and bias (SLOTS: none); its sizes are the weight's. */
struct projection {
    int layer;
    enum slot weight, bias;
    int64_t in, out;
};
struct projection model_projection(const struct model *model, int layer, enum slot weight);

/* Row of learned positions that position 0 takes, in the parameter or gradient arena; NULL without learned positions. */
void *model_positions(const struct model *model, void *arena);

/* Whether a batch fits the plan and the model's positions: forward checks it, a replayed graph cannot. */
int model_accepts(const struct model *model, const struct batch *batch, struct error *error);
/* Embeddings: the residual stream that enters layer 0. */
int model_forward_body(struct model *model, const struct batch *batch, struct error *error);
/* Body, final norm and lm_head on the answer rows, log-probabilities into model->head. When the model was planned for
 * training, logits become p - onehot, and the loss weights of padding become 0. */
int model_forward(struct model *model, const struct batch *batch, struct error *error);
/* The same, asking before the parameters of a layer are read: of the embeddings (-1), the layers from 0 on, the head
 * (num_hidden_layers). */
typedef int (*model_layer_hook)(void *user, int layer, struct error *error);
int model_forward_by_layer(struct model *model, const struct batch *batch, model_layer_hook hook, void *user,
                           struct error *error);
/* The two halves of that: up to head.logits (hook NULL: none), and what is made of them. */
int model_forward_logits(struct model *model, const struct batch *batch, model_layer_hook hook, void *user,
                         struct error *error);
/* Target rows [begin, end) of a batch that are held against the distribution of a reference: their logits become p - t, and
 * head.row_value is theirs (kernels/divergence.h). Without a reference both are those of the margin (kernels/logit_margin.h). */
struct head_divergence {
    int32_t begin, end;
    const void *reference;  /* [end - begin, vocab] logits of logits_dtype; NULL: none, with model->logit_margin */
    const int32_t *lowered; /* [end - begin], NULL: none */
    double penalty;
    bool cross_entropy;
};
/* `parts` runs in ascending order; the rows between them are as in model_forward. */
int model_forward_targets(struct model *model, const struct batch *batch, const struct head_divergence *part, int parts,
                          struct error *error);
/* Up to the output of the last layer that is run (layers_run): its two parts for the target rows, as of a head's, into head.branch
 * and head.input. hidden.c. */
int model_forward_hidden(struct model *model, const struct batch *batch, model_layer_hook hook, void *user,
                         struct error *error);
/* Target rows [begin, end) of a batch whose hidden states are to be others': kernels/hidden_target.h. */
struct hidden_part {
    int32_t begin, end;
    const void *target, *target_residual; /* of the model's type; NULL residual: one vector for all rows */
};
/* What is made of them: gradients into head.sum, values into head.row_value. Log-probabilities are not known: they, p and 1 - p
 * become 0. */
int model_hidden_targets(struct model *model, const struct batch *batch, const struct hidden_part *part, int parts,
                         struct error *error);
/* lm_head for target rows [begin, end) whose norm is there. */
int model_head_logits(struct model *model, int32_t begin, int32_t end, struct error *error);
/* Where target rows from `begin` on end that have logits at the same time: all rows, or a chunk of head_chunk. */
int32_t model_head_chunk_end(const struct model *model, const struct batch *batch, int32_t begin);
/* With head_chunk: head.dlogits of a chunk of target rows again, from the norm that the forward pass has left. */
int model_head_again(struct model *model, const struct batch *batch, int32_t begin, int32_t end, struct error *error);
/* Adds dL/d(parameters) to the gradient arena, or with overwrite_gradients puts it there, given head.row_scale = -dL/dlogprob
 * of every target row. */
int model_backward(struct model *model, const struct batch *batch, struct error *error);
/* The same, telling when the gradients of a layer are complete: in the opposite order. */
int model_backward_by_layer(struct model *model, const struct batch *batch, model_layer_hook hook, void *user,
                            struct error *error);

/* Brings back what is not kept of a layer's activations, from what is. The last layer's are still there. For the
 * backward pass. */
int model_recompute(struct model *model, const struct batch *batch, int layer, struct error *error);

/* Flops of the passes over a batch, by the shapes: 2 for each multiply-add of the matrix products and of attention, which is
 * nearly all. The backward pass has two products for each one of the forward pass, one where the weight is frozen;
 * recompute is what it computes again. */
struct model_flops {
    double forward, backward, recompute;
};
struct model_flops model_flops(const struct model *model, const struct batch_size *size);

/* What forward and backward tell the engine of a layer's attention and of rotating its queries and keys, which is asked
 * for only where model_rotates. */
struct attention_args model_attention_args(const struct model *model, const struct batch *batch, int layer, void *qkv,
                                           void *out, void *lse);
bool model_rotates(const struct model *model, int layer);
/* The same of the norm of queries and keys, which rotates too, of a family with qk_norm. */
struct qk_norm_args model_qk_norm_args(const struct model *model, const struct batch *batch, int layer);
struct rope_args model_rope_args(const struct model *model, const struct batch *batch, int layer, void *qkv, int direction);
/* Multiplies rows of the residual stream by the embedding's scale, in place; nothing in most families. */
int model_scale_embedded(struct model *model, int64_t rows, void *x, struct error *error);
/* What lies between the two passes: the sequences of the batch and the head's arrays. The terms of the loss are the
 * caller's to fill in. */
struct sequence_args model_sequence_args(const struct model *model, const struct batch *batch, double *totals);

/* One transformer layer (forward.c), shared by training, scoring and generation. The key/value source of attention is
 * given by the caller: the batch's own rows, or a cache. */
struct layer_keys {
    const void *k, *v;
    int64_t stride;
    /* Where one source does not do: segments in place of the batch's, which has one for each sequence, of which the first
     * `continued` have their keys in k and v and the others in the batch's own rows. NULL: the batch's, all in k and v. */
    const struct attention_segment *segment;
    int continued;
};
/* Called between rotary embedding and attention: may move new keys and values into a cache and point keys at it. */
typedef int (*layer_keys_hook)(void *user, int layer, const void *qkv, struct layer_keys *keys, struct error *error);
int model_forward_layer(struct model *model, const struct batch *batch, int layer, layer_keys_hook hook, void *user,
                        struct error *error);
/* With a reinforced model: runs it over the batch too and combines the logits that model_forward_head has left here. A hook's
 * keys are those of the reinforced model. Nothing without one. */
int model_combine_reinforced(struct model *model, const struct batch *batch, layer_keys_hook hook, void *user,
                             struct error *error);
/* Rows target_row[0 .. targets) of the two parts of a layer's output, into head.branch and head.input. */
int model_gather_targets(struct model *model, int layer, const int32_t *device_target_row, int32_t targets,
                         struct error *error);
/* The last layer that passes of training run. */
int model_last_layer(const struct model *model);
/* Whether the layers have a norm at a place, of SLOT_*NORM*_WEIGHT. */
static inline bool model_has(const struct model *model, enum slot norm) { return model->layer[norm].rows > 0; }
/* What the first projection of attention or of the feed-forward reads: a norm's result, or the stream itself. */
const void *model_sublayer_input(const struct model *model, int layer, bool feed_forward);
/* Final norm and lm_head on rows target_row[0 .. targets): logits into head.logits. */
int model_forward_head(struct model *model, const int32_t *device_target_row, int32_t targets, struct error *error);

#endif

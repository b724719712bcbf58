/* lora.h - low-rank adaptation: y = x W^T + scale (x A^T) B^T for chosen projections. W is frozen: it has no gradient
 * and no optimizer state; A [rank, in] and B [out, rank] of all modules live in one arena of their own.
 *
 * scale = alpha / rank, or alpha / sqrt(rank) with rslora. A module is one tensor of the family's table, under the
 * family's own name; those of a fused slot (qkv; gate and up) each act on their own columns of y. There is no dropout.
 *
 * Cost per module and row: 2 rank (in + out) multiply-adds more forward, twice that backward; rank numbers are kept.
 */
#ifndef FLAT_MODEL_LORA_H
#define FLAT_MODEL_LORA_H
#include <stdbool.h>
#include <stdint.h>

#include "../util/options.h"
#include "family.h"

#define LORA_RANK_MAX 65536

struct model;
struct model_tensor;

/* Another rank and alpha for one module. */
struct lora_override {
    const char *module; /* its path, as "model.layers.0.self_attn.q_proj" */
    int64_t rank;
    double alpha;
};

struct lora_options {
    int64_t rank; /* >= 1 */
    double alpha;
    bool rslora;
    const char *target_modules; /* names between commas, or "all-linear": every projection of the layers */
    const struct lora_override *override; /* of some modules; NULL: none */
    int overrides;
};

/* What a run is told of LoRA. */
enum lora_output { LORA_MERGED, LORA_ADAPTER };
struct lora_run_options {
    struct lora_options lora; /* rank 0: off */
    double dropout;
    bool load_in_4bit; /* the frozen projections are kept in NF4 (nf4_base.h) */
    enum lora_output output; /* what is saved: the whole model, or a PEFT folder */
};
extern const struct option_group lora_option_group;

struct lora_module {
    int tensor;    /* of model->tensor: the weight that is adapted, [out, in] */
    int64_t rank;
    double alpha, scale;
    int64_t a, b;  /* where A and B begin in the arena, in elements */
    void *reduced; /* scale x A^T of the last forward pass [rows, rank]; layers that are recomputed share it */
};

/* What is adapted and where it lies. Buffers are NULL until the model is allocated. */
struct lora {
    struct lora_options options; /* strings and overrides are owned here: names without repetition, "all-linear" spelled out */
    double scale;                /* of modules without an override */
    int64_t max_rank;
    struct lora_module *module;  /* layer after layer */
    int modules, *layer_begin;   /* modules of layer l: layer_begin[l] .. layer_begin[l + 1] - 1 */
    int64_t elements;            /* of the arena */
    int64_t parameters;          /* in it, without what lies between them */
    void *param, *grad, *dreduced;
};

/* Lays out the adapters of a model's tensors; needs no device. A target names a module as PEFT matches it: the whole
 * module path, or its end after a dot. One that fits nothing is STATUS_USAGE, with the names there are. */
int lora_create(struct lora *lora, const struct model *model, const struct lora_options *options, struct error *error);
void lora_free(struct lora *lora);
/* Frees options whose strings and overrides were allocated. */
void lora_options_free(struct lora_options *options);
/* Whether a tensor is a matrix that adapters are made for: a projection of a layer. */
bool lora_is_projection(const struct model_tensor *tensor);
/* The module of a tensor, or NULL. */
const struct lora_module *lora_find(const struct lora *lora, int tensor);

/* The rest acts on model->lora, and does nothing where options.rank is 0. */

/* Declares parameters, gradients and activations for at most so many rows. */
int lora_plan(struct model *model, int64_t rows, struct error *error);
/* After the memory is there: where layers are recomputed, they share the buffers of their modules. */
void lora_share(struct model *model);
/* Adds the adapters of a slot to y [rows, the slot's rows], given the slot's input x. */
int lora_forward(struct model *model, int64_t rows, int layer, enum slot slot, const void *x, void *y,
                 struct error *error);
/* Adds to the gradients of A and B, and to dx what flows back through them. */
int lora_backward(struct model *model, int64_t rows, int layer, enum slot slot, const void *dy, const void *x, void *dx,
                  struct error *error);

#endif

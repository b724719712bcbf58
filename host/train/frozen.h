/* frozen.h - the model that a run starts from, kept beside the one that is trained, for methods that hold the distributions of
 * both against each other (KL on retained rows, UNDIAL).
 *
 * Of a micro-batch it is run forward over the sequences that are compared, and no others, in a batch of its own whose target
 * rows come in the same order. Its weights are a copy in the working type. Where adapters alone are trained there is no copy:
 * it is the same base without them or, for a run that goes on from an adapter, with a copy of that.
 *
 * Cost: the weights once more (not with LoRA), what one layer keeps, and logits of the compared targets; a forward pass over
 * these sequences in every step, a third of what they cost in training.
 */
#ifndef FLAT_TRAIN_FROZEN_H
#define FLAT_TRAIN_FROZEN_H
#include "examples.h"
#include "../model/model.h"

/* Start with {0}. */
struct frozen {
    struct distribution_use use[ROLES]; /* of ROLE_ANSWER and ROLE_RETAIN */
    bool needed;
    int64_t max_rows, max_targets, max_sequences; /* of a micro-batch: run_size.c */
    struct batch_size epoch_size;  /* of the first epoch */
    struct model model;            /* in inference form: up to the logits */
    struct batch batch;
    int32_t *lowered, *lowered_host; /* columns of its target rows whose logits are lowered: only with other positions */
    struct head_divergence part[2];  /* of the packed micro-batch, for model_forward_targets */
    int parts;
};

struct trainer;

/* What the method compares; before run_size. */
void frozen_prepare(struct frozen *frozen, const struct method *method, const void *options);
/* Adds what row k of an epoch takes in its batch to *size. */
void frozen_row_size(const struct frozen *frozen, const struct epoch *epoch, int k, struct batch_size *size);
/* Declares its memory, once the trainer's model is planned. */
int frozen_plan(struct trainer *trainer, struct error *error);
/* Bytes of it, with its batch; 0 where there is none. */
size_t frozen_memory(const struct frozen *frozen);
/* Allocates, after the trainer's model; copies the weights, once that has them. */
int frozen_allocate(struct trainer *trainer, struct error *error);
int frozen_copy(struct trainer *trainer, struct error *error);
/* A pass over the largest batch, all padding: see trainer_warm_up. */
int frozen_warm_up(struct trainer *trainer, struct error *error);
/* Packs what is compared of rows [from, to) of an epoch, whose batch the trainer has packed, and sets `part`: the logits are
 * there after model_forward_logits. */
int frozen_pack(struct trainer *trainer, const struct epoch *epoch, int from, int to, struct error *error);
void frozen_free(struct frozen *frozen, struct device *device);

#endif

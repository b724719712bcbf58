/* optimizer.h - the options of AdamW; its functions, which work on a trainer, are declared in trainer.h. */
#ifndef FLAT_TRAIN_OPTIMIZER_H
#define FLAT_TRAIN_OPTIMIZER_H
#include "../../kernels/adamw.h"
#include "../util/options.h"

/* Where moments and the lower halves of master weights lie. */
enum offload_optimizer { OFFLOAD_NONE, OFFLOAD_CPU };

struct optimizer_options {
    double weight_decay;
    bool weight_decay_all; /* of norms and biases too */
    double adam_beta1, adam_beta2, adam_epsilon;
    double max_grad_norm; /* 0: clips nothing */
    enum adamw_moments optimizer_states;
    enum offload_optimizer offload_optimizer;
};
extern const struct option_group optimizer_option_group;

/* Bytes of the gradient's norm and the update for each trained element; weights of less than float have lower halves. */
double optimizer_bytes(enum dtype dtype, enum dtype grad_dtype, enum adamw_moments moments);

#endif

/* bench_ops.c - every op that has a benchmark; see bench.h. */
#include "bench.h"

#define BENCH_OPS(X)                                                                                          \
    X(embedding_forward) X(embedding_backward) X(norm_forward) X(norm_backward) X(rope) X(qk_norm_forward)    \
    X(qk_norm_backward) X(cache_write) X(attention_forward)                                                   \
    X(attention_backward) X(linear_forward) X(linear_backward_input) X(linear_backward_weight)                \
    X(activation_forward) X(activation_backward) X(logits_combine) X(row_statistics) X(logprob_forward)       \
    X(divergence_forward) X(logit_margin) X(hidden_target) X(row_scale)                                       \
    X(cast) X(nf4_dequantize) X(sequence_loss) X(adamw_norm) X(adamw_step) X(sample)

#define X(op) extern const struct bench_op bench_##op;
BENCH_OPS(X)
#undef X

#define X(op) &bench_##op,
const struct bench_op *const bench_ops[] = {BENCH_OPS(X) NULL};
#undef X

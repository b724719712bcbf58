/* attention.h - causal attention over a packed batch in which branches share a prefix.
 *
 * WHAT      A packed batch is rows without padding. It consists of groups; a group is a prefix segment
 *           followed by the branch segments that continue it (a lone sequence is a group of one segment).
 *           Query r (0-based) of a segment sees
 *             keys prefix_begin .. prefix_begin + prefix_count - 1                  (the shared prefix)
 *             keys key_begin .. key_begin + key_cached + r                          (its own branch, causal)
 *           out = softmax(scale q k^T) v per head; query head h uses key/value head h / (heads / kv_heads).
 *           In training keys are rows of the same buffer: key_begin == query_begin and key_cached == 0.
 *           In decoding k and v point at a cache and key_cached counts the keys before this call's queries.
 * SHAPES    q, out [rows, *]: heads * head_dim columns at q_stride, out_stride.   k, v [*, *]: kv_heads *
 *           head_dim columns at kv_stride.   lse [heads, rows]
 * DTYPES    q, k, v, out and gradients: dtype.  lse: stat (natural log of the sum of exp(scale q k))
 * FLOPS     forward 4 head_dim a (query, visible key, head), backward 10
 * HOW       online or blocked softmax; backward recomputes probabilities from lse and forms
 *           delta = rowsum(dout * out) itself
 * NUMERICS  softmax in stat; bf16 probabilities feed the second product on the GPU
 * SAME BITS yes: dk and dv of a key are summed over queries, segments and query heads in a fixed order
 * NEEDS     scale > 0; segments lie inside their arrays (only a CPU engine, which can read them, checks that)
 *           backward: segments of training form only; each row of q, k, v in exactly one segment;
 *           dq, dk, dv are overwritten on those rows; head_dim % 8 == 0 and <= 256
 * SEEN IN   every family
 */
#ifndef FLAT_KERNELS_ATTENTION_H
#define FLAT_KERNELS_ATTENTION_H
#include "op.h"
#ifdef __cplusplus
extern "C" {
#endif

/* Row numbers are absolute: queries in q and out, keys in k and v. */
struct attention_segment {
    int32_t query_begin, query_count;
    int32_t key_begin, key_cached;
    int32_t prefix_begin, prefix_count; /* 0, 0: none */
};

struct attention_args {
    enum dtype dtype;
    int64_t rows; /* rows of q, out and lse */
    int heads, kv_heads, head_dim;
    double scale;
    int groups, segments;
    const int32_t *group_begin; /* [groups + 1]: segments of group g are group_begin[g] .. group_begin[g+1]-1 */
    const struct attention_segment *segment; /* [segments] */
    const void *q, *k, *v;
    int64_t q_stride, kv_stride, out_stride; /* in elements */
    void *out;
    void *lse; /* NULL: not kept (decoding) */
};

struct attention_backward_args {
    struct attention_args forward; /* as in the forward call; out and lse are read */
    const void *dout;              /* at out_stride */
    void *dq;                      /* at q_stride */
    void *dk, *dv;                 /* at kv_stride */
};

/* Multiply-adds count as two. `visible` = sum over queries of the keys they see. */
static inline int64_t attention_forward_flops(int64_t visible, int heads, int head_dim)
{
    return 4 * visible * heads * head_dim;
}

static inline int64_t attention_backward_flops(int64_t visible, int heads, int head_dim)
{
    return 10 * visible * heads * head_dim;
}

int attention_forward(struct engine_context *context, const struct attention_args *args);
int attention_backward(struct engine_context *context, const struct attention_backward_args *args);

#ifdef __cplusplus
}
#endif
#endif

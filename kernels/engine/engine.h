/* engine.h - the one table an engine plugin exports: memory, stream and ops of one kind of device.
 *
 * build/libflat_cpu.so (float), libflat_cpu64.so (the same sources in double: the oracle of the tests),
 * libflat_cuda.so and, in tests, libflat_emu.so each export `flat_engine`. The host links none of them and
 * loads one (or two, to compare) with dlopen. kernels/engine/engine.c and engine.cu fill the table.
 */
#ifndef FLAT_KERNELS_ENGINE_H
#define FLAT_KERNELS_ENGINE_H
#include "../activation.h"
#include "../adamw.h"
#include "../attention.h"
#include "../cache.h"
#include "../cast.h"
#include "../divergence.h"
#include "../embedding.h"
#include "../hidden_target.h"
#include "../linear.h"
#include "../logit_margin.h"
#include "../logits_combine.h"
#include "../logprob.h"
#include "../nf4_dequantize.h"
#include "../norm.h"
#include "op.h"
#include "../rope.h"
#include "../row_scale.h"
#include "../qk_norm.h"
#include "../row_statistics.h"
#include "../sample.h"
#include "../sequence.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ENGINE_ABI 15

/* Slots of mark. */
enum { ENGINE_MARKS = 1024 };

/* What a context queues work on: the ops' stream, on which all is that does not say otherwise, and two for copies beside it. */
enum engine_stream { ENGINE_STREAM_OPS, ENGINE_STREAM_IN, ENGINE_STREAM_OUT, ENGINE_STREAMS };

/* Slots of signal and await. */
enum { ENGINE_SIGNALS = 8 };

/* Room for a pick of a matrix product. */
enum { ENGINE_PICK_BYTES = 400 };

/* A captured run of ops. */
struct engine_graph;

/* X(op, argument struct): every op, once. The table, its filling, the profile and the op-by-op tests are made from it. */
#define ENGINE_OPS(X)                                                                                         \
    X(embedding_forward, embedding_args)                                                                      \
    X(embedding_backward, embedding_backward_args)                                                            \
    X(norm_forward, norm_args)                                                                                \
    X(norm_backward, norm_backward_args)                                                                      \
    X(rope, rope_args)                                                                                        \
    X(qk_norm_forward, qk_norm_args)                                                                          \
    X(qk_norm_backward, qk_norm_backward_args)                                                                \
    X(cache_write, cache_args)                                                                                \
    X(attention_forward, attention_args)                                                                      \
    X(attention_backward, attention_backward_args)                                                            \
    X(linear_forward, linear_args)                                                                            \
    X(linear_backward_input, linear_backward_input_args)                                                      \
    X(linear_backward_weight, linear_backward_weight_args)                                                    \
    X(activation_forward, activation_args)                                                                    \
    X(activation_backward, activation_backward_args)                                                          \
    X(logprob_forward, logprob_args)                                                                          \
    X(logits_combine, logits_combine_args)                                                                    \
    X(logit_margin, logit_margin_args)                                                                        \
    X(hidden_target, hidden_target_args)                                                                      \
    X(row_statistics, row_statistics_args)                                                                    \
    X(divergence_forward, divergence_args)                                                                    \
    X(row_scale, row_scale_args)                                                                              \
    X(cast, cast_args)                                                                                        \
    X(nf4_dequantize, nf4_dequantize_args)                                                                    \
    X(sequence_loss, sequence_args)                                                                           \
    X(adamw_norm, adamw_norm_args)                                                                            \
    X(adamw_prepare, adamw_prepare_args)                                                                      \
    X(adamw_step, adamw_args)                                                                                 \
    X(sample, sample_args)

enum { ENGINE_COMM_ID_BYTES = 128 };

struct engine_options {
    int device_index; /* GPU number; ignored by CPU engines */
    int threads;      /* CPU threads; 0: all this process may use */
};

struct engine {
    uint32_t abi;      /* ENGINE_ABI */
    const char *name;  /* "cpu", "cpu64", "cuda", "emu" */
    enum dtype dtype;  /* what weights and activations are stored in by default */
    bool graphs;       /* whether the calls on graphs below work; where not, they return OP_CONTRACT */

    /* Opens a device. On failure returns an op_status and writes one line to error (size error_bytes). */
    int (*open)(struct engine_context **context, const struct engine_options *options, char *error, size_t error_bytes);
    void (*close)(struct engine_context *context);
    /* One line on the last failure of this context; valid until the next call. */
    const char *(*error)(struct engine_context *context);
    /* One line for people: device name, threads or compute capability. Owned by the context. */
    const char *(*describe)(struct engine_context *context);
    /* Bytes of device memory that can still be allocated. */
    int (*memory_free)(struct engine_context *context, size_t *bytes);

    /* Device memory, 64-byte aligned. free(NULL) is allowed. */
    int (*alloc)(struct engine_context *context, void **pointer, size_t bytes);
    void (*free)(struct engine_context *context, void *pointer);
    /* In stream order. The host buffer of copy_in may be reused when the call returns; copy_out returns when
     * the bytes are there. */
    int (*fill_zero)(struct engine_context *context, void *device, size_t bytes);
    int (*copy_in)(struct engine_context *context, void *device, const void *host, size_t bytes);
    int (*copy_out)(struct engine_context *context, void *host, const void *device, size_t bytes);
    int (*copy)(struct engine_context *context, void *to, const void *from, size_t bytes);
    int (*synchronize)(struct engine_context *context);

    /* Copies beside the ops, NULL in engines whose device memory is the host's. host_alloc gives memory of the host's that a
     * device reads and writes on its own (page-locked, aligned to 64 bytes, any contents; OP_MEMORY where it cannot be had, but a
     * system short of memory may rather end processes: ask host_memory.h before); host_free waits for all streams. The two
     * copies, from and to such memory, are queued on ENGINE_STREAM_IN and ENGINE_STREAM_OUT: they return at once, and the memory
     * is theirs until a stream that awaits them has been waited for. Not inside a capture. */
    int (*host_alloc)(struct engine_context *context, void **pointer, size_t bytes);
    void (*host_free)(struct engine_context *context, void *pointer);
    int (*copy_in_beside)(struct engine_context *context, void *device, const void *host, size_t bytes);
    int (*copy_out_beside)(struct engine_context *context, void *host, const void *device, size_t bytes);
    /* Order between streams: signal notes in `slot` (below ENGINE_SIGNALS) where `stream` is; what is queued on `stream` after
     * await waits until the device got to where the slot was signalled last. A slot without a signal holds nothing up. */
    int (*signal)(struct engine_context *context, enum engine_stream stream, int slot);
    int (*await)(struct engine_context *context, enum engine_stream stream, int slot);

    /* Time in stream order: mark notes in `slot` (below ENGINE_MARKS) when the device gets there; elapsed waits for
     * both and gives the seconds between the two. A slot may be marked again. Resolution: a microsecond or better. */
    int (*mark)(struct engine_context *context, int slot);
    int (*elapsed)(struct engine_context *context, int from, int to, double *seconds);
    /* Named ranges around what the host queues, as a profiler shows them (NVTX); they nest. CPU engines show none. */
    void (*range_push)(struct engine_context *context, const char *name);
    void (*range_pop)(struct engine_context *context);

    /* Graphs: the ops, copies and fills between capture_begin and capture_end are noted instead of run, with their
     * arguments and addresses; graph_launch then runs them all, as often as wanted, for the price of one launch.
     * Whatever waits for the device or allocates is refused inside a capture, and so is scratch that would grow: run
     * the same work once before. capture_end with graph NULL drops what was captured, and is also to be called when
     * something failed in between. A graph is freed before its context is closed; what it uses of the context's
     * scratch stays valid until then. */
    int (*capture_begin)(struct engine_context *context);
    int (*capture_end)(struct engine_context *context, struct engine_graph **graph);
    int (*graph_launch)(struct engine_context *context, struct engine_graph *graph);
    void (*graph_free)(struct engine_context *context, struct engine_graph *graph);

    /* Which of its library's algorithms a matrix product takes (kernels/linear_pick.cu); NULL in engines that have but one.
     * A product without a pick takes the library's first proposal, the same on every run with one library and device. A
     * pick is a line of text, for products of one shape and about so many rows, and good for what pick_scope names. */
    const char *(*pick_scope)(struct engine_context *context);
    /* on: from here the first product of a shape, outside of a capture, times the proposals and picks the fastest. */
    int (*picks_time)(struct engine_context *context, bool on);
    /* OP_CONTRACT: no pick; OP_DEVICE: the library does not take it. Of two for the same products the first counts. */
    int (*pick_add)(struct engine_context *context, const char *line);
    /* Number `index` from 0, NULL beyond the last; valid until the next call. *used: a product has taken it. */
    const char *(*pick_get)(struct engine_context *context, int index, bool *used);
    int (*picks_clear)(struct engine_context *context);

    /* Rearranges a weight [out, in] in place for linear_forward, and says how (linear_args.form); the gradients' products
     * and whatever else reads the weight know the plain form only. NULL: this engine reads weights as they are. */
    int (*linear_pack)(struct engine_context *context, void *weight, int64_t in, int64_t out, enum linear_form *form);

#define X(op, args) int (*op)(struct engine_context * context, const struct args *arguments);
    ENGINE_OPS(X)
#undef X

    /* ---- collectives of several processes with a device each (kernels/nccl.cu) ---------------------------------- *
     * NULL in engines whose device memory is the host's: host/comm has its own for those.                           *
     * They are queued on a stream of their own behind what the context's stream holds so far; comm_wait makes that   *
     * stream wait for them. Buffers are in place. Slice r is [r * slice, (r + 1) * slice), the last one goes to n.   */

    /* Loads the library and writes its name and version. */
    int (*comm_load)(struct engine_context *context, char *name, size_t name_bytes);
    /* ENGINE_COMM_ID_BYTES that one rank makes and all pass to comm_open, which waits for all of them. */
    int (*comm_id)(struct engine_context *context, void *id);
    int (*comm_open)(struct engine_context *context, const void *id, int rank, int size);
    /* failed: without waiting for what is queued, which others may never answer. */
    void (*comm_close)(struct engine_context *context, bool failed);
    /* NULL, or what has gone wrong meanwhile; the one function that any thread may call between open and close. */
    const char *(*comm_failure)(struct engine_context *context);
    /* The own slice becomes the sum over ranks, the rest of buffer is left undefined. */
    int (*comm_reduce_scatter)(struct engine_context *context, enum dtype dtype, void *buffer, int64_t n, int64_t slice);
    /* Every rank's slice to all. */
    int (*comm_all_gather)(struct engine_context *context, enum dtype dtype, void *buffer, int64_t n, int64_t slice);
    int (*comm_broadcast)(struct engine_context *context, void *buffer, size_t bytes, int root);
    int (*comm_wait)(struct engine_context *context);
};

/* The only exported symbol of a plugin; the table lives as long as the plugin is loaded. */
typedef const struct engine *(*flat_engine_fn)(void);

#ifdef __cplusplus
}
#endif
#endif

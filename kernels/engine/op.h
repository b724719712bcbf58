/* op.h - the vocabulary every op is written in.
 *
 * An op is kernels/<op>.h (the contract, the argument structs, check and cost), kernels/<op>.c (the CPU implementation, which
 * is also the oracle) and kernels/<op>.cu (CUDA). It is called as
 *     int status = engine->norm_forward(context, &(struct norm_args){ ... });
 * and returns an enum op_status. Ops of one context run in the order they are called; on a GPU they
 * are queued on the context's stream and a device fault may be reported by a later call.
 *
 * Letters used in the contracts: s = bytes of one element of `dtype`. "stat" is the type statistics
 * (softmax, norms, losses) are kept in: double when dtype is DTYPE_F64, otherwise float.
 */
#ifndef FLAT_KERNELS_OP_H
#define FLAT_KERNELS_OP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Storage types of tensors. The numbers are part of the engines' binary interface. */
enum dtype { DTYPE_F32 = 0, DTYPE_BF16 = 1, DTYPE_F16 = 2, DTYPE_F64 = 3 };

/* Bytes of one element. */
static inline size_t dtype_size(enum dtype dtype)
{
    return dtype == DTYPE_F64 ? 8 : dtype == DTYPE_F32 ? 4 : 2;
}

/* Type of statistics that go with a storage type. */
static inline enum dtype dtype_stat(enum dtype dtype)
{
    return dtype == DTYPE_F64 ? DTYPE_F64 : DTYPE_F32;
}

static inline const char *dtype_name(enum dtype dtype)
{
    switch (dtype) {
    case DTYPE_F32: return "float32";
    case DTYPE_BF16: return "bfloat16";
    case DTYPE_F16: return "float16";
    case DTYPE_F64: return "float64";
    }
    return "unknown";
}

enum op_status {
    OP_OK = 0,
    OP_CONTRACT = 1, /* the arguments break the op's contract; nothing was computed */
    OP_MEMORY = 2,   /* scratch memory could not be had */
    OP_DEVICE = 3,   /* the device reported a fault; the context is unusable */
    OP_ABSENT = 4    /* open: this machine has no such device */
};

/* What a call has to move and compute at least, for comparison with what the device can do. Every op has
 *     static inline const char *<op>_check(const struct <op>_args *args);   what breaks the contract, or NULL
 *     static inline struct op_cost <op>_cost(const struct <op>_args *args); from shapes and types alone
 * in its header; what only one engine asks for (its types, its largest sizes) that engine checks itself. */
struct op_cost {
    double bytes, flops;
};

/* What a caller stored in an enum, whatever it is: C++ leaves it undefined to load a value that the enum lacks. */
static inline unsigned enum_value(const void *stored)
{
    unsigned value;
    memcpy(&value, stored, sizeof value);
    return value;
}

/* One opened device: stream, library handles, scratch, text of the last error. Each engine defines it. */
struct engine_context;

#ifdef __cplusplus
}
#endif
#endif

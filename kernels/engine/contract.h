/* contract.h - the checks at the entry of every op, the same in every engine. An engine's private header (cpu.h,
 * cuda.cuh) includes it; after these checks nothing fails but memory and the device.
 */
#ifndef FLAT_KERNELS_CONTRACT_H
#define FLAT_KERNELS_CONTRACT_H
#include "op.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Writes the line that engine->error returns; gives status back. */
int engine_fail(struct engine_context *context, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#ifdef __cplusplus
}
#endif

/* Leaves the op with OP_CONTRACT and a line of the form "norm_forward: <text>". */
#define REQUIRE(condition, text)                                                                              \
    do {                                                                                                      \
        if (!(condition))                                                                                     \
            return engine_fail(context, OP_CONTRACT, "%s: %s", __func__, text);                               \
    } while (0)

/* The entry of every op: context, arguments and the contract of its header. */
#define REQUIRE_CONTRACT(op, args)                                                                            \
    do {                                                                                                      \
        if (!context)                                                                                         \
            return OP_CONTRACT;                                                                               \
        const char *const broken_ = (args) ? op##_check(args) : "no arguments";                               \
        if (broken_)                                                                                          \
            return engine_fail(context, OP_CONTRACT, "%s: %s", #op, broken_);                                 \
    } while (0)

#define REQUIRE_ARGS(args)                                                                                    \
    do {                                                                                                      \
        if (!context)                                                                                         \
            return OP_CONTRACT;                                                                               \
        REQUIRE(args, "no arguments");                                                                        \
    } while (0)

#endif

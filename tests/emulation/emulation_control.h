/* emulation_control.h - C interface of the emulation for tests: counters, seed, text of the last fault.
 *
 * The symbols are exported by every library that holds the emulation (libflat_emu.so), beside flat_engine.
 */
#ifndef FLAT_EMULATION_CONTROL_H
#define FLAT_EMULATION_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EMU_EXPORT __attribute__((visibility("default")))

/* Bytes of global memory, all traffic that was issued (a byte read twice counts twice), by kernel. `name` is the
 * kernel's name without template arguments; NULL adds up everything. The runtime's own work is counted under
 * "memset", "memcpy" (device to device) and "matmul" (every operand once). False: no such kernel has run since the
 * reset; the outputs are 0 then. Any output may be NULL. */
EMU_EXPORT void emu_counter_reset(void);
EMU_EXPORT bool emu_counter_read(const char *name, uint64_t *read, uint64_t *written, uint64_t *launches);

/* The same, but counted by the checker's instrumentation, so that accesses that pass by load_* and store_* of tile.cuh
 * are seen too: equal to the above when there are none. False where the build has no checker. */
EMU_EXPORT bool emu_counter_read_checked(const char *name, uint64_t *read, uint64_t *written);

/* Blocks that were launched since the reset, of a kernel or, NULL, of all. */
EMU_EXPORT uint64_t emu_counter_blocks(const char *name);

/* Name of the index-th kernel that has run since the reset, or NULL beyond the last. */
EMU_EXPORT const char *emu_counter_name(int index);

/* Calls of the runtime API so far: those that allocate or free memory of the device or pinned memory, those that make
 * the host wait for the device, launches of graphs, of kernels and products of the library, copies with their bytes, and
 * fills. What a graph holds is counted when it is captured, and its launch as one. Creating and destroying the runtime's objects
 * is not counted. */
struct emu_calls {
    uint64_t allocations, waits, graph_launches, launches, copies, copied, fills;
    uint64_t path; /* bytes of copies from and to the host on the longest chain of those that have to wait for one another */
};
EMU_EXPORT struct emu_calls emu_calls_read(void);

/* Schedule from now on: 0 in order, others at random. Starts as the environment's EMU_SEED. */
EMU_EXPORT void emu_seed_set(uint64_t seed);

/* Whether streams run late and interleaved from now on. Starts as EMU_ASYNC. */
EMU_EXPORT void emu_async_set(int async);

/* How many algorithms cublasLt knows from now on, and which of them is fast. Starts as EMU_MATMUL_ALGORITHMS and _FASTEST. */
EMU_EXPORT void emu_matmul_set(int algorithms, int fastest);

/* The first kernel fault, or the last misuse of the runtime API; "" if none. */
EMU_EXPORT const char *emu_fault_text(void);

/* "plain", "asan" or "check". */
EMU_EXPORT const char *emu_flavour(void);

#ifdef __cplusplus
}
#endif
#endif

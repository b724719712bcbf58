/* emulation.h - CUDA as a kernel sees it, in C++17: launches, indices, shared memory, barriers, warp functions.
 *
 * kernels/engine/gpu.h includes this file in place of CUDA when EMU is defined. Types and prototypes come from NVIDIA's own
 * headers where they are installed and from shadow/ where they are not; the functions behind the prototypes are in
 * this directory. Every thread of a block is a fiber (fiber.h), so barriers are real, and every misuse that the
 * hardware leaves undefined ends the launch with a report: see README.md.
 */
#ifndef FLAT_EMULATION_H
#define FLAT_EMULATION_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

/* NVIDIA's host_defines.h leaves these alone when they are there before it. */
#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __shared__ use_the_macros_SHARED_and_DYN_SHARED_of_gpu_h
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#ifndef __launch_bounds__
#define __launch_bounds__(...)
#endif

/* Twins are inlined into the kernel, so that a report of the checker can name the kernel's line. */
#define EMU_INLINE static inline __attribute__((always_inline))

/* This very library: its NCCL is that of nccl.cpp. */
#define NCCL_LIBRARY (::emu::library_path())

namespace emu {

const char *library_path();

/* The running CUDA thread as seen by its operating system thread: a block never moves to another one. */
struct thread_view {
    uint3 thread, block, block_size, grid_size;
    uint32_t lane, linear;
    uint64_t bytes_read, bytes_written;      /* global memory, of all threads since the executor began the launch */
    const char *shared_begin, *shared_end;   /* shared memory of the executor */
    const char *device_begin, *device_end;   /* where device memory can be */
};
extern __thread thread_view view;

/* A warp function under way: the lanes of `mask` meet, each leaving a value that the others may read. */
struct alignas(16) collective {
    uint32_t mask, arrived, unread;
    uint32_t operation;
    const char *what;
    int line;
    alignas(16) unsigned char slot[32][64];
};

enum operation : uint32_t {
    OPERATION_SYNC = 0x100,
    OPERATION_SHUFFLE = 0x200,
    OPERATION_BALLOT = 0x300,
    OPERATION_REDUCE = 0x400,
    OPERATION_MMA = 0x500,
    OPERATION_LDMATRIX = 0x600
};

enum barrier_kind { BARRIER_PLAIN, BARRIER_OR, BARRIER_AND, BARRIER_COUNT };

/* Returns when all lanes of mask have arrived; the last one runs `finish` (which may be null) on the slots. Each
 * lane calls collective_leave when it has read what it wants. */
collective *collective_meet(uint32_t mask, uint32_t operation, const void *value, size_t bytes,
                            void (*finish)(collective *), const char *what, int line);
void collective_leave(collective *group);
int block_barrier(barrier_kind kind, int predicate, const char *file, int line);

/* One per SHARED in the source: its address is the array's name. */
struct shared_key {
    char unused;
};
void *shared_array_get(const shared_key *key, size_t bytes, size_t alignment);
void *shared_dynamic_get();

/* Ends the launch with a report: misuse found in a kernel. */
[[noreturn]] void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));
void global_access_fault(const void *pointer, size_t bytes, const char *what);

EMU_INLINE bool is_shared(const void *pointer)
{
    return (const char *)pointer >= view.shared_begin && (const char *)pointer < view.shared_end;
}

/* load_* and store_* of tile.cuh come through here. */
EMU_INLINE void note_access(const void *pointer, size_t bytes, uint64_t *counter, const char *what)
{
    const bool natural = (bytes & (bytes - 1)) == 0; /* sizes that are no power of two have no alignment to keep */
    const char *address = (const char *)pointer;
    if ((natural && ((uintptr_t)pointer & (bytes - 1)) != 0) || is_shared(pointer) || address < view.device_begin ||
        address >= view.device_end)
        global_access_fault(pointer, bytes, what);
    *counter += bytes;
}

struct kernel_call {
    const char *name;
    const void *function;
    dim3 grid, block;
    size_t dynamic_bytes;
    cudaStream_t stream;
    void (*invoke)(void *arguments);
    std::shared_ptr<void> arguments;
    size_t arguments_bytes;
};
cudaError_t kernel_launch(const kernel_call &call);

template <class... Parameters> struct bound_kernel {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;

    template <size_t... I> __attribute__((no_sanitize("thread"))) void call(std::index_sequence<I...>)
    {
        kernel(std::get<I>(arguments)...);
    }
    static void invoke(void *self)
    {
        static_cast<bound_kernel *>(self)->call(std::index_sequence_for<Parameters...>());
    }
};

/* Arguments are copied at the launch, as CUDA does. */
template <class... Parameters, class... Arguments>
cudaError_t launch(const char *name, dim3 grid, dim3 block, size_t dynamic_bytes, cudaStream_t stream,
                   void (*kernel)(Parameters...), Arguments &&...arguments)
{
    static_assert((std::is_trivially_copyable<Parameters>::value && ...), "kernel parameters must be plain data");
    static_assert((sizeof(Parameters) + ... + 0) <= 4096, "kernel parameters exceed 4 KB");
    typedef bound_kernel<Parameters...> bound;
    auto copy = std::make_shared<bound>(
        bound{kernel, std::tuple<Parameters...>(std::forward<Arguments>(arguments)...)});
    return kernel_launch({name, (const void *)kernel, grid, block, dynamic_bytes, stream, bound::invoke,
                          std::move(copy), sizeof(bound)});
}

} // namespace emu

#define threadIdx (::emu::view.thread)
#define blockIdx (::emu::view.block)
#define blockDim (::emu::view.block_size)
#define gridDim (::emu::view.grid_size)

#define NOTE_READ(pointer, bytes) ::emu::note_access(pointer, bytes, &::emu::view.bytes_read, "read")
#define NOTE_WRITE(pointer, bytes) ::emu::note_access(pointer, bytes, &::emu::view.bytes_written, "write")

#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    ::emu::launch(#kernel, dim3(grid), dim3(block), (shared_bytes), (stream), kernel, ##__VA_ARGS__)
#define SHARED(type, name, extent)                  \
    typedef type name##_shared_type extent;         \
    static const ::emu::shared_key name##_shared_key{}; \
    name##_shared_type &name = *static_cast<name##_shared_type *>(::emu::shared_array_get(  \
        &name##_shared_key, sizeof(name##_shared_type), alignof(name##_shared_type)))
#define DYN_SHARED(type, name) type *name = static_cast<type *>(::emu::shared_dynamic_get())

/* NVIDIA's header has these overloads for nvcc only: kernels without casts. */
template <class T> cudaError_t cudaFuncSetAttribute(T *kernel, enum cudaFuncAttribute attribute, int value)
{
    return cudaFuncSetAttribute((const void *)kernel, attribute, value);
}

template <class T>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, T *kernel, int block, size_t dynamic_bytes)
{
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, (const void *)kernel, block, dynamic_bytes);
}

/* ---- barriers ------------------------------------------------------------------------------------------------- */

EMU_INLINE void __syncthreads(const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    emu::block_barrier(emu::BARRIER_PLAIN, 0, file, line);
}

EMU_INLINE int __syncthreads_or(int predicate, const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    return emu::block_barrier(emu::BARRIER_OR, predicate, file, line);
}

EMU_INLINE int __syncthreads_and(int predicate, const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    return emu::block_barrier(emu::BARRIER_AND, predicate, file, line);
}

EMU_INLINE int __syncthreads_count(int predicate, const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    return emu::block_barrier(emu::BARRIER_COUNT, predicate, file, line);
}

EMU_INLINE void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE())
{
    emu::collective_leave(
        emu::collective_meet(mask, emu::OPERATION_SYNC, nullptr, 0, nullptr, "__syncwarp", line));
}

/* ---- shuffles and votes --------------------------------------------------------------------------------------- */

namespace emu {

enum shuffle_kind { SHUFFLE_INDEX, SHUFFLE_UP, SHUFFLE_DOWN, SHUFFLE_XOR };

/* The lane a shuffle reads: its own where the source lies outside its segment of `width` lanes (PTX shfl). */
static inline int shuffle_source(shuffle_kind kind, int lane, int operand, int width)
{
    const int segment = lane & -width, last = segment + width - 1;
    switch (kind) {
    case SHUFFLE_INDEX: return segment + (operand & (width - 1));
    case SHUFFLE_UP: return lane - operand >= segment ? lane - operand : lane;
    case SHUFFLE_DOWN: return lane + operand <= last ? lane + operand : lane;
    default: return (lane ^ operand) <= last ? lane ^ operand : lane;
    }
}

template <class T>
T shuffle(unsigned mask, T value, shuffle_kind kind, int operand, int width, const char *what, int line)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    collective *group =
        collective_meet(mask, OPERATION_SHUFFLE + kind * 16 + sizeof(T), &value, sizeof(T), nullptr, what, line);
    if (width <= 0 || width > 32 || (width & (width - 1)) != 0)
        fault("%s line %d: width %d is not a power of two up to 32", what, line, width);
    const int source = shuffle_source(kind, (int)view.lane, operand, width);
    if ((group->mask >> source & 1) == 0)
        fault("%s line %d: lane %u reads lane %d, which is not in mask %08x", what, line, view.lane, source, mask);
    memcpy(&value, group->slot[source], sizeof(T));
    collective_leave(group);
    return value;
}

enum reduce_kind { REDUCE_ADD, REDUCE_MAX, REDUCE_MIN, REDUCE_AND, REDUCE_OR };

template <class T> T reduce(unsigned mask, T value, reduce_kind kind, int line)
{
    collective *group =
        collective_meet(mask, OPERATION_REDUCE + kind, &value, sizeof(T), nullptr, "__reduce_sync", line);
    T result = value;
    bool first = true;
    for (int lane = 0; lane < 32; lane++) {
        if ((group->mask >> lane & 1) == 0)
            continue;
        T other;
        memcpy(&other, group->slot[lane], sizeof(T));
        if (first)
            result = other;
        else
            switch (kind) {
            case REDUCE_ADD: result = (T)((unsigned)result + (unsigned)other); break;
            case REDUCE_MAX: result = other > result ? other : result; break;
            case REDUCE_MIN: result = other < result ? other : result; break;
            case REDUCE_AND: result = (T)((unsigned)result & (unsigned)other); break;
            case REDUCE_OR: result = (T)((unsigned)result | (unsigned)other); break;
            }
        first = false;
    }
    collective_leave(group);
    return result;
}

} // namespace emu

template <class T>
inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32, int line = __builtin_LINE())
{
    return emu::shuffle(mask, value, emu::SHUFFLE_INDEX, lane, width, "__shfl_sync", line);
}

template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE())
{
    return emu::shuffle(mask, value, emu::SHUFFLE_UP, (int)delta, width, "__shfl_up_sync", line);
}

template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE())
{
    return emu::shuffle(mask, value, emu::SHUFFLE_DOWN, (int)delta, width, "__shfl_down_sync", line);
}

template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, int line = __builtin_LINE())
{
    return emu::shuffle(mask, value, emu::SHUFFLE_XOR, lanes, width, "__shfl_xor_sync", line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE())
{
    const unsigned char vote = predicate != 0;
    emu::collective *group = emu::collective_meet(mask, emu::OPERATION_BALLOT, &vote, 1, nullptr, "vote", line);
    unsigned result = 0;
    for (int lane = 0; lane < 32; lane++)
        if ((group->mask >> lane & 1) && group->slot[lane][0])
            result |= 1u << lane;
    emu::collective_leave(group);
    return result;
}

inline int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE())
{
    return __ballot_sync(mask, predicate, line) != 0;
}

inline int __all_sync(unsigned mask, int predicate, int line = __builtin_LINE())
{
    return __ballot_sync(mask, predicate, line) == mask;
}

#define EMU_REDUCE(name, type, kind)                                                     \
    inline type name(unsigned mask, type value, int line = __builtin_LINE())         \
    {                                                                                    \
        return emu::reduce(mask, value, emu::kind, line);                                \
    }
EMU_REDUCE(__reduce_add_sync, unsigned, REDUCE_ADD)
EMU_REDUCE(__reduce_add_sync, int, REDUCE_ADD)
EMU_REDUCE(__reduce_max_sync, unsigned, REDUCE_MAX)
EMU_REDUCE(__reduce_max_sync, int, REDUCE_MAX)
EMU_REDUCE(__reduce_min_sync, unsigned, REDUCE_MIN)
EMU_REDUCE(__reduce_min_sync, int, REDUCE_MIN)
EMU_REDUCE(__reduce_and_sync, unsigned, REDUCE_AND)
EMU_REDUCE(__reduce_or_sync, unsigned, REDUCE_OR)
#undef EMU_REDUCE

#include "intrinsics.h"

#endif

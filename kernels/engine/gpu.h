/* gpu.h - the only CUDA header a .cu file of this project includes.
 *
 * Under nvcc it is CUDA. With -DEMU it is tests/emulation: the same .cu file then compiles with g++ or clang++
 * and runs on any machine, which is how every kernel is executed in `make test`.
 *
 *     LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...)   a launch; yields a cudaError_t.
 *                                    A kernel with template arguments goes in brackets: LAUNCH((f<float, 8>), ...)
 *     SHARED(type, name, [32][8]);   a __shared__ array
 *     DYN_SHARED(type, name);        type *name = the dynamic shared memory of the launch, 128-byte aligned
 *
 * A kernel may use what both sides have: these macros, threadIdx and its like, __syncthreads and its like, the
 * *_sync warp functions with explicit masks, integer atomics, __threadfence, the arithmetic intrinsics, and tile.cuh.
 * It may not use float atomics (sums have a fixed order), __activemask, cooperative groups, spin waits or inline
 * PTX (PTX lives in tile.cuh, where each wrapper has an emulated twin). Code under #ifndef EMU is code that no
 * test runs: only tile.cuh and this file have any.
 */
#ifndef FLAT_KERNELS_GPU_H
#define FLAT_KERNELS_GPU_H

#include <stddef.h>
#include <stdint.h>

#ifdef EMU
#include "emulation.h"

#else
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#define NCCL_LIBRARY "libnccl.so.2" /* what dlopen takes */
#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    (kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__), cudaGetLastError())
#define SHARED(type, name, extent) __shared__ __align__(16) type name extent
/* One name and one type for all kernels of a file: CUDA rejects two extern arrays that differ only in type. */
#define DYN_SHARED(type, name)                                                \
    extern __shared__ __align__(128) unsigned char dynamic_shared_memory[]; \
    type *name = reinterpret_cast<type *>(dynamic_shared_memory)

/* The emulation counts and checks the global accesses that tile.cuh announces; on a GPU that is nothing. */
#define NOTE_READ(pointer, bytes) ((void)0)
#define NOTE_WRITE(pointer, bytes) ((void)0)
#endif

enum { WARP_SIZE = 32 };
static constexpr unsigned FULL_WARP = 0xffffffffu;

#endif

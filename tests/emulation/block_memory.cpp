/* block_memory.cpp - shared memory of a block, asynchronous copies into it, and the arithmetic of mma.
 *
 * Shared memory belongs to the executor. Every array is separate, with a gap to the next, and is filled anew for each
 * block with NaN (or random bytes): a kernel that reads what it has not written does not pass.
 */
#include "fiber.h"
#include "tile_twin.h"

#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

namespace emu {

enum { SHARED_SPACE = 256 << 10, SHARED_GAP = 64, STATIC_LIMIT = 48 << 10, DYNAMIC_OFFSET = 1024, PAGE = 4096 };

/* ---- arrays --------------------------------------------------------------------------------------------------- */

void shared_reset(executor *self, const launch_state *launch)
{
    if (!self->shared) {
        /* A page on both sides that the kernel may not touch: far strays end in a report. */
        char *space = (char *)mmap(nullptr, SHARED_SPACE + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (space == MAP_FAILED || mprotect(space + PAGE, SHARED_SPACE, PROT_READ | PROT_WRITE) != 0) {
            perror("emulation: shared memory");
            abort();
        }
        self->shared = space + PAGE;
        self->shared_bytes = SHARED_SPACE;
    }
    view.shared_begin = self->shared;
    view.shared_end = self->shared + self->shared_bytes;
#ifdef EMU_ASAN
    __asan_poison_memory_region(self->shared, self->shared_bytes);
#endif
    self->arrays.clear();
    self->dynamic = self->shared + DYNAMIC_OFFSET;
    self->shared_used = DYNAMIC_OFFSET + launch->call.dynamic_bytes;
}

void shared_fill(executor *self, void *memory, size_t bytes)
{
#ifdef EMU_ASAN
    __asan_unpoison_memory_region(memory, bytes);
#endif
    if (config.fill < 256) {
        memset(memory, config.fill, bytes);
        return;
    }
    for (size_t i = 0; i < bytes; i++)
        ((unsigned char *)memory)[i] = (unsigned char)random_next(&self->random);
}

void *shared_array_get(const shared_key *key, size_t bytes, size_t alignment)
{
    executor *self = executor_current;
    size_t total = self->running->call.dynamic_bytes, fixed = bytes;
    for (shared_array &array : self->arrays) {
        if (array.key == key) {
            if (!array.ready) { /* the first thread of the block to come here */
                shared_fill(self, array.address, bytes);
                array.ready = true;
            }
            return array.address;
        }
        fixed += array.bytes;
    }
    total += fixed;
    if (fixed > STATIC_LIMIT)
        fault("%zu bytes of static shared memory: the limit is %d", fixed, (int)STATIC_LIMIT);
    if (total > self->running->shared_limit)
        fault("%zu bytes of shared memory exceed %zu: cudaFuncSetAttribute is missing or too small", total,
              self->running->shared_limit);
    if (alignment < 16)
        alignment = 16;
    const size_t offset = (self->shared_used + SHARED_GAP + alignment - 1) & ~(alignment - 1);
    self->shared_used = offset + bytes;
    if (self->shared_used > self->shared_bytes)
        fault("the emulation's space for shared memory is used up");
    self->arrays.push_back({key, self->shared + offset, bytes, true});
    shared_fill(self, self->shared + offset, bytes);
    return self->shared + offset;
}

void *shared_dynamic_get()
{
    if (!executor_current->running->call.dynamic_bytes)
        fault("DYN_SHARED in a kernel that was launched without dynamic shared memory");
    return executor_current->dynamic;
}

void global_access_fault(const void *pointer, size_t bytes, const char *what)
{
    if (is_shared(pointer))
        fault("%s of shared memory through a global-memory function of tile.cuh", what);
    if ((const char *)pointer < view.device_begin || (const char *)pointer >= view.device_end)
        fault("a kernel dereferences host pointer %p (%s of %zu bytes)", pointer, what, bytes);
    fault("%s of %zu bytes at an address that is not a multiple of %zu", what, bytes, bytes);
}

/* ---- asynchronous copies -------------------------------------------------------------------------------------- */

static void copy_land(async_copy *copy, const void *site)
{
    check_write(copy->shared, 16, site);
    if (copy->landed)
        return;
    if (copy->valid)
        memcpy(copy->shared, copy->global, 16);
    else
        memset(copy->shared, 0, 16);
    copy->landed = true;
}

void async_copy_issue(void *shared, const void *global, bool valid)
{
    executor *self = executor_current;
    if (((uintptr_t)shared & 15) || (valid && ((uintptr_t)global & 15)))
        fault("async_copy_16: an address is not 16-byte aligned");
    if (!is_shared(shared))
        fault("async_copy_16: the destination is not in shared memory");
    if (valid) {
        note_access(global, 16, &view.bytes_read, "read");
        check_read(global, 16, __builtin_return_address(0));
    }
    check_async(shared, 16, __builtin_return_address(0));
    async_copy copy = {shared, global, valid, false};
    if (config.seed && (random_next(&self->random) & 1)) { /* may land at once, or as late as it can */
        if (valid)
            memcpy(shared, global, 16);
        else
            memset(shared, 0, 16);
        copy.landed = true;
    }
    self->current->copies.push_back(copy);
}

void async_copy_commit()
{
    std::vector<async_copy> &copies = executor_current->current->copies;
    if (!copies.empty())
        copies.push_back({nullptr, nullptr, false, true});
}

/* Copies that were not committed belong to no group, and no wait covers them. */
void async_copy_wait(int newest)
{
    std::vector<async_copy> &copies = executor_current->current->copies;
    int groups = 0;
    for (const async_copy &copy : copies)
        groups += !copy.shared;
    size_t done = 0;
    for (; groups > newest; done++) {
        if (copies[done].shared)
            copy_land(&copies[done], __builtin_return_address(0));
        else
            groups--;
    }
    copies.erase(copies.begin(), copies.begin() + (ptrdiff_t)done);
}

/* ---- mma ------------------------------------------------------------------------------------------------------ */

static float bf16_value(uint32_t bits)
{
    return __uint_as_float(bits << 16);
}

void mma_m16n8k16_finish(collective *group)
{
    float a[16][16], b[8][16], d[16][8];
    for (int lane = 0; lane < 32; lane++) {
        uint32_t word[6];
        float sum[4];
        memcpy(word, group->slot[lane], sizeof word);
        memcpy(sum, group->slot[lane] + 24, sizeof sum);
        const int across = lane / 4, pair = lane % 4 * 2;
        for (int i = 0; i < 4; i++) {
            const int row = across + i % 2 * 8, column = pair + i / 2 * 8;
            a[row][column] = bf16_value(word[i] & 0xffff);
            a[row][column + 1] = bf16_value(word[i] >> 16);
            d[across + i / 2 * 8][pair + i % 2] = sum[i];
        }
        for (int i = 0; i < 2; i++) {
            b[across][pair + i * 8] = bf16_value(word[4 + i] & 0xffff);
            b[across][pair + i * 8 + 1] = bf16_value(word[4 + i] >> 16);
        }
    }
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++) {
            float sum = 0.0f;
            for (int k = 0; k < 16; k++)
                sum += a[i][k] * b[j][k];
            d[i][j] += sum;
        }
    for (int lane = 0; lane < 32; lane++) {
        float sum[4];
        for (int i = 0; i < 4; i++)
            sum[i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
        memcpy(group->slot[lane] + 24, sum, sizeof sum);
    }
}

} // namespace emu

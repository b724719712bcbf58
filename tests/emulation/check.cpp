/* check.cpp - the checker: races, reads of what was never written, accesses out of bounds, host pointers in kernels.
 *
 * The kernels of the check build are compiled by clang with -fsanitize=thread, which calls a function for every load
 * and store (check_entry.cpp); no sanitizer library is linked, the calls come here. Each byte of shared memory and
 * each two bytes of device memory have a cell with the last write and the last reads. Two accesses to a cell, one of
 * them a write, are a race unless one of these lies between them:
 *   a barrier (the epoch differs) · a __syncwarp of both lanes (clock) · the end of the launch · between blocks,
 *   __threadfence and an atomic on one side and an atomic on the same address on the other.
 * Blocks run one after another here, so a race is found whether or not it would have shown.
 */
#include "runtime.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <sys/mman.h>
#include <unordered_map>

extern "C" char __ehdr_start __attribute__((visibility("hidden")));
extern "C" char _end __attribute__((visibility("hidden")));

namespace emu {

extern const bool check_present = true;

enum access_kind : uint8_t { ACCESS_PLAIN, ACCESS_ATOMIC, ACCESS_ASYNC };
enum : uint32_t { MANY_BLOCKS = 0xffffffffu, MANY_WARPS = 0xff };
enum byte_state : unsigned char { BYTE_FREE = 0, BYTE_ALLOCATED = 1, BYTE_WRITTEN = 2 };

struct access_record {
    uint32_t epoch; /* 0: never */
    uint32_t block;
    uint32_t lanes; /* of `warp` */
    uint32_t stamp; /* the latest of their clocks */
    uint8_t warp;
    access_kind kind;
};

struct cell {
    access_record write, read;
};

enum { SHARED_CELLS = 256 << 10, DEVICE_GRAIN = 2 };

static cell *shared_cells, *device_cells;
static unsigned char *device_bytes; /* byte_state of each */
static const char *arena_begin, *arena_end;

/* Epochs count barriers, blocks and launches, all in one sequence. */
static uint32_t epoch = 1, block_epoch = 1, launch_epoch = 1;
/* clocks[w][a][b]: the latest time of lane b that lane a of warp w knows of. */
static uint32_t clocks[BLOCK_WARPS][32][32];
static uint64_t launch_read, launch_written;

/* What a block has to do before an atomic of its thread tells others of its writes. */
static struct {
    uint32_t write_epoch, write_epoch_before; /* latest epoch with a write to device memory, and the one before */
    uint32_t fence_epoch[BLOCK_THREADS];      /* latest __threadfence of each thread */
    bool unfenced[BLOCK_THREADS];             /* wrote since */
} block_writes;

/* Blocks that have released on an address, and how many of them the running block has acquired. */
struct release_list {
    std::unordered_map<uint32_t, size_t> position;
};
static std::unordered_map<const void *, release_list> releases;
static std::unordered_map<const release_list *, size_t> acquired;

static void *shadow_map(size_t bytes)
{
    void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        perror("emulation: shadow memory of the checker (EMU_DEVICE_MB makes it smaller)");
        abort();
    }
    return memory;
}

static void shadow_prepare()
{
    if (!shared_cells) {
        shared_cells = (cell *)shadow_map(sizeof(cell) * SHARED_CELLS);
        device_cells = (cell *)shadow_map(sizeof(cell) * (config.device_bytes / DEVICE_GRAIN));
        device_bytes = (unsigned char *)shadow_map(config.device_bytes);
    }
    device_arena(&arena_begin, &arena_end);
}

static bool in_arena(const void *memory)
{
    return arena_begin && (const char *)memory >= arena_begin && (const char *)memory < arena_end;
}

/* ---- order ---------------------------------------------------------------------------------------------------- */

void check_launch(const launch_state *)
{
    shadow_prepare();
    launch_epoch = block_epoch = ++epoch;
    releases.clear();
    launch_read = launch_written = 0;
}

void check_launch_end(const launch_state *launch)
{
    counter_add_checked(launch->counter, launch_read, launch_written);
}

void check_block()
{
    block_epoch = ++epoch;
    acquired.clear();
    memset(clocks, 0, sizeof clocks);
    for (auto &warp : clocks)
        for (int lane = 0; lane < 32; lane++)
            warp[lane][lane] = 1;
    memset(&block_writes, 0, sizeof block_writes);
}

void check_barrier()
{
    ++epoch;
}

void check_warp_sync(uint32_t warp, uint32_t mask)
{
    uint32_t latest = 0, known[32] = {};
    for (int lane = 0; lane < 32; lane++) {
        if ((mask >> lane & 1) == 0)
            continue;
        for (int other = 0; other < 32; other++)
            known[other] = max(known[other], clocks[warp][lane][other]);
        latest = max(latest, clocks[warp][lane][lane]);
    }
    for (int lane = 0; lane < 32; lane++)
        if (mask >> lane & 1)
            known[lane] = latest + 1;
    for (int lane = 0; lane < 32; lane++)
        if (mask >> lane & 1)
            memcpy(clocks[warp][lane], known, sizeof known);
}

void check_fence()
{
    const uint32_t thread = executor_current->current->linear;
    block_writes.fence_epoch[thread] = epoch;
    block_writes.unfenced[thread] = false;
}

/* An atomic on device memory: takes what others have released here, and releases what a fence has made ready. */
static void atomic_order(const void *address, uint32_t thread, uint32_t block)
{
    release_list *list = &releases[address];
    acquired[list] = list->position.size();
    const uint32_t latest =
        block_writes.write_epoch == epoch ? block_writes.write_epoch_before : block_writes.write_epoch;
    if (!block_writes.unfenced[thread] && (latest < block_epoch || latest < block_writes.fence_epoch[thread]))
        list->position.emplace(block, list->position.size());
}

static bool block_acquired(uint32_t block)
{
    for (const auto &entry : acquired) {
        auto position = entry.first->position.find(block);
        if (position != entry.first->position.end() && position->second < entry.second)
            return true;
    }
    return false;
}

static bool is_before(const access_record *past, const fiber *thread, uint32_t block, bool device)
{
    if (past->epoch < (device ? launch_epoch : block_epoch))
        return true;
    if (past->block != block)
        return past->block != MANY_BLOCKS && block_acquired(past->block);
    if (past->epoch != epoch)
        return true;
    if (past->warp != thread->warp)
        return false;
    const uint32_t *known = clocks[thread->warp][thread->lane];
    for (uint32_t lanes = past->lanes & ~(1u << thread->lane); lanes; lanes &= lanes - 1)
        if (known[__builtin_ctz(lanes)] <= past->stamp)
            return false;
    return true;
}

/* ---- reports -------------------------------------------------------------------------------------------------- */

/* "helper at tile.cuh:70 in kernel at norm.cu:31" for a return address. */
static std::string site_text(const void *site)
{
    Dl_info module;
    if (!site || !dladdr(site, &module))
        return "an unknown place";
    char command[512], line[256];
    std::string text;
    const size_t offset = (size_t)((const char *)site - (const char *)module.dli_fbase);
    snprintf(command, sizeof command, "addr2line -s -C -f -i -p -e '%s' %zx 2>/dev/null", module.dli_fname, offset - 1);
    FILE *pipe = popen(command, "r");
    while (pipe && fgets(line, sizeof line, pipe)) {
        line[strcspn(line, "\n")] = 0;
        const char *inlined = strstr(line, "(inlined by) ");
        text += inlined ? std::string(" in ") + (inlined + 13) : line;
    }
    if (pipe)
        pclose(pipe);
    if (text.empty()) {
        snprintf(line, sizeof line, "%s+%zx", module.dli_fname, offset);
        text = line;
    }
    return text;
}

static __attribute__((noinline)) void report_race(const char *what, const access_record *other, bool device,
                                                  size_t offset, const void *site)
{
    char who[96];
    if (other->block == MANY_BLOCKS)
        snprintf(who, sizeof who, "several blocks");
    else if (other->warp == MANY_WARPS)
        snprintf(who, sizeof who, "several warps of block %u", other->block);
    else if (other->lanes & (other->lanes - 1))
        snprintf(who, sizeof who, "several lanes of warp %u of block %u", other->warp, other->block);
    else
        snprintf(who, sizeof who, "thread %u of block %u", other->warp * 32 + __builtin_ctz(other->lanes),
                 other->block);
    fault("race on %s memory at byte %zu: %s of %s with nothing to order them, at %s", device ? "device" : "shared",
          offset, what, who, site_text(site).c_str());
}

/* ---- accesses ------------------------------------------------------------------------------------------------- */

static void cell_read(cell *at, const access_record *now, bool device)
{
    access_record *read = &at->read;
    if (read->epoch >= (device ? launch_epoch : block_epoch)) {
        if (read->block != now->block) {
            if (read->block == MANY_BLOCKS || !block_acquired(read->block)) {
                read->block = MANY_BLOCKS;
                read->epoch = now->epoch;
                return;
            }
        } else if (read->epoch == now->epoch) {
            if (read->warp != now->warp)
                read->warp = MANY_WARPS;
            read->lanes |= now->lanes;
            read->stamp = max(read->stamp, now->stamp);
            return;
        }
    }
    *read = *now;
}

static void cells_touch(cell *at, size_t count, bool write, access_kind kind, bool device, size_t offset,
                        const void *site)
{
    const executor *self = executor_current;
    const fiber *thread = self->current;
    const uint32_t block = (uint32_t)self->block_number;
    const access_record now = {epoch,
                               block,
                               1u << thread->lane,
                               clocks[thread->warp][thread->lane][thread->lane],
                               (uint8_t)thread->warp,
                               kind};
    for (size_t i = 0; i < count; i++, at++) {
        const bool both_atomic = kind == ACCESS_ATOMIC && at->write.kind == ACCESS_ATOMIC;
        if (at->write.epoch && !both_atomic && !is_before(&at->write, thread, block, device))
            report_race(write ? "a write after a write" : "a read after a write", &at->write, device, offset + i, site);
        if (write && at->read.epoch && !is_before(&at->read, thread, block, device))
            report_race("a write after a read", &at->read, device, offset + i, site);
        if (write)
            at->write = now;
        else
            cell_read(at, &now, device);
    }
}

static void shared_access(char *address, size_t bytes, bool write, access_kind kind, const void *site)
{
    const executor *self = executor_current;
    const size_t offset = (size_t)(address - self->shared);
    bool inside = self->running->call.dynamic_bytes && address >= self->dynamic &&
                  address + bytes <= self->dynamic + self->running->call.dynamic_bytes;
    for (const shared_array &array : self->arrays)
        inside = inside || (address >= array.address && address + bytes <= array.address + array.bytes);
    if (!inside)
        fault("shared memory: %s of %zu bytes out of bounds, at %s", write ? "write" : "read", bytes,
              site_text(site).c_str());
    for (size_t i = 0; i < bytes; i++) {
        const access_record *last = &shared_cells[offset + i].write;
        if ((!write || kind == ACCESS_ATOMIC) && last->epoch < block_epoch)
            fault("read of uninitialised shared memory, at %s", site_text(site).c_str());
        if (!write && last->kind == ACCESS_ASYNC && last->epoch >= block_epoch)
            fault("read of shared memory that an asynchronous copy is still writing, at %s", site_text(site).c_str());
    }
    cells_touch(shared_cells + offset, bytes, write, kind, false, offset, site);
}

static void device_access(char *address, size_t bytes, bool write, access_kind kind, const void *site)
{
    const size_t offset = (size_t)(address - arena_begin);
    const uint32_t thread = executor_current->current->linear;
    for (size_t i = 0; i < bytes; i++) {
        if (device_bytes[offset + i] == BYTE_FREE)
            fault("device memory: %s of %zu bytes out of bounds, at %s", write ? "write" : "read", bytes,
                  site_text(site).c_str());
        if ((!write || kind == ACCESS_ATOMIC) && device_bytes[offset + i] != BYTE_WRITTEN)
            fault("read of uninitialised device memory, at %s", site_text(site).c_str());
    }
    if (kind == ACCESS_ATOMIC)
        atomic_order(address, thread, (uint32_t)executor_current->block_number);
    const size_t first = offset / DEVICE_GRAIN, last = (offset + bytes + DEVICE_GRAIN - 1) / DEVICE_GRAIN;
    cells_touch(device_cells + first, last - first, write, kind, true, offset, site);
    if (write) {
        memset(device_bytes + offset, BYTE_WRITTEN, bytes);
        launch_written += bytes;
    }
    if (!write || kind == ACCESS_ATOMIC)
        launch_read += bytes;
    if (write && kind == ACCESS_PLAIN) {
        if (block_writes.write_epoch != epoch) {
            block_writes.write_epoch_before = block_writes.write_epoch;
            block_writes.write_epoch = epoch;
        }
        block_writes.unfenced[thread] = true;
    }
}

static bool inside(const char *address, const void *begin, size_t bytes)
{
    return address >= (const char *)begin && address < (const char *)begin + bytes;
}

/* Every load and store of the kernels arrives here. */
void check_access(const void *memory, size_t bytes, bool write, access_kind kind, const void *site)
{
    if (!inside_kernel())
        return;
    char *address = (char *)memory;
    const executor *self = executor_current;
    if (inside(address, self->current->stack, self->current->stack_bytes))
        return;
    if (inside(address, self->shared, self->shared_bytes))
        return shared_access(address, bytes, write, kind, site);
    if (in_arena(address))
        return device_access(address, bytes, write, kind, site);
    /* Left over: constants of this module, the kernel's arguments, and the emulation's own state. */
    if (inside(address, &__ehdr_start, (size_t)(&_end - &__ehdr_start)) || inside(address, self, sizeof *self) ||
        inside(address, &view, sizeof view) ||
        inside(address, self->running->call.arguments.get(), self->running->call.arguments_bytes))
        return;
    if (inside(address, self->current->stack - STACK_GUARD, STACK_GUARD))
        fault("stack overflow of a CUDA thread (EMU_STACK_KB sets the size), at %s", site_text(site).c_str());
    fault("a kernel dereferences host pointer %p, at %s", memory, site_text(site).c_str());
}

void check_plain(const void *memory, size_t bytes, bool write, const void *site)
{
    check_access(memory, bytes, write, ACCESS_PLAIN, site);
}

__attribute__((noinline)) void check_read(const void *memory, size_t bytes)
{
    check_access(memory, bytes, false, ACCESS_PLAIN, __builtin_return_address(0));
}

void check_read(const void *memory, size_t bytes, const void *site)
{
    check_access(memory, bytes, false, ACCESS_PLAIN, site);
}

void check_write(void *memory, size_t bytes, const void *site)
{
    check_access(memory, bytes, true, ACCESS_PLAIN, site);
}

void check_atomic(const void *memory, size_t bytes, const void *site)
{
    check_access(memory, bytes, true, ACCESS_ATOMIC, site);
}

void check_async(void *shared, size_t bytes, const void *site)
{
    check_access(shared, bytes, true, ACCESS_ASYNC, site);
}

/* ---- what the host does --------------------------------------------------------------------------------------- */

void check_alloc(void *memory, size_t bytes)
{
    shadow_prepare();
    memset(device_bytes + ((char *)memory - arena_begin), BYTE_ALLOCATED, bytes);
}

void check_free(void *memory, size_t bytes)
{
    memset(device_bytes + ((char *)memory - arena_begin), BYTE_FREE, bytes);
}

void check_host_write(void *memory, size_t bytes)
{
    if (in_arena(memory))
        memset(device_bytes + ((char *)memory - arena_begin), BYTE_WRITTEN, bytes);
}

const char *check_host_read(const void *memory, size_t bytes)
{
    if (!in_arena(memory))
        return nullptr;
    const unsigned char *state = device_bytes + ((const char *)memory - arena_begin);
    for (size_t i = 0; i < bytes; i++)
        if (state[i] != BYTE_WRITTEN)
            return state[i] == BYTE_FREE ? "device memory that is not allocated" : "uninitialised device memory";
    return nullptr;
}

} // namespace emu

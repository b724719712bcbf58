/* memory.cpp - device memory: filled with NaN, guarded, and out of the host's reach between operations.
 *
 * Plain and check builds cut it from one range of addresses that is accessible only while device work runs, so that
 * the host cannot touch a device pointer unnoticed; behind every allocation lies a canary, looked at when it is freed.
 * Under AddressSanitizer each allocation is one of malloc, with exact red zones.
 */
#include "fiber.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

namespace emu {

enum { ALIGNMENT = 256, PAGE = 4096, CANARY = 0xa5, FREED = 0xdd };

static std::map<char *, size_t> allocations;
static size_t bytes_used;
#ifndef EMU_ASAN
static char *arena;
static size_t arena_end; /* bytes of the arena that have ever been handed out */
static std::multimap<size_t, char *> free_blocks;
static int open_depth;
#endif

size_t device_used()
{
    return bytes_used;
}

bool device_range(const void *pointer, char **start, size_t *bytes)
{
    auto entry = allocations.upper_bound((char *)pointer);
    if (entry == allocations.begin())
        return false;
    --entry;
    *start = entry->first;
    *bytes = entry->second;
    return (char *)pointer < *start + *bytes;
}

bool is_device(const void *pointer, size_t bytes)
{
    char *start;
    size_t size;
    return device_range(pointer, &start, &size) && (size_t)((char *)pointer - start) + bytes <= size;
}

static void fill_fresh(void *memory, size_t bytes)
{
    static uint64_t random = 1;
    if (config.fill < 256) {
        memset(memory, config.fill, bytes);
        return;
    }
    for (size_t i = 0; i < bytes; i++)
        ((unsigned char *)memory)[i] = (unsigned char)random_next(&random);
}

#ifdef EMU_ASAN

device_open::device_open() {}
device_open::~device_open() {}

void device_arena(const char **begin, const char **end)
{
    *begin = nullptr;
    *end = (const char *)UINTPTR_MAX;
}

static void *block_take(size_t bytes)
{
    void *memory = nullptr;
    return posix_memalign(&memory, ALIGNMENT, bytes) == 0 ? memory : nullptr;
}

static void block_return(char *memory, size_t)
{
    free(memory);
}

#else

static size_t pages(size_t bytes)
{
    return (bytes + PAGE - 1) & ~(size_t)(PAGE - 1);
}

static void arena_protect(int protection)
{
    if (config.run && arena_end && mprotect(arena, pages(arena_end), protection) != 0) {
        perror("emulation: protection of device memory");
        abort();
    }
}

device_open::device_open()
{
    if (open_depth++ == 0 && arena_end <= config.protect_bytes)
        arena_protect(PROT_READ | PROT_WRITE);
}

device_open::~device_open()
{
    if (--open_depth == 0 && arena_end <= config.protect_bytes)
        arena_protect(PROT_NONE);
}

void device_arena(const char **begin, const char **end)
{
    *begin = arena;
    *end = arena + arena_end;
}

/* Blocks are taken anew only in the same size, which costs nothing where addresses have no memory behind them. */
static size_t address_bytes()
{
    return config.run ? config.device_bytes : 16 * config.device_bytes;
}

/* With room for a canary of at least ALIGNMENT bytes. */
static size_t block_bytes(size_t bytes)
{
    return (bytes + 2 * ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

static void *block_take(size_t bytes)
{
    const size_t size = block_bytes(bytes);
    char *memory;
    auto reuse = free_blocks.find(size);
    if (!arena) {
        void *range = mmap(nullptr, address_bytes(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (range == MAP_FAILED) {
            perror("emulation: address range of device memory (EMU_DEVICE_MB)");
            abort();
        }
        arena = (char *)range;
    }
    if (reuse != free_blocks.end()) {
        memory = reuse->second;
        free_blocks.erase(reuse);
    } else {
        if (size > address_bytes() - arena_end)
            return nullptr;
        memory = arena + arena_end;
        arena_end += size;
        arena_protect(PROT_READ | PROT_WRITE); /* closed again below, if it is small enough */
    }
    if (config.run) {
        device_open open;
        memset(memory + bytes, CANARY, size - bytes);
    }
    return memory;
}

static void block_return(char *memory, size_t bytes)
{
    const size_t size = block_bytes(bytes);
    device_open open;
    for (size_t i = bytes; i < size && config.run; i++)
        if ((unsigned char)memory[i] != CANARY) {
            char text[160];
            snprintf(text, sizeof text, "a kernel wrote past the end of an allocation of %zu bytes, at offset %zu",
                     bytes, i);
            fault_record(cudaErrorIllegalAddress, text);
            break;
        }
    if (config.run)
        memset(memory, FREED, bytes);
    free_blocks.insert({size, memory});
}

/* What a segmentation fault was, in words. */
static void explain_fault(int, siginfo_t *info, void *)
{
    const char *address = (const char *)info->si_addr, *what = "invalid address";
    const executor *self = executor_current;
    if (arena && address >= arena && address < arena + address_bytes())
        what = open_depth ? "a kernel touched device memory that is not allocated"
                          : "host code dereferenced a device pointer";
    else if (self && inside_kernel() && address < self->current->stack && address >= self->current->stack - STACK_GUARD)
        what = "stack overflow of a CUDA thread (EMU_STACK_KB sets the size)";
    char text[400];
    const int length = snprintf(text, sizeof text, "emulation: segmentation fault at %p: %s%s%s\n",
                                (const void *)address, what,
                                self ? " in kernel " : "", self ? self->running->call.name : "");
    if (write(STDERR_FILENO, text, (size_t)length) < 0)
        _exit(1);
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
}

static bool handler_install()
{
    static char stack[64 << 10];
    stack_t alternate = {};
    alternate.ss_sp = stack;
    alternate.ss_size = sizeof stack;
    struct sigaction action = {};
    action.sa_sigaction = explain_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    return sigaltstack(&alternate, nullptr) == 0 && sigaction(SIGSEGV, &action, nullptr) == 0;
}
static const bool handler_installed = handler_install();

#endif

/* ---- the allocator of the runtime API ------------------------------------------------------------------------- */

cudaError_t device_alloc(void **pointer, size_t bytes)
{
    *pointer = nullptr;
    if (device_status())
        return device_status();
    if (!bytes)
        return cudaSuccess;
    if (bytes > config.device_bytes - bytes_used)
        return cudaErrorMemoryAllocation;
    char *memory = (char *)block_take(bytes);
    if (!memory)
        return cudaErrorMemoryAllocation;
    allocations[memory] = bytes;
    bytes_used += bytes;
    *pointer = memory;
    if (!config.run)
        return cudaSuccess;
    device_open open;
    fill_fresh(memory, bytes);
    check_alloc(memory, bytes);
    return cudaSuccess;
}

cudaError_t device_free(void *pointer)
{
    if (!pointer)
        return cudaSuccess;
    auto entry = allocations.find((char *)pointer);
    if (entry == allocations.end())
        return misuse(cudaErrorInvalidValue, "cudaFree of a pointer that is no live allocation");
    const size_t bytes = entry->second;
    allocations.erase(entry);
    bytes_used -= bytes;
    if (config.run)
        check_free(pointer, bytes);
    block_return((char *)pointer, bytes);
    return device_status();
}

} // namespace emu

/* counter.cpp - bytes of global memory by kernel, calls of the runtime API; see emulation_control.h. */
#include "emulation_control.h"
#include "runtime.h"

#include <atomic>
#include <map>
#include <mutex>

namespace emu {

struct kernel_counter {
    std::atomic<uint64_t> read{0}, written{0}, launches{0}, blocks{0}, checked_read{0}, checked_written{0};
};

emu_calls calls;

static std::mutex mutex;
static std::map<std::string, kernel_counter> counters; /* a node stays where it is for the life of the process */

/* "(norm_kernel<float, 256>)" and "norm_kernel" are the same kernel. */
static std::string base_name(const char *kernel)
{
    std::string name = kernel;
    const size_t start = name.find_first_not_of("( ");
    name = name.substr(start == std::string::npos ? 0 : start);
    return name.substr(0, name.find_first_of("<)( "));
}

kernel_counter *counter_find(const char *kernel)
{
    std::lock_guard<std::mutex> lock(mutex);
    return &counters[base_name(kernel)];
}

void counter_add_launch(kernel_counter *counter, uint64_t blocks)
{
    counter->launches++;
    counter->blocks += blocks;
}

void counter_add(kernel_counter *counter, uint64_t read, uint64_t written)
{
    counter->read += read;
    counter->written += written;
}

void counter_add_checked(kernel_counter *counter, uint64_t read, uint64_t written)
{
    counter->checked_read += read;
    counter->checked_written += written;
}

struct totals {
    uint64_t read, written, launches, blocks, checked_read, checked_written;
};

static totals add_up(const char *name)
{
    std::lock_guard<std::mutex> lock(mutex);
    totals sum = {};
    for (const auto &entry : counters) {
        if (name && entry.first != name)
            continue;
        sum.read += entry.second.read;
        sum.written += entry.second.written;
        sum.launches += entry.second.launches;
        sum.blocks += entry.second.blocks;
        sum.checked_read += entry.second.checked_read;
        sum.checked_written += entry.second.checked_written;
    }
    return sum;
}

} // namespace emu

using namespace emu;

extern "C" emu_calls emu_calls_read(void)
{
    return calls;
}

extern "C" void emu_counter_reset(void)
{
    std::lock_guard<std::mutex> lock(emu::mutex);
    for (auto &entry : counters) {
        kernel_counter &counter = entry.second;
        counter.read = counter.written = counter.launches = counter.blocks = counter.checked_read = counter.checked_written = 0;
    }
}

extern "C" bool emu_counter_read(const char *name, uint64_t *read, uint64_t *written, uint64_t *launches)
{
    const totals sum = add_up(name);
    if (read)
        *read = sum.read;
    if (written)
        *written = sum.written;
    if (launches)
        *launches = sum.launches;
    return sum.launches > 0;
}

extern "C" uint64_t emu_counter_blocks(const char *name)
{
    return add_up(name).blocks;
}

extern "C" bool emu_counter_read_checked(const char *name, uint64_t *read, uint64_t *written)
{
    const totals sum = add_up(name);
    if (read)
        *read = sum.checked_read;
    if (written)
        *written = sum.checked_written;
    return check_present && sum.launches > 0;
}

extern "C" const char *emu_counter_name(int index)
{
    std::lock_guard<std::mutex> lock(emu::mutex);
    for (const auto &entry : counters)
        if (entry.second.launches && index-- == 0)
            return entry.first.c_str();
    return nullptr;
}

extern "C" const char *emu_flavour(void)
{
#ifdef EMU_ASAN
    return "asan";
#else
    return check_present ? "check" : "plain";
#endif
}

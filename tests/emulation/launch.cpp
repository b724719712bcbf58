/* launch.cpp - from a launch to its blocks: configuration, limits, blocks over operating system threads, watchdog.
 */
#include "fiber.h"
#include "emulation_control.h"

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <signal.h>
#include <time.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif

namespace emu {

/* ---- configuration -------------------------------------------------------------------------------------------- */

static long environment_number(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtol(text, nullptr, 0) : otherwise;
}

static settings settings_read()
{
    settings s;
    s.seed = (uint64_t)environment_number("EMU_SEED", 0);
    s.abort_on_fault = (int)environment_number("EMU_ABORT", 0);
    s.threads = check_present ? 1 : (int)environment_number("EMU_THREADS", 0);
    s.async = (int)environment_number("EMU_ASYNC", 0);
    s.fill = (int)environment_number("EMU_FILL", 0xff);
    s.protect_bytes = (size_t)environment_number("EMU_PROTECT_MB", 4) << 20;
    s.watchdog_seconds = environment_number("EMU_WATCHDOG", 60);
    s.stack_bytes = (size_t)environment_number("EMU_STACK_KB", 64) << 10;
    s.device_bytes = (size_t)environment_number("EMU_DEVICE_MB", check_present ? 2048 : 8192) << 20;
    s.run = environment_number("EMU_RUN", 1) != 0;
    s.matmul_algorithms = environment_number("EMU_MATMUL_ALGORITHMS", 3);
    s.matmul_fastest = environment_number("EMU_MATMUL_FASTEST", 0);
    s.cublaslt_version = environment_number("EMU_CUBLASLT_VERSION", 130000);
    return s;
}
settings config = settings_read();

/* ---- faults --------------------------------------------------------------------------------------------------- */

static std::mutex status_mutex;
static std::atomic<int> sticky_status; /* cudaError_t of a kernel fault */
static std::string status_text;
static int last_error;                 /* of misuse: cleared by cudaGetLastError */
static char last_text[512];

void fault_record(cudaError_t status, const std::string &text)
{
    std::lock_guard<std::mutex> lock(status_mutex);
    if (sticky_status)
        return;
    status_text = text;
    sticky_status = status;
    fprintf(stderr, "emulation: %s\n", text.c_str());
    if (config.abort_on_fault)
        abort();
}

cudaError_t misuse(cudaError_t status, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(last_text, sizeof last_text, format, list);
    va_end(list);
    fprintf(stderr, "emulation: %s\n", last_text);
    if (config.abort_on_fault)
        abort();
    last_error = status;
    return status;
}

cudaError_t device_status()
{
    return (cudaError_t)sticky_status.load();
}

const char *device_status_text()
{
    return sticky_status ? status_text.c_str() : last_text;
}

/* ---- watchdog ------------------------------------------------------------------------------------------------- */

/* A kernel that spins holds its operating system thread for good, so the process ends. CPU time is what counts: a
 * busy machine is no reason to complain. */
static struct {
    timer_t timer;
    bool made;
    const launch_state *volatile running;
} watchdog;

static void watchdog_expired(int)
{
    const launch_state *running = watchdog.running;
    if (!running)
        return;
    char text[400];
    const dim3 grid = running->call.grid, block = running->call.block;
    const int length = snprintf(text, sizeof text,
                                "emulation: watchdog: kernel %s (grid %u,%u,%u, block %u,%u,%u) has used %ld seconds "
                                "of CPU time: it spins or is far too slow (EMU_WATCHDOG sets the limit)\n",
                                running->call.name, grid.x, grid.y, grid.z, block.x, block.y, block.z,
                                config.watchdog_seconds);
    if (write(STDERR_FILENO, text, (size_t)length) < 0)
        _exit(1);
    abort();
}

static void watchdog_set(const launch_state *running)
{
    if (config.watchdog_seconds <= 0)
        return;
    if (!watchdog.made) {
        struct sigaction action = {};
        action.sa_handler = watchdog_expired;
        action.sa_flags = SA_RESTART;
        struct sigevent event = {};
        event.sigev_notify = SIGEV_SIGNAL;
        event.sigev_signo = SIGRTMIN + 6;
        if (sigaction(event.sigev_signo, &action, nullptr) != 0 ||
            (timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &watchdog.timer) != 0 &&
             timer_create(CLOCK_MONOTONIC, &event, &watchdog.timer) != 0)) {
            perror("emulation: watchdog");
            abort();
        }
        watchdog.made = true;
    }
    watchdog.running = running;
    struct itimerspec limit = {};
    limit.it_value.tv_sec = running ? config.watchdog_seconds : 0;
    timer_settime(watchdog.timer, 0, &limit, nullptr);
}

/* ---- running -------------------------------------------------------------------------------------------------- */

static std::vector<uint32_t> block_order(uint64_t blocks, uint64_t random)
{
    std::vector<uint32_t> order(blocks);
    for (uint64_t i = 0; i < blocks; i++)
        order[i] = (uint32_t)i;
    for (uint64_t i = blocks; i > 1; i--)
        std::swap(order[i - 1], order[random_next(&random) % i]);
    return order;
}

static __thread executor *executor_owned; /* made at the first launch of this operating system thread, then kept */

static void run_blocks(const launch_state *launch, std::atomic<uint64_t> *next, uint64_t blocks, const uint32_t *order)
{
    if (!executor_owned)
        executor_owned = new executor();
    executor *self = executor_owned;
    executor_prepare(self, launch);
    executor_current = self;
    view.bytes_read = view.bytes_written = 0;
    for (uint64_t i; (i = next->fetch_add(1)) < blocks && !device_status();)
        executor_run_block(self, order ? order[i] : i);
    counter_add(launch->counter, view.bytes_read, view.bytes_written);
    executor_current = nullptr;
}

void launch_run(launch_state *launch)
{
    static uint64_t launches;
    if (device_status() || !config.run)
        return;
    const dim3 grid = launch->call.grid;
    const uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z;
    launch->number = ++launches;
    device_open open;
    std::vector<uint32_t> order;
    if (config.seed)
        order = block_order(blocks, config.seed + launch->number);
    const uint32_t *order_data = order.empty() ? nullptr : order.data();
    std::atomic<uint64_t> next{0};
    counter_add_launch(launch->counter, blocks);
    check_launch(launch);
    watchdog_set(launch);
#ifdef _OPENMP
    uint64_t threads = (uint64_t)(config.threads > 0 ? config.threads : omp_get_max_threads());
    if (threads > blocks)
        threads = blocks;
    if (threads > 1) {
#pragma omp parallel num_threads((int)threads)
        run_blocks(launch, &next, blocks, order_data);
    } else
#endif
        run_blocks(launch, &next, blocks, order_data);
    watchdog_set(nullptr);
    check_launch_end(launch);
}

cudaError_t kernel_launch(const kernel_call &call)
{
    const dim3 grid = call.grid, block = call.block;
    const uint64_t threads = (uint64_t)block.x * block.y * block.z;
    const size_t limit = kernel_dynamic_limit(call.function);
    if (device_status())
        return device_status();
    if (threads == 0 || threads > BLOCK_THREADS || block.z > 64 || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
        grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
        return misuse(cudaErrorInvalidConfiguration, "launch of %s: grid %u,%u,%u, block %u,%u,%u is out of range",
                      call.name, grid.x, grid.y, grid.z, block.x, block.y, block.z);
    if (call.dynamic_bytes > limit)
        return misuse(cudaErrorInvalidValue,
                      "launch of %s: %zu bytes of dynamic shared memory exceed %zu (cudaFuncSetAttribute)", call.name,
                      call.dynamic_bytes, limit);
    auto item = std::make_shared<launch_state>();
    item->call = call;
    /* Static and dynamic memory share one limit, which stays at 48 KB until the kernel has asked for more. */
    item->shared_limit = limit > (48u << 10) ? (size_t)227 << 10 : (size_t)48 << 10;
    item->counter = counter_find(call.name);
    calls.launches++;
    return stream_enqueue(call.stream, [item] {
        launch_run(item.get());
        return true;
    });
}

} // namespace emu

extern "C" void emu_seed_set(uint64_t seed)
{
    emu::config.seed = seed;
}

extern "C" void emu_matmul_set(int algorithms, int fastest)
{
    emu::config.matmul_algorithms = algorithms;
    emu::config.matmul_fastest = fastest;
}

extern "C" const char *emu_fault_text(void)
{
    return emu::device_status_text();
}

/* ---- errors of the runtime API: they live with the status ----------------------------------------------------- */

extern "C" cudaError_t CUDARTAPI cudaPeekAtLastError(void)
{
    return emu::device_status() ? emu::device_status() : (cudaError_t)emu::last_error;
}

extern "C" cudaError_t CUDARTAPI cudaGetLastError(void)
{
    const cudaError_t status = cudaPeekAtLastError();
    emu::last_error = cudaSuccess; /* a kernel fault stays: the context is lost, as on the device */
    return status;
}

/* runtime.h - what the files of the emulation share with each other and kernels do not see. */
#ifndef FLAT_EMULATION_RUNTIME_H
#define FLAT_EMULATION_RUNTIME_H

#include "emulation.h"
#include "emulation_control.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMU_ASAN 1
#endif
#endif

namespace emu {

/* ---- configuration: environment variables, read once -------------------------------------------------------- */

struct settings {
    uint64_t seed;           /* EMU_SEED: 0 runs lanes, warps and blocks in order, others at random */
    int abort_on_fault;      /* EMU_ABORT=1: stop at the first report, for a debugger */
    int threads;             /* EMU_THREADS: operating system threads that run blocks; 0: all */
    int async;               /* EMU_ASYNC=1: streams run late and interleaved */
    int fill;                /* EMU_FILL: byte that fresh memory holds; 256: random bytes. 0xff is NaN in every type */
    size_t protect_bytes;    /* EMU_PROTECT_MB: with more device memory in use the host may touch it: protecting
                              * costs 20 us per launch and MB */
    long watchdog_seconds;   /* EMU_WATCHDOG: CPU seconds that one launch may take; 0: no limit */
    size_t stack_bytes;      /* EMU_STACK_KB: stack of a CUDA thread */
    size_t device_bytes;     /* EMU_DEVICE_MB: size of device memory */
    bool run;                /* EMU_RUN=0: device memory has addresses and no contents, launches and copies do nothing */
    long matmul_algorithms;  /* EMU_MATMUL_ALGORITHMS: how many of its algorithms cublasLt knows */
    long matmul_fastest;     /* EMU_MATMUL_FASTEST: the one that events show no time of; of the others, a second each */
    long cublaslt_version;   /* EMU_CUBLASLT_VERSION */
};
extern settings config;

/* splitmix64: the one source of randomness, so that a seed gives one schedule. */
static inline uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* ---- launches ------------------------------------------------------------------------------------------------- */

struct kernel_counter;

struct launch_state {
    kernel_call call;
    size_t shared_limit; /* static and dynamic together */
    uint64_t number;     /* 1, 2, ...: part of the random state */
    kernel_counter *counter;
};

struct async_copy { /* a group border when shared is null */
    void *shared;
    const void *global;
    bool valid, landed;
};

enum wait_reason { WAIT_NONE, WAIT_BARRIER, WAIT_COLLECTIVE };

/* One CUDA thread. Fibers are kept and reused: stacks cost more than what runs on them. */
struct fiber {
    void *stack_pointer;
    char *stack;
    size_t stack_bytes;
    void *fake_stack;   /* AddressSanitizer's */
    void *user_context; /* ucontext_t, where there is no assembly switch */
    uint3 index;
    uint32_t linear, warp, lane;
    bool done;
    wait_reason wait;
    collective *wait_group;
    std::vector<async_copy> copies;
};

enum { WARP_GROUPS = 34, BLOCK_THREADS = 1024, BLOCK_WARPS = 32, STACK_GUARD = 64 << 10 };

struct warp_state {
    uint32_t ready, at_barrier, exited; /* masks of lanes */
    uint64_t open, busy;                /* masks of groups: lanes still arriving, lanes still reading */
    collective group[WARP_GROUPS];
};

struct shared_array {
    const shared_key *key;
    char *address;
    size_t bytes;
    bool ready; /* placed and filled for the running block */
};

/* One operating system thread's machinery to run blocks, one at a time. */
struct executor {
    fiber main; /* the operating system thread itself */
    fiber *fibers;
    fiber *current;
    int fibers_made, threads, live; /* live: threads of the block that have not returned */
    warp_state warps[BLOCK_WARPS];
    uint32_t warps_ready;
    const launch_state *running;
    uint64_t block_number, random;
    int barrier_arrived, barrier_line, barrier_result[2];
    uint32_t barrier_number;
    const char *barrier_file;
    char *shared;
    size_t shared_bytes, shared_used;
    char *dynamic;
    std::vector<shared_array> arrays;
    bool failed;
    std::string report;
};
extern __thread executor *executor_current; /* null outside a launch */

void executor_prepare(executor *self, const launch_state *launch);
void executor_run_block(executor *self, uint64_t block_number);
void thread_yield();
bool inside_kernel();

/* Shared memory of a block. */
void shared_reset(executor *self, const launch_state *launch);
void shared_fill(executor *self, void *memory, size_t bytes);

/* ---- faults --------------------------------------------------------------------------------------------------- */

/* A kernel fault is sticky, as on the device: every later call returns it. Thread safe; the first one stays. */
void fault_record(cudaError_t status, const std::string &text);
/* Host misuse: prints the text, remembers the status for cudaGetLastError, and returns it. */
cudaError_t misuse(cudaError_t status, const char *format, ...) __attribute__((format(printf, 2, 3)));
cudaError_t device_status();
const char *device_status_text();

/* ---- memory --------------------------------------------------------------------------------------------------- */

/* Device memory is inaccessible except while one of these is alive (plain builds). */
struct device_open {
    device_open();
    ~device_open();
    device_open(const device_open &) = delete;
};
bool device_range(const void *pointer, char **start, size_t *bytes);
bool is_device(const void *pointer, size_t bytes);
/* Where device memory can be: everywhere under AddressSanitizer, which tells by itself. */
void device_arena(const char **begin, const char **end);
size_t device_used();
cudaError_t device_alloc(void **pointer, size_t bytes);
cudaError_t device_free(void *pointer);

/* ---- calls of the runtime API ---------------------------------------------------------------------------------- */

extern emu_calls calls; /* what emu_calls_read gives */

/* ---- streams -------------------------------------------------------------------------------------------------- */

/* One piece of queued work; returns false when it must wait for an event. It may run more than once (graphs). */
typedef std::function<bool()> work;
/* A copy between host and device is about to be queued. */
void stream_copied(cudaStream_t stream, size_t bytes);
/* What is queued from here on begins after what the stream has; of the bytes of copies, that is. */
void stream_waited(cudaStream_t stream);
cudaError_t stream_enqueue(cudaStream_t stream, work item);
/* Events of all streams show so much more time from now on. */
void time_pretend(double seconds);
/* Runs what is queued in all streams. */
void streams_drain();
/* True, with a report, while a stream is being captured: `what` would wait for the device. */
bool capture_forbids(const char *what);
size_t kernel_dynamic_limit(const void *function);
void launch_run(launch_state *launch);

/* ---- counters ------------------------------------------------------------------------------------------------- */

kernel_counter *counter_find(const char *kernel);
void counter_add_launch(kernel_counter *counter, uint64_t blocks);
void counter_add(kernel_counter *counter, uint64_t read, uint64_t written);
void counter_add_checked(kernel_counter *counter, uint64_t read, uint64_t written);

/* ---- hooks of the checker: check.cpp in the check build, check_none.cpp (empty) in the others ------------------- */

extern const bool check_present;
void check_launch(const launch_state *launch);
void check_launch_end(const launch_state *launch);
void check_block();
void check_barrier();
void check_warp_sync(uint32_t warp, uint32_t mask);
void check_fence();
void check_alloc(void *memory, size_t bytes);
void check_free(void *memory, size_t bytes);
void check_host_write(void *memory, size_t bytes);
/* Null, or why a copy or a library call must not read these bytes. */
const char *check_host_read(const void *memory, size_t bytes);
/* `site` is the return address in the kernel; without one it is that of the call itself. */
void check_read(const void *memory, size_t bytes);
void check_read(const void *memory, size_t bytes, const void *site);
void check_write(void *memory, size_t bytes, const void *site);
void check_atomic(const void *memory, size_t bytes, const void *site);
/* An asynchronous copy into `shared` is under way from now on, until check_write. */
void check_async(void *shared, size_t bytes, const void *site);

} // namespace emu

#endif

/* engine.c - the CPU engine: its context, its memory and the table that libflat_cpu.so exports.
 *
 * "Device" memory is ordinary memory and every call is finished when it returns.
 */
#include "gemm.h"
#include "host_memory.h"

#include <errno.h>
#include <omp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifdef FLAT_DOUBLE
#include <cblas.h>
#endif

/* Arenas are read from end to end: large pages save most of the address translations. */
#define HUGE_PAGE ((size_t)2 << 20)

#define SHARED_PERCENT 10.0

/* A bound on threads: in double OpenBLAS hands out a fixed number of packing buffers, one per calling thread. */
enum { THREADS_MAX = 128 };
/* A product keeps up to 66 KB of its operands on a thread's stack; a smaller one would end in a crash. */
enum { STACK_BYTES = 128 << 10 };

#ifdef FLAT_DOUBLE
/* The oracle's products are OpenBLAS's: one thread per call, as the ops run tiles on OpenMP threads. Read when it is loaded;
 * the user's settings win. It takes an Intel CPU younger than itself for one of 2004, at a fifth of the speed. */
static void blas_prepare(void)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (__builtin_cpu_is("intel") && (avx512 || (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))))
        setenv("OPENBLAS_CORETYPE", avx512 ? "SkylakeX" : "Haswell", 0);
#endif
    setenv("OPENBLAS_NUM_THREADS", "1", 0);
}

/* What computes the products, for describe. */
static void products_describe(char *text, size_t bytes)
{
    char name[32] = "", version[32] = ""; /* the configuration reads "OpenBLAS 0.3.21 NO_LAPACKE ..." */
    int threads_default = omp_get_max_threads(); /* the OpenMP build of OpenBLAS changes the process's with its own */
    openblas_set_num_threads(1);
    omp_set_num_threads(threads_default);
    sscanf(openblas_get_config(), "%31s %31s", name, version);
    snprintf(text, bytes, "%s %s %s, float64", name, version, openblas_get_corename());
}
#else
static void blas_prepare(void) {}

static void products_describe(char *text, size_t bytes)
{
#if defined __AVX512F__
    snprintf(text, bytes, "AVX-512");
#elif defined __AVX__
    snprintf(text, bytes, "AVX");
#else
    snprintf(text, bytes, "vectors of 4");
#endif
}
#endif

/* Whether other work has waited for the cores: a tenth of the last ten seconds or more (the kernel's "some avg10"), or,
 * where the kernel does not say, by the threads that want to run now. */
static bool cores_are_shared(void)
{
    double share = 0;
    int running = 0;
    FILE *file = fopen("/proc/pressure/cpu", "r");
    const bool known = file && fscanf(file, "some avg10=%lf", &share) == 1;
    if (file)
        fclose(file);
    file = known ? NULL : fopen("/proc/loadavg", "r");
    if (file && fscanf(file, "%*f %*f %*f %d/", &running) != 1)
        running = 0;
    if (file)
        fclose(file);
    return known ? share >= SHARED_PERCENT : running > sysconf(_SC_NPROCESSORS_ONLN);
}

/* A waiting OpenMP thread spins GOMP_SPINCOUNT times before it sleeps: long enough for the gaps between ops where the cores
 * are ours, and not at all where others want them, for it would spin in the time of the thread that it waits for: on two
 * cores with ten other busy processes a run took 7 times as long with 10000, and 16 times with the runtime's own 300000.
 * Read when the runtime is loaded; the user's own wins. The plugin is linked with -z initfirst, without which the runtime's
 * constructor would run before this one. */
__attribute__((constructor)) static void runtimes_prepare(void)
{
    blas_prepare();
    if (!getenv("OMP_WAIT_POLICY"))
        setenv("GOMP_SPINCOUNT", cores_are_shared() ? "0" : "10000", 0);
}

int engine_fail(struct engine_context *context, int status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(context->error, sizeof context->error, format, arguments);
    va_end(arguments);
    return status;
}

void *engine_scratch(struct engine_context *context, int64_t pieces, size_t bytes)
{
    size_t stride = scratch_stride(bytes), total;
    if (bytes > PTRDIFF_MAX || __builtin_mul_overflow((size_t)pieces, stride, &total) || total > PTRDIFF_MAX) {
        engine_fail(context, OP_MEMORY, "scratch of %lld x %zu bytes does not fit an address space",
                    (long long)pieces, bytes);
        return NULL;
    }
    if (total > context->scratch_bytes || !context->scratch) {
        free(context->scratch);
        context->scratch_bytes = 0;
        context->scratch = aligned_alloc(64, total ? total : 64);
        if (!context->scratch) {
            engine_fail(context, OP_MEMORY, "no memory for %zu bytes of scratch", total);
            return NULL;
        }
        context->scratch_bytes = total;
    }
    return context->scratch;
}

static void *thread_wait(void *lock)
{
    pthread_mutex_lock(lock);
    pthread_mutex_unlock(lock);
    return NULL;
}

/* Whether there is room for so many threads beside this one. The OpenMP runtime ends the process where it gets no thread, so
 * they are asked for here first, all at once and one more, and then by it (stack_least): from there on it has its own. 0, or an
 * errno. */
static int threads_start(int threads)
{
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_t thread[THREADS_MAX];
    int started = 0, failure = 0;
    pthread_mutex_lock(&lock);
    while (!failure && threads > 1 && started < threads)
        if (!(failure = pthread_create(&thread[started], NULL, thread_wait, &lock)))
            started++;
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
    return failure;
}

/* Lets the OpenMP runtime start its threads. Bytes of the smallest stack of theirs. */
static size_t stack_least(int threads)
{
    size_t least = SIZE_MAX;
#pragma omp parallel num_threads(threads) reduction(min : least)
    {
        pthread_attr_t attributes;
        size_t bytes;
        if (omp_get_thread_num() && !pthread_getattr_np(pthread_self(), &attributes)) {
            if (!pthread_attr_getstacksize(&attributes, &bytes) && bytes < least)
                least = bytes;
            pthread_attr_destroy(&attributes);
        }
    }
    return least;
}

static int cpu_open(struct engine_context **context, const struct engine_options *options, char *error,
                    size_t error_bytes)
{
    int threads = options ? options->threads : 0;
    if (!context || threads < 0) {
        snprintf(error, error_bytes, "CPU engine: %s", context ? "the number of threads is negative" : "no context");
        return OP_CONTRACT;
    }
    struct engine_context *opened = calloc(1, sizeof *opened);
    if (!opened) {
        snprintf(error, error_bytes, "CPU engine: no memory for the context");
        return OP_MEMORY;
    }
    char products[80];
    products_describe(products, sizeof products);
    opened->threads = threads > 0 ? threads : omp_get_max_threads();
    if (opened->threads > THREADS_MAX)
        opened->threads = THREADS_MAX;
    const int failure = threads_start(opened->threads);
    if (failure) {
        snprintf(error, error_bytes, "CPU engine: %d threads cannot be started: %s; lower threads", opened->threads,
                 strerror(failure));
        free(opened);
        return OP_MEMORY;
    }
    const size_t stack = stack_least(opened->threads);
    if (stack < STACK_BYTES) {
        snprintf(error, error_bytes, "CPU engine: its threads have stacks of %zu KB; expected %d or more (OMP_STACKSIZE)",
                 stack >> 10, STACK_BYTES >> 10);
        free(opened);
        return OP_MEMORY;
    }
    snprintf(opened->describe, sizeof opened->describe, "CPU, %d thread%s, %s", opened->threads,
             opened->threads == 1 ? "" : "s", products);
    *context = opened;
    return OP_OK;
}

static void cpu_close(struct engine_context *context)
{
    if (!context)
        return;
    free(context->scratch);
    free(context);
}

static const char *cpu_error(struct engine_context *context) { return context ? context->error : "no context"; }

static const char *cpu_describe(struct engine_context *context) { return context ? context->describe : "no context"; }

static int cpu_memory_free(struct engine_context *context, size_t *bytes)
{
    REQUIRE_ARGS(bytes);
    const int failure = host_memory_free(bytes);
    return failure ? engine_fail(context, failure == ENOMEM ? OP_MEMORY : OP_DEVICE, "/proc/meminfo: MemAvailable cannot be read: %s; "
                                 "free memory is not known", strerror(failure)) : OP_OK;
}

static int cpu_alloc(struct engine_context *context, void **pointer, size_t bytes)
{
    REQUIRE_ARGS(pointer);
    size_t alignment = bytes < HUGE_PAGE ? 64 : HUGE_PAGE;
    size_t rounded = ((bytes ? bytes : 1) + alignment - 1) & ~(alignment - 1);
    *pointer = bytes > PTRDIFF_MAX ? NULL : aligned_alloc(alignment, rounded);
    if (!*pointer)
        return engine_fail(context, OP_MEMORY, "no memory for %zu bytes", bytes);
    if (alignment == HUGE_PAGE)
        madvise(*pointer, rounded, MADV_HUGEPAGE); /* a wish: without it, everything is only slower */
    return OP_OK;
}

static void cpu_free(struct engine_context *context, void *pointer)
{
    (void)context;
    free(pointer);
}

/* Gradients are cleared every step: one thread would take as long as it takes to read the weights twice. */
static int cpu_fill_zero(struct engine_context *context, void *device, size_t bytes)
{
    REQUIRE_ARGS(device || !bytes);
    const size_t block = 1 << 18;
#pragma omp parallel for schedule(static) num_threads(engine_threads(context, (int64_t)(bytes / 64)))
    for (size_t begin = 0; begin < bytes; begin += block)
        memset((char *)device + begin, 0, bytes - begin < block ? bytes - begin : block);
    return OP_OK;
}

static int cpu_copy(struct engine_context *context, void *to, const void *from, size_t bytes)
{
    REQUIRE_ARGS((to && from) || !bytes);
    if (bytes)
        memmove(to, from, bytes);
    return OP_OK;
}

static int cpu_synchronize(struct engine_context *context) { return context ? OP_OK : OP_CONTRACT; }

static int cpu_mark(struct engine_context *context, int slot)
{
    REQUIRE_ARGS(context);
    REQUIRE(slot >= 0 && slot < ENGINE_MARKS, "no such slot");
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    context->mark[slot] = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    return OP_OK;
}

static int cpu_elapsed(struct engine_context *context, int from, int to, double *seconds)
{
    REQUIRE_ARGS(seconds);
    REQUIRE(from >= 0 && from < ENGINE_MARKS && to >= 0 && to < ENGINE_MARKS, "no such slot");
    REQUIRE(context->mark[from] > 0 && context->mark[to] > 0, "a slot that was never marked");
    *seconds = context->mark[to] - context->mark[from];
    return OP_OK;
}

static void cpu_range_push(struct engine_context *context, const char *name)
{
    (void)context, (void)name;
}

static void cpu_range_pop(struct engine_context *context) { (void)context; }

static int graphs_refuse(struct engine_context *context)
{
    return context ? engine_fail(context, OP_CONTRACT, "graphs: a CPU engine has none") : OP_CONTRACT;
}

static int cpu_capture_begin(struct engine_context *context) { return graphs_refuse(context); }

static int cpu_capture_end(struct engine_context *context, struct engine_graph **graph)
{
    if (graph)
        *graph = NULL;
    return graphs_refuse(context);
}

static int cpu_graph_launch(struct engine_context *context, struct engine_graph *graph)
{
    (void)graph;
    return graphs_refuse(context);
}

static void cpu_graph_free(struct engine_context *context, struct engine_graph *graph)
{
    (void)context, (void)graph;
}

static int cpu_linear_pack(struct engine_context *context, void *weight, int64_t in, int64_t out, enum linear_form *form)
{
    REQUIRE_ARGS(weight && form && in > 0 && out > 0);
    const int threads = engine_threads(context, in * out);
    void *scratch = engine_scratch(context, 1, gemm_pack_scratch(in, threads));
    if (!scratch)
        return OP_MEMORY;
    *form = gemm_pack(weight, out, in, threads, scratch);
    return OP_OK;
}

static const struct engine cpu_engine = {
    .abi = ENGINE_ABI,
    .name = DTYPE_REAL == DTYPE_F64 ? "cpu64" : "cpu",
    .dtype = DTYPE_REAL,
    .open = cpu_open,
    .close = cpu_close,
    .error = cpu_error,
    .describe = cpu_describe,
    .memory_free = cpu_memory_free,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .fill_zero = cpu_fill_zero,
    .copy_in = cpu_copy,
    .copy_out = cpu_copy,
    .copy = cpu_copy,
    .synchronize = cpu_synchronize,
    .mark = cpu_mark,
    .elapsed = cpu_elapsed,
    .range_push = cpu_range_push,
    .range_pop = cpu_range_pop,
    .capture_begin = cpu_capture_begin,
    .capture_end = cpu_capture_end,
    .graph_launch = cpu_graph_launch,
    .graph_free = cpu_graph_free,
    .linear_pack = gemm_packs ? cpu_linear_pack : NULL,
#define X(op, args) .op = op,
    ENGINE_OPS(X)
#undef X
};

__attribute__((visibility("default"))) const struct engine *flat_engine(void);

const struct engine *flat_engine(void) { return &cpu_engine; }

/* logprob.cu - CUDA: log-softmax, gather of the target's log-probability and the gradient at the logits, in one kernel.
 *
 * Limiter: memory. A logit is read once and, with write_gradient, written once: the row waits on the chip for its sum,
 * in registers up to WIDE_BYTES and in shared memory above. Of a row that does not fit there (on sm_90 above 114,688
 * bf16 or 57,344 float logits, on sm_80 81,920 and 40,960) only the end is read again, soon after the first time, when
 * it is still in L2.
 *
 * One block per row, and no loop over rows: two or more blocks share a multiprocessor while rows are short enough, so
 * that one loads while another reduces or writes, and the block scheduler balances them. A block alone has 64 KB of
 * loads in flight, more than twice what its share of the memory's speed needs, so that blocks in their loads make up
 * for those that are between loads and writes.
 *
 * The sum is made while the row arrives: every thread keeps the maximum of what it has seen and the sum relative to it,
 * adjusted once per vector. That is one exponential per logit and one per vector, and 7 instructions per bf16 logit; an H200
 * has time for 13 at 4.5 TB/s, and for 1.6 exponentials. The gradient doubles both budgets and takes one exponential
 * more per logit, rather than twice the registers to keep the first.
 *
 * A cap bends a logit as it is read, and again for its gradient: about 12 instructions and two exponentials or
 * reciprocals more each time, so that arithmetic is the limiter there. Kernels with a cap are separate ones.
 *
 * The statistics of the distribution, which no row waits for, come from the same exponentials: two sums more, adjusted
 * to the new maximum as the first is, and the best column, which is looked for only in a vector that holds a new maximum.
 */
#include "engine/cuda.cuh"

#include <float.h>

namespace {

/* The target within its row: in vector `vector` at `slot`, or a single element (then vector is -1). head: the column that
 * vector 0 begins at. */
struct target_place {
    int column, vector, slot, head;
};

template <typename T> DEVICE target_place target_find(row_cut cut, int column)
{
    constexpr int width = vector16<T>::count;
    const int offset = column - cut.head;
    const bool single = offset < 0 || offset >= cut.vectors * width;
    return {column, single ? -1 : offset / width, offset % width, cut.head};
}

/* What the gradient of a row needs: p_v = exp(z - most) scale, and for the target -q, which its slope is already in. */
struct row_gradient {
    float most, scale, target_value;
    logit_cap cap;
};

/* Replaces a logit by p_v, for all but the target, times the slope of the cap. */
DEVICE float gradient_value(const row_gradient &row, float z)
{
    return exp2_fast((row.cap(z) - row.most) * LOG2_E) * row.scale * row.cap.slope(z);
}

/* Stores the gradient of the vectors that vectors_load loaded. */
template <int THREADS, int COUNT, typename T>
DEVICE void vectors_write(T *first_vector, const vector16<T> (&batch)[COUNT], int first, int end, target_place target,
                          const row_gradient &row)
{
    constexpr int width = vector16<T>::count;
#pragma unroll
    for (int u = 0; u < COUNT; u++)
        if (first + u * THREADS < end) {
            float z[width];
            vector_to_float(batch[u], z);
#pragma unroll
            for (int i = 0; i < width; i++)
                z[i] = gradient_value(row, z[i]);
            if (first + u * THREADS == target.vector) {
#pragma unroll
                for (int i = 0; i < width; i++)
                    z[i] = i == target.slot ? row.target_value : z[i];
            }
            vector16<T> vector;
            vector_from_float(vector, z);
            store_vector_streaming(first_vector + (int64_t)(first + u * THREADS) * width, vector);
        }
}

constexpr int NARROW = 256, WIDE = 512; /* threads of a block, by the length of the row */
constexpr int ROW_VECTORS = 8;          /* of a thread that keeps its part of the row in registers */
constexpr int NARROW_BYTES = NARROW * ROW_VECTORS * 16, WIDE_BYTES = WIDE * ROW_VECTORS * 16;
constexpr int STATIC_SHARED = 1024;     /* more than the kernels have besides the row */

/* Where a row waits for its gradient. */
enum row_place { ROW_NOWHERE, ROW_IN_REGISTERS, ROW_IN_SHARED };

struct forward_rows {
    int64_t stride;
    int cols;
    int kept; /* the first so many vectors wait in shared memory; a multiple of the block's threads, or all */
    const int32_t *targets;
    float *logprob, *p, *q, *lse;
    float *mean, *variance; /* where the kernel has MOMENTS */
    int32_t *argmax;
    logit_cap cap; /* where the kernel has CAPPED */
};

/* What a thread takes of its row: capped logits, without the target, which goes to shared memory as it was given. */
struct row_reading {
    target_place target;
    float *target_given;
    logit_cap cap;
};

/* Sum of exp(z - most) over the logits seen. It starts at the least float: then -infinity gives 0 and never NaN. */
struct running_sum {
    float most, sum;
};

template <int COUNT> DEVICE void running_add(running_sum &running, const float (&z)[COUNT], int)
{
    float most = running.most, part = 0.0f;
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        most = fmaxf(most, z[i]); /* passes over NaN, which comes out of the exponential */
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        part += exp2_fast((z[i] - most) * LOG2_E);
    running.sum = fmaf(running.sum, exp2_fast((running.most - most) * LOG2_E), part);
    running.most = most;
}

/* The same, with a = z - most: sums of exp(a), exp(a) a and exp(a) a^2, and the largest logit with its column. */
struct running_moments {
    float most, sum, first, second;
    candidate best;
};

template <bool MOMENTS> struct running_kind {
    typedef running_sum type;
};
template <> struct running_kind<true> {
    typedef running_moments type;
};

/* Below this an exponential is 0; -infinity becomes it, so that 0 times it is 0. */
constexpr float LEAST_APART = -1e4f;

/* Makes the sums relative to `most`, which is no less than what they are relative to, and adds some that are. */
DEVICE void moments_add(running_moments &running, float most, float sum, float first, float second)
{
    const float a = fmaxf(running.most - most, LEAST_APART), share = exp2_fast((running.most - most) * LOG2_E);
    running.second = fmaf(share, fmaf(a, fmaf(a, running.sum, 2.0f * running.first), running.second), second);
    running.first = fmaf(share, fmaf(a, running.sum, running.first), first);
    running.sum = fmaf(running.sum, share, sum); /* the same bits as without the others */
    running.most = most;
}

/* `column`: that of z[0]. */
template <int COUNT> DEVICE void running_add(running_moments &running, const float (&z)[COUNT], int column)
{
    float most = z[0], sum = 0.0f, first = 0.0f, second = 0.0f;
#pragma unroll
    for (int i = 1; i < COUNT; i++)
        most = fmaxf(most, z[i]);
    if (most > running.best.logit || (most == running.best.logit && column < running.best.column)) {
        running.best.logit = most;
#pragma unroll
        for (int i = COUNT; i-- > 0;)
            running.best.column = z[i] == most ? column + i : running.best.column;
    }
    most = fmaxf(running.most, most);
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        const float a = fmaxf(z[i] - most, LEAST_APART), w = exp2_fast((z[i] - most) * LOG2_E), wa = w * a;
        sum += w;
        first += wa;
        second = fmaf(wa, a, second);
    }
    moments_add(running, most, sum, first, second);
}

/* Takes element `slot` out of a vector: it gives exp(-infinity) = 0. */
template <int COUNT> DEVICE float element_take(float (&z)[COUNT], int slot)
{
    float taken = 0.0f;
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        if (i == slot) {
            taken = z[i];
            z[i] = -INFINITY;
        }
    return taken;
}

template <int THREADS, typename R, int COUNT, typename T>
DEVICE void vectors_add(R &running, const vector16<T> (&batch)[COUNT], int first, int end, const row_reading &reading)
{
#pragma unroll
    for (int u = 0; u < COUNT; u++)
        if (first + u * THREADS < end) {
            float z[vector16<T>::count];
            vector_to_float(batch[u], z);
            const bool has_target = first + u * THREADS == reading.target.vector;
            if (has_target)
                *reading.target_given = element_take(z, reading.target.slot);
#pragma unroll
            for (int i = 0; i < vector16<T>::count; i++)
                z[i] = reading.cap(z[i]);
            if (has_target && reading.cap.inner != 0.0f)
                element_take(z, reading.target.slot); /* again: the cap has made it finite */
            running_add(running, z, reading.target.head + (first + u * THREADS) * vector16<T>::count);
        }
}

/* Sums the vectors begin .. end - 1, and puts a copy of them in `kept` unless that is NULL. The order within a
 * thread is that of the columns, whatever COUNT is. */
template <int THREADS, bool CACHED, int COUNT, typename R, typename T>
DEVICE void range_add(R &running, const T *first_vector, int begin, int end, vector16<T> *kept,
                      const row_reading &reading)
{
    for (int first = begin + (int)threadIdx.x; first < end; first += THREADS * COUNT) {
        vector16<T> batch[COUNT];
        vectors_load<THREADS, CACHED>(batch, first_vector, first, end);
#pragma unroll
        for (int u = 0; u < COUNT; u++)
            if (kept && first + u * THREADS < end)
                kept[first + u * THREADS] = batch[u];
        vectors_add<THREADS>(running, batch, first, end, reading);
    }
}

/* The gradient of the vectors begin .. end - 1 from their copy, or from global memory when `kept` is NULL. A thread
 * reads what it wrote itself: no barrier. */
template <int THREADS, int COUNT, typename T>
DEVICE void range_write(T *first_vector, int begin, int end, const vector16<T> *kept, target_place target,
                        const row_gradient &row)
{
    for (int first = begin + (int)threadIdx.x; first < end; first += THREADS * COUNT) {
        vector16<T> batch[COUNT];
        if (kept) {
#pragma unroll
            for (int u = 0; u < COUNT; u++)
                if (first + u * THREADS < end)
                    batch[u] = kept[first + u * THREADS];
        } else {
            vectors_load<THREADS, false>(batch, first_vector, first, end);
        }
        vectors_write<THREADS>(first_vector, batch, first, end, target, row);
    }
}

/* The statistics of a row, by one thread, in double: log p then has no error but that of the sum and one rounding. The
 * sum leaves the target out, so that q and log p do not cancel when p is near 1. */
DEVICE void row_finish(const forward_rows &rows, double rest, float target_logit, float most, float p, float q)
{
    const double apart = (double)target_logit - (double)most, own = exp(apart);
    double logprob, lse;
    if (own == 0) { /* underflow */
        lse = (double)most + log(rest);
        logprob = (double)target_logit - lse;
    } else {
        logprob = -log1p(rest / own);
        lse = (double)target_logit - logprob;
    }
    const unsigned i = blockIdx.x;
    store_global(rows.logprob + i, (float)logprob);
    store_global(rows.lse + i, (float)lse);
    store_global(rows.p + i, p);
    store_global(rows.q + i, q);
}

struct three_doubles {
    double value[3];
};

struct three_sum_of {
    __device__ __forceinline__ three_doubles operator()(three_doubles a, three_doubles b) const
    {
        return {{a.value[0] + b.value[0], a.value[1] + b.value[1], a.value[2] + b.value[2]}};
    }
};

/* Mean and variance of log p under p, and the best column, from what the threads have seen, which leaves the target
 * out. All threads call it; one writes. */
template <int THREADS>
DEVICE void moments_finish(const forward_rows &rows, running_moments running, float most, float own_logit, int target)
{
    SHARED(three_doubles, scratch_moments, [THREADS / WARP_SIZE]);
    SHARED(candidate, scratch_best, [THREADS / WARP_SIZE]);
    moments_add(running, most, 0.0f, 0.0f, 0.0f);
    const three_doubles sums =
        block_reduce<THREADS>(three_doubles{{running.sum, running.first, running.second}}, three_sum_of(),
                              three_doubles{{0, 0, 0}}, scratch_moments);
    const candidate none = {-INFINITY, INT32_MAX};
    candidate best = block_reduce<THREADS>(running.best, better_of(), none, scratch_best);
    if (threadIdx.x != 0)
        return;
    best = better_of()(best, candidate{own_logit, target});
    const double a = fmax((double)own_logit - (double)most, (double)LEAST_APART), own = exp((double)own_logit - (double)most);
    const double sum = sums.value[0] + own, mean = (sums.value[1] + own * a) / sum;
    const double variance = (sums.value[2] + own * a * a) / sum - mean * mean;
    store_global(rows.mean + blockIdx.x, (float)(mean - log(sum)));
    store_global(rows.variance + blockIdx.x, (float)(variance < 0 ? 0 : variance)); /* NaN stays */
    store_global(rows.argmax + blockIdx.x, best.logit > -INFINITY ? best.column : 0);
}

/* A block has a row: thread t the vectors t, t + THREADS, ... and one of the few single elements around them. The sum
 * is that of a thread's vectors in their order and then a fixed tree, the same for every PLACE, so that the
 * log-probability of a row has the same bits with and without the gradient. */
template <typename T, int THREADS, row_place PLACE, bool MOMENTS, bool CAPPED, int COUNT, int MIN_BLOCKS>
__global__ void __launch_bounds__(THREADS, MIN_BLOCKS) logprob_forward_kernel(T *logits, forward_rows rows)
{
    SHARED(float, scratch_most, [THREADS / WARP_SIZE]);
    SHARED(double, scratch_sum, [THREADS / WARP_SIZE]);
    SHARED(float, target_given, [1]);
    T *row = logits + (int64_t)blockIdx.x * rows.stride;
    const int tid = (int)threadIdx.x;
    const row_cut cut = row_cut_at(row, rows.cols);
    T *first_vector = row + cut.head;
    const logit_cap cap = CAPPED ? rows.cap : logit_cap{0.0f, 0.0f};
    const target_place target = target_find<T>(cut, load_broadcast(rows.targets + blockIdx.x));
    const row_reading reading = {target, target_given, cap};
    const int single = row_single<T>(cut, tid);
    const int kept_end = PLACE == ROW_IN_SHARED ? min(rows.kept, cut.vectors) : 0;
    vector16<T> *kept = NULL;
    vector16<T> registers[COUNT];
    if constexpr (PLACE == ROW_IN_SHARED) {
        DYN_SHARED(vector16<T>, row_copy);
        kept = row_copy;
    }

    typedef typename running_kind<MOMENTS>::type running_type;
    running_type running = {};
    running.most = -FLT_MAX;
    if constexpr (MOMENTS)
        running.best = {-INFINITY, INT32_MAX};
    float single_given = 0.0f;
    if (single < rows.cols) {
        single_given = to_float(load_global(row + single));
        if (single == target.column)
            *target_given = single_given;
        const float z[1] = {single == target.column ? -INFINITY : cap(single_given)};
        running_add(running, z, single);
    }
    if constexpr (PLACE == ROW_IN_REGISTERS) {
        vectors_load<THREADS, false>(registers, first_vector, tid, cut.vectors);
        vectors_add<THREADS>(running, registers, tid, cut.vectors, reading);
    } else if constexpr (PLACE == ROW_IN_SHARED) {
        range_add<THREADS, false, COUNT>(running, first_vector, 0, kept_end, kept, reading);
        range_add<THREADS, true, COUNT>(running, first_vector, kept_end, cut.vectors, (vector16<T> *)NULL, reading);
    } else {
        range_add<THREADS, false, COUNT>(running, first_vector, 0, cut.vectors, (vector16<T> *)NULL, reading);
    }

    /* The barrier in here also shows the target's logit to everyone. */
    const float others = block_max<THREADS>(running.most, scratch_most);
    const float own_logit = cap(*target_given), most = fmaxf(others, own_logit);
    const float part = running.sum * exp2_fast((running.most - most) * LOG2_E);
    const double rest = block_sum<THREADS>((double)part, scratch_sum);
    const float own = expf(own_logit - most), total = (float)(rest + (double)own);
    const float q = (float)rest / total;

    if constexpr (PLACE != ROW_NOWHERE) {
        const row_gradient gradient = {most, 1.0f / total, -q * cap.slope(*target_given), cap};
        if (single < rows.cols) {
            const float value = single == target.column ? gradient.target_value : gradient_value(gradient, single_given);
            store_global(row + single, from_float<T>(value));
        }
        if constexpr (PLACE == ROW_IN_REGISTERS) {
            vectors_write<THREADS>(first_vector, registers, tid, cut.vectors, target, gradient);
        } else {
            /* What was read last is the likeliest to be in L2. */
            range_write<THREADS, COUNT>(first_vector, kept_end, cut.vectors, (const vector16<T> *)NULL, target,
                                        gradient);
            range_write<THREADS, COUNT>(first_vector, 0, kept_end, (const vector16<T> *)kept, target, gradient);
        }
    }
    if constexpr (MOMENTS)
        moments_finish<THREADS>(rows, running, most, own_logit, target.column);
    if (tid == 0) /* last: everyone's writes are on their way */
        row_finish(rows, rest, own_logit, most, own / total, q);
}

/* One launch, with shared memory for `kept` vectors of a row. */
template <typename T, int THREADS, row_place PLACE, bool MOMENTS, bool CAPPED, int COUNT, int MIN_BLOCKS>
cudaError_t forward_launch(const struct engine_context *context, const struct logprob_args *args, int kept)
{
    const auto kernel = logprob_forward_kernel<T, THREADS, PLACE, MOMENTS, CAPPED, COUNT, MIN_BLOCKS>;
    const forward_rows rows = {args->stride, (int)args->cols, kept, args->targets, static_cast<float *>(args->logprob),
                               static_cast<float *>(args->p), static_cast<float *>(args->q),
                               static_cast<float *>(args->lse), static_cast<float *>(args->mean),
                               static_cast<float *>(args->variance), args->argmax, logit_cap_make(args->cap)};
    if (PLACE == ROW_IN_SHARED) {
        const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kept * 16);
        if (error != cudaSuccess)
            return error;
    }
    return LAUNCH(kernel, (unsigned)args->rows, THREADS, (size_t)kept * 16, context->stream,
                  static_cast<T *>(args->logits), rows);
}

/* Long rows with their gradient: as much of the row as fits waits in shared memory. */
template <typename T, bool CAPPED>
cudaError_t forward_shared(const struct engine_context *context, const struct logprob_args *args)
{
    int limit = 0;
    const cudaError_t error = cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, context->device);
    if (error != cudaSuccess)
        return error;
    const int vectors = (int)args->cols / vector16<T>::count, capacity = (limit - STATIC_SHARED) / 16;
    const int kept = vectors <= capacity ? vectors : capacity / WIDE * WIDE;
    const bool two_fit = 2 * (kept * 16 + STATIC_SHARED) <= limit;
    return two_fit ? forward_launch<T, WIDE, ROW_IN_SHARED, false, CAPPED, 4, 2>(context, args, kept)
                   : forward_launch<T, WIDE, ROW_IN_SHARED, false, CAPPED, 8, 1>(context, args, kept);
}

template <typename T, bool CAPPED>
cudaError_t forward_choose(const struct engine_context *context, const struct logprob_args *args)
{
    const int64_t bytes = args->cols * (int64_t)sizeof(T);
    if (args->mean)
        return bytes <= NARROW_BYTES ? forward_launch<T, NARROW, ROW_NOWHERE, true, CAPPED, 4, 4>(context, args, 0)
                                     : forward_launch<T, WIDE, ROW_NOWHERE, true, CAPPED, 3, 2>(context, args, 0);
    if (!args->write_gradient)
        return bytes <= NARROW_BYTES ? forward_launch<T, NARROW, ROW_NOWHERE, false, CAPPED, 4, 4>(context, args, 0)
                                     : forward_launch<T, WIDE, ROW_NOWHERE, false, CAPPED, 3, 3>(context, args, 0);
    if (bytes <= NARROW_BYTES)
        return forward_launch<T, NARROW, ROW_IN_REGISTERS, false, CAPPED, ROW_VECTORS, 4>(context, args, 0);
    if (bytes <= WIDE_BYTES)
        return forward_launch<T, WIDE, ROW_IN_REGISTERS, false, CAPPED, ROW_VECTORS, 2>(context, args, 0);
    return forward_shared<T, CAPPED>(context, args);
}

template <typename T> cudaError_t forward_capped(const struct engine_context *context, const struct logprob_args *args)
{
    return args->cap > 0 ? forward_choose<T, true>(context, args) : forward_choose<T, false>(context, args);
}

} // namespace

int logprob_forward(struct engine_context *context, const struct logprob_args *args)
{
    REQUIRE_CONTRACT(logprob_forward, args);
    REQUIRE_DTYPE(args->dtype);
    REQUIRE(args->rows <= INT32_MAX && args->cols <= COLS_MAX, "rows above 2^31 - 1 or cols above 2^30");
    if (args->rows == 0)
        return OP_OK;
    return engine_launched(context, __func__, args->dtype == DTYPE_F32 ? forward_capped<float>(context, args)
                                                                       : forward_capped<bf16>(context, args));
}

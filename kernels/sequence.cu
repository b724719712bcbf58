/* sequence.cu - CUDA: sequence sums, loss, slopes and one weight per token, in one block and one launch.
 *
 * Limiter: latency. A few thousand rows are 12 bytes each; what counts is that nothing waits for the host. Four phases
 * with a barrier between them: sums (a warp a sequence), loss and slopes (a thread a sequence or pair), totals, weights
 * (a warp a sequence). All sums are double, a lane's own in order and then a fixed tree.
 */
#include "engine/cuda.cuh"

#include "loss_form.h"

namespace {

constexpr int THREADS = 512, WARPS = THREADS / WARP_SIZE; /* 128 registers a thread for the functions of loss_form.h */
static_assert((int)SEQUENCE_TOTALS <= WARPS, "one warp adds up one total");

/* Shared memory of the block. */
struct loss_shared {
    double total[SEQUENCE_TOTALS][WARPS]; /* what each warp has to add to totals[]; its lane 0 writes it */
    double scratch_template[WARPS], scratch_forget[WARPS], slope[2];
    int finite; /* whether the loss of the step still is */
};

DEVICE double sequence_length(const int32_t *begin, int s)
{
    return (double)(load_global(begin + s + 1) - load_global(begin + s));
}

/* Sums of the sequences of this warp, and the totals that do not depend on the loss. */
DEVICE void sums_compute(const sequence_args &args, int warp, int lane, loss_shared &shared)
{
    const float *logprob = static_cast<const float *>(args.logprob), *p = static_cast<const float *>(args.p);
    for (int s = warp; s < args.sequences; s += WARPS) {
        const int first = load_global(args.begin + s), end = load_global(args.begin + s + 1);
        double logprob_sum = 0, prob_sum = 0;
        int low = 0, high = 0;
        for (int i = first + lane; i < end; i += WARP_SIZE) {
            const float prob = load_global(p + i);
            logprob_sum += (double)load_global(logprob + i);
            prob_sum += (double)prob;
            low += prob < 0.01f;
            high += prob > 0.99f;
        }
        logprob_sum = warp_sum(logprob_sum), prob_sum = warp_sum(prob_sum);
        low = warp_sum(low), high = warp_sum(high);
        if (lane != 0)
            continue;
        store_global(args.logprob_sum + s, logprob_sum);
        store_global(args.prob_sum + s, prob_sum);
        const bool is_template = args.loss != LOSS_CROSS_ENTROPY && s % 2 == 0;
        shared.total[is_template ? TOTAL_TEMPLATES : TOTAL_FORGETS][warp] += 1;
        shared.total[is_template ? TOTAL_TEMPLATE_PROB : TOTAL_FORGET_PROB][warp] += prob_sum / (double)(end - first);
        shared.total[TOTAL_TOKENS][warp] += (double)(end - first);
        shared.total[TOTAL_LOGPROB][warp] += logprob_sum;
        shared.total[TOTAL_LOW][warp] += low;
        shared.total[TOTAL_HIGH][warp] += high;
    }
}

/* What a thread has of the totals that depend on the loss. */
struct loss_sums {
    double loss, template_slope, forget_slope, units;
};

DEVICE void slopes_store(const sequence_args &args, int s, double prob, double logprob)
{
    store_global(args.slope_prob + s, prob);
    store_global(args.slope_logprob + s, logprob);
}

/* A thread has every THREADS-th sequence. */
DEVICE void loss_cross_entropy(const sequence_args &args, loss_sums &sums)
{
    for (int s = (int)threadIdx.x; s < args.sequences; s += THREADS) {
        sums.loss -= args.scale * load_global(args.logprob_sum + s);
        sums.units += 1;
        slopes_store(args, s, 0, -args.scale);
    }
}

/* One evaluation of the divergence; its slopes come back scaled. */
DEVICE void divergence_add(const sequence_args &args, double e, double f, loss_sums &sums, double &slope_e,
                           double &slope_f)
{
    double loss;
    divergence_loss(args.divergence, e, f, &loss, &slope_e, &slope_f);
    sums.loss += args.scale * loss;
    sums.template_slope += slope_e;
    sums.forget_slope += slope_f;
    sums.units += 1;
    slope_e *= args.scale;
    slope_f *= args.scale;
}

/* A thread has every THREADS-th pair. */
DEVICE void loss_flat_pair(const sequence_args &args, loss_sums &sums)
{
    for (int s = 2 * (int)threadIdx.x; s < args.sequences; s += 2 * THREADS) {
        const double template_length = sequence_length(args.begin, s);
        const double forget_length = sequence_length(args.begin, s + 1);
        double slope_e, slope_f;
        divergence_add(args, load_global(args.prob_sum + s) / template_length,
                       load_global(args.prob_sum + s + 1) / forget_length, sums, slope_e, slope_f);
        slopes_store(args, s, slope_e / template_length, 0);
        slopes_store(args, s + 1, slope_f / forget_length, 0);
    }
}

/* All pairs are one evaluation: thread 0 makes it and the others wait for its slopes. */
DEVICE void loss_flat_batch(const sequence_args &args, loss_sums &sums, loss_shared &shared)
{
    double e = 0, f = 0;
    if (args.part != SEQUENCE_SLOPES) {
        for (int s = 2 * (int)threadIdx.x; s < args.sequences; s += 2 * THREADS) {
            e += load_global(args.prob_sum + s);
            f += load_global(args.prob_sum + s + 1);
        }
        e = block_sum<THREADS>(e, shared.scratch_template);
        f = block_sum<THREADS>(f, shared.scratch_forget);
    } else if (threadIdx.x == 0) {
        e = load_global(args.batch_sums), f = load_global(args.batch_sums + 1);
    }
    if (args.part == SEQUENCE_SUMS) {
        if (threadIdx.x == 0)
            store_global(args.batch_sums, e), store_global(args.batch_sums + 1, f);
        return;
    }
    if (threadIdx.x == 0) {
        double slope_e, slope_f;
        divergence_add(args, e / args.divisor, f / args.divisor, sums, slope_e, slope_f);
        if (args.part == SEQUENCE_SLOPES && !args.count_loss)
            sums = {};
        shared.slope[0] = slope_e / args.divisor, shared.slope[1] = slope_f / args.divisor;
    }
    __syncthreads();
    for (int s = (int)threadIdx.x; s < args.sequences; s += THREADS)
        slopes_store(args, s, shared.slope[s % 2], 0);
}

/* Puts the warp's part of a total into shared memory. */
DEVICE void total_put(double value, double *total, int warp, int lane)
{
    value = warp_sum(value);
    if (lane == 0)
        total[warp] = value;
}

/* Adds the warps' parts to totals[]: one warp, one total. */
DEVICE void totals_add(const sequence_args &args, int warp, int lane, loss_shared &shared)
{
    if (warp >= SEQUENCE_TOTALS)
        return;
    const double sum = warp_sum(lane < WARPS ? shared.total[warp][lane] : 0.0);
    if (lane == 0) {
        const double total = load_global(args.totals + warp) + sum;
        store_global(args.totals + warp, total);
        if (warp == TOTAL_LOSS)
            shared.finite = isfinite(total);
    }
}

__global__ void __launch_bounds__(THREADS, 1) sequence_loss_kernel(sequence_args args)
{
    SHARED(loss_shared, block, [1]);
    loss_shared &shared = block[0];
    const int warp = (int)threadIdx.x / WARP_SIZE, lane = (int)threadIdx.x % WARP_SIZE;
    if (lane == 0)
        for (int i = 0; i < SEQUENCE_TOTALS; i++)
            shared.total[i][warp] = 0;
    if (args.part != SEQUENCE_SLOPES)
        sums_compute(args, warp, lane, shared);
    __syncthreads(); /* the losses read the sums of all sequences */
    loss_sums sums = {};
    switch (args.loss) {
    case LOSS_CROSS_ENTROPY: loss_cross_entropy(args, sums); break;
    case LOSS_FLAT_PAIR: loss_flat_pair(args, sums); break;
    case LOSS_FLAT_BATCH: loss_flat_batch(args, sums, shared); break;
    }
    total_put(sums.loss, shared.total[TOTAL_LOSS], warp, lane);
    total_put(sums.template_slope, shared.total[TOTAL_TEMPLATE_SLOPE], warp, lane);
    total_put(sums.forget_slope, shared.total[TOTAL_FORGET_SLOPE], warp, lane);
    total_put(sums.units, shared.total[TOTAL_UNITS], warp, lane);
    __syncthreads();
    totals_add(args, warp, lane, shared);
    if (args.part == SEQUENCE_SUMS)
        return;
    __syncthreads();
    const float *p = static_cast<const float *>(args.p);
    float *row_scale = static_cast<float *>(args.row_scale);
    for (int s = warp; s < args.sequences; s += WARPS) {
        const double slope_prob = load_global(args.slope_prob + s), slope_logprob = load_global(args.slope_logprob + s);
        const int end = load_global(args.begin + s + 1);
        for (int i = load_global(args.begin + s) + lane; i < end; i += WARP_SIZE) {
            const double weight = slope_prob * (double)load_global(p + i) + slope_logprob;
            store_global(row_scale + i, shared.finite ? (float)-weight : NAN);
        }
    }
}

} // namespace

int sequence_loss(struct engine_context *context, const struct sequence_args *args)
{
    REQUIRE_ARGS(args);
    REQUIRE(args->dtype == DTYPE_F32, "the statistics of the CUDA engine are float32");
    REQUIRE(args->sequences >= 0 && args->rows >= 0, "sequences or rows is negative");
    REQUIRE((unsigned)args->loss <= LOSS_FLAT_BATCH, "unknown loss");
    REQUIRE(args->totals, "totals is NULL");
    REQUIRE(args->part == SEQUENCE_WHOLE || (args->loss == LOSS_FLAT_BATCH && args->batch_sums),
            "a part of another loss than LOSS_FLAT_BATCH, or batch_sums is NULL");
    if (args->sequences == 0 && args->part != SEQUENCE_SUMS)
        return OP_OK;
    REQUIRE(args->sequences == 0 ||
            (args->begin && args->logprob && args->p && args->logprob_sum && args->prob_sum && args->slope_prob &&
                args->slope_logprob && args->row_scale),
            "begin, logprob, p, a sum, a slope or row_scale is NULL");
    REQUIRE(args->rows >= args->sequences && args->rows <= INT32_MAX, "fewer rows than sequences, or above 2^31 - 1");
    if (args->loss != LOSS_CROSS_ENTROPY) {
        REQUIRE(args->sequences % 2 == 0, "an odd number of sequences in a loss over pairs");
        REQUIRE(args->divergence >= 0 && args->divergence < DIVERGENCES, "unknown divergence");
        REQUIRE(args->loss != LOSS_FLAT_BATCH || args->divisor > 0, "divisor is not positive");
    }
    return engine_launched(context, __func__, LAUNCH(sequence_loss_kernel, 1, THREADS, 0, context->stream, *args));
}

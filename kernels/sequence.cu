/* sequence.cu - CUDA: sequence sums, loss, slopes and one weight per target, in one block and one launch.
 *
 * Limiter: latency. A few thousand rows are 12 bytes each; what counts is that nothing waits for the host. Four phases
 * with a barrier between them: sums (a warp per sequence), functions and slopes (a thread per sequence), totals, weights
 * (a warp per sequence). All sums are double, a lane's own in order and then a fixed tree.
 */
#include "engine/cuda.cuh"

#include "sequence.h"

namespace {

constexpr int THREADS = 512, WARPS = THREADS / WARP_SIZE; /* 128 registers per thread for loss_function.h */

/* Shared memory of the block. */
struct loss_shared {
    double total[SEQUENCE_TOTALS][WARPS]; /* what each warp has to add to totals[]; its lane 0 writes it */
    double scratch[2][WARPS];
    double batch_slope[SEQUENCE_ROLES]; /* of every p of a role with PROB_BATCH */
    int finite;                         /* whether the loss of the step still is */
};

DEVICE double sequence_length(const int32_t *begin, int s)
{
    return (double)(load_global(begin + s + 1) - load_global(begin + s));
}

DEVICE float row_load(const void *array, int i) { return load_global(static_cast<const float *>(array) + i); }

/* Value and weight of target i under a term with TOKENS. */
DEVICE void token_compute(const sequence_args &args, const loss_term &term, int i, double &value, double &weight)
{
    token_evaluate(term.token, term.a, term.b, (double)row_load(args.logprob, i), (double)row_load(args.p, i),
                   (double)row_load(args.q, i), args.row_value ? (double)row_load(args.row_value, i) : 0.0, &value, &weight);
}

/* The targets of a sequence from the first that its term counts. */
DEVICE void tokens_compute(const sequence_args &args, int role, int first, int end, int warp, int lane, loss_shared &shared)
{
    const loss_term &term = args.term[role];
    double loss = 0, slope = 0;
    for (int i = first + term.skip + lane; i < end; i += WARP_SIZE) {
        double value, weight;
        token_compute(args, term, i, value, weight);
        loss += value, slope += weight;
    }
    loss = warp_sum(loss), slope = warp_sum(slope);
    if (lane != 0)
        return;
    shared.total[total_of(role, ROLE_LOSS)][warp] += term.scale * loss;
    shared.total[total_of(role, ROLE_SLOPE)][warp] += slope;
    shared.total[total_of(role, ROLE_UNITS)][warp] += max(0, end - first - term.skip);
}

/* Sums of the sequences of this warp, and the totals that do not depend on the loss. */
DEVICE void sums_compute(const sequence_args &args, int warp, int lane, loss_shared &shared)
{
    for (int s = warp; s < args.sequences; s += WARPS) {
        const int first = load_global(args.begin + s), end = load_global(args.begin + s + 1);
        const int role = load_global(args.role + s);
        double logprob_sum = 0, prob_sum = 0;
        int low = 0, high = 0;
        for (int i = first + lane; i < end; i += WARP_SIZE) {
            const float prob = row_load(args.p, i);
            logprob_sum += (double)row_load(args.logprob, i);
            prob_sum += (double)prob;
            low += prob < 0.01f;
            high += prob > 0.99f;
        }
        logprob_sum = warp_sum(logprob_sum), prob_sum = warp_sum(prob_sum);
        low = warp_sum(low), high = warp_sum(high);
        if (args.term[role].statistic == STATISTIC_TOKENS)
            tokens_compute(args, role, first, end, warp, lane, shared);
        if (lane != 0)
            continue;
        store_global(args.logprob_sum + s, logprob_sum);
        store_global(args.prob_sum + s, prob_sum);
        shared.total[total_of(role, ROLE_SEQUENCES)][warp] += 1;
        shared.total[total_of(role, ROLE_TOKENS)][warp] += (double)(end - first);
        shared.total[total_of(role, ROLE_PROB)][warp] += prob_sum / (double)(end - first);
        shared.total[total_of(role, ROLE_LOGPROB)][warp] += logprob_sum;
        shared.total[total_of(role, ROLE_LOW)][warp] += low;
        shared.total[total_of(role, ROLE_HIGH)][warp] += high;
    }
}

/* What a thread has of the totals of one role that depend on the loss. */
struct unit_sums {
    double loss, slope, units;
};

/* Evaluates the term's function for one unit; its slope, scaled. */
DEVICE double unit_add(const loss_term &term, double x, unit_sums &sums)
{
    double value, slope;
    loss_evaluate(term.function, term.beta, term.sign, term.delta, x, &value, &slope);
    sums.loss += term.scale * value;
    sums.slope += slope;
    sums.units += 1;
    return term.scale * slope;
}

DEVICE double relative_logprob(const sequence_args &args, int s)
{
    return load_global(args.logprob_sum + s) - (args.reference ? load_global(args.reference + s) : 0.0);
}

/* Slopes of sequence s, whose role has this term. A PARTNER's come from the thread of the sequence before. */
DEVICE void sequence_compute(const sequence_args &args, const loss_term &term, int s, unit_sums &sums)
{
    const double length = sequence_length(args.begin, s);
    double prob = 0, logprob = 0;
    switch (term.statistic) {
    case STATISTIC_LOGPROB_SUM: logprob = unit_add(term, relative_logprob(args, s), sums); break;
    case STATISTIC_LOGPROB_MEAN:
        logprob = unit_add(term, load_global(args.logprob_sum + s) / length, sums) / length;
        break;
    case STATISTIC_PROB_MEAN: prob = unit_add(term, load_global(args.prob_sum + s) / length, sums) / length; break;
    case STATISTIC_LOGPROB_PAIR:
        logprob = unit_add(term, relative_logprob(args, s) - relative_logprob(args, s + 1), sums);
        store_global(args.slope_prob + s + 1, 0.0);
        store_global(args.slope_logprob + s + 1, -logprob);
        break;
    default: break; /* NONE; TOKENS: a weight of each target's own */
    }
    store_global(args.slope_prob + s, prob);
    store_global(args.slope_logprob + s, logprob);
}

/* The unit of PROB_BATCH of a role: thread 0 evaluates it. */
DEVICE void batch_compute(const sequence_args &args, int role, unit_sums &sums, loss_shared &shared)
{
    const loss_term &term = args.term[role];
    double sum = 0, any = 0;
    for (int s = (int)threadIdx.x; s < args.sequences; s += THREADS)
        if (load_global(args.role + s) == role) {
            sum += load_global(args.prob_sum + s);
            any = 1;
        }
    sum = block_sum<THREADS>(sum, shared.scratch[0]);
    any = block_sum<THREADS>(any, shared.scratch[1]);
    if (threadIdx.x == 0)
        shared.batch_slope[role] = any > 0 ? unit_add(term, sum / term.divisor, sums) / term.divisor : 0;
    __syncthreads();
    for (int s = (int)threadIdx.x; s < args.sequences; s += THREADS)
        if (load_global(args.role + s) == role) {
            store_global(args.slope_prob + s, shared.batch_slope[role]);
            store_global(args.slope_logprob + s, 0.0);
        }
}

/* A thread has every THREADS-th sequence, one role after the other. */
DEVICE void slopes_compute(const sequence_args &args, int warp, int lane, loss_shared &shared)
{
    for (int role = 0; role < SEQUENCE_ROLES; role++) {
        const loss_term &term = args.term[role];
        unit_sums sums = {};
        if (term.statistic == STATISTIC_PROB_BATCH)
            batch_compute(args, role, sums, shared);
        else if (term.statistic != STATISTIC_PARTNER)
            for (int s = (int)threadIdx.x; s < args.sequences; s += THREADS)
                if (load_global(args.role + s) == role)
                    sequence_compute(args, term, s, sums);
        const double loss = warp_sum(sums.loss), slope = warp_sum(sums.slope), units = warp_sum(sums.units);
        if (lane == 0) {
            shared.total[total_of(role, ROLE_LOSS)][warp] += loss;
            shared.total[total_of(role, ROLE_SLOPE)][warp] += slope;
            shared.total[total_of(role, ROLE_UNITS)][warp] += units;
        }
    }
}

/* Adds the warps' parts to totals[]: one warp, one total at a time. */
DEVICE void totals_add(const sequence_args &args, int warp, int lane, loss_shared &shared)
{
    for (int t = 1 + warp; t < SEQUENCE_TOTALS; t += WARPS) {
        const double sum = warp_sum(lane < WARPS ? shared.total[t][lane] : 0.0);
        if (lane == 0) {
            const double total = load_global(args.totals + t) + sum;
            store_global(args.totals + t, total);
            shared.total[t][0] = total;
        }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        double loss = 0;
        for (int role = 0; role < SEQUENCE_ROLES; role++)
            loss += shared.total[total_of(role, ROLE_LOSS)][0];
        store_global(args.totals + TOTAL_LOSS, loss);
        shared.finite = isfinite(loss);
    }
    __syncthreads();
}

DEVICE void weights_compute(const sequence_args &args, int warp, int lane, const loss_shared &shared)
{
    float *row_scale = static_cast<float *>(args.row_scale);
    for (int s = warp; s < args.sequences; s += WARPS) {
        const loss_term &term = args.term[load_global(args.role + s)];
        const double slope_prob = load_global(args.slope_prob + s), slope_logprob = load_global(args.slope_logprob + s);
        const int first = load_global(args.begin + s), end = load_global(args.begin + s + 1);
        for (int i = first + lane; i < end; i += WARP_SIZE) {
            double weight = slope_prob * (double)row_load(args.p, i) + slope_logprob, value;
            if (term.statistic == STATISTIC_TOKENS && i - first >= term.skip) {
                token_compute(args, term, i, value, weight);
                weight *= term.scale;
            }
            store_global(row_scale + i, shared.finite ? (float)-weight : NAN);
        }
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
    sums_compute(args, warp, lane, shared);
    __syncthreads(); /* the functions read the sums of all sequences */
    slopes_compute(args, warp, lane, shared);
    __syncthreads();
    totals_add(args, warp, lane, shared);
    weights_compute(args, warp, lane, shared);
}

} // namespace

int sequence_loss(struct engine_context *context, const struct sequence_args *args)
{
    REQUIRE_CONTRACT(sequence_loss, args);
    REQUIRE(args->dtype == DTYPE_F32, "the statistics of the CUDA engine are float32");
    if (args->sequences == 0)
        return OP_OK;
    return engine_launched(context, __func__, LAUNCH(sequence_loss_kernel, 1, THREADS, 0, context->stream, *args));
}

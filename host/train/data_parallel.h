/* data_parallel.h - which rows a step takes and which of them go to which rank.
 *
 * An epoch is cut into micro-batches of `batch` rows, in its order; a step takes the next ranks * accumulation of them, the
 * last step of an epoch what is left. Accumulation step k of a step is its micro-batches k * ranks ...: one per rank, in
 * the order of ranks. So the numbers of a step depend on ranks * accumulation alone, not on how the two share it. In the
 * last accumulation step of an epoch the last ranks may have no micro-batch.
 */
#ifndef FLAT_TRAIN_DATA_PARALLEL_H
#define FLAT_TRAIN_DATA_PARALLEL_H
#include <stdint.h>

struct data_parallel {
    int64_t rows, batch, accumulation; /* rows of an epoch, of a micro-batch; micro-batches per rank and step */
    int ranks;
};

/* Micro-batches [first, last) of an epoch. */
struct micro_batch_range {
    int first, last;
};

static inline int data_parallel_micro_batches(const struct data_parallel *parallel)
{
    return (int)((parallel->rows + parallel->batch - 1) / parallel->batch);
}

static inline int data_parallel_steps(const struct data_parallel *parallel)
{
    const int64_t per_step = parallel->accumulation * parallel->ranks;
    return (int)((data_parallel_micro_batches(parallel) + per_step - 1) / per_step);
}

/* The micro-batches of a step, over all ranks. */
static inline struct micro_batch_range data_parallel_step(const struct data_parallel *parallel, int step_in_epoch)
{
    const int64_t per_step = parallel->accumulation * parallel->ranks;
    const int64_t first = step_in_epoch * per_step, last = first + per_step;
    const int all = data_parallel_micro_batches(parallel);
    return (struct micro_batch_range){(int)first, last < all ? (int)last : all};
}

static inline int data_parallel_accumulation_steps(const struct data_parallel *parallel, struct micro_batch_range step)
{
    return (step.last - step.first + parallel->ranks - 1) / parallel->ranks;
}

/* The micro-batch of a rank in accumulation step k; -1 when there is none left for it. */
static inline int data_parallel_micro_batch(const struct data_parallel *parallel, struct micro_batch_range step, int k,
                                            int rank)
{
    const int64_t i = step.first + (int64_t)k * parallel->ranks + rank;
    return i < step.last ? (int)i : -1;
}

/* Rows [*from, *to) of micro-batch i. */
static inline void data_parallel_rows(const struct data_parallel *parallel, int i, int *from, int *to)
{
    const int64_t first = i * parallel->batch, last = first + parallel->batch;
    *from = (int)first;
    *to = (int)(last < parallel->rows ? last : parallel->rows);
}
#endif

/* deal.h - which rows a step takes and which of them go to which rank.
 *
 * An epoch is cut into micro-batches of `batch` rows, in its order; a step is the next ranks * accumulation of them, the
 * last step of an epoch what is left. Round k of a step is its micro-batches k * ranks ... : one a rank, in order of
 * ranks. So the numbers of a step depend on ranks * accumulation alone, not on how the two share it. In the last round of
 * an epoch the last ranks may have nothing.
 */
#ifndef FLAT_TRAIN_DEAL_H
#define FLAT_TRAIN_DEAL_H
#include <stdint.h>

struct deal {
    int64_t rows, batch, accumulation; /* rows of an epoch, of a micro-batch; micro-batches of a rank and step */
    int ranks;
};

/* Micro-batches [first, last) of an epoch. */
struct deal_step {
    int first, last;
};

static inline int deal_micro_batches(const struct deal *deal)
{
    return (int)((deal->rows + deal->batch - 1) / deal->batch);
}

static inline int deal_steps(const struct deal *deal)
{
    const int64_t step = deal->accumulation * deal->ranks;
    return (int)((deal_micro_batches(deal) + step - 1) / step);
}

static inline struct deal_step deal_step_of(const struct deal *deal, int step_in_epoch)
{
    const int64_t first = step_in_epoch * deal->accumulation * deal->ranks, last = first + deal->accumulation * deal->ranks;
    const int all = deal_micro_batches(deal);
    return (struct deal_step){(int)first, last < all ? (int)last : all};
}

static inline int deal_rounds(const struct deal *deal, struct deal_step step)
{
    return (step.last - step.first + deal->ranks - 1) / deal->ranks;
}

/* The micro-batch of a rank in a round; -1 when there is none left for it. */
static inline int deal_micro_batch(const struct deal *deal, struct deal_step step, int round, int rank)
{
    const int64_t i = step.first + (int64_t)round * deal->ranks + rank;
    return i < step.last ? (int)i : -1;
}

/* Rows [*from, *to) of micro-batch i. */
static inline void deal_rows(const struct deal *deal, int i, int *from, int *to)
{
    const int64_t first = i * deal->batch, last = first + deal->batch;
    *from = (int)first;
    *to = (int)(last < deal->rows ? last : deal->rows);
}
#endif

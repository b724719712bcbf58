/* run_size.c - how many steps a run has, and the largest micro-batch that memory is planned for; see trainer.h.
 *
 * Cost: every epoch is built once where that is at most ROWS_MEASURED rows in all, and the sizes are exact. Longer runs are
 * not waited for: every row is built with every template answer, and the largest micro-batch is taken to be the largest
 * rows together, each with its largest template answer and the longest retained row; the answer of another row is taken to be
 * as long as it may be. No epoch can be larger, and a million epochs begin as soon as one.
 */
#include <math.h>
#include <stdlib.h>

#include "../util/memory.h"
#include "trainer.h"

enum { ROWS_MEASURED = 1 << 17 }; /* a second or two */

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* What the frozen model takes of micro-batch i. */
static void frozen_measure(struct trainer *trainer, const struct epoch *epoch, int64_t number, int i)
{
    struct frozen *frozen = &trainer->frozen;
    struct batch_size size = {0};
    int from, to;
    data_parallel_rows(&trainer->parallel, i, &from, &to);
    for (int k = from; k < to; k++)
        frozen_row_size(frozen, epoch, k, &size);
    frozen->max_rows = larger(frozen->max_rows, size.rows);
    frozen->max_targets = larger(frozen->max_targets, size.targets);
    if (number)
        return;
    frozen->epoch_size.rows += size.rows;
    frozen->epoch_size.targets += size.targets;
    frozen->epoch_size.visible_keys += size.visible_keys;
}

static int epoch_measure(struct trainer *trainer, int64_t number, struct error *error)
{
    struct epoch epoch;
    int status = epoch_build(&epoch, &trainer->examples, (int)number, error);
    for (int i = 0; i < data_parallel_micro_batches(&trainer->parallel) && !status; i++) {
        struct batch_size size = {0};
        micro_batch_size(trainer, &epoch, i, &size);
        trainer->max_rows = larger(trainer->max_rows, size.rows);
        trainer->max_targets = larger(trainer->max_targets, size.targets);
        frozen_measure(trainer, &epoch, number, i);
        if (number)
            continue;
        trainer->epoch_size.rows += size.rows;
        trainer->epoch_size.targets += size.targets;
        trainer->epoch_size.visible_keys += size.visible_keys;
    }
    if (!status) {
        int first, end;
        data_parallel_rows(&trainer->parallel, 0, &first, &end); /* the largest: the data may end before the batch */
        trainer->max_sequences = (int64_t)end * epoch.per_row;
        trainer->frozen.max_sequences = (int64_t)end * (trainer->frozen.use[ROLE_ANSWER].used + trainer->frozen.use[ROLE_RETAIN].used);
    }
    epoch_free(&epoch);
    return status;
}

/* The most that each row takes, over all answers of the template, of `rows` and `targets` [rows of the data]; in the batch of
 * the frozen model, or in the trained one's. */
static int rows_measure(struct trainer *trainer, bool frozen, int64_t *rows, int64_t *targets, struct error *error)
{
    struct examples *examples = &trainer->examples;
    const int answers = examples->answers.count ? examples->answers.count : 1;
    const bool own = !frozen || trainer->frozen.use[ROLE_ANSWER].used, drawn = !frozen && examples->roles & WITH(ROLE_RANDOM);
    const int affordable = ROWS_MEASURED / examples->data.rows + 1;
    struct batch_size retained = {0};
    int status = frozen && !trainer->frozen.use[ROLE_RETAIN].used ? STATUS_OK
                                                                  : examples_retain_longest(examples, &retained, error);
    for (int answer = 0; answer < answers && answer < affordable && !status; answer++) {
        struct epoch epoch;
        status = epoch_build_answer(&epoch, examples, answer, error);
        for (int k = 0; k < examples->data.rows && !status; k++) {
            struct batch_size size = {0};
            if (own)
                epoch_row_part_size(&epoch, k, false, &size);
            /* what has not been tried is at most as long as a sequence may be */
            const int64_t untried = (drawn + (own && answers > affordable)) * examples->max_length;
            rows[k] = larger(rows[k], size.rows + untried + retained.rows);
            targets[k] = larger(targets[k], size.targets + untried + retained.targets);
        }
        epoch_free(&epoch);
    }
    return status;
}

static int descending(const void *left, const void *right)
{
    const int64_t *a = left, *b = right;
    return (*a < *b) - (*a > *b);
}

static int64_t largest_sum(int64_t *value, int64_t count, int64_t taken)
{
    int64_t sum = 0;
    qsort(value, (size_t)count, sizeof *value, descending);
    for (int64_t i = 0; i < taken && i < count; i++)
        sum += value[i];
    return sum;
}

static int bound_measure(struct trainer *trainer, bool frozen, int64_t *max_rows, int64_t *max_targets, struct error *error)
{
    const int64_t count = trainer->examples.data.rows, batch = trainer->parallel.batch;
    int64_t *rows = memory_array((size_t)count, sizeof *rows, error);
    int64_t *targets = memory_array((size_t)count, sizeof *targets, error);
    int status = rows && targets ? rows_measure(trainer, frozen, rows, targets, error) : STATUS_MEMORY;
    if (!status) {
        *max_rows = larger(*max_rows, largest_sum(rows, count, batch));
        *max_targets = larger(*max_targets, largest_sum(targets, count, batch));
    }
    free(rows);
    free(targets);
    return status;
}

int run_size(struct trainer *trainer, struct error *error)
{
    const struct trainer_options *options = &trainer->options->trainer;
    trainer->steps_per_epoch = data_parallel_steps(&trainer->parallel);
    trainer->total_steps = options->max_steps >= 0 ? options->max_steps
                                                   : (int64_t)ceil(options->num_train_epochs * trainer->steps_per_epoch);
    trainer->epochs = (trainer->total_steps + trainer->steps_per_epoch - 1) / trainer->steps_per_epoch;
    if (trainer->total_steps < 1)
        return error_set(error, STATUS_USAGE, "num_train_epochs, max_steps: the run has no step to make");
    const bool exact = trainer->epochs <= ROWS_MEASURED / trainer->examples.data.rows + 1;
    int status = STATUS_OK;
    for (int64_t number = 0; number < (exact ? trainer->epochs : 1) && !status; number++)
        status = epoch_measure(trainer, number, error);
    if (!status && !exact)
        status = bound_measure(trainer, false, &trainer->max_rows, &trainer->max_targets, error);
    if (!status && !exact && trainer->frozen.needed)
        status = bound_measure(trainer, true, &trainer->frozen.max_rows, &trainer->frozen.max_targets, error);
    if (options->cuda_graphs) { /* room for padding */
        trainer->max_rows = padded_size(trainer->max_rows);
        trainer->max_targets = padded_size(trainer->max_targets);
        trainer->frozen.max_rows = padded_size(trainer->frozen.max_rows);
        trainer->frozen.max_targets = padded_size(trainer->frozen.max_targets);
    }
    return status;
}

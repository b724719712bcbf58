/* measure.c - probabilities of the answers under the weights as they are, without a loss or a gradient: forward passes over
 * the rows of the first epoch, shared out among the ranks as in training. Cost: a third of what as many steps take. See trainer.h.
 */
#include <stdlib.h>
#include <string.h>

#include "../util/memory.h"
#include "trainer.h"

enum { ROWS_MAX = 1024 }; /* more say nothing new, and would take long */

/* Sums over sequences of each role, and how many: in one array, for the sum over ranks. */
enum { SUMS = 2 * ROLES };

/* A stat array of the head as double. */
static int head_read(struct trainer *trainer, const void *from, int32_t count, double *out, struct error *error)
{
    const enum dtype stat = dtype_stat(trainer->model.dtype);
    int status = device_copy_out(&trainer->device, out, from, (size_t)count * dtype_size(stat), error);
    for (int32_t i = count - 1; stat == DTYPE_F32 && i >= 0 && !status; i--) { /* widen in place, from the end */
        float value;
        memcpy(&value, (const float *)(const void *)out + i, sizeof value);
        out[i] = value;
    }
    return status;
}

static int micro_batch_measure(struct trainer *trainer, const struct epoch *epoch, int from, int to, double *p,
                               double sums[SUMS], struct error *error)
{
    struct batch *batch = &trainer->batch;
    int status = micro_batch_pack(trainer, epoch, from, to, error);
    if (!status)
        status = model_forward(&trainer->model, batch, error);
    if (!status)
        status = head_read(trainer, trainer->model.head.p, batch->host.sequence_begin[batch->sequences], p, error);
    for (int s = 0; s < batch->sequences && !status; s++) {
        const int32_t begin = batch->host.sequence_begin[s], end = batch->host.sequence_begin[s + 1];
        const int32_t role = batch->host.role[s];
        double mean = 0;
        for (int32_t i = begin; i < end; i++)
            mean += p[i] / (end - begin);
        sums[2 * role] += mean;
        sums[2 * role + 1]++;
    }
    return status;
}

static int sums_reduce(struct trainer *trainer, double sums[SUMS], struct error *error)
{
    struct comm *comm = trainer->shards.world.comm;
    _Static_assert((int)SUMS <= (int)STEP_TOTALS, "the sums go through the totals of a step");
    if (!comm)
        return STATUS_OK;
    int status = device_copy_in(&trainer->device, trainer->totals, sums, SUMS * sizeof *sums, error);
    if (!status)
        status = comm_all_reduce(comm, DTYPE_F64, trainer->totals, SUMS, error);
    if (!status)
        status = comm_wait(comm, error);
    return status ? status : device_copy_out(&trainer->device, sums, trainer->totals, SUMS * sizeof *sums, error);
}

int trainer_measure(struct trainer *trainer, struct measured *measured, struct error *error)
{
    const struct world *world = &trainer->shards.world;
    double sums[SUMS] = {0}, *p = memory_array((size_t)trainer->max_targets, sizeof *p, error);
    struct epoch epoch = {0};
    struct examples answers = trainer->examples; /* of which only the answers are targets */
    memset(answers.positions, 0, sizeof answers.positions);
    int status = p ? epoch_build(&epoch, &answers, 0, error) : STATUS_MEMORY;
    const int micro_batches = data_parallel_micro_batches(&trainer->parallel);
    for (int i = world->rank; i < micro_batches && !status; i += world->size) {
        int from, to;
        data_parallel_rows(&trainer->parallel, i, &from, &to);
        to = to < ROWS_MAX ? to : ROWS_MAX;
        if (from < to)
            status = micro_batch_measure(trainer, &epoch, from, to, p, sums, error);
    }
    epoch_free(&epoch);
    free(p);
    status = comm_agree(world->comm, status, error);
    if (!status)
        status = sums_reduce(trainer, sums, error);
    for (int role = 0; role < ROLES; role++)
        measured->prob[role] = sums[2 * role + 1] > 0 ? sums[2 * role] / sums[2 * role + 1] : 0;
    measured->rows = 0;
    for (int role = 0; role < ROLES; role++)
        if (sums[2 * role + 1] > (double)measured->rows)
            measured->rows = (int64_t)sums[2 * role + 1];
    return status;
}

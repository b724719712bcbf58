/* micro_batch.c - rows of an epoch as a batch: how large it is, and packed; see trainer.h. */
#include <stdlib.h>
#include <string.h>

#include "../util/memory.h"
#include "trainer.h"

void micro_batch_size(const struct trainer *trainer, const struct epoch *epoch, int i, struct batch_size *size)
{
    int from, to;
    data_parallel_rows(&trainer->parallel, i, &from, &to);
    for (int k = from; k < to; k++)
        epoch_row_size(epoch, k, size);
}

int micro_batch_pack(struct trainer *trainer, const struct epoch *epoch, int from, int to, struct error *error)
{
    static const bool both[2] = {true, true};
    const struct packed_ahead ahead = trainer->ahead;
    trainer->ahead = (struct packed_ahead){0};
    if (ahead.epoch == epoch && ahead.from == from && ahead.to == to)
        return STATUS_OK;
    return micro_batch_pack_parts(trainer, &trainer->batch, epoch, from, to, both, error);
}

int micro_batch_pack_ahead(struct trainer *trainer, const struct epoch *epoch, int from, int to, struct error *error)
{
    int status = micro_batch_pack(trainer, epoch, from, to, error);
    if (!status)
        trainer->ahead = (struct packed_ahead){epoch, from, to};
    return status;
}

int micro_batch_pack_parts(const struct trainer *trainer, struct batch *batch, const struct epoch *epoch, int from, int to,
                           const bool take[2], struct error *error)
{
    const int rows = to - from, parts[2] = {take[0] ? epoch->own : 0, take[1] ? epoch->per_row - epoch->own : 0};
    struct batch_sequence *sequence = memory_array((size_t)(rows * epoch->per_row), sizeof *sequence, error);
    int32_t *first = memory_array(2 * (size_t)rows + 1, sizeof *first, error);
    int status = sequence && first ? STATUS_OK : STATUS_MEMORY, groups = 0;
    for (int part = 0, at = 0; part < 2 && !status; part++)
        for (int k = from; k < to && parts[part]; k++) {
            memcpy(sequence + at, &epoch->sequence[k * epoch->per_row + (part ? epoch->own : 0)],
                   (size_t)parts[part] * sizeof *sequence);
            first[++groups] = at += parts[part];
        }
    if (!status)
        status = batch_pack(batch, (struct device *)&trainer->device, sequence, first, groups, true,
                            trainer->model.config.vocab_size, error);
    free(first);
    free(sequence);
    return status;
}

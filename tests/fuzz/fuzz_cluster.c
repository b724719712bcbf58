/* fuzz_cluster.c - any file of `flat plan --cluster`: refused in one line, or every time that comes of it is a number. */
#include <math.h>

#include "../../host/train/scaling.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    const struct scaling_work work = {.ranks = 16, .accumulation_steps = 4, .sharded = true, .micro_batch_flops = 1e14,
                                      .elements = 1000000000, .rank_elements = 62500000, .tail_elements = 1000000,
                                      .grad_bytes = 2, .param_bytes = 2, .optimizer_bytes = 30, .buckets = 10};
    struct error error = {0};
    struct cluster cluster;
    int status = cluster_read(&cluster, fuzz_file("cluster.json", data, length), &error);
    if (status) {
        fuzz_refused(status, &error, STATUS_INPUT);
        return 0;
    }
    const struct scaling time = scaling_estimate(&cluster, &work);
    FUZZ_CHECK(cluster.gpus_per_host > 0 && isfinite(time.step) && time.step > 0 && time.efficiency >= 0);
    return 0;
}

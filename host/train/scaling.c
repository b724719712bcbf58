/* scaling.c - see scaling.h. */
#include "scaling.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../io/json/json.h"

static const struct option option_rows[] = {
    {.name = "cluster", OPTION_FIELD(struct cluster_options, cluster), .operand = "FILE",
     .help = "measured rates of a GPU and of the network, as JSON; without, those of H200 hosts"},
};
const struct option_group cluster_option_group = {OPTION_GROUP("Several ranks", option_rows, struct cluster_options)};

/* One H200 SXM of a host of eight with 400 Gb/s per GPU. Measured by others: copies at 4.3 TB/s and matrix products at 790
 * TFLOP/s (stas00/ml-engineering); nccl-tests: reduce-scatter 363 GB/s in a host, 380 GB/s over four hosts from 4 GiB on,
 * and what smaller messages lose there is explained by 3.5 us per hop (16 MiB at 64 GB/s, 512 MiB at 327). Derived, not
 * measured: 605 TFLOP/s for forward and backward (85 % of 790 in the products, streaming kernels beside them), 92 % of
 * the copy rate for AdamW, 5 % slowdown beside NCCL's kernels. */
static const struct cluster built_in = {.name = "built-in figures of H200 hosts",
                                        .gpus_per_host = 8,
                                        .compute_flops = 605e12,
                                        .memory_bytes = 3956e9,
                                        .host_bus_bytes = 363e9,
                                        .network_bus_bytes = 380e9,
                                        .hop_seconds = 3.5e-6,
                                        .overlap_slowdown = 0.05};

int cluster_read(struct cluster *cluster, const char *path, struct error *error)
{
    *cluster = built_in;
    if (!*path)
        return STATUS_OK;
    cJSON *json = json_read(path, error);
    if (!json)
        return error->status;
    double gpus_per_host = 0;
    const struct {
        const char *key;
        double unit, least;
        double *to;
    } number[] = {
        {"gpus_per_host", 1, 1, &gpus_per_host},
        {"compute_tflops", 1e12, 1e-6, &cluster->compute_flops},
        {"memory_gb_per_second", 1e9, 1e-6, &cluster->memory_bytes},
        {"host_bus_gb_per_second", 1e9, 1e-6, &cluster->host_bus_bytes},
        {"network_bus_gb_per_second", 1e9, 1e-6, &cluster->network_bus_bytes},
        {"hop_microseconds", 1e-6, 0, &cluster->hop_seconds},
        {"overlap_slowdown", 1, 0, &cluster->overlap_slowdown},
    };
    int status = STATUS_OK;
    const cJSON *name = json_member(json, "name");
    if (!cJSON_IsString(name))
        status = error_set(error, STATUS_INPUT, "%s: name: expected a string", path);
    else
        snprintf(cluster->name, sizeof cluster->name, "%s", name->valuestring);
    for (size_t i = 0; i < sizeof number / sizeof *number && !status; i++) {
        const cJSON *member = json_member(json, number[i].key);
        if (!cJSON_IsNumber(member) || !isfinite(member->valuedouble) || member->valuedouble < number[i].least ||
            member->valuedouble > 1e9)
            status = error_set(error, STATUS_INPUT, "%s: %s: expected a number from %g to 1e9", path, number[i].key,
                               number[i].least);
        else
            *number[i].to = number[i].unit * member->valuedouble;
    }
    if (!status && cJSON_GetArraySize(json) != 1 + (int)(sizeof number / sizeof *number))
        status = error_set(error, STATUS_INPUT, "%s: a key that is none of the %zu of a cluster; see the README", path,
                           1 + sizeof number / sizeof *number);
    if (!status && gpus_per_host != floor(gpus_per_host))
        status = error_set(error, STATUS_INPUT, "%s: gpus_per_host: expected a whole number, found %g", path,
                           gpus_per_host);
    cluster->gpus_per_host = (int)gpus_per_host;
    cJSON_Delete(json);
    return status;
}

struct scaling scaling_estimate(const struct cluster *cluster, const struct scaling_work *work)
{
    struct scaling t = {0};
    const double ranks = work->ranks, n = (double)work->elements, share = (ranks - 1) / ranks;
    const double bus = work->ranks > cluster->gpus_per_host ? cluster->network_bus_bytes : cluster->host_bus_bytes;
    const double hops = work->buckets * (ranks - 1) * cluster->hop_seconds;
    const double alone = work->accumulation_steps * work->micro_batch_flops / cluster->compute_flops;
    t.compute = alone * (work->ranks > 1 ? 1 + cluster->overlap_slowdown : 1);
    const double sums = share * n * work->grad_bytes, copies = share * n * work->param_bytes;
    t.reduce = (work->sharded ? 1 : 2) * (sums / bus + hops);
    t.gather = work->sharded ? copies / bus + hops : 0;
    t.sent_bytes = work->sharded ? sums + copies : 2 * sums;
    const double micro = t.compute / work->accumulation_steps, tail = (double)work->tail_elements / n;
    t.exposed = fmax(t.reduce - 2 * micro / 3, tail * t.reduce) + fmax(t.gather - micro / 3, tail * t.gather);
    t.optimizer = (double)work->rank_elements * work->optimizer_bytes / cluster->memory_bytes;
    t.step = t.compute + t.exposed + t.optimizer;
    t.efficiency = (alone + n * work->optimizer_bytes / cluster->memory_bytes) / t.step;
    return t;
}

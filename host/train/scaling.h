/* scaling.h - what a step costs on W GPUs: bytes between them and time, from figures that were measured on one cluster.
 *
 * A rank's step is `accumulation_steps` micro-batches, the sums of gradients, the update of its slices and the copies of
 * the new parameters. With n trained elements of g bytes of gradient and p of parameter, in B buckets:
 *
 *   compute   = accumulation_steps * flops of a micro-batch / compute rate, times 1 + overlap_slowdown when W > 1
 *   collective(bytes) = (W - 1) / W * bytes / bus + B (W - 1) hop          a ring; bus: of the host, or between hosts
 *   reduce    = collective(n g), twice that where not sharded (a sum to all is a reduce-scatter and an all-gather)
 *   gather    = collective(n p) where sharded, 0 otherwise
 *   tail      = (elements of the buckets that the backward pass completes last, and the forward pass needs first) / n:
 *               nothing runs beside these
 *   exposed   = max(reduce - 2/3 micro, tail reduce) + max(gather - 1/3 micro, tail gather), where micro is the compute of
 *               one micro-batch: the last one's backward pass, and the first one's forward pass
 *   optimizer = rank_elements * (bytes of the norm and of AdamW) / memory rate
 *   step      = compute + exposed + optimizer
 *
 * Left out: loading, the log, stragglers, and a host's share of a network that others use too.
 */
#ifndef FLAT_TRAIN_SCALING_H
#define FLAT_TRAIN_SCALING_H
#include <stdbool.h>
#include <stdint.h>

#include "../util/options.h"

/* Per GPU. Bus rates as nccl-tests prints them (busbw), of reduce-scatter and all-gather. */
struct cluster {
    char name[128];
    int gpus_per_host;
    double compute_flops;     /* per second: forward and backward as a whole, not of the matrix products alone */
    double memory_bytes;      /* per second, of a kernel that streams */
    double host_bus_bytes;    /* per second, among the GPUs of one host */
    double network_bus_bytes; /* per second, among those of several */
    double hop_seconds;       /* of one message of the ring */
    double overlap_slowdown;  /* of compute while sums run beside it: 0.05 */
};

/* The built-in figures, or those of a JSON file: name, gpus_per_host, compute_tflops, memory_gb_per_second,
 * host_bus_gb_per_second, network_bus_gb_per_second, hop_microseconds, overlap_slowdown, all of them. */
int cluster_read(struct cluster *cluster, const char *path, struct error *error);

struct cluster_options {
    const char *cluster; /* file; "" for the built-in figures */
};
extern const struct option_group cluster_option_group;

struct scaling_work {
    int ranks, accumulation_steps;
    bool sharded;
    double micro_batch_flops;
    int64_t elements, rank_elements, tail_elements; /* rank_elements: state of the rank that has most */
    double grad_bytes, param_bytes;                /* per element */
    double optimizer_bytes;                        /* per element, norm and AdamW */
    int buckets;
};

struct scaling {
    double compute, reduce, gather, exposed, optimizer, step; /* seconds */
    double sent_bytes; /* per rank and step */
    double efficiency; /* time of one GPU alone with as many accumulation steps, against step */
};

struct scaling scaling_estimate(const struct cluster *cluster, const struct scaling_work *work);

#endif

/* bench.h - kernel microbenchmarks: every op on the shapes of real models, checked, timed, against the device's limits.
 *
 * An op's file bench_<op>.c has its table of shapes, those of models for the benchmark and odd ones for the tests
 * (tests/op/test_cases.c), and two functions: what arrays a case needs and what of the result is compared how closely (plan),
 * and the op's arguments (args). Call, cost and check follow from these: a case is checked against the double engine
 * (libflat_cpu64.so) on the same inputs, before it is timed.
 *
 * The harness fills the arrays with normal random values, rotates over copies of the arrays that together are several times
 * the last cache, and takes at least --samples samples after a warm-up. Time is that between two marks of the engine around
 * as many calls as make a sample a millisecond, divided by the calls: on a GPU the launches of a sample overlap. The limits
 * (copy, read, scale, matrix product) are measured the same way.
 */
#ifndef FLAT_BENCHES_BENCH_H
#define FLAT_BENCHES_BENCH_H
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "../device/device.h"
#include "../util/log.h"
#include "../util/options.h"

enum { BENCH_TENSORS = 16, BENCH_OUTPUTS = 6, BENCH_SAMPLES = 50, BENCH_SAMPLES_MIN = 5 };

/* One array of a case: normal values of that mean and deviation rounded to dtype, or bytes that the op's file made. */
struct bench_tensor {
    enum dtype dtype;
    int64_t count;
    double mean, deviation;
    void *data; /* NULL, or the content, owned by the case */
    size_t bytes;
};

/* One line of an op's table: whose shape, and the numbers besides rows. */
struct bench_shape {
    const char *model;
    int64_t cols, depth;
    int variant, extra;
    int64_t rows; /* 0: each of the op's. Otherwise a case of the tests, with so many */
};

/* A tensor of the result: |got - expected| <= absolute + (relative + one rounding of its type) |expected|. `expected` is
 * the same tensor of the double engine. */
struct bench_output {
    int tensor;
    double absolute, relative;
};

struct bench_case {
    const struct bench_op *op;
    const struct bench_shape *shape;
    int64_t rows;
    enum dtype dtype, stat;
    char name[160];
    struct bench_tensor tensor[BENCH_TENSORS];
    int tensors;
    struct bench_output output[BENCH_OUTPUTS];
    int outputs;
    double bytes, flops; /* of one call, by the op's contract */
    const float *normal; /* what values are made of; borrowed */
};

/* The worst entry of a check: the difference, and as a share of what is allowed (above 1: wrong). */
struct bench_error {
    double difference, of_allowed;
};

/* The arguments of any op. */
union bench_args {
#define X(op, arguments) struct arguments op;
    ENGINE_OPS(X)
#undef X
};

struct bench_op {
    const char *name;        /* of the engine's op */
    enum engine_op op;
    const int64_t *rows;     /* ends with 0; every shape of a model is run with each */
    const struct bench_shape *shape;
    int shapes;
    /* Tensors and outputs of bench_case, whose op, shape, rows and dtypes are set. */
    int (*plan)(struct bench_case *bench_case, struct error *error);
    /* The op's member of *args, for tensors at these addresses; args begins as zeros. */
    void (*args)(const struct bench_case *bench_case, void *const *pointer, union bench_args *args);
    /* NULL, or what compares the result instead of the outputs: of what the double engine says, or of the formula. */
    int (*check)(const struct bench_case *bench_case, struct device *device, void *const *pointer,
                 struct bench_error *worst, struct error *error);
};
#define BENCH_OP(op_name, rows_, shapes_, plan_, args_, ...)                                                        \
    const struct bench_op bench_##op_name = {#op_name, ENGINE_OP_##op_name, rows_, shapes_,                         \
                                             (int)(sizeof shapes_ / sizeof *shapes_), plan_, args_, __VA_ARGS__}

/* All ops that have a file, NULL-ended (bench_ops.c). */
extern const struct bench_op *const bench_ops[];

/* For plan: a tensor of values; a tensor of bytes that the case takes over. Both give its number. */
int bench_values(struct bench_case *bench_case, enum dtype dtype, int64_t count, double mean, double deviation);
int bench_bytes(struct bench_case *bench_case, void *data, size_t bytes);
/* A tensor of the result. absolute and relative in spacings of stat at 1. */
void bench_output(struct bench_case *bench_case, int tensor, double absolute, double relative);
/* count integers below `below`, drawn from the case's own stream; NULL and STATUS_MEMORY. */
int32_t *bench_integers(int64_t count, int64_t below, struct error *error);

/* For check: entry i of a tensor as it was filled. */
double bench_input(const struct bench_case *bench_case, int tensor, int64_t i);
/* Takes |got - expected| <= allowed into the worst; a NaN is infinitely wrong. */
void bench_compare(struct bench_error *worst, double got, double expected, double allowed);
/* Relative error of one rounding to dtype; spacing of stat at 1. */
double bench_rounding(enum dtype dtype);
double bench_epsilon(const struct bench_case *bench_case);

/* Makes case `rows` of a shape: name, tensors, outputs and cost. Free with bench_case_free, after a failure too. */
int bench_case_make(struct bench_case *bench_case, const struct bench_op *op, const struct bench_shape *shape, int64_t rows,
                    enum dtype dtype, const float *normal, struct error *error);
/* One call on a device; an op_status. */
int bench_call(const struct bench_case *bench_case, struct device *device, void *const *pointer);
/* bench_check.c: runs the case on the device and on the double engine, both from the same inputs, and compares. A case of
 * much work is checked with fewer rows. */
int bench_check(const struct bench_case *bench_case, struct device *device, struct device *oracle,
                struct bench_error *worst, struct error *error);

struct bench_timing {
    int samples, calls; /* calls: of a sample */
    double median, p10, p90; /* seconds of one call */
};

struct bench_record {
    char name[160];
    const struct bench_op *op;
    const struct bench_shape *shape;
    enum dtype dtype;
    int64_t rows;
    int sets;                 /* copies of the arrays that were used in turn */
    struct bench_timing timing;
    double bytes, flops;
    struct bench_error error;
    double of_limit;          /* least time by the measured limits / median */
    const char *reference;    /* the fastest other program, NULL without; belongs to bench->reference */
    double reference_ratio;   /* its time / ours */
    double baseline_ratio;    /* ours / the baseline's, 0 without */
    bool wrong, slower;       /* slower: than the baseline, beyond the noise of both */
};

struct bench_limits {
    double copy, read, scale; /* bytes per second */
    double product[4];        /* flops per second by dtype, 0: the engine has none */
};

/* What all measurements are told. */
struct bench_options {
    struct device_options device;
    bool list, quick, float32;
    enum bench_picks { BENCH_PICKS_OFF, BENCH_PICKS_TIMED } matmul_picks;
    const char *filter; /* "": everything; otherwise parts of names between commas */
    int64_t samples;    /* 0: the measurement's own */
    double time_budget; /* seconds per case; 0: none */
    const char *json, *csv, *baseline, *reference; /* files; "" when not given */
};
/* Of every measurement; of those that have cases; of those that write JSON; of kernels alone. */
extern const struct option_group bench_option_group, bench_case_option_group, bench_json_option_group,
                                 bench_kernels_option_group;

struct step_options;

struct bench {
    const struct bench_options *options;
    const struct step_options *step; /* of bench step, beside these */
    struct log *log;
    struct device device, oracle; /* oracle: the double engine; not open where there is none */
    bool gpu, graphs;
    enum dtype dtype;         /* step: of the weights */
    size_t cache_bytes;       /* the last cache, or what stands for it */
    double max_bytes, max_flops; /* of a case of this run: its arrays, and one call */
    struct bench_limits limits;
    float *normal;            /* bench_normal_make */
    struct bench_record *record;
    size_t records, capacity;
    int left_out;             /* cases larger than this run takes */
    int baseline_missing;     /* cases of the baseline that this run has not measured */
    cJSON *baseline, *reference;  /* NULL: none */
};

/* Whether a case of that name is asked for. */
bool bench_filter_takes(const char *filter, const char *name);
/* A device with a GPU's sizes of work: not a CPU, nor the emulation that the tests open in a GPU's place. */
static inline bool bench_is_gpu(const struct device *device) { return !strcmp(device->engine->name, "cuda"); }

/* `flat bench kernels`: runs what --filter leaves, prints the table, writes --json (anew after every case) and --csv.
 * STATUS_RUNTIME when a result is wrong or, with --baseline, a case has become slower. */
int bench_kernels(const struct bench_options *options, struct log *log, struct error *error);

/* bench_case.c: the arrays of a case on a device, in copies that are used in turn. */
/* About normal values of variance 1 (sums of four uniforms), repeated with a prime period: no row length divides it. */
float *bench_normal_make(struct error *error);
struct bench_arrays {
    int sets;
    void **pointer; /* [sets * BENCH_TENSORS] */
};
/* Fills a tensor as its type, or with the same values in double. */
int bench_tensor_fill(struct device *device, const struct bench_case *bench_case, int tensor, bool in_double, void *to,
                      struct error *error);
/* Entry i of an array of a type. */
double bench_value(enum dtype dtype, const void *stored, int64_t i);
size_t bench_case_bytes(const struct bench_case *bench_case);
int bench_arrays_make(struct bench_arrays *arrays, struct bench *bench, const struct bench_case *bench_case,
                      struct error *error);
void bench_arrays_free(struct bench_arrays *arrays, struct bench *bench);
void bench_case_free(struct bench_case *bench_case);

/* bench_time.c: times calls of a case, and the limits. */
int bench_time(struct bench *bench, const struct bench_case *bench_case, const struct bench_arrays *arrays,
               struct bench_timing *timing, struct error *error);
int bench_limits_measure(struct bench *bench, struct error *error);
/* The least time of a case by the limits. */
double bench_limit_seconds(const struct bench *bench, const struct bench_case *bench_case);
/* Sorts the samples (seconds of so many calls each). */
void bench_statistics(double *sample, int samples, int calls, struct bench_timing *timing);

/* bench_report.c */
void bench_print_header(const struct bench *bench, FILE *stream);
void bench_print_record(const struct bench *bench, const struct bench_record *record, FILE *stream);
void bench_print_summary(const struct bench *bench, FILE *stream);
/* What every JSON of a benchmark begins with: version, date, machine, device, command's settings. NULL: no memory. */
cJSON *bench_context_json(const struct bench_options *options, const struct device *device);
int bench_write_json(const struct bench *bench, const char *path, struct error *error);
int bench_write_csv(const struct bench *bench, const char *path, struct error *error);

/* bench_baseline.c: a file that --json wrote earlier, and one of other programs' times by the same names,
 * {"cases": [{"name", "reference", "seconds": {"median"}}]}. STATUS_INPUT when a file is not one of these. */
int bench_baseline_read(struct bench *bench, struct error *error);
/* Fills the record's ratios. Slower: by more than 5 % and more than the p10..p90 spread of the wider of the two. */
void bench_baseline_compare(const struct bench *bench, struct bench_record *record);
/* Cases of the baseline, of those that the filter leaves, that this run did not measure. */
int bench_baseline_count_missing(const struct bench *bench);

#endif

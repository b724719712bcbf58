/* step.h - `flat bench step`: whole optimizer steps of FLAT on the shapes of real models, and what each idea brings.
 *
 * Models are the config.json files of --models_dir with random weights, or --model with its own. A step packs its pairs,
 * runs forward, loss, backward and AdamW, and reads the totals back. The pairs of "tofu" have the token counts of TOFU's
 * forget10 (tofu_lengths.txt), those of "chunk" are a document of 2,048 tokens and a template answer. "full" and "lora" are
 * what trainers of whole sequences print tokens per second of: rows of 1,024 tokens that are all targets, and rows of 2,048
 * with adapters of rank 16 on every projection of a frozen model. Ids are drawn by sample_uniform, so that
 * benches/pytorch/models.py makes the same pairs. The variants, each with one idea more (an ablation):
 *
 *   padded    every sequence filled to 500 tokens, logits at all positions (what the authors' code computes)
 *   packed    no padding, logits at all positions
 *   answers   logits at the answers' rows only
 *   shared    both answers of a pair continue one copy of the prompt; what `flat unlearn` does
 *   graph     the same, forward to backward launched as one graph, on engines that can
 *
 * In the first two variants every position is a target, so that their loss is not FLAT's: they are there for their cost.
 * The loss is always fused (p - onehot written in place); that cannot be switched off and has no variant.
 *
 * The flops of a step are those of model_flops for the rows of the variant at hand.
 */
#ifndef FLAT_BENCHES_STEP_H
#define FLAT_BENCHES_STEP_H
#include "../train/scaling.h"
#include "../train/trainer.h"
#include "bench.h"

enum step_variant { VARIANT_PADDED, VARIANT_PACKED, VARIANT_ANSWERS, VARIANT_SHARED, VARIANT_GRAPH, VARIANTS };
const char *step_variant_name(enum step_variant variant);

/* Sequences 2k (template) and 2k + 1 (forget) of each pair. */
struct step_pairs {
    int pairs;
    int32_t *ids;
    struct batch_sequence *sequence; /* [2 pairs] */
    int32_t *first;                  /* [pairs + 1]: 2k */
};
/* workload: "tofu", "chunk", "full" or "lora". For the variants of which all positions are targets, sequences say so, and are filled up to
 * padded ids (0: as they are). lengths_file: tofu_lengths.txt. Free with step_pairs_free. */
int step_pairs_make(struct step_pairs *pairs, const char *workload, const char *lengths_file, int count, int64_t vocab_size,
                    enum step_variant variant, struct error *error);
void step_pairs_free(struct step_pairs *pairs);

struct step_result {
    char name[160], model[64];
    const char *workload;
    enum step_variant variant;
    int pairs;
    int64_t parameters, rows, targets, visible;
    double loss, prob_template, prob_forget; /* of the first step; NaN where they are not FLAT's */
    struct bench_timing timing;
    double flops, sol; /* sol: share of the peak of the device's matrix units; 0: not known */
    double planned_bytes, measured_bytes; /* device memory; measured 0: not known */
    struct profile profile;               /* of one more step */
    double predicted;                     /* seconds of a step by scaling.h; 0: not asked for */
};

struct step_options {
    struct bench_options bench;
    const char *model; /* "": every folder of models_dir */
    const char *models_dir; /* "": those that come with the program */
    int64_t pairs;     /* 0: the measurement's own */
    bool predict;
    struct cluster_options cluster;
};
extern const struct option_group step_option_group;

/* With --predict nothing is opened or run: what a step takes on one GPU in bf16 (--device cpu: float), by the plan and by
 * scaling.h's rates of forward, backward and AdamW. STATUS_RUNTIME when two variants that compute the same loss disagree. */
int bench_step(const struct step_options *options, struct log *log, struct error *error);

/* Fills a result whose name, model, workload, variant and pairs are set. *left_out: it is too large for a CPU that was not
 * asked for it by name, and nothing was run. */
int step_measure(struct bench *bench, const char *folder, struct step_result *result, bool *left_out, struct error *error);

/* step_report.c */
void step_print_header(const struct bench *bench, FILE *stream);
void step_print(const struct step_result *result, FILE *stream);
int step_write_json(const struct bench *bench, const struct step_result *result, size_t results, const char *path,
                    struct error *error);

#endif

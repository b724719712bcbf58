/* generate.h - continue prompts token by token, with cached keys and values; many prompts side by side.
 *
 * A step feeds one row per live sequence and, into the places of those that have ended, whole prompts that wait. The result of
 * a prompt does not depend on its neighbours beyond the rounding of matrix products; on the CPU, with a model that is packed,
 * not at all.
 * Where the device has graphs, a step without a new prompt has a power of two of rows, or all places, and is replayed as one
 * launch: two copies in (with sampling three), one launch, one copy out. The rows beyond the live ones are sequences of one
 * token in parts of the cache that are free. Elsewhere nothing is padded.
 * What all prompts of a run begin with (a system turn, examples) is computed once, and its keys and values are read by all.
 * Cost of a step: the weights once, the cache of every live sequence once.
 */
#ifndef FLAT_EVAL_GENERATE_H
#define FLAT_EVAL_GENERATE_H
#include "../device/graph_cache.h"
#include "../io/tokenizer/tokenizer.h"
#include "../model/model.h"
#include "../util/options.h"
#include "generation_rules.h"
#include "kv_cache.h"

struct generate_options {
    int64_t max_new_tokens;
    double temperature, top_p; /* temperature 0: greedy */
    int64_t seed;
};
extern const struct option_group generate_option_group;

/* A sequence that is being continued. */
struct live_sequence {
    int32_t slot, prompt; /* place in the cache, number of the prompt in the run */
    int32_t cached, last; /* positions in the cache after the next pass; the newest id */
};

struct generator {
    struct model *model;
    int slots;              /* sequences side by side */
    int32_t prefix;         /* positions that all prompts of the run share; a sequence's place holds those behind them */
    int64_t max_positions;  /* prompt and continuation of one sequence */
    struct generate_options options;
    struct batch batch;     /* with new prompts, or any where there are no graphs */
    struct batch step;      /* without, rounded up; not created where there are no graphs */
    struct batch *now;      /* which of them runs */
    bool graphs;            /* set by generator_open; may be cleared before generator_run */
    struct graph_cache graph_cache;
    struct generate_options captured; /* what the graphs pick ids by */
    bool captured_rules;
    struct kv_cache cache, reinforced_cache; /* of the model, and of model->reinforced where there is one; the place behind
                             * those of the slots is the prefix's */
    int32_t *device_ids;    /* [slots] */
    int64_t *device_counters;
    struct live_sequence *live; /* [slots] those of the running batch, in its order */
    int32_t *free_slot;     /* [slots] with n live sequences the first slots - n are the free ones */
    int32_t *ids;           /* [slots] */
    int64_t *counters;
    const struct generation_rules *rules; /* borrowed, set before generator_run; NULL: none */
    void *logits; /* of one row on the host, with rules; as double beside it */
    double *wide;
    uint8_t *seen;
    /* After every step: how many prompts are done, and how many of the first are; a status ends the run. NULL: nobody asks */
    int (*advanced)(void *user, int done, int done_first, struct error *error);
    void *advanced_user;
};

/* Batches of other use that a model is to have room for. */
struct batch_limits {
    int64_t rows, targets, sequences, positions;
};

/* Plans the model (inference) and the cache, allocates both. prompt_rows: rows of prompts in one step, at least the
 * longest prompt's. scored: what the same model is to score besides; NULL for nothing. */
int generator_open(struct generator *generator, struct model *model, struct device *device, int slots,
                   int64_t prompt_rows, int64_t max_positions, const struct batch_limits *scored,
                   const struct generate_options *options, struct error *error);
/* Continues any number of prompts (each at least one id); appends new ids, the ending token left out, to out[i]. The
 * first in the list are begun first.
 * first_index is the number of the first prompt in the whole job: sampling depends on (seed, prompt number, position).
 * Ends at any of eos[0 .. eos_count), after max_new_tokens, or when max_positions is reached. */
int generator_run(struct generator *generator, const struct token_list *prompts, int count, int64_t first_index,
                  const int32_t *eos, int eos_count, struct token_list *out, struct error *error);
void generator_close(struct generator *generator);

#endif

/* generate.h - continue prompts token by token, with cached keys and values; many prompts side by side.
 *
 * Prefill packs a batch of prompts without padding; each decoding step feeds one row a live sequence. The result of a
 * prompt does not depend on its neighbours beyond the rounding of matrix products.
 * Cost of a step: the weights once, the cache of every live sequence once.
 */
#ifndef FLAT_EVAL_GENERATE_H
#define FLAT_EVAL_GENERATE_H
#include "../io/tokenizer/tokenizer.h"
#include "../model/model.h"
#include "../util/options.h"

struct generate_options {
    int64_t max_new_tokens;
    double temperature, top_p; /* temperature 0: greedy */
    int64_t seed;
};
extern const struct option_group generate_option_group;

struct generator {
    struct model *model;
    int slots;              /* sequences side by side */
    int64_t max_positions;  /* prompt and continuation of one sequence */
    struct generate_options options;
    struct batch batch;
    void *cache;            /* [layers][slots * max_positions][2 * kv_heads * head_dim] */
    int32_t *device_ids;    /* [slots] */
    int64_t *device_counters;
    /* the slot and the cached length of each sequence of the running batch, for the cache hook */
    int32_t *slot_of, *cached;
    int32_t *scratch_ids;
    int64_t *counters;
};

/* Plans the model (inference) and the cache, allocates both. prompt_rows: most rows of a batch of prompts. */
int generator_open(struct generator *generator, struct model *model, struct device *device, int slots,
                   int64_t prompt_rows, int64_t max_positions, const struct generate_options *options,
                   struct error *error);
/* Continues `count` <= slots prompts (each at least one id); appends new ids, the ending token left out, to out[i].
 * first_index is the number of the first prompt in the whole job: sampling depends on (seed, prompt number, position).
 * Ends at any of eos[0 .. eos_count), after max_new_tokens, or when max_positions is reached. */
int generator_run(struct generator *generator, const struct token_list *prompts, int count, int64_t first_index,
                  const int32_t *eos, int eos_count, struct token_list *out, struct error *error);
void generator_close(struct generator *generator);

#endif

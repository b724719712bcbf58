/* forget_noise.h - forget sets that are not clean: tokens of the answers to forget that are masked or rewritten, as where the
 * text that is to be removed is known in part only.
 *
 * Each token of an answer but its end is replaced with probability noise_rate: by the mask token, or by one that is drawn from
 * all tokens of the forget answers. What happens to a token depends on noise_seed, its row and its place in the answer alone:
 * the same in every epoch, on any number of ranks, whatever the run's own seed is. Prompts, templates and retained rows stay as
 * they are, and so do the rows that an evaluation asks about.
 */
#ifndef FLAT_TRAIN_FORGET_NOISE_H
#define FLAT_TRAIN_FORGET_NOISE_H
#include "../io/tokenizer/tokenizer.h"
#include "../util/options.h"

enum noise_type { NOISE_NONE, NOISE_MASK, NOISE_REWRITE };

struct forget_noise_options {
    enum noise_type noise_type;
    double noise_rate;
    int64_t noise_seed;
    const char *mask_token; /* "" for one that the tokenizer has */
};
extern const struct option_group forget_noise_option_group;

/* {0}: none. */
struct forget_noise {
    const struct forget_noise_options *options; /* borrowed; NULL: none */
    int32_t mask;
    struct token_list pool; /* tokens of all answers to forget: what a rewritten one is drawn from */
    int64_t replaced, tokens; /* of the sequences so far */
};

/* options NULL: none. STATUS_USAGE where there is no mask token. */
int forget_noise_open(struct forget_noise *noise, const struct forget_noise_options *options, const struct tokenizer *tokenizer,
                      struct error *error);
/* Adds the tokens of an answer, in the order of the rows; before any is applied. */
int forget_noise_add(struct forget_noise *noise, const int32_t *ids, size_t count, struct error *error);
/* Replaces tokens of row `row`'s answer in place. */
void forget_noise_apply(struct forget_noise *noise, int32_t row, int32_t *ids, size_t count);
void forget_noise_close(struct forget_noise *noise);

#endif

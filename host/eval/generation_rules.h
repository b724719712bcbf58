/* generation_rules.h - what generation_config.json changes about the logits before a token is picked, as transformers'
 * generate does it: repetition_penalty, no_repeat_ngram_size, suppress_tokens, in this order.
 *
 *     repetition penalty p, of every token that the prompt or the text so far holds:  z < 0 ? z p : z / p
 *     no repeated n-gram: a token with which the last n - 1 and it would be an n-gram that is there already:  -inf
 *     suppressed tokens:  -inf
 *
 * Cost on the host: the ids so far once per token, and the logits there and back.
 */
#ifndef FLAT_EVAL_GENERATION_RULES_H
#define FLAT_EVAL_GENERATION_RULES_H
#include "../io/tokenizer/tokenizer.h"

struct generation_rules {
    double repetition_penalty;    /* 1: none */
    int64_t no_repeat_ngram_size; /* 0: none */
    int32_t *suppressed;          /* ids of the vocabulary */
    int suppressed_count;
    char unused[400];             /* a warning of the file's other keys that change the text; empty: none is set */
};

/* Reads directory/generation_config.json; without one there are no rules. What transformers refuses is STATUS_INPUT.
 * generation_rules_free after a failure too. */
int generation_rules_read(struct generation_rules *rules, const char *directory, int64_t vocab_size, struct error *error);
void generation_rules_free(struct generation_rules *rules);
bool generation_rules_any(const struct generation_rules *rules);
/* Changes the logits of the token behind prompt and text. seen: a zero per id of the vocabulary, zero again afterwards. */
void generation_rules_apply(const struct generation_rules *rules, const struct token_list *prompt, const struct token_list *text,
                            double *logits, uint8_t *seen);

#endif

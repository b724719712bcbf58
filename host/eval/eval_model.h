/* eval_model.h - a model of a folder that is only looked at: config, tokenizer, prompt template, checked weights. */
#ifndef FLAT_EVAL_EVAL_MODEL_H
#define FLAT_EVAL_EVAL_MODEL_H
#include "../io/data/prompt.h"
#include "../model/adapter.h"
#include "../model/model_options.h"
#include "../model/weights.h"
#include "generation_rules.h"

/* A second model, of --reinforced_model. */
struct reinforced {
    struct model_config config;
    struct model model;
    struct weights weights;
};

struct eval_model {
    const char *directory;
    struct model_config config;
    struct tokenizer *tokenizer;
    struct prompt prompt;
    struct model model; /* laid out; what it has room for is planned later */
    struct weights weights;
    struct adapter adapter; /* empty without one */
    struct reinforced reinforced; /* the same */
    struct generation_rules rules;
    int32_t eos;            /* what ends an answer */
    int32_t stop[EOS_IDS_MAX + 1]; /* what ends a continuation */
    int stops;
};

/* Everything that can be refused without a device. dtype is the engine's. eval_model_close after a failure too. The
 * options' texts are borrowed. */
int eval_model_open(struct eval_model *m, const struct model_options *options, const struct prompt_options *prompt,
                    enum dtype dtype, struct error *error);
void eval_model_close(struct eval_model *m);
/* XXH3 over the files that decide what the model computes of a text: the weights, the adapter, configs, those of the tokenizer. */
int eval_model_checksum(const struct eval_model *m, const struct model_options *options, uint64_t *sum,
                        struct error *error);

#endif

/* attack.h - what an attack asks a model: how likely the answers are, what sampling gives away, what it refuses, how far its
 * distribution is from another's on plain text. One call opens a model, measures and closes it; one rank.
 */
#ifndef FLAT_EVAL_ATTACK_H
#define FLAT_EVAL_ATTACK_H
#include "../io/data/answer_list.h"
#include "../model/quantizer.h"
#include "evaluate.h"
#include "generate.h"

/* How all models are asked. */
struct attack_setting {
    const struct prompt_options *prompt;
    const struct dataset_options *dataset;
    const struct evaluate_options *evaluate;
    int64_t max_length, rows; /* tokens of a prompt and its answer; the first so many rows of a file, 0: all */
    int64_t max_new_tokens;
    struct device *device;
    struct log *log;
};

/* The model that is asked: a folder, perhaps with an adapter, perhaps as it is after a quantizer. */
struct attack_subject {
    struct model_options model;
    const struct quantizer *quantizer; /* NULL: as it is */
    const char *label;                 /* of the progress line */
};

/* A number for each row. Start with {0}; free with row_values_free. */
struct row_values {
    double *value; /* [rows] */
    char **kind;   /* [rows] the rows' own "kind", "" without; only of attack_probabilities */
    int rows;
};
void row_values_free(struct row_values *values);

/* P(answer) = exp(mean log-probability of its tokens) of every row of a file (reference: TOFU's Q_A_Prob). keys NULL: the
 * setting's. */
int attack_probabilities(const struct attack_setting *setting, const struct attack_subject *subject, const char *path,
                         const struct dataset_options *keys, struct row_values *out, struct error *error);
/* 1 where the greedy answer refuses, by ROUGE-L against the list of refusals (refusal.h), else 0. */
int attack_refusals(const struct attack_setting *setting, const struct attack_subject *subject, const char *path,
                    const struct answer_list *refusals, struct row_values *out, struct error *error);
/* ROUGE-L recall (with the stemmer) of so many sampled answers to each question: value[row * draws + draw], rows * draws of
 * them; sampling NULL: of the greedy answer. */
int attack_samples(const struct attack_setting *setting, const struct attack_subject *subject, const char *path,
                   const struct generate_options *sampling, int draws, struct row_values *out, struct error *error);
/* KL(target || subject) of the next token on running text, cut into pieces of `tokens`: the mean over each piece's tokens. The
 * whole vocabulary, at temperature 1. Both models are held at a time. */
int attack_text_divergence(const struct attack_setting *setting, const struct attack_subject *target,
                           const struct attack_subject *subject, const char *path, int tokens, struct row_values *out,
                           struct error *error);

#endif

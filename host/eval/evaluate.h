/* evaluate.h - measures a list of questions with a model: log-probs of all answers, continuations of the prompts.
 *
 * Work is cut into chunks before anything is measured: questions in order of their length, longest first; a chunk to score
 * is as many as fit into batch_tokens rows, one to continue is CHUNK_ROUNDS times batch_size prompts of one limit, which
 * follow each other into the places of those that end. Chunks depend on the questions and the settings alone, so results
 * are the same bits on any number of ranks, which take chunks in turn, and for an evaluation that was interrupted.
 * A chunk's results travel as one line of JSON: to rank 0, and to the partial file.
 */
#ifndef FLAT_EVAL_EVALUATE_H
#define FLAT_EVAL_EVALUATE_H
#include "../comm/comm.h"
#include "../util/log.h"
#include "eval_model.h"
#include "partial.h"
#include "questions.h"

struct generate_options;

struct evaluate_options {
    int64_t batch_size;   /* prompts continued side by side */
    int64_t batch_tokens; /* rows of a batch that is scored; one question may have more */
};
extern const struct option_group evaluate_option_group;

struct evaluation {
    const struct evaluate_options *options;
    struct question_list *questions;
    struct eval_model *model;
    struct device *device;
    struct comm *comm;        /* NULL: one rank */
    const char *partial_path; /* rank 0's; NULL: results are not kept until the end */
    uint64_t model_checksum;
    const struct generate_options *sampling; /* of the continuations: temperature, top_p, seed; NULL: the likeliest token */
    struct log *log;
    const char *label;        /* of the progress line */
    struct partial partial;   /* closed by the caller, once the results are written or given up */
};

/* Fills in what questions.h calls measured. With several ranks all call it, with the same questions, and rank 0 has all
 * results afterwards. Loads the weights; nothing to measure loads nothing. */
int evaluate(struct evaluation *evaluation, struct error *error);

#endif

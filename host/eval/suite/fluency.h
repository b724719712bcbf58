/* fluency.h - are a model's answers still language? What another model, which is known to write well, thinks of them:
 *
 *   X_generation_loss = mean over rows of -1/n sum log p_reference(token | prompt, tokens before it)
 *
 * over the n tokens of an answer, its end of sequence included, in nats: the logarithm of its perplexity. Empty answers are left out.
 * The reference is the model that unlearning began with; its own greedy answers come to a fraction of a nat, a plain refusal to a
 * few, noise to what a word is worth in its vocabulary (10.8 for 49,152 tokens). Text that repeats itself is likely under any model:
 * that is repetition.h's. Cost: a forward pass over the answers.
 */
#ifndef FLAT_EVAL_SUITE_FLUENCY_H
#define FLAT_EVAL_SUITE_FLUENCY_H
#include "suite.h"

enum { FLUENCY_LOGS = 2 };

/* Adds the metric of every set of the suite qa to both logs, whose answers the run's model reads. The run is new. */
int fluency_measure(struct suite_run *run, struct evaluation *evaluation, struct eval_log *const log[FLUENCY_LOGS],
                    struct error *error);

#endif

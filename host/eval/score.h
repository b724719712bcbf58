/* score.h - log-probabilities of given answers, without gradients.
 *
 * A scorer is a model in inference form with room for a fixed size of batch. Sequences of one group share their
 * prefix's rows, so several answers to one question cost little more than one. A group of more than SCORE_GROUP_MAX is
 * taken in parts, each with the prefix anew: memory is bounded whatever the data are.
 */
#ifndef FLAT_EVAL_SCORE_H
#define FLAT_EVAL_SCORE_H
#include "../model/model.h"
#include "../model/weights.h"

enum { SCORE_GROUP_MAX = 8 };

struct score {
    int32_t num_tokens;    /* answer tokens, end of sequence included */
    double logprob_sum, prob_mean;
    float *token_logprobs; /* [num_tokens], free(); NULL unless asked for */
};

/* Scores the groups of one batch, which must fit it: group g is sequences group_first[g] .. group_first[g+1]-1, the first
 * is 0. values: room for 2 numbers per target. token_logprobs of score[] are the caller's, after a failure too. */
int score_batch(struct model *model, struct batch *batch, const struct batch_sequence *sequences,
                const int32_t *group_first, int groups, bool keep_tokens, double *values, struct score *score,
                struct error *error);

/* Scores all groups (group g is sequences group_first[g] .. group_first[g+1]-1) in batches of at most batch_size
 * groups (or parts of one). score[s] for every sequence; the caller frees token_logprobs, after a failure too. model must have been
 * allocated by scorer_open with sizes from the same sequences. */
int scorer_run(struct model *model, const struct batch_sequence *sequences, const int32_t *group_first, int groups,
               int batch_size, bool keep_tokens, struct score *score, struct error *error);

/* Of every target row of the batch that the model has just run, if it has head_statistics: mean and variance of log p
 * under p, and the likeliest token. Each has room for batch->targets numbers; rows of sequence s are
 * batch->host.sequence_begin[s] .. [s + 1] - 1. */
int score_statistics(struct model *model, const struct batch *batch, double *mean, double *variance, int32_t *argmax,
                     struct error *error);

/* Plans, allocates and loads a model of a folder for scoring exactly these groups. */
int scorer_open(struct model *model, struct device *device, const struct model_config *config,
                const struct weights *weights, const struct batch_sequence *sequences, const int32_t *group_first,
                int groups, int batch_size, struct error *error);

#endif

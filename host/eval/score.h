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

/* Of every target row of the batch that the model has just run, if it has head_statistics: mean and variance of log p
 * under p, and the likeliest token. Each has room for batch->targets numbers; rows of sequence s are
 * batch->host.sequence_begin[s] .. [s + 1] - 1. */
int score_statistics(struct model *model, const struct batch *batch, double *mean, double *variance, int32_t *argmax,
                     struct error *error);

/* A model with room for the batches that it has had to score so far. */
struct scorer {
    struct model *model; /* laid out by model_create; planned, allocated and loaded by scorer_run */
    struct device *device;
    const struct weights *weights;
    int batch_size;      /* groups, or parts of large ones, at a time */
    bool keep_tokens;
    struct batch batch;
    double *values;      /* [2 * targets] */
    struct score *score; /* [sequences] of a batch */
    int32_t *first;      /* [batch_size + 1] */
};

/* Told of every batch when it is done: sequences begin .. begin + count - 1 of the list. Ends the run by a status. */
typedef int (*scorer_done)(void *user, int begin, int count, const struct score *score, struct error *error);

/* Scores all groups (group g is sequences group_first[g] .. group_first[g+1]-1) in order. May be called again and again;
 * a list with a larger batch than all before it makes room anew, and loads the weights for it. Start with the first five
 * members set; scorer_close after a failure too. */
int scorer_run(struct scorer *scorer, const struct batch_sequence *sequences, const int32_t *group_first, int groups,
               scorer_done done, void *user, struct error *error);
void scorer_close(struct scorer *scorer);

#endif

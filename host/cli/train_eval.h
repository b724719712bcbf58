/* train_eval.h - looking at sets of rows during a training: P and loss of their answers, every epoch or so many steps.
 *
 * The weights are the trainer's own, in the room of its largest micro-batch; ranks share the batches. A line of metrics.jsonl
 * per set and time, which `flat plot` draws: {"step": 40, "epoch": 1, "eval": NAME, "prob_mean": P, "loss": mean -logprob
 * per row, "rows": n}. Step 0 is before the first. Where the forget set decides when the run ends (early_stopping.h), its rows
 * are a set "forget" of their own.
 */
#ifndef FLAT_CLI_TRAIN_EVAL_H
#define FLAT_CLI_TRAIN_EVAL_H
#include "../eval/questions.h"
#include "../eval/suite/eval_sets.h"
#include "../train/early_stopping.h"
#include "../train/run_log.h"
#include "../util/log.h"

enum eval_strategy { EVAL_NO, EVAL_EPOCH, EVAL_STEPS };
struct train_eval_options {
    const char *eval_data; /* NAME=FILE, ... */
    enum eval_strategy strategy;
    int64_t steps;
};
extern const struct option_group train_eval_option_group;

/* Reads every set once, so that what is wrong with one is said before anything else is, and makes sure that what decides about
 * the end is measured. has_forget: there is a forget set. */
int train_eval_check(const struct train_eval_options *options, const struct early_stopping_options *stopping,
                     const struct dataset_options *dataset, bool has_forget, struct error *error);

struct train_eval {
    const struct train_eval_options *options;
    struct eval_sets sets;
    struct question_list questions;
    int first[EVAL_SETS_MAX + 1]; /* of a set's answers in questions */
    int left_out;                 /* longer than the largest micro-batch */
    int64_t at_step;              /* of the last look; -1 */
    int64_t measured_step;        /* of the last look that all ranks came through, with these figures; -1 */
    double prob[EVAL_SETS_MAX], loss[EVAL_SETS_MAX];
};

/* Of a prepared trainer. Nothing to do unless the strategy says so. train_eval_close after a failure too. */
int train_eval_open(struct train_eval *eval, const struct train_eval_options *options, const struct early_stopping *stopping,
                    const struct dataset_options *dataset, const struct trainer *trainer, struct log *log,
                    struct error *error);
void train_eval_close(struct train_eval *eval);
/* All ranks call it after step `step` (0: before the first); rank 0 writes the log. status is what each has come to so far:
 * looking takes all ranks, and none looks when one has failed. */
int train_eval_step(struct train_eval *eval, struct trainer *trainer, int64_t step, struct run_log *log, int status,
                    struct error *error);
/* A figure of a step that was measured, the same on all ranks; false where it was not. */
bool train_eval_value(const struct train_eval *eval, int64_t step, const char *set, bool is_loss, double *value);

#endif

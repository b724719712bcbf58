/* final_eval.h - the table at the end of `flat unlearn`: the model that was read and the one that was written are asked the
 * same questions.
 */
#ifndef FLAT_CLI_FINAL_EVAL_H
#define FLAT_CLI_FINAL_EVAL_H
#include "../train/train_options.h"
#include "../util/log.h"

struct final_eval_options {
    int64_t rows;          /* of each set; 0: no table */
    const char *eval_data; /* NAME=FILE, ... */
};
extern const struct option_group final_eval_option_group;

/* Reads every set of eval_data once, so that what is wrong with one is said before the training. */
int final_eval_check(const struct final_eval_options *options, const struct dataset_options *dataset, struct error *error);

/* Prints the table on stdout and warns of what looks wrong; output_dir/evals/before and .../after get QA_EVAL.json and
 * QA_SUMMARY.json. Opens a device and each model in turn: what trained must be closed. The model is saved by then: that a
 * table cannot be made is a warning. */
void final_eval_show(const struct train_options *train, const struct final_eval_options *options, struct log *log);

#endif

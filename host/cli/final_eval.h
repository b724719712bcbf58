/* final_eval.h - the table at the end of `flat unlearn`: the model that was read and the one that was written are asked the
 * same questions.
 */
#ifndef FLAT_CLI_FINAL_EVAL_H
#define FLAT_CLI_FINAL_EVAL_H
#include "../train/train_options.h"
#include "../util/log.h"

struct final_eval_options {
    int64_t rows; /* of each set; 0: no table */
};
extern const struct option_group final_eval_option_group;

/* Prints the table of the forget set and of eval_data (NAME=FILE, ...) on stdout and warns of what looks wrong; output_dir/evals/before and .../after get QA_EVAL.json and
 * QA_SUMMARY.json. Opens a device and each model in turn: what trained must be closed. The model is saved by then: that a
 * table cannot be made is a warning. */
void final_eval_show(const struct train_options *train, const struct final_eval_options *options, const char *eval_data,
                     struct log *log);

#endif

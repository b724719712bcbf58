/* train.h - what `flat unlearn` and `flat finetune` share: one run from a config to a saved model. */
#ifndef FLAT_CLI_TRAIN_H
#define FLAT_CLI_TRAIN_H
#include "../train/train_options.h"
#include "command.h"
#include "final_eval.h"
#include "launcher.h"
#include "train_eval.h"

struct train_command_options {
    struct train_options train;
    struct train_eval_options eval;
    struct early_stopping_options stopping;
    struct final_eval_options final_eval; /* of unlearn alone */
    struct launcher_options launcher;
    struct log_options log;
};

/* For a command whose options are struct train_command_options. */
int train_check(struct invocation *run, struct error *error);
int train_run(struct invocation *run, bool finetune, struct error *error);

#endif

/* commands.h - the commands of the program. Each takes a checked command line and returns an exit status with the
 * one line for the user in *error; results go to stdout, everything else through log.
 */
#ifndef FLAT_CLI_COMMANDS_H
#define FLAT_CLI_COMMANDS_H
#include "../util/log.h"
#include "settings.h"

struct invocation {
    struct command_line line;
    struct log log;
    int argc;
    char **argv; /* the whole command, for run.json */
};

int command_train(struct invocation *run, bool finetune, struct error *error);
int command_plan(struct invocation *run, struct error *error);
int command_score(struct invocation *run, struct error *error);
int command_generate(struct invocation *run, struct error *error);
int command_bench(struct invocation *run, struct error *error);
int command_tokenize(struct invocation *run, struct error *error);
int command_bench(struct invocation *run, struct error *error);

/* score and generate: whether a prompt template was asked for, so that --data holds question and answer rows. */
bool rows_wanted(const struct invocation *run);

/* Checks that stdout took everything; a full disk or a closed pipe is STATUS_RUNTIME. */
int stdout_finish(struct error *error);

#endif

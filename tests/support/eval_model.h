/* eval_model.h - the tiny model of tests/golden/eval, which knows its few questions, as a folder of a test's own. */
#ifndef FLAT_TESTS_EVAL_MODEL_H
#define FLAT_TESTS_EVAL_MODEL_H

#define EVAL "tests/golden/eval"

/* Makes the folder and copies model and tokenizer into it. 0, or -1 and a line on stderr: for the set-up of a group. */
int eval_model_make(const char *folder);

#endif

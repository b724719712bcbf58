/* attack_models.h - three tiny models for `flat attack`, and the options by which all tests of it ask them. */
#ifndef FLAT_TESTS_ATTACK_MODELS_H
#define FLAT_TESTS_ATTACK_MODELS_H
#include "eval_model.h"

#define FORGET "--forget_data " EVAL "/qa_forget.jsonl "
#define COMMON "--prompt_template qa --device cpu --threads 1 --quiet "
#define ASK COMMON FORGET "--max_new_tokens 6 --leak_k 1,4 --relearn_batch_size 2 --relearn_learning_rate 1e-3 "

/* In a folder that is there: start/, target/ (knows the forget rows), forgot/ (by gradient ascent from it) and retain/ (trained on
 * something else). 0, or -1: for the set-up of a group. */
int attack_models_make(const char *folder);

#endif

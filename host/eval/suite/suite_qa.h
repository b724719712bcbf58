/* suite_qa.h - the sets of the suite qa: forget_data as forget, retain_data as retain, eval_data under its names. */
#ifndef FLAT_EVAL_SUITE_SUITE_QA_H
#define FLAT_EVAL_SUITE_SUITE_QA_H
#include "suite.h"

/* Calls ask for each of them in this order. STATUS_USAGE where there is none. */
typedef int (*qa_ask_set)(struct suite_run *run, const char *name, const char *path, struct error *error);
int qa_sets_ask(struct suite_run *run, qa_ask_set ask, struct error *error);

#endif

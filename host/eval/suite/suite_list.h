/* suite_list.h - the suites there are. */
#ifndef FLAT_EVAL_SUITE_SUITE_LIST_H
#define FLAT_EVAL_SUITE_SUITE_LIST_H
#include "suite.h"

extern const struct suite suite_qa, suite_tofu, suite_muse, suite_harry_potter;

#endif

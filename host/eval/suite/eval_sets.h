/* eval_sets.h - "NAME=FILE,NAME=FILE": sets of rows to look at, each under its name. */
#ifndef FLAT_EVAL_SUITE_EVAL_SETS_H
#define FLAT_EVAL_SUITE_EVAL_SETS_H
#include "../../util/error.h"

enum { EVAL_SETS_MAX = 12 };

struct eval_sets {
    struct {
        char name[64], path[4096];
    } set[EVAL_SETS_MAX];
    int count;
};

/* STATUS_USAGE names what is not of that form, a name that is there twice, and the name forget, which is taken. */
int eval_sets_parse(struct eval_sets *sets, const char *text, struct error *error);

#endif

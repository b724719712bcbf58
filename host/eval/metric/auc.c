/* auc.c - see auc.h. */
#include "auc.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "../../util/memory.h"

enum { MOST_SCORES = 1 << 30 };

struct scored {
    double score;
    bool positive;
};

static int compare(const void *a, const void *b)
{
    double x = ((const struct scored *)a)->score, y = ((const struct scored *)b)->score;
    return (x > y) - (x < y);
}

static int add_group(struct scored *all, const double *score, size_t count, bool positive, struct error *error)
{
    for (size_t i = 0; i < count; i++) {
        if (isnan(score[i]))
            return error_set(error, STATUS_NONFINITE, "score %zu of the %s group is not a number", i,
                             positive ? "positive" : "negative");
        all[i] = (struct scored){score[i], positive};
    }
    return STATUS_OK;
}

int auc_score(const double *negative, size_t negatives, const double *positive, size_t positives, double *auc,
              struct error *error)
{
    if (negatives == 0 || positives == 0 || negatives > MOST_SCORES || positives > MOST_SCORES)
        return error_set(error, STATUS_INPUT, "the groups have %zu and %zu scores; expected 1 to %d each", negatives,
                         positives, MOST_SCORES);
    size_t total = negatives + positives;
    struct scored *all = memory_array(total, sizeof *all, error);
    if (!all)
        return STATUS_MEMORY;
    int status = add_group(all, negative, negatives, false, error);
    if (!status)
        status = add_group(all + negatives, positive, positives, true, error);
    if (!status)
        qsort(all, total, sizeof *all, compare);
    double won = 0; /* pairs, a tie counting half */
    size_t below = 0;
    for (size_t begin = 0, end; begin < total && !status; begin = end) {
        size_t equal[2] = {0};
        for (end = begin; end < total && all[end].score == all[begin].score; end++)
            equal[all[end].positive]++;
        won += (double)equal[true] * ((double)below + (double)equal[false] / 2);
        below += equal[false];
    }
    if (!status)
        *auc = won / ((double)negatives * (double)positives);
    free(all);
    return status;
}

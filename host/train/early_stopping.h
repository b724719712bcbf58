/* early_stopping.h - a run that ends before its last step, and the step whose model is the best: by one figure of what
 * --eval_strategy measures.
 *
 * The figure is "eval_<set>_prob_mean" or "eval_<set>_loss" of a set of --eval_data, or of the set "forget", the rows that are
 * unlearned. Every measurement after the first step is taken in:
 *   better     lower (mode min) or higher (max) than the best so far by more than min_delta; auto: of "forget", a lower
 *              probability or a higher loss; of every other set, a higher probability or a lower loss
 *   threshold  the run ends where the figure is at the threshold or beyond it, in the direction of the mode
 *   patience   the run ends after so many measurements in a row that were not better
 * A figure that is not finite is never better and never at the threshold. What is measured before the first step does not
 * count. Names: patience and load_best_model_at_end are Hugging Face's; threshold and min_delta are Lightning's (what
 * transformers' callback calls early_stopping_threshold is min_delta here).
 */
#ifndef FLAT_TRAIN_EARLY_STOPPING_H
#define FLAT_TRAIN_EARLY_STOPPING_H
#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#include "../util/options.h"

enum early_stopping_mode { STOPPING_AUTO, STOPPING_MIN, STOPPING_MAX };
struct early_stopping_options {
    const char *metric; /* "": none */
    enum early_stopping_mode mode;
    double threshold;   /* -1: none */
    int64_t patience;   /* 0: none */
    double min_delta;
    bool load_best;
};
extern const struct option_group early_stopping_option_group;

enum stop_reason { STOP_NOT, STOP_THRESHOLD, STOP_PATIENCE };

struct early_stopping {
    const struct early_stopping_options *options;
    char set[64];         /* of the figure; "": there is none, and nothing ends early */
    bool is_loss, is_min; /* which figure, and its direction */
    int64_t best_step;    /* 0: none yet */
    double best;
    double last;          /* the figure that was taken in last */
    int64_t waited;       /* measurements in a row that were not better */
    enum stop_reason reason;
};

/* From checked options, which must outlive it. */
void early_stopping_init(struct early_stopping *stopping, const struct early_stopping_options *options);
/* Takes the figure of a step in. Whether it is the best so far, and whether the run is to end: best_step and reason. */
void early_stopping_take(struct early_stopping *stopping, int64_t step, double value);
/* Whether a figure is at the threshold or beyond; false without one. */
bool early_stopping_passes(const struct early_stopping *stopping, double value);
/* "eval_forget_prob_mean is 0.048, and the threshold 0.05": why the run ends. */
void early_stopping_describe(const struct early_stopping *stopping, char *out, size_t out_bytes);
/* "threshold", "patience", or "steps" of a run that was not ended early. */
const char *early_stopping_reason(const struct early_stopping *stopping);

/* Adds best_step, best, last, waited and reason to an object; false when memory ran out. */
bool early_stopping_add_state(const struct early_stopping *stopping, cJSON *object);
/* Takes them from there. STATUS_INPUT naming `name`. */
int early_stopping_get_state(struct early_stopping *stopping, const cJSON *object, const char *name, struct error *error);

#endif

/* suite.h - suites that ask a model: which rows of which files become which questions, and which metrics the answers make.
 *
 * A suite is one file suite_<name>.c that defines `const struct suite suite_<name>`, and its name in suite_list.h and .c.
 */
#ifndef FLAT_EVAL_SUITE_SUITE_H
#define FLAT_EVAL_SUITE_SUITE_H
#include "../../io/data/answer_list.h"
#include "../evaluate.h"
#include "eval_log.h"

struct suite_options {
    const char *forget_data, *retain_data, *real_authors_data, *world_facts_data, *holdout_data; /* "" for none */
    const char *data_dir;  /* of a suite whose files have fixed names */
    const char *eval_data; /* NAME=FILE, ... */
    int64_t eval_rows;     /* the first so many rows of every set; 0: all */
    int64_t eval_max_length;
    int64_t max_new_tokens; /* 0: the suite's own */
    int64_t prefix_words, continuation_words, num_fewshot;
};
extern const struct option_group suite_option_group;

/* The rows of one file, and their questions in order. */
struct suite_set {
    char name[64];
    struct dataset data;
    int rows;           /* of data, what is asked */
    int first_question; /* its rows are questions in order */
    int wrong;          /* perturbed answers per row */
    bool paraphrased, templated;
};
enum { SUITE_SETS_MAX = 16 };

struct suite_run {
    const struct suite_options *options;
    const struct dataset_options *dataset;
    struct answer_list refusals; /* template answers, may be empty */
    struct eval_model *model;    /* opened */
    struct log *log;
    struct eval_log *const *answers; /* of fluency.h: the logs whose answers are read */
    bool speaks;                 /* of several ranks one warns for all */
    bool rows_told;              /* what was noticed of the rows has been said in this run, and is not said again */
    struct question_list questions;
    struct suite_set set[SUITE_SETS_MAX];
    int sets;
};

struct suite {
    const char *name, *log_name; /* "tofu", "TOFU" */
    int (*ask)(struct suite_run *run, struct error *error);
    int (*report)(const struct suite_run *run, struct eval_log *log, struct error *error);
};
extern const struct suite *const suites[]; /* NULL-ended */
const char *suite_name(int index);         /* NULL behind the last */

/* The model must outlive the run. */
void suite_run_init(struct suite_run *run, const struct suite_options *options, const struct dataset_options *dataset,
                    struct eval_model *model, struct log *log);
void suite_run_free(struct suite_run *run);

/* ---- for suites ---- */

void suite_warn(const struct suite_run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Reads a file as the next set. keys NULL: the run's. */
int suite_set_read(struct suite_run *run, const char *name, const char *path, const struct dataset_options *keys,
                   unsigned flags, struct suite_set **set, struct error *error);
/* A question per row, its answer first, then what the flags say. */
enum suite_ask_flags {
    ASK_TOKENS = 1,  /* log-probs of each token of the answer */
    ASK_OTHERS = 2,  /* paraphrased_answer and the texts of perturbed_answer, where the first row has them */
    ASK_TEMPLATE = 4, /* a template answer, where there is a list */
    ASK_ENTROPY = 8   /* of the next token at the answer's places */
};
int suite_ask_rows(struct suite_run *run, struct suite_set *set, int64_t max_new_tokens, unsigned flags,
                   struct error *error);
const struct suite_set *suite_set_find(const struct suite_run *run, const char *name);
const struct eval_answer *suite_answer(const struct suite_run *run, const struct suite_set *set, int row, int which);

/* Metrics of a set; `first` and `count` say which of its answers. */
int suite_add_probability(const struct suite_run *run, struct eval_log *log, const char *name, const struct suite_set *set,
                          int first, int count, struct error *error);
/* FLAT's P, the mean token probability of one answer. */
int suite_add_mean_prob(const struct suite_run *run, struct eval_log *log, const char *name, const struct suite_set *set,
                        int which, struct error *error);
/* name_entropy, of answers that were asked for with ASK_ENTROPY. */
int suite_add_entropy(const struct suite_run *run, struct eval_log *log, const struct suite_set *set, struct error *error);
int suite_add_rouge(const struct suite_run *run, struct eval_log *log, const char *name, const struct suite_set *set,
                    const char *aggregate, struct error *error);
/* name_refusal_rate and name_refusal_recall_rate (with a list of refusals; refusal.h) and name_repetition. */
int suite_add_behaviour(const struct suite_run *run, struct eval_log *log, const struct suite_set *set,
                        struct error *error);
/* mia_loss, mia_zlib, mia_min_k and mia_min_k_plus_plus of each row's first answer, which has its tokens. */
int suite_add_membership(const struct suite_run *run, struct eval_log *log, const struct suite_set *forget,
                         const struct suite_set *holdout, struct error *error);
/* exact_memorization and extraction_strength of the same. */
int suite_add_memorization(const struct suite_run *run, struct eval_log *log, const struct suite_set *set,
                           struct error *error);

/* Asks, measures and reports: on rank 0 the log has the suite's metrics afterwards, without those that follow from them
 * (results.h). evaluation: all but questions and model, which are the run's. */
int suite_measure(const struct suite *suite, struct suite_run *run, struct evaluation *evaluation, struct eval_log *log,
                  struct error *error);

#endif

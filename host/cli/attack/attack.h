/* attack.h - does the forgetting last? What the parts of `flat attack` share.
 *
 * Three models are asked alike: the target (before unlearning), the unlearned one, and one that never saw the forget set, where
 * there is one. K is the mean over forget rows of P(answer) = exp(mean log-probability of its tokens).
 *
 *   relearn    each model is fine-tuned on the same data for the same steps; D is the gain of K.
 *              R = min(1, D of the retain model / D of the unlearned one), 1 where that gains nothing
 *   quantize   projections to INT8 and NF4 and back; Q = min(1, K before / K after)
 *   sample     leak@k: the largest ROUGE-L recall of k sampled answers (host/eval/metric/leak.h)
 *   probe      K by kind of question, and the worst kind
 *   disrupt    KL(target || unlearned) per token of plain text; share of neighbouring questions that are refused
 *
 * R and Q compare a model with itself, and say 1 of a model that has forgotten nothing: they are read beside K. Intervals are
 * the bootstrap's over rows (host/eval/metric/bootstrap.h). What single rows came to is kept beside the table; the target's and the
 * retain model's figures are the same for every run that is attacked alike, and can be taken from there. Source: spec of
 * OpenUnlearning's meta-evaluation (2506.12618), leak@k 2511.04934.
 */
#ifndef FLAT_CLI_ATTACK_ATTACK_H
#define FLAT_CLI_ATTACK_ATTACK_H
#include "../../eval/attack.h"
#include "../../eval/metric/bootstrap.h"
#include "../../io/json/json.h"
#include "../command.h"

enum attack_part { PART_RELEARN, PART_QUANTIZE, PART_SAMPLE, PART_PROBE, PART_DISRUPT, PARTS, PART_KNOW = PARTS };
enum attack_model { TARGET, UNLEARNED, RETAIN, ATTACK_MODELS };

struct attack_options {
    struct model_options model;
    struct dataset_options dataset;
    struct prompt_options prompt;
    struct template_options template_;
    struct evaluate_options evaluate;
    struct device_options device;
    struct log_options log;
    const char *attacks, *output_dir, *forget_data, *target_model, *target_adapter, *retain_model;
    const char *unrelated_data, *probe_data, *text_data, *neighbor_data, *attack_budget, *leak_k, *baseline_log;
    double relearn_learning_rate, relearn_epochs, temperature, top_p;
    int64_t relearn_batch_size, leak_draws, attack_seed, max_new_tokens, eval_rows, eval_max_length, text_tokens;
    bool save_models;
};

/* A line of the table; NAN where a model has no such number. */
struct attack_row {
    enum attack_part part;
    char measure[120];
    double value[ATTACK_MODELS];
    struct interval interval; /* of the unlearned model's */
};

struct attack {
    const struct attack_options *options;
    struct invocation *run;
    struct log *log;
    struct device device;
    struct attack_setting setting;
    char output_dir[4096];
    char stem[80];                                /* of the files' names: "attack", or "attack-quantize-sample" of these alone */
    char target[4096], target_adapter[4096];      /* of the run's own record, or as given; "": none */
    struct attack_subject subject[ATTACK_MODELS];
    bool there[ATTACK_MODELS];
    struct row_values before[ATTACK_MODELS];      /* K by row; read once */
    int64_t steps;                                /* of a relearning; 0: by epochs */
    double seconds;                               /* of all relearnings; 0: no limit */
    struct attack_row *row;
    size_t rows, capacity;
    cJSON *curves;                                /* K over steps */
    cJSON *asked;                                 /* what STEM.jsonl holds: a header, then figures by row */
    cJSON *baseline;                              /* the same of baseline_log; NULL: none */
};

/* What a model is asked, row by row. */
enum attack_question_kind { ASK_PROBABILITY, ASK_SAMPLES, ASK_REFUSAL, ASK_DIVERGENCE };
struct attack_question {
    enum attack_question_kind kind;
    const char *measure, *path;              /* the figures' name in STEM.jsonl; what is read */
    const struct dataset_options *keys;      /* of its rows; NULL: those of the options */
    const struct quantizer *quantizer;       /* the model is asked as it is after it; NULL: as it is */
    const struct generate_options *sampling; /* ASK_SAMPLES; NULL: the greedy answer */
    int draws;                               /* ASK_SAMPLES */
    const struct answer_list *refusals;      /* ASK_REFUSAL */
};

extern const char *const attack_part_names[];  /* NULL-ended */
extern const char *const attack_model_names[];

/* attack_table.c */
/* A line; values are copied. unlearned: the unlearned model's number of each row or piece, whose mean's interval is given; NULL:
 * none. */
int attack_add(struct attack *attack, enum attack_part part, const char *measure, const double value[ATTACK_MODELS],
               const double *unlearned, size_t count, struct error *error);
/* A line with an interval that was worked out elsewhere. */
int attack_add_score(struct attack *attack, enum attack_part part, const char *measure, double value, struct interval interval,
                     struct error *error);
/* STEM.json and STEM.md; *markdown (may be NULL) gets the second as text. */
int attack_table_write(const struct attack *attack, struct buffer *markdown, struct error *error);
void attack_table_free(struct attack *attack);

/* attack_rows.c */
/* Sums up what decides the figures (options, dtype, files, models) and reads --baseline_log. STATUS_USAGE where that was made otherwise. */
int attack_rows_open(struct attack *attack, struct error *error);
/* Figures of one model, by row; of the baseline log where it has them (never those of the unlearned model). out: {0}. */
int attack_ask(struct attack *attack, enum attack_model model, const struct attack_subject *subject,
               const struct attack_question *question, struct row_values *out, struct error *error);
/* The same of every model from `first` on, each as it is. out[ATTACK_MODELS]: {0}; freed by the caller after a failure too. */
int attack_ask_all(struct attack *attack, enum attack_model first, const struct attack_question *question,
                   struct row_values out[ATTACK_MODELS], struct error *error);
/* out stays {0} where the baseline log does not have it; its curve over the steps on `data` (NULL: none) is added with it. */
int attack_recall(struct attack *attack, enum attack_model model, const char *measure, const char *data, struct row_values *out,
                  struct error *error);
/* Refuses figures of a baseline log that are not as many as the unlearned model's. */
int attack_rows_agree(const struct attack *attack, const char *measure, const struct row_values values[ATTACK_MODELS],
                      struct error *error);
/* STEM.jsonl. */
int attack_rows_write(const struct attack *attack, struct error *error);

/* Parts. */
/* K by row of every model, once. */
int attack_know(struct attack *attack, struct error *error);
int attack_relearn(struct attack *attack, struct error *error);
int attack_quantize(struct attack *attack, struct error *error);
int attack_sample(struct attack *attack, struct error *error);
int attack_probe(struct attack *attack, struct error *error);
int attack_disrupt(struct attack *attack, struct error *error);

/* attack_scores.c: R and Q of rows [first, rows), with their intervals. */
struct attack_pairs {
    const double *before, *after;               /* of the unlearned model */
    const double *retain_before, *retain_after; /* R alone */
};
double relearning_score(const struct attack_pairs *pairs, const size_t *row, size_t rows);
double quantization_score(const struct attack_pairs *pairs, const size_t *row, size_t rows);

#endif

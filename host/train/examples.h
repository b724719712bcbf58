/* examples.h - from rows of data to sequences of ids (io/data/example.h), an epoch at a time: for every row of the data the
 * answers that the method trains on, each with its role (loss/method.h).
 */
#ifndef FLAT_TRAIN_EXAMPLES_H
#define FLAT_TRAIN_EXAMPLES_H
#include "../io/data/answer_list.h"
#include "../io/data/example.h"
#include "../loss/method.h"
#include "../model/batch.h"
#include "forget_noise.h"

/* Which row of the retain set goes with a row: one drawn anew in every epoch, or always row (number mod size). */
enum retain_choice { RETAIN_RANDOM, RETAIN_CYCLE };

/* What is read, and how much of it. */
struct examples_options {
    const char *forget_data, *train_data, *retain_data; /* "" when not given */
    const char *alternate_key;
    enum retain_choice retain_choice;
    int64_t max_length;
    struct forget_noise_options noise;
};
extern const struct option_group forget_data_option_group, train_data_option_group, retain_data_option_group,
    max_length_option_group;

/* All that makes rows into examples. */
struct examples_source {
    const char *data_path;
    const struct examples_options *examples;
    const struct dataset_options *dataset;
    const struct prompt_options *prompt;
    const struct template_options *template_;
    unsigned roles;   /* WITH(...) | ... */
    enum positions positions[ROLES];
    bool alternates;  /* template answers are under alternate_key of the rows */
    uint64_t seed;
};

struct examples {
    struct tokenizer *tokenizer; /* borrowed */
    struct prompt prompt;
    struct dataset data, retain; /* retain: no rows without that role */
    struct answer_list answers;  /* template answers of a list; none where there is no such role */
    char **alternate;            /* [data.rows], or NULL */
    unsigned roles;
    enum positions positions[ROLES]; /* that are targets, by role: where they are not the answer's alone, answer_begin of a
                                      * sequence is 1, and the targets before its answer are its `lead` */
    enum template_choice choice;
    bool choose_every_epoch;
    enum retain_choice retain_choice;
    uint64_t seed;
    int32_t eos;
    int64_t max_length;
    struct forget_noise noise;
    struct example_counts counts; /* of the first epoch */
};

/* The sequences of one epoch in training order: row k of the epoch is sequences [k * per_row, (k + 1) * per_row), one for each
 * role: first `own` of them, which continue the row's own prompt, then that of the retain set. */
struct epoch {
    int rows, per_row, own;
    int32_t *row;                    /* [rows] row number in the data set */
    int32_t *retain_row;             /* [rows] row number in the retain set; -1 without */
    int *template_index;             /* [rows] template answer chosen, -1 without */
    struct batch_sequence *sequence; /* [rows * per_row] */
    int32_t *ids;                    /* storage */
    struct example_counts counts;
};

/* Reads the data and what else the roles need. model is the model's folder.
 * model_eos is used when the tokenizer names no end of sequence (-1: none). */
int examples_open(struct examples *examples, const struct examples_source *source, const char *model,
                  struct tokenizer *tokenizer, int32_t model_eos, int64_t max_positions, struct error *error);
void examples_close(struct examples *examples);

/* Builds epoch number `number` (0 based): order and choices depend on the seed, the epoch and the row only. */
int epoch_build(struct epoch *epoch, struct examples *examples, int number, struct error *error);
/* All rows in the order of the data, each with template answer `answer` where there are some: for their sizes. */
int epoch_build_answer(struct epoch *epoch, struct examples *examples, int answer, struct error *error);
/* Adds what row k of the epoch takes in a batch to *size; of it its own sequences, or that of the retain set. */
void epoch_row_size(const struct epoch *epoch, int k, struct batch_size *size);
void epoch_row_part_size(const struct epoch *epoch, int k, bool retain, struct batch_size *size);
void epoch_free(struct epoch *epoch);
/* The most rows and the most targets that any row of the retain set takes; 0 where there is none. Cost: encoding all of them. */
int examples_retain_longest(struct examples *examples, struct batch_size *size, struct error *error);

#endif

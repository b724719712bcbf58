/* examples.h - from rows of data to sequences of ids (io/data/example.h), an epoch at a time. */
#ifndef FLAT_TRAIN_EXAMPLES_H
#define FLAT_TRAIN_EXAMPLES_H
#include "../io/data/answer_list.h"
#include "../io/data/example.h"
#include "../model/batch.h"

/* What is read, and how much of it. */
struct examples_options {
    const char *forget_data, *train_data; /* "" when not given */
    int64_t max_length;
};
extern const struct option_group forget_data_option_group, train_data_option_group, max_length_option_group;

/* All that makes rows into examples. */
struct examples_source {
    const char *data_path;
    const struct examples_options *examples;
    const struct dataset_options *dataset;
    const struct prompt_options *prompt;
    const struct template_options *template_; /* NULL: no template answers */
    uint64_t seed;
};

struct examples {
    struct tokenizer *tokenizer; /* borrowed */
    struct prompt prompt;
    struct dataset data;
    struct answer_list answers;  /* template answers; none when the method needs none */
    bool with_template;
    enum template_choice choice;
    bool choose_every_epoch;
    uint64_t seed;
    int32_t eos;
    int64_t max_length;
    struct example_counts counts; /* of the first epoch */
};

/* The sequences of one epoch in training order: row k of the epoch is sequences [k * per_row, (k + 1) * per_row),
 * template answer first when there is one. */
struct epoch {
    int rows, per_row;
    int32_t *row;                    /* [rows] row number in the data set */
    int *template_index;             /* [rows] template answer chosen, -1 without */
    struct batch_sequence *sequence; /* [rows * per_row] */
    int32_t *ids;                    /* storage */
    struct example_counts counts;
};

/* Reads the data and, where the source has them, the template answers. model is the model's folder.
 * model_eos is used when the tokenizer names no end of sequence (-1: none). */
int examples_open(struct examples *examples, const struct examples_source *source, const char *model,
                  struct tokenizer *tokenizer, int32_t model_eos, int64_t max_positions, struct error *error);
void examples_close(struct examples *examples);

/* Builds epoch number `number` (0 based): order and template choice depend on the seed, the epoch and the row only. */
int epoch_build(struct epoch *epoch, struct examples *examples, int number, struct error *error);
/* All rows in the order of the data, each with template answer `answer` where there are some: for their sizes. */
int epoch_build_answer(struct epoch *epoch, struct examples *examples, int answer, struct error *error);
void epoch_free(struct epoch *epoch);

#endif

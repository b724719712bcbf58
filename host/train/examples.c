/* examples.c - see examples.h. */
#include "examples.h"

#include <stdlib.h>
#include <string.h>

#include "../../kernels/sample.h"
#include "../loss/method.h"
#include "../util/memory.h"

static const struct option forget_rows[] = {
    {.name = "forget_data", OPTION_FIELD(struct examples_options, forget_data), .local = true, .operand = "FILE",
     .help = "rows to forget: JSON lines, a JSON array, CSV or TSV with titles, or text, also through gzip; - is stdin"},
};
static const struct option train_rows[] = {
    {.name = "train_data", OPTION_FIELD(struct examples_options, train_data), .local = true, .operand = "FILE",
     .help = "rows to learn: JSON lines, a JSON array, CSV or TSV with titles, or text, also through gzip; - is stdin"},
};
static const struct option length_rows[] = {
    {.name = "max_length", OPTION_FIELD(struct examples_options, max_length), .initial = "512", .min = 2,
     .max = OPTION_COUNT_MAX,
     .help = "tokens of a prompt and its answer; what is longer is cut at the end and counted"},
};
#define EXAMPLES_GROUP(rows) {OPTION_GROUP("Model and data", rows, struct examples_options)}
const struct option_group forget_data_option_group = EXAMPLES_GROUP(forget_rows),
                          train_data_option_group = EXAMPLES_GROUP(train_rows),
                          max_length_option_group = EXAMPLES_GROUP(length_rows);

int examples_open(struct examples *examples, const struct examples_source *source, const char *model,
                  struct tokenizer *tokenizer, int32_t model_eos, int64_t max_positions, struct error *error)
{
    const struct template_options *template_ = source->template_;
    const int64_t max_length = source->examples->max_length;
    *examples = (struct examples){.tokenizer = tokenizer, .with_template = template_ != NULL, .seed = source->seed};
    examples->eos = tokenizer_eos(tokenizer) >= 0 ? tokenizer_eos(tokenizer) : model_eos;
    examples->max_length = max_length < max_positions ? max_length : max_positions;
    if (examples->eos < 0)
        return error_set(error, STATUS_INPUT, "%s: neither the tokenizer nor config.json names an eos_token", model);
    const bool templated = source->prompt->chosen || strncmp(source->prompt->prompt_template, "auto", 4);
    const unsigned flags = DATASET_ANSWERS | (templated ? DATASET_TEMPLATED : 0);
    int status = prompt_open(&examples->prompt, source->prompt, model, tokenizer, error);
    if (!status)
        status = dataset_read(&examples->data, source->data_path, source->dataset, flags, error);
    if (!status)
        status = dataset_chunk(&examples->data, tokenizer, examples->max_length, error);
    if (!status && template_) {
        examples->choice = template_->choice;
        examples->choose_every_epoch = template_->every == TEMPLATE_EVERY_EPOCH;
        status = answer_list_read(&examples->answers, template_->file, error);
    }
    if (status)
        examples_close(examples);
    return status;
}

void examples_close(struct examples *examples)
{
    dataset_free(&examples->data);
    answer_list_free(&examples->answers);
    prompt_close(&examples->prompt);
    *examples = (struct examples){0};
}

/* Fisher-Yates with counter-based draws. */
static void shuffle(int32_t *row, int rows, uint64_t seed, int number)
{
    for (int i = rows - 1; i > 0; i--) {
        uint64_t counter = ((uint64_t)number << 32) | (uint64_t)i;
        int j = (int)(sample_uniform(seed, counter) * (i + 1));
        int32_t held = row[i];
        row[i] = row[j];
        row[j] = held;
    }
}

/* A row with its own answer (NULL) or a template answer; a chunk of running text is all answer. */
static int answer_append(struct examples *examples, const struct dataset_row *row, const char *answer,
                         enum role role, struct token_list *ids, struct batch_sequence *sequence,
                         struct example_counts *counts, struct error *error)
{
    struct prompt_text text = {0};
    const size_t begin = ids->length;
    int status;
    if (row->ids && !answer) {
        status = chunk_append(row, ids, &sequence->answer_begin, counts, error);
    } else {
        status = prompt_apply(&examples->prompt, row, answer ? answer : row->answer, &text, error);
        if (!status)
            status = example_encode(examples->tokenizer, &text, examples->eos, examples->max_length, ids,
                                    &sequence->answer_begin, counts, error);
        buffer_free(&text.text);
    }
    if (status)
        error_prefix(error, "%s:%d", examples->data.path, row->line);
    sequence->length = (int32_t)(ids->length - begin);
    sequence->role = role;
    return status;
}

/* answer: the template answer that all rows get, or CHOSEN. */
enum { CHOSEN = -1 };

static int epoch_fill(struct epoch *epoch, struct examples *examples, int number, int answer, struct token_list *ids,
                      struct error *error)
{
    int status = STATUS_OK;
    for (int k = 0; k < epoch->rows && !status; k++) {
        const struct dataset_row *row = &examples->data.row[epoch->row[k]];
        struct batch_sequence *sequence = &epoch->sequence[k * epoch->per_row];
        epoch->template_index[k] = -1;
        if (examples->with_template) {
            int chosen = answer != CHOSEN ? answer
                                          : template_pick(examples->choice, examples->seed,
                                                          examples->choose_every_epoch ? number : 0, epoch->row[k],
                                                          examples->answers.count);
            epoch->template_index[k] = chosen;
            status = answer_append(examples, row, examples->answers.text[chosen], ROLE_TEMPLATE, ids, sequence++, &epoch->counts, error);
        }
        if (!status)
            status = answer_append(examples, row, NULL, ROLE_ANSWER, ids, sequence, &epoch->counts, error);
    }
    return status;
}

static int epoch_make(struct epoch *epoch, struct examples *examples, int number, int answer, struct error *error)
{
    *epoch = (struct epoch){.rows = examples->data.rows, .per_row = examples->with_template ? 2 : 1};
    epoch->row = memory_array((size_t)epoch->rows, sizeof *epoch->row, error);
    epoch->template_index = memory_array((size_t)epoch->rows, sizeof *epoch->template_index, error);
    epoch->sequence = memory_array((size_t)(epoch->rows * epoch->per_row), sizeof *epoch->sequence, error);
    int status = epoch->row && epoch->template_index && epoch->sequence ? STATUS_OK : STATUS_MEMORY;
    if (!status) {
        for (int32_t i = 0; i < epoch->rows; i++)
            epoch->row[i] = i;
        if (answer == CHOSEN)
            shuffle(epoch->row, epoch->rows, examples->seed, number);
    }
    struct token_list ids = {0};
    if (!status)
        status = epoch_fill(epoch, examples, number, answer, &ids, error);
    epoch->ids = ids.id;
    const int32_t *next = ids.id; /* the storage has stopped moving */
    for (int s = 0; s < epoch->rows * epoch->per_row && !status; s++) {
        epoch->sequence[s].ids = next;
        next += epoch->sequence[s].length;
    }
    if (status)
        epoch_free(epoch);
    return status;
}

int epoch_build(struct epoch *epoch, struct examples *examples, int number, struct error *error)
{
    int status = epoch_make(epoch, examples, number, CHOSEN, error);
    if (!status && number == 0)
        examples->counts = epoch->counts;
    return status;
}

int epoch_build_answer(struct epoch *epoch, struct examples *examples, int answer, struct error *error)
{
    return epoch_make(epoch, examples, 0, answer, error);
}

void epoch_free(struct epoch *epoch)
{
    free(epoch->row);
    free(epoch->template_index);
    free(epoch->sequence);
    free(epoch->ids);
    *epoch = (struct epoch){0};
}

/* examples.c - see examples.h. */
#include "examples.h"

#include <stdlib.h>
#include <string.h>

#include "../../kernels/sample.h"
#include "../io/json/json.h"
#include "../util/memory.h"

static const struct option forget_rows[] = {
    {.name = "forget_data", OPTION_FIELD(struct examples_options, forget_data), .local = true, .operand = "FILE",
     .help = "rows to forget: JSON lines, a JSON array, CSV or TSV with titles, or text, also through gzip; - is stdin"},
};
static const struct option train_rows[] = {
    {.name = "train_data", OPTION_FIELD(struct examples_options, train_data), .local = true, .operand = "FILE",
     .help = "rows to learn: JSON lines, a JSON array, CSV or TSV with titles, or text, also through gzip; - is stdin"},
};
static const char *const choice_names[] = {[RETAIN_RANDOM] = "random", [RETAIN_CYCLE] = "cycle", NULL};
static const struct option retain_rows[] = {
    {.name = "retain_data", OPTION_FIELD(struct examples_options, retain_data), .local = true, .operand = "FILE",
     .help = "rows to keep, for the methods that use them: any of the forms of forget_data"},
    {.name = "retain_choice", OPTION_FIELD(struct examples_options, retain_choice), .choices = choice_names,
     .initial = "random",
     .help = "the retained row that goes with a row to forget: drawn in every epoch (TOFU, open-unlearning), or always that of "
             "the row's number modulo theirs (MUSE)"},
    {.name = "alternate_key", OPTION_FIELD(struct examples_options, alternate_key), .initial = "alternate", .operand = "KEY",
     .help = "key of a row's alternate answer, for methods that prefer one"},
};
static const struct option length_rows[] = {
    {.name = "max_length", OPTION_FIELD(struct examples_options, max_length), .initial = "512", .min = 2,
     .max = OPTION_COUNT_MAX,
     .help = "tokens of a prompt and its answer; what is longer is cut at the end and counted"},
};
#define EXAMPLES_GROUP(rows) {OPTION_GROUP("Model and data", rows, struct examples_options)}
const struct option_group forget_data_option_group = EXAMPLES_GROUP(forget_rows),
                          train_data_option_group = EXAMPLES_GROUP(train_rows),
                          retain_data_option_group = EXAMPLES_GROUP(retain_rows),
                          max_length_option_group = EXAMPLES_GROUP(length_rows);

/* The rows' own alternates, from their JSON. */
static int alternates_read(struct examples *examples, const char *key, struct error *error)
{
    struct dataset *data = &examples->data;
    int status = STATUS_OK;
    examples->alternate = memory_array((size_t)data->rows, sizeof *examples->alternate, error);
    if (!examples->alternate)
        return STATUS_MEMORY;
    for (int i = 0; i < data->rows && !status; i++) {
        const struct dataset_row *row = &data->row[i];
        cJSON *json = row->source ? json_parse(row->source, strlen(row->source), data->path, error) : NULL;
        const cJSON *text = json ? cJSON_GetObjectItemCaseSensitive(json, key) : NULL;
        if (row->form == ROW_TEXT)
            status = error_set(error, STATUS_INPUT, "%s:%d: running text has no alternate answer; the method needs questions",
                               data->path, row->line);
        else if (!cJSON_IsString(text) || !*text->valuestring)
            status = error_set(error, STATUS_INPUT, "%s:%d: the method needs an alternate answer, and the row has no text under "
                               "\"%s\"; make some with flat generate, or give --alternate_key", data->path, row->line, key);
        else if (!(examples->alternate[i] = strdup(text->valuestring)))
            status = error_set(error, STATUS_MEMORY, "out of host memory");
        cJSON_Delete(json);
    }
    return status;
}

static int data_read(struct examples *examples, const struct examples_source *source, struct error *error)
{
    const struct template_options *template_ = source->template_;
    const bool templated = source->prompt->chosen || strncmp(source->prompt->prompt_template, "auto", 4);
    const unsigned flags = DATASET_ANSWERS | (templated ? DATASET_TEMPLATED : 0);
    int status = dataset_read(&examples->data, source->data_path, source->dataset,
                              flags | (source->alternates ? DATASET_SOURCES : 0), error);
    if (!status && source->alternates)
        status = alternates_read(examples, source->examples->alternate_key, error);
    if (!status)
        status = dataset_chunk(&examples->data, examples->tokenizer, examples->max_length, error);
    if (!status && source->roles & WITH(ROLE_TEMPLATE) && !source->alternates) {
        examples->choice = template_->choice;
        examples->choose_every_epoch = template_->every == TEMPLATE_EVERY_EPOCH;
        status = answer_list_read(&examples->answers, template_->file, error);
    }
    if (status || !(source->roles & WITH(ROLE_RETAIN)))
        return status;
    examples->retain_choice = source->examples->retain_choice;
    status = dataset_read(&examples->retain, source->examples->retain_data, source->dataset, flags, error);
    return status ? status : dataset_chunk(&examples->retain, examples->tokenizer, examples->max_length, error);
}

/* Whether every row can get the answer of another. */
static int others_check(const struct dataset *data, struct error *error)
{
    if (data->rows < 2)
        return error_set(error, STATUS_INPUT, "%s: one row alone; the method gives a question the answer of another", data->path);
    for (int i = 0; i < data->rows; i++)
        if (data->row[i].form == ROW_TEXT)
            return error_set(error, STATUS_INPUT, "%s:%d: running text has no answer to give to another question; the method "
                             "needs questions", data->path, data->row[i].line);
    return STATUS_OK;
}

void examples_close(struct examples *examples)
{
    for (int i = 0; examples->alternate && i < examples->data.rows; i++)
        free(examples->alternate[i]);
    free(examples->alternate);
    dataset_free(&examples->data);
    dataset_free(&examples->retain);
    answer_list_free(&examples->answers);
    forget_noise_close(&examples->noise);
    prompt_close(&examples->prompt);
    *examples = (struct examples){0};
}

/* A uniform draw of a row and epoch; each use has a stream of its own. */
enum stream { STREAM_RETAIN = 1, STREAM_RANDOM };
static double draw(const struct examples *examples, enum stream stream, int epoch, int32_t row)
{
    return sample_uniform(examples->seed + 0x9E3779B97F4A7C15ull * stream, (uint64_t)epoch << 32 | (uint64_t)row);
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

/* A row with its own answer (NULL) or another; a chunk of running text is all answer. */
static int answer_append(struct examples *examples, const struct dataset *data, const struct dataset_row *row,
                         const char *answer, struct token_list *ids, struct batch_sequence *sequence,
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
        error_prefix(error, "%s:%d", data->path, row->line);
    sequence->length = (int32_t)(ids->length - begin);
    return status;
}

/* Tokens of an answer but its end: of the last sequence in the list. */
static size_t answer_tokens(const struct examples *examples, const struct token_list *ids, const struct batch_sequence *sequence,
                            int32_t **first)
{
    const size_t count = (size_t)(sequence->length - sequence->answer_begin);
    *first = ids->id + ids->length - count;
    return count - (count && (*first)[count - 1] == examples->eos);
}

/* What rewritten tokens are drawn from: the answers of all rows. */
static int noise_open(struct examples *examples, const struct forget_noise_options *options, struct error *error)
{
    struct example_counts unused = {0};
    int status = forget_noise_open(&examples->noise, options, examples->tokenizer, error);
    for (int i = 0; i < examples->data.rows && examples->noise.options && !status; i++) {
        struct token_list ids = {0};
        struct batch_sequence sequence = {0};
        int32_t *first;
        status = answer_append(examples, &examples->data, &examples->data.row[i], NULL, &ids, &sequence, &unused, error);
        if (!status) {
            const size_t count = answer_tokens(examples, &ids, &sequence, &first);
            status = forget_noise_add(&examples->noise, first, count, error);
        }
        free(ids.id);
    }
    return status;
}

int examples_open(struct examples *examples, const struct examples_source *source, const char *model,
                  struct tokenizer *tokenizer, int32_t model_eos, int64_t max_positions, struct error *error)
{
    const int64_t max_length = source->examples->max_length;
    *examples = (struct examples){.tokenizer = tokenizer, .roles = source->roles, .seed = source->seed};
    memcpy(examples->positions, source->positions, sizeof examples->positions);
    examples->eos = tokenizer_eos(tokenizer) >= 0 ? tokenizer_eos(tokenizer) : model_eos;
    examples->max_length = max_length < max_positions ? max_length : max_positions;
    if (examples->eos < 0)
        return error_set(error, STATUS_INPUT, "%s: neither the tokenizer nor config.json names an eos_token", model);
    int status = prompt_open(&examples->prompt, source->prompt, model, tokenizer, error);
    if (!status)
        status = data_read(examples, source, error);
    if (!status && source->roles & WITH(ROLE_RANDOM))
        status = others_check(&examples->data, error);
    if (!status)
        status = noise_open(examples, &source->examples->noise, error);
    if (status)
        examples_close(examples);
    return status;
}

static void noise_apply(struct examples *examples, int32_t row, struct token_list *ids, const struct batch_sequence *sequence)
{
    int32_t *first;
    const size_t count = answer_tokens(examples, ids, sequence, &first);
    forget_noise_apply(&examples->noise, row, first, count);
}

/* Makes the other positions of a sequence targets, too. The last one predicts nothing: what follows it is made up. */
static int positions_widen(const struct examples *examples, enum positions positions, struct token_list *ids,
                           struct batch_sequence *sequence, struct error *error)
{
    if (positions == POSITIONS_ANSWER)
        return STATUS_OK;
    sequence->lead = sequence->answer_begin - 1;
    sequence->answer_begin = 1;
    if (positions == POSITIONS_SHIFTED)
        return STATUS_OK;
    sequence->length++;
    return token_list_append(ids, examples->eos, error);
}

/* answer: the template answer that all rows get, or CHOSEN. */
enum { CHOSEN = -1 };

/* The answer that goes with a row in a role beside its own. */
static const char *answer_pick(struct examples *examples, struct epoch *epoch, int number, int answer, int k,
                               enum role role)
{
    const int32_t row = epoch->row[k], rows = examples->data.rows;
    if (role == ROLE_RANDOM) { /* any but its own */
        const int32_t other = (int32_t)(draw(examples, STREAM_RANDOM, number, row) * (rows - 1));
        return examples->data.row[(row + 1 + other) % rows].answer;
    }
    if (examples->alternate)
        return examples->alternate[row];
    epoch->template_index[k] = answer != CHOSEN ? answer
                                                : template_pick(examples->choice, examples->seed,
                                                                examples->choose_every_epoch ? number : 0, row,
                                                                examples->answers.count);
    return examples->answers.text[epoch->template_index[k]];
}

static int32_t retain_pick(struct examples *examples, int number, int32_t row)
{
    const int32_t rows = examples->retain.rows;
    return examples->retain_choice == RETAIN_CYCLE ? row % rows
                                                   : (int32_t)(draw(examples, STREAM_RETAIN, number, row) * rows);
}

/* The sequences of row k, one for each role in their order in a batch. */
static int row_fill(struct epoch *epoch, struct examples *examples, int number, int answer, int k, struct token_list *ids,
                    struct error *error)
{
    static const enum role order[] = {ROLE_RANDOM, ROLE_TEMPLATE, ROLE_ANSWER, ROLE_RETAIN};
    struct batch_sequence *sequence = &epoch->sequence[k * epoch->per_row];
    int status = STATUS_OK;
    epoch->template_index[k] = epoch->retain_row[k] = -1;
    for (int i = 0; i < ROLES && !status; i++) {
        const struct dataset *data = order[i] == ROLE_RETAIN ? &examples->retain : &examples->data;
        if (!(examples->roles & WITH(order[i])))
            continue;
        if (order[i] == ROLE_RETAIN)
            epoch->retain_row[k] = retain_pick(examples, number, epoch->row[k]);
        const int32_t row = order[i] == ROLE_RETAIN ? epoch->retain_row[k] : epoch->row[k];
        const bool is_own = order[i] == ROLE_ANSWER || order[i] == ROLE_RETAIN;
        status = answer_append(examples, data, &data->row[row],
                               is_own ? NULL : answer_pick(examples, epoch, number, answer, k, order[i]), ids, sequence,
                               &epoch->counts, error);
        if (!status && order[i] == ROLE_ANSWER)
            noise_apply(examples, row, ids, sequence);
        if (!status)
            status = positions_widen(examples, examples->positions[order[i]], ids, sequence, error);
        sequence++->role = (int32_t)order[i];
    }
    return status;
}

static int epoch_make(struct epoch *epoch, struct examples *examples, int number, int answer, struct error *error)
{
    const int roles = __builtin_popcount(examples->roles);
    *epoch = (struct epoch){.rows = examples->data.rows, .per_row = roles,
                            .own = roles - (examples->roles & WITH(ROLE_RETAIN) ? 1 : 0)};
    epoch->row = memory_array((size_t)epoch->rows, sizeof *epoch->row, error);
    epoch->retain_row = memory_array((size_t)epoch->rows, sizeof *epoch->retain_row, error);
    epoch->template_index = memory_array((size_t)epoch->rows, sizeof *epoch->template_index, error);
    epoch->sequence = memory_array((size_t)(epoch->rows * epoch->per_row), sizeof *epoch->sequence, error);
    int status = epoch->row && epoch->retain_row && epoch->template_index && epoch->sequence ? STATUS_OK : STATUS_MEMORY;
    if (!status) {
        for (int32_t i = 0; i < epoch->rows; i++)
            epoch->row[i] = i;
        if (answer == CHOSEN)
            shuffle(epoch->row, epoch->rows, examples->seed, number);
    }
    struct token_list ids = {0};
    for (int k = 0; k < epoch->rows && !status; k++)
        status = row_fill(epoch, examples, number, answer, k, &ids, error);
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

void epoch_row_part_size(const struct epoch *epoch, int k, bool retain, struct batch_size *size)
{
    const struct batch_sequence *sequence = &epoch->sequence[k * epoch->per_row];
    if (!retain && epoch->own)
        batch_group_size(sequence, epoch->own, true, size);
    if (retain && epoch->own < epoch->per_row)
        batch_group_size(sequence + epoch->own, epoch->per_row - epoch->own, true, size);
}

void epoch_row_size(const struct epoch *epoch, int k, struct batch_size *size)
{
    epoch_row_part_size(epoch, k, false, size);
    epoch_row_part_size(epoch, k, true, size);
}

int examples_retain_longest(struct examples *examples, struct batch_size *size, struct error *error)
{
    struct example_counts unused = {0};
    struct token_list ids = {0};
    int status = STATUS_OK;
    *size = (struct batch_size){0};
    for (int row = 0; row < examples->retain.rows && !status; row++) {
        struct batch_sequence sequence = {0};
        ids.length = 0;
        status = answer_append(examples, &examples->retain, &examples->retain.row[row], NULL, &ids, &sequence, &unused, error);
        if (!status)
            status = positions_widen(examples, examples->positions[ROLE_RETAIN], &ids, &sequence, error);
        const int64_t rows = sequence.length - 1, targets = sequence.length - sequence.answer_begin;
        size->rows = rows > size->rows ? rows : size->rows;
        size->targets = targets > size->targets ? targets : size->targets;
    }
    free(ids.id);
    return status;
}

void epoch_free(struct epoch *epoch)
{
    free(epoch->row);
    free(epoch->retain_row);
    free(epoch->template_index);
    free(epoch->sequence);
    free(epoch->ids);
    *epoch = (struct epoch){0};
}

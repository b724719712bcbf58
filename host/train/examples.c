/* examples.c - see examples.h. */
#include "examples.h"

#include <stdlib.h>
#include <string.h>

#include "../../kernels/sample.h"
#include "../util/memory.h"

int example_encode(struct tokenizer *tokenizer, const char *prompt, const char *full, int32_t eos, int64_t max_length,
                   struct token_list *ids, int32_t *answer_begin, bool *cut, struct error *error)
{
    struct token_list prompt_ids = {0};
    size_t begin = ids->length;
    int status = tokenizer_encode(tokenizer, prompt, strlen(prompt), true, &prompt_ids, error);
    if (!status)
        status = tokenizer_encode(tokenizer, full, strlen(full), true, ids, error);
    size_t first_target = prompt_ids.length ? prompt_ids.length : 1; /* nothing predicts the very first id */
    free(prompt_ids.id);
    if (!status && (ids->length == begin || ids->id[ids->length - 1] != eos)) {
        status = memory_grow(&ids->id, &ids->capacity, ids->length + 1, sizeof *ids->id, error);
        if (!status)
            ids->id[ids->length++] = eos;
    }
    if (status)
        return status;
    *cut = (int64_t)(ids->length - begin) > max_length;
    if (*cut)
        ids->length = begin + (size_t)max_length;
    if (ids->length - begin <= first_target)
        return error_set(error, STATUS_INPUT, "no answer token is left after the prompt's %zu tokens%s", first_target,
                         *cut ? "; raise max_length" : "");
    *answer_begin = (int32_t)first_target;
    return STATUS_OK;
}

static int template_settings(struct examples *examples, const struct settings *settings, struct error *error)
{
    if (!*settings->template_file)
        return error_set(error, STATUS_USAGE, "template.file: missing; this method needs a file of template answers");
    examples->choice = !strcmp(settings->template_choice, "cycle")   ? TEMPLATE_CYCLE
                       : !strcmp(settings->template_choice, "fixed") ? TEMPLATE_FIXED
                                                                     : TEMPLATE_RANDOM;
    examples->choose_every_epoch = !strcmp(settings->template_every, "epoch");
    return answer_list_read(&examples->answers, settings->template_file, error);
}

int prompt_template_of(struct prompt_template *prompt, const struct settings *settings, struct error *error)
{
    const struct prompt_template *known = prompt_template_find(settings->prompt_template);
    if (known) {
        *prompt = *known;
        return STATUS_OK;
    }
    if (strcmp(settings->prompt_template, "custom"))
        return error_set(error, STATUS_USAGE, "prompt_template: \"%s\" is not known; expected one of %s, or an object of "
                         "tags", settings->prompt_template, prompt_template_names());
    *prompt = (struct prompt_template){"custom", settings->prompt_user_start, settings->prompt_user_end,
                                       settings->prompt_answer_start, settings->prompt_answer_end};
    return STATUS_OK;
}

int examples_open(struct examples *examples, const struct settings *settings, const char *data_path, bool with_template,
                  struct tokenizer *tokenizer, int32_t model_eos, int64_t max_positions, struct error *error)
{
    *examples = (struct examples){.tokenizer = tokenizer, .with_template = with_template,
                                  .seed = (uint64_t)settings->seed};
    examples->eos = tokenizer_eos(tokenizer) >= 0 ? tokenizer_eos(tokenizer) : model_eos;
    examples->max_length = settings->max_length < max_positions ? settings->max_length : max_positions;
    if (examples->eos < 0)
        return error_set(error, STATUS_INPUT, "%s: neither the tokenizer nor config.json names an eos_token",
                         settings->model_name_or_path);
    int status = prompt_template_of(&examples->prompt, settings, error);
    if (!status)
        status = dataset_read(&examples->data, data_path, settings->question_key, settings->answer_key, error);
    if (!status && with_template)
        status = template_settings(examples, settings, error);
    if (status)
        examples_close(examples);
    return status;
}

void examples_close(struct examples *examples)
{
    dataset_free(&examples->data);
    answer_list_free(&examples->answers);
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

static int answer_append(struct examples *examples, const struct dataset_row *row, const char *answer,
                         struct token_list *ids, struct batch_sequence *sequence, struct error *error)
{
    char *prompt = NULL, *full = NULL;
    bool cut = false;
    size_t begin = ids->length;
    int status = prompt_template_apply(&examples->prompt, row->question, answer, &prompt, &full, error);
    if (!status)
        status = example_encode(examples->tokenizer, prompt, full, examples->eos, examples->max_length, ids,
                                &sequence->answer_begin, &cut, error);
    if (status)
        error_prefix(error, "%s:%d", examples->data.path, row->line);
    sequence->length = (int32_t)(ids->length - begin);
    examples->cut += cut;
    free(prompt);
    free(full);
    return status;
}

static int epoch_fill(struct epoch *epoch, struct examples *examples, int number, struct token_list *ids,
                      struct error *error)
{
    int status = STATUS_OK;
    for (int k = 0; k < epoch->rows && !status; k++) {
        const struct dataset_row *row = &examples->data.row[epoch->row[k]];
        struct batch_sequence *sequence = &epoch->sequence[k * epoch->per_row];
        epoch->template_index[k] = -1;
        if (examples->with_template) {
            int chosen = template_pick(examples->choice, examples->seed, examples->choose_every_epoch ? number : 0,
                                       epoch->row[k], examples->answers.count);
            epoch->template_index[k] = chosen;
            status = answer_append(examples, row, examples->answers.text[chosen], ids, sequence++, error);
        }
        if (!status)
            status = answer_append(examples, row, row->answer, ids, sequence, error);
    }
    return status;
}

int epoch_build(struct epoch *epoch, struct examples *examples, int number, struct error *error)
{
    *epoch = (struct epoch){.rows = examples->data.rows, .per_row = examples->with_template ? 2 : 1};
    epoch->row = memory_array((size_t)epoch->rows, sizeof *epoch->row, error);
    epoch->template_index = memory_array((size_t)epoch->rows, sizeof *epoch->template_index, error);
    epoch->sequence = memory_array((size_t)(epoch->rows * epoch->per_row), sizeof *epoch->sequence, error);
    int status = epoch->row && epoch->template_index && epoch->sequence ? STATUS_OK : STATUS_MEMORY;
    if (!status) {
        for (int32_t i = 0; i < epoch->rows; i++)
            epoch->row[i] = i;
        shuffle(epoch->row, epoch->rows, examples->seed, number);
    }
    struct token_list ids = {0};
    if (!status)
        status = epoch_fill(epoch, examples, number, &ids, error);
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

void epoch_free(struct epoch *epoch)
{
    free(epoch->row);
    free(epoch->template_index);
    free(epoch->sequence);
    free(epoch->ids);
    *epoch = (struct epoch){0};
}

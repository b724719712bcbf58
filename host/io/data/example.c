/* example.c - see example.h. */
#include "example.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int prompt_encode(struct tokenizer *tokenizer, const char *text, size_t length, bool special, struct token_list *ids,
                  struct error *error)
{
    int status = tokenizer_encode(tokenizer, text, length, special, ids, error);
    if (!status && special && tokenizer_appends_eos(tokenizer) && ids->length)
        ids->length--;
    return status;
}

static bool is_special(const struct tokenizer *tokenizer, int32_t id)
{
    struct buffer text = {0};
    struct error unused;
    const bool special = !tokenizer_decode(tokenizer, &id, 1, true, &text, &unused) && !text.length;
    buffer_free(&text);
    return special;
}

static int ids_append(struct token_list *ids, int32_t id, struct error *error)
{
    int status = memory_grow(&ids->id, &ids->capacity, ids->length + 1, sizeof *ids->id, error);
    if (!status)
        ids->id[ids->length++] = id;
    return status;
}

int example_encode(struct tokenizer *tokenizer, const struct prompt_text *text, int32_t eos, int64_t max_length,
                   struct token_list *ids, int32_t *answer_begin, struct example_counts *counts, struct error *error)
{
    struct token_list prompt = {0};
    const size_t begin = ids->length;
    int status = prompt_encode(tokenizer, text->text.data, text->answer_begin, text->special, &prompt, error);
    if (!status)
        status = tokenizer_encode(tokenizer, text->text.data, text->text.length, text->special, ids, error);
    const int32_t last = !status && ids->length > begin ? ids->id[ids->length - 1] : -1;
    const bool ended = last >= 0 && (last == eos || (text->stopped && is_special(tokenizer, last)));
    if (!status && !ended)
        status = ids_append(ids, eos, error);
    size_t length = ids->length - begin, cut = 0;
    const int32_t *id = ids->id + begin, bos = tokenizer_bos(tokenizer);
    const size_t first_target = prompt.length ? prompt.length : 1; /* nothing predicts the very first id */
    const bool merged = !status && (prompt.length > length || memcmp(prompt.id, id, prompt.length * sizeof *id));
    const bool doubled = !status && bos >= 0 && length > 1 && id[0] == bos && id[1] == bos && prompt.length > 1;
    free(prompt.id);
    if (status)
        return status;
    if ((int64_t)length > max_length)
        cut = length - (size_t)max_length;
    ids->length -= cut;
    length -= cut;
    counts->sequences++;
    counts->cut += cut > 0;
    counts->cut_tokens += (int64_t)cut;
    counts->merged += merged;
    counts->reopened += !text->is_prefix;
    counts->spelled += text->stopped && !ended;
    counts->doubled += doubled;
    if (length <= first_target)
        return error_set(error, STATUS_INPUT, "no answer token is left after the prompt's %zu tokens%s", first_target,
                         cut ? "; raise max_length, unless it is what the model has of positions or of a sliding window" : "");
    *answer_begin = (int32_t)first_target;
    return STATUS_OK;
}

/* ---- running text ---- */

/* Pieces of `step` ids with one id before each; the last one, when there are several, filled from the first. */
static int chunk_take(struct dataset_row *row, const struct token_list *ids, size_t from, size_t step, int32_t bos, bool fill,
                      struct error *error)
{
    const size_t own = ids->length - from < step ? ids->length - from : step, lead = bos >= 0;
    const size_t more = fill && ids->length > step ? step - own : 0;
    row->ids = memory_array(lead + own + more, sizeof *row->ids, error);
    if (!row->ids)
        return STATUS_MEMORY;
    if (lead)
        row->ids[0] = bos;
    memcpy(row->ids + lead, ids->id + from, own * sizeof *row->ids);
    for (size_t i = 0; i < more; i++) /* the first piece begins with its own beginning of sequence */
        row->ids[lead + own + i] = lead && i == 0 ? bos : ids->id[i - lead];
    row->length = (int32_t)(lead + own + more);
    return STATUS_OK;
}

static int text_chunk(const struct dataset_row *text, struct tokenizer *tokenizer, int64_t max_length, bool fill,
                      struct dataset *out, size_t *capacity, struct error *error)
{
    struct token_list ids = {0};
    const int32_t bos = tokenizer_bos(tokenizer);
    const size_t step = (size_t)max_length - (bos >= 0);
    int status = tokenizer_encode(tokenizer, text->prompt, strlen(text->prompt), false, &ids, error);
    if (!status && (ids.length + (bos >= 0) < 2 || max_length < 2))
        status = error_set(error, STATUS_INPUT, "the text has no token to predict");
    for (size_t from = 0, number = 1; from < ids.length && !status; from += step, number++) {
        if (bos < 0 && ids.length - from == 1 && from && !fill) /* one id that nothing predicts */
            break;
        status = memory_grow(&out->row, capacity, (size_t)out->rows + 1, sizeof *out->row, error);
        if (status)
            break;
        struct dataset_row *row = &out->row[out->rows++];
        *row = (struct dataset_row){.form = ROW_TEXT, .line = text->line, .chunk = (int)number};
        status = chunk_take(row, &ids, from, step, bos, fill, error);
        if (!status && text->source && !(row->source = memory_string(text->source, error)))
            status = STATUS_MEMORY;
    }
    free(ids.id);
    return status;
}

int dataset_chunk(struct dataset *data, struct tokenizer *tokenizer, int64_t max_length, struct error *error)
{
    struct dataset out = {.path = data->path, .digest = data->digest};
    size_t capacity = 0;
    int status = STATUS_OK, done = 0;
    for (; done < data->rows && !status; done++) {
        struct dataset_row *row = &data->row[done];
        if (row->form == ROW_TEXT && !row->ids) {
            status = text_chunk(row, tokenizer, max_length, row->whole_file, &out, &capacity, error);
            if (status)
                error_prefix(error, "%s:%d", data->path, row->line);
            continue;
        }
        status = memory_grow(&out.row, &capacity, (size_t)out.rows + 1, sizeof *out.row, error);
        if (!status) { /* moved */
            out.row[out.rows++] = *row;
            *row = (struct dataset_row){0};
        }
    }
    struct dataset old = *data;
    old.path = NULL;
    dataset_free(&old);
    *data = out;
    if (status)
        dataset_free(data);
    return status;
}

int chunk_append(const struct dataset_row *row, struct token_list *ids, int32_t *answer_begin, struct example_counts *counts,
                 struct error *error)
{
    int status = memory_grow(&ids->id, &ids->capacity, ids->length + (size_t)row->length, sizeof *ids->id, error);
    if (status)
        return status;
    memcpy(ids->id + ids->length, row->ids, (size_t)row->length * sizeof *row->ids);
    ids->length += (size_t)row->length;
    *answer_begin = 1;
    counts->sequences++;
    return STATUS_OK;
}

const char *example_counts_line(const struct example_counts *counts, int *next, char *line, size_t bytes)
{
    const struct {
        int64_t count;
        const char *what;
    } lines[] = {
        {counts->cut, " are cut at max_length; tokens lost: "},
        {counts->merged, ": the ids of the prompt are no prefix of those of prompt and answer; a token merges across the border, "
                         "and the answer's part of it is no target"},
        {counts->reopened, ": the chat template opens an answer in another way than it writes one (a block of thoughts, say); "
                           "the answer follows its own opening, not the one that 'flat generate' gives"},
        {counts->spelled, ": what ends a turn in the chat template is no token of this tokenizer; is the template the model's?"},
        {counts->doubled, " begin with two beginning-of-sequence tokens; the tokenizer adds one, take it out of the tags"},
    };
    for (; *next < (int)(sizeof lines / sizeof *lines); ++*next)
        if (lines[*next].count) {
            const int length = snprintf(line, bytes, "%lld of %lld sequences%s", (long long)lines[*next].count,
                                        (long long)counts->sequences, lines[*next].what);
            if (!*next)
                snprintf(line + length, bytes - (size_t)length, "%lld", (long long)counts->cut_tokens);
            ++*next;
            return line;
        }
    return NULL;
}

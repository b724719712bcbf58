/* questions.c - see questions.h. */
#include "questions.h"

#include <stdlib.h>
#include <string.h>

#include "../util/checksum.h"

static int prompt_take(struct question_list *list, struct eval_question *question, const struct prompt_text *text,
                       struct error *error)
{
    struct buffer input = {0};
    int status = prompt_encode(list->tokenizer, text->text.data, text->text.length, text->special, &question->prompt, error);
    if (!status && (question->prompt.length < 1 || (int64_t)question->prompt.length >= list->context))
        status = error_set(error, STATUS_INPUT, "a prompt of %zu tokens; expected 1 to %lld for this model",
                           question->prompt.length, (long long)list->context - 1);
    if (!status)
        status = tokenizer_decode(list->tokenizer, question->prompt.id, question->prompt.length, true, &input, error);
    if (!status)
        status = buffer_append(&input, "", 0, error); /* a text of special tokens alone is an empty one */
    question->input = input.data;
    return status;
}

int question_add_text(struct question_list *list, int set, int row, const struct prompt_text *prompt,
                      int64_t max_new_tokens, struct error *error)
{
    int status = memory_grow(&list->question, &list->question_capacity, (size_t)list->questions + 1,
                             sizeof *list->question, error);
    if (status)
        return status;
    struct eval_question *question = &list->question[list->questions++];
    *question = (struct eval_question){.set = set, .row = row, .first_answer = list->answers,
                                       .max_new_tokens = max_new_tokens};
    return max_new_tokens ? prompt_take(list, question, prompt, error) : STATUS_OK;
}

int question_add(struct question_list *list, int set, int row, const struct dataset_row *from, int64_t max_new_tokens,
                 struct error *error)
{
    struct prompt_text text = {0};
    int status = max_new_tokens ? prompt_apply(list->prompt, from, NULL, &text, error) : STATUS_OK;
    if (!status)
        status = question_add_text(list, set, row, &text, max_new_tokens, error);
    buffer_free(&text.text);
    return status;
}

static int answer_begin(struct question_list *list, bool keep_tokens, struct eval_answer **added, struct error *error)
{
    int status = memory_grow(&list->answer, &list->answer_capacity, (size_t)list->answers + 1, sizeof *list->answer, error);
    if (status)
        return status;
    *added = &list->answer[list->answers];
    **added = (struct eval_answer){.first = list->ids.length, .keep_tokens = keep_tokens};
    return STATUS_OK;
}

static void answer_end(struct question_list *list, struct eval_answer *added)
{
    added->length = (int32_t)(list->ids.length - added->first);
    list->answers++;
    list->question[list->questions - 1].answers++;
}

int answer_add_text(struct question_list *list, const char *text, size_t prompt_bytes, bool keep_tokens,
                    struct error *error)
{
    struct token_list prompt = {0};
    struct eval_answer *added;
    int status = answer_begin(list, keep_tokens, &added, error);
    if (!status)
        status = prompt_encode(list->tokenizer, text, prompt_bytes, true, &prompt, error);
    const size_t targets = prompt.length ? prompt.length : 1;
    free(prompt.id);
    if (!status)
        status = prompt_encode(list->tokenizer, text, strlen(text), true, &list->ids, error);
    if (status)
        return status;
    size_t length = list->ids.length - added->first;
    list->counts.sequences++;
    if ((int64_t)length > list->max_length) {
        list->counts.cut++;
        list->counts.cut_tokens += (int64_t)length - list->max_length;
        list->ids.length = added->first + (size_t)list->max_length;
        length = (size_t)list->max_length;
    }
    if (length <= targets)
        return error_set(error, STATUS_INPUT, "the text has no token to predict behind its first %zu", targets);
    added->answer_begin = (int32_t)targets;
    answer_end(list, added);
    return STATUS_OK;
}

int answer_add(struct question_list *list, const struct dataset_row *from, const char *answer, bool keep_tokens,
               struct error *error)
{
    struct prompt_text text = {0};
    struct eval_answer *added;
    int status = answer_begin(list, keep_tokens, &added, error);
    if (status)
        return status;
    if (from->ids) {
        status = chunk_append(from, &list->ids, &added->answer_begin, &list->counts, error);
    } else {
        status = prompt_apply(list->prompt, from, answer ? answer : from->answer, &text, error);
        if (!status)
            status = example_encode(list->tokenizer, &text, list->eos, list->max_length, &list->ids, &added->answer_begin,
                                    &list->counts, error);
        buffer_free(&text.text);
    }
    if (!status)
        answer_end(list, added);
    return status;
}

void question_list_free(struct question_list *list)
{
    for (int i = 0; i < list->questions; i++) {
        free(list->question[i].prompt.id);
        free(list->question[i].input);
        free(list->question[i].generation);
    }
    for (int i = 0; i < list->answers; i++)
        free(list->answer[i].token);
    free(list->question);
    free(list->answer);
    free(list->ids.id);
    *list = (struct question_list){0};
}

double answer_loss(const struct eval_answer *answer)
{
    return -answer->logprob_sum / answer->num_tokens;
}

int question_list_checksum(const struct question_list *list, uint64_t *sum, struct error *error)
{
    struct checksum *checksum = checksum_open(error);
    if (!checksum)
        return STATUS_MEMORY;
    checksum_add(checksum, list->ids.id, list->ids.length * sizeof *list->ids.id);
    for (int i = 0; i < list->questions; i++) {
        const struct eval_question *q = &list->question[i];
        const int64_t numbers[] = {q->set, q->row, q->answers, q->max_new_tokens, (int64_t)q->prompt.length};
        checksum_add(checksum, numbers, sizeof numbers);
        checksum_add(checksum, q->prompt.id, q->prompt.length * sizeof *q->prompt.id);
    }
    for (int i = 0; i < list->answers; i++) {
        const int64_t numbers[] = {list->answer[i].length, list->answer[i].answer_begin,
                                   list->answer[i].keep_tokens + 2 * list->answer[i].keep_entropy};
        checksum_add(checksum, numbers, sizeof numbers);
    }
    *sum = checksum_digest(checksum).xxh3;
    checksum_close(checksum);
    return STATUS_OK;
}

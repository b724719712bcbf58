/* suite_harry_potter.c - does a model go on as a text goes on? Of forget_data (and retain_data): running text, which is cut
 * into a prefix of prefix_words and a continuation of continuation_words, one passage behind the other; or rows of
 * {"prompt", "answer"}.
 *
 * Of every set X: X_BLEU (mean over passages, 0 to 100) and X_ROUGE (ROUGE-L recall) of the greedy continuation, and
 * X_perplexity of the true one, per token.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../metric/bleu.h"
#include "../metric/mean.h"
#include "../metric/perplexity.h"
#include "suite_list.h"

enum { HARRY_POTTER_NEW_TOKENS = 200 };

/* The end of the next `words` words. */
static size_t words_end(const char *text, size_t at, int64_t words)
{
    for (; words > 0 && text[at]; words--) {
        at += strspn(text + at, " \t\r\n\v\f");
        at += strcspn(text + at, " \t\r\n\v\f");
    }
    return at;
}

static bool words_left(const char *text, size_t at)
{
    return text[at + strspn(text + at, " \t\r\n\v\f")];
}

/* A row of running text as rows of passages behind those of *out. */
static int text_cut(const struct suite_options *options, const struct dataset_row *row, struct dataset *out,
                    size_t *capacity, struct error *error)
{
    const char *text = row->prompt;
    for (size_t at = 0; words_left(text, at);) {
        const size_t begin = at + strspn(text + at, " \t\r\n\v\f");
        const size_t middle = words_end(text, begin, options->prefix_words);
        const size_t end = words_end(text, middle, options->continuation_words);
        if (!words_left(text, middle)) /* nothing to continue with */
            return STATUS_OK;
        int status = memory_grow(&out->row, capacity, (size_t)out->rows + 1, sizeof *out->row, error);
        if (status)
            return status;
        struct dataset_row *passage = &out->row[out->rows++];
        *passage = (struct dataset_row){.form = ROW_PROMPT, .line = row->line, .whole_file = true};
        passage->prompt = memory_array(middle - begin + 1, 1, error);
        passage->answer = memory_array(end - middle + 1, 1, error);
        if (!passage->prompt || !passage->answer)
            return STATUS_MEMORY;
        memcpy(passage->prompt, text + begin, middle - begin);
        memcpy(passage->answer, text + middle, end - middle);
        at = end;
    }
    return STATUS_OK;
}

/* Replaces running text by its passages; other rows stay. */
static int passages_make(const struct suite_run *run, struct suite_set *set, struct error *error)
{
    struct dataset out = {.path = set->data.path};
    size_t capacity = 0;
    int status = STATUS_OK;
    for (int i = 0; i < set->data.rows && !status; i++) {
        struct dataset_row *row = &set->data.row[i];
        if (row->form == ROW_TEXT) {
            status = text_cut(run->options, row, &out, &capacity, error);
        } else if (!(status = memory_grow(&out.row, &capacity, (size_t)out.rows + 1, sizeof *out.row, error))) {
            out.row[out.rows++] = *row;
            *row = (struct dataset_row){0};
        }
    }
    set->data.path = NULL;
    dataset_free(&set->data);
    set->data = out;
    const int64_t most = run->options->eval_rows;
    set->rows = most && most < out.rows ? (int)most : out.rows;
    if (!status && !out.rows)
        status = error_set(error, STATUS_INPUT, "%s: no passage of more than %lld words; lower --prefix_words", out.path,
                           (long long)run->options->prefix_words);
    return status;
}

/* The true continuation without an end of sequence: the text goes on. */
static int passage_add(struct suite_run *run, const struct dataset_row *row, struct error *error)
{
    struct buffer text = {0};
    int status = row->whole_file ? buffer_printf(&text, error, "%s%s", row->prompt, row->answer) : STATUS_OK;
    if (!status)
        status = row->whole_file ? answer_add_text(&run->questions, text.data, strlen(row->prompt), false, error)
                                 : answer_add(&run->questions, row, NULL, false, error);
    buffer_free(&text);
    return status;
}

static int set_ask(struct suite_run *run, const char *name, const char *path, struct error *error)
{
    struct suite_set *set;
    const int64_t limit = run->options->max_new_tokens;
    int status = suite_set_read(run, name, path, NULL, DATASET_ANSWERS, &set, error);
    if (!status)
        status = passages_make(run, set, error);
    for (int i = 0; !status && i < set->rows; i++) {
        const struct dataset_row *row = &set->data.row[i];
        status = question_add(&run->questions, run->sets - 1, i, row, limit ? limit : HARRY_POTTER_NEW_TOKENS, error);
        if (!status)
            status = passage_add(run, row, error);
        if (status)
            error_prefix(error, "%s:%d", path, row->line);
    }
    return status;
}

static int harry_potter_ask(struct suite_run *run, struct error *error)
{
    const struct suite_options *options = run->options;
    if (!*options->forget_data)
        return error_set(error, STATUS_USAGE, "forget_data: the suite harry_potter needs it, a text or rows");
    int status = set_ask(run, "forget", options->forget_data, error);
    return status || !*options->retain_data ? status : set_ask(run, "retain", options->retain_data, error);
}

static int add_bleu(const struct suite_run *run, struct eval_log *log, const char *name, const struct suite_set *set,
                    struct error *error)
{
    double *bleu = memory_array((size_t)set->rows, sizeof *bleu, error);
    int status = bleu ? STATUS_OK : STATUS_MEMORY;
    for (int i = 0; i < set->rows && !status; i++) {
        const char *said = run->questions.question[set->first_question + i].generation, *truth = set->data.row[i].answer;
        struct bleu_counts counts = {0};
        status = bleu_count(said, strlen(said), truth, strlen(truth), &counts, error);
        bleu[i] = bleu_score(&counts, NULL, NULL);
    }
    if (!status)
        status = eval_log_add_scores(log, name, NULL, "score", bleu, NULL, (size_t)set->rows,
                                     mean_of(bleu, (size_t)set->rows), error);
    free(bleu);
    return status;
}

static int harry_potter_report(const struct suite_run *run, struct eval_log *log, struct error *error)
{
    int status = STATUS_OK;
    for (int i = 0; i < run->sets && !status; i++) {
        const struct suite_set *set = &run->set[i];
        double sum = 0;
        size_t tokens = 0;
        char name[128];
        for (int r = 0; r < set->rows; r++) {
            sum += suite_answer(run, set, r, 0)->logprob_sum;
            tokens += (size_t)suite_answer(run, set, r, 0)->num_tokens;
        }
        snprintf(name, sizeof name, "%s_BLEU", set->name);
        status = add_bleu(run, log, name, set, error);
        snprintf(name, sizeof name, "%s_ROUGE", set->name);
        if (!status)
            status = suite_add_rouge(run, log, name, set, "rougeL_recall", error);
        snprintf(name, sizeof name, "%s_perplexity", set->name);
        if (!status)
            status = eval_log_add_value(log, name, perplexity(sum, tokens), error);
        if (!status)
            status = suite_add_behaviour(run, log, set, error);
    }
    return status;
}

const struct suite suite_harry_potter = {"harry_potter", "HP", harry_potter_ask, harry_potter_report};

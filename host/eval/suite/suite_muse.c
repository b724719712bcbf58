/* suite_muse.c - MUSE: KnowMem (short answers behind num_fewshot examples), VerbMem (continuations), PrivLeak (membership).
 *
 * Files in data_dir as MUSE and the hub lay them out, or those of one part alone directly in it:
 *   knowmem/{forget_qa,forget_qa_icl,retain_qa,retain_qa_icl}.json   {"question", "answer"}; retain2_... as at first
 *   verbmem/forget.json                                              {"prompt", "gt"}
 *   privleak/{forget,holdout}.json                                   texts
 * Metrics as open-unlearning has them: forget_knowmem_ROUGE, retain_knowmem_ROUGE, forget_verbmem_ROUGE (ROUGE-L F1 with
 * the stemmer), membership; privleak follows; exact_memorization and extraction_strength of VerbMem's continuations. What
 * is missing is left out, and said.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/file.h"
#include "suite_list.h"

enum { KNOWMEM_NEW_TOKENS = 32, VERBMEM_NEW_TOKENS = 128 };

static const struct dataset_options qa_keys = {"question", "answer"}, verbmem_keys = {"question", "gt"};

/* The first of the names in the folder of a part, or in data_dir itself; false: none is there. */
static bool file_look(const struct suite_run *run, const char *part, const char *const *names, char *out, size_t bytes)
{
    static const char *const endings[] = {"json", "jsonl"};
    for (int n = 0; names[n]; n++)
        for (int i = 0; i < 4; i++) {
            snprintf(out, bytes, "%s%s%s/%s.%s", run->options->data_dir, i < 2 ? "/" : "", i < 2 ? part : "", names[n],
                     endings[i % 2]);
            if ((i < 2 || !strcmp(part, "knowmem")) && file_exists(out))
                return true;
        }
    suite_warn(run, "no %s/%s.json in %s: left out, and what is made of it", part, names[0], run->options->data_dir);
    return false;
}

/* ---- KnowMem ---- */

/* The examples as turns of a chat, and the question. */
static int turns_prompt(const struct suite_run *run, const struct dataset *examples, int shots,
                        const struct dataset_row *row, struct prompt_text *out, struct error *error)
{
    struct chat_message *turn = memory_array(2 * (size_t)shots + 1, sizeof *turn, error);
    int turns = 0;
    if (!turn)
        return STATUS_MEMORY;
    for (int i = 0; i < shots; i++) {
        turn[turns++] = (struct chat_message){"user", examples->row[i].prompt};
        turn[turns++] = (struct chat_message){"assistant", examples->row[i].answer};
    }
    turn[turns++] = (struct chat_message){"user", row->prompt};
    const struct dataset_row messages = {.form = ROW_MESSAGES, .message = turn, .messages = turns};
    int status = prompt_apply(&run->model->prompt, &messages, NULL, out, error);
    free(turn);
    return status;
}

/* "Question: q\nAnswer: a\n\n" per example with the tags qa, then the question. */
static int tags_prompt(const struct suite_run *run, const struct dataset *examples, int shots,
                       const struct dataset_row *row, struct prompt_text *out, struct error *error)
{
    struct buffer text = {0};
    int status = STATUS_OK;
    for (int i = 0; i <= shots && !status; i++) {
        const bool last = i == shots;
        const struct dataset_row *from = last ? row : &examples->row[i];
        struct prompt_text one = {0};
        status = prompt_apply(&run->model->prompt, from, last ? NULL : from->answer, &one, error);
        if (!status)
            status = buffer_printf(&text, error, "%s%s", one.text.data, last ? "" : "\n\n");
        buffer_free(&one.text);
        if (last)
            *out = one;
    }
    out->text = text;
    out->answer_begin = text.length;
    return status;
}

static int knowmem_ask(struct suite_run *run, const char *name, const char *const *files, const char *const *examples_files,
                       struct error *error)
{
    char path[4096], examples_path[4096];
    struct dataset examples = {0};
    struct suite_set *set;
    const int64_t limit = run->options->max_new_tokens;
    if (!file_look(run, "knowmem", files, path, sizeof path))
        return STATUS_OK;
    int status = suite_set_read(run, name, path, &qa_keys, DATASET_ANSWERS, &set, error);
    if (!status && file_look(run, "knowmem", examples_files, examples_path, sizeof examples_path))
        status = dataset_read(&examples, examples_path, &qa_keys, DATASET_ANSWERS, error);
    const int shots = examples.rows < run->options->num_fewshot ? examples.rows : (int)run->options->num_fewshot;
    for (int i = 0; !status && i < set->rows; i++) {
        struct prompt_text text = {0};
        status = run->model->prompt.chat ? turns_prompt(run, &examples, shots, &set->data.row[i], &text, error)
                                         : tags_prompt(run, &examples, shots, &set->data.row[i], &text, error);
        if (!status)
            status = question_add_text(&run->questions, run->sets - 1, i, &text, limit ? limit : KNOWMEM_NEW_TOKENS, error);
        if (status)
            error_prefix(error, "%s:%d", path, set->data.row[i].line);
        buffer_free(&text.text);
    }
    dataset_free(&examples);
    return status;
}

/* Where a model goes on to a further question, its answer has ended. */
static void answers_cut(const struct suite_run *run, const struct suite_set *set)
{
    static const char *const stops[] = {"\n\n", "\nQuestion", "Question:"};
    for (int i = 0; i < set->rows; i++)
        for (int s = 0; s < 3; s++) {
            char *stop = strstr(run->questions.question[set->first_question + i].generation, stops[s]);
            if (stop)
                *stop = 0;
        }
}

/* ---- VerbMem and PrivLeak ---- */

static bool ends_blank(const char *text)
{
    const size_t length = strlen(text);
    return !length || strchr(" \n", text[length - 1]);
}

static int verbmem_ask(struct suite_run *run, struct error *error)
{
    static const char *const files[] = {"forget", NULL};
    char path[4096];
    struct suite_set *set;
    const int64_t limit = run->options->max_new_tokens;
    int status = STATUS_OK;
    if (!file_look(run, "verbmem", files, path, sizeof path))
        return STATUS_OK;
    status = suite_set_read(run, "forget_verbmem", path, &verbmem_keys, DATASET_ANSWERS, &set, error);
    for (int i = 0; !status && i < set->rows; i++) {
        const struct dataset_row *row = &set->data.row[i];
        struct buffer text = {0};
        status = question_add(&run->questions, run->sets - 1, i, row, limit ? limit : VERBMEM_NEW_TOKENS, error);
        if (!status) /* the two halves of a text, with the space that was between them */
            status = buffer_printf(&text, error, "%s%s", strchr(" \n", *row->answer) || ends_blank(row->prompt) ? "" : " ",
                                   row->answer);
        if (!status)
            status = answer_add(&run->questions, row, text.data, true, error);
        buffer_free(&text);
        if (status)
            error_prefix(error, "%s:%d", path, set->data.row[i].line);
    }
    return status;
}

static int privleak_ask(struct suite_run *run, const char *name, struct error *error)
{
    const char *const files[] = {name, NULL};
    char path[4096];
    struct suite_set *set;
    int status = STATUS_OK;
    if (!file_look(run, "privleak", files, path, sizeof path))
        return STATUS_OK;
    status = suite_set_read(run, name, path, &qa_keys, 0, &set, error);
    for (int i = 0; !status && i < set->rows; i++) {
        status = question_add(&run->questions, run->sets - 1, i, &set->data.row[i], 0, error);
        if (!status)
            status = answer_add_text(&run->questions, set->data.row[i].prompt, 0, true, error);
        if (status)
            error_prefix(error, "%s:%d", path, set->data.row[i].line);
    }
    return status;
}

static int muse_ask(struct suite_run *run, struct error *error)
{
    static const char *const forget[] = {"forget_qa", NULL}, *const forget_icl[] = {"forget_qa_icl", NULL};
    static const char *const retain[] = {"retain_qa", "retain2_qa", NULL};
    static const char *const retain_icl[] = {"retain_qa_icl", "retain2_qa_icl", NULL};
    if (!*run->options->data_dir)
        return error_set(error, STATUS_USAGE, "data_dir: the suite muse needs the folder of its files");
    int status = knowmem_ask(run, "forget_knowmem", forget, forget_icl, error);
    if (!status)
        status = knowmem_ask(run, "retain_knowmem", retain, retain_icl, error);
    if (!status)
        status = verbmem_ask(run, error);
    if (!status)
        status = privleak_ask(run, "forget", error);
    if (!status)
        status = privleak_ask(run, "holdout", error);
    if (!status && !run->sets)
        status = error_set(error, STATUS_INPUT, "%s: none of MUSE's files is there: knowmem/forget_qa.json and its like",
                           run->options->data_dir);
    return status;
}

static int muse_report(const struct suite_run *run, struct eval_log *log, struct error *error)
{
    static const char *const texts[] = {"forget_knowmem", "retain_knowmem", "forget_verbmem"};
    const struct suite_set *forget = suite_set_find(run, "forget"), *holdout = suite_set_find(run, "holdout");
    int status = STATUS_OK;
    for (int i = 0; i < 3 && !status; i++) {
        const struct suite_set *set = suite_set_find(run, texts[i]);
        char name[128];
        snprintf(name, sizeof name, "%s_ROUGE", texts[i]);
        if (set && strstr(texts[i], "knowmem"))
            answers_cut(run, set);
        if (set)
            status = suite_add_rouge(run, log, name, set, "rougeL_f1", error);
    }
    if (!status && suite_set_find(run, texts[2]))
        status = suite_add_memorization(run, log, suite_set_find(run, texts[2]), error);
    if (!status && forget && holdout)
        status = suite_add_membership(run, log, forget, holdout, error);
    return status;
}

const struct suite suite_muse = {"muse", "MUSE", muse_ask, muse_report};

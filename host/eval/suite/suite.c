/* suite.c - see suite.h: the options of suites, and the rows of a file as questions. */
#include "suite.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct option option_rows[] = {
    {.name = "forget_data", OPTION_FIELD(struct suite_options, forget_data), .local = true, .operand = "FILE",
     .help = "the forget set; for tofu the file with perturbed answers, as forget10_perturbed.json"},
    {.name = "data_dir", OPTION_FIELD(struct suite_options, data_dir), .local = true, .operand = "DIR",
     .help = "folder with the other files of tofu (retain_perturbed.json, real_authors_perturbed.json, "
             "world_facts_perturbed.json, holdout) or all of muse (knowmem/, verbmem/, privleak/) under their own names"},
    {.name = "retain_data", OPTION_FIELD(struct suite_options, retain_data), .local = true, .operand = "FILE",
     .help = "rows that must stay, for qa and harry_potter; for tofu instead of the file in data_dir"},
    {.name = "real_authors_data", OPTION_FIELD(struct suite_options, real_authors_data), .local = true,
     .operand = "FILE", .help = "for tofu instead of the file in data_dir"},
    {.name = "world_facts_data", OPTION_FIELD(struct suite_options, world_facts_data), .local = true, .operand = "FILE",
     .help = "for tofu instead of the file in data_dir"},
    {.name = "holdout_data", OPTION_FIELD(struct suite_options, holdout_data), .local = true, .operand = "FILE",
     .help = "rows that no model has seen, for tofu's membership metrics"},
    {.name = "eval_data", OPTION_LIST_FIELD(struct suite_options, eval_data), .local = true, .operand = "NAME=FILE,...",
     .help = "further sets of rows to look at, each under its name"},
    {.name = "eval_rows", OPTION_FIELD(struct suite_options, eval_rows), .initial = "0", .max = OPTION_COUNT_MAX,
     .help = "the first so many rows of every set; 0 takes all"},
    {.name = "eval_max_length", OPTION_FIELD(struct suite_options, eval_max_length), .initial = "2048", .min = 2,
     .max = OPTION_COUNT_MAX, .help = "tokens of a prompt and its answer; what is longer is cut and counted"},
    {.name = "max_new_tokens", OPTION_FIELD(struct suite_options, max_new_tokens), .initial = "0",
     .max = OPTION_COUNT_MAX,
     .help = "tokens of a continuation at most; 0 is the suite's own: 200, for muse 32 (KnowMem) and 128 (VerbMem)"},
    {.name = "num_fewshot", OPTION_FIELD(struct suite_options, num_fewshot), .initial = "10", .max = OPTION_COUNT_MAX,
     .help = "examples before a question of muse's KnowMem, as many as its file has"},
    {.name = "prefix_words", OPTION_FIELD(struct suite_options, prefix_words), .initial = "200", .min = 1,
     .max = OPTION_COUNT_MAX, .help = "words of running text that harry_potter gives"},
    {.name = "continuation_words", OPTION_FIELD(struct suite_options, continuation_words), .initial = "100", .min = 1,
     .max = OPTION_COUNT_MAX, .help = "words behind them that the continuation is compared with"},
};
const struct option_group suite_option_group = {OPTION_GROUP("Data", option_rows, struct suite_options)};

void suite_run_init(struct suite_run *run, const struct suite_options *options, const struct dataset_options *dataset,
                    struct eval_model *model, struct log *log)
{
    const int64_t context = context_length(&model->config);
    *run = (struct suite_run){.options = options, .dataset = dataset, .model = model, .log = log};
    run->questions.tokenizer = model->tokenizer;
    run->questions.prompt = &model->prompt;
    run->questions.eos = model->eos;
    run->questions.context = context;
    run->questions.max_length = options->eval_max_length < context ? options->eval_max_length : context;
}

void suite_run_free(struct suite_run *run)
{
    for (int i = 0; i < run->sets; i++)
        dataset_free(&run->set[i].data);
    question_list_free(&run->questions);
    answer_list_free(&run->refusals);
}

void suite_warn(const struct suite_run *run, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (run->speaks)
        log_warning(run->log, "%s", text);
}

int suite_set_read(struct suite_run *run, const char *name, const char *path, const struct dataset_options *keys,
                   unsigned flags, struct suite_set **set, struct error *error)
{
    if (run->sets == SUITE_SETS_MAX)
        return error_set(error, STATUS_USAGE, "%s: more than %d sets", path, SUITE_SETS_MAX);
    if (suite_set_find(run, name))
        return error_set(error, STATUS_USAGE, "eval_data: there are two sets named %s", name);
    *set = &run->set[run->sets++];
    **set = (struct suite_set){.first_question = run->questions.questions};
    snprintf((*set)->name, sizeof (*set)->name, "%s", name);
    int status = dataset_read(&(*set)->data, path, keys ? keys : run->dataset, flags | DATASET_SOURCES, error);
    const int64_t most = run->options->eval_rows;
    (*set)->rows = most && most < (*set)->data.rows ? (int)most : (*set)->data.rows;
    return status;
}

const struct suite_set *suite_set_find(const struct suite_run *run, const char *name)
{
    for (int i = 0; i < run->sets; i++)
        if (!strcmp(run->set[i].name, name))
            return &run->set[i];
    return NULL;
}

const struct eval_answer *suite_answer(const struct suite_run *run, const struct suite_set *set, int row, int which)
{
    const struct question_list *list = &run->questions;
    return &list->answer[list->question[set->first_question + row].first_answer + which];
}

/* The first row says what all have. */
static void form_take(const struct cJSON *source, struct suite_set *set)
{
    const cJSON *wrong = json_member(source, "perturbed_answer");
    set->paraphrased = cJSON_IsString(json_member(source, "paraphrased_answer"));
    set->wrong = cJSON_IsArray(wrong) ? cJSON_GetArraySize(wrong) : 0;
}

static int other_answers_add(struct suite_run *run, const struct suite_set *set, const struct dataset_row *row,
                             const cJSON *source, struct error *error)
{
    const cJSON *paraphrased = json_member(source, "paraphrased_answer"), *wrong = json_member(source, "perturbed_answer");
    int status = STATUS_OK;
    if (set->paraphrased && !cJSON_IsString(paraphrased))
        return error_set(error, STATUS_INPUT, "paraphrased_answer: expected a text, as in the first row");
    if (set->wrong && (!cJSON_IsArray(wrong) || cJSON_GetArraySize(wrong) != set->wrong))
        return error_set(error, STATUS_INPUT, "perturbed_answer: expected a list of %d texts, as in the first row", set->wrong);
    if (set->paraphrased)
        status = answer_add(&run->questions, row, paraphrased->valuestring, false, error);
    for (const cJSON *text = set->wrong ? wrong->child : NULL; text && !status; text = text->next) {
        if (!cJSON_IsString(text) || !*text->valuestring)
            return error_set(error, STATUS_INPUT, "perturbed_answer: expected a list of texts");
        status = answer_add(&run->questions, row, text->valuestring, false, error);
    }
    return status;
}

int suite_ask_rows(struct suite_run *run, struct suite_set *set, int64_t max_new_tokens, unsigned flags,
                   struct error *error)
{
    int status = STATUS_OK;
    set->templated = flags & ASK_TEMPLATE && run->refusals.count;
    for (int i = 0; i < set->rows && !status; i++) {
        const struct dataset_row *row = &set->data.row[i];
        cJSON *source = flags & ASK_OTHERS && row->source ? cJSON_Parse(row->source) : NULL;
        if (!i)
            form_take(source, set);
        status = row->answer || !max_new_tokens ? STATUS_OK
                                                : error_set(error, STATUS_INPUT, "running text has no answer to compare a "
                                                            "continuation with; expected rows of question and answer");
        if (!status)
            status = question_add(&run->questions, run->sets - 1, i, row, max_new_tokens, error);
        if (!status)
            status = answer_add(&run->questions, row, NULL, flags & ASK_TOKENS, error);
        if (!status)
            run->questions.answer[run->questions.answers - 1].keep_entropy = flags & ASK_ENTROPY;
        if (!status)
            status = other_answers_add(run, set, row, source, error);
        if (!status && set->templated)
            status = answer_add(&run->questions, row, run->refusals.text[i % run->refusals.count], false, error);
        if (status)
            error_prefix(error, "%s:%d", set->data.path, row->line);
        cJSON_Delete(source);
    }
    return status;
}

int suite_measure(const struct suite *suite, struct suite_run *run, struct evaluation *evaluation, struct eval_log *log,
                  struct error *error)
{
    const bool first = !comm_rank(evaluation->comm);
    char line[400];
    evaluation->questions = &run->questions;
    evaluation->model = run->model;
    run->speaks = first;
    int status = suite->ask(run, error);
    for (int next = 0; !status && !run->rows_told && example_counts_line(&run->questions.counts, &next, line, sizeof line);)
        suite_warn(run, "%s", line);
    status = comm_agree(evaluation->comm, status, error);
    if (!status)
        status = evaluate(evaluation, error);
    return !status && first ? suite->report(run, log, error) : status;
}

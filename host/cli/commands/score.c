/* score.c - `flat score`: rows with their answers in, the same objects out with num_tokens, logprob_sum and prob_mean (and
 * token_logprobs with --tokens). Neighbouring rows of one prompt share its rows of the batch.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../eval/score.h"
#include "../../io/json/json.h"
#include "../../model/adapter.h"
#include "../../model/model_options.h"
#include "../../train/examples.h"
#include "../../util/file.h"
#include "../command.h"
#include "../prompt_lines.h"

struct score_options {
    struct model_options model;
    struct examples_options examples;
    struct input_options input;
    struct device_options device;
    struct log_options log;
    bool tokens;
};

static const struct option option_rows[] = {
    {.name = "tokens", OPTION_FIELD(struct score_options, tokens),
     .help = "add token_logprobs, one number per token of the answer"},
};
static const struct option_group score_option_group = {OPTION_GROUP("Output", option_rows, struct score_options)};

static const struct command_group groups[] = {
    {&model_option_group, offsetof(struct score_options, model)},
    {&adapter_option_group, offsetof(struct score_options, model)},
    {&dataset_option_group, offsetof(struct score_options, input.dataset)},
    {&max_length_option_group, offsetof(struct score_options, examples)},
    {&prompt_option_group, offsetof(struct score_options, input.prompt)},
    {&input_option_group, offsetof(struct score_options, input)},
    {&score_option_group, 0},
    {&device_option_group, offsetof(struct score_options, device)},
    {&log_option_group, offsetof(struct score_options, log)},
    {NULL, 0},
};

struct scoring {
    struct prompt_lines lines;
    struct tokenizer *tokenizer;
    struct model_config config;
    struct weights weights;
    struct adapter adapter;
    struct model model, table; /* table: the parameter table alone, to check the weights before a device is opened */
    struct device device;
    struct token_list ids;
    struct batch_sequence *sequence; /* [lines] */
    int32_t *group_first;            /* [groups + 1] */
    int groups;
    struct score *score;             /* [lines] */
    int64_t max_length;
    struct example_counts counts;
};

static bool same_prompt(const struct prompt_lines *lines, int i, int k)
{
    const struct prompt_text *a = &lines->text[i], *b = &lines->text[k];
    return !lines->data.row[i].ids && !lines->data.row[k].ids && a->answer_begin == b->answer_begin &&
           !memcmp(a->text.data, b->text.data, a->answer_begin);
}

static int sequences_encode(struct scoring *s, const struct score_options *options, struct error *error)
{
    int count = s->lines.data.rows, status = STATUS_OK;
    s->sequence = memory_array((size_t)count, sizeof *s->sequence, error);
    s->group_first = memory_array((size_t)count + 1, sizeof *s->group_first, error);
    s->score = memory_array((size_t)count, sizeof *s->score, error);
    if (!s->sequence || !s->group_first || !s->score)
        return STATUS_MEMORY;
    int32_t eos = tokenizer_eos(s->tokenizer) >= 0 ? tokenizer_eos(s->tokenizer)
                  : s->config.eos_token_ids        ? s->config.eos_token_id[0]
                                                   : -1;
    if (eos < 0)
        return error_set(error, STATUS_INPUT, "%s: neither the tokenizer nor config.json names an eos_token",
                         options->model.model_name_or_path);
    for (int i = 0; i < count && !status; i++) {
        const struct dataset_row *row = &s->lines.data.row[i];
        const size_t begin = s->ids.length;
        struct batch_sequence *sequence = &s->sequence[i];
        status = row->ids ? chunk_append(row, &s->ids, &sequence->answer_begin, &s->counts, error)
                          : example_encode(s->tokenizer, &s->lines.text[i], eos, s->max_length, &s->ids,
                                           &sequence->answer_begin, &s->counts, error);
        if (status)
            error_prefix(error, "%s:%d", s->lines.data.path, row->line);
        sequence->length = (int32_t)(s->ids.length - begin);
        if (!i || !same_prompt(&s->lines, i - 1, i))
            s->group_first[s->groups++] = i;
    }
    s->group_first[s->groups] = count;
    const int32_t *next = s->ids.id;
    for (int i = 0; i < count && !status; i++) {
        s->sequence[i].ids = next;
        next += s->sequence[i].length;
    }
    return status;
}

static int line_print(const struct dataset_row *row, const struct score *score, bool tokens, struct error *error)
{
    cJSON *members = cJSON_CreateObject();
    bool ok = members && json_add_int(members, "num_tokens", score->num_tokens) &&
              json_add_number(members, "logprob_sum", score->logprob_sum) &&
              json_add_number(members, "prob_mean", score->prob_mean);
    if (ok && tokens) {
        cJSON *array = cJSON_AddArrayToObject(members, "token_logprobs");
        ok = array != NULL;
        for (int32_t i = 0; i < score->num_tokens && ok; i++)
            ok = cJSON_AddItemToArray(array, cJSON_CreateNumber(score->token_logprobs[i]));
    }
    int status = ok ? prompt_line_print(row, members, error) : error_set(error, STATUS_MEMORY, "out of host memory");
    cJSON_Delete(members);
    return status;
}

/* A null among the results is no result. */
static int finite_check(const struct scoring *s, struct error *error)
{
    int bad = 0, first = 0;
    for (int i = s->lines.data.rows - 1; i >= 0; i--)
        if (!isfinite(s->score[i].logprob_sum)) {
            bad++;
            first = i;
        }
    return bad ? error_set(error, STATUS_NONFINITE, "%s:%d: the log-probability is not finite; so it is of %d of %d rows: the "
                           "model is damaged", s->lines.data.path, s->lines.data.row[first].line, bad, s->lines.data.rows)
               : STATUS_OK;
}

static int scoring_run(struct scoring *s, struct invocation *run, struct error *error)
{
    const struct score_options *options = run->options;
    const char *directory = options->model.model_name_or_path;
    int status = model_config_read(&s->config, directory, error);
    if (!status)
        status = tokenizer_load(&s->tokenizer, directory, error);
    if (!status) {
        tokenizer_limit(s->tokenizer, s->config.vocab_size);
        log_warnings(&run->log, tokenizer_warnings(s->tokenizer));
    }
    const int64_t context = status ? 0 : context_length(&s->config);
    s->max_length = options->examples.max_length < context ? options->examples.max_length : context;
    if (!status)
        status = prompt_lines_read(&s->lines, &options->input, true, directory, s->tokenizer, s->max_length, error);
    if (!status)
        prompt_lines_announce(&s->lines, options->input.prompt.chosen, &run->log);
    if (!status)
        status = model_create(&s->table, &s->config, DTYPE_F32, error);
    if (!status)
        status = weights_open(&s->weights, &s->table, options->model.model_name_or_path, error);
    if (!status && *options->model.adapter) {
        status = adapter_open(&s->adapter, &s->table, options->model.adapter, error);
        s->weights.adapter = &s->adapter;
    }
    log_warnings(&run->log, s->adapter.warnings.data);
    if (!status)
        status = sequences_encode(s, options, error);
    if (!status)
        status = device_open_chosen(&s->device, &options->device, 0, error);
    if (!status)
        status = scorer_open(&s->model, &s->device, &s->config, &s->weights, s->sequence, s->group_first, s->groups,
                             (int)options->input.batch_size, error);
    if (!status)
        status = scorer_run(&s->model, s->sequence, s->group_first, s->groups, (int)options->input.batch_size,
                            options->tokens, s->score, error);
    char line[400];
    for (int next = 0; !status && example_counts_line(&s->counts, &next, line, sizeof line);)
        log_warning(&run->log, "%s", line);
    for (int i = 0; i < s->lines.data.rows && !status; i++)
        status = line_print(&s->lines.data.row[i], &s->score[i], options->tokens, error);
    if (!status)
        status = stdout_finish(error);
    return status ? status : finite_check(s, error);
}

static int score_run(struct invocation *run, struct error *error)
{
    struct scoring s = {0};
    int status = scoring_run(&s, run, error);
    for (int i = 0; s.score && i < s.lines.data.rows; i++)
        free(s.score[i].token_logprobs);
    free(s.score);
    free(s.group_first);
    free(s.sequence);
    free(s.ids.id);
    model_free(&s.model);
    model_free(&s.table);
    weights_close(&s.weights);
    adapter_free(&s.adapter);
    tokenizer_free(s.tokenizer);
    device_close(&s.device);
    prompt_lines_free(&s.lines);
    return status;
}

const struct command command_score = {
    .name = "score",
    .argument = "CONFIG",
    .at_most = 1,
    .config = CONFIG_RUN,
    .summary = "Probabilities of answers: {\"prompt\", \"answer\"} lines in, JSON lines out; the model, template and keys of "
               "a run where its folder or config is given.",
    .examples = {"flat score --model DIR --data answers.jsonl",
                 "flat score --model DIR --data forget.jsonl --prompt_template llama2_chat --tokens",
                 "flat score runs/tofu --data forget.jsonl > after.jsonl"},
    .groups = groups,
    .options_bytes = sizeof(struct score_options),
    .required = "model_name_or_path data",
    .run = score_run,
};

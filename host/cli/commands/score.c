/* score.c - `flat score`: rows with their answers in, the same objects out with num_tokens, logprob_sum and prob_mean (and
 * token_logprobs with --tokens). Neighbouring rows of one prompt share its rows of the batch. Rows are read a window at a
 * time and written a batch at a time: memory does not grow with their number.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../eval/eval_model.h"
#include "../../eval/score.h"
#include "../../io/json/json.h"
#include "../../train/examples.h"
#include "../command.h"
#include "../prompt_lines.h"
#include "../row_output.h"

struct score_options {
    struct model_options model;
    struct examples_options examples;
    struct input_options input;
    struct output_options output;
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
    {&reinforced_option_group, offsetof(struct score_options, model)},
    {&dataset_option_group, offsetof(struct score_options, input.dataset)},
    {&max_length_option_group, offsetof(struct score_options, examples)},
    {&prompt_option_group, offsetof(struct score_options, input.prompt)},
    {&input_option_group, offsetof(struct score_options, input)},
    {&row_output_option_group, offsetof(struct score_options, output)},
    {&score_option_group, 0},
    {&device_option_group, offsetof(struct score_options, device)},
    {&log_option_group, offsetof(struct score_options, log)},
    {NULL, 0},
};

static const char *const results[] = {"num_tokens", "logprob_sum", "prob_mean", "token_logprobs", NULL};

struct scoring {
    const struct score_options *options;
    struct device device;
    struct eval_model model;
    struct prompt_lines lines;
    struct row_output output;
    struct scorer scorer;
    int64_t max_length;
    struct example_counts counts;
    /* of the window: the rows that are not in the output yet, from `begin` on */
    int begin;
    struct token_list ids;
    struct batch_sequence *sequence; /* [rows - begin] */
    int32_t *group_first;            /* [groups + 1] */
    int groups;
    struct buffer line;
};

static bool same_prompt(const struct prompt_lines *lines, int i, int k)
{
    const struct prompt_text *a = &lines->text[i], *b = &lines->text[k];
    return !lines->data.row[i].ids && !lines->data.row[k].ids && a->answer_begin == b->answer_begin &&
           !memcmp(a->text.data, b->text.data, a->answer_begin);
}

static int sequences_encode(struct scoring *s, struct error *error)
{
    const int count = s->lines.data.rows - s->begin;
    int status = STATUS_OK;
    free(s->sequence);
    free(s->group_first);
    s->ids.length = 0;
    s->groups = 0;
    s->sequence = memory_array((size_t)count, sizeof *s->sequence, error);
    s->group_first = memory_array((size_t)count + 1, sizeof *s->group_first, error);
    if (!s->sequence || !s->group_first)
        return STATUS_MEMORY;
    for (int i = 0; i < count && !status; i++) {
        const struct dataset_row *row = &s->lines.data.row[s->begin + i];
        const size_t begin = s->ids.length;
        struct batch_sequence *sequence = &s->sequence[i];
        status = row->ids ? chunk_append(row, &s->ids, &sequence->answer_begin, &s->counts, error)
                          : example_encode(s->model.tokenizer, &s->lines.text[s->begin + i], s->model.eos, s->max_length,
                                           &s->ids, &sequence->answer_begin, &s->counts, error);
        if (status)
            error_prefix(error, "%s:%d", s->lines.data.path, row->line);
        sequence->length = (int32_t)(s->ids.length - begin);
        if (!i || !same_prompt(&s->lines, s->begin + i - 1, s->begin + i))
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

static int row_write(struct scoring *s, const struct dataset_row *row, const struct score *score, struct error *error)
{
    if (!isfinite(score->logprob_sum))
        return error_set(error, STATUS_NONFINITE, "%s:%d: the log-probability is not finite: the model is damaged",
                         s->lines.data.path, row->line);
    cJSON *members = cJSON_CreateObject();
    bool ok = members && json_add_int(members, results[0], score->num_tokens) &&
              json_add_number(members, results[1], score->logprob_sum) &&
              json_add_number(members, results[2], score->prob_mean);
    if (ok && score->token_logprobs) {
        cJSON *array = cJSON_AddArrayToObject(members, results[3]);
        ok = array != NULL;
        for (int32_t i = 0; i < score->num_tokens && ok; i++)
            ok = cJSON_AddItemToArray(array, cJSON_CreateNumber(score->token_logprobs[i]));
    }
    int status = ok ? prompt_line_make(row, members, &s->line, error) : error_set(error, STATUS_MEMORY, "out of host memory");
    cJSON_Delete(members);
    return status ? status : row_output_write(&s->output, s->line.data, s->line.length, error);
}

static int batch_write(void *user, int begin, int count, const struct score *score, struct error *error)
{
    struct scoring *s = user;
    int status = STATUS_OK;
    for (int i = 0; i < count && !status; i++)
        status = row_write(s, &s->lines.data.row[s->begin + begin + i], &score[i], error);
    struct error second;
    const int flushed = row_output_flush(&s->output, status ? &second : error);
    return status ? status : flushed;
}

/* The next rows, but for those that the output has. */
static int window_read(struct scoring *s, struct error *error)
{
    int status = prompt_lines_next(&s->lines, s->model.tokenizer, s->max_length, error);
    bool kept = true;
    for (s->begin = 0; !status && kept && s->begin < s->lines.data.rows; s->begin += kept)
        status = row_output_keeps(&s->output, &s->lines.data.row[s->begin], s->lines.data.path, results, &kept, error);
    return status ? status : sequences_encode(s, error);
}

static int scoring_run(struct scoring *s, struct invocation *run, struct error *error)
{
    const struct score_options *options = s->options;
    int status = device_open_chosen(&s->device, &options->device, 0, error);
    if (!status)
        status = eval_model_open(&s->model, &options->model, &options->input.prompt, s->device.engine->dtype, error);
    if (!status) {
        log_warnings(&run->log, tokenizer_warnings(s->model.tokenizer));
        log_warnings(&run->log, s->model.weights.warnings.data);
        log_warnings(&run->log, s->model.adapter.warnings.data);
    }
    const int64_t context = status ? 0 : context_length(&s->model.config);
    s->max_length = options->examples.max_length < context ? options->examples.max_length : context;
    s->scorer = (struct scorer){&s->model.model, &s->device, &s->model.weights, (int)options->input.batch_size, options->tokens};
    if (!status)
        status = prompt_lines_open(&s->lines, &options->input, &s->model.prompt, true, error);
    if (!status)
        status = row_output_open(&s->output, &options->output, run, &s->model, &options->model, &run->log, error);
    while (!status && !(status = window_read(s, error)) && s->lines.data.rows) {
        if (!s->lines.first)
            prompt_lines_announce(&s->lines, options->input.prompt.chosen, &run->log);
        if (s->groups)
            status = scorer_run(&s->scorer, s->sequence, s->group_first, s->groups, batch_write, s, error);
    }
    char line[400];
    for (int next = 0; !status && example_counts_line(&s->counts, &next, line, sizeof line);)
        log_warning(&run->log, "%s", line);
    const int closed = row_output_close(&s->output, !status, error);
    return status ? status : closed;
}

static int score_run(struct invocation *run, struct error *error)
{
    struct scoring s = {.options = run->options};
    int status = scoring_run(&s, run, error);
    scorer_close(&s.scorer);
    free(s.group_first);
    free(s.sequence);
    free(s.ids.id);
    buffer_free(&s.line);
    prompt_lines_close(&s.lines);
    eval_model_close(&s.model);
    device_close(&s.device);
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
                 "flat score --model DIR --data forget.jsonl --tokens --output scores.jsonl --resume",
                 "flat score runs/tofu --data forget.jsonl > after.jsonl"},
    .groups = groups,
    .options_bytes = sizeof(struct score_options),
    .required = "model_name_or_path data",
    .run = score_run,
};

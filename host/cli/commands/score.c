/* score.c - `flat score`: {"prompt", "answer"} JSON lines (or, with --prompt_template, question and answer rows)
 * in, the same objects out with num_tokens, logprob_sum and prob_mean (and token_logprobs with --tokens). Neighbouring
 * lines of one prompt share its rows.
 */
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
    int64_t cut;
};

static int sequences_encode(struct scoring *s, const struct score_options *options, struct error *error)
{
    int count = s->lines.count, status = STATUS_OK;
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
    const int64_t context = context_length(&s->config);
    const int64_t most = options->examples.max_length < context ? options->examples.max_length : context;
    for (int i = 0; i < count && !status; i++) {
        const struct prompt_line *line = &s->lines.line[i];
        bool cut = false;
        size_t begin = s->ids.length;
        status = example_encode(s->tokenizer, line->prompt, line->full, eos, most, &s->ids,
                                &s->sequence[i].answer_begin, &cut, error);
        if (status)
            error_prefix(error, "%s:%d", options->input.data, line->number);
        s->sequence[i].length = (int32_t)(s->ids.length - begin);
        s->cut += cut;
        if (!i || strcmp(line->prompt, s->lines.line[i - 1].prompt))
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

static int line_print(cJSON *object, const struct score *score, bool tokens, struct error *error)
{
    struct buffer text = {0};
    bool ok = json_add_int(object, "num_tokens", score->num_tokens) &&
              json_add_number(object, "logprob_sum", score->logprob_sum) &&
              json_add_number(object, "prob_mean", score->prob_mean);
    if (ok && tokens) {
        cJSON *array = cJSON_AddArrayToObject(object, "token_logprobs");
        ok = array != NULL;
        for (int32_t i = 0; i < score->num_tokens && ok; i++)
            ok = cJSON_AddItemToArray(array, cJSON_CreateNumber(score->token_logprobs[i]));
    }
    int status = ok ? json_print(object, &text, error) : error_set(error, STATUS_MEMORY, "out of host memory");
    if (!status)
        puts(text.data);
    buffer_free(&text);
    return status;
}

static int scoring_run(struct scoring *s, struct invocation *run, struct error *error)
{
    const struct score_options *options = run->options;
    int status = prompt_lines_read(&s->lines, &options->input, input_has_rows(&run->set), true, error);
    if (!status)
        status = model_config_read(&s->config, options->model.model_name_or_path, error);
    if (!status)
        status = model_create(&s->table, &s->config, DTYPE_F32, error);
    if (!status)
        status = weights_open(&s->weights, &s->table, options->model.model_name_or_path, error);
    if (!status && *options->model.adapter) {
        status = adapter_open(&s->adapter, &s->table, options->model.adapter, error);
        s->weights.adapter = &s->adapter;
    }
    if (!status)
        status = tokenizer_load(&s->tokenizer, options->model.model_name_or_path, error);
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
    if (!status && s->cut)
        log_warning(&run->log, "%lld of %d answers were cut at max_length", (long long)s->cut, s->lines.count);
    for (int i = 0; i < s->lines.count && !status; i++)
        status = line_print(s->lines.line[i].object, &s->score[i], options->tokens, error);
    return status ? status : stdout_finish(error);
}

static int score_run(struct invocation *run, struct error *error)
{
    struct scoring s = {0};
    int status = scoring_run(&s, run, error);
    for (int i = 0; s.score && i < s.lines.count; i++)
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

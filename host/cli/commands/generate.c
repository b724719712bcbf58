/* generate.c - `flat generate`: continues one prompt (text on stdout) or a file of them (JSON lines with the
 * continuation as "text"). A file is read a window at a time; a row is written as soon as it and all before it are done.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../eval/eval_model.h"
#include "../../eval/generate.h"
#include "../../util/progress.h"
#include "../command.h"
#include "../prompt_lines.h"
#include "../row_output.h"

struct generate_command_options {
    struct model_options model;
    struct input_options input;
    struct output_options output;
    struct generate_options generate;
    struct device_options device;
    struct log_options log;
    const char *prompt;
    int64_t num_return_sequences;
};

static const struct option option_rows[] = {
    {.name = "prompt", OPTION_FIELD(struct generate_command_options, prompt),
     .help = "text to continue, instead of a file; may be empty"},
};
static const struct option_group prompt_text_group = {OPTION_GROUP("Input", option_rows, struct generate_command_options)};

static const struct option sequence_rows[] = {
    {.name = "num_return_sequences", OPTION_FIELD(struct generate_command_options, num_return_sequences), .initial = "1", .min = 1,
     .max = 4096, .help = "continuations of each prompt, sampled apart from each other, one row after the other"},
};
static const struct option_group sequence_group = {OPTION_GROUP("Generation", sequence_rows, struct generate_command_options)};

static const struct command_group groups[] = {
    {&model_option_group, offsetof(struct generate_command_options, model)},
    {&adapter_option_group, offsetof(struct generate_command_options, model)},
    {&reinforced_option_group, offsetof(struct generate_command_options, model)},
    {&dataset_option_group, offsetof(struct generate_command_options, input.dataset)},
    {&prompt_option_group, offsetof(struct generate_command_options, input.prompt)},
    {&input_option_group, offsetof(struct generate_command_options, input)},
    {&prompt_text_group, 0},
    {&row_output_option_group, offsetof(struct generate_command_options, output)},
    {&generate_option_group, offsetof(struct generate_command_options, generate)},
    {&sequence_group, 0},
    {&device_option_group, offsetof(struct generate_command_options, device)},
    {&log_option_group, offsetof(struct generate_command_options, log)},
    {NULL, 0},
};

enum { ROWS_MAX = 2048 }; /* rows of prompts in one step, unless a prompt is longer: bounds the memory */

static const char *const results[] = {"text", "num_tokens", "finish_reason", NULL};

struct generation {
    const struct generate_command_options *options;
    struct log *log;
    struct device device;
    struct eval_model model;
    struct prompt_lines lines;
    struct prompt_text one; /* of --prompt */
    struct row_output output;
    struct generator generator;
    int64_t positions, prompt_rows; /* what the generator has room for */
    int64_t rows, limited;          /* so far; of them at the model's last position */
    struct buffer line;
    /* of the window, whose rows count num_return_sequences times: those that are not in the output yet, from `begin` on */
    int begin, count, written, shown;
    struct token_list *ids, *out;   /* [count] */
    struct progress progress;
};

/* Number of the row of the window that entry i goes with. */
static int row_of(const struct generation *g, int i)
{
    return (int)((g->begin + i) / g->options->num_return_sequences);
}

/* How many entries lie in front of the window's first that is not in the output. */
static int64_t entries_before(const struct generation *g)
{
    return g->lines.first * g->options->num_return_sequences + g->begin;
}

/* A prompt of no token begins with that of a beginning of sequence, or else of an end, as texts do in training. */
static int begin_append(struct generation *g, struct token_list *ids, struct error *error)
{
    const int32_t bos = tokenizer_bos(g->model.tokenizer), id = bos >= 0 ? bos : tokenizer_eos(g->model.tokenizer);
    int status = ids->length || id < 0 ? STATUS_OK : memory_grow(&ids->id, &ids->capacity, 1, sizeof *ids->id, error);
    if (!status && !ids->length && id >= 0)
        ids->id[ids->length++] = id;
    return status;
}

static int prompt_take(struct generation *g, int i, struct error *error)
{
    const bool file = *g->options->input.data;
    const struct prompt_text *text = file ? &g->lines.text[row_of(g, i)] : &g->one;
    const int64_t context = context_length(&g->model.config);
    int status = prompt_encode(g->model.tokenizer, text->text.data, text->text.length, text->special, &g->ids[i], error);
    if (!status)
        status = begin_append(g, &g->ids[i], error);
    const int64_t length = (int64_t)g->ids[i].length;
    if (!status && (length < 1 || length >= context))
        status = error_set(error, STATUS_INPUT, "prompt %lld: %lld tokens; expected 1 to %lld for this model",
                           (long long)(g->lines.first + row_of(g, i) + 1), (long long)length, (long long)context - 1);
    return status && file ? error_prefix(error, "%s:%d", g->lines.data.path, g->lines.data.row[row_of(g, i)].line) : status;
}

static void window_free(struct generation *g)
{
    for (int i = 0; i < g->count; i++) {
        if (g->ids)
            free(g->ids[i].id);
        if (g->out)
            free(g->out[i].id);
    }
    free(g->ids);
    free(g->out);
    g->ids = g->out = NULL;
    g->count = 0;
}

/* `count` prompts from entry `begin` of the window on, or the one of --prompt. */
static int prompts_take(struct generation *g, int count, struct error *error)
{
    window_free(g);
    g->written = g->shown = 0;
    g->ids = memory_array((size_t)count, sizeof *g->ids, error);
    g->out = memory_array((size_t)count, sizeof *g->out, error);
    if (!g->ids || !g->out)
        return STATUS_MEMORY;
    g->count = count;
    int status = STATUS_OK;
    for (int i = 0; i < count && !status; i++)
        status = prompt_take(g, i, error);
    return status;
}

/* The next rows of the file, but for those that the output has. */
static int window_read(struct generation *g, struct error *error)
{
    int status = prompt_lines_next(&g->lines, g->model.tokenizer, 0, error);
    const int64_t entries = g->lines.data.rows * g->options->num_return_sequences;
    bool kept = true;
    if (!status && entries > INT32_MAX)
        status = error_set(error, STATUS_USAGE, "num_return_sequences: more than 2^31 continuations of what is read at a time; "
                           "lower it");
    for (g->begin = 0; !status && kept && g->begin < entries; g->begin += kept)
        status = row_output_keeps(&g->output, &g->lines.data.row[row_of(g, 0)], g->lines.data.path, results, &kept, error);
    return status ? status : prompts_take(g, (int)entries - g->begin, error);
}

/* The continuation is what the whole text has beyond the prompt's, so that spaces at the seam are kept. */
static int continuation_decode(struct generation *g, int i, struct buffer *text, struct error *error)
{
    struct buffer prompt = {0}, whole = {0};
    struct token_list all = {0};
    int status = memory_grow(&all.id, &all.capacity, g->ids[i].length + g->out[i].length, sizeof *all.id, error);
    if (!status) {
        memcpy(all.id, g->ids[i].id, g->ids[i].length * sizeof *all.id);
        if (g->out[i].length)
            memcpy(all.id + g->ids[i].length, g->out[i].id, g->out[i].length * sizeof *all.id);
        status = tokenizer_decode(g->model.tokenizer, g->ids[i].id, g->ids[i].length, true, &prompt, error);
    }
    if (!status)
        status = tokenizer_decode(g->model.tokenizer, all.id, g->ids[i].length + g->out[i].length, true, &whole, error);
    size_t skip = prompt.length <= whole.length ? prompt.length : 0;
    if (!status)
        status = buffer_append(text, whole.length ? whole.data + skip : "", whole.length - skip, error);
    buffer_free(&prompt);
    buffer_free(&whole);
    free(all.id);
    return status;
}

/* Why a continuation ended, in the words of OpenAI's API and vLLM; "context" is the model's last position. */
static const char *finish_reason(const struct generation *g, int i)
{
    const int64_t length = (int64_t)g->out[i].length;
    if (length >= g->options->generate.max_new_tokens)
        return "length";
    return (int64_t)g->ids[i].length + length > context_length(&g->model.config) ? "context" : "eos";
}

static int line_make(struct generation *g, int i, const char *text, const char *reason, struct error *error)
{
    cJSON *members = cJSON_CreateObject();
    const bool ok = members && json_add_string(members, results[0], text) &&
                    json_add_int(members, results[1], (int64_t)g->out[i].length) &&
                    json_add_string(members, results[2], reason);
    int status = ok ? prompt_line_make(&g->lines.data.row[row_of(g, i)], members, &g->line, error)
                    : error_set(error, STATUS_MEMORY, "out of host memory");
    cJSON_Delete(members);
    return status;
}

static int result_write(struct generation *g, int i, struct error *error)
{
    struct buffer text = {0};
    const char *reason = finish_reason(g, i);
    g->rows++;
    g->limited += !strcmp(reason, "context");
    g->line.length = 0;
    int status = continuation_decode(g, i, &text, error);
    if (!status && *g->options->input.data)
        status = line_make(g, i, text.data, reason, error);
    else if (!status)
        status = buffer_printf(&g->line, error, "%s\n", text.data);
    if (!status)
        status = row_output_write(&g->output, g->line.data, g->line.length, error);
    buffer_free(&text);
    return status;
}

/* After each step: what is done is shown, and written where nothing before it is still going on. */
static int step_done(void *user, int done, int done_first, struct error *error)
{
    struct generation *g = user;
    int status = STATUS_OK;
    const bool more = g->written < done_first;
    if (g->count > 1 && done > g->shown)
        progress_step(&g->progress, entries_before(g) + done, NULL, 0);
    g->shown = done;
    while (g->written < done_first && !status)
        status = result_write(g, g->written++, error);
    return status || !more ? status : row_output_flush(&g->output, error);
}

/* Room for the window's prompts; more than there was takes the model's memory anew. */
static int generator_room(struct generation *g, struct error *error)
{
    const int64_t context = context_length(&g->model.config);
    const int slots = (int)g->options->input.batch_size;
    int64_t longest = 1;
    for (int i = 0; i < g->count; i++)
        longest = (int64_t)g->ids[i].length > longest ? (int64_t)g->ids[i].length : longest;
    int64_t positions = longest + g->options->generate.max_new_tokens, rows = longest * (slots < g->count ? slots : g->count);
    if (rows > ROWS_MAX)
        rows = longest > ROWS_MAX ? longest : ROWS_MAX;
    const bool again = g->positions > 0;
    if (positions <= g->positions && longest <= g->prompt_rows && (g->count <= g->generator.slots || g->generator.slots == slots))
        return STATUS_OK;
    positions += again ? positions / 4 : 0;
    g->positions = positions > context ? context : positions > g->positions ? positions : g->positions;
    g->prompt_rows = rows > g->prompt_rows ? rows : g->prompt_rows;
    generator_close(&g->generator);
    if (again)
        model_release(&g->model.model);
    int status = generator_open(&g->generator, &g->model.model, &g->device, slots < g->count ? slots : g->count,
                                g->prompt_rows, g->positions, NULL, &g->options->generate, error);
    if (!status)
        status = weights_load(&g->model.weights, &g->model.model, error);
    if (!status)
        status = model_pack(&g->model.model, error);
    g->generator.rules = &g->model.rules;
    g->generator.advanced = step_done;
    g->generator.advanced_user = g;
    return status;
}

static int prompts_run(struct generation *g, struct error *error)
{
    const int64_t first = entries_before(g);
    int status = generator_room(g, error);
    if (status)
        return status;
    if (g->count > 1)
        progress_begin(&g->progress, g->log, "generate", first, first + g->count, g->count);
    status = generator_run(&g->generator, g->ids, g->count, first, g->model.stop, g->model.stops, g->out, error);
    if (g->count > 1)
        progress_end(&g->progress);
    return status;
}

static int file_continue(struct generation *g, struct error *error)
{
    const struct generate_command_options *options = g->options;
    int status = prompt_lines_open(&g->lines, &options->input, &g->model.prompt, false, error);
    while (!status && !(status = window_read(g, error)) && g->lines.data.rows) {
        if (!g->lines.first)
            prompt_lines_announce(&g->lines, options->input.prompt.chosen, g->log);
        if (g->count)
            status = prompts_run(g, error);
    }
    return status;
}

static int prompt_continue(struct generation *g, struct error *error)
{
    const struct generate_command_options *options = g->options;
    const struct dataset_row row = {.form = options->input.prompt.chosen ? ROW_QUESTION : ROW_PROMPT,
                                    .prompt = (char *)options->prompt};
    struct buffer text = {0};
    int status = prompt_apply(&g->model.prompt, &row, NULL, &g->one, error);
    if (!status && options->input.prompt.chosen && !prompt_describe(&g->model.prompt, &text, error))
        log_info(g->log, "%s", text.data);
    buffer_free(&text);
    if (!status)
        status = prompts_take(g, (int)options->num_return_sequences, error);
    return status ? status : prompts_run(g, error);
}

static int generation_run(struct generation *g, struct invocation *run, struct error *error)
{
    const struct generate_command_options *options = g->options;
    int status = device_open_chosen(&g->device, &options->device, 0, error);
    if (!status)
        status = eval_model_open(&g->model, &options->model, &options->input.prompt, g->device.engine->dtype, error);
    if (!status) {
        log_warnings(g->log, tokenizer_warnings(g->model.tokenizer));
        log_warnings(g->log, g->model.rules.unused);
        log_warnings(g->log, g->model.weights.warnings.data);
        log_warnings(g->log, g->model.adapter.warnings.data);
    }
    if (!status)
        status = row_output_open(&g->output, &options->output, run, &g->model, &options->model, g->log, error);
    if (!status)
        status = *options->input.data ? file_continue(g, error) : prompt_continue(g, error);
    if (g->limited)
        log_warning(g->log, "%lld of %lld texts end at the model's last position, %lld", (long long)g->limited,
                    (long long)g->rows, (long long)context_length(&g->model.config));
    const int closed = row_output_close(&g->output, !status, error);
    return status ? status : closed;
}

static int generate_run(struct invocation *run, struct error *error)
{
    struct generation g = {.options = run->options, .log = &run->log};
    int status = generation_run(&g, run, error);
    window_free(&g);
    buffer_free(&g.one.text);
    buffer_free(&g.line);
    generator_close(&g.generator);
    prompt_lines_close(&g.lines);
    eval_model_close(&g.model);
    device_close(&g.device);
    return status;
}

static int generate_check(struct invocation *run, struct error *error)
{
    const struct generate_command_options *options = run->options;
    if (option_given(&run->set, "prompt") == !!*options->input.data)
        return error_set(error, STATUS_USAGE, "--prompt: 'flat generate' needs either --prompt TEXT or --data FILE");
    if (options->num_return_sequences > 1 && options->generate.temperature == 0)
        return error_set(error, STATUS_USAGE, "--num_return_sequences: %lld times the same greedy text; give a --temperature",
                         (long long)options->num_return_sequences);
    if (*options->output.output && !*options->input.data)
        return error_set(error, STATUS_USAGE, "--output: goes with --data FILE; the text of --prompt is on standard output");
    return STATUS_OK;
}

const struct command command_generate = {
    .name = "generate",
    .argument = "CONFIG",
    .at_most = 1,
    .config = CONFIG_RUN,
    .summary = "Continues a prompt, greedily unless a temperature is given; the model, template and keys of a run where its "
               "folder or config is given.",
    .examples = {"flat generate --model DIR --prompt \"Once upon a time\"",
                 "flat generate --model DIR --prompt \"Once\" --temperature 0.8 --top_p 0.95 --seed 7",
                 "flat generate runs/tofu --data questions.jsonl --output answers.jsonl"},
    .groups = groups,
    .options_bytes = sizeof(struct generate_command_options),
    .required = "model_name_or_path",
    .check = generate_check,
    .run = generate_run,
};

/* generate.c - `flat generate`: continues one prompt (text on stdout) or a file of them (JSON lines with the
 * continuation as "text").
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../eval/generate.h"
#include "../../model/adapter.h"
#include "../../model/model_options.h"
#include "../../model/weights.h"
#include "../../util/progress.h"
#include "../command.h"
#include "../prompt_lines.h"

struct generate_command_options {
    struct model_options model;
    struct input_options input;
    struct generate_options generate;
    struct device_options device;
    struct log_options log;
    const char *prompt;
};

static const struct option option_rows[] = {
    {.name = "prompt", OPTION_FIELD(struct generate_command_options, prompt),
     .help = "text to continue, instead of a file; may be empty"},
};
static const struct option_group prompt_text_group = {OPTION_GROUP("Input", option_rows, struct generate_command_options)};

static const struct command_group groups[] = {
    {&model_option_group, offsetof(struct generate_command_options, model)},
    {&adapter_option_group, offsetof(struct generate_command_options, model)},
    {&dataset_option_group, offsetof(struct generate_command_options, input.dataset)},
    {&prompt_option_group, offsetof(struct generate_command_options, input.prompt)},
    {&input_option_group, offsetof(struct generate_command_options, input)},
    {&prompt_text_group, 0},
    {&generate_option_group, offsetof(struct generate_command_options, generate)},
    {&device_option_group, offsetof(struct generate_command_options, device)},
    {&log_option_group, offsetof(struct generate_command_options, log)},
    {NULL, 0},
};

enum { ROWS_MAX = 2048 }; /* rows of prompts in one step, unless a prompt is longer: bounds the memory */

struct generation {
    struct prompt_lines lines;
    struct prompt_text one; /* of --prompt */
    int count;
    struct token_list *ids, *out; /* [count] */
    int64_t longest, positions;
    int32_t eos[9];
    int eos_count;
    struct tokenizer *tokenizer;
    struct model_config config;
    struct weights weights;
    struct adapter adapter;
    struct model model;
    struct device device;
    struct generator generator;
};

static int prompts_take(struct generation *g, const struct invocation *run, struct error *error)
{
    const struct generate_command_options *options = run->options;
    const char *directory = options->model.model_name_or_path;
    struct dataset_row row = {.form = options->input.prompt.chosen ? ROW_QUESTION : ROW_PROMPT, .prompt = (char *)options->prompt};
    int status;
    if (*options->input.data) {
        status = prompt_lines_read(&g->lines, &options->input, false, directory, g->tokenizer, 0, error);
    } else {
        status = prompt_open(&g->lines.prompt, &options->input.prompt, directory, g->tokenizer, error);
        if (!status)
            status = prompt_apply(&g->lines.prompt, &row, NULL, &g->one, error);
    }
    if (status)
        return status;
    g->count = *options->input.data ? g->lines.data.rows : 1;
    g->ids = memory_array((size_t)g->count, sizeof *g->ids, error);
    g->out = memory_array((size_t)g->count, sizeof *g->out, error);
    return g->ids && g->out ? STATUS_OK : STATUS_MEMORY;
}

/* A prompt of no token begins with that of a beginning of sequence, or else of an end, as texts do in training. */
static int begin_append(struct generation *g, struct token_list *ids, struct error *error)
{
    const int32_t bos = tokenizer_bos(g->tokenizer), id = bos >= 0 ? bos : tokenizer_eos(g->tokenizer);
    int status = ids->length || id < 0 ? STATUS_OK : memory_grow(&ids->id, &ids->capacity, 1, sizeof *ids->id, error);
    if (!status && !ids->length && id >= 0)
        ids->id[ids->length++] = id;
    return status;
}

static int prompts_encode(struct generation *g, const struct generate_command_options *options, struct error *error)
{
    int status = STATUS_OK;
    for (int i = 0; i < g->count && !status; i++) {
        const struct prompt_text *text = *options->input.data ? &g->lines.text[i] : &g->one;
        status = prompt_encode(g->tokenizer, text->text.data, text->text.length, text->special, &g->ids[i], error);
        if (!status)
            status = begin_append(g, &g->ids[i], error);
        int64_t length = (int64_t)g->ids[i].length;
        if (!status && (length < 1 || length >= context_length(&g->config)))
            status = error_set(error, STATUS_INPUT, "prompt %d: %lld tokens; expected 1 to %lld for this model", i + 1,
                               (long long)length, (long long)context_length(&g->config) - 1);
        g->longest = length > g->longest ? length : g->longest;
    }
    g->positions = g->longest + options->generate.max_new_tokens;
    if (g->positions > context_length(&g->config))
        g->positions = context_length(&g->config);
    for (g->eos_count = 0; g->eos_count < g->config.eos_token_ids; g->eos_count++)
        g->eos[g->eos_count] = g->config.eos_token_id[g->eos_count];
    if (tokenizer_eos(g->tokenizer) >= 0)
        g->eos[g->eos_count++] = tokenizer_eos(g->tokenizer);
    return status;
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
        status = tokenizer_decode(g->tokenizer, g->ids[i].id, g->ids[i].length, true, &prompt, error);
    }
    if (!status)
        status = tokenizer_decode(g->tokenizer, all.id, g->ids[i].length + g->out[i].length, true, &whole, error);
    size_t skip = prompt.length <= whole.length ? prompt.length : 0;
    if (!status)
        status = buffer_append(text, whole.length ? whole.data + skip : "", whole.length - skip, error);
    buffer_free(&prompt);
    buffer_free(&whole);
    free(all.id);
    return status;
}

/* Why a continuation ended, in the words of OpenAI's API and vLLM; "context" is the model's last position. */
static const char *finish_reason(const struct generation *g, int i, int64_t max_new_tokens)
{
    const int64_t length = (int64_t)g->out[i].length;
    if (length >= max_new_tokens)
        return "length";
    return (int64_t)g->ids[i].length + length >= context_length(&g->config) ? "context" : "eos";
}

static int results_print(struct generation *g, struct invocation *run, struct error *error)
{
    const struct generate_command_options *options = run->options;
    const int64_t most = options->generate.max_new_tokens;
    int status = STATUS_OK, limited = 0;
    for (int i = 0; i < g->count && !status; i++) {
        struct buffer text = {0};
        const char *reason = finish_reason(g, i, most);
        limited += !strcmp(reason, "context");
        status = continuation_decode(g, i, &text, error);
        if (!status && !*options->input.data) {
            printf("%s\n", text.data);
        } else if (!status) {
            cJSON *members = cJSON_CreateObject();
            const bool ok = members && json_add_string(members, "text", text.data) &&
                            json_add_int(members, "num_tokens", (int64_t)g->out[i].length) &&
                            json_add_string(members, "finish_reason", reason);
            status = ok ? prompt_line_print(&g->lines.data.row[i], members, error)
                        : error_set(error, STATUS_MEMORY, "out of host memory");
            cJSON_Delete(members);
        }
        buffer_free(&text);
    }
    if (limited)
        log_warning(&run->log, "%d of %d texts end at the model's last position, %lld", limited, g->count,
                    (long long)context_length(&g->config));
    return status ? status : stdout_finish(error);
}

static void generate_show(void *user, int done)
{
    struct progress *progress = user;
    progress_step(progress, done, NULL, 0);
}

static int prompts_run(struct generation *g, struct invocation *run, struct error *error)
{
    struct progress progress;
    if (g->count > 1) {
        progress_begin(&progress, &run->log, "generate", 0, g->count, g->count);
        g->generator.advanced = generate_show;
        g->generator.advanced_user = &progress;
    }
    int status = generator_run(&g->generator, g->ids, g->count, 0, g->eos, g->eos_count, g->out, error);
    if (g->count > 1)
        progress_end(&progress);
    return status;
}

static int generation_run(struct generation *g, struct invocation *run, struct error *error)
{
    const struct generate_command_options *options = run->options;
    int status = model_config_read(&g->config, options->model.model_name_or_path, error);
    if (!status)
        status = tokenizer_load(&g->tokenizer, options->model.model_name_or_path, error);
    if (!status) {
        tokenizer_limit(g->tokenizer, g->config.vocab_size);
        log_warnings(&run->log, tokenizer_warnings(g->tokenizer));
    }
    if (!status)
        status = prompts_take(g, run, error);
    if (!status)
        prompt_lines_announce(&g->lines, options->input.prompt.chosen, &run->log);
    if (!status)
        status = prompts_encode(g, options, error);
    if (!status)
        status = device_open_chosen(&g->device, &options->device, 0, error);
    if (!status)
        status = model_create(&g->model, &g->config, g->device.engine->dtype, error);
    if (!status)
        status = weights_open(&g->weights, &g->model, options->model.model_name_or_path, error);
    if (!status && *options->model.adapter) {
        status = adapter_open(&g->adapter, &g->model, options->model.adapter, error);
        g->weights.adapter = &g->adapter;
    }
    log_warnings(&run->log, g->adapter.warnings.data);
    int slots = options->input.batch_size < g->count ? (int)options->input.batch_size : g->count;
    int64_t prompt_rows = g->longest * slots < ROWS_MAX ? g->longest * slots : g->longest > ROWS_MAX ? g->longest : ROWS_MAX;
    if (!status)
        status = generator_open(&g->generator, &g->model, &g->device, slots, prompt_rows, g->positions, NULL,
                                &options->generate, error);
    if (!status)
        status = weights_load(&g->weights, &g->model, error);
    if (!status)
        status = prompts_run(g, run, error);
    if (!status)
        status = results_print(g, run, error);
    return status;
}

static int generate_run(struct invocation *run, struct error *error)
{
    struct generation g = {0};
    int status = generation_run(&g, run, error);
    for (int i = 0; i < g.count; i++) {
        if (g.ids)
            free(g.ids[i].id);
        if (g.out)
            free(g.out[i].id);
    }
    free(g.ids);
    free(g.out);
    buffer_free(&g.one.text);
    generator_close(&g.generator);
    model_free(&g.model);
    weights_close(&g.weights);
    adapter_free(&g.adapter);
    tokenizer_free(g.tokenizer);
    device_close(&g.device);
    prompt_lines_free(&g.lines);
    return status;
}

static int generate_check(struct invocation *run, struct error *error)
{
    const struct generate_command_options *options = run->options;
    if (option_given(&run->set, "prompt") == !!*options->input.data)
        return error_set(error, STATUS_USAGE, "--prompt: 'flat generate' needs either --prompt TEXT or --data FILE");
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
                 "flat generate runs/tofu --data questions.jsonl > answers.jsonl"},
    .groups = groups,
    .options_bytes = sizeof(struct generate_command_options),
    .required = "model_name_or_path",
    .check = generate_check,
    .run = generate_run,
};

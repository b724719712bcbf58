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

struct generation {
    struct prompt_lines lines;
    const char **prompt; /* [count] */
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
    int status = *options->input.data ? prompt_lines_read(&g->lines, &options->input, input_has_rows(&run->set), false, error) : STATUS_OK;
    if (status)
        return status;
    g->count = *options->input.data ? g->lines.count : 1;
    g->prompt = memory_array((size_t)g->count, sizeof *g->prompt, error);
    g->ids = memory_array((size_t)g->count, sizeof *g->ids, error);
    g->out = memory_array((size_t)g->count, sizeof *g->out, error);
    if (!g->prompt || !g->ids || !g->out)
        return STATUS_MEMORY;
    for (int i = 0; i < g->count; i++)
        g->prompt[i] = *options->input.data ? g->lines.line[i].prompt : options->prompt;
    return STATUS_OK;
}

static int prompts_encode(struct generation *g, const struct generate_command_options *options, struct error *error)
{
    int status = STATUS_OK;
    for (int i = 0; i < g->count && !status; i++) {
        status = tokenizer_encode(g->tokenizer, g->prompt[i], strlen(g->prompt[i]), true, &g->ids[i], error);
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

static int results_print(struct generation *g, const struct generate_command_options *options, struct error *error)
{
    int status = STATUS_OK;
    for (int i = 0; i < g->count && !status; i++) {
        struct buffer text = {0}, line = {0};
        status = continuation_decode(g, i, &text, error);
        if (!status && !*options->input.data) {
            printf("%s\n", text.data);
        } else if (!status) {
            cJSON *object = g->lines.line[i].object;
            status = json_add_string(object, "text", text.data) && json_add_int(object, "num_tokens",
                                                                                (int64_t)g->out[i].length)
                         ? json_print(object, &line, error)
                         : error_set(error, STATUS_MEMORY, "out of host memory");
            if (!status)
                puts(line.data);
        }
        buffer_free(&line);
        buffer_free(&text);
    }
    return status ? status : stdout_finish(error);
}

static int batches_run(struct generation *g, struct invocation *run, struct error *error)
{
    const struct generate_command_options *options = run->options;
    struct progress progress;
    int slots = options->input.batch_size < g->count ? (int)options->input.batch_size : g->count, status = STATUS_OK;
    int batches = (g->count + slots - 1) / slots;
    if (batches > 1)
        progress_begin(&progress, &run->log, "generate", 0, batches, batches);
    for (int b = 0; b < batches && !status; b++) {
        int from = b * slots, count = from + slots < g->count ? slots : g->count - from;
        status = generator_run(&g->generator, g->ids + from, count, from, g->eos, g->eos_count, g->out + from, error);
        if (batches > 1)
            progress_step(&progress, b + 1, NULL, 0);
    }
    if (batches > 1)
        progress_end(&progress);
    return status;
}

static int generation_run(struct generation *g, struct invocation *run, struct error *error)
{
    const struct generate_command_options *options = run->options;
    int status = prompts_take(g, run, error);
    if (!status)
        status = model_config_read(&g->config, options->model.model_name_or_path, error);
    if (!status)
        status = tokenizer_load(&g->tokenizer, options->model.model_name_or_path, error);
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
    int slots = options->input.batch_size < g->count ? (int)options->input.batch_size : g->count;
    if (!status)
        status = generator_open(&g->generator, &g->model, &g->device, slots, g->longest * slots, g->positions, &options->generate,
                                error);
    if (!status)
        status = weights_load(&g->weights, &g->model, error);
    if (!status)
        status = batches_run(g, run, error);
    if (!status)
        status = results_print(g, options, error);
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
    free(g.prompt);
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

/* attack.c - `flat attack`: does the forgetting last? Relearning, quantization, sampling, probes, disruption; see ../attack/attack.h.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../eval/metric/mean.h"
#include "../../util/file.h"
#include "../attack/attack.h"

static const struct option option_rows[] = {
    {.name = "attacks", OPTION_LIST_FIELD(struct attack_options, attacks), .operand = "NAME,...",
     .help = "which of relearn, quantize, sample, probe, disrupt; unless given, all that there are data for"},
    {.name = "output_dir", .letter = 'o', OPTION_FIELD(struct attack_options, output_dir), .local = true, .operand = "DIR",
     .help = "folder for attack.md and attack.json, attack-NAME.md and .json of attacks that were named, and what is kept; of a run its "
             "folder attacks"},
    {.name = "target_model", OPTION_FIELD(struct attack_options, target_model), .local = true, .operand = "DIR",
     .help = "the model before unlearning; of a run the one that it began with"},
    {.name = "target_adapter", OPTION_FIELD(struct attack_options, target_adapter), .local = true, .operand = "DIR",
     .help = "PEFT folder of an adapter on target_model"},
    {.name = "retain_model", OPTION_FIELD(struct attack_options, retain_model), .local = true, .operand = "DIR",
     .help = "a model that never saw the forget set, for R and to compare with"},
    {.name = "baseline_log", OPTION_FIELD(struct attack_options, baseline_log), .local = true, .operand = "FILE",
     .help = "attack.jsonl of another run that was attacked alike: figures of the target and the retain model are taken from it"},
    {.name = "save_models", OPTION_FIELD(struct attack_options, save_models),
     .help = "keep the relearned models (work/) and write the rounded ones (int8/, nf4/) as folders"},
};
static const struct option data_rows[] = {
    {.name = "forget_data", OPTION_FIELD(struct attack_options, forget_data), .local = true, .operand = "FILE",
     .help = "the forget set"},
    {.name = "unrelated_data", OPTION_FIELD(struct attack_options, unrelated_data), .local = true, .operand = "FILE",
     .help = "rows or running text that have nothing to do with it, to relearn by"},
    {.name = "probe_data", OPTION_FIELD(struct attack_options, probe_data), .local = true, .operand = "FILE",
     .help = "rows {\"prompt\", \"answer\", \"kind\"}: paraphrases, other languages, prompts with examples"},
    {.name = "text_data", OPTION_FIELD(struct attack_options, text_data), .local = true, .operand = "FILE",
     .help = "plain text that the models' distributions are compared on"},
    {.name = "neighbor_data", OPTION_FIELD(struct attack_options, neighbor_data), .local = true, .operand = "FILE",
     .help = "questions near the forget set that should still be answered; refusals are those of template.file"},
    {.name = "eval_rows", OPTION_FIELD(struct attack_options, eval_rows), .initial = "0", .max = OPTION_COUNT_MAX,
     .help = "the first so many rows of every file are asked; 0 takes all"},
    {.name = "eval_max_length", OPTION_FIELD(struct attack_options, eval_max_length), .initial = "512", .min = 2,
     .max = OPTION_COUNT_MAX, .help = "tokens of a prompt and its answer; what is longer is cut"},
};
static const struct option relearn_rows[] = {
    {.name = "attack_budget", OPTION_FIELD(struct attack_options, attack_budget), .operand = "N|Ns",
     .help = "steps of each relearning at most, or, with s behind the number, about so many seconds of all of them together"},
    {.name = "relearn_learning_rate", OPTION_FIELD(struct attack_options, relearn_learning_rate), .initial = "2e-5", .max = HUGE_VAL,
     .help = "peak learning rate of relearning"},
    {.name = "relearn_epochs", OPTION_FIELD(struct attack_options, relearn_epochs), .initial = "1", .min = 1e-6,
     .max = OPTION_COUNT_MAX, .help = "passes over the data of relearning"},
    {.name = "relearn_batch_size", OPTION_FIELD(struct attack_options, relearn_batch_size), .initial = "32", .min = 1, .max = 65536,
     .help = "rows of a step of relearning"},
};
static const struct option sample_rows[] = {
    {.name = "leak_k", OPTION_LIST_FIELD(struct attack_options, leak_k), .initial = "1,4,16,64", .operand = "N,...",
     .help = "of how many sampled answers the best counts"},
    {.name = "leak_draws", OPTION_FIELD(struct attack_options, leak_draws), .initial = "0", .max = 10000,
     .help = "answers drawn for each question; 0 is the largest of leak_k"},
    {.name = "temperature", OPTION_FIELD(struct attack_options, temperature), .initial = "1", .min = 1e-6, .max = HUGE_VAL,
     .help = "of the sampling"},
    {.name = "top_p", OPTION_FIELD(struct attack_options, top_p), .initial = "1", .min = 1e-6, .max = 1,
     .help = "sample from the fewest tokens that hold this much probability"},
    {.name = "attack_seed", OPTION_FIELD(struct attack_options, attack_seed), .initial = "42", .max = OPTION_EXACT_MAX,
     .help = "of the sampling"},
    {.name = "max_new_tokens", OPTION_FIELD(struct attack_options, max_new_tokens), .initial = "200", .min = 1,
     .max = OPTION_COUNT_MAX, .help = "tokens of an answer at most"},
    {.name = "text_tokens", OPTION_FIELD(struct attack_options, text_tokens), .initial = "256", .min = 2, .max = 65536,
     .help = "tokens of the pieces that text_data is cut into"},
};
static const struct option_group attack_option_group = {OPTION_GROUP("Attack", option_rows, struct attack_options)};
static const struct option_group data_option_group = {OPTION_GROUP("Data", data_rows, struct attack_options)};
static const struct option_group relearn_option_group = {
    OPTION_GROUP("Relearning", relearn_rows, struct attack_options),
    .source = "one epoch at 2e-5, 32 rows per step: OpenUnlearning's meta-evaluation, arXiv 2506.12618"};
static const struct option_group sample_option_group = {OPTION_GROUP("Sampling and texts", sample_rows, struct attack_options),
                                                        .source = "leak@k: arXiv 2511.04934"};

static const struct command_group groups[] = {
    {&attack_option_group, 0},
    {&model_option_group, offsetof(struct attack_options, model)},
    {&adapter_option_group, offsetof(struct attack_options, model)},
    {&data_option_group, 0},
    {&dataset_option_group, offsetof(struct attack_options, dataset)},
    {&relearn_option_group, 0},
    {&sample_option_group, 0},
    {&prompt_option_group, offsetof(struct attack_options, prompt)},
    {&template_option_group, offsetof(struct attack_options, template_)},
    {&evaluate_option_group, offsetof(struct attack_options, evaluate)},
    {&device_option_group, offsetof(struct attack_options, device)},
    {&log_option_group, offsetof(struct attack_options, log)},
    {NULL, 0},
};

static int (*const parts[])(struct attack *attack, struct error *error) = {
    [PART_RELEARN] = attack_relearn, [PART_QUANTIZE] = attack_quantize, [PART_SAMPLE] = attack_sample,
    [PART_PROBE] = attack_probe,     [PART_DISRUPT] = attack_disrupt};

/* What a part needs that was not given; NULL: nothing. */
static const char *part_lacks(const struct attack *attack, int part)
{
    const struct attack_options *options = attack->options;
    if (part == PART_PROBE)
        return *options->probe_data ? NULL : "probe_data";
    if (part == PART_DISRUPT && !*options->text_data && !*options->neighbor_data)
        return "text_data or neighbor_data";
    if (part == PART_DISRUPT && *options->text_data && !attack->there[TARGET])
        return "target_model";
    return part != PART_DISRUPT && !*options->forget_data ? "forget_data" : NULL;
}

static int part_find(const char *name, size_t length, int *part, struct error *error)
{
    for (*part = 0; *part < PARTS; ++*part)
        if (strlen(attack_part_names[*part]) == length && !strncmp(attack_part_names[*part], name, length))
            return STATUS_OK;
    return error_set(error, STATUS_USAGE, "attacks: '%.*s': expected relearn, quantize, sample, probe, disrupt",
                     length < 60 ? (int)length : 60, name);
}

/* What was done alone has files of its own, so that it does not take the place of the rest. */
static int parts_choose(struct attack *attack, bool chosen[PARTS], struct error *error)
{
    const char *list = attack->options->attacks;
    for (int part = 0; part < PARTS; part++)
        chosen[part] = !*list && !part_lacks(attack, part);
    for (const char *name = list; *name;) {
        const size_t length = strcspn(name, ",");
        int part, status = part_find(name, length, &part, error);
        if (status)
            return status;
        if (part_lacks(attack, part))
            return error_set(error, STATUS_USAGE, "attacks: %s needs %s", attack_part_names[part], part_lacks(attack, part));
        chosen[part] = true;
        name += length + (name[length] == ',');
    }
    bool any = false;
    snprintf(attack->stem, sizeof attack->stem, "attack");
    for (int part = 0; part < PARTS; part++) {
        const size_t used = strlen(attack->stem);
        any = any || chosen[part];
        if (chosen[part] && *list)
            snprintf(attack->stem + used, sizeof attack->stem - used, "-%s", attack_part_names[part]);
    }
    if (any)
        return STATUS_OK;
    return error_set(error, STATUS_USAGE, "forget_data: needed for relearn, quantize and sample");
}

/* "100" steps or "600s" seconds. */
static int budget_read(struct attack *attack, struct error *error)
{
    const char *text = attack->options->attack_budget;
    char *end;
    if (!*text)
        return STATUS_OK;
    const double value = text[strspn(text, "0123456789.s")] ? -1 : strtod(text, &end);
    if (value > 0 && value <= OPTION_COUNT_MAX && !strcmp(end, "s"))
        attack->seconds = value;
    else if (value >= 1 && value <= OPTION_COUNT_MAX && !*end && value == floor(value))
        attack->steps = (int64_t)value;
    else
        return error_set(error, STATUS_USAGE, "attack_budget: expected a number of steps, as 100, or of seconds, as 600s; found \"%.40s\"",
                         text);
    return STATUS_OK;
}

/* The model that a run began with, by its run.json. */
static int target_find(struct attack *attack, struct error *error)
{
    const struct attack_options *options = attack->options;
    const struct option_arguments *arguments = &attack->run->arguments;
    char path[4096];
    snprintf(attack->target, sizeof attack->target, "%s", options->target_model);
    snprintf(attack->target_adapter, sizeof attack->target_adapter, "%s", options->target_adapter);
    if (*attack->target || !arguments->count)
        return STATUS_OK;
    const bool folder = file_is_directory(arguments->argument[0]);
    int status = folder ? file_join(path, sizeof path, arguments->argument[0], "run.json", error) : STATUS_OK;
    cJSON *json = status ? NULL : json_read(folder ? path : arguments->argument[0], error);
    if (!status && !json)
        status = error->status;
    const cJSON *config = json_member(json, "config"), *model = json_member(config ? config : json, "model_name_or_path"),
                *adapter = json_member(config ? config : json, "adapter");
    if (cJSON_IsString(model))
        snprintf(attack->target, sizeof attack->target, "%s", model->valuestring);
    if (cJSON_IsString(adapter))
        snprintf(attack->target_adapter, sizeof attack->target_adapter, "%s", adapter->valuestring);
    cJSON_Delete(json);
    if (!status && *attack->target && !file_is_directory(attack->target)) {
        log_warning(attack->log, "the model that the run began with, %s, is not there: only the unlearned one is attacked; "
                    "--target_model names it", attack->target);
        *attack->target = 0;
    }
    return status;
}

static int output_choose(struct attack *attack, struct error *error)
{
    const struct attack_options *options = attack->options;
    const bool of_run = option_source(&attack->run->set, "output_dir") == OPTION_FROM_FILE;
    const char *folder = *options->model.adapter ? options->model.adapter : options->model.model_name_or_path;
    if (!of_run && !*options->output_dir)
        return error_set(error, STATUS_USAGE, "output_dir: missing: where attack.md and attack.json go; add --output_dir DIR");
    int status = of_run ? file_join(attack->output_dir, sizeof attack->output_dir, folder, "attacks", error) : STATUS_OK;
    if (!of_run)
        snprintf(attack->output_dir, sizeof attack->output_dir, "%s", options->output_dir);
    return status ? status : file_make_directory(attack->output_dir, error);
}

static int attack_prepare(struct attack *attack, struct error *error)
{
    const struct attack_options *options = attack->options;
    attack->setting = (struct attack_setting){.prompt = &options->prompt,
                                              .dataset = &options->dataset,
                                              .evaluate = &options->evaluate,
                                              .max_length = options->eval_max_length,
                                              .rows = options->eval_rows,
                                              .max_new_tokens = options->max_new_tokens,
                                              .device = &attack->device,
                                              .log = attack->log};
    int status = budget_read(attack, error);
    if (!status)
        status = target_find(attack, error);
    if (status)
        return status;
    attack->subject[TARGET] = (struct attack_subject){.model = {attack->target, attack->target_adapter}, .label = "target"};
    attack->subject[UNLEARNED] = (struct attack_subject){.model = options->model, .label = "unlearned"};
    attack->subject[RETAIN] = (struct attack_subject){.model = {options->retain_model, ""}, .label = "retain"};
    attack->there[TARGET] = *attack->target;
    attack->there[UNLEARNED] = true;
    attack->there[RETAIN] = *options->retain_model;
    attack->curves = cJSON_CreateArray();
    return attack->curves ? STATUS_OK : error_set(error, STATUS_MEMORY, "out of host memory");
}

/* K before any attack begins the table, where an attack is to compare with it. */
static int know_report(struct attack *attack, struct error *error)
{
    double value[ATTACK_MODELS] = {NAN, NAN, NAN};
    int status = attack_know(attack, error);
    for (int m = 0; m < ATTACK_MODELS && !status; m++)
        if (attack->there[m])
            value[m] = mean_of(attack->before[m].value, (size_t)attack->before[m].rows);
    return status ? status
                  : attack_add(attack, PART_KNOW, "K, P(answer) of the forget set", value, attack->before[UNLEARNED].value,
                               (size_t)attack->before[UNLEARNED].rows, error);
}

static int attack_run(struct attack *attack, struct error *error)
{
    bool chosen[PARTS];
    int status = attack_prepare(attack, error);
    if (!status)
        status = parts_choose(attack, chosen, error);
    if (!status)
        status = output_choose(attack, error);
    if (!status)
        status = device_open_chosen(&attack->device, &attack->options->device, 0, error);
    if (!status)
        status = attack_rows_open(attack, error);
    if (!status && (chosen[PART_RELEARN] || chosen[PART_QUANTIZE]))
        status = know_report(attack, error);
    for (int part = 0; part < PARTS && !status; part++)
        if (chosen[part]) {
            log_info(attack->log, "%s", attack_part_names[part]);
            status = parts[part](attack, error);
            if (!status) /* what is known so far is kept */
                status = attack_table_write(attack, NULL, error);
            if (!status)
                status = attack_rows_write(attack, error);
        }
    return status;
}

static int run_attack(struct invocation *run, struct error *error)
{
    struct attack *attack = memory_array(1, sizeof *attack, error);
    struct buffer table = {0};
    if (!attack)
        return STATUS_MEMORY;
    attack->options = run->options;
    attack->run = run;
    attack->log = &run->log;
    int status = attack_run(attack, error);
    if (!status)
        status = text_print(&table, attack_table_write(attack, &table, error), error);
    attack_table_free(attack);
    device_close(&attack->device);
    free(attack);
    return status;
}

const struct command command_attack = {
    .name = "attack",
    .argument = "CONFIG",
    .at_most = 1,
    .config = CONFIG_RUN,
    .summary = "Does the forgetting last? Relearning, quantization, sampling, probes and disruption of an unlearned model, beside the "
               "one before and one that never knew (the models, template and keys of a run where its folder is given).",
    .examples = {"flat attack runs/tofu --retain_model runs/retain",
                 "flat attack runs/tofu --attacks quantize,sample --leak_k 1,16",
                 "flat attack --model DIR --target_model DIR --forget_data forget.jsonl --attack_budget 100 -o attacks"},
    .groups = groups,
    .options_bytes = sizeof(struct attack_options),
    .required = "model_name_or_path question_key answer_key",
    .run = run_attack,
};

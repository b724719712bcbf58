/* eval.c - `flat eval`: did it forget, and what did it cost? A suite of questions to a model, or the figures of an
 * evaluation log that was made elsewhere.
 */
#include <stdlib.h>
#include <string.h>

#include "../../eval/suite/from_logs.h"
#include "../../eval/suite/suite.h"
#include "../../util/file.h"
#include "../command.h"
#include "../launcher.h"

struct eval_command_options {
    struct model_options model;
    struct suite_options data;
    struct evaluate_options evaluate;
    struct dataset_options dataset;
    struct prompt_options prompt;
    struct template_options template_;
    struct device_options device;
    struct launcher_options launcher;
    struct log_options log;
    int suite; /* 0: auto, else 1 + index of the suite */
    const char *from_logs, *retain_log, *refusals, *output_dir, *method_label, *submitted_by;
};

static const char *suite_choice(int index)
{
    return index ? suite_name(index - 1) : "auto";
}

static const struct option option_rows[] = {
    {.name = "suite", OPTION_FIELD(struct eval_command_options, suite), .choice = suite_choice, .initial = "auto",
     .help = "which questions and figures: qa is rows of one's own; auto is qa, or of a log what its metrics are named"},
    {.name = "output_dir", .letter = 'o', OPTION_FIELD(struct eval_command_options, output_dir), .local = true,
     .operand = "DIR",
     .help = "folder for <SUITE>_EVAL.json, <SUITE>_SUMMARY.json and TOFU's two CSV files; of a run its folder evals"},
    {.name = "retain_log", OPTION_FIELD(struct eval_command_options, retain_log), .local = true, .operand = "FILE",
     .help = "the _EVAL.json of a model that never saw the forget set, for forget_quality and privleak"},
    {.name = "refusals", OPTION_FIELD(struct eval_command_options, refusals), .local = true, .operand = "FILE",
     .help = "answers that refuse, one per line, for refusal rates; template.file unless given"},
    {.name = "from_logs", OPTION_FIELD(struct eval_command_options, from_logs), .local = true, .operand = "FILE",
     .help = "no model, but a log: open-unlearning's <SUITE>_EVAL.json or TOFU's eval_log_aggregated.json"},
    {.name = "method_label", OPTION_FIELD(struct eval_command_options, method_label), .operand = "TEXT",
     .help = "for the column Method of TOFU's leaderboard"},
    {.name = "submitted_by", OPTION_FIELD(struct eval_command_options, submitted_by), .operand = "TEXT",
     .help = "for the column Submitted By of TOFU's leaderboard"},
};
static const struct option_group eval_option_group = {OPTION_GROUP("Evaluation", option_rows,
                                                                   struct eval_command_options)};

static const struct command_group groups[] = {
    {&eval_option_group, 0},
    {&evaluate_option_group, offsetof(struct eval_command_options, evaluate)},
    {&model_option_group, offsetof(struct eval_command_options, model)},
    {&adapter_option_group, offsetof(struct eval_command_options, model)},
    {&reinforced_option_group, offsetof(struct eval_command_options, model)},
    {&dataset_option_group, offsetof(struct eval_command_options, dataset)},
    {&suite_option_group, offsetof(struct eval_command_options, data)},
    {&prompt_option_group, offsetof(struct eval_command_options, prompt)},
    {&template_option_group, offsetof(struct eval_command_options, template_)},
    {&launcher_option_group, offsetof(struct eval_command_options, launcher)},
    {&device_option_group, offsetof(struct eval_command_options, device)},
    {&log_option_group, offsetof(struct eval_command_options, log)},
    {NULL, 0},
};

static const char *given(const char *text)
{
    return *text ? text : NULL;
}

/* The table is printed where the files are written, figures that are not finite among them. */
static int summary_print(const cJSON *summary, int status, struct error *error)
{
    struct buffer text = {0};
    struct error second = {0};
    if (!summary)
        return status;
    int printed = text_print(&text, eval_summary_print(summary, &text, &second), &second);
    if (!status && printed)
        *error = second;
    return status ? status : printed;
}

static int refusals_read(const struct eval_command_options *options, struct answer_list *refusals, struct error *error)
{
    const char *path = *options->refusals ? options->refusals : options->template_.file;
    return *path ? answer_list_read(refusals, path, error) : STATUS_OK;
}

static struct results_options results_options(const struct eval_command_options *options,
                                              const struct answer_list *refusals)
{
    return (struct results_options){.output_dir = given(options->output_dir),
                                    .refusals = (const char *const *)refusals->text,
                                    .refusal_count = refusals->count,
                                    .method = given(options->method_label),
                                    .submitted_by = given(options->submitted_by)};
}

static int logs_run(struct invocation *run, struct error *error)
{
    const struct eval_command_options *options = run->options;
    struct answer_list refusals = {0};
    cJSON *summary = NULL;
    int status = refusals_read(options, &refusals, error);
    struct from_logs_options from = {options->from_logs, given(options->retain_log), results_options(options, &refusals)};
    from.results.suite = options->suite ? suites[options->suite - 1]->log_name : NULL;
    if (!status)
        status = eval_from_logs(&from, &run->log, &summary, error);
    status = summary_print(summary, status, error);
    cJSON_Delete(summary);
    answer_list_free(&refusals);
    return status;
}

/* ---- with a model ---- */

struct looking {
    struct invocation *run;
    const struct eval_command_options *options;
    const struct suite *suite;
    char output_dir[4096]; /* "" for no files */
    char partial[4200];
    struct comm *comm;
    struct device device;
    struct eval_model model;
    struct suite_run suite_run;
    struct evaluation evaluation;
    struct eval_log log, retain;
};

/* output_dir of a run's own config is the folder of its model. */
static int output_choose(struct looking *look, struct error *error)
{
    const struct eval_command_options *options = look->options;
    const bool of_run = option_source(&look->run->set, "output_dir") == OPTION_FROM_FILE;
    const char *folder = *options->model.adapter ? options->model.adapter : options->model.model_name_or_path;
    int status = STATUS_OK;
    if (of_run)
        status = file_join(look->output_dir, sizeof look->output_dir, folder, "evals", error);
    else
        snprintf(look->output_dir, sizeof look->output_dir, "%s", options->output_dir);
    if (status || !*look->output_dir)
        return status;
    snprintf(look->partial, sizeof look->partial, "%s/%s_EVAL.partial.jsonl", look->output_dir, look->suite->log_name);
    return comm_rank(look->comm) ? STATUS_OK : file_make_directory(look->output_dir, error);
}

/* Everything that can be refused before the weights are read. */
static int look_prepare(struct looking *look, struct error *error)
{
    const struct eval_command_options *options = look->options;
    struct rank_env env;
    struct buffer prompt = {0};
    int status = rank_env_read(&env, error);
    if (!status)
        status = comm_open(&look->comm, &env, error);
    if (!status && !comm_rank(look->comm) && rank_env_warning(&env))
        log_warning(&look->run->log, "%s", rank_env_warning(&env));
    if (!status)
        status = device_open_chosen(&look->device, &options->device, rank_env_device(&env), error);
    if (!status)
        status = eval_model_open(&look->model, &options->model, &options->prompt, look->device.engine->dtype, error);
    if (!status)
        status = prompt_describe(&look->model.prompt, &prompt, error);
    if (!status && !comm_rank(look->comm))
        log_info(&look->run->log, "%s", prompt.data);
    if (!status) {
        log_warnings(&look->run->log, tokenizer_warnings(look->model.tokenizer));
        log_warnings(&look->run->log, look->model.rules.unused);
        log_warnings(&look->run->log, look->model.weights.warnings.data);
        log_warnings(&look->run->log, look->model.adapter.warnings.data);
    }
    buffer_free(&prompt);
    suite_run_init(&look->suite_run, &options->data, &options->dataset, &look->model, &look->run->log);
    if (!status)
        status = refusals_read(options, &look->suite_run.refusals, error);
    if (!status && *options->retain_log)
        status = eval_log_read(&look->retain, options->retain_log, &look->run->log, error);
    return status ? status : output_choose(look, error);
}

static int look_run(struct looking *look, cJSON **summary, struct error *error)
{
    const struct eval_command_options *options = look->options;
    int status = comm_agree(look->comm, look_prepare(look, error), error);
    look->evaluation = (struct evaluation){.options = &options->evaluate,
                                           .device = &look->device,
                                           .comm = look->comm,
                                           .partial_path = given(look->partial),
                                           .log = &look->run->log,
                                           .label = look->suite->name};
    if (!status)
        status = comm_agree(look->comm, eval_model_checksum(&look->model, &options->model, &look->evaluation.model_checksum,
                                                            error), error);
    if (!status)
        status = comm_agree(look->comm, eval_log_open(&look->log, options->model.model_name_or_path, error), error);
    if (!status)
        status = suite_measure(look->suite, &look->suite_run, &look->evaluation, &look->log, error);
    if (status || comm_rank(look->comm))
        return status;
    struct results_options results = results_options(options, &look->suite_run.refusals);
    results.output_dir = given(look->output_dir);
    results.suite = look->suite->log_name;
    results.retain = *options->retain_log ? &look->retain : NULL;
    return eval_results(&look->log, &results, &look->run->log, summary, error);
}

static int model_run(struct invocation *run, struct error *error)
{
    const struct eval_command_options *options = run->options;
    struct looking look = {.run = run, .options = options, .suite = suites[options->suite ? options->suite - 1 : 0]};
    cJSON *summary = NULL;
    int status;
    if (launcher_wanted(&options->launcher, &status, error))
        return status ? status : launcher_run((int)options->launcher.nproc_per_node, run->argv, &run->log, error);
    status = look_run(&look, &summary, error);
    partial_close(&look.evaluation.partial, !status || status == STATUS_NONFINITE);
    if (summary && *look.output_dir)
        log_info(&run->log, "wrote %s/%s_EVAL.json and its summary", look.output_dir, look.suite->log_name);
    status = summary_print(summary, status, error);
    cJSON_Delete(summary);
    suite_run_free(&look.suite_run);
    eval_log_free(&look.log);
    eval_log_free(&look.retain);
    eval_model_close(&look.model);
    comm_close(look.comm);
    device_close(&look.device);
    return status;
}

static int eval_run(struct invocation *run, struct error *error)
{
    const struct eval_command_options *options = run->options;
    return *options->from_logs ? logs_run(run, error) : model_run(run, error);
}

static const char *eval_required(const void *options)
{
    const struct eval_command_options *given_options = options;
    return *given_options->from_logs ? "" : "model_name_or_path";
}

static int eval_check(struct invocation *run, struct error *error)
{
    const struct eval_command_options *options = run->options;
    if (*options->from_logs && !*options->output_dir)
        return error_set(error, STATUS_USAGE, "output_dir: figures of a log are written somewhere; add --output_dir DIR");
    return STATUS_OK;
}

const struct command command_eval = {
    .name = "eval",
    .argument = "CONFIG",
    .at_most = 1,
    .config = CONFIG_RUN,
    .summary = "Did it forget, and what did it cost? A suite of questions to a model (the model, template and keys of a run "
               "where its folder or config is given), or the figures of an evaluation log.",
    .examples = {"flat eval runs/tofu --suite tofu --forget_data tofu/forget10_perturbed.json --retain_log retain/TOFU_EVAL.json",
                 "flat eval --model DIR --forget_data forget.jsonl --eval_data world=facts.jsonl -o evals",
                 "flat eval --from_logs eval_log_aggregated.json --retain_log retain/TOFU_EVAL.json -o figures"},
    .groups = groups,
    .options_bytes = sizeof(struct eval_command_options),
    .required = "question_key answer_key",
    .also_required = eval_required,
    .check = eval_check,
    .run = eval_run,
};

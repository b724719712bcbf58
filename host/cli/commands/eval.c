/* eval.c - `flat eval`: did it forget, and what did it cost? Figures of an evaluation log that was made elsewhere. */
#include "../../eval/suite/from_logs.h"
#include "../../io/data/answer_list.h"
#include "../command.h"

enum suite_choice { SUITE_AUTO, SUITE_TOFU, SUITE_MUSE };
static const char *const suite_names[] = {[SUITE_AUTO] = "auto", [SUITE_TOFU] = "tofu", [SUITE_MUSE] = "muse", NULL};
static const char *const suite_log_names[] = {[SUITE_AUTO] = NULL, [SUITE_TOFU] = "TOFU", [SUITE_MUSE] = "MUSE"};

struct eval_command_options {
    enum suite_choice suite;
    const char *from_logs, *retain_log, *refusals, *output_dir, *method_label, *submitted_by;
    struct log_options log;
};

static const struct option option_rows[] = {
    {.name = "suite", OPTION_FIELD(struct eval_command_options, suite), .choices = suite_names, .initial = "auto",
     .help = "which figures; auto goes by the names of the log's metrics"},
    {.name = "from_logs", OPTION_FIELD(struct eval_command_options, from_logs), .local = true, .operand = "FILE",
     .help = "log of an evaluation: open-unlearning's <SUITE>_EVAL.json or TOFU's eval_log_aggregated.json"},
    {.name = "retain_log", OPTION_FIELD(struct eval_command_options, retain_log), .local = true, .operand = "FILE",
     .help = "the same of a model that never saw the forget set, for forget_quality and privleak"},
    {.name = "refusals", OPTION_FIELD(struct eval_command_options, refusals), .local = true, .operand = "FILE",
     .help = "answers that refuse, as a list of template answers, for forget_refusal_rate"},
    {.name = "output_dir", .letter = 'o', OPTION_FIELD(struct eval_command_options, output_dir), .local = true,
     .operand = "DIR", .help = "folder for <SUITE>_EVAL.json, <SUITE>_SUMMARY.json and TOFU's two CSV files"},
    {.name = "method_label", OPTION_FIELD(struct eval_command_options, method_label), .operand = "TEXT",
     .help = "for the column Method of TOFU's leaderboard"},
    {.name = "submitted_by", OPTION_FIELD(struct eval_command_options, submitted_by), .operand = "TEXT",
     .help = "for the column Submitted By of TOFU's leaderboard"},
};
static const struct option_group eval_option_group = {OPTION_GROUP("Evaluation", option_rows,
                                                                   struct eval_command_options)};

static const struct command_group groups[] = {
    {&eval_option_group, 0},
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

static int eval_run(struct invocation *run, struct error *error)
{
    const struct eval_command_options *options = run->options;
    struct answer_list refusals = {0};
    cJSON *summary = NULL;
    int status = *options->refusals ? answer_list_read(&refusals, options->refusals, error) : STATUS_OK;
    if (!status)
        status = eval_from_logs(&(struct from_logs_options){.log = options->from_logs,
                                                            .retain_log = given(options->retain_log),
                                                            .output_dir = options->output_dir,
                                                            .suite = suite_log_names[options->suite],
                                                            .refusals = (const char *const *)refusals.text,
                                                            .refusal_count = refusals.count,
                                                            .method = given(options->method_label),
                                                            .submitted_by = given(options->submitted_by)},
                                &run->log, &summary, error);
    status = summary_print(summary, status, error);
    cJSON_Delete(summary);
    answer_list_free(&refusals);
    return status;
}

const struct command command_eval = {
    .name = "eval",
    .summary = "Figures of an evaluation log: forget quality, model utility, privacy leakage, refusals.",
    .examples = {"flat eval --from_logs logs/TOFU_EVAL.json --retain_log retain/TOFU_EVAL.json --output_dir figures",
                 "flat eval --from_logs eval_log_aggregated.json --output_dir figures",
                 "flat eval --from_logs MUSE_EVAL.json --refusals idontknow.jsonl --output_dir figures"},
    .groups = groups,
    .options_bytes = sizeof(struct eval_command_options),
    .required = "from_logs output_dir",
    .run = eval_run,
};

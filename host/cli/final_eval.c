/* final_eval.c - see final_eval.h. */
#include "final_eval.h"

#include <string.h>
#include <sys/stat.h>

#include "../eval/suite/before_after.h"
#include "../eval/suite/eval_sets.h"
#include "../eval/suite/fluency.h"
#include "../eval/suite/results.h"
#include "../eval/suite/suite_list.h"
#include "../util/file.h"
#include "card/model_card.h"
#include "command.h"

enum { FINAL_NEW_TOKENS = 64 };

static const struct option option_rows[] = {
    {.name = "final_eval_rows", OPTION_FIELD(struct final_eval_options, rows), .local = true, .initial = "32",
     .max = OPTION_COUNT_MAX,
     .help = "rows of the forget set and of each of eval_data that the table at the end asks both models; 0: no table"},
};
const struct option_group final_eval_option_group = {OPTION_GROUP("Evaluation", option_rows, struct final_eval_options)};

/* What both models are asked. */
struct final_eval {
    const struct train_options *train;
    struct suite_options data;
    struct device device;
    struct log *log;
    struct eval_log before, after;
};

/* What a model makes of it: its own answers, to *result; or (result NULL) what it thinks of those of both. rows_told: see suite.h. */
static int model_look(struct final_eval *eval, const struct model_options *model_options, const char *label, bool rows_told,
                      struct eval_log *result, struct error *error)
{
    const struct train_options *train = eval->train;
    const struct evaluate_options sizes = {.batch_size = 32};
    struct evaluation evaluation = {.options = &sizes, .device = &eval->device, .log = eval->log, .label = label};
    struct eval_log *const both[FLUENCY_LOGS] = {&eval->before, &eval->after};
    struct eval_model model;
    struct suite_run run;
    int status = eval_model_open(&model, model_options, &train->prompt, eval->device.engine->dtype, error);
    suite_run_init(&run, &eval->data, &train->dataset, &model, eval->log);
    run.rows_told = rows_told;
    if (!status && *train->template_.file)
        status = answer_list_read(&run.refusals, train->template_.file, error);
    if (!status)
        status = result ? suite_measure(&suite_qa, &run, &evaluation, result, error)
                        : fluency_measure(&run, &evaluation, both, error);
    suite_run_free(&run);
    eval_model_close(&model);
    return status;
}

/* output_dir/evals/<label> */
static int results_write(struct final_eval *eval, struct eval_log *result, const char *label, struct error *error)
{
    char directory[4096], evals[4096];
    struct results_options results = {.suite = suite_qa.log_name, .output_dir = directory};
    cJSON *summary = NULL;
    int status = file_join(evals, sizeof evals, eval->train->output.output_dir, "evals", error);
    if (!status)
        status = file_join(directory, sizeof directory, evals, label, error);
    if (!status)
        status = eval_results(result, &results, eval->log, &summary, error);
    cJSON_Delete(summary);
    return status;
}

static int table_print(const char *eval_data, const char *output_dir, const struct eval_log *before,
                       const struct eval_log *after, struct log *log, struct error *error)
{
    struct eval_sets sets;
    const char *name[EVAL_SETS_MAX + 1] = {"forget"};
    struct buffer text = {0}, findings = {0};
    struct error unsaid;
    int status = eval_sets_parse(&sets, eval_data, error);
    for (int i = 0; i < sets.count; i++)
        name[i + 1] = sets.set[i].name;
    const struct before_after logs = {before, after, name, sets.count + 1};
    if (!status)
        status = text_print(&text, before_after_print(&logs, &text, error), error);
    if (!status)
        status = before_after_findings(&logs, &findings, error);
    if (!status)
        log_warnings(log, findings.data);
    buffer_free(&findings);
    if (!status && model_card_update(output_dir, &logs, &unsaid))
        log_warning(log, "the model card lacks the figures of this table: %s", unsaid.text);
    return status;
}

/* Rows that can be read a second time. */
static bool can_be_read_again(const char *path)
{
    struct stat about;
    return strcmp(path, "-") && !stat(path, &about) && S_ISREG(about.st_mode);
}

static int final_eval_run(const struct train_options *train, const struct final_eval_options *options,
                          const char *eval_data, struct log *log, struct error *error)
{
    const bool adapter_only = (train->lora.lora.rank || *train->model.adapter) && train->lora.output == LORA_ADAPTER;
    const struct model_options written = {adapter_only ? train->model.model_name_or_path : train->output.output_dir,
                                          adapter_only ? train->output.output_dir : ""};
    struct final_eval eval = {.train = train, .log = log,
                              .data = {.forget_data = train->examples.forget_data, .retain_data = "", .real_authors_data = "",
                                       .world_facts_data = "", .holdout_data = "", .data_dir = "",
                                       .eval_data = eval_data, .eval_rows = options->rows,
                                       .eval_max_length = train->examples.max_length, .max_new_tokens = FINAL_NEW_TOKENS}};
    int status = device_open_chosen(&eval.device, &train->device, 0, error);
    if (!status)
        status = eval_log_open(&eval.before, train->model.model_name_or_path, error);
    if (!status)
        status = eval_log_open(&eval.after, train->output.output_dir, error);
    if (!status)
        status = model_look(&eval, &train->model, "before", !*eval_data, &eval.before, error);
    if (!status)
        status = model_look(&eval, &written, "after", true, &eval.after, error);
    if (!status)
        status = model_look(&eval, &train->model, "fluency", true, NULL, error);
    if (!status)
        status = results_write(&eval, &eval.before, "before", error);
    if (!status)
        status = results_write(&eval, &eval.after, "after", error);
    if (!status)
        status = table_print(eval_data, train->output.output_dir, &eval.before, &eval.after, log, error);
    eval_log_free(&eval.before);
    eval_log_free(&eval.after);
    device_close(&eval.device);
    return status;
}

void final_eval_show(const struct train_options *train, const struct final_eval_options *options, const char *eval_data,
                     struct log *log)
{
    struct error error = {0};
    if (!options->rows || train->trainer.from_scratch)
        return;
    if (!can_be_read_again(train->examples.forget_data))
        log_warning(log, "no table at the end: %s cannot be read a second time", train->examples.forget_data);
    else if (final_eval_run(train, options, eval_data, log, &error))
        log_warning(log, "no table at the end: %s", error.text);
}

/* train_show.c - what a run tells people: what it was asked for, how it goes, what it came to; see training.h. */
#include <stdio.h>
#include <string.h>

#include "../train/schedule.h"
#include "../util/clock.h"
#include "training.h"

/* How the rows become text, and what was noticed of them. */
static void data_announce(const struct examples *examples, struct log *log)
{
    struct buffer prompt = {0};
    struct error unused;
    char line[400];
    if (!prompt_describe(&examples->prompt, &prompt, &unused))
        log_info(log, "%s", prompt.data);
    buffer_free(&prompt);
    if (examples->answers.count)
        log_info(log, "%d template answers, the first is \"%.200s\"", examples->answers.count, examples->answers.text[0]);
    for (int next = 0; example_counts_line(&examples->counts, &next, line, sizeof line);)
        log_warning(log, "%s", line);
}

void announce_options(struct training *training)
{
    struct buffer table = {0};
    struct error unused = {0};
    struct log *log = &training->run->log;
    if (!option_set_print_values(&training->run->set, log->verbose, &table, &unused) && table.length)
        log_info(log, "%s", table.data);
    buffer_free(&table);
}

/* What is allocated, by class. */
static void memory_announce(const struct trainer *trainer, struct log *log)
{
    const struct memory_plan *plan = &trainer->model.plan;
    const size_t total = trainer_memory(trainer), planned = memory_plan_total(plan);
    const double mib = 1.0 / (1 << 20);
    struct buffer table = {0};
    struct error unused;
    int status = buffer_printf(&table, &unused, "device memory, MiB");
    for (int class = 0; class < MEMORY_CLASSES && !status; class++)
        if (plan->bytes[class])
            status = buffer_printf(&table, &unused, "\n  %-14s %12.1f", memory_class_name((enum memory_class)class),
                                   mib * (double)plan->bytes[class]);
    if (!status && total > planned)
        status = buffer_printf(&table, &unused, "\n  %-14s %12.1f", trainer->frozen.needed ? "batch, frozen" : "batch",
                               mib * (double)(total - planned));
    if (!status)
        status = buffer_printf(&table, &unused, "\n  %-14s %12.1f", "total", mib * (double)total);
    if (!status && trainer->offload.chunk)
        status = buffer_printf(&table, &unused, "\nand of the host's, for the optimizer, %.1f", mib * (double)trainer->offload.bytes);
    if (!status)
        log_info(log, "%s", table.data);
    buffer_free(&table);
}

void announce_run(struct training *training)
{
    struct trainer *trainer = &training->trainer;
    const struct train_options *options = training->options;
    struct log *log = &training->run->log;
    log_info(log, "%s, %lld parameters, %d rows, %lld steps", trainer->model.config.family->model_type,
             (long long)trainer->model.parameters, trainer->examples.data.rows, (long long)trainer->total_steps);
    memory_announce(trainer, log);
    for (int rank = 0; training->comm && rank < comm_size(training->comm); rank++)
        log_info(log, "%s", comm_describe(training->comm, rank));
    if (trainer->model.lora.modules)
        log_info(log, "LoRA: %lld parameters of %d modules are trained, the model is frozen%s",
                 (long long)trainer->model.lora.parameters, trainer->model.lora.modules,
                 trainer->model.nf4.used ? ", its projections in NF4; what is saved is for the base as it was read" : "");
    if (options->schedule.lr_scheduler_type == SCHEDULE_CONSTANT &&
        schedule_warmup(&options->schedule, trainer->total_steps))
        log_warning(log, "warmup_steps: the schedule 'constant' has no warm-up; constant_with_warmup has");
    if (trainer->examples.max_length < options->examples.max_length)
        log_info(log, "max_length is %lld here: the model has no more positions, or a sliding window of that",
                 (long long)trainer->examples.max_length);
    log_warnings(log, tokenizer_warnings(trainer->tokenizer));
    log_warnings(log, trainer->weights.warnings.data);
    log_warnings(log, trainer->adapter.warnings.data);
    data_announce(&trainer->examples, log);
    if (trainer->from_scratch)
        log_info(log, "drawing random weights");
    else
        log_info(log, "loading the weights of %s", options->model.model_name_or_path);
}

void loading_show(void *user, int64_t pieces, int64_t of)
{
    struct training *training = user;
    if (!training->run->log.terminal)
        return;
    if (pieces == 1)
        progress_begin(&training->progress, &training->run->log, "loading", 0, of, of);
    progress_step(&training->progress, pieces, NULL, 0);
    if (pieces == of)
        progress_end(&training->progress);
}

void training_show(struct training *training, const struct step_record *record)
{
    const double rate = record->seconds > 0 ? (double)record->tokens / record->seconds : 0;
    const struct trainer *trainer = &training->trainer;
    const double sol = step_record_sol(record, trainer);
    struct progress_metric metric[METHOD_LOGGED + 3] = {{"loss", record->loss, NULL}};
    int metrics = 1;
    for (int i = 0; i < trainer->logged_count; i++)
        if (trainer->logged[i].label)
            metric[metrics++] = (struct progress_metric){trainer->logged[i].label, record->logged[i], NULL};
    metric[metrics++] = (struct progress_metric){NULL, rate, "tok/s"};
    if (sol > 0)
        metric[metrics++] = (struct progress_metric){"sol", 100 * sol, "%"};
    progress_step(&training->progress, record->step, metric, metrics);
}

const char *training_role_name(const struct training *training, enum role role)
{
    return training->finetune && role == ROLE_ANSWER ? "answer" : role_names[role];
}

void summarize(struct training *training, const struct measured *measured, const struct save_report *report)
{
    const struct trainer *trainer = &training->trainer;
    const double survives = save_report_survives(report);
    const unsigned roles = trainer->examples.roles;
    struct log *log = &training->run->log;
    stopping_show(training);
    if (survives < 0.9)
        log_warning(log, "%.1f %% of the change of the weights survives rounding to %s: the folder holds less than was "
                    "trained; --save_dtype float32 keeps all of it", 100 * survives, report->dtype);
    else if (report->dtype)
        log_info(log, "%.1f %% of the change of the weights survives rounding to %s", 100 * survives, report->dtype);
    if (measured->rows && roles & WITH(ROLE_TEMPLATE) && measured->prob[ROLE_TEMPLATE] < 0.5 * training->prob_template)
        log_warning(log, "the template answers became less likely too, P(template) %.4g before the first step and %.4g "
                    "in what was saved: the model is damaged rather than made to forget; lower learning_rate",
                    training->prob_template, measured->prob[ROLE_TEMPLATE]);
    char probabilities[160] = "";
    for (int role = 0; role < ROLES; role++)
        if (roles & WITH(role)) {
            const size_t used = strlen(probabilities);
            snprintf(probabilities + used, sizeof probabilities - used, "%sP(%s) %.4f", used ? ", " : "",
                     training_role_name(training, role), measured->prob[role]);
        }
    if (measured->rows)
        log_info(log, "%s in what was saved, over %lld of %d rows", probabilities, (long long)measured->rows,
             trainer->examples.data.rows);
    log_info(log, "saved %s in %.1f s%s", training->options->output.output_dir, clock_seconds() - training->start,
             trainer->nonfinite ? "; some steps were skipped, see the warnings" : "");
}

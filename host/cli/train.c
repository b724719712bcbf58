/* train.c - see train.h: the course of a run. What it writes, where, and what it tells: training.h. */
#include <string.h>

#include "../io/json/json.h"
#include "../train/agreement.h"
#include "../util/clock.h"
#include "../util/interrupt.h"
#include "launcher.h"
#include "training.h"

static void training_warn(void *user, const char *text)
{
    struct training *training = user;
    if (training->comm)
        log_warning(&training->run->log, "rank %d: %s", comm_rank(training->comm), text);
    else
        log_warning(&training->run->log, "%s", text);
}

static int training_step(void *user, const struct step_record *record, struct error *error)
{
    struct training *training = user;
    const struct train_options *options = training->options;
    const bool last = record->step == record->total_steps;
    int status = STATUS_OK;
    training->step = record->step;
    for (int i = 0; record->step == 1 && i < training->trainer.logged_count; i++)
        if (!strcmp(training->trainer.logged[i].key, "prob_template"))
            training->prob_template = record->logged[i];
    if (!comm_rank(training->comm)) {
        struct step_record mean;
        status = run_log_step(&training->log, &training->trainer, record,
                              record->step % options->output.logging_steps == 0 || last, &mean, error);
        training_show(training, &mean);
    }
    status = train_eval_step(&training->eval, &training->trainer, record->step, &training->log, status, error);
    status = stopping_look(training, record->step, status, error);
    if (last && record->skipped && !status)
        status = error_set(error, STATUS_NONFINITE, "step %lld: the last step has a non-finite loss or gradient; lower "
                           "learning_rate, or look at the rows named above; nothing was saved", (long long)record->step);
    if (!is_save_step(training, record->step) && !best_is_new(training, record->step))
        return status;
    status = comm_agree(training->comm, status, error); /* saving takes all ranks */
    return status ? status : checkpoint_save(training, record->step, error);
}

/* The options that all ranks must have alike. */
static int options_shared(const struct training *training, struct buffer *text, struct error *error)
{
    cJSON *json = invocation_shared_json(training->run, error);
    int status = json ? json_print(json, text, error) : STATUS_MEMORY;
    cJSON_Delete(json);
    return status;
}

/* Meets the others, opens the device, reads everything but the weights, and makes sure that all have read the same. */
static int training_prepare(struct training *training, struct device *device, struct error *error)
{
    const struct train_options *options = training->options;
    struct rank_env env;
    struct buffer text = {0};
    int status = rank_env_read(&env, error);
    if (!status)
        status = comm_open(&training->comm, &env, error);
    if (status)
        return status;
    const int rank = comm_rank(training->comm);
    if (!rank)
        announce_options(training);
    if (!rank && rank_env_warning(&env))
        log_warning(&training->run->log, "%s", rank_env_warning(&env));
    if (training->comm && *options->trainer.dump_step)
        status = error_set(error, STATUS_USAGE, "dump_step: no one of several ranks has the whole gradient; use one");
    if (!status)
        status = resume_find(training, error);
    if (!status && !rank)
        status = output_check(training, error);
    if (!status) /* before the rest: the memory that a run needs depends on what the device stores */
        status = device_open_chosen(device, &options->device, rank_env_device(&env), error);
    status = training_agree(training, status, error);
    if (!status)
        status = comm_attach(training->comm, device, error);
    if (status)
        return status;
    if (!rank)
        log_info(&training->run->log, "%s: %s", device->engine->name, device->engine->describe(device->context));
    const struct world world = {training->comm, rank, comm_size(training->comm), env.local_size};
    status = trainer_prepare(&training->trainer, options, training->finetune, device->engine->dtype, &world, error);
    if (!status)
        status = options_shared(training, &text, error);
    status = training_agree(training, status, error);
    if (!status)
        status = agreement_check(&training->trainer, text.data, error);
    buffer_free(&text);
    return status;
}

/* Memory, weights, and the folder that rank 0 writes. */
static int training_start(struct training *training, struct device *device, struct error *error)
{
    const struct train_options *options = training->options;
    const bool writes = !comm_rank(training->comm);
    int status = training_agree(training, writes ? output_open(training, error) : STATUS_OK, error);
    if (!status && writes) {
        announce_run(training);
        training->trainer.weights.loaded = loading_show;
        training->trainer.weights.loaded_user = training;
    }
    if (!status)
        status = training_agree(training, trainer_start(&training->trainer, device, error), error);
    if (!status && *training->resume)
        status = training_agree(training, writes ? product_picks_read(&training->trainer.picks, training->resume, error) : STATUS_OK,
                                error);
    if (!status)
        status = product_picks_prepare(&training->trainer, error);
    if (!status) /* of the weights that the run began with: before those of a checkpoint take their place */
        status = reference_prepare(&training->trainer, error);
    if (!status && *training->resume)
        status = training_agree(training, checkpoint_load(&training->trainer, &training->stopping, training->resume,
                                                          error), error);
    if (!status)
        status = agreement_check_weights(&training->trainer, error);
    if (!status)
        status = training_agree(training, train_eval_open(&training->eval, training->eval_options, &training->stopping,
                                                          &options->dataset, &training->trainer, &training->run->log,
                                                          error), error);
    if (status)
        return status;
    const struct product_picks *picks = &training->trainer.picks;
    if (writes && *picks->note)
        log_info(&training->run->log, "%s", picks->note);
    if (writes && *picks->warning)
        log_warning(&training->run->log, "%s", picks->warning);
    if (writes && *training->trainer.reference.note)
        log_info(&training->run->log, "%s", training->trainer.reference.note);
    interrupt_catch(!training->comm); /* from the first file to the last: none is left half-written */
    if (writes)
        status = space_check(training, error);
    if (!status && writes && *training->resume)
        status = best_check(training, error);
    if (!status && writes)
        status = describe_run(training, error);
    if (!status && writes)
        status = *training->resume ? checkpoint_load_log(&training->log, training->resume, training->folder.path, error)
                                   : run_log_open(&training->log, training->folder.path, error);
    if (!status && writes && options->output.report_to == REPORT_TO_TENSORBOARD)
        status = run_log_report(&training->log, training->folder.path, error);
    if (writes && options->trainer.cuda_graphs && !training->trainer.graphs)
        log_warning(&training->run->log, "cuda_graphs: device %s has no graphs; the run goes on without",
                    training->trainer.device.engine->name);
    if (!status && options->trainer.profile)
        status = profile_attach(&training->profile, &training->trainer.device, error);
    return training_agree(training, status, error);
}

static int training_run(struct training *training, struct error *error)
{
    const struct train_options *options = training->options;
    struct trainer *trainer = &training->trainer;
    const bool writes = !comm_rank(training->comm);
    training->step = trainer->first_step;
    if (writes)
        progress_begin(&training->progress, &training->run->log, training->finetune ? "finetune" : "unlearn",
                       trainer->first_step, trainer->total_steps, options->output.logging_steps);
    if (writes && training->run->log.terminal) /* the first step may take long */
        progress_step(&training->progress, 0, NULL, 0);
    int status = STATUS_OK;
    if (!trainer->first_step)
        status = stopping_look(training, 0, train_eval_step(&training->eval, trainer, 0, &training->log, status, error), error);
    if (!status && !training->stopping.reason) /* it had ended when its last checkpoint was written */
        status = trainer_run(trainer, training_step, training, training_warn, error);
    if (writes)
        progress_end(&training->progress);
    if (!status && options->trainer.profile)
        status = profile_finish(&training->profile, &trainer->device, error);
    if (writes && options->trainer.profile)
        profile_print(&training->profile, stderr);
    if (!status)
        return model_save(training, error);
    if (status == STATUS_SIGNAL && !trainer->aborted)
        return stop_with_checkpoint(training, error);
    return trainer->aborted ? status : comm_report_once(training->comm, status, error);
}

int train_run(struct invocation *run, bool finetune, struct error *error)
{
    const struct train_command_options *options = run->options;
    struct training training = {.run = run, .options = &options->train, .eval_options = &options->eval,
                                .finetune = finetune, .start = clock_seconds(),
                                .folder.lock.fd = -1, .log = RUN_LOG_CLOSED, .saved_step = -1};
    early_stopping_init(&training.stopping, &options->stopping);
    struct device device = {0};
    int status;
    if (launcher_wanted(&options->launcher, &status, error))
        return status ? status : launcher_run((int)options->launcher.nproc_per_node, run->argv, &run->log, error);
    status = training_prepare(&training, &device, error);
    if (!status && resume_is_finished(&training)) {
        training.trainer.device = device;
        status = training_agree(&training, comm_rank(training.comm) ? STATUS_OK : finished_check(&training, error), error);
    } else {
        if (!status)
            status = training_start(&training, &device, error);
        if (!status)
            status = training_run(&training, error);
    }
    name_newest(&training, status, error);
    const bool shows = !comm_rank(training.comm) && !resume_is_finished(&training);
    interrupt_release();
    comm_close(training.comm);
    run_log_close(&training.log);
    train_eval_close(&training.eval);
    run_record_free(&training.record);
    run_folder_close(&training.folder);
    if (!training.trainer.device.context) /* not taken over yet */
        device_close(&device);
    trainer_free(&training.trainer);
    if (!status && !finetune && shows)
        final_eval_show(&options->train, &options->final_eval, options->eval.eval_data, &run->log);
    return status;
}

int train_check(struct invocation *run, struct error *error)
{
    const struct train_command_options *options = run->options;
    int status = train_options_check(&options->train, &run->set, error);
    const char *forget = options->train.examples.forget_data;
    return status ? status
                  : train_eval_check(&options->eval, &options->stopping, &options->train.dataset, forget && *forget, error);
}

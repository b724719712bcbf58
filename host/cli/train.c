/* train.c - see train.h. */
#include "train.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "../io/json/json.h"
#include "../model/companions.h"
#include "../train/agreement.h"
#include "../train/checkpoint.h"
#include "../train/run_folder.h"
#include "../train/run_log.h"
#include "../train/run_record.h"
#include "../train/schedule.h"
#include "../util/clock.h"
#include "../util/file.h"
#include "../util/interrupt.h"
#include "../util/progress.h"
#include "launcher.h"

struct training {
    struct invocation *run;
    const struct train_options *options;
    const struct train_eval_options *eval_options;
    bool finetune;
    struct comm *comm;
    struct trainer trainer;
    struct run_folder folder;
    struct run_record record;
    struct run_log log;
    struct train_eval eval;
    double prob_template;     /* of the first step, before any update */
    int64_t step, saved_step; /* made, and in the newest checkpoint */
    char resume[FOLDER_PATH_BYTES], newest[FOLDER_PATH_BYTES]; /* checkpoints: gone on from, and written; "": none */
    double start;
    struct progress progress;
    struct profile profile;
};

static void training_warn(void *user, const char *text)
{
    struct training *training = user;
    if (training->comm)
        log_warning(&training->run->log, "rank %d: %s", comm_rank(training->comm), text);
    else
        log_warning(&training->run->log, "%s", text);
}

/* A failure of one rank becomes that of all. */
static int training_agree(const struct training *training, int status, struct error *error)
{
    return comm_agree(training->comm, status, error);
}

/* What a folder of this run holds besides the model, once all else is in it; then it takes its place. */
static int save_finish(struct training *training, struct folder *folder, int64_t step, cJSON *result, struct error *error)
{
    struct folder_lock *lock = training->folder.replaces ? NULL : &training->folder.lock;
    int status = run_log_save_state(&training->log, &training->trainer, step, clock_seconds() - training->start, folder,
                                    error);
    if (!status)
        status = run_record_write_into(&training->record, folder, result, error);
    else
        cJSON_Delete(result);
    return status ? status : folder_publish(folder, FOLDER_KEEP_RUN, lock, error);
}

/* Begins the folder of a save on rank 0, and writes the model into it; without a report, a checkpoint's with the state. */
static int save_begin(struct training *training, struct folder *folder, const char *path, int64_t step,
                      struct save_report *report, struct error *error)
{
    const bool writes = !comm_rank(training->comm);
    char id[SAVE_ID_BYTES];
    run_record_save_id(&training->record, step, id);
    *folder = (struct folder){.fd = -1};
    int status = writes ? folder_begin(folder, path, companions_mode(training->options->model.model_name_or_path), error)
                        : STATUS_OK;
    status = training_agree(training, status, error);
    if (status)
        return status;
    return report ? trainer_save_into(&training->trainer, writes ? folder : NULL, id, report, error)
                  : trainer_save_checkpoint(&training->trainer, writes ? folder : NULL, id, error);
}

/* Removes the oldest checkpoints beyond save_total_limit, each out of sight first. */
static int checkpoints_prune(struct training *training, int64_t newest, struct error *error)
{
    const int64_t limit = training->options->output.save_total_limit;
    const char *directory = training->folder.path;
    int status = STATUS_OK;
    for (bool more = limit > 0; more && !status;) {
        struct file_list list;
        char path[FOLDER_PATH_BYTES], prefix[FOLDER_PATH_BYTES + 300], aside[FOLDER_PATH_BYTES];
        int64_t oldest = newest, count = 0;
        status = file_list_read(&list, directory, error);
        for (size_t i = 0; i < list.count && !status; i++) {
            const int64_t number = folder_checkpoint(list.name[i]);
            count += number >= 0;
            oldest = number >= 0 && number < oldest ? number : oldest;
        }
        file_list_free(&list);
        more = count > limit && oldest < newest;
        if (status || !more)
            break;
        snprintf(prefix, sizeof prefix, "%s/.checkpoint-%lld%s", directory, (long long)oldest, FILE_NEW_FOLDER);
        snprintf(path, sizeof path, "%.3900s/checkpoint-%lld", directory, (long long)oldest);
        status = file_unique_name(aside, sizeof aside, prefix, error);
        if (!status && rename(path, aside))
            status = error_set(error, STATUS_RUNTIME, "%s: cannot be removed: %s", path, strerror(errno));
        if (!status)
            status = file_remove_tree(aside, error);
    }
    return status;
}

/* checkpoint-<step> in the run's folder: the model as it is now, and what a run needs to go on from here. */
static int checkpoint_save(struct training *training, int64_t step, struct error *error)
{
    char name[64], path[FOLDER_PATH_BYTES];
    struct folder folder = {.fd = -1};
    const bool writes = !comm_rank(training->comm);
    snprintf(name, sizeof name, "checkpoint-%lld", (long long)step);
    int status = file_join(path, sizeof path, training->folder.path, name, error);
    status = training_agree(training, status, error);
    if (!status)
        status = save_begin(training, &folder, path, step, NULL, error);
    if (!status && writes)
        status = checkpoint_save_state(&training->trainer, &training->log, step, &folder, error);
    if (!status && writes)
        status = save_finish(training, &folder, step, NULL, error);
    folder_abandon(&folder);
    if (!status && writes)
        status = checkpoints_prune(training, step, error);
    status = training_agree(training, status, error);
    if (!status) {
        training->saved_step = step;
        memcpy(training->newest, path, sizeof training->newest);
    }
    return status;
}

static void training_show(struct training *training, const struct step_record *record)
{
    const double rate = record->seconds > 0 ? (double)record->tokens / record->seconds : 0;
    const struct trainer *trainer = &training->trainer;
    struct progress_metric metric[METHOD_LOGGED + 2] = {{"loss", record->loss, NULL}};
    int metrics = 1;
    for (int i = 0; i < trainer->logged_count; i++)
        if (trainer->logged[i].label)
            metric[metrics++] = (struct progress_metric){trainer->logged[i].label, record->logged[i], NULL};
    metric[metrics++] = (struct progress_metric){NULL, rate, "tok/s"};
    progress_step(&training->progress, record->step, metric, metrics);
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
    if (last && record->skipped && !status)
        status = error_set(error, STATUS_NONFINITE, "step %lld: the last step has a non-finite loss or gradient; lower "
                           "learning_rate, or look at the rows named above; nothing was saved", (long long)record->step);
    const int64_t every = options->output.save_strategy == SAVE_EPOCH   ? training->trainer.steps_per_epoch
                          : options->output.save_strategy == SAVE_STEPS ? options->output.save_steps
                                                                        : 0;
    if (!every || (record->step % every && (!last || options->output.save_strategy != SAVE_EPOCH)))
        return status;
    status = comm_agree(training->comm, status, error); /* saving takes all ranks */
    return status ? status : checkpoint_save(training, record->step, error);
}

/* Which checkpoint the run goes on from, for all ranks. */
static int resume_find(struct training *training, struct error *error)
{
    const struct output_options *output = &training->options->output;
    char state[FOLDER_PATH_BYTES];
    int status = STATUS_OK;
    if (!*output->resume_from_checkpoint)
        return status;
    if (comm_rank(training->comm))
        status = STATUS_OK;
    else if (!strcmp(output->resume_from_checkpoint, "last"))
        status = checkpoint_find_last(output->output_dir, training->resume, error);
    else
        snprintf(training->resume, sizeof training->resume, "%s", output->resume_from_checkpoint);
    if (!status && *training->resume && !(status = file_join(state, sizeof state, training->resume, "trainer/state.json", error)) &&
        !file_exists(state))
        status = error_set(error, STATUS_USAGE, "resume_from_checkpoint: %s is no checkpoint: it has no trainer/state.json",
                           training->resume);
    status = training_agree(training, status, error);
    return status ? status : comm_broadcast_host(training->comm, training->resume, sizeof training->resume, 0, error);
}

/* Whether the run may write into an output_dir that holds something: it was asked to, goes on from a checkpoint in it, or was
 * told to go on where nothing was saved yet. */
static int overwrites(const struct training *training, bool *may, struct error *error)
{
    const struct output_options *output = &training->options->output;
    bool model = true;
    int status = STATUS_OK;
    if (!strcmp(output->resume_from_checkpoint, "last") && !*training->resume && file_is_directory(output->output_dir))
        status = folder_holds_model(output->output_dir, &model, error);
    *may = output->overwrite_output_dir || !model ||
           (*training->resume && run_folder_has(output->output_dir, training->resume));
    return status;
}

/* The output must be new, or its overwriting asked for; nothing that is read may be written over. */
static int output_check(const struct training *training, struct error *error)
{
    const struct train_options *options = training->options;
    const struct run_input inputs[] = {{"model_name_or_path", options->model.model_name_or_path},
                                       {"adapter", options->model.adapter},
                                       {"forget_data", options->examples.forget_data},
                                       {"train_data", options->examples.train_data},
                                       {"retain_data", options->examples.retain_data},
                                       {"template.file", options->template_.file}};
    bool may;
    int status = overwrites(training, &may, error);
    return status ? status
                  : run_folder_check(options->output.output_dir, may, inputs, (int)(sizeof inputs / sizeof *inputs), error);
}

/* Room on the disk for all that the run will save, before its first step. */
static int space_check(const struct training *training, struct error *error)
{
    const struct trainer *trainer = &training->trainer;
    const struct output_options *output = &training->options->output;
    const char *directory = training->folder.path;
    const double gb = 1e-9;
    struct statvfs disk;
    double model = 0;
    for (int t = 0; t < trainer->weights.source.tensors; t++) {
        const struct safetensors_tensor *tensor = &trainer->weights.source.tensor[t];
        model += output->save_dtype == SAVE_AS_READ ? (double)tensor->bytes
                                                    : (double)tensor->elements * (output->save_dtype == SAVE_FLOAT32 ? 4 : 2);
    }
    const int64_t left = trainer->total_steps - trainer->first_step;
    int64_t checkpoints = output->save_strategy == SAVE_EPOCH   ? left / trainer->steps_per_epoch
                          : output->save_strategy == SAVE_STEPS ? left / output->save_steps
                                                                : 0;
    if (output->save_total_limit && checkpoints > output->save_total_limit)
        checkpoints = output->save_total_limit + 1; /* the oldest goes when the newest is there */
    const double each = model + checkpoint_bytes(trainer), needed = model + (double)checkpoints * each;
    if (statvfs(directory, &disk)) /* a file system that does not say */
        return STATUS_OK;
    const double free_bytes = (double)disk.f_bavail * (double)disk.f_frsize;
    if (needed <= free_bytes)
        return STATUS_OK;
    return error_set(error, STATUS_RUNTIME, "output_dir: %s: %.3g GB are free, and the run saves %.3g GB: the model, and %lld "
                     "checkpoints of %.3g GB; make room, or lower save_total_limit", training->options->output.output_dir,
                     gb * free_bytes, gb * needed, (long long)checkpoints, gb * each);
}

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

/* Before anything is read: what was asked for, and that it is being looked for. */
static void announce_options(struct training *training)
{
    struct buffer table = {0};
    struct error unused = {0};
    struct log *log = &training->run->log;
    if (!option_set_print_values(&training->run->set, log->verbose, &table, &unused) && table.length)
        log_info(log, "%s", table.data);
    buffer_free(&table);
}

/* Once everything but the weights has been read. */
static void announce_run(struct training *training)
{
    struct trainer *trainer = &training->trainer;
    const struct train_options *options = training->options;
    struct log *log = &training->run->log;
    log_info(log, "%s, %lld parameters, %d rows, %lld steps, %.1f MiB of device memory",
             trainer->model.config.family->model_type, (long long)trainer->model.elements, trainer->examples.data.rows,
             (long long)trainer->total_steps, (double)memory_plan_total(&trainer->model.plan) / (1 << 20));
    for (int rank = 0; training->comm && rank < comm_size(training->comm); rank++)
        log_info(log, "%s", comm_describe(training->comm, rank));
    if (trainer->model.lora.modules)
        log_info(log, "LoRA: %lld parameters of %d modules are trained, the model is frozen",
                 (long long)trainer->model.lora.elements, trainer->model.lora.modules);
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

/* On a terminal; in a pipe the line before says enough. */
static void loading_show(void *user, int64_t pieces, int64_t of)
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

/* The options that all ranks must have alike. */
static int options_shared(const struct training *training, struct buffer *text, struct error *error)
{
    cJSON *json = invocation_shared_json(training->run, error);
    int status = json ? json_print(json, text, error) : STATUS_MEMORY;
    cJSON_Delete(json);
    return status;
}

/* run.json, and the id that goes with all that this run saves. */
static int describe_run(struct training *training, struct error *error)
{
    cJSON *config = invocation_json(training->run, error);
    int status = config ? run_record_make(&training->record, &training->trainer, config, training->run->argc,
                                          training->run->argv, error)
                        : STATUS_MEMORY;
    char other[200] = "";
    if (!status && *training->resume)
        status = checkpoint_check(&training->record, training->resume, other, sizeof other, error);
    if (!status && *training->resume)
        log_info(&training->run->log, "goes on from %s, after step %lld", training->resume,
                 (long long)training->trainer.first_step);
    else if (!status && *training->options->output.resume_from_checkpoint)
        log_info(&training->run->log, "no checkpoint in %s: begins at the beginning", training->options->output.output_dir);
    if (!status && *other)
        log_warning(&training->run->log, "resume_from_checkpoint: %s: another %s; what follows is the same up to rounding, not "
                    "to the last bit", training->resume, other);
    return status ? status : run_record_write(&training->record, training->folder.path, error);
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
    int status = STATUS_OK;
    bool may = false;
    if (writes)
        status = overwrites(training, &may, error);
    if (writes && !status)
        status = run_folder_open(&training->folder, options->output.output_dir, may,
                                 companions_mode(options->model.model_name_or_path), training->resume, error);
    status = training_agree(training, status, error);
    if (!status && writes) {
        announce_run(training);
        training->trainer.weights.loaded = loading_show;
        training->trainer.weights.loaded_user = training;
    }
    if (!status)
        status = training_agree(training, trainer_start(&training->trainer, device, error), error);
    if (!status) /* of the weights that the run began with: before those of a checkpoint take their place */
        status = reference_prepare(&training->trainer, error);
    if (!status && *training->resume)
        status = training_agree(training, checkpoint_load(&training->trainer, training->resume, error), error);
    if (!status)
        status = agreement_check_weights(&training->trainer, error);
    if (!status)
        status = training_agree(training, train_eval_open(&training->eval, training->eval_options, &options->dataset,
                                                          &training->trainer, &training->run->log, error), error);
    if (status)
        return status;
    if (writes && *training->trainer.reference.note)
        log_info(&training->run->log, "%s", training->trainer.reference.note);
    interrupt_catch(!training->comm); /* from the first file to the last: none is left half-written */
    if (writes)
        status = space_check(training, error);
    if (!status && writes)
        status = describe_run(training, error);
    if (!status && writes)
        status = *training->resume ? checkpoint_load_log(&training->log, training->resume, training->folder.path, error)
                                   : run_log_open(&training->log, training->folder.path, error);
    if (writes && options->trainer.cuda_graphs && !training->trainer.graphs)
        log_warning(&training->run->log, "cuda_graphs: device %s has no graphs; the run goes on without",
                    training->trainer.device.engine->name);
    if (!status && options->trainer.profile)
        status = profile_attach(&training->profile, &training->trainer.device, error);
    return training_agree(training, status, error);
}

static const char *role_name(const struct training *training, enum role role)
{
    return training->finetune && role == ROLE_ANSWER ? "answer" : role_names[role];
}

/* The summary of a run as JSON: what was measured on the files that were written, and what rounding them left. */
static cJSON *result_json(const struct training *training, const struct measured *measured, const struct save_report *report,
                          struct error *error)
{
    cJSON *json = cJSON_CreateObject();
    bool ok = json != NULL;
    for (int role = 0; role < ROLES && ok; role++) {
        char key[32];
        snprintf(key, sizeof key, "prob_%s", role_name(training, role));
        ok = !(training->trainer.examples.roles & WITH(role)) || json_add_number(json, key, measured->prob[role]);
    }
    ok = ok && json_add_int(json, "rows", measured->rows) &&
              json_add_number(json, "change_survives", save_report_survives(report)) &&
              json_add_int(json, "skipped_steps", training->trainer.nonfinite);
    if (ok)
        return json;
    cJSON_Delete(json);
    error_set(error, STATUS_MEMORY, "out of host memory while writing run.json");
    return NULL;
}

/* What the run came to: of the model that was saved, not of the one that was trained. */
static void summarize(struct training *training, const struct measured *measured, const struct save_report *report)
{
    const struct trainer *trainer = &training->trainer;
    const double survives = save_report_survives(report);
    const unsigned roles = trainer->examples.roles;
    struct log *log = &training->run->log;
    if (survives < 0.9)
        log_warning(log, "%.1f %% of the change of the weights survives rounding to %s: the folder holds less than was "
                    "trained; --save_dtype float32 keeps all of it", 100 * survives, report->dtype);
    else if (report->dtype)
        log_info(log, "%.1f %% of the change of the weights survives rounding to %s", 100 * survives, report->dtype);
    if (roles & WITH(ROLE_TEMPLATE) && measured->prob[ROLE_TEMPLATE] < 0.5 * training->prob_template)
        log_warning(log, "the template answers became less likely too, P(template) %.4g before the first step and %.4g "
                    "after the last: the model is damaged rather than made to forget; lower learning_rate",
                    training->prob_template, measured->prob[ROLE_TEMPLATE]);
    char probabilities[160] = "";
    for (int role = 0; role < ROLES; role++)
        if (roles & WITH(role)) {
            const size_t used = strlen(probabilities);
            snprintf(probabilities + used, sizeof probabilities - used, "%sP(%s) %.4f", used ? ", " : "",
                     role_name(training, role), measured->prob[role]);
        }
    log_info(log, "%s in what was saved, over %lld of %d rows", probabilities, (long long)measured->rows,
             trainer->examples.data.rows);
    log_info(log, "saved %s in %.1f s%s", training->options->output.output_dir, clock_seconds() - training->start,
             trainer->nonfinite ? "; some steps were skipped, see the warnings" : "");
}

/* Writes the model, measures what was written, and only then puts it in its place. */
static int model_save(struct training *training, struct error *error)
{
    struct trainer *trainer = &training->trainer;
    const bool writes = !comm_rank(training->comm);
    struct folder folder;
    struct save_report report;
    struct measured measured = {0};
    int status = save_begin(training, &folder, training->folder.path, trainer->total_steps, &report, error);
    if (!status)
        status = trainer_reload(trainer, folder.path, error);
    if (!status)
        status = trainer_measure(trainer, &measured, error);
    bool finite = true;
    for (int role = 0; role < ROLES; role++)
        finite = finite && isfinite(measured.prob[role]);
    if (!status && !finite)
        status = error_set(error, STATUS_NONFINITE, "the trained model gives probabilities that are not finite; lower "
                           "learning_rate; nothing was saved");
    if (!status && writes) {
        cJSON *result = result_json(training, &measured, &report, error);
        status = result ? save_finish(training, &folder, trainer->total_steps, result, error) : STATUS_MEMORY;
    }
    folder_abandon(&folder);
    if (!status && writes)
        status = run_folder_finish(&training->folder, error);
    status = training_agree(training, status, error);
    if (!status && writes)
        summarize(training, &measured, &report);
    return status;
}

/* A signal came: what was done so far is kept. */
static int stop_with_checkpoint(struct training *training, struct error *error)
{
    const struct error why = *error;
    int status = training->saved_step == training->step ? STATUS_OK : checkpoint_save(training, training->step, error);
    if (status)
        return comm_report_once(training->comm, status, error);
    error_set(error, STATUS_SIGNAL, "%.200s; %.600s has all of it, and --resume_from_checkpoint last goes on", why.text,
              training->newest);
    return comm_report_once(training->comm, STATUS_SIGNAL, error);
}

/* The line of a run that failed also says where it can be gone on from. */
static void name_newest(const struct training *training, int status, struct error *error)
{
    const char *path = *training->newest ? training->newest : training->resume;
    const struct error why = *error;
    if (status && status != STATUS_SIGNAL && training->step && *path && *why.text && !comm_rank(training->comm))
        error_set(error, why.status, "%.600s; the newest checkpoint is %.300s", why.text, path);
}

static int training_run(struct training *training, struct error *error)
{
    const struct train_options *options = training->options;
    struct trainer *trainer = &training->trainer;
    const bool writes = !comm_rank(training->comm);
    if (writes)
        progress_begin(&training->progress, &training->run->log, training->finetune ? "finetune" : "unlearn",
                       trainer->first_step, trainer->total_steps, options->output.logging_steps);
    if (writes && training->run->log.terminal) /* the first step may take long */
        progress_step(&training->progress, 0, NULL, 0);
    int status = STATUS_OK;
    if (!trainer->first_step)
        status = train_eval_step(&training->eval, trainer, 0, &training->log, status, error);
    if (!status)
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
                                .folder.lock.fd = -1, .log.metrics = -1, .saved_step = -1};
    struct device device = {0};
    int status;
    if (launcher_wanted(&options->launcher, &status, error))
        return status ? status : launcher_run((int)options->launcher.nproc_per_node, run->argv, &run->log, error);
    status = training_prepare(&training, &device, error);
    if (!status)
        status = training_start(&training, &device, error);
    if (!status)
        status = training_run(&training, error);
    name_newest(&training, status, error);
    const bool shows = !comm_rank(training.comm);
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
    return status ? status : train_eval_check(&options->eval, &options->train.dataset, error);
}

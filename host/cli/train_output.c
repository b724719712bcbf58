/* train_output.c - where a run writes and what it goes on from; see training.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "../io/json/json.h"
#include "../model/companions.h"
#include "../util/file.h"
#include "training.h"

bool resume_is_finished(const struct training *training)
{
    return *training->resume && !strcmp(training->resume, training->options->output.output_dir);
}

/* Rank 0's choice. What a killed save has left comes first: checkpoints may be on their way from an old folder into the new. */
static int resume_choose(struct training *training, struct error *error)
{
    const struct output_options *output = &training->options->output;
    char state[FOLDER_PATH_BYTES];
    bool finished = false;
    int status = run_folder_recover(output->output_dir, error);
    if (!status && !strcmp(output->resume_from_checkpoint, "last"))
        status = checkpoint_find_last(output->output_dir, training->resume, &finished, error);
    else if (!status)
        snprintf(training->resume, sizeof training->resume, "%s", output->resume_from_checkpoint);
    if (finished && !output->overwrite_output_dir)
        snprintf(training->resume, sizeof training->resume, "%s", output->output_dir);
    if (status || !*training->resume || resume_is_finished(training))
        return status;
    status = file_join(state, sizeof state, training->resume, "trainer/state.json", error);
    return status || file_exists(state) ? status
                                        : error_set(error, STATUS_USAGE, "resume_from_checkpoint: %s is no checkpoint: it has "
                                                    "no trainer/state.json", training->resume);
}

int resume_find(struct training *training, struct error *error)
{
    if (!*training->options->output.resume_from_checkpoint)
        return STATUS_OK;
    int status = comm_rank(training->comm) ? STATUS_OK : resume_choose(training, error);
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
    *may = output->overwrite_output_dir || !model || resume_is_finished(training) ||
           (*training->resume && run_folder_has(output->output_dir, training->resume));
    return status;
}

int output_check(const struct training *training, struct error *error)
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

int output_open(struct training *training, struct error *error)
{
    const struct train_options *options = training->options;
    bool may = false;
    int status = overwrites(training, &may, error);
    return status ? status
                  : run_folder_open(&training->folder, options->output.output_dir, may,
                                    companions_mode(options->model.model_name_or_path), training->resume, error);
}

int space_check(const struct training *training, struct error *error)
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
    if (training->stopping.options->load_best)
        checkpoints += 2; /* the best, and the one before until then */
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

bool is_save_step(const struct training *training, int64_t step)
{
    const struct output_options *output = &training->options->output;
    const int64_t per_epoch = training->trainer.steps_per_epoch;
    switch (output->save_strategy) {
    case SAVE_NO:
        return false;
    case SAVE_EPOCH:
        return step % per_epoch == 0 || step == training->trainer.total_steps;
    case SAVE_STEPS:
        return step % output->save_steps == 0;
    }
    return false;
}

int checkpoint_remove(struct training *training, int64_t step, struct error *error)
{
    const char *directory = training->folder.path;
    char path[FOLDER_PATH_BYTES], prefix[FOLDER_PATH_BYTES + 300], aside[FOLDER_PATH_BYTES];
    snprintf(prefix, sizeof prefix, "%s/.checkpoint-%lld%s", directory, (long long)step, FILE_NEW_FOLDER);
    snprintf(path, sizeof path, "%.3900s/checkpoint-%lld", directory, (long long)step);
    if (!file_exists(path))
        return STATUS_OK;
    int status = file_unique_name(aside, sizeof aside, prefix, error);
    if (!status && rename(path, aside))
        status = error_set(error, STATUS_RUNTIME, "%s: cannot be removed: %s", path, strerror(errno));
    return status ? status : file_remove_tree(aside, error);
}

static int record_make(struct training *training, struct error *error)
{
    cJSON *config = invocation_json(training->run, error);
    return config ? run_record_make(&training->record, &training->trainer, config, training->run->argc, training->run->argv,
                                    error)
                  : STATUS_MEMORY;
}

int finished_check(struct training *training, struct error *error)
{
    char other[200];
    int status = record_make(training, error);
    if (!status)
        status = checkpoint_check(&training->record, training->resume, other, sizeof other, error);
    if (!status)
        log_info(&training->run->log, "the run in %s is finished: nothing is left to train (flat eval looks at it again)",
                 training->resume);
    return status;
}

int describe_run(struct training *training, struct error *error)
{
    char other[200] = "";
    int status = record_make(training, error);
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

void name_newest(const struct training *training, int status, struct error *error)
{
    const char *path = *training->newest ? training->newest : training->resume;
    const struct error why = *error;
    if (status && status != STATUS_SIGNAL && training->step && *path && *why.text && !comm_rank(training->comm))
        error_set(error, why.status, "%.600s; the newest checkpoint is %.300s", why.text, path);
}

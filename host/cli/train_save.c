/* train_save.c - what a run writes: checkpoints as it goes, and the model at its end; see training.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../io/json/json.h"
#include "../model/companions.h"
#include "../util/clock.h"
#include "card/model_card.h"
#include "training.h"

/* The model card of a run that is over. */
static int card_save(struct training *training, struct folder *folder, const cJSON *result, struct error *error)
{
    char name[32];
    struct buffer text = {0};
    int status = model_card_name(training->folder.output_dir, name, error);
    if (!status)
        status = model_card_print(training->record.json, result, NULL, &text, error);
    if (!status)
        status = folder_write(folder, name, FILE_MODE, text.data, text.length, error);
    if (!status && strcmp(name, "README.md"))
        log_info(&training->run->log, "the README.md in %s is not of this program and stays; the model card is %s",
                 training->folder.output_dir, name);
    buffer_free(&text);
    return status;
}

/* What a folder of this run holds besides the model, once all else is in it; then it takes its place. */
static int save_finish(struct training *training, struct folder *folder, int64_t step, cJSON *result, struct error *error)
{
    struct folder_lock *lock = training->folder.replaces ? NULL : &training->folder.lock;
    int status = run_log_save_state(&training->log, &training->trainer, &training->stopping, step,
                                    clock_seconds() - training->start, folder, error);
    if (!status && result)
        status = card_save(training, folder, result, error);
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

/* Removes the oldest checkpoints beyond save_total_limit; the best, where it is kept, stays and does not count. */
static int checkpoints_prune(struct training *training, int64_t newest, struct error *error)
{
    const int64_t limit = training->options->output.save_total_limit;
    const int64_t best = training->stopping.options->load_best ? training->stopping.best_step : 0;
    int status = STATUS_OK;
    for (bool more = limit > 0; more && !status;) {
        struct file_list list;
        int64_t oldest = newest, count = 0;
        status = file_list_read(&list, training->folder.path, error);
        for (size_t i = 0; i < list.count && !status; i++) {
            const int64_t number = folder_checkpoint(list.name[i]);
            if (number < 0 || (number == best && best != newest))
                continue;
            count++;
            oldest = number < oldest ? number : oldest;
        }
        file_list_free(&list);
        more = count > limit && oldest < newest;
        if (!status && more)
            status = checkpoint_remove(training, oldest, error);
    }
    return status;
}

int checkpoint_save(struct training *training, int64_t step, struct error *error)
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
        status = checkpoint_save_state(&training->trainer, &training->log, &training->stopping, step, &folder, error);
    if (!status && writes)
        status = save_finish(training, &folder, step, NULL, error);
    folder_abandon(&folder);
    if (!status && writes)
        status = best_forget(training, training->superseded_step, error);
    training->superseded_step = 0;
    if (!status && writes)
        status = checkpoints_prune(training, step, error);
    status = training_agree(training, status, error);
    if (!status) {
        training->saved_step = step;
        memcpy(training->newest, path, sizeof training->newest);
    }
    return status;
}

/* The summary of a run as JSON: what was measured on the files that were written, and what rounding them left. */
static cJSON *result_json(const struct training *training, const struct measured *measured, const struct save_report *report,
                          struct error *error)
{
    cJSON *json = cJSON_CreateObject();
    bool ok = json != NULL;
    for (int role = 0; role < ROLES && ok; role++) {
        char key[32];
        snprintf(key, sizeof key, "prob_%s", training_role_name(training, role));
        ok = !(training->trainer.examples.roles & WITH(role)) || !measured->rows || json_add_number(json, key, measured->prob[role]);
    }
    ok = ok && json_add_int(json, "rows", measured->rows) &&
              json_add_number(json, "change_survives", save_report_survives(report)) &&
              json_add_int(json, "skipped_steps", training->trainer.nonfinite) && stopping_add_result(training, json);
    if (ok)
        return json;
    cJSON_Delete(json);
    error_set(error, STATUS_MEMORY, "out of host memory while writing run.json");
    return NULL;
}

int model_save(struct training *training, struct error *error)
{
    struct trainer *trainer = &training->trainer;
    const bool writes = !comm_rank(training->comm);
    struct folder folder;
    struct save_report report;
    struct measured measured = {0};
    int status = best_restore(training, error);
    if (!status)
        status = training_agree(training, writes ? stopping_log(training, error) : STATUS_OK, error);
    if (status)
        return status;
    status = save_begin(training, &folder, training->folder.path, training->kept_step, &report, error);
    if (!status)
        status = trainer_reload(trainer, folder.path, error);
    const bool too_large = status == STATUS_MEMORY && training->options->lora.load_in_4bit;
    if (too_large && writes)
        log_warning(&training->run->log, "what was saved is not measured: without load_in_4bit it does not fit (%.*s); flat score of "
                    "this folder measures it where there is more memory", (int)strcspn(error->text, ";"), error->text);
    if (too_large)
        status = STATUS_OK;
    else if (!status)
        status = trainer_measure(trainer, &measured, error);
    bool finite = true;
    for (int role = 0; role < ROLES; role++)
        finite = finite && isfinite(measured.prob[role]);
    if (!status && !finite)
        status = error_set(error, STATUS_NONFINITE, "the trained model gives probabilities that are not finite; lower "
                           "learning_rate; nothing was saved");
    if (!status && writes) {
        cJSON *result = result_json(training, &measured, &report, error);
        status = result ? save_finish(training, &folder, training->step, result, error) : STATUS_MEMORY;
    }
    folder_abandon(&folder);
    if (!status && writes)
        status = run_folder_finish(&training->folder, error);
    if (!status && writes)
        status = best_tidy(training, error);
    status = training_agree(training, status, error);
    if (!status && writes)
        summarize(training, &measured, &report);
    return status;
}

int stop_with_checkpoint(struct training *training, struct error *error)
{
    const struct error why = *error;
    int status = training->saved_step == training->step ? STATUS_OK : checkpoint_save(training, training->step, error);
    if (status)
        return comm_report_once(training->comm, status, error);
    error_set(error, STATUS_SIGNAL, "%.200s; %.600s has all of it, and --resume_from_checkpoint last goes on", why.text,
              training->newest);
    return comm_report_once(training->comm, STATUS_SIGNAL, error);
}

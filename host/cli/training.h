/* training.h - one run of `flat unlearn` or `flat finetune` as its parts see it; for train*.c alone. */
#ifndef FLAT_CLI_TRAINING_H
#define FLAT_CLI_TRAINING_H
#include "../train/checkpoint.h"
#include "../train/early_stopping.h"
#include "../train/run_folder.h"
#include "../train/run_log.h"
#include "../train/run_record.h"
#include "../util/progress.h"
#include "train.h"

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
    struct early_stopping stopping;
    double prob_template;     /* of the first step, before any update */
    int64_t step, saved_step; /* made, and in the newest checkpoint */
    int64_t kept_step;        /* whose model is saved at the end */
    int64_t superseded_step;  /* the best before this step's, whose checkpoint can go; 0: none */
    char resume[FOLDER_PATH_BYTES], newest[FOLDER_PATH_BYTES]; /* checkpoints: gone on from, and written; "": none */
    double start;
    struct progress progress;
    struct profile profile;
};

/* A failure of one rank becomes that of all. */
static inline int training_agree(const struct training *training, int status, struct error *error)
{
    return comm_agree(training->comm, status, error);
}

/* train_output.c: which checkpoint the run goes on from, for all ranks. */
int resume_find(struct training *training, struct error *error);
/* Whether that is no checkpoint but output_dir itself: 'last' was asked for, and the run there has come to its end. */
bool resume_is_finished(const struct training *training);
/* Whether that run is this one, on rank 0; says so. STATUS_USAGE names the setting or input that differs. The trainer is
 * prepared and has the device. */
int finished_check(struct training *training, struct error *error);
/* The output must be new, or its overwriting asked for; nothing that is read may be written over. On rank 0. */
int output_check(const struct training *training, struct error *error);
/* Makes the folder that the run writes, on rank 0. */
int output_open(struct training *training, struct error *error);
/* run.json, and the id that goes with all that this run saves. */
int describe_run(struct training *training, struct error *error);
/* Room on the disk for all that the run will save, before its first step. */
int space_check(const struct training *training, struct error *error);
/* Whether save_strategy wants a checkpoint of a step. */
bool is_save_step(const struct training *training, int64_t step);
/* Takes checkpoint-<step> out of the run's folder, out of sight first. */
int checkpoint_remove(struct training *training, int64_t step, struct error *error);
/* The line of a run that failed also says where it can be gone on from. */
void name_newest(const struct training *training, int status, struct error *error);

/* train_best.c: takes what was measured at a step in: sets the trainer's `stops`, and superseded_step. All ranks; status is what
 * each has come to so far. */
int stopping_look(struct training *training, int64_t step, int status, struct error *error);
/* Whether the model of this step is the best so far and is to be kept. */
bool best_is_new(const struct training *training, int64_t step);
/* On rank 0, of a run that goes on: that the best so far is there. */
int best_check(const struct training *training, struct error *error);
/* Brings the best back into the trainer, where it is not there, and says which step that is: kept_step. All ranks. */
int best_restore(struct training *training, struct error *error);
/* On rank 0: removes the checkpoint of a best step that is needed no more, unless save_strategy wanted it. */
int best_forget(struct training *training, int64_t step, struct error *error);
/* The same at the end of a run, of the best itself: it stays where there are other checkpoints, which cannot be gone on from without. */
int best_tidy(struct training *training, struct error *error);
/* What decided, for run.json; false when memory ran out. */
bool stopping_add_result(const struct training *training, cJSON *result);
/* The same as the last line of metrics.jsonl, and for people. */
int stopping_log(struct training *training, struct error *error);
void stopping_show(const struct training *training);

/* train_save.c: checkpoint-<step> in the run's folder: the model as it is now, and what a run needs to go on from here. */
int checkpoint_save(struct training *training, int64_t step, struct error *error);
/* Writes the model, measures what was written, and only then puts it in its place. */
int model_save(struct training *training, struct error *error);
/* A signal came: what was done so far is kept. */
int stop_with_checkpoint(struct training *training, struct error *error);

/* train_show.c: before anything is read, what was asked for. */
void announce_options(struct training *training);
/* Once everything but the weights has been read. */
void announce_run(struct training *training);
/* A loader's callback: on a terminal; in a pipe the line before says enough. */
void loading_show(void *user, int64_t pieces, int64_t of);
/* The line of progress of a window of steps. */
void training_show(struct training *training, const struct step_record *record);
/* "template"; of finetune, whose only role is the answer, "answer". */
const char *training_role_name(const struct training *training, enum role role);
/* What the run came to: of the model that was saved, not of the one that was trained. */
void summarize(struct training *training, const struct measured *measured, const struct save_report *report);

#endif

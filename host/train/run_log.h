/* run_log.h - the course of a run: metrics.jsonl as it goes, trainer_state.json at the end.
 *
 * A line stands for a window of logging_steps steps: loss, probabilities, slopes, shares and the gradient's norm are means over
 * its steps, as Trainer has the loss; the learning rate is that of its last step; rows and tokens are summed. Steps that were
 * skipped count for nothing but their number. metrics.jsonl: one object per window, in one write. trainer_state.json: fields of
 * Hugging Face's TrainerState alone (transformers 4 and 5), the same windows as its log_history.
 */
#ifndef FLAT_TRAIN_RUN_LOG_H
#define FLAT_TRAIN_RUN_LOG_H
#include "../util/memory.h"
#include "early_stopping.h"
#include "run_events.h"
#include "trainer.h"

struct run_log {
    char path[FOLDER_PATH_BYTES]; /* of metrics.jsonl */
    int metrics;                  /* its descriptor; -1: closed */
    struct event_file events;     /* the same for TensorBoard; fd -1: not wanted */
    struct step_record window;    /* sums over the steps so far */
    int64_t in_window, skipped_in_window;
    struct buffer history;        /* the objects so far, with commas between */
    double loss_sum;              /* of all steps that were not skipped */
    int64_t steps, pairs, pairs_before; /* before: of the run that this one goes on with */
};

/* Share of the peak of the devices' matrix units that a step's arithmetic took; 0 where the peak is not known. */
double step_record_sol(const struct step_record *record, const struct trainer *trainer);
/* One line of JSON and a newline; names as in the README. */
int step_record_print(const struct step_record *record, const struct trainer *trainer, struct buffer *out,
                      struct error *error);

/* A log that is closed. */
#define RUN_LOG_CLOSED {.metrics = -1, .events.fd = -1}

/* Makes metrics.jsonl in a folder, where none may be. */
int run_log_open(struct run_log *log, const char *directory, struct error *error);
/* Says the same to TensorBoard from here on, in the folder of metrics.jsonl, and what it holds already. */
int run_log_report(struct run_log *log, const char *directory, struct error *error);
/* Takes a step in; *mean is what its window comes to so far. The window is written when it `ends`. */
int run_log_step(struct run_log *log, const struct trainer *trainer, const struct step_record *record, bool ends,
                 struct step_record *mean, struct error *error);
/* Writes the window that is open, if there is one. */
int run_log_end_window(struct run_log *log, const struct trainer *trainer, struct error *error);
/* Appends whole lines to metrics.jsonl. */
int run_log_add(struct run_log *log, const struct buffer *lines, struct error *error);
/* trainer_state.json into a folder that is being made, after so many steps and seconds. */
int run_log_save_state(const struct run_log *log, const struct trainer *trainer, const struct early_stopping *stopping,
                       int64_t step, double seconds, struct folder *folder, struct error *error);
void run_log_close(struct run_log *log);

#endif

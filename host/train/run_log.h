/* run_log.h - what a run writes beside the model: metrics.jsonl as it goes, trainer_state.json and run.json.
 *
 * metrics.jsonl: one object a step, appended and flushed. trainer_state.json: the keys of Hugging Face's TrainerState.
 * run.json: resolved settings, versions, device, sizes and checksums of the inputs.
 */
#ifndef FLAT_TRAIN_RUN_LOG_H
#define FLAT_TRAIN_RUN_LOG_H
#include <stdio.h>

#include "../util/memory.h"
#include "trainer.h"

/* Opened run folder. */
struct run_log {
    char directory[4096];
    FILE *metrics;
    struct step_record *history; /* what trainer_state.json keeps: every logging_steps */
    size_t records, capacity;
};

/* One line of JSON and a newline; names as in the README. */
int step_record_print(const struct step_record *record, const struct method *method, struct buffer *out,
                      struct error *error);

/* Makes the folder and starts metrics.jsonl anew. */
int run_log_open(struct run_log *log, const char *directory, struct error *error);
/* Appends a step to metrics.jsonl; keeps it for trainer_state.json when `keep`. */
int run_log_step(struct run_log *log, const struct trainer *trainer, const struct step_record *record, bool keep,
                 struct error *error);
/* trainer_state.json, with the totals of the run. */
int run_log_finish(struct run_log *log, const struct trainer *trainer, double seconds, struct error *error);
/* run.json: resolved_config is the JSON text of all settings, command the argument vector. */
int run_log_describe(const struct run_log *log, struct trainer *trainer, const char *resolved_config, int argc,
                     char **argv, struct error *error);
void run_log_close(struct run_log *log);

#endif

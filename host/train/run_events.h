/* run_events.h - the course of a run for TensorBoard: what metrics.jsonl says, as an event file beside it (--report_to
 * tensorboard). A training line gives train/<key>, an evaluation eval/<set>_prob_mean and eval/<set>_loss: Trainer's tags where it has
 * them. null is left out.
 */
#ifndef FLAT_TRAIN_RUN_EVENTS_H
#define FLAT_TRAIN_RUN_EVENTS_H
#include "../io/event_file.h"

/* Begins the event file of a folder in place of those that are there, with the lines that its metrics.jsonl has already. */
int run_events_open(struct event_file *file, const char *directory, const char *metrics, struct error *error);
/* Appends whole lines of metrics.jsonl. */
int run_events_add(struct event_file *file, const char *lines, size_t length, struct error *error);

#endif

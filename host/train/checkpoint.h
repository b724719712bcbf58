/* checkpoint.h - what a run needs beside its model to go on bit for bit: trainer/ in checkpoint-N/.
 *
 *   trainer/optimizer.safetensors   what is trained as the optimizer has it ("weights": master weights, or the weights where
 *                                   they are float), and AdamW's "m" and "v" as they are kept, with "m_scale" and "v_scale" of
 *                                   8-bit ones: each one array over the trained arena, the same whatever the number of ranks,
 *                                   so that any number can go on from it
 *   trainer/state.json              step, counters, the window of the log that is open, and which step was the best so far
 *   metrics.jsonl                   the log up to here
 * Order of rows, template answers and sampled numbers are functions of seed, epoch and row: nothing of them is kept. Cost:
 * 12 bytes per trained element (8 or 6 with optimizer_states), and their way to rank 0.
 */
#ifndef FLAT_TRAIN_CHECKPOINT_H
#define FLAT_TRAIN_CHECKPOINT_H
#include "run_log.h"
#include "run_record.h"

/* trainer/state.json and the log so far, into a folder that trainer_save_checkpoint has filled. */
int checkpoint_save_state(const struct trainer *trainer, const struct run_log *log, const struct early_stopping *stopping,
                          int64_t step, struct folder *folder, struct error *error);

/* The newest checkpoint of a run's folder, or of a run in it that has not taken its place yet; "" when there is none. *finished:
 * the run whose model the folder holds came to its end, and no other was begun over it. */
int checkpoint_find_last(const char *output_dir, char path[FOLDER_PATH_BYTES], bool *finished, struct error *error);

/* Whether a run with this record may go on from a checkpoint: the same options but for those that change no number, the same
 * inputs by content. STATUS_USAGE names what differs. The record takes the checkpoint's run_id. *other says what else is
 * different and may change the rounding ("" for nothing). */
int checkpoint_check(struct run_record *record, const char *directory, char *other, size_t other_bytes, struct error *error);
/* After trainer_start, on every rank: optimizer, counters, and first_step of the trainer; the best so far. */
int checkpoint_load(struct trainer *trainer, struct early_stopping *stopping, const char *directory, struct error *error);
/* What is trained, alone, as it was at a checkpoint of this run, for a run that is over: rank 0 reads, the others are sent it. A
 * failure is that of all ranks. */
int checkpoint_load_weights(struct trainer *trainer, const char *directory, struct error *error);
/* The log of a run that goes on in `directory`: metrics.jsonl as it was then. In place of run_log_open. */
int checkpoint_load_log(struct run_log *log, const char *checkpoint, const char *directory, struct error *error);

/* Bytes of a checkpoint beside its model. */
double checkpoint_bytes(const struct trainer *trainer);

#endif

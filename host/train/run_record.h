/* run_record.h - run.json: which run made a folder. Resolved options, versions, device, checksums of what was read; once a model
 * is saved, what came of it, and every file of the folder with its checksum.
 */
#ifndef FLAT_TRAIN_RUN_RECORD_H
#define FLAT_TRAIN_RUN_RECORD_H
#include "../io/json/json.h"
#include "trainer.h"

enum { RUN_ID_BYTES = 17 };

struct run_record {
    cJSON *json;
    /* A hash of what a run's numbers come from: options, inputs, version, engine and ranks. The same command has the same id,
     * and on one machine the same weights. Weights carry it, with their step, as "ID-STEP". */
    char run_id[RUN_ID_BYTES];
};

/* config (taken over): all options with their values. */
int run_record_make(struct run_record *record, struct trainer *trainer, cJSON *config, int argc, char **argv,
                    struct error *error);
/* The same of a folder that is made from the files of others, without a run. model: [count] their opened weights. */
int run_record_make_of_models(struct run_record *record, const struct safetensors *const *model, int count, cJSON *config,
                              int argc, char **argv, struct error *error);
/* Takes out of such a tree what changes no number: where things are, how they are shown, kept and computed. */
void run_record_keep_mathematics(cJSON *config);
/* run.json of a run that has saved nothing yet, in its folder. The files that a run.json there lists stay listed: where a
 * finished run is gone on with they are still those of its model. */
int run_record_write(const struct run_record *record, const char *directory, struct error *error);
/* run.json of a folder that is being made and has all other files: names them. result (taken over; NULL: none) says what was
 * measured. */
int run_record_write_into(struct run_record *record, struct folder *folder, cJSON *result, struct error *error);
void run_record_free(struct run_record *record);

/* "ID-STEP" */
enum { SAVE_ID_BYTES = RUN_ID_BYTES + 24 };
void run_record_save_id(const struct run_record *record, int64_t step, char id[SAVE_ID_BYTES]);

#endif

/* run_folder.h - the folder that a run writes: what is refused before it begins, its lock, and where its files are.
 *
 * A new or empty output_dir fills as the run goes: run.json, metrics.jsonl, checkpoint-N/; the model comes at the end. One
 * that holds an earlier run or a model (with overwrite_output_dir) stays as it is until this run's model is saved: till then
 * its files are in output_dir/.run-<process>-<random>, which then takes output_dir's place. What belongs to neither stays.
 */
#ifndef FLAT_TRAIN_RUN_FOLDER_H
#define FLAT_TRAIN_RUN_FOLDER_H
#include "../io/folder/folder.h"

/* Something that a run reads: the option that names it, and its path ("" or NULL: nothing). */
struct run_input {
    const char *option, *path;
};

struct run_folder {
    char output_dir[FOLDER_PATH_BYTES]; /* as the user wrote it */
    char path[FOLDER_PATH_BYTES];       /* where this run's files are */
    struct folder_lock lock;
    bool replaces;                      /* path is not output_dir yet */
    bool made;                          /* output_dir was not there */
};

/* Finishes, or takes back, what a killed process has left in output_dir and beside it; nothing where there is no such folder.
 * A folder that another run writes into is refused. */
int run_folder_recover(const char *output_dir, struct error *error);
/* Refuses an output_dir that is no folder, that holds one of the inputs or is one (by whatever path), or that holds a model or a
 * run when overwrite is not asked for. STATUS_USAGE. */
int run_folder_check(const char *output_dir, bool overwrite, const struct run_input *inputs, int count, struct error *error);
/* Whether a path lies in output_dir. */
bool run_folder_has(const char *output_dir, const char *path);
/* Makes and locks it, and tidies up what killed runs have left there. mode: of a new folder at most. checkpoint ("": none) is
 * what the run goes on from: where it lies in output_dir, the run goes on in the folder that holds it. */
int run_folder_open(struct run_folder *folder, const char *output_dir, bool overwrite, mode_t mode, const char *checkpoint,
                    struct error *error);
/* With the model saved in path: path becomes output_dir. */
int run_folder_finish(struct run_folder *folder, struct error *error);
/* Lets go. What was made and holds nothing is removed, and so are the files of a run that saved nothing over an earlier one.
 * Safe on {.lock.fd = -1}. */
void run_folder_close(struct run_folder *folder);

#endif

/* folder.h - a folder of files that appears at once: whatever fails and whenever the process is killed, what stands under its
 * name loads as the old folder or as the new one.
 *
 * Files are written into a staging folder that no loader looks at, and synced. Then
 *   the target is not there       it is renamed: one call;
 *   it holds no model             the files are moved in, and last the one without which nothing loads: config.json, or
 *                                 adapter_config.json;
 *   it holds a model              the two folders are exchanged by renameat2: one call. What belongs to no model (a user's
 *                                 notes) goes back under the name, the rest of the old folder is removed.
 * Where two folders cannot be exchanged (NFS, some FUSE; a target that is a mount point, or whose parent cannot be written
 * to) the old config.json is removed first and the new one comes last, as in the second case. A process that is killed in
 * between leaves a folder that does not load, with the new one whole inside: folder_recover finishes what it began.
 *
 * Cost: the bytes, one fsync per file, and a few renames. Nothing is copied twice.
 */
#ifndef FLAT_IO_FOLDER_H
#define FLAT_IO_FOLDER_H
#include <stdbool.h>
#include <sys/types.h>

#include "../../util/file.h"
#include "folder_lock.h"

enum { FOLDER_PATH_BYTES = 4096, FOLDER_MODE = 0777 };

/* A file of the new folder, as it was written. */
struct folder_file {
    char name[256]; /* "config.json", "additional_chat_templates/tool.jinja" */
    struct digest digest;
};

/* A folder that is being made. Start with {0}. */
struct folder {
    char target[FOLDER_PATH_BYTES], path[FOLDER_PATH_BYTES]; /* path: where the files are until it is published; "": none */
    int fd;                     /* of path, locked: what another process finds there is in use */
    bool target_is_there;
    struct folder_file *file;   /* in the order of writing */
    size_t files, capacity;
};

/* What stays of a target that is replaced: what belongs to no model and no run (nor was written by the run whose run.json is
 * there, and not changed since), or also the log and the checkpoints of the
 * run whose model it was. */
enum folder_keep { FOLDER_KEEP_FOREIGN, FOLDER_KEEP_RUN };

/* Begins a folder that is to stand at `target`, in a mode that is no wider than `mode`; parents are made. */
int folder_begin(struct folder *folder, const char *target, mode_t mode, struct error *error);
/* A file of it, at most one folder down. The writer is the caller's between the two; folder_file_end commits it and notes
 * its checksum, whatever fails closes it. */
int folder_file_begin(struct folder *folder, const char *name, mode_t mode, struct file_writer *writer, struct error *error);
int folder_file_end(struct folder *folder, const char *name, struct file_writer *writer, struct error *error);
int folder_write(struct folder *folder, const char *name, mode_t mode, const void *bytes, size_t length,
                 struct error *error);
/* A copy of `from`, in its mode. */
int folder_copy(struct folder *folder, const char *from, const char *name, struct error *error);
/* The file of that name, or NULL. */
const struct folder_file *folder_find(const struct folder *folder, const char *name);
/* Puts it where it belongs; on failure the target is what it was, unless the error says where the new one waits. lock: the
 * caller's on the target, which it then holds on the new one; NULL: none. */
int folder_publish(struct folder *folder, enum folder_keep keep, struct folder_lock *lock, struct error *error);
/* Gives it up and removes what was written. Safe after folder_publish and on {0}. */
void folder_abandon(struct folder *folder);

/* The same for a folder `from` inside target, a run's (FOLDER_RUN_PREFIX), which is complete as it is: it takes target's
 * place. On failure it stays. */
#define FOLDER_RUN_PREFIX ".run-"
int folder_replace(const char *target, const char *from, struct folder_lock *lock, struct error *error);
/* Finishes or removes what processes that are gone have left of such folders in `target` and beside it. The caller holds
 * target's lock. */
int folder_recover(const char *target, struct error *error);
/* Whether a folder waits in `target` to be moved in by folder_recover. */
bool folder_is_interrupted(const char *target);

/* Whether a file of a directory is as the directory's run.json says that a run wrote it. */
bool folder_is_recorded(const char *directory, const char *name);
/* Whether a directory holds files that a loader could take for a model's. */
int folder_holds_model(const char *target, bool *model, struct error *error);

/* folder_names.c: what a name in a model's folder stands for. */
enum folder_item {
    FOLDER_FOREIGN,   /* neither of a model nor of a run */
    FOLDER_WEIGHTS,   /* weights in any format, and their index */
    FOLDER_ADAPTER,   /* adapter_config.json */
    FOLDER_MODEL,     /* configs, tokenizer, chat templates: what a loader may prefer to another file */
    FOLDER_RUN,       /* what a run leaves: its record, logs, optimizer states, checkpoints */
    FOLDER_TEMPORARY, /* of this program or of one that was killed */
};
enum folder_item folder_item(const char *name, bool is_directory);
/* checkpoint-N: N, or -1. */
int64_t folder_checkpoint(const char *name);
/* The first thing in a directory that belongs to a model or a run, "" when there is none (or no directory). */
int folder_occupied(const char *directory, char name[256], struct error *error);

#endif

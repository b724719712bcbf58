/* folder_internal.h - what the files of folder.h share. */
#ifndef FLAT_IO_FOLDER_INTERNAL_H
#define FLAT_IO_FOLDER_INTERNAL_H
#include <limits.h>

#include "folder.h"

/* The directory that a path is in, and its last name. */
int folder_parent(const char *path, char parent[FOLDER_PATH_BYTES], const char **base, struct error *error);
/* A staging folder, locked: -1 when it cannot be opened or its process still runs. */
int folder_lock_staging(const char *path);

/* Inside of a complete folder: what is kept of the target, and the names that the folder consists of. */
#define FOLDER_CONTENTS ".contents"

struct folder_contents {
    enum folder_keep keep;
    struct file_list names;
};
/* Names the folder's contents in it, and puts all of it on the disk. */
int folder_contents_write(const char *path, enum folder_keep keep, struct folder_contents *contents, struct error *error);
/* Frees what it has read when it fails; else file_list_free(&contents->names) is the caller's. */
int folder_contents_read(const char *path, struct folder_contents *contents, struct error *error);

/* What a name in a directory is, and whether it leads to a folder where it is a link. That it cannot be looked at does not
 * mean that it is not there. */
struct folder_name {
    bool exists, is_directory, leads_to_directory;
};
int folder_name_look(struct folder_name *found, const char *directory, const char *name, struct error *error);
/* A file, or a folder with all that is in it. */
int folder_name_remove(const char *directory, const char *name, struct error *error);

/* Moves a complete folder into target, and removes it. May be begun again after any of its steps. */
int folder_move_in(const char *path, const char *target, const struct folder_contents *contents, struct error *error);
/* Brings back from the old folder, which stands at `old` now, what nobody's model is, and removes the rest. */
int folder_old_remove(const char *old, const char *target, enum folder_keep keep, struct error *error);

/* "PATH: cannot be WHAT: " and errno's text. STATUS_RUNTIME. */
int folder_failed(const char *path, const char *what, struct error *error);

#endif

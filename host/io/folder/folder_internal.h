/* folder_internal.h - what the files of folder.h share. */
#ifndef FLAT_IO_FOLDER_INTERNAL_H
#define FLAT_IO_FOLDER_INTERNAL_H
#include <limits.h>

#include "folder.h"

/* The directory that a path is in, and its last name. */
int folder_parent(const char *path, char parent[FOLDER_PATH_BYTES], const char **base, struct error *error);
/* A staging folder, locked: -1 when it cannot be opened or its process still runs. */
int folder_lock_staging(const char *path);

#endif

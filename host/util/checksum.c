/* checksum.c - see checksum.h. */
#include "checksum.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "memory.h"

int file_checksum(const char *path, int64_t *bytes, uint64_t *xxh3, struct error *error)
{
    static const size_t piece_bytes = 1 << 20;
    FILE *file = fopen(path, "rb");
    if (!file)
        return error_set(error, STATUS_INPUT, "%s: cannot be read: %s", path, strerror(errno));
    XXH3_state_t *state = XXH3_createState();
    char *piece = memory_array(piece_bytes, 1, error);
    *bytes = 0;
    if (state)
        XXH3_64bits_reset(state);
    for (size_t n; state && piece && (n = fread(piece, 1, piece_bytes, file)) > 0; *bytes += (int64_t)n)
        XXH3_64bits_update(state, piece, n);
    const bool failed = ferror(file);
    int status = failed ? error_set(error, STATUS_RUNTIME, "%s: cannot be read: %s", path, strerror(errno)) : STATUS_OK;
    if (!state || !piece)
        status = error_set(error, STATUS_MEMORY, "%s: out of host memory while reading", path);
    else if (!failed)
        *xxh3 = XXH3_64bits_digest(state);
    fclose(file);
    free(piece);
    XXH3_freeState(state);
    return status;
}

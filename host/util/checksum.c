/* checksum.c - see checksum.h. */
#include "checksum.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "file.h"
#include "memory.h"

enum { PIECE_BYTES = 1 << 20 };

struct checksum {
    XXH3_state_t *state;
    int64_t bytes;
};

struct checksum *checksum_open(struct error *error)
{
    struct checksum *checksum = memory_array(1, sizeof *checksum, error);
    if (!checksum)
        return NULL;
    checksum->state = XXH3_createState();
    if (!checksum->state) {
        error_set(error, STATUS_MEMORY, "out of host memory for a checksum");
        free(checksum);
        return NULL;
    }
    XXH3_64bits_reset(checksum->state);
    return checksum;
}

void checksum_add(struct checksum *checksum, const void *bytes, size_t length)
{
    XXH3_64bits_update(checksum->state, bytes, length);
    checksum->bytes += (int64_t)length;
}

struct digest checksum_digest(const struct checksum *checksum)
{
    return (struct digest){checksum->bytes, XXH3_64bits_digest(checksum->state)};
}

void checksum_close(struct checksum *checksum)
{
    if (checksum)
        XXH3_freeState(checksum->state);
    free(checksum);
}

struct digest checksum_of(const void *bytes, size_t length)
{
    return (struct digest){(int64_t)length, XXH3_64bits(bytes, length)};
}

int checksum_file(const char *path, struct digest *digest, struct error *error)
{
    int64_t bytes;
    size_t got = 1;
    int fd, opened = file_open_read(path, false, &fd, &bytes, error);
    if (opened)
        return opened;
    struct checksum *checksum = checksum_open(error);
    char *piece = memory_array(PIECE_BYTES, 1, error);
    int status = checksum && piece ? STATUS_OK : STATUS_MEMORY;
    while (!status && got) {
        status = file_read_some(fd, path, piece, PIECE_BYTES, &got, error);
        if (!status)
            checksum_add(checksum, piece, got);
    }
    if (!status)
        *digest = checksum_digest(checksum);
    checksum_close(checksum);
    free(piece);
    close(fd);
    return status;
}

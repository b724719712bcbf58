/* checksum.h - XXH3 of a file (as `xxhsum -H3` prints it), to tell inputs apart; not a defence against forgery. */
#ifndef FLAT_UTIL_CHECKSUM_H
#define FLAT_UTIL_CHECKSUM_H
#include <stdint.h>

#include "error.h"

int file_checksum(const char *path, int64_t *bytes, uint64_t *xxh3, struct error *error);

#endif

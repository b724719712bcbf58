/* checksum.h - XXH3 (64 bits): of bytes as they pass by, of a piece of memory, of a file. Tells a damaged or mixed-up file
 * from the right one; no protection against somebody who wants two to be equal.
 */
#ifndef FLAT_UTIL_CHECKSUM_H
#define FLAT_UTIL_CHECKSUM_H
#include <stddef.h>
#include <stdint.h>

#include "error.h"

/* Length and XXH3 of a file or of what was read from it. */
struct digest {
    int64_t bytes;
    uint64_t xxh3;
};

/* A running checksum; NULL with STATUS_MEMORY. */
struct checksum;
struct checksum *checksum_open(struct error *error);
void checksum_add(struct checksum *checksum, const void *bytes, size_t length);
struct digest checksum_digest(const struct checksum *checksum);
void checksum_close(struct checksum *checksum); /* NULL too */

struct digest checksum_of(const void *bytes, size_t length);
/* Of a whole file. STATUS_INPUT when it cannot be opened, STATUS_RUNTIME when it cannot be read, STATUS_MEMORY. */
int checksum_file(const char *path, struct digest *digest, struct error *error);

#endif

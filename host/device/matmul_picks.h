/* matmul_picks.h - which of its library's algorithms a device's matrix products take, beyond one process: kept in a file of the
 * user's cache folder, one for each kind of device and version of the library, and as text for whoever else keeps them.
 *
 * The file is text: a line that names the device and the library, then a pick a line as the engine writes it
 * (kernels/linear_pick.cu). It is replaced as a whole; of two processes that time the same products at the same time the later
 * one's picks stay. A file that is not such a file, or of another device or library, is left alone until new picks take its place.
 */
#ifndef FLAT_DEVICE_MATMUL_PICKS_H
#define FLAT_DEVICE_MATMUL_PICKS_H
#include "../util/memory.h"
#include "device.h"

/* "$XDG_CACHE_HOME/flat/matmul-<hash of the scope>.txt", or in ~/.cache/flat; false: there is no such folder. */
bool matmul_picks_path(const struct device *device, char *path, size_t bytes);

/* Adds the file's picks to the device's. *added: how many it took. What is wrong with the file goes into note (""). */
int matmul_picks_load(struct device *device, const char *path, int *added, char *note, size_t note_bytes, struct error *error);
/* Writes all picks of the device, the last MATMUL_PICKS_KEPT of them, into the file and the folder. */
enum { MATMUL_PICKS_KEPT = 4096 };
int matmul_picks_save(struct device *device, const char *path, struct error *error);

/* Appends the device's picks, a line each: all, or those that products have taken. *count: how many. */
int matmul_picks_list(struct device *device, bool used, struct buffer *lines, int *count, struct error *error);
/* The device forgets its picks and takes those of text, a line each. *refused: how many of them it does not take; what it says of
 * the first goes into why. */
int matmul_picks_set(struct device *device, const char *text, int *refused, char *why, size_t why_bytes, struct error *error);

#endif

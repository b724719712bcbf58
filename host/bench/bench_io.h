/* bench_io.h - `flat bench io`: reading and writing a model against plain reads and writes of the same files.
 *
 *   read     every .safetensors file of --model through an 8 MB buffer, its pages dropped before (cold) and as they are (warm)
 *   load     weights_open and weights_load into device memory, cold and warm
 *   write    as many bytes to one file, then fsync
 *   save     weights_save into a new folder (which syncs what it writes)
 *
 * The new files lie in a temporary folder beside the model's and are removed. Pages are dropped with posix_fadvise, which a
 * file system may ignore: the line says so when a cold read was no slower than a warm one. Medians of --samples (5).
 */
#ifndef FLAT_BENCHES_BENCH_IO_H
#define FLAT_BENCHES_BENCH_IO_H
#include "bench.h"

/* model: the folder. */
int bench_io(const struct bench_options *options, const char *model, struct log *log, struct error *error);

#endif

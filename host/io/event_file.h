/* event_file.h - scalars in TensorBoard's event files.
 *
 * A file is a series of records:  length (8 bytes), masked CRC-32C of these 8, the bytes, masked CRC-32C of the bytes;
 * mask(c) = rotate_right(c, 15) + 0xa282ead8; all little-endian (TFRecord). A record is one Event in protocol buffers' encoding:
 *   1 wall_time (double)   2 step (int64)   3 file_version ("brain.Event:2", in the first record)
 *   5 summary { 1 value { 1 tag   2 simple_value (float) } ... }
 * Fields in the order of their numbers, those that are zero left out, as the protobuf libraries write them. A record is appended in
 * one write: a killed process leaves at most one that is cut off, which readers pass over. Cost: one write per call.
 */
#ifndef FLAT_IO_EVENT_FILE_H
#define FLAT_IO_EVENT_FILE_H
#include <stddef.h>
#include <stdint.h>

#include "../util/error.h"
#include "../util/memory.h"

struct event_scalar {
    const char *tag; /* "train/loss" */
    double value;    /* written as a float */
};

/* CRC-32C (Castagnoli). */
uint32_t crc32c(const void *bytes, size_t length);
/* Append a record: the one that a file begins with, and scalars of a step. */
int event_print_version(double wall_time, struct buffer *out, struct error *error);
int event_print_scalars(double wall_time, int64_t step, const struct event_scalar *scalar, size_t count, struct buffer *out,
                        struct error *error);

struct event_file {
    int fd; /* -1: none */
    char path[4096];
};

/* Makes directory/events.out.tfevents.<seconds>.<host>.<process>, where none may be, with the record that it begins with. */
int event_file_open(struct event_file *file, const char *directory, struct error *error);
/* Appends records. */
int event_file_add(struct event_file *file, const struct buffer *records, struct error *error);
void event_file_close(struct event_file *file); /* safe on {.fd = -1} */
/* Removes the event files of a directory. */
int event_files_remove(const char *directory, struct error *error);

#endif

/* event_file.c - see event_file.h. */
#include "event_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../util/clock.h"
#include "../util/file.h"

#define PREFIX "events.out.tfevents."

/* ---- records ----------------------------------------------------------------------------------------------------- */

/* Four bits at a time, by the remainders of the polynomial 0x1edc6f41 with its bits reversed. */
uint32_t crc32c(const void *bytes, size_t length)
{
    static const uint32_t remainder[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
                                           0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
                                           0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < length; i++) {
        crc ^= ((const unsigned char *)bytes)[i];
        crc = crc >> 4 ^ remainder[crc & 15];
        crc = crc >> 4 ^ remainder[crc & 15];
    }
    return crc ^ 0xffffffff;
}

static int little_endian(uint64_t value, int bytes, struct buffer *out, struct error *error)
{
    unsigned char byte[8];
    for (int i = 0; i < bytes; i++)
        byte[i] = (unsigned char)(value >> 8 * i);
    return buffer_append(out, byte, (size_t)bytes, error);
}

static uint32_t masked_crc(const void *bytes, size_t length)
{
    const uint32_t crc = crc32c(bytes, length);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static int record_print(const struct buffer *event, struct buffer *out, struct error *error)
{
    struct buffer head = {0};
    int status = little_endian(event->length, 8, &head, error);
    if (!status)
        status = buffer_append(out, head.data, head.length, error);
    if (!status)
        status = little_endian(masked_crc(head.data, head.length), 4, out, error);
    if (!status)
        status = buffer_append(out, event->data, event->length, error);
    if (!status)
        status = little_endian(masked_crc(event->data, event->length), 4, out, error);
    buffer_free(&head);
    return status;
}

/* ---- protocol buffers -------------------------------------------------------------------------------------------- */

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static int varint(uint64_t value, struct buffer *out, struct error *error)
{
    unsigned char byte[10];
    size_t count = 0;
    do {
        byte[count] = (unsigned char)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
        count++;
    } while (value);
    return buffer_append(out, byte, count, error);
}

static int field(int number, enum wire wire, struct buffer *out, struct error *error)
{
    return varint((uint64_t)number << 3 | (uint64_t)wire, out, error);
}

static int bytes_field(int number, const void *bytes, size_t length, struct buffer *out, struct error *error)
{
    int status = field(number, WIRE_BYTES, out, error);
    if (!status)
        status = varint(length, out, error);
    return status ? status : buffer_append(out, bytes, length, error);
}

static int double_field(int number, double value, struct buffer *out, struct error *error)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    int status = bits ? field(number, WIRE_64, out, error) : STATUS_OK;
    return status || !bits ? status : little_endian(bits, 8, out, error);
}

/* simple_value is one of several kinds of a value: written where it is zero too. */
static int value_print(const struct event_scalar *scalar, struct buffer *out, struct error *error)
{
    const float value = (float)scalar->value;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    int status = bytes_field(1, scalar->tag, strlen(scalar->tag), out, error);
    if (!status)
        status = field(2, WIRE_32, out, error);
    return status ? status : little_endian(bits, 4, out, error);
}

int event_print_version(double wall_time, struct buffer *out, struct error *error)
{
    static const char version[] = "brain.Event:2";
    struct buffer event = {0};
    int status = double_field(1, wall_time, &event, error);
    if (!status)
        status = bytes_field(3, version, sizeof version - 1, &event, error);
    if (!status)
        status = record_print(&event, out, error);
    buffer_free(&event);
    return status;
}

int event_print_scalars(double wall_time, int64_t step, const struct event_scalar *scalar, size_t count, struct buffer *out,
                        struct error *error)
{
    struct buffer event = {0}, summary = {0}, value = {0};
    int status = double_field(1, wall_time, &event, error);
    if (!status && step)
        status = field(2, WIRE_VARINT, &event, error);
    if (!status && step)
        status = varint((uint64_t)step, &event, error);
    for (size_t i = 0; i < count && !status; i++) {
        value.length = 0;
        status = value_print(&scalar[i], &value, error);
        if (!status)
            status = bytes_field(1, value.data, value.length, &summary, error);
    }
    if (!status)
        status = bytes_field(5, summary.data ? summary.data : "", summary.length, &event, error);
    if (!status)
        status = record_print(&event, out, error);
    buffer_free(&event);
    buffer_free(&summary);
    buffer_free(&value);
    return status;
}

/* ---- the file ---------------------------------------------------------------------------------------------------- */

int event_file_open(struct event_file *file, const char *directory, struct error *error)
{
    const double now = clock_wall();
    char host[128] = "localhost", name[300];
    struct buffer first = {0};
    *file = (struct event_file){.fd = -1};
    gethostname(host, sizeof host - 1);
    for (char *at = host; *at; at++)
        *at = *at == '/' ? '-' : *at;
    snprintf(name, sizeof name, PREFIX "%010.0f.%s.%ld.0", now, host, (long)getpid());
    int status = file_join(file->path, sizeof file->path, directory, name, error);
    if (!status)
        file->fd = open(file->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_APPEND | O_CLOEXEC, FILE_MODE);
    if (!status && file->fd < 0)
        return error_set(error, STATUS_RUNTIME, "%s: cannot be written: %s", file->path, strerror(errno));
    if (!status)
        status = event_print_version(now, &first, error);
    if (!status)
        status = event_file_add(file, &first, error);
    buffer_free(&first);
    return status;
}

int event_file_add(struct event_file *file, const struct buffer *records, struct error *error)
{
    for (size_t done = 0; done < records->length;) {
        const ssize_t n = write(file->fd, records->data + done, records->length - done);
        if (n < 0 && errno != EINTR)
            return error_set(error, STATUS_RUNTIME, "%s: cannot be written: %s", file->path, strerror(errno));
        done += n > 0 ? (size_t)n : 0;
    }
    return STATUS_OK;
}

void event_file_close(struct event_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

int event_files_remove(const char *directory, struct error *error)
{
    struct file_list list;
    char path[4096];
    int status = file_list_read(&list, directory, error);
    for (size_t i = 0; i < list.count && !status; i++) {
        if (strncmp(list.name[i], PREFIX, sizeof PREFIX - 1))
            continue;
        status = file_join(path, sizeof path, directory, list.name[i], error);
        if (!status && unlink(path))
            status = error_set(error, STATUS_RUNTIME, "%s: cannot be removed: %s", path, strerror(errno));
    }
    file_list_free(&list);
    return status;
}

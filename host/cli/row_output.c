/* row_output.c - see row_output.h. */
#include "row_output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../io/json/json.h"
#include "../util/file.h"
#include "prompt_lines.h"

static const struct option rows[] = {
    {.name = "output", .letter = 'o', OPTION_FIELD(struct output_options, output), .local = true, .operand = "FILE",
     .help = "file for the rows, instead of standard output"},
    {.name = "resume", OPTION_FIELD(struct output_options, resume), .local = true,
     .help = "go on behind the last whole row of --output, where a run of the same model, data and settings was interrupted"},
};

static int output_check(const struct option_set *set, void *values, struct error *error)
{
    const struct output_options *options = values;
    (void)set;
    return options->resume && !*options->output ? error_set(error, STATUS_USAGE, "--resume: needs --output FILE") : STATUS_OK;
}

const struct option_group row_output_option_group = {OPTION_GROUP("Output", rows, struct output_options), .check = output_check};

static int write_failed(const struct row_output *out, int failure, struct error *error)
{
    return error_set(error, STATUS_RUNTIME, "%s: cannot be written: %s; --resume goes on from here", out->path,
                     strerror(failure));
}

/* That the file's rows were made by the same: the first key that differs is named. */
static int identity_compare(const struct row_output *out, const cJSON *identity, struct error *error)
{
    cJSON *theirs = json_read(out->marker, error);
    int status = theirs ? STATUS_OK : error->status;
    for (const cJSON *member = identity->child; member && !status; member = member->next) {
        struct buffer here = {0}, there = {0};
        const cJSON *other = json_member(theirs, member->string);
        status = json_print(member, &here, error);
        if (!status && other)
            status = json_print(other, &there, error);
        if (!status && (!other || strcmp(here.data, there.data)))
            status = error_set(error, STATUS_USAGE, "%s: its rows were made with %s %.100s, and this is %.100s; remove it to "
                               "begin anew", out->path, member->string, other ? there.data : "unknown", here.data);
        buffer_free(&here);
        buffer_free(&there);
    }
    cJSON_Delete(theirs);
    return status;
}

/* Opens the file, made if need be, for this process alone. */
static int stream_open(struct row_output *out, struct error *error)
{
    struct stat info;
    const int fd = open(out->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
    if (fd < 0 || !(out->stream = fdopen(fd, "r+"))) {
        const int failure = errno;
        if (fd >= 0)
            close(fd);
        return error_set(error, failure == ENOMEM ? STATUS_MEMORY : STATUS_RUNTIME, "%s: cannot be written: %s", out->path,
                         strerror(failure));
    }
    if (fstat(fd, &info) || !S_ISREG(info.st_mode))
        return error_set(error, STATUS_USAGE, "--output: %s is no regular file; without --output rows go to standard output",
                         out->path);
    if (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        return error_set(error, STATUS_RUNTIME, "%s: another run is writing it", out->path);
    return STATUS_OK;
}

/* Length of the whole lines of the file. */
static int whole_lines(struct row_output *out, struct error *error)
{
    ssize_t length;
    while ((length = getline(&out->line, &out->line_capacity, out->kept)) > 0 && out->line[length - 1] == '\n')
        out->kept_bytes += length;
    if (ferror(out->kept) || (length < 0 && !feof(out->kept)))
        return error_set(error, errno == ENOMEM ? STATUS_MEMORY : STATUS_RUNTIME, "%s: cannot be read: %s", out->path,
                         strerror(errno));
    rewind(out->kept);
    return STATUS_OK;
}

static int resume_begin(struct row_output *out, const cJSON *identity, struct log *log, struct error *error)
{
    int status = identity_compare(out, identity, error);
    if (!status && !(out->kept = fopen(out->path, "re")))
        status = error_set(error, errno == ENOMEM ? STATUS_MEMORY : STATUS_RUNTIME, "%s: cannot be read: %s", out->path,
                           strerror(errno));
    if (!status)
        status = whole_lines(out, error);
    if (!status && (ftruncate(fileno(out->stream), out->kept_bytes) || fseeko(out->stream, 0, SEEK_END)))
        status = write_failed(out, errno, error);
    if (!status)
        log_info(log, "%s: %lld bytes of whole rows are there", out->path, (long long)out->kept_bytes);
    return status;
}

static int file_begin(struct row_output *out, const struct output_options *options, const cJSON *identity, struct log *log,
                      struct error *error)
{
    struct buffer text = {0};
    if ((size_t)snprintf(out->path, sizeof out->path, "%s", options->output) >= sizeof out->path)
        return error_set(error, STATUS_USAGE, "--output: the path is longer than %zu bytes", sizeof out->path - 1);
    snprintf(out->marker, sizeof out->marker, "%s.resume", out->path);
    const bool begun = file_exists(out->marker);
    int status = stream_open(out, error);
    const bool empty = !status && !lseek(fileno(out->stream), 0, SEEK_END);
    if (!status && begun && !empty && !options->resume)
        status = error_set(error, STATUS_USAGE, "%s: holds the rows of a run that was interrupted; --resume goes on behind them, "
                           "or remove it to begin anew", out->path);
    if (!status && !begun && !empty && options->resume)
        status = error_set(error, STATUS_USAGE, "%s: is complete, or of something else, for there is no %s; nothing is left to "
                           "resume", out->path, out->marker);
    if (!status && begun && !empty)
        return resume_begin(out, identity, log, error);
    if (!status)
        status = json_print(identity, &text, error);
    if (!status)
        status = file_write(out->marker, text.data, text.length, error);
    buffer_free(&text);
    if (!status && (ftruncate(fileno(out->stream), 0) || fseeko(out->stream, 0, SEEK_SET)))
        status = write_failed(out, errno, error);
    return status;
}

/* The command, the model, and the options that are not about where things are or how many go at a time. */
static cJSON *identity_make(const struct invocation *run, const struct eval_model *model, const struct model_options *options,
                            struct error *error)
{
    static const char *const left_out[] = {"model_name_or_path", "adapter", "data", "batch_size"};
    uint64_t sum;
    char text[32];
    if (eval_model_checksum(model, options, &sum, error))
        return NULL;
    cJSON *identity = invocation_shared_json(run, error);
    for (size_t i = 0; identity && i < sizeof left_out / sizeof *left_out; i++)
        cJSON_DeleteItemFromObjectCaseSensitive(identity, left_out[i]);
    snprintf(text, sizeof text, "%016llx", (unsigned long long)sum);
    if (identity && json_add_string(identity, "command", run->command->name) && json_add_string(identity, "model", text))
        return identity;
    if (identity)
        error_set(error, STATUS_MEMORY, "out of host memory");
    cJSON_Delete(identity);
    return NULL;
}

int row_output_open(struct row_output *out, const struct output_options *options, const struct invocation *run,
                    const struct eval_model *model, const struct model_options *model_options, struct log *log,
                    struct error *error)
{
    *out = (struct row_output){.stream = stdout};
    if (!*options->output)
        return STATUS_OK;
    out->stream = NULL;
    cJSON *identity = identity_make(run, model, model_options, error);
    int status = identity ? file_begin(out, options, identity, log, error) : error->status;
    cJSON_Delete(identity);
    return status;
}

int row_output_keeps(struct row_output *out, const struct dataset_row *row, const char *path, const char *const *results,
                     bool *kept, struct error *error)
{
    *kept = false;
    if (!out->kept)
        return STATUS_OK;
    const off_t at = ftello(out->kept);
    const ssize_t length = at < out->kept_bytes ? getline(&out->line, &out->line_capacity, out->kept) : -1;
    if (at < out->kept_bytes && length < 1)
        return error_set(error, errno == ENOMEM ? STATUS_MEMORY : STATUS_RUNTIME, "%s: cannot be read: %s", out->path,
                         strerror(errno));
    if (length < 1) {
        fclose(out->kept);
        out->kept = NULL;
        return STATUS_OK;
    }
    int status = prompt_line_check(row, results, out->line, (size_t)length - 1, kept, error);
    if (!status && !*kept)
        status = error_set(error, STATUS_INPUT, "%s: offset %lld: the row there is not that of %s:%d; the data have changed, "
                           "remove it to begin anew", out->path, (long long)at, path, row->line);
    return status;
}

int row_output_write(struct row_output *out, const char *text, size_t length, struct error *error)
{
    if (fwrite(text, 1, length, out->stream) == length)
        return STATUS_OK;
    return *out->path ? write_failed(out, errno, error) : stdout_failed(errno, error);
}

int row_output_flush(struct row_output *out, struct error *error)
{
    if (!fflush(out->stream))
        return STATUS_OK;
    return *out->path ? write_failed(out, errno, error) : stdout_failed(errno, error);
}

int row_output_close(struct row_output *out, bool complete, struct error *error)
{
    int status = STATUS_OK;
    if (complete && out->kept && ftello(out->kept) < out->kept_bytes)
        status = error_set(error, STATUS_INPUT, "%s: holds more rows than the data; remove it to begin anew", out->path);
    if (complete && !status)
        status = row_output_flush(out, error);
    if (out->kept)
        fclose(out->kept);
    if (*out->path && out->stream) {
        if (complete && !status && fsync(fileno(out->stream)))
            status = write_failed(out, errno, error);
        if (fclose(out->stream) && complete && !status)
            status = write_failed(out, errno, error);
        if (complete && !status)
            unlink(out->marker);
    }
    free(out->line);
    *out = (struct row_output){0};
    return status;
}

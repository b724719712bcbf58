/* partial.c - see partial.h. */
#include "partial.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../util/file.h"

/* Hands on the whole lines behind the first of what the file holds; *kept: their length with it, 0 for another
 * evaluation's. */
static int lines_read(const struct partial *partial, const char *head, partial_line line, void *user, struct log *log,
                      size_t *kept, struct error *error)
{
    char *text = NULL;
    size_t length;
    int status = STATUS_OK, pieces = 0;
    *kept = 0;
    if (!file_exists(partial->path))
        return STATUS_OK;
    status = file_read(partial->path, (size_t)1 << 33, &text, &length, error);
    if (!status && strncmp(text, head, strlen(head))) {
        log_info(log, "%s is of another model, other data or settings; it is begun anew", partial->path);
    } else if (!status) {
        *kept = strlen(head);
        for (char *end; !status && (end = memchr(text + *kept, '\n', length - *kept)); pieces++) {
            status = line(user, text + *kept, (size_t)(end - text) - *kept, error);
            *kept = (size_t)(end - text) + 1;
        }
        if (status)
            error_prefix(error, "%s: line %d", partial->path, pieces + 1);
        else if (pieces)
            log_info(log, "continuing an evaluation: %d pieces are in %s", pieces, partial->path);
    }
    free(text);
    return status;
}

int partial_open(struct partial *partial, const char *path, uint64_t evaluation, partial_line line, void *user,
                 struct log *log, struct error *error)
{
    char head[64];
    size_t kept;
    snprintf(partial->path, sizeof partial->path, "%s", path);
    partial->file = NULL;
    snprintf(head, sizeof head, "{\"evaluation\": \"%016llx\"}\n", (unsigned long long)evaluation);
    int status = lines_read(partial, head, line, user, log, &kept, error);
    if (status)
        return status;
    partial->file = fopen(path, kept ? "r+" : "w");
    if (!partial->file || (kept && (ftruncate(fileno(partial->file), (off_t)kept) || fseeko(partial->file, 0, SEEK_END))))
        return error_set(error, errno == ENOMEM ? STATUS_MEMORY : STATUS_RUNTIME, "%s: cannot be written: %s", path, strerror(errno));
    return kept ? STATUS_OK : partial_add(partial, head, strlen(head), error);
}

int partial_add(struct partial *partial, const char *text, size_t length, struct error *error)
{
    if (fwrite(text, 1, length, partial->file) != length || fflush(partial->file))
        return error_set(error, STATUS_RUNTIME, "%s: cannot be written: %s", partial->path, strerror(errno));
    return STATUS_OK;
}

void partial_close(struct partial *partial, bool done)
{
    if (partial->file)
        fclose(partial->file);
    if (partial->file && done)
        unlink(partial->path);
    partial->file = NULL;
}

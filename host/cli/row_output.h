/* row_output.h - where `score` and `generate` write their rows: in order, whole, each batch flushed when it is done.
 *
 * Standard output, or a file that an interrupted run can be continued in. While the file is not complete there is FILE.resume
 * beside it, which says by what model and settings its rows were made; with --resume the rows that are there are checked
 * against the data, one by one, and the run goes on behind the last whole one. At the end FILE.resume is removed.
 */
#ifndef FLAT_CLI_ROW_OUTPUT_H
#define FLAT_CLI_ROW_OUTPUT_H
#include <stdio.h>

#include "../eval/eval_model.h"
#include "command.h"

struct output_options {
    const char *output; /* "": standard output */
    bool resume;
};
extern const struct option_group row_output_option_group;

struct row_output {
    FILE *stream;
    char path[4096], marker[4104]; /* "" for standard output */
    FILE *kept;                    /* the rows that are there; NULL: none, or all were seen */
    off_t kept_bytes;
    char *line;                    /* of kept */
    size_t line_capacity;
};

/* What the rows depend on but the data is the command, the model's files, and the options: refused by name where FILE.resume has
 * another. row_output_close after a failure too. */
int row_output_open(struct row_output *out, const struct output_options *options, const struct invocation *run,
                    const struct eval_model *model, const struct model_options *model_options, struct log *log,
                    struct error *error);
/* Of the rows that are there from before: whether the next one is `row`'s, with results of these names. *kept false: there
 * are no more. STATUS_INPUT when it is of another row. */
int row_output_keeps(struct row_output *out, const struct dataset_row *row, const char *path, const char *const *results,
                     bool *kept, struct error *error);
/* Whole lines. What has failed to be written stays failed. */
int row_output_write(struct row_output *out, const char *text, size_t length, struct error *error);
int row_output_flush(struct row_output *out, struct error *error);
/* complete: all rows are there. */
int row_output_close(struct row_output *out, bool complete, struct error *error);

#endif

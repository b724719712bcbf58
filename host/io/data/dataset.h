/* dataset.h - rows to learn, to score or to continue, from any file that people keep them in.
 *
 * Files: JSON lines or one JSON array, CSV and TSV with titles (csv.h), plain text (.txt), each also through gzip, from a
 * path or "-". Rows, told by their keys:
 *     {"question": text, "answer": text}   put into the prompt template; the keys are question_key and answer_key
 *     {"messages": [{role, content}, ...]} the last assistant turn is the answer to the turns before it
 *     {"prompt": text, "answer": text}     as they are; "completion" or answer_key instead of answer
 *     {"text": text}, or a text alone      running text without a prompt; a .txt file is one row of it
 * Where a list of texts stands for the answer, each is a row. An array's element may be a text.
 */
#ifndef FLAT_IO_DATASET_H
#define FLAT_IO_DATASET_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../util/checksum.h"
#include "../../util/options.h"
#include "chat_template.h"

struct dataset_options {
    const char *question_key, *answer_key;
};
extern const struct option_group dataset_option_group;

enum dataset_form { ROW_QUESTION, ROW_MESSAGES, ROW_PROMPT, ROW_TEXT };

struct dataset_row {
    enum dataset_form form;
    int line;                     /* 1-based, of the file */
    char *prompt;                 /* question, prompt or text; NULL of messages */
    char *answer;                 /* NULL: none was asked for */
    struct chat_message *message; /* turns before the answer; their texts belong to the row */
    int messages;
    char *source;                 /* DATASET_SOURCES: the row's JSON object on one line; NULL of a text alone */
    bool whole_file;              /* a .txt file */
    int32_t *ids;                 /* a chunk of running text, see dataset_chunk: [length]; NULL before */
    int32_t length;
    int chunk;                    /* its number among those of its text, from 1; 0: no chunk */
};
struct dataset {
    char *path;                   /* as in messages: "stdin" for "-" */
    int rows;
    struct dataset_row *row;
    struct digest digest;         /* of the file as it was read: a pipe cannot be read again */
};

enum dataset_flags {
    DATASET_ANSWERS = 1,          /* every row must have its answer (text is its own) */
    DATASET_SOURCES = 2,          /* keep the rows' own JSON */
    DATASET_TEMPLATED = 4         /* a prompt template was asked for by name: {"prompt"} rows, which take none, are refused */
};

/* Errors name path, line and key, and the keys that the row has; an empty answer or an empty file is one, an empty prompt
 * is not. Other keys are ignored. */
int dataset_read(struct dataset *data, const char *path, const struct dataset_options *options, unsigned flags,
                 struct error *error);
void dataset_free(struct dataset *data);

/* The same file in windows of about `most` rows, in memory that does not grow with their number; a .txt file is one row all
 * the same. A list of answers is not divided. Errors are those of dataset_read, once their row is reached; digest is that of
 * the file from the last window on. */
struct dataset_reader;
int dataset_reader_open(struct dataset_reader **reader, const char *path, const struct dataset_options *options,
                        unsigned flags, struct error *error);
/* The next rows; none at the end. dataset_free after success. */
int dataset_reader_next(struct dataset_reader *reader, int most, struct dataset *data, struct error *error);
void dataset_reader_close(struct dataset_reader *reader); /* NULL too */

#endif

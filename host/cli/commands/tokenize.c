/* tokenize.c - `flat tokenize`: text lines on stdin to JSON lists of ids on stdout; --decode the other way. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../io/json/json.h"
#include "../../io/tokenizer/tokenizer.h"
#include "../../model/model_options.h"
#include "../../util/file.h"
#include "../../util/memory.h"
#include "../command.h"

struct tokenize_options {
    struct model_options model;
    struct log_options log;
    bool decode, no_special;
};

static const struct option option_rows[] = {
    {.name = "decode", OPTION_FIELD(struct tokenize_options, decode),
     .help = "the other way: JSON lists of ids in, text out"},
    {.name = "no_special", OPTION_FIELD(struct tokenize_options, no_special),
     .help = "without the beginning-of-sequence and other special tokens"},
};
static const struct option_group tokenize_option_group = {OPTION_GROUP("Output", option_rows, struct tokenize_options)};

static const struct command_group groups[] = {
    {&model_option_group, offsetof(struct tokenize_options, model)},
    {&tokenize_option_group, 0},
    {&log_option_group, offsetof(struct tokenize_options, log)},
    {NULL, 0},
};

static int line_encode(struct tokenizer *tokenizer, const char *text, size_t length, bool add_special,
                       struct error *error)
{
    struct token_list ids = {0};
    int status = tokenizer_encode(tokenizer, text, length, add_special, &ids, error);
    if (!status) {
        putchar('[');
        for (size_t i = 0; i < ids.length; i++)
            printf("%s%d", i ? ", " : "", (int)ids.id[i]);
        puts("]");
    }
    free(ids.id);
    return status;
}

static int line_decode(const struct tokenizer *tokenizer, const char *text, size_t length, const char *name,
                       bool skip_special, struct error *error)
{
    cJSON *list = json_parse(text, length, name, error);
    if (!list)
        return error->status;
    struct token_list ids = {0};
    struct buffer out = {0};
    int status = cJSON_IsArray(list) ? STATUS_OK : error_set(error, STATUS_INPUT, "%s: expected a list of ids", name);
    for (const cJSON *item = list->child; item && !status; item = item->next) {
        int64_t id;
        if (!json_integer(item, &id) || id < 0 || id >= tokenizer_vocab_size(tokenizer))
            status = error_set(error, STATUS_INPUT, "%s: expected ids from 0 to %d", name,
                               (int)tokenizer_vocab_size(tokenizer) - 1);
        else
            status = memory_grow(&ids.id, &ids.capacity, ids.length + 1, sizeof *ids.id, error);
        if (!status)
            ids.id[ids.length++] = (int32_t)id;
    }
    if (!status)
        status = tokenizer_decode(tokenizer, ids.id, ids.length, skip_special, &out, error);
    if (!status) {
        fwrite(out.data, 1, out.length, stdout);
        putchar('\n');
    }
    buffer_free(&out);
    free(ids.id);
    cJSON_Delete(list);
    return status;
}

enum { LINE_BYTES_MAX = 64 << 20, PIECE_BYTES = 1 << 16 };

/* The standard input by lines. */
struct line_reader {
    char *data;
    size_t capacity, begin, end; /* what was read and not taken yet */
    bool ended;
};

/* The next line, zero-terminated and without its end; false, or a status, at the end of the input. A last line need not have an end of its own. */
static bool line_next(struct line_reader *in, int number, char **line, size_t *length, int *status, struct error *error)
{
    size_t looked = in->begin;
    char *end = NULL;
    *status = STATUS_OK;
    while (!(end = looked < in->end ? memchr(in->data + looked, '\n', in->end - looked) : NULL) && !in->ended) {
        looked = in->end;
        if (looked - in->begin > LINE_BYTES_MAX) {
            *status = error_set(error, STATUS_INPUT, "stdin:%d: a line of more than %d MB; break it into several", number,
                                LINE_BYTES_MAX >> 20);
            return false;
        }
        if (in->begin) {
            memmove(in->data, in->data + in->begin, in->end - in->begin);
            looked -= in->begin, in->end -= in->begin, in->begin = 0;
        }
        size_t got = 0;
        *status = memory_grow(&in->data, &in->capacity, in->end + PIECE_BYTES + 1, 1, error);
        if (!*status)
            *status = file_read_some(STDIN_FILENO, "stdin", in->data + in->end, PIECE_BYTES, &got, error);
        if (*status)
            return false;
        in->end += got;
        in->ended = !got;
    }
    if (!end && in->begin == in->end)
        return false;
    *line = in->data + in->begin;
    *length = (size_t)((end ? end : in->data + in->end) - *line);
    in->begin += *length + (end != NULL);
    (*line)[*length] = 0;
    return true;
}

static int tokenize_run(struct invocation *run, struct error *error)
{
    const struct tokenize_options *options = run->options;
    struct tokenizer *tokenizer = NULL;
    struct line_reader in = {0};
    char *line, name[64];
    size_t length;
    int status = file_check_ends(STDIN_FILENO, "stdin", error);
    if (!status)
        status = tokenizer_load(&tokenizer, options->model.model_name_or_path, error);
    if (!status)
        log_warnings(&run->log, tokenizer_warnings(tokenizer));
    for (int number = 1; !status && !ferror(stdout) && line_next(&in, number, &line, &length, &status, error); number++) {
        snprintf(name, sizeof name, "stdin:%d", number);
        if (options->decode) {
            status = line_decode(tokenizer, line, length, name, options->no_special, error);
        } else {
            status = line_encode(tokenizer, line, length, !options->no_special, error);
            if (status)
                error_prefix(error, "%s", name);
        }
    }
    free(in.data);
    tokenizer_free(tokenizer);
    return status ? status : stdout_finish(error);
}

const struct command command_tokenize = {
    .name = "tokenize",
    .summary = "Text lines in, JSON lists of token ids out.",
    .examples = {"echo \"Who is Ada?\" | flat tokenize --model DIR",
                 "flat tokenize --model DIR --no_special < questions.txt > ids.txt",
                 "flat tokenize --model DIR --decode < ids.txt"},
    .groups = groups,
    .options_bytes = sizeof(struct tokenize_options),
    .required = "model_name_or_path",
    .run = tokenize_run,
};

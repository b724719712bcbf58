/* chat_fingerprint.c - a hash of what a Jinja template says, whatever way it is spelled.
 *
 * One template is saved in many spellings: with newlines or "\n" in its strings, single or double quotes, message.role or
 * message['role'], comments, spaces inside the tags, CR LF. A lexer turns the text into a canonical list of tokens, the
 * control of white space applied as transformers sets it (trim_blocks, lstrip_blocks, no newline at the end of the text);
 * the hash (FNV-1a, 64 bits) is that of the list. Nothing is parsed or run: two templates of one fingerprint are the same
 * program. tests/parity/make_chat_golden.py does the same with Jinja's own lexer.
 */
#include <stdbool.h>
#include <string.h>

#include "../../util/utf8.h"
#include "chat_format.h"

struct lexer {
    const char *at, *end;
    struct buffer list;  /* each token: its kind, its text, a zero byte */
    struct buffer data;  /* text outside of tags that is not in the list yet */
    char strip;          /* what the last tag's end does to the text after it: '-', '\n' (one newline), 0 */
    bool line_start;     /* the text after the last tag begins a line */
    int status;
    struct error *error;
};

static void append(struct lexer *lexer, struct buffer *buffer, const char *text, size_t length)
{
    if (!lexer->status)
        lexer->status = buffer_append(buffer, text, length, lexer->error);
}

static void token_add(struct lexer *lexer, char kind, const char *text, size_t length)
{
    if (lexer->data.length) {
        append(lexer, &lexer->list, "D", 1);
        append(lexer, &lexer->list, lexer->data.data, lexer->data.length + 1);
        lexer->data.length = 0;
    }
    append(lexer, &lexer->list, &kind, 1);
    append(lexer, &lexer->list, text, length);
    append(lexer, &lexer->list, "", 1);
}

static bool is_space(char byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static bool is_word(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') || byte == '_' ||
           (byte & 0x80);
}

static bool starts_tag(const char *at, const char *end)
{
    return end - at >= 2 && at[0] == '{' && (at[1] == '{' || at[1] == '%' || at[1] == '#');
}

/* The text up to the next tag, without the white space that the tags around it take. */
static void data_read(struct lexer *lexer)
{
    const char *begin = lexer->at, *end = begin;
    while (end < lexer->end && !starts_tag(end, lexer->end))
        end++;
    lexer->at = end;
    while (lexer->strip == '-' && begin < end && is_space(*begin))
        begin++;
    if (lexer->strip == '\n' && begin < end && *begin == '\n') {
        begin++;
        lexer->line_start = true;
    }
    const char sign = end + 2 < lexer->end ? end[2] : 0;
    if (end < lexer->end && sign == '-') {
        while (end > begin && is_space(end[-1]))
            end--;
    } else if (end < lexer->end && end[1] != '{' && sign != '+') {
        const char *line = end;
        while (line > begin && is_space(line[-1]) && line[-1] != '\n')
            line--;
        if (line > begin ? line[-1] == '\n' : lexer->line_start)
            end = line;
    }
    append(lexer, &lexer->data, begin, (size_t)(end - begin));
}

/* Appends the character that a backslash and what follows stand for, and returns the bytes they take. */
static size_t escape_read(struct lexer *lexer, struct buffer *text, const char *at)
{
    static const char names[] = "n\nt\tr\rf\fv\vb\ba\a\\\\'\'\"\"";
    const size_t left = (size_t)(lexer->end - at);
    for (size_t i = 0; left > 1 && names[i]; i += 2)
        if (at[1] == names[i]) {
            append(lexer, text, &names[i + 1], 1);
            return 2;
        }
    const size_t digits = left > 1 && at[1] == 'x' ? 2 : left > 1 && at[1] == 'u' ? 4 : 0;
    uint32_t code = 0;
    size_t read = 0;
    for (; read < digits && read + 2 < left; read++) {
        const char *hex = "0123456789abcdef", *digit = strchr(hex, at[read + 2] | 0x20);
        if (!digit || !at[read + 2])
            break;
        code = code * 16 + (uint32_t)(digit - hex);
    }
    char character[4];
    const int bytes = digits && read == digits ? utf8_encode(code, character) : 0;
    append(lexer, text, bytes ? character : at, bytes ? (size_t)bytes : 1);
    return bytes ? digits + 2 : 1;
}

static void string_read(struct lexer *lexer)
{
    struct buffer text = {0};
    const char quote = *lexer->at++;
    while (lexer->at < lexer->end && *lexer->at != quote) {
        if (*lexer->at == '\\') {
            lexer->at += escape_read(lexer, &text, lexer->at);
        } else {
            append(lexer, &text, lexer->at, 1);
            lexer->at++;
        }
    }
    if (lexer->at < lexer->end)
        lexer->at++;
    token_add(lexer, 'S', text.data, text.length);
    buffer_free(&text);
}

/* A name, or .name as ['name'] where it is no call. */
static void word_read(struct lexer *lexer)
{
    const char *begin = lexer->at, *end = begin + (*begin == '.');
    while (end < lexer->end && is_word(*end))
        end++;
    lexer->at = end;
    while (end < lexer->end && is_space(*end))
        end++;
    if (*begin != '.' || (end < lexer->end && *end == '(')) {
        token_add(lexer, 'N', begin, (size_t)(lexer->at - begin));
        return;
    }
    token_add(lexer, 'O', "[", 1);
    token_add(lexer, 'S', begin + 1, (size_t)(lexer->at - begin - 1));
    token_add(lexer, 'O', "]", 1);
}

/* The inside of {{ }} or {% %}, whose last two bytes are `close`. */
static void tag_read(struct lexer *lexer, const char *close)
{
    int braces = 0;
    lexer->strip = 0;
    while (lexer->at < lexer->end) {
        const char *at = lexer->at;
        const size_t sign = *at == '-' || *at == '+';
        if (!braces && (size_t)(lexer->end - at) >= sign + 2 && !memcmp(at + sign, close, 2)) {
            lexer->strip = *at == '-' ? '-' : *close == '%' && !sign ? '\n' : 0;
            lexer->at = at + sign + 2;
            return;
        }
        braces += (*at == '{') - (*at == '}' && braces);
        if (is_space(*at))
            lexer->at++;
        else if (*at == '"' || *at == '\'')
            string_read(lexer);
        else if (is_word(*at) || (*at == '.' && at + 1 < lexer->end && is_word(at[1]) && (at[1] < '0' || at[1] > '9')))
            word_read(lexer);
        else {
            token_add(lexer, 'O', at, 1);
            lexer->at++;
        }
    }
}

static void comment_skip(struct lexer *lexer)
{
    const char *end = memmem(lexer->at, (size_t)(lexer->end - lexer->at), "#}", 2);
    lexer->strip = !end || end[-1] == '+' ? 0 : end[-1] == '-' ? '-' : '\n';
    lexer->at = end ? end + 2 : lexer->end;
}

/* The text with LF for every end of line, and without the last. */
static void lines_normalize(struct lexer *lexer, struct buffer *out, const char *text, size_t length)
{
    for (size_t i = 0; i < length && !lexer->status; i++) {
        const bool cr = text[i] == '\r';
        append(lexer, out, cr ? "\n" : &text[i], 1);
        i += cr && i + 1 < length && text[i + 1] == '\n';
    }
    if (out->length && out->data[out->length - 1] == '\n')
        out->length--;
}

static uint64_t hash(const struct buffer *list)
{
    uint64_t sum = 0xcbf29ce484222325;
    for (size_t i = 0; i < list->length; i++)
        sum = (sum ^ (unsigned char)list->data[i]) * 0x100000001b3;
    return sum;
}

int chat_fingerprint(const char *text, size_t length, uint64_t *fingerprint, struct error *error)
{
    struct buffer source = {0};
    struct lexer lexer = {.line_start = true, .error = error};
    lines_normalize(&lexer, &source, text, length);
    lexer.at = source.data;
    lexer.end = source.data ? source.data + source.length : NULL;
    while (lexer.at < lexer.end && !lexer.status) {
        data_read(&lexer);
        lexer.line_start = false;
        if (lexer.at == lexer.end)
            break;
        const char kind = lexer.at[1];
        lexer.at += 2;
        if (kind == '#') {
            comment_skip(&lexer);
            continue;
        }
        lexer.at += lexer.at < lexer.end && (*lexer.at == '-' || *lexer.at == '+');
        token_add(&lexer, kind, "", 0);
        tag_read(&lexer, kind == '{' ? "}}" : "%}");
        token_add(&lexer, '}', "", 0);
    }
    token_add(&lexer, '.', "", 0);
    *fingerprint = lexer.status ? 0 : hash(&lexer.list);
    buffer_free(&source);
    buffer_free(&lexer.list);
    buffer_free(&lexer.data);
    return lexer.status;
}

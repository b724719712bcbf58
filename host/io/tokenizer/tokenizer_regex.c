/* tokenizer_regex.c - the Split patterns of tokenizer.json, run by PCRE2 with its JIT.
 *
 * The files are written for Oniguruma in Ruby syntax. We let through the part of the language that means the same
 * in both and refuse the rest by name; \s and \S become explicit classes, because PCRE2 counts U+180E as a space
 * and Unicode's White_Space does not. Known difference: letters and digits assigned after the Unicode version of the
 * installed PCRE2 (14 in 10.42; tokenizers 0.23 has 16), such as U+1D2C0, are symbols here.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer_internal.h"

static const char white_space[] = "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"
                                  "\\x{205f}\\x{3000}";
static const char not_white_space[] =
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}"
    "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}";

/* General categories. Script names are refused: the two libraries mean different properties by them. */
static const char *const categories[] = {"L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me",
                                         "N",  "Nd", "Nl", "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi",
                                         "Pf", "Po", "S",  "Sm", "Sc", "Sk", "So", "Z",  "Zs", "Zl",
                                         "Zp", "C",  "Cc", "Cf", "Co", "Cn"};

static int refuse(const char *construct, size_t length, struct error *error)
{
    return error_set(error, STATUS_INPUT, "'%.*s' in the regular expression is not supported", (int)length, construct);
}

static bool is_category(const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof categories / sizeof *categories; i++)
        if (strlen(categories[i]) == length && memcmp(categories[i], name, length) == 0)
            return true;
    return false;
}

/* Copies the escape at s (a backslash) to out and advances *s. */
static int escape_translate(const char **s, bool in_class, struct buffer *out, struct error *error)
{
    const char *start = *s;
    char kind = start[1];
    size_t length = 2;
    if (kind == 's' || kind == 'S') {
        *s += 2;
        const char *set = kind == 's' ? white_space : not_white_space;
        return in_class ? buffer_append(out, set, strlen(set), error) : buffer_printf(out, error, "[%s]", set);
    }
    if (kind == 'p' || kind == 'P') {
        const char *close = start[2] == '{' ? strchr(start, '}') : NULL;
        size_t whole = close ? (size_t)(close - start) + 1 : 2;
        if (!close || !is_category(start + 3, whole - 4))
            return refuse(start, whole < 40 ? whole : 40, error);
        length = whole;
    } else if (kind == 'x') {
        length = start[2] == '{' ? strcspn(start, "}") + 1 : 2 + strspn(start + 2, "0123456789abcdefABCDEF");
        if (start[2] == '{' ? start[length - 1] != '}' : length != 4)
            return refuse(start, 2, error);
    } else if (kind == 0 || !strchr("rntfaedDAz!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ ", kind)) {
        return refuse(start, kind ? 2 : 1, error);
    }
    *s += length;
    return buffer_append(out, start, length, error);
}

/* One bracketed class, from after its '[' to after its ']'. */
static int class_translate(const char **s, struct buffer *out, struct error *error)
{
    int status = buffer_append(out, "[", 1, error);
    if (!status && **s == '^')
        status = buffer_append(out, (*s)++, 1, error);
    if (**s == ']')
        return refuse("[]", 2, error);
    while (!status && **s != ']') {
        if (**s == 0)
            return error_set(error, STATUS_INPUT, "the regular expression has a '[' without ']'");
        if (**s == '[' || (**s == '&' && (*s)[1] == '&'))
            return refuse(*s, **s == '[' ? 1 : 2, error);
        status = **s == '\\' ? escape_translate(s, true, out, error) : buffer_append(out, (*s)++, 1, error);
    }
    return status ? status : buffer_append(out, (*s)++, 1, error);
}

/* Bytes of a {n}, {n,} or {n,m} at s, 0 when it is something else. A '+' after it means possessive in one dialect
 * and repetition in the other. */
static size_t counted_quantifier(const char *s)
{
    size_t digits = strspn(s + 1, "0123456789"), length = 1 + digits;
    if (digits == 0)
        return 0;
    if (s[length] == ',')
        length += 1 + strspn(s + length + 1, "0123456789");
    return s[length] == '}' && s[length + 1] != '+' ? length + 1 : 0;
}

static int group_check(const char *s, struct error *error)
{
    static const char *const allowed[] = {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    if (s[1] == '*')
        return refuse(s, 2, error);
    for (size_t i = 0; s[1] == '?' && i < sizeof allowed / sizeof *allowed; i++)
        if (strncmp(s, allowed[i], strlen(allowed[i])) == 0)
            return STATUS_OK;
    return s[1] == '?' ? refuse(s, s[2] ? 3 : 2, error) : STATUS_OK;
}

static int expression_translate(const char *s, struct buffer *out, struct error *error)
{
    int status = buffer_append(out, "", 0, error);
    while (*s && !status) {
        size_t length = 1;
        if (*s == '\\') {
            status = escape_translate(&s, false, out, error);
            continue;
        }
        if (*s == '[') {
            s++;
            status = class_translate(&s, out, error);
            continue;
        }
        if (*s == '(') {
            status = group_check(s, error);
            if (!status && s[1] == '?')
                length = s[2] == '<' ? 4 : s[2] == 'i' ? 4 : 3;
        } else if (*s == '{') {
            length = counted_quantifier(s);
            if (length == 0)
                return refuse(s, 1, error);
        }
        if (!status)
            status = buffer_append(out, s, length, error);
        s += length;
    }
    return status;
}

static int regex_memory(struct error *error)
{
    return error_set(error, STATUS_MEMORY, "out of host memory for a regular expression");
}

int pattern_compile_regex(struct pattern *pattern, const char *expression, struct error *error)
{
    struct buffer translated = {0};
    int status = expression_translate(expression, &translated, error), code;
    size_t offset;
    pcre2_compile_context *context = status ? NULL : pcre2_compile_context_create(NULL);
    if (context) {
        pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        pattern->code = pcre2_compile((PCRE2_SPTR)translated.data, translated.length,
                                      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code, &offset,
                                      context);
        pcre2_compile_context_free(context);
    } else if (!status) {
        status = regex_memory(error);
    }
    if (!status && !pattern->code && code == PCRE2_ERROR_HEAP_FAILED) {
        status = regex_memory(error);
    } else if (!status && !pattern->code) {
        char message[128] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
        status = error_set(error, STATUS_INPUT, "bad regular expression: %s (at byte %zu of '%.200s')", message, offset,
                           translated.data);
    }
    buffer_free(&translated);
    if (status)
        return status;
    pattern->match_data = pcre2_match_data_create_from_pattern(pattern->code, NULL);
    pattern->match_context = pcre2_match_context_create(NULL);
    if (!pattern->match_data || !pattern->match_context)
        return regex_memory(error);
    pattern->jit = pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE) == 0; /* without it: slower, equal */
    if (pattern->jit && (pattern->jit_stack = pcre2_jit_stack_create(32 * 1024, 1024 * 1024, NULL)))
        pcre2_jit_stack_assign(pattern->match_context, NULL, pattern->jit_stack);
    return STATUS_OK;
}

int pattern_compile_literal(struct pattern *pattern, const char *literal, struct error *error)
{
    if (!*literal)
        return error_set(error, STATUS_INPUT, "an empty pattern is not supported");
    pattern->literal = memory_string(literal, error);
    return pattern->literal ? STATUS_OK : STATUS_MEMORY;
}

int pattern_search(const struct pattern *pattern, struct span text, size_t from, bool *found, size_t *start,
                   size_t *stop, struct error *error)
{
    if (pattern->literal) {
        size_t length = strlen(pattern->literal);
        const char *at = memmem(text.text + from, text.length - from, pattern->literal, length);
        *found = at != NULL;
        *start = at ? (size_t)(at - text.text) : 0;
        *stop = *start + length;
        return STATUS_OK;
    }
    /* The text was checked once; without NO_UTF_CHECK every call would check the rest of it again. */
    int n = pattern->jit ? pcre2_jit_match(pattern->code, (PCRE2_SPTR)text.text, text.length, from, PCRE2_NO_UTF_CHECK,
                                           pattern->match_data, pattern->match_context)
                         : pcre2_match(pattern->code, (PCRE2_SPTR)text.text, text.length, from, PCRE2_NO_UTF_CHECK,
                                       pattern->match_data, pattern->match_context);
    *found = n >= 0;
    if (n == PCRE2_ERROR_NOMATCH)
        return STATUS_OK;
    if (n == PCRE2_ERROR_NOMEMORY)
        return regex_memory(error);
    if (n < 0) {
        char message[128] = "";
        pcre2_get_error_message(n, (PCRE2_UCHAR *)message, sizeof message);
        return error_set(error, STATUS_INPUT, "the tokenizer's regular expression gave up at byte %zu of a piece: %s",
                         from, message);
    }
    const size_t *offsets = pcre2_get_ovector_pointer(pattern->match_data);
    *start = offsets[0];
    *stop = offsets[1];
    return STATUS_OK;
}

void pattern_free(struct pattern *pattern)
{
    free(pattern->literal);
    pcre2_code_free(pattern->code);
    pcre2_match_data_free(pattern->match_data);
    pcre2_match_context_free(pattern->match_context);
    pcre2_jit_stack_free(pattern->jit_stack);
}

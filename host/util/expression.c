/* expression.c - see expression.h. */
#include "expression.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

static int problem(int code, const char *expression, struct error *error)
{
    char message[128] = "";
    if (code == PCRE2_ERROR_NOMEMORY || code == PCRE2_ERROR_HEAP_FAILED)
        return error_set(error, STATUS_MEMORY, "out of host memory for a regular expression");
    pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
    return error_set(error, STATUS_INPUT, "bad regular expression '%.200s': %s", expression, message);
}

int expression_matches(const char *expression, const char *text, bool *matches, struct error *error)
{
    int code;
    size_t offset;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED,
                                         PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_NEVER_BACKSLASH_C, &code,
                                         &offset, NULL);
    if (!compiled)
        return problem(code, expression, error);
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(compiled, NULL);
    code = data ? pcre2_match(compiled, (PCRE2_SPTR)text, strlen(text), 0, 0, data, NULL) : PCRE2_ERROR_NOMEMORY;
    pcre2_match_data_free(data);
    pcre2_code_free(compiled);
    *matches = code >= 0;
    return code >= 0 || code == PCRE2_ERROR_NOMATCH ? STATUS_OK : problem(code, expression, error);
}

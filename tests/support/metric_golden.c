/* metric_golden.c - see metric_golden.h. */
#include "metric_golden.h"

#include <math.h>

#include "../../host/util/file.h"

/* Stands for U+0000 while the text is JSON and while it is a C string: a character of the private use area, which no
 * golden text has. */
#define NUL_ESCAPE "\\ue000"
#define NUL_BYTES "\xee\x80\x80"

cJSON *expected_read(const char *folder, const char *name)
{
    char path[256], *text;
    size_t length;
    struct error error = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (!file_exists(path))
        return NULL;
    if (file_read(path, (size_t)64 << 20, &text, &length, &error))
        fail_msg("%s", error.text);
    for (size_t i = 0; i + 6 <= length; i++)
        if (text[i] == '\\') {
            if (!memcmp(text + i, "\\u0000", 6))
                memcpy(text + i, NUL_ESCAPE, 6);
            i++; /* not into an escaped backslash */
        }
    cJSON *golden = json_parse_python(text, length, path, &error);
    if (!golden)
        fail_msg("%s", error.text);
    free(text);
    return golden;
}

const cJSON *expected_list(const cJSON *object, const char *key)
{
    const cJSON *list = json_member(object, key);
    if (!cJSON_IsArray(list) && !cJSON_IsObject(list))
        fail_msg("golden: no list or object \"%s\"", key);
    return list;
}

char *expected_text(const cJSON *object, const char *key, size_t *length)
{
    const cJSON *member = json_member(object, key);
    if (!cJSON_IsString(member))
        fail_msg("golden: no text \"%s\"", key);
    char *text = strdup(member->valuestring);
    assert_non_null(text);
    size_t out = 0, left = strlen(text);
    for (size_t i = 0; i < left; out++) {
        bool nul = left - i >= 3 && !memcmp(text + i, NUL_BYTES, 3);
        text[out] = nul ? 0 : text[i];
        i += nul ? 3 : 1;
    }
    text[out] = 0;
    *length = out;
    return text;
}

double expected_value(const cJSON *value)
{
    if (!cJSON_IsNull(value) && !cJSON_IsNumber(value))
        fail_msg("golden: a value is neither a number nor null");
    return cJSON_IsNull(value) ? NAN : value->valuedouble;
}

double expected_number(const cJSON *object, const char *key)
{
    const cJSON *member = json_member(object, key);
    if (!member)
        fail_msg("golden: no number \"%s\"", key);
    return expected_value(member);
}

double *expected_numbers(const cJSON *object, const char *key, size_t *count)
{
    const cJSON *list = expected_list(object, key), *value;
    double *numbers = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof *numbers);
    assert_non_null(numbers);
    *count = 0;
    cJSON_ArrayForEach(value, list) numbers[(*count)++] = expected_value(value);
    return numbers;
}

static void differ(double got, double wanted, double bound, const char *what, const cJSON *record)
{
    struct buffer text = {0};
    if (record)
        json_print(record, &text, NULL);
    fail_msg("%s: got %.17g, expected %.17g within %g, in %.600s", what, got, wanted, bound,
             text.data ? text.data : "-");
}

void expected_close(double got, double wanted, double bound, const char *what, const cJSON *record)
{
    if (isnan(wanted) ? !isnan(got) : !(got == wanted || fabs(got - wanted) <= bound))
        differ(got, wanted, bound, what, record);
}

void expected_near(double got, double wanted, double bound, const char *what, const cJSON *record)
{
    expected_close(got, wanted, bound * fabs(wanted), what, record);
}

/* fuzz_json.c - any bytes are refused in one line, or give a tree that prints, and whose print parses to the same print. */
#include "../../host/io/json/json.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    struct error error = {0};
    struct buffer first = {0}, second = {0};
    cJSON *value = json_parse((const char *)data, length, "fuzz", &error);
    if (!value) {
        fuzz_refused(error.status, &error, STATUS_INPUT);
        return 0;
    }
    FUZZ_CHECK(json_print(value, &first, &error) == STATUS_OK);
    cJSON_Delete(value);
    value = json_parse(first.data, first.length, "again", &error);
    FUZZ_CHECK(value && json_print_pretty(value, &second, &error) == STATUS_OK);
    cJSON_Delete(value);
    value = json_parse(second.data, second.length, "pretty", &error);
    second.length = 0;
    FUZZ_CHECK(value && json_print(value, &second, &error) == STATUS_OK && strcmp(first.data, second.data) == 0);
    cJSON_Delete(value);
    buffer_free(&first);
    buffer_free(&second);
    return 0;
}

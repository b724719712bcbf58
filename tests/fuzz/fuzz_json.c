/* fuzz_json.c - libFuzzer: any bytes either fail with one line or give a tree that prints, and whose print parses to
 * the same print again.
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined tests/fuzz/fuzz_json.c \
 *         host/util/{error,memory,file,utf8}.c host/io/json/*.c -lcjson -lm -o build/fuzz_json
 */
#include <stdlib.h>
#include <string.h>

#include "../../host/io/json/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    struct error error = {0};
    struct buffer first = {0}, second = {0};
    cJSON *value = json_parse((const char *)data, length, "fuzz", &error);
    if (!value) {
        if (error.status != STATUS_INPUT || !error.text[0] || strchr(error.text, '\n'))
            abort();
        return 0;
    }
    if (json_print(value, &first, &error))
        abort();
    cJSON_Delete(value);
    value = json_parse(first.data, first.length, "again", &error);
    if (!value || json_print_pretty(value, &second, &error))
        abort();
    cJSON_Delete(value);
    value = json_parse(second.data, second.length, "pretty", &error);
    second.length = 0;
    if (!value || json_print(value, &second, &error) || strcmp(first.data, second.data))
        abort();
    cJSON_Delete(value);
    buffer_free(&first);
    buffer_free(&second);
    return 0;
}

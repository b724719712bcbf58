/* fuzz_safetensors.c - libFuzzer: any header either fails with one line or describes tensors that tile the file.
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined tests/fuzz/fuzz_safetensors.c \
 *         host/util/{error,memory,file,utf8}.c host/io/json/*.c host/io/safetensors/safetensors_header.c -lcjson -lm \
 *         -o build/fuzz_safetensors
 */
#include <stdlib.h>
#include <string.h>

#include "../../host/io/safetensors/safetensors_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    struct error error = {0};
    struct safetensors_list list = {0};
    if (length < 2) /* the first two bytes are the length of the data area */
        return 0;
    uint64_t data_bytes = data[0] | (uint64_t)data[1] << 8, end = 8 + (length - 2);
    int status = safetensors_header_parse("fuzz", (const char *)data + 2, length - 2, end + data_bytes, 0, &list,
                                          &error);
    if (status && (status != STATUS_INPUT || !error.text[0] || strchr(error.text, '\n')))
        abort();
    for (size_t i = 0; !status && i < list.count; i++) {
        if (list.tensor[i].offset != end || list.tensor[i].dims > SAFETENSORS_MAX_DIMS)
            abort();
        end += list.tensor[i].bytes;
    }
    if (!status && end != 8 + (length - 2) + data_bytes)
        abort();
    safetensors_list_free(&list);
    return 0;
}

/* fuzz_safetensors.c - any header is refused in one line, or describes tensors that tile the file. The first two bytes are
 * the length of the data area. */
#include "../../host/io/safetensors/safetensors_header.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    struct error error = {0};
    struct safetensors_list list = {0};
    if (length < 2)
        return 0;
    uint64_t data_bytes = data[0] | (uint64_t)data[1] << 8, end = 8 + (length - 2);
    int status = safetensors_header_parse("fuzz", (const char *)data + 2, length - 2, end + data_bytes, 0, &list,
                                          &error);
    if (status)
        fuzz_refused(status, &error, STATUS_INPUT);
    for (size_t i = 0; !status && i < list.count; i++) {
        FUZZ_CHECK(list.tensor[i].offset == end && list.tensor[i].dims <= SAFETENSORS_MAX_DIMS);
        end += list.tensor[i].bytes;
    }
    FUZZ_CHECK(status || end == 8 + (length - 2) + data_bytes);
    safetensors_list_free(&list);
    return 0;
}

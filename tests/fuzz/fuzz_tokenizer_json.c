/* fuzz_tokenizer_json.c - any tokenizer.json. */
#include "fuzz_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    fuzz_file("tokenizer.json", data, length);
    fuzz_tokenizer();
    return 0;
}

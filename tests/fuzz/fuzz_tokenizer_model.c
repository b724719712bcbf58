/* fuzz_tokenizer_model.c - any tokenizer.model of SentencePiece. */
#include "fuzz_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    fuzz_file("tokenizer.model", data, length);
    fuzz_tokenizer();
    return 0;
}

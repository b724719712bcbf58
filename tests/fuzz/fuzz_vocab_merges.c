/* fuzz_vocab_merges.c - any vocab.json and merges.txt. */
#include "fuzz_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    struct fuzz_part vocabulary = fuzz_next(&data, &length);
    fuzz_file("vocab.json", vocabulary.data, vocabulary.length);
    fuzz_file("merges.txt", data, length);
    fuzz_tokenizer();
    return 0;
}

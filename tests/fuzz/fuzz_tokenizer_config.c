/* fuzz_tokenizer_config.c - any tokenizer_config.json, special_tokens_map.json and added_tokens.json beside a small
 * tokenizer.json. */
#include "fuzz_tokenizer.h"

static const char tokenizer_json[] =
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true}],\"normalizer\":null,\"pre_tokenizer\":"
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true},\"decoder\":{\"type\":\"ByteLevel\"},"
    "\"post_processor\":null,\"model\":{\"type\":\"BPE\",\"vocab\":{\"<s>\":0,\"a\":1,\"b\":2,\"ab\":3,\"\xc4\xa0\":4,\"aa\":5},"
    "\"merges\":[\"a b\",\"a a\"]}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    static const char *const name[] = {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"};
    fuzz_file("tokenizer.json", tokenizer_json, sizeof tokenizer_json - 1);
    for (int i = 0; i < 3; i++) {
        struct fuzz_part part = fuzz_next(&data, &length);
        fuzz_file(name[i], part.data, part.length);
    }
    fuzz_tokenizer();
    return 0;
}

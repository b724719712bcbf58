/* fuzz_tokenizer.h - what every tokenizer that loads must do, whatever its files were. */
#ifndef FLAT_TESTS_FUZZ_TOKENIZER_H
#define FLAT_TESTS_FUZZ_TOKENIZER_H
#include "../../host/io/tokenizer/tokenizer.h"
#include "fuzz.h"

/* Loads the folder: refused in one line, or ids of some texts are in the vocabulary and have a text. */
static inline void fuzz_tokenizer(void)
{
    static const char *const text[] = {"", " Hello  world\n\n3.14 <s></s>", "\xc3\xa9t\xc3\xa9 \xe4\xb8\xad\xf0\x9f\x98\x80", "aaaaaaaab"};
    struct error error = {0};
    struct tokenizer *tokenizer;
    int status = tokenizer_load(&tokenizer, fuzz_folder(), &error);
    if (status) {
        fuzz_refused(status, &error, STATUS_INPUT);
        return;
    }
    const int32_t size = tokenizer_vocab_size(tokenizer);
    FUZZ_CHECK(tokenizer_bos(tokenizer) < size && tokenizer_eos(tokenizer) < size);
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        struct token_list ids = {0};
        struct buffer out = {0};
        status = tokenizer_encode(tokenizer, text[i], strlen(text[i]), i % 2 == 0, &ids, &error);
        if (status)
            fuzz_refused(status, &error, STATUS_INPUT);
        for (size_t k = 0; k < ids.length; k++)
            FUZZ_CHECK(ids.id[k] >= 0 && ids.id[k] < size);
        if (!status)
            status = tokenizer_decode(tokenizer, ids.id, ids.length, i % 2 == 1, &out, &error);
        if (status)
            FUZZ_CHECK(status == error.status && !strchr(error.text, '\n'));
        free(ids.id);
        buffer_free(&out);
        error = (struct error){0};
    }
    tokenizer_free(tokenizer);
}

#endif

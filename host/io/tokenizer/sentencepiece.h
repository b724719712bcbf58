/* sentencepiece.h - the file format of tokenizer.model: a protobuf of which three fields matter, 1 pieces {1 text, 2 score,
 * 3 type}, 2 trainer_spec {3 model_type, 35 byte_fallback, 40 to 42 unk_id, bos_id, eos_id, 45 to 47 their pieces},
 * 3 normalizer_spec {2 precompiled_charsmap, 3 add_dummy_prefix, 4 remove_extra_whitespaces, 5 escape_whitespaces}.
 */
#ifndef FLAT_IO_TOKENIZER_SENTENCEPIECE_H
#define FLAT_IO_TOKENIZER_SENTENCEPIECE_H
#include "tokenizer_internal.h"

enum { SPECIAL_TEXT_BYTES = 64 };

enum {
    PIECE_NORMAL = 1,
    PIECE_UNKNOWN = 2,
    PIECE_CONTROL = 3,
    PIECE_USER_DEFINED = 4,
    PIECE_UNUSED = 5,
    PIECE_BYTE = 6
};
struct piece {
    struct span text;
    float score;
    uint64_t type;
};

struct sentencepiece {
    struct piece *piece;
    size_t count, capacity;
    uint64_t type;            /* MODEL_BPE */
    bool byte_fallback, has_charsmap, add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces;
    int32_t special_id[3];    /* unk, bos, eos; below 0: none */
    char special_text[3][SPECIAL_TEXT_BYTES]; /* "" where the file does not say */
};

/* Reads a file's bytes, to which texts of pieces point. Anything but a model of the BPE kind is STATUS_INPUT. The caller
 * frees model->piece, after a failure too. */
int sentencepiece_read(struct span bytes, const char *path, struct sentencepiece *model, struct error *error);

#endif

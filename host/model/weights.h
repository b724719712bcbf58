/* weights.h - parameters in and out of a Hugging Face folder.
 *
 * Loading streams piece by piece (host memory: two of 4 MiB). Saving writes the same files, names, order and storage
 * types as were read, and copies every other file of the folder byte for byte, so that what loads the input loads the
 * output. Files appear under their names only when complete.
 */
#ifndef FLAT_MODEL_WEIGHTS_H
#define FLAT_MODEL_WEIGHTS_H
#include "../io/safetensors/safetensors.h"
#include "model.h"

struct adapter;

struct weights {
    struct safetensors source; /* the opened input; no tensors when made from scratch */
    int *tensor_of;            /* [source.tensors]: index into model->tensor, or -1 for a buffer that is copied through */
    void (*loaded)(void *user, int64_t pieces, int64_t of); /* weights_load tells how far it is; NULL: nobody asks */
    void *loaded_user;
    const struct adapter *adapter; /* borrowed, NULL for none: its products are added to what weights_load reads, and
                                    * weights_save then writes the source's tensors with them instead of the arena's */
};

/* Checks the files of a folder against the model's table: every missing, unexpected or mis-shaped tensor in one
 * message (STATUS_INPUT). Needs no device. */
int weights_open(struct weights *weights, const struct model *model, const char *directory, struct error *error);
/* Reads everything into the model's arena. */
int weights_load(const struct weights *weights, struct model *model, struct error *error);
/* Fills the arena as transformers initialises a new model: normal(0, initializer_range), norms 1, biases 0, the embedding of
 * the padding 0; GPT-2's projections into the residual stream divided by sqrt(2 num_hidden_layers).
 * The numbers depend on the seed and the tensor's place only. */
int weights_random(struct model *model, uint64_t seed, struct error *error);
/* As PEFT initialises: A uniform in +-1 / sqrt(in) (Kaiming with a = sqrt 5), B zero. Depends on the seed and the
 * place in the arena only. */
int weights_random_lora(struct model *model, uint64_t seed, struct error *error);
/* Writes the model into out_directory (made when absent), with the other files of directory. */
int weights_save(const struct weights *weights, struct model *model, const char *directory, const char *out_directory,
                 struct error *error);
void weights_close(struct weights *weights);

/* Reads tensors of an arena as their files hold them; one that is stored the other way round is turned whole and kept
 * until the next. Start with {.model, .arena}. */
struct tensor_reader {
    struct model *model;
    const void *arena;
    int tensor;
    float *turned;
};
int tensor_read(struct tensor_reader *reader, int tensor, int64_t first, int64_t count, float *out, struct error *error);
void tensor_reader_free(struct tensor_reader *reader);

/* Moves count floats into an arena at `offset`, as the engine's type. */
int weights_write(struct model *model, void *arena, int64_t offset, int64_t count, const float *values,
                  struct error *error);
/* Copies count elements of an arena (parameters or gradients) at `offset` to the host, as float. */
int weights_read_back(struct model *model, const void *arena, int64_t offset, int64_t count, float *out,
                      struct error *error);

#endif

/* weights.h - parameters in and out of a Hugging Face folder.
 *
 * Loading streams piece by piece (host memory: two of 4 MiB). Saving writes the same files, names, order and, unless told
 * otherwise, storage types as were read, and what else belongs to the model (companions.h), so that what loads the input loads
 * the output. The folder appears at once (folder.h).
 */
#ifndef FLAT_MODEL_WEIGHTS_H
#define FLAT_MODEL_WEIGHTS_H
#include "../io/folder/folder.h"
#include "../io/safetensors/safetensors.h"
#include "model.h"

struct adapter;
struct combination;
struct quantizer;

struct weights {
    struct safetensors source; /* the opened input; no tensors when made from scratch */
    struct buffer warnings;    /* lines */
    int *tensor_of;            /* [source.tensors]: index into model->tensor, or -1 for a buffer that is copied through */
    void (*loaded)(void *user, int64_t pieces, int64_t of); /* weights_load tells how far it is; NULL: nobody asks */
    void *loaded_user;
    const struct adapter *adapter; /* borrowed, NULL for none: its products are added to what weights_load reads, and
                                    * weights_save then writes the source's tensors with them instead of the arena's */
    const struct weights *reinforced; /* of model->reinforced, which weights_load then loads too; borrowed, NULL: none */
    const struct combination *combination; /* the same of other models' weights (combination.h) */
    const struct quantizer *quantizer;     /* what weights were rounded to before that (quantizer.h); not with a combination */
};

/* Checks the files of a folder against the model's table: every missing, unexpected or mis-shaped tensor in one
 * message (STATUS_INPUT). An adapter's files beside them are refused too. Needs no device. */
int weights_open(struct weights *weights, const struct model *model, const char *directory, struct error *error);
/* Reads everything into the model's arena. */
int weights_load(const struct weights *weights, struct model *model, struct error *error);
/* Fills the arena as transformers initialises a new model: normal(0, initializer_range), norms 1, biases 0, the embedding of
 * the padding 0; GPT-2's projections into the residual stream divided by sqrt(2 num_hidden_layers).
 * The numbers depend on the seed and the tensor's place only. */
int weights_random(struct model *model, uint64_t seed, struct error *error);
/* For benchmarks, in a fraction of the time: of about a million draws every matrix is made by copies on the device, all
 * with the deviation of the first, and the padding has weights too. */
int weights_random_repeated(struct model *model, uint64_t seed, struct error *error);
/* As PEFT initialises: A uniform in +-1 / sqrt(in) (Kaiming with a = sqrt 5), B zero. Depends on the seed and the
 * place in the arena only. */
int weights_random_lora(struct model *model, uint64_t seed, struct error *error);

/* How weights are written. */
struct save_options {
    const char *dtype;  /* "float32", "bfloat16", "float16"; NULL or "as_read": as the source has each tensor */
    const char *run_id; /* put into every file's metadata; NULL: none */
};

/* What writing did to them. With d a weight's change since it was read, and s the change of its value rounded to the type that
 * it is written in, the part that survives is sum(s d) / sum(d d): 1 where nothing is lost, 0 where every weight is rounded to
 * what it was. So long as a change moves the loss in proportion, this is the part of its effect that is in the file. Only
 * weights that are rounded are counted. */
struct save_report {
    double change_squares, change_kept;
    const char *dtype; /* of the weights that were rounded most; NULL: none was */
};
double save_report_survives(const struct save_report *report);

/* Writes the model's files into a folder that is being made; directory is the one that the others come from. A weight that is
 * not finite in the type it is written in is STATUS_NONFINITE. report may be NULL. */
int weights_save_into(const struct weights *weights, struct model *model, const char *directory,
                      const struct save_options *options, struct folder *folder, struct save_report *report,
                      struct error *error);
/* The same as a whole folder at out_directory, over what stands there. options may be NULL. */
int weights_save(const struct weights *weights, struct model *model, const char *directory, const char *out_directory,
                 const struct save_options *options, struct error *error);
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
/* The same of a tensor of the table, [out, in], which is quantized where it is kept so; pieces then have whole blocks (nf4_base.h). */
int weights_write_tensor(struct model *model, int tensor, int64_t first, int64_t count, const float *values, struct error *error);
/* Copies count elements of an arena (parameters or gradients) at `offset` to the host, as float. */
int weights_read_back(struct model *model, const void *arena, int64_t offset, int64_t count, float *out,
                      struct error *error);

#endif

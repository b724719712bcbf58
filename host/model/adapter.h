/* adapter.h - LoRA adapters in the host's memory and in PEFT's folders: adapter_model.safetensors with
 * base_model.model.<module>.lora_A.weight [rank, in] and .lora_B.weight [out, rank], and adapter_config.json.
 */
#ifndef FLAT_MODEL_ADAPTER_H
#define FLAT_MODEL_ADAPTER_H
#include "../io/folder/folder.h"
#include "../util/memory.h"
#include "model.h"

struct adapter {
    struct lora lora; /* layout; no buffers */
    float *value;     /* [lora.elements], laid out as the arena of a model with these adapters */
    struct buffer warnings; /* lines: keys of its config that are ignored */
};

/* Reads a PEFT folder for a model's tensors (no device needed). STATUS_INPUT names the file and what is wrong: a key
 * that asks for what is not supported (by name), a target that the model does not have, every missing, unexpected or
 * mis-shaped tensor. lora_dropout is accepted: it acts only in training with dropout, which is never done here. */
int adapter_open(struct adapter *adapter, const struct model *model, const char *directory, struct error *error);
/* Copies model->lora's arena (parameters or gradients) to the host. */
int adapter_read_back(struct adapter *adapter, struct model *model, const void *arena, struct error *error);
/* Into model->lora.param; the model's adapters were made with the same options. */
int adapter_upload(const struct adapter *adapter, struct model *model, struct error *error);
void adapter_free(struct adapter *adapter);

/* out[0 .. count) += elements [first, first + count) of scale B A, as the file of `tensor` lays them out (turned where
 * that is transposed). A tensor without an adapter is left alone. */
void adapter_add(const struct adapter *adapter, const struct model *model, int tensor, int64_t first, int64_t count,
                 float *out);

/* All values as one safetensors file of floats, under PEFT's names. */
int adapter_write(const struct adapter *adapter, const struct model *model, const char *path, struct error *error);
/* A PEFT folder's files (tensors and adapter_config.json) into one that is being made. base is the model's
 * folder, as the config will name it; run_id (NULL: none) goes into the tensors' metadata. A value that is not finite is
 * STATUS_NONFINITE. */
int adapter_save_into(const struct adapter *adapter, const struct model *model, const char *base, const char *run_id,
                      struct folder *folder, struct error *error);
/* The same as a whole folder, over what stands there. */
int adapter_save(const struct adapter *adapter, const struct model *model, const char *base, const char *out_directory,
                 struct error *error);

#endif

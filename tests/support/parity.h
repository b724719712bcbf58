/* parity.h - a checkpoint or a LoRA adapter with its expected figures (tests/golden, made by
 * parity/make_model_golden.py), its model on an engine with the state of an optimizer, and comparisons of the two.
 * Everything here ends the running test on a failure.
 */
#ifndef FLAT_TESTS_PARITY_H
#define FLAT_TESTS_PARITY_H
#include "../../host/io/json/json.h"
#include "../../host/model/adapter.h"
#include "tiny_model.h"
#include "assert_ok.h"

#define GOLDEN "tests/golden"

enum { PAIRS_MAX = 8 };

/* +1 or -1 for element i: the top bit of splitmix64's finaliser. make_model_golden.py has the same. */
static inline double parity_sign(uint64_t i)
{
    uint64_t z = (i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (z ^ (z >> 31)) >> 63 ? -1 : 1;
}

/* expected/ of a folder. */
struct golden {
    cJSON *expected;
    struct safetensors gradients;
};

/* A model on an engine, with the state of its optimizer. tiny holds the device, the model and the batch; what is
 * trained is the model, or the adapter on it. */
struct subject {
    struct tiny tiny;
    struct weights weights;
    struct adapter adapter; /* as it was read; lora.modules 0 when there is none */
    int32_t *ids[2 * PAIRS_MAX];
    void *m, *v;
    double *sum_squares;
    struct adamw_state *adamw;
    struct model_shard whole; /* all that is trained, whose master weights are one piece */
};

void golden_open(struct golden *golden, const char *folder);
void golden_close(struct golden *golden);
/* Members of expected.json, which must be there. */
const cJSON *golden_member(const cJSON *object, const char *key);
double golden_number(const cJSON *object, const char *key);
/* The model's folder: `folder` itself, or the base of the adapter in it. */
void golden_model(const struct golden *golden, const char *folder, char *out, size_t bytes);
/* Position of a trained tensor in the expected lists. */
int golden_place(const struct golden *golden, const char *name);
/* The stored gradient of a tensor; free(). */
double *golden_gradient(const struct golden *golden, const char *name, int64_t count);

/* The model of a folder, with its weights and its adapter, on an engine of op_test_engines, and the golden pairs packed
 * as one batch. Where load_in_4bit is expected the model's projections are in NF4. */
void subject_open(struct subject *subject, const struct golden *golden, const char *folder, const char *engine);
void subject_close(struct subject *subject);
/* Forward, loss and backward into zeroed gradients, as one micro-batch of the trainer; the loss. */
double subject_step(struct subject *subject, const char *divergence, const char *average, int64_t padded_length);
/* Clipping and AdamW with the gradients that are there, matrices decayed, vectors not. */
void subject_update(struct subject *subject, const cJSON *adamw);

/* What is trained, tensor by tensor: the model's tensors, or A and B of every module under PEFT's names. */
struct subject_tensor {
    char name[256];
    int64_t elements;
};
int subject_tensors(const struct subject *subject);
struct subject_tensor subject_tensor(const struct subject *subject, int index);
/* Its gradient as a file would hold it; free(). */
float *subject_gradient(struct subject *subject, int index);

/* The largest error so far and where it was. */
struct worst {
    double error;
    char where[256];
};
void worst_note(struct worst *worst, double error, const char *where);

/* Absolute difference of every answer token's log-probability. */
void compare_logprobs(const struct subject *subject, const struct golden *golden, struct worst *worst);
/* Relative difference of the norm of every tensor's gradient, against a list. */
void compare_gradient_norms(struct subject *subject, const struct golden *golden, const cJSON *norms,
                            struct worst *worst);
/* Norm of the difference of every tensor's gradient, relative to its norm. */
void compare_gradients(struct subject *subject, const struct golden *golden, const cJSON *norms, struct worst *worst);
/* One AdamW step: by tensor the norm of the change and its product with the signs, and the norms of the moments. In
 * bf16 the change against AdamW's formula on the gradient that the engine itself has. */
void compare_update(struct subject *subject, const struct golden *golden, const cJSON *norms, struct worst *worst);

/* Both model folders have the same tensors, of the same type, shape and bytes, in the same order and files. */
void compare_folders(const char *one, const char *two);
/* Both adapters have the same tensors, by name. */
void compare_adapters(const char *one, const char *two);
/* Every file of one folder (weights only when told) is in the other, byte for byte; how many they are. */
int compare_files(const char *one, const char *two, bool weights);

/* "directory/name". */
void path_join(char *out, size_t bytes, const char *directory, const char *name);

#endif

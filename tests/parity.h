/* parity.h - a checkpoint with its expected figures (tests/golden/models, made by parity/make_model_golden.py), and its
 * model on an engine with the state of an optimizer. Everything here ends the running test on a failure.
 */
#ifndef FLAT_TESTS_PARITY_H
#define FLAT_TESTS_PARITY_H
#include "../host/io/json.h"
#include "tiny_model.h"

enum { PAIRS_MAX = 8 };

/* expected/ of a folder. */
struct golden {
    cJSON *expected;
    struct safetensors gradients;
};

/* A model on an engine, with the state of its optimizer. tiny holds the device, the model and the batch. */
struct subject {
    struct tiny tiny;
    struct weights weights;
    int32_t *ids[2 * PAIRS_MAX];
    void *m, *v;
    double *sum_squares;
    struct adamw_state *adamw;
};

void golden_open(struct golden *golden, const char *folder);
void golden_close(struct golden *golden);
/* Members of expected.json, which must be there. */
const cJSON *golden_member(const cJSON *object, const char *key);
double golden_number(const cJSON *object, const char *key);
/* Position of a tensor of the model in the expected lists. */
int golden_place(const struct golden *golden, const char *name);
/* The stored gradient of a tensor; free(). */
double *golden_gradient(const struct golden *golden, const char *name, int64_t count);

/* The model of a folder, with its weights, and the golden pairs packed as one batch. */
void subject_open(struct subject *subject, const struct golden *golden, const char *folder, const char *engine);
void subject_close(struct subject *subject);
/* Forward, loss and backward into zeroed gradients, as one micro-batch of the trainer; the loss. */
double subject_step(struct subject *subject, const char *divergence, const char *average, int64_t padded_length);
/* Clipping and AdamW with the gradients that are there, matrices decayed, vectors not. */
void subject_update(struct subject *subject, const cJSON *adamw);
/* A tensor of the gradient arena as a file would hold it; free(). */
float *subject_gradient(struct subject *subject, int tensor);
int64_t tensor_elements(const struct model_tensor *tensor);

/* OK(call): the call must return 0; `error` is what it fills. */
#define OK(call) parity_ok((call), &error, #call)
void parity_ok(int status, const struct error *error, const char *call);
/* "directory/name". */
void path_join(char *out, size_t bytes, const char *directory, const char *name);

#endif

/* trainer.h - a training run: prepare (everything that can be refused, without a device), start, step, save.
 *
 * One optimizer step is gradient_accumulation_steps micro-batches of per_device_train_batch_size rows of the epoch's
 * order; the last step of an epoch takes what is left. Every number depends on the inputs and the seed only.
 */
#ifndef FLAT_TRAIN_TRAINER_H
#define FLAT_TRAIN_TRAINER_H
#include "../device/graph_cache.h"
#include "../loss/method.h"
#include "../model/adapter.h"
#include "../model/model.h"
#include "../model/weights.h"
#include "examples.h"

/* What is logged of a step. Probabilities and slopes are means over the step. */
struct step_record {
    int64_t step, total_steps; /* step counts from 1 */
    double epoch;              /* fractional */
    double loss, prob_template, prob_answer, slope_template, slope_forget;
    double grad_norm, learning_rate, share_low, share_high;
    int64_t pairs, tokens, answer_tokens; /* tokens: rows fed */
    double seconds;
    bool skipped; /* non-finite: weights and moments untouched */
};

struct trainer {
    const struct settings *settings;
    const struct method *method;
    const char *data_path;
    struct tokenizer *tokenizer;
    struct model model;
    struct weights weights;
    struct adapter adapter;        /* the one a LoRA run starts from; empty without */
    bool from_scratch;
    struct examples examples;
    int steps_per_epoch;
    int64_t total_steps;
    int64_t epochs;                /* epochs begun: ceil of num_train_epochs, or what max_steps needs */
    struct batch_size epoch_size;  /* of the first epoch */
    int64_t max_rows, max_heads, max_sequences;

    struct device device;
    struct batch batch;
    bool graphs;                   /* passes over a micro-batch are captured and replayed */
    struct graph_cache graph_cache;
    void *m, *v;                   /* AdamW moments */
    struct adamw_state *adamw;     /* on the device */
    double *totals, *sum_squares;  /* on the device, one after the other: they are read together */
    int64_t updates;               /* optimizer updates made */
    int nonfinite_in_row;
    int64_t nonfinite;
    int64_t tokens_seen;
};

/* Called after every step; a non-zero return ends the run with that status. */
typedef int (*trainer_hook)(void *user, const struct step_record *record, struct error *error);

/* Reads config, tokenizer and data, checks the weights against the config, sizes the largest micro-batch and declares
 * all memory. finetune chooses train_data and cross entropy. dtype is the storage the memory is planned for. */
int trainer_prepare(struct trainer *trainer, const struct settings *settings, bool finetune, enum dtype dtype,
                    struct error *error);
/* Takes over an open device of that dtype, allocates, loads the weights. trainer_free closes the device. cuda_graphs
 * has no effect on an engine without graphs. */
int trainer_start(struct trainer *trainer, const struct device *device, struct error *error);
/* All steps. Three non-finite steps in a row: STATUS_NONFINITE. warn(user, text) gets warnings. */
int trainer_run(struct trainer *trainer, trainer_hook hook, void *user, void (*warn)(void *user, const char *text),
                struct error *error);
/* The whole model; with LoRA, the model with the adapters merged in or, for lora.output "adapter", a PEFT folder. */
int trainer_save(struct trainer *trainer, const char *out_directory, struct error *error);
void trainer_free(struct trainer *trainer);

/* optimizer.c: moments and the numbers that are read back, in the model's plan. */
int optimizer_plan(struct trainer *trainer, struct error *error);
/* Sum of the squares of all gradients into trainer->sum_squares. */
int optimizer_gradient_norm(struct trainer *trainer, struct error *error);
/* Norm, clipping and update of matrices (decayed) and vectors; the device itself skips a non-finite step. */
int optimizer_step(struct trainer *trainer, double rate, struct error *error);

/* dump.c: writes what is in the device after the micro-batches of a step and before its update. */
int dump_micro_batch(const struct trainer *trainer, const char *directory, int micro_batch, struct error *error);
int dump_gradients(struct trainer *trainer, const char *directory, const struct step_record *record,
                   struct error *error);

#endif

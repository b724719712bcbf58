/* trainer.h - a training run: prepare (everything that can be refused, without a device), start, step, save.
 *
 * One optimizer step is gradient_accumulation_steps micro-batches per rank, of per_device_train_batch_size rows of the
 * epoch's order (data_parallel.h); the last step of an epoch takes what is left. Every number depends on the inputs, the
 * seed and the number of ranks only. With several ranks every function is called by all of them; what goes wrong on one of them
 * in prepare or start comes back on that one, and the caller brings it to the others with comm_agree.
 */
#ifndef FLAT_TRAIN_TRAINER_H
#define FLAT_TRAIN_TRAINER_H
#include "../device/graph_cache.h"
#include "../loss/method.h"
#include "../model/adapter.h"
#include "../model/model.h"
#include "../model/weights.h"
#include "data_parallel.h"
#include "examples.h"
#include "frozen.h"
#include "product_picks.h"
#include "reference.h"
#include "shards.h"
#include "train_options.h"

/* totals of struct trainer: those of sequence.h, then the sum of the gradients' squares; summed over ranks in one call. */
enum { SUM_SQUARES = SEQUENCE_TOTALS, STEP_TOTALS };

/* What the optimizer keeps of all that is trained. */
enum optimizer_array { OPTIMIZER_LOW, OPTIMIZER_M, OPTIMIZER_V, OPTIMIZER_M_SCALE, OPTIMIZER_V_SCALE };
enum { OPTIMIZER_ARRAYS = OPTIMIZER_V_SCALE + 1 };

/* What is logged of a step, over all ranks. */
struct step_record {
    int64_t step, total_steps; /* step counts from 1 */
    double epoch;              /* fractional */
    double loss, logged[METHOD_LOGGED]; /* logged: as trainer->logged */
    double grad_norm, learning_rate, share_low, share_high;
    double multiplier; /* that the step was made with; of methods that have one */
    int64_t pairs, tokens, answer_tokens; /* tokens: rows fed */
    double flops;              /* forward and backward of these tokens, without padding and what is computed again */
    double seconds;
    bool skipped; /* non-finite: weights and moments untouched */
};

/* The rows that the batch holds already, for the next micro_batch_pack; epoch NULL: none. Whoever packs the batch with something
 * else in between (a hook that looks at other rows) clears it. */
struct packed_ahead {
    const struct epoch *epoch;
    int from, to;
};

/* Arrays of the optimizer in the host's memory, of which the device has a few chunks at a time (optimizer_offload.c). */
enum { OFFLOAD_BUFFERS = 2 };
struct optimizer_offload {
    char *memory; /* of this rank; NULL: none */
    size_t bytes;
    int64_t chunk;                    /* elements of a buffer; 0: everything is on the device */
    void *device[OPTIMIZER_ARRAYS];   /* all buffers of an array, one behind the other */
    int buffer;                       /* the next chunk's */
};

struct trainer {
    const struct train_options *options;
    const struct method *method;
    const void *method_options;    /* its own struct; NULL: it has none */
    struct logged logged[METHOD_LOGGED]; /* what the method logs of the roles that there are */
    int logged_count;
    const char *data_path;
    struct tokenizer *tokenizer;
    struct model model;
    struct weights weights;
    struct adapter adapter;        /* the one a LoRA run starts from; empty without */
    bool from_scratch;
    struct examples examples;
    struct reference reference;    /* sums under the starting model; empty where the method needs none */
    void *control;                 /* [hidden_size] what hidden states of forget answers are to become; of methods of them */
    struct frozen frozen;          /* the starting model itself, where the method compares distributions */
    struct data_parallel parallel;
    struct shards shards;
    int steps_per_epoch;
    int64_t total_steps;
    int64_t epochs;                /* epochs begun: ceil of num_train_epochs, or what max_steps needs */
    struct batch_size epoch_size;  /* of the first epoch */
    int64_t max_rows, max_targets, max_sequences;

    struct device device;
    struct product_picks picks;
    struct batch batch;
    struct packed_ahead ahead;
    double peak_flops;             /* per second, of the matrix units of all ranks' devices; 0: unknown */
    bool graphs;                   /* passes over a micro-batch are captured and replayed */
    struct graph_cache graph_cache;
    void *m, *v;                   /* AdamW moments, as options->optimizer.optimizer_states has them */
    float *m_scale, *v_scale;      /* of blocks of 8-bit moments; NULL: none */
    struct optimizer_offload offload; /* the host's memory for all of these, where they are kept there */
    struct adamw_state *adamw;     /* on the device */
    double *totals;                /* [STEP_TOTALS] on the device */
    double step_totals[STEP_TOTALS]; /* of the last step, on the host */
    void *staging;                 /* optimizer state between ranks, when it is saved */
    int64_t first_step;            /* steps made before this process began: by the checkpoint that it goes on from */
    struct multiplier multiplier;  /* of the step to come; of methods that have one */
    int64_t updates;               /* optimizer updates made */
    int nonfinite_in_row;
    int64_t nonfinite;
    int64_t tokens_seen;
    bool stops;                    /* set by the hook, on all ranks: no more steps are made after this one */
    bool aborted;                  /* this rank failed where the others could not be asked; they were ended */
};

/* Called after every step; a non-zero return ends the run with that status. */
typedef int (*trainer_hook)(void *user, const struct step_record *record, struct error *error);

/* Reads config, tokenizer and data, checks the weights against the config, sizes the largest micro-batch and declares
 * all memory of this rank. finetune chooses train_data and cross entropy. dtype is the storage the memory is planned for. */
int trainer_prepare(struct trainer *trainer, const struct train_options *options, bool finetune, enum dtype dtype,
                    const struct world *world, struct error *error);
/* Takes over an open device of that dtype and allocates what is planned: trainer_memory, to the byte. trainer_free closes the
 * device. cuda_graphs has no effect on an engine without graphs. */
int trainer_allocate(struct trainer *trainer, const struct device *device, struct error *error);
/* warm_up.c: a forward and a backward pass over so much padding, and the frozen model's: gradients are zeros afterwards. With the largest batch a
 * GPU engine's scratch grows to its largest, and libraries wake up. */
int trainer_warm_up(struct trainer *trainer, int64_t rows, int64_t targets, struct error *error);
/* Both, and the weights in between. */
int trainer_start(struct trainer *trainer, const struct device *device, struct error *error);
/* All steps, or those until the hook sets `stops`. Three non-finite steps in a row: STATUS_NONFINITE. A signal (interrupt.h) ends the run after a step, with
 * STATUS_SIGNAL. warn(user, text) gets warnings. A failure is that of all ranks, unless `aborted`. */
int trainer_run(struct trainer *trainer, trainer_hook hook, void *user, void (*warn)(void *user, const char *text),
                struct error *error);
void trainer_free(struct trainer *trainer);
/* Bytes of device memory that a prepared trainer takes: its model's plan, the frozen model's, and the batches'. */
size_t trainer_memory(const struct trainer *trainer);

/* save.c: the whole model; with LoRA, the model with the adapters merged in or, for lora.output "adapter", a PEFT folder. Rank
 * 0 writes into `folder` (NULL on the others, who send it what they keep). run_id goes into the files' metadata (NULL: none),
 * *report (NULL: none) says what rounding did. STATUS_NONFINITE where a weight is not finite in the type it is saved in. */
int trainer_save_into(struct trainer *trainer, struct folder *folder, const char *run_id, struct save_report *report,
                      struct error *error);
/* The same with the optimizer's state (checkpoint.h). */
int trainer_save_checkpoint(struct trainer *trainer, struct folder *folder, const char *run_id, struct error *error);
/* checkpoint.c: that state, on rank 0, while the others serve. */
int trainer_save_optimizer(struct trainer *trainer, struct folder *folder, struct error *error);
/* The same as a whole folder. */
int trainer_save(struct trainer *trainer, const char *out_directory, struct error *error);
/* Takes the model back from a folder that trainer_save_into has filled (rank 0 reads, the others are sent it). What was
 * trained is gone after this: it is for looking at what was written. A base in NF4 makes room for the whole, as others load it;
 * STATUS_MEMORY on all ranks where there is none. */
int trainer_reload(struct trainer *trainer, const char *directory, struct error *error);

/* measure.c: mean probabilities of the answers under the weights as they are. */
struct measured {
    double prob[ROLES]; /* means over rows of the mean over an answer's tokens (spec 3); 0 for a role that no row has */
    int64_t rows;       /* the first so many of the first epoch's order: all, unless the data are large */
};
int trainer_measure(struct trainer *trainer, struct measured *measured, struct error *error);

/* For a failure in the middle of what ranks do together, where they cannot be asked: ends the others. */
int trainer_abort(struct trainer *trainer, int status, struct error *error);

/* run_size.c: steps, epochs, and the sizes that memory is planned for. */
int run_size(struct trainer *trainer, struct error *error);

/* step.c: step `step_in_epoch` of epoch `number`, with what comes after it: the hook, and what ends the run. */
int step_run(struct trainer *trainer, const struct epoch *epoch, int number, int step_in_epoch, trainer_hook hook,
             void *user, void (*warn)(void *user, const char *text), struct error *error);

/* micro_batch.c: adds what micro-batch i of an epoch takes to *size. */
void micro_batch_size(const struct trainer *trainer, const struct epoch *epoch, int i, struct batch_size *size);
/* Rows [from, to) of an epoch become the batch: the answers to their own prompts row by row, then those of the retain set. */
int micro_batch_pack(struct trainer *trainer, const struct epoch *epoch, int from, int to, struct error *error);
/* The same for a later call with these rows of this epoch, while the device is busy with what is queued: a call with others
 * packs those. */
int micro_batch_pack_ahead(struct trainer *trainer, const struct epoch *epoch, int from, int to, struct error *error);
/* The same into a batch: of the answers (take[0]), of the retain set (take[1]). */
int micro_batch_pack_parts(const struct trainer *trainer, struct batch *batch, const struct epoch *epoch, int from, int to,
                           const bool take[2], struct error *error);

/* optimizer_state.c: moments, master weights and the numbers that are read back, in the model's plan; cleared by start. */
int optimizer_plan(struct trainer *trainer, struct error *error);
int optimizer_start(struct trainer *trainer, struct error *error);
/* The host's memory for what is offloaded; refused on a device whose memory is the host's. */
int optimizer_allocate(struct trainer *trainer, struct error *error);
void optimizer_free(struct trainer *trainer);
/* optimizer_offload.c: array[] becomes where the device has `count` elements, a buffer's at most, from `state` on once the ops'
 * stream gets there; after ops on them, end writes them back. The host waits in neither. What is queued after settle, on any stream,
 * finds all of it in the host's memory, and so does the host once it has waited for the device, which every step ends with. */
int offload_chunk_begin(struct trainer *trainer, int64_t state, int64_t count, void *array[OPTIMIZER_ARRAYS], struct error *error);
int offload_chunk_end(struct trainer *trainer, int64_t state, int64_t count, struct error *error);
int offload_settle(struct trainer *trainer, struct error *error);
/* Zeros to the whole arena of gradients, what lies between tensors too: once, and where a step has no backward pass. */
int optimizer_clear_gradients(struct trainer *trainer, struct error *error);
/* Sum of the squares of all gradients into totals[SUM_SQUARES], and the totals of all ranks. Once a step. */
int optimizer_gradient_norm(struct trainer *trainer, struct error *error);
/* Clipping and update of matrices (decayed) and vectors, given the norm; the device itself skips a non-finite step. The
 * parameters are whole again after shards_gather_finish. */
int optimizer_step(struct trainer *trainer, double rate, struct error *error);
/* The state of all that is trained: lower halves of master weights and moments by element of its arena, scales of moments by
 * block. Rank 0 reads, between
 * optimizer_share and optimizer_answer where the ranks keep parts; every rank writes what it keeps. */
/* Whether a run has it, how many numbers it has over all ranks, and what each is stored in: a name of safetensors. */
struct optimizer_array_type {
    void *own; /* what this rank keeps of it; NULL: there is none */
    int64_t count, elements; /* elements: of the arena that share one */
    size_t size;
    const char *dtype;
};
struct optimizer_array_type optimizer_array_type(const struct trainer *trainer, enum optimizer_array array);
/* Where the numbers of an array are that `count` elements from `state` on have, and their bytes; NULL and 0: there is none. */
char *optimizer_array_part(const struct trainer *trainer, enum optimizer_array array, int64_t state, int64_t count, size_t *bytes);
int optimizer_read(struct trainer *trainer, enum optimizer_array array, int64_t offset, int64_t count, void *out,
                   struct error *error);
int optimizer_write(struct trainer *trainer, enum optimizer_array array, int64_t offset, int64_t count, const void *in,
                    struct error *error);
/* From here on rank 0 can read all master weights, while the others answer in optimizer_answer until rank 0 calls it as
 * the reader: every time anew. */
void optimizer_share(struct trainer *trainer);
int optimizer_answer(struct trainer *trainer, bool reader, struct error *error);

/* dump.c: writes what is in the device after the micro-batches of a step and before its update. */
int dump_micro_batch(const struct trainer *trainer, const char *directory, int micro_batch, struct error *error);
int dump_gradients(struct trainer *trainer, const char *directory, const struct step_record *record,
                   struct error *error);

#endif

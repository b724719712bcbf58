/* tiny_trainer.h - small training runs from scratch, from a config and three rows of data to losses and weights. */
#ifndef FLAT_TESTS_TINY_TRAINER_H
#define FLAT_TESTS_TINY_TRAINER_H
#include "../../host/train/trainer.h"
#include "../emulation/emulation_control.h"

enum { TINY_STEPS_MAX = 40 };

struct tiny_training {
    /* what to do */
    const char *engine;
    enum dtype dtype;
    int steps;
    const char *method;       /* unlearns with it, the data to be retained as well; NULL: finetunes */
    const char *settings[12]; /* further flags and their values, NULL-ended */
    const char *rows;         /* of a micro-batch; NULL: 2 */
    bool repack;              /* what is packed ahead of a step is packed once more */
    bool eager;               /* with --cuda_graphs: batches are padded, but nothing is captured */
    const char *model;        /* folder under the temporary one to start from; NULL: from scratch */
    const char *save;         /* folder under it to save in; NULL: nothing is saved */
    const char *checkpoint;   /* folder under it for a checkpoint after step checkpoint_at; NULL: none */
    int checkpoint_at;
    const char *resume;       /* such a folder to go on from; NULL: from the beginning */
    bool restore;             /* bring the weights of `checkpoint` back at the end */
    void (*look)(struct trainer *trainer); /* at the end, while all is there; NULL: nobody does */
    /* what came of it */
    struct step_record record[TINY_STEPS_MAX];
    struct emu_calls start, calls[TINY_STEPS_MAX]; /* before and at the end of each step; zeros outside the emulation */
    uint64_t moved[TINY_STEPS_MAX];         /* bytes that kernels, products and fills have moved at the end of each step, there */
    float *before, *after;                  /* [count] trainable weights as float; free() */
    int ahead;                              /* steps that were packed before they began */
    int64_t count, captures, replays;
    bool shares_weights;                    /* of the frozen model: they are the trained one's */
    /* private */
    int done;
    struct trainer *trainer;
    const char *directory;
    struct emu_calls (*calls_read)(void);
    bool (*counter_read)(const char *name, uint64_t *read, uint64_t *written, uint64_t *launches);
};

/* Group setup of cmocka: the temporary folder with the model's folder `seed` and data.jsonl. */
int tiny_trainer_make(const char *directory);
/* The same, and a folder `base` beside it: the model after two steps in float. */
int tiny_base_make(const char *directory);
/* Trains, from random weights unless told otherwise, two rows per micro-batch and two of them per step, at a constant
 * rate of 1e-2 unless the settings say otherwise. Any failure and any warning ends the test. */
void tiny_train(struct tiny_training *run, const char *directory);
void tiny_training_free(struct tiny_training *run);

#endif

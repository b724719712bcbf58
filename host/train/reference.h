/* reference.h - the log-probabilities of whole answers under the model that a run starts from, for methods that compare with
 * it: one forward pass over the distinct answers of all epochs before the first step, dealt to the ranks.
 *
 * The sums are kept in a file named by a checksum of all that they depend on: the weights as they are on the device (with
 * adapters), the ids of the answers in order of the data, program, engine and types. A later run of the same takes them from
 * there, bit for bit; with any change they are computed anew.
 *
 * Cost: a third of what as many steps take, once; 8 bytes of host memory for each distinct answer, and its ids.
 */
#ifndef FLAT_TRAIN_REFERENCE_H
#define FLAT_TRAIN_REFERENCE_H
#include "examples.h"

struct reference_options {
    const char *reference_cache; /* folder; "": that of the user; "none": nothing is kept */
};
extern const struct option_group reference_option_group;

/* One distinct answer with its prompt. */
struct reference_entry {
    uint64_t key; /* of ids and answer_begin */
    struct batch_sequence sequence; /* ids are owned */
    double sum;
};

/* Start with {0}. */
struct reference {
    struct reference_entry *entry;
    size_t count, capacity;
    int32_t *slot; /* [slots] hash table of entries; -1: free */
    size_t slots;
    char note[512]; /* for people, after reference_prepare: where the sums came from */
};

struct trainer;

/* Collects the answers of all epochs and finds or computes their sums; called by all ranks, after trainer_start. Does nothing
 * for a method that needs none. Its failure is that of all ranks. */
int reference_prepare(struct trainer *trainer, struct error *error);
/* What they take, of a prepared trainer: how many answers, and the rows of their forward passes. */
int reference_measure(struct trainer *trainer, int64_t *answers, struct batch_size *size, struct error *error);
/* Puts the sums into an epoch's sequences. */
void reference_apply(const struct reference *reference, struct epoch *epoch);
void reference_free(struct reference *reference);

#endif

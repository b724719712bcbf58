/* product_picks.h - a run's picks of matrix products (device/matmul_picks.h): made before its first step, the same on all ranks,
 * written into run.json, and taken again by a run that goes on from a checkpoint, so that its bits are the same.
 *
 * Rank 0 takes the cache's picks and, for products that have none, times the library's proposals in passes over batches of
 * padding: the largest batch of the run and, in eighths of it, those down to a half. Then every rank has the picks that these
 * passes used, and no others: a product that they did not come by takes the library's first proposal, whatever the cache holds.
 * Cost: once for a model, a device and a batch size, about as long as a hundred passes over one layer for each eighth; later runs
 * take the passes themselves.
 */
#ifndef FLAT_TRAIN_PRODUCT_PICKS_H
#define FLAT_TRAIN_PRODUCT_PICKS_H
#include "../io/json/json.h"

enum matmul_picks { MATMUL_PICKS_OFF, MATMUL_PICKS_TIMED };

/* Start with {0}. */
struct product_picks {
    struct buffer lines;             /* the run's, a line each; empty: none are used */
    char scope[200];                 /* device and library that they are for; "" with no lines */
    struct buffer given;             /* those that the run is to have, of a checkpoint; empty: none */
    char given_scope[200];
    char note[700], warning[700];    /* for people, after product_picks_prepare; "": nothing to say */
};

struct trainer;

/* Called by all ranks, after trainer_start. Does nothing where the engine has no such choice or matmul_picks is off. Its failure is
 * that of all ranks. */
int product_picks_prepare(struct trainer *trainer, struct error *error);
/* The picks in the run.json of a checkpoint become the given ones. */
int product_picks_read(struct product_picks *picks, const char *directory, struct error *error);
/* The member "matmul_picks" of run.json, where there are any; false when memory ran out. */
bool product_picks_add(const struct product_picks *picks, cJSON *run);
void product_picks_free(struct product_picks *picks);

#endif

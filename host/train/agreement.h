/* agreement.h - what all ranks must have alike before the first step: version, settings, data, tokens, weights.
 *
 * Paths may differ from host to host; what lies there may not. Data, configs and adapters are compared by content, the first
 * epoch's ids as a whole (so tokenizer, templates and order are with them), weights by the names and sizes of their files and,
 * once they are on the device, by a checksum of all their bytes: one copy of them to the host.
 */
#ifndef FLAT_TRAIN_AGREEMENT_H
#define FLAT_TRAIN_AGREEMENT_H
#include "trainer.h"

/* After trainer_prepare. config: the settings as text, without what may differ. STATUS_USAGE on every rank, with the first
 * rank that differs and what it has. Nothing with one rank. */
int agreement_check(struct trainer *trainer, const char *config, struct error *error);
/* After trainer_start. */
int agreement_check_weights(struct trainer *trainer, struct error *error);

#endif

/* tied_head.h - a head of its own in the file of a tied model. */
#ifndef FLAT_MODEL_TIED_HEAD_H
#define FLAT_MODEL_TIED_HEAD_H
#include "config.h"

/* Sets untied and head_kept where the folder's weights hold an lm_head that differs from the embedding although the config ties
 * them; a folder without weights, or with damaged ones, changes nothing. */
int tied_head_find(struct model_config *config, const char *directory, struct error *error);

#endif

/* model_options.h - which model a command reads, and in what form it is trained. */
#ifndef FLAT_MODEL_MODEL_OPTIONS_H
#define FLAT_MODEL_MODEL_OPTIONS_H
#include "../util/options.h"
#include "model.h"

struct model_options {
    const char *model_name_or_path; /* Hugging Face folder */
    const char *adapter;            /* PEFT folder; "" for none */
};
extern const struct option_group model_option_group;   /* the model */
extern const struct option_group adapter_option_group; /* and its adapter, in the same struct */

enum logits_storage { LOGITS_MODEL, LOGITS_FLOAT32 };
struct model_form_options {
    enum recompute gradient_checkpointing;
    enum logits_storage logits_dtype;
};
extern const struct option_group model_form_option_group;

#endif

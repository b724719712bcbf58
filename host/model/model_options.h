/* model_options.h - which model a command reads, and in what form it is trained. */
#ifndef FLAT_MODEL_MODEL_OPTIONS_H
#define FLAT_MODEL_MODEL_OPTIONS_H
#include "../util/options.h"
#include "model.h"

struct model_options {
    const char *model_name_or_path; /* Hugging Face folder */
    const char *adapter;            /* PEFT folder; "" for none */
    const char *reinforced_model;   /* folder of a second model, NULL or "" for none: logits_combine.h */
    double whp_alpha;
};
extern const struct option_group model_option_group;   /* the model */
extern const struct option_group adapter_option_group; /* and its adapter, in the same struct */
extern const struct option_group reinforced_option_group; /* and a second model whose logits are taken into account */

enum logits_storage { LOGITS_MODEL, LOGITS_FLOAT32 };
struct model_form_options {
    enum recompute gradient_checkpointing;
    enum logits_storage logits_dtype;
    int64_t head_chunk_rows; /* 0: all at once */
};
extern const struct option_group model_form_option_group;

#endif

/* model_options.c - see model_options.h. */
#include "model_options.h"

static const struct option model_rows[] = {
    {.name = "model_name_or_path", .alias = "model", OPTION_FIELD(struct model_options, model_name_or_path),
     .local = true, .operand = "DIR", .help = "Hugging Face model folder"},
};
const struct option_group model_option_group = {OPTION_GROUP("Model and data", model_rows, struct model_options)};

static const struct option adapter_rows[] = {
    {.name = "adapter", OPTION_FIELD(struct model_options, adapter), .local = true, .operand = "DIR",
     .help = "PEFT folder of a LoRA adapter: merged into the weights, or trained further"},
};
const struct option_group adapter_option_group = {OPTION_GROUP("Model and data", adapter_rows, struct model_options)};

static int reinforced_check(const struct option_set *set, void *values, struct error *error)
{
    const struct model_options *options = values;
    return option_source(set, "whp_alpha") == OPTION_FROM_FLAG && !*options->reinforced_model
               ? error_set(error, STATUS_USAGE, "whp_alpha: of no use without reinforced_model; give its folder")
               : STATUS_OK;
}

static const struct option reinforced_rows[] = {
    {.name = "reinforced_model", OPTION_FIELD(struct model_options, reinforced_model), .local = true, .operand = "DIR",
     .help = "folder of the same model trained further on what is to be forgotten: where its logits r are above the model's z, "
             "z becomes z - whp_alpha (r - z)"},
    {.name = "whp_alpha", OPTION_FIELD(struct model_options, whp_alpha), .initial = "1", .max = HUGE_VAL,
     .help = "how much is taken back"},
};
const struct option_group reinforced_option_group = {
    OPTION_GROUP("Reinforced model", reinforced_rows, struct model_options),
    .source = "Who's Harry Potter? (arXiv 2310.02238); MUSE tries whp_alpha 1, 2, 4, 8, 16",
    .check = reinforced_check};

static const char *const recompute_names[] = {[RECOMPUTE_NONE] = "none", [RECOMPUTE_SELECTIVE] = "selective",
                                              [RECOMPUTE_FULL] = "full", NULL};
static const char *const logits_names[] = {[LOGITS_MODEL] = "model", [LOGITS_FLOAT32] = "float32", NULL};

static const struct option form_rows[] = {
    {.name = "logits_dtype", OPTION_FIELD(struct model_form_options, logits_dtype), .choices = logits_names,
     .initial = "model",
     .help = "how logits are stored: float32 takes them and their probabilities out of a bf16 model's rounding"},
    {.name = "head_chunk_rows", OPTION_FIELD(struct model_form_options, head_chunk_rows), .initial = "0",
     .max = OPTION_COUNT_MAX,
     .help = "answer tokens whose logits are in memory at a time, and computed again in the backward pass; 0 is all of a "
             "micro-batch, once"},
    {.name = "gradient_checkpointing", OPTION_FIELD(struct model_form_options, gradient_checkpointing),
     .choices = recompute_names, .initial = "none",
     .help = "activations that the backward pass computes again, for less memory: norms and activation functions, or "
             "whole layers"},
};
const struct option_group model_form_option_group = {OPTION_GROUP("Length and batches", form_rows,
                                                                  struct model_form_options)};

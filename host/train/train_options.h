/* train_options.h - all that a training run is told: its owners' structs, and what is the trainer's own. */
#ifndef FLAT_TRAIN_TRAIN_OPTIONS_H
#define FLAT_TRAIN_TRAIN_OPTIONS_H
#include "../device/device.h"
#include "../loss/method.h"
#include "../model/model_options.h"
#include "examples.h"
#include "optimizer.h"
#include "product_picks.h"
#include "reference.h"
#include "schedule.h"
#include "shards.h"

enum save_strategy { SAVE_NO, SAVE_EPOCH, SAVE_STEPS };
enum report_to { REPORT_TO_NONE, REPORT_TO_TENSORBOARD };
enum save_dtype { SAVE_AS_READ, SAVE_FLOAT32, SAVE_BFLOAT16, SAVE_FLOAT16 };
struct output_options {
    const char *output_dir;
    bool overwrite_output_dir;
    enum save_strategy save_strategy;
    int64_t save_steps, save_total_limit; /* limit 0: none */
    enum save_dtype save_dtype;
    const char *resume_from_checkpoint;   /* a folder, "last", or "" */
    int64_t logging_steps;
    enum report_to report_to;
};
extern const struct option_group output_option_group, save_option_group;
/* "float32"; NULL for as_read. */
const char *save_dtype_name(enum save_dtype dtype);

struct trainer_options {
    bool from_scratch; /* random weights from config.json instead of a file */
    double num_train_epochs;
    int64_t max_steps; /* -1: by epochs */
    int64_t per_device_train_batch_size, gradient_accumulation_steps;
    int64_t seed;
    bool cuda_graphs, profile;
    enum matmul_picks matmul_picks;
    const char *dump_step; /* folder; "" when off */
};
extern const struct option_group scratch_option_group, length_option_group, trainer_option_group;

struct train_options {
    struct model_options model;
    struct examples_options examples;
    struct dataset_options dataset;
    struct prompt_options prompt;
    struct template_options template_;
    struct output_options output;
    struct method_options method;
    struct loss_options loss;
    struct reference_options reference;
    struct schedule_options schedule;
    struct optimizer_options optimizer;
    struct lora_run_options lora;
    struct model_form_options form;
    struct shard_options shards;
    struct trainer_options trainer;
    struct device_options device;
    bool sizes_only; /* no option: a plan, which needs no weights */
};

/* Names, with spaces between, of what the chosen method of unlearn needs. */
const char *train_options_required(const struct train_options *options);
/* What must hold between owners. STATUS_USAGE names the option. */
int train_options_check(const struct train_options *options, const struct option_set *set, struct error *error);

#endif

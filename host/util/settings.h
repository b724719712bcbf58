/* settings.h - every setting of a run as one plain struct. host/cli/settings.c holds the one table that maps
 * option names, JSON keys, defaults and help to these fields.
 *
 * Strings are never NULL unless said; they live as long as the struct option_set that parsed them.
 */
#ifndef FLAT_UTIL_SETTINGS_H
#define FLAT_UTIL_SETTINGS_H
#include <stdbool.h>
#include <stdint.h>

struct settings {
    /* model and data */
    const char *model_name_or_path, *output_dir; /* "" when not given */
    bool from_scratch;                           /* finetune: random weights from config.json instead of a file */
    const char *forget_data;                     /* unlearn */
    const char *train_data;                      /* finetune */
    const char *question_key, *answer_key;
    const char *prompt_template;                 /* built-in name, or "custom" when the four tags are given */
    const char *prompt_user_start, *prompt_user_end, *prompt_answer_start, *prompt_answer_end;
    int64_t max_length;
    const char *adapter;                         /* PEFT folder; "" when not given */

    /* method */
    const char *method, *divergence, *flat_average, *flat_average_scope;
    int64_t flat_padded_length;
    const char *template_file, *template_choice, *template_every; /* template.file, .choice, .every */

    /* optimizer */
    double learning_rate, weight_decay, adam_beta1, adam_beta2, adam_epsilon, max_grad_norm;
    bool weight_decay_all;
    const char *lr_scheduler_type;
    double warmup_steps; /* below 1: a fraction of all steps */
    double warmup_ratio; /* older name of the fraction; 0 when not given */

    /* LoRA: lora.r, .alpha, .dropout, .target_modules, .use_rslora, .output */
    int64_t lora_rank; /* 0: off */
    double lora_alpha, lora_dropout;
    const char *lora_target_modules, *lora_output;
    bool lora_use_rslora;

    /* length and batches */
    double num_train_epochs;
    int64_t max_steps; /* -1: by epochs */
    int64_t per_device_train_batch_size, gradient_accumulation_steps;
    const char *gradient_checkpointing; /* none, selective, full */
    const char *logits_dtype;           /* model, float32 */
    int64_t seed;

    /* several ranks */
    int64_t nproc_per_node;        /* above 1: this process starts them */
    int64_t zero;                  /* 1: moments and master weights split among them */
    const char *grad_reduce_dtype; /* model, float32 */
    double ddp_bucket_cap_mb;      /* 0: by where the ranks are */
    int64_t world_size;            /* plan */
    const char *cluster;           /* plan: file, "" for the built-in figures */

    /* run */
    const char *device;    /* auto, cpu, cuda */
    int64_t threads;       /* 0: all */
    int64_t logging_steps;
    const char *save_strategy; /* no, epoch */
    const char *dump_step; /* directory, "" when off */
    bool overwrite_output_dir, quiet, profile;
    bool cuda_graphs;

    /* score, generate, tokenize */
    const char *model, *data, *prompt; /* --model, --data, --prompt; "" when not given */
    int64_t max_new_tokens, batch_size;
    double temperature, top_p;
    bool tokens, decode, no_special;

    /* plot */
    const char *output; /* -o */

    /* bench */
    bool list, quick, predict;
    const char *filter, *json, *csv, *baseline, *reference; /* "" when not given */
    const char *models_dir; /* step: folders with a config.json */
    int64_t samples, pairs; /* 0: the measurement's own */
    int64_t min_bytes, max_bytes; /* comm: of a buffer */
    double time_budget; /* seconds a case; 0: none */
};

#endif

/* finetune.c - `flat finetune`: trains a model on question and answer pairs. */
#include "../train.h"

static const struct command_group groups[] = {
    {&model_option_group, offsetof(struct train_command_options, train.model)},
    {&train_data_option_group, offsetof(struct train_command_options, train.examples)},
    {&output_option_group, offsetof(struct train_command_options, train.output)},
    {&adapter_option_group, offsetof(struct train_command_options, train.model)},
    {&scratch_option_group, offsetof(struct train_command_options, train.trainer)},
    {&dataset_option_group, offsetof(struct train_command_options, train.dataset)},
    {&max_length_option_group, offsetof(struct train_command_options, train.examples)},
    {&prompt_option_group, offsetof(struct train_command_options, train.prompt)},
    {&loss_option_group, offsetof(struct train_command_options, train.loss)},
    {&schedule_option_group, offsetof(struct train_command_options, train.schedule)},
    {&optimizer_option_group, offsetof(struct train_command_options, train.optimizer)},
    {&lora_option_group, offsetof(struct train_command_options, train.lora)},
    {&length_option_group, offsetof(struct train_command_options, train.trainer)},
    {&model_form_option_group, offsetof(struct train_command_options, train.form)},
    {&launcher_option_group, offsetof(struct train_command_options, launcher)},
    {&shard_option_group, offsetof(struct train_command_options, train.shards)},
    {&trainer_option_group, offsetof(struct train_command_options, train.trainer)},
    {&device_option_group, offsetof(struct train_command_options, train.device)},
    {&train_eval_option_group, offsetof(struct train_command_options, eval)},
    {&early_stopping_option_group, offsetof(struct train_command_options, stopping)},
    {&save_option_group, offsetof(struct train_command_options, train.output)},
    {&log_option_group, offsetof(struct train_command_options, log)},
    {NULL, 0},
};

static int run_finetune(struct invocation *run, struct error *error)
{
    return train_run(run, true, error);
}

const struct command command_finetune = {
    .name = "finetune",
    .argument = "CONFIG",
    .at_most = 1,
    .config = CONFIG_TRAIN,
    .summary = "Trains a model on question-answer pairs (cross-entropy of the answers).",
    .examples = {"flat finetune configs/demo/finetune.json",
                 "flat finetune --model DIR --train_data people.jsonl --output_dir runs/tuned",
                 "flat finetune --model DIR --train_data people.jsonl --output_dir runs/lora --lora.r 8"},
    .groups = groups,
    .options_bytes = sizeof(struct train_command_options),
    .required = "model_name_or_path train_data output_dir question_key answer_key",
    .check = train_check,
    .run = run_finetune,
};

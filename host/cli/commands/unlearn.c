/* unlearn.c - `flat unlearn`: makes a model forget question and answer pairs. */
#include "../train.h"

static const struct command_group groups[] = {
    {&model_option_group, offsetof(struct train_command_options, train.model)},
    {&forget_data_option_group, offsetof(struct train_command_options, train.examples)},
    {&retain_data_option_group, offsetof(struct train_command_options, train.examples)},
    {&forget_noise_option_group, offsetof(struct train_command_options, train.examples.noise)},
    {&output_option_group, offsetof(struct train_command_options, train.output)},
    {&adapter_option_group, offsetof(struct train_command_options, train.model)},
    {&dataset_option_group, offsetof(struct train_command_options, train.dataset)},
    {&max_length_option_group, offsetof(struct train_command_options, train.examples)},
    {&prompt_option_group, offsetof(struct train_command_options, train.prompt)},
    {&method_option_group, offsetof(struct train_command_options, train.method)},
    {&loss_option_group, offsetof(struct train_command_options, train.loss)},
    {&reference_option_group, offsetof(struct train_command_options, train.reference)},
    {&template_option_group, offsetof(struct train_command_options, train.template_)},
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
    {&final_eval_option_group, offsetof(struct train_command_options, final_eval)},
    {&save_option_group, offsetof(struct train_command_options, train.output)},
    {&log_option_group, offsetof(struct train_command_options, log)},
    {NULL, 0},
};

static const char *method_required(const void *options)
{
    return train_options_required(&((const struct train_command_options *)options)->train);
}

static int run_unlearn(struct invocation *run, struct error *error)
{
    return train_run(run, false, error);
}

const struct command command_unlearn = {
    .name = "unlearn",
    .argument = "CONFIG",
    .at_most = 1,
    .config = CONFIG_TRAIN,
    .summary = "Makes a model forget question-answer pairs, from forget data alone.",
    .examples = {"flat unlearn configs/tofu/smollm2-135m/unlearn.json --output_dir runs/tofu",
                 "flat unlearn --model DIR --forget_data forget.jsonl --template.file idk.txt --output_dir runs/one",
                 "flat unlearn runs/one --learning_rate 2e-5 --output_dir runs/two"},
    .groups = groups,
    .options_bytes = sizeof(struct train_command_options),
    .required = "model_name_or_path forget_data output_dir question_key answer_key",
    .also_required = method_required,
    .check = train_check,
    .run = run_unlearn,
};

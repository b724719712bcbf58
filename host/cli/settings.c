/* settings.c - see settings.h. A new option is one row of `table` and one field of struct settings. */
#include "settings.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "../train/schedule.h"
#include "config_file.h"

#define UNLEARN COMMAND_UNLEARN
#define FINETUNE COMMAND_FINETUNE
#define SCORE COMMAND_SCORE
#define GENERATE COMMAND_GENERATE
#define TOKENIZE COMMAND_TOKENIZE
#define PLAN COMMAND_PLAN
#define PLOT COMMAND_PLOT
#define BENCH COMMAND_BENCH
#define TRAIN (UNLEARN | FINETUNE | PLAN)
#define FORGET (UNLEARN | PLAN)
#define INFER (SCORE | GENERATE)
#define COUNT_MAX 1e9              /* steps, batches, tokens */
#define EXACT_MAX 9007199254740991 /* largest integer that JSON carries exactly */
#define FIELD(name) offsetof(struct settings, name)

static const struct command commands[] = {
    {"unlearn", UNLEARN, "CONFIG", false, "Makes a model forget question-answer pairs, from forget data alone"},
    {"finetune", FINETUNE, "CONFIG", false, "Trains a model on question-answer pairs (cross-entropy of the answers)"},
    {"score", SCORE, NULL, false, "Probabilities of answers: {\"prompt\", \"answer\"} lines in, JSON lines out"},
    {"generate", GENERATE, NULL, false, "Continues a prompt, greedily unless a temperature is given"},
    {"tokenize", TOKENIZE, NULL, false, "Text lines in, JSON lists of token ids out"},
    {"plan", PLAN, "CONFIG", false, "Memory, steps and work of a run, without loading the model"},
    {"plot", PLOT, "RUN_DIR", true, "Draws the curves of a run as SVG"},
    {"bench", BENCH, "kernels|step|io|comm", true, "Measures ops against the device's limits, whole steps, files, or collectives"},
};

#define DIVERGENCES "total_variation|jensen_shannon|pearson|kl|jeffrey|reverse_kl|squared_hellinger|neyman"
#define PROMPT_TEMPLATES "llama2_chat|llama3_chat|phi|qa|plain|custom"

/* name, type, field, default, section, commands, required by, min, max, choices, operand, letter, help */
static const struct option table[] = {
    {"model_name_or_path", OPTION_STRING, FIELD(model_name_or_path), "", "Model and data", TRAIN, TRAIN, 0, 0, NULL,
     "DIR", 0, "Hugging Face model folder to start from"},
    {"forget_data", OPTION_STRING, FIELD(forget_data), "", "Model and data", FORGET, UNLEARN, 0, 0, NULL, "FILE", 0,
     "questions and answers to forget: JSON lines or a JSON array"},
    {"train_data", OPTION_STRING, FIELD(train_data), "", "Model and data", FINETUNE | PLAN, FINETUNE, 0, 0, NULL,
     "FILE", 0, "questions and answers to learn: JSON lines or a JSON array"},
    {"output_dir", OPTION_STRING, FIELD(output_dir), "", "Model and data", TRAIN, UNLEARN | FINETUNE, 0, 0, NULL,
     "DIR", 0, "folder for the new model, metrics.jsonl and run.json"},
    {"overwrite_output_dir", OPTION_BOOL, FIELD(overwrite_output_dir), "false", "Model and data", TRAIN, 0, 0, 0, NULL,
     NULL, 0, "write into an output_dir that holds a model already"},
    {"adapter", OPTION_STRING, FIELD(adapter), "", "Model and data", TRAIN | INFER, 0, 0, 0, NULL, "DIR", 0,
     "PEFT folder of a LoRA adapter: merged into the weights, or trained further"},
    {"from_scratch", OPTION_BOOL, FIELD(from_scratch), "false", "Model and data", FINETUNE, 0, 0, 0, NULL, NULL, 0,
     "begin with random weights of config.json's shape instead of the folder's"},
    {"question_key", OPTION_STRING, FIELD(question_key), "question", "Model and data", TRAIN | INFER, TRAIN, 0, 0, NULL, "KEY",
     0, "key of a row's question"},
    {"answer_key", OPTION_STRING, FIELD(answer_key), "answer", "Model and data", TRAIN | INFER, TRAIN, 0, 0, NULL, "KEY", 0,
     "key of a row's answer"},
    {"max_length", OPTION_INT, FIELD(max_length), "512", "Model and data", TRAIN | SCORE, 0, 2, COUNT_MAX, NULL, NULL,
     0, "tokens of a prompt and its answer; what is longer is cut at the end and counted"},

    {"prompt_template", OPTION_CHOICE, FIELD(prompt_template), "qa", "Prompt", TRAIN | INFER, 0, 0, 0, PROMPT_TEMPLATES, NULL,
     0, "how a question and an answer become one text; custom is the four tags below"},
    {"prompt_template.user_start", OPTION_STRING, FIELD(prompt_user_start), "", "Prompt", TRAIN | INFER, 0, 0, 0, NULL, "TEXT",
     0, "text before the question"},
    {"prompt_template.user_end", OPTION_STRING, FIELD(prompt_user_end), "", "Prompt", TRAIN | INFER, 0, 0, 0, NULL, "TEXT", 0,
     "text after the question"},
    {"prompt_template.answer_start", OPTION_STRING, FIELD(prompt_answer_start), "", "Prompt", TRAIN | INFER, 0, 0, 0, NULL,
     "TEXT", 0, "text before the answer"},
    {"prompt_template.answer_end", OPTION_STRING, FIELD(prompt_answer_end), "", "Prompt", TRAIN | INFER, 0, 0, 0, NULL, "TEXT",
     0, "text after the answer"},

    {"method", OPTION_CHOICE, FIELD(method), "flat", "Method", FORGET, 0, 0, 0, "flat", NULL, 0, "unlearning loss"},
    {"divergence", OPTION_CHOICE, FIELD(divergence), "total_variation", "Method", FORGET, 0, 0, 0, DIVERGENCES, NULL, 0,
     "f-divergence between template and forget answers"},
    {"flat_average", OPTION_CHOICE, FIELD(flat_average), "pair", "Method", FORGET, 0, 0, 0, "pair|batch", NULL, 0,
     "mean probability per pair (the paper) or over the padded batch (the authors' code)"},
    {"flat_average_scope", OPTION_CHOICE, FIELD(flat_average_scope), "rank", "Method", FORGET, 0, 0, 0, "rank|global",
     NULL, 0, "batch average: the batch of each rank, or of all ranks together"},
    {"flat_padded_length", OPTION_INT, FIELD(flat_padded_length), "500", "Method", FORGET, 0, 2, COUNT_MAX, NULL, NULL,
     0, "batch average: length that every sequence counts as padded to"},
    {"template.file", OPTION_STRING, FIELD(template_file), "", "Method", FORGET, UNLEARN, 0, 0, NULL, "FILE", 0,
     "template answers to prefer (TXT, CSV, JSON or JSON lines)"},
    {"template.choice", OPTION_CHOICE, FIELD(template_choice), "random", "Method", FORGET, 0, 0, 0,
     "random|cycle|fixed", NULL, 0, "which template answer goes with a row"},
    {"template.every", OPTION_CHOICE, FIELD(template_every), "epoch", "Method", FORGET, 0, 0, 0, "epoch|run", NULL, 0,
     "when a row gets a new template answer"},

    {"learning_rate", OPTION_DOUBLE, FIELD(learning_rate), "1e-5", "Optimizer", TRAIN, 0, 0, HUGE_VAL, NULL, NULL, 0,
     "peak learning rate of AdamW"},
    {"lr_scheduler_type", OPTION_CHOICE, FIELD(lr_scheduler_type), "linear", "Optimizer", TRAIN, 0, 0, 0,
     SCHEDULE_TYPES, NULL, 0, "course of the learning rate after warm-up, as transformers' get_scheduler"},
    {"warmup_steps", OPTION_DOUBLE, FIELD(warmup_steps), "0", "Optimizer", TRAIN, 0, 0, COUNT_MAX, NULL, NULL, 0,
     "steps of linear warm-up; below 1 it is a fraction of all steps"},
    {"warmup_ratio", OPTION_DOUBLE, FIELD(warmup_ratio), "0", "Optimizer", TRAIN, 0, 0, 1, NULL, NULL, 0,
     "older name of a fractional warmup_steps"},
    {"weight_decay", OPTION_DOUBLE, FIELD(weight_decay), "0.01", "Optimizer", TRAIN, 0, 0, HUGE_VAL, NULL, NULL, 0,
     "decoupled weight decay of matrices"},
    {"weight_decay_all", OPTION_BOOL, FIELD(weight_decay_all), "false", "Optimizer", TRAIN, 0, 0, 0, NULL, NULL, 0,
     "decay norms and biases too, as older Hugging Face code did"},
    {"adam_beta1", OPTION_DOUBLE, FIELD(adam_beta1), "0.9", "Optimizer", TRAIN, 0, 0, 0.999999, NULL, NULL, 0,
     "decay of the first moment"},
    {"adam_beta2", OPTION_DOUBLE, FIELD(adam_beta2), "0.999", "Optimizer", TRAIN, 0, 0, 0.999999, NULL, NULL, 0,
     "decay of the second moment"},
    {"adam_epsilon", OPTION_DOUBLE, FIELD(adam_epsilon), "1e-8", "Optimizer", TRAIN, 0, 0, HUGE_VAL, NULL, NULL, 0,
     "added to the root of the second moment"},
    {"max_grad_norm", OPTION_DOUBLE, FIELD(max_grad_norm), "1.0", "Optimizer", TRAIN, 0, 0, HUGE_VAL, NULL, NULL, 0,
     "clip the gradient's norm to this; 0 clips nothing"},

    {"lora.r", OPTION_INT, FIELD(lora_rank), "0", "LoRA", TRAIN, 0, 0, 65536, NULL, NULL, 0,
     "rank of the adapters; the rest of the model is frozen. 0 trains everything"},
    {"lora.alpha", OPTION_DOUBLE, FIELD(lora_alpha), "16", "LoRA", TRAIN, 0, 0, HUGE_VAL, NULL, NULL, 0,
     "the adapters' product is scaled by alpha / r"},
    {"lora.dropout", OPTION_DOUBLE, FIELD(lora_dropout), "0", "LoRA", TRAIN, 0, 0, 1, NULL, NULL, 0,
     "only 0: the model is trained as it will be used"},
    {"lora.target_modules", OPTION_LIST, FIELD(lora_target_modules), "all-linear", "LoRA", TRAIN, 0, 0, 0, NULL,
     "NAME,...", 0, "projections to adapt, by the family's names (q_proj,v_proj)"},
    {"lora.use_rslora", OPTION_BOOL, FIELD(lora_use_rslora), "false", "LoRA", TRAIN, 0, 0, 0, NULL, NULL, 0,
     "scale by alpha / sqrt(r) instead"},
    {"lora.output", OPTION_CHOICE, FIELD(lora_output), "merged", "LoRA", TRAIN, 0, 0, 0, "merged|adapter", NULL, 0,
     "write the whole model with the adapters merged in, or a PEFT folder with the adapters alone"},

    {"num_train_epochs", OPTION_DOUBLE, FIELD(num_train_epochs), "5", "Length and batches", TRAIN, 0, 0, COUNT_MAX,
     NULL, NULL, 0, "passes over the data"},
    {"max_steps", OPTION_INT, FIELD(max_steps), "-1", "Length and batches", TRAIN, 0, -1, COUNT_MAX, NULL, NULL, 0,
     "optimizer steps, instead of epochs; -1 goes by epochs"},
    {"per_device_train_batch_size", OPTION_INT, FIELD(per_device_train_batch_size), "8", "Length and batches", TRAIN, 0,
     1, COUNT_MAX, NULL, NULL, 0, "rows of a micro-batch"},
    {"gradient_accumulation_steps", OPTION_INT, FIELD(gradient_accumulation_steps), "4", "Length and batches", TRAIN, 0,
     1, COUNT_MAX, NULL, NULL, 0, "micro-batches of an optimizer step"},
    {"logits_dtype", OPTION_CHOICE, FIELD(logits_dtype), "model", "Length and batches", TRAIN, 0, 0, 0, "model|float32",
     NULL, 0, "how logits are stored: float32 takes them and their probabilities out of a bf16 model's rounding"},
    {"gradient_checkpointing", OPTION_CHOICE, FIELD(gradient_checkpointing), "none", "Length and batches", TRAIN, 0, 0, 0,
     "none|selective|full", NULL, 0,
     "activations that the backward pass computes again, for less memory: norms and activation functions, or whole layers"},

    {"nproc_per_node", OPTION_INT, FIELD(nproc_per_node), "1", "Several ranks", TRAIN | BENCH, 0, 1, 64, NULL,
     NULL, 0, "start so many ranks on this host, a GPU each; or let torchrun, mpirun or srun start them"},
    {"zero", OPTION_INT, FIELD(zero), "1", "Several ranks", TRAIN, 0, 0, 1, NULL, NULL, 0,
     "1 splits moments and master weights among the ranks, 0 keeps all of them on each; the same results"},
    {"grad_reduce_dtype", OPTION_CHOICE, FIELD(grad_reduce_dtype), "model", "Several ranks", TRAIN, 0, 0, 0,
     "model|float32", NULL, 0, "what gradients are summed in over micro-batches and ranks; model is bf16 on a GPU"},
    {"ddp_bucket_cap_mb", OPTION_DOUBLE, FIELD(ddp_bucket_cap_mb), "0", "Several ranks", TRAIN, 0, 0, COUNT_MAX, NULL,
     NULL, 0, "MB of gradients that are summed over the ranks at a time; 0 is 25 on one host and 256 on several"},
    {"world_size", OPTION_INT, FIELD(world_size), "1", "Several ranks", PLAN, 0, 1, 16384, NULL, NULL, 0,
     "GPUs to plan for, nproc_per_node where it is not given: memory of each, bytes between them, time of a step"},
    {"cluster", OPTION_STRING, FIELD(cluster), "", "Several ranks", PLAN | BENCH, 0, 0, 0, NULL, "FILE", 0,
     "measured rates of a GPU and of the wires, as JSON; without, those of H200 hosts"},

    {"model", OPTION_STRING, FIELD(model), "", "Input", INFER | TOKENIZE | BENCH, INFER | TOKENIZE, 0, 0, NULL, "DIR", 0,
     "Hugging Face model folder"},
    {"data", OPTION_STRING, FIELD(data), "", "Input", INFER, SCORE, 0, 0, NULL, "FILE", 0,
     "JSON lines with \"prompt\" (and \"answer\" to score); with --prompt_template, question and answer rows"},
    {"prompt", OPTION_STRING, FIELD(prompt), "", "Input", GENERATE, 0, 0, 0, NULL, "TEXT", 0,
     "text to continue, instead of a file; may be empty"},
    {"batch_size", OPTION_INT, FIELD(batch_size), "8", "Input", INFER, 0, 1, COUNT_MAX, NULL, NULL, 0,
     "rows at a time; no effect on results"},
    {"max_new_tokens", OPTION_INT, FIELD(max_new_tokens), "128", "Generation", GENERATE, 0, 1, COUNT_MAX, NULL, NULL, 0,
     "tokens to add at most"},
    {"temperature", OPTION_DOUBLE, FIELD(temperature), "0", "Generation", GENERATE, 0, 0, HUGE_VAL, NULL, NULL, 0,
     "of the sampling; 0 takes the most probable token"},
    {"top_p", OPTION_DOUBLE, FIELD(top_p), "1", "Generation", GENERATE, 0, 1e-6, 1, NULL, NULL, 0,
     "sample from the fewest tokens that hold this much probability"},
    {"tokens", OPTION_BOOL, FIELD(tokens), "false", "Output", SCORE, 0, 0, 0, NULL, NULL, 0,
     "add token_logprobs, one number a token of the answer"},
    {"decode", OPTION_BOOL, FIELD(decode), "false", "Output", TOKENIZE, 0, 0, 0, NULL, NULL, 0,
     "the other way: JSON lists of ids in, text out"},
    {"no_special", OPTION_BOOL, FIELD(no_special), "false", "Output", TOKENIZE, 0, 0, 0, NULL, NULL, 0,
     "without the beginning-of-sequence and other special tokens"},
    {"output", OPTION_STRING, FIELD(output), "", "Output", PLOT, PLOT, 0, 0, NULL, "FILE.svg", 'o', "file to write"},

    {"list", OPTION_BOOL, FIELD(list), "false", "Measurement", BENCH, 0, 0, 0, NULL, NULL, 0,
     "print the names of what would be measured"},
    {"filter", OPTION_STRING, FIELD(filter), "", "Measurement", BENCH, 0, 0, 0, NULL, "TEXT", 0,
     "measure only what has this in its name"},
    {"quick", OPTION_BOOL, FIELD(quick), "false", "Measurement", BENCH, 0, 0, 0, NULL, NULL, 0,
     "the fewest rows of every shape; half a second a case unless --time_budget says otherwise"},
    {"samples", OPTION_INT, FIELD(samples), "0", "Measurement", BENCH, 0, 0, COUNT_MAX, NULL, NULL, 0,
     "samples of each case; 0 is 50 of kernels and comm, 10 of steps, 5 of io"},
    {"predict", OPTION_BOOL, FIELD(predict), "false", "Measurement", BENCH, 0, 0, 0, NULL, NULL, 0,
     "step: memory, flops and time by the rates of 'flat plan', without running anything; needs no GPU"},
    {"pairs", OPTION_INT, FIELD(pairs), "0", "Measurement", BENCH, 0, 0, 100000, NULL, NULL, 0,
     "step: pairs of an optimizer step; 0 is 32 on a GPU and 4 on a CPU (4 and 1 of long documents)"},
    {"models_dir", OPTION_STRING, FIELD(models_dir), "benches/models", "Measurement", BENCH, 0, 0, 0, NULL, "DIR", 0,
     "step: folders with a config.json each, run with random weights; --model takes one with its own"},
    {"time_budget", OPTION_DOUBLE, FIELD(time_budget), "0", "Measurement", BENCH, 0, 0, HUGE_VAL, NULL, NULL, 0,
     "seconds after which a case makes do with fewer samples (5 of kernels, 3 of steps); 0 takes them all"},
    {"json", OPTION_STRING, FIELD(json), "", "Measurement", BENCH, 0, 0, 0, NULL, "FILE", 0, "also write the figures there"},
    {"csv", OPTION_STRING, FIELD(csv), "", "Measurement", BENCH, 0, 0, 0, NULL, "FILE", 0,
     "also write the figures there, a line a case"},
    {"baseline", OPTION_STRING, FIELD(baseline), "", "Measurement", BENCH, 0, 0, 0, NULL, "FILE", 0,
     "an earlier --json; exit code 1 when a case has become slower beyond the noise of both"},
    {"reference", OPTION_STRING, FIELD(reference), "", "Measurement", BENCH, 0, 0, 0, NULL, "FILE", 0,
     "times of other programs by the same names; shows the fastest"},
    {"min_bytes", OPTION_INT, FIELD(min_bytes), "1024", "Measurement", BENCH, 0, 4, EXACT_MAX, NULL, NULL, 0,
     "comm: smallest buffer; the next ones are twice as large each"},
    {"max_bytes", OPTION_INT, FIELD(max_bytes), "67108864", "Measurement", BENCH, 0, 4, EXACT_MAX, NULL, NULL, 0,
     "comm: largest buffer"},

    {"seed", OPTION_INT, FIELD(seed), "42", "Run", TRAIN | GENERATE, 0, 0, EXACT_MAX, NULL, NULL, 0,
     "of the order of rows, template answers and sampling"},
    {"device", OPTION_CHOICE, FIELD(device), "auto", "Run", TRAIN | INFER | BENCH, 0, 0, 0, "auto|cpu|cuda", NULL, 0,
     "where to compute; auto takes a GPU when there is one"},
    {"threads", OPTION_INT, FIELD(threads), "0", "Run", TRAIN | INFER | BENCH, 0, 0, 4096, NULL, NULL, 0,
     "CPU threads; 0 is all"},
    {"logging_steps", OPTION_INT, FIELD(logging_steps), "1", "Run", TRAIN, 0, 1, COUNT_MAX, NULL, NULL, 0,
     "steps between two lines of metrics.jsonl and of progress in a pipe"},
    {"save_strategy", OPTION_CHOICE, FIELD(save_strategy), "no", "Run", TRAIN, 0, 0, 0, "no|epoch", NULL, 0,
     "epoch: also save the model of every epoch in output_dir/checkpoint-STEP"},
    {"cuda_graphs", OPTION_BOOL, FIELD(cuda_graphs), "false", "Run", TRAIN, 0, 0, 0, NULL, NULL, 0,
     "capture forward and backward passes and replay them; batches are padded to few shapes, 2 % on average"},
    {"profile", OPTION_BOOL, FIELD(profile), "false", "Run", UNLEARN | FINETUNE, 0, 0, 0, NULL, NULL, 0,
     "time every op and print a table at the end, against the device's measured limits"},
    {"dump_step", OPTION_STRING, FIELD(dump_step), "", "Run", TRAIN, 0, 0, 0, NULL, "DIR", 0,
     "write batch, log-probs, loss, token weights and gradients of the first step there"},
    {"quiet", OPTION_BOOL, FIELD(quiet), "false", "Run", TRAIN | INFER | TOKENIZE | PLOT | BENCH, 0, 0, 0, NULL, NULL, 0,
     "only warnings and errors on stderr"},
};

#define COMMANDS (sizeof commands / sizeof commands[0])
#define OPTIONS (sizeof table / sizeof table[0])

int command_find(const char *name, const struct command **command, struct error *error)
{
    const char *nearest = NULL;
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(name, commands[i].name) == 0) {
            *command = &commands[i];
            return STATUS_OK;
        }
        size_t distance = option_name_distance(name, commands[i].name);
        if (distance < best) {
            best = distance;
            nearest = commands[i].name;
        }
    }
    if (nearest)
        return error_set(error, STATUS_USAGE, "'%.80s': unknown command; did you mean '%s'?", name, nearest);
    return error_set(error, STATUS_USAGE, "'%.80s': unknown command; 'flat --help' lists them all", name);
}

/* The stronger source among the four tags; OPTION_FROM_DEFAULT when none is given. */
static enum option_source tags_source(const struct option_set *options, int *given)
{
    static const char *const tag[] = {"prompt_template.user_start", "prompt_template.user_end",
                                      "prompt_template.answer_start", "prompt_template.answer_end"};
    enum option_source source = OPTION_FROM_DEFAULT;
    *given = 0;
    for (int i = 0; i < 4; i++) {
        enum option_source own = option_set_source(options, tag[i]);
        *given += own != OPTION_FROM_DEFAULT;
        source = own > source ? own : source;
    }
    return source;
}

/* A name and tags may both be there, say a file's tags under a flag's name: the stronger source holds. */
static int check_prompt_template(struct command_line *line, struct error *error)
{
    int given;
    enum option_source tags = tags_source(&line->options, &given);
    enum option_source name = option_set_source(&line->options, "prompt_template");
    bool custom = strcmp(line->settings.prompt_template, "custom") == 0;
    if (tags > name && given)
        line->settings.prompt_template = "custom";
    else if (tags && tags == name && !custom)
        return error_set(error, STATUS_USAGE, "prompt_template: both a name ('%s') and tags are given; keep one",
                         line->settings.prompt_template);
    if (strcmp(line->settings.prompt_template, "custom") == 0 && given < 4)
        return error_set(error, STATUS_USAGE, "prompt_template: expected all of user_start, user_end, answer_start and "
                                              "answer_end, found %d; give the others too, even if empty", given);
    return STATUS_OK;
}

static int check_training(const struct command_line *line, struct error *error)
{
    const struct settings *s = &line->settings;
    if (s->warmup_steps > 0 && s->warmup_ratio > 0)
        return error_set(error, STATUS_USAGE, "warmup_ratio: warmup_steps is given too; keep one");
    if (s->warmup_steps > 1 && s->warmup_steps != floor(s->warmup_steps))
        return error_set(error, STATUS_USAGE, "warmup_steps: expected a whole number of steps or a fraction below 1, "
                                              "found %g", s->warmup_steps);
    if (!strcmp(s->lr_scheduler_type, "polynomial") && s->learning_rate <= SCHEDULE_POLYNOMIAL_END)
        return error_set(error, STATUS_USAGE, "learning_rate: polynomial decays to %g and needs more than that, found %g",
                         SCHEDULE_POLYNOMIAL_END, s->learning_rate);
    if (s->max_steps < 0 && s->num_train_epochs <= 0)
        return error_set(error, STATUS_USAGE, "num_train_epochs: expected more than 0, found %g; or give max_steps",
                         s->num_train_epochs);
    return STATUS_OK;
}

/* lora.r and what goes with it; with an adapter to start from, its config decides instead. A record of a run holds
 * every key, and an r of 0 with them. */
static int check_lora(const struct command_line *line, struct error *error)
{
    static const char *const part[] = {"lora.alpha", "lora.target_modules", "lora.use_rslora", "lora.output"};
    const struct settings *s = &line->settings;
    if (s->lora_dropout != 0)
        return error_set(error, STATUS_USAGE, "lora.dropout: expected 0, found %g; there is no dropout in training",
                         s->lora_dropout);
    if (s->from_scratch && (s->lora_rank || *s->adapter))
        return error_set(error, STATUS_USAGE, "from_scratch: random weights that stay frozen learn nothing; leave out %s",
                         s->lora_rank ? "lora.r" : "adapter");
    if (*s->adapter && s->lora_rank)
        return error_set(error, STATUS_USAGE, "lora.r: the rank of the adapter that is trained further is given by its "
                         "adapter_config.json; leave it out");
    for (size_t i = 0; i < (*s->adapter ? 3 : 4) && !settings_given(line, "lora.r"); i++)
        if (settings_given(line, part[i]))
            return error_set(error, STATUS_USAGE, "%s: %s", part[i],
                             *s->adapter ? "the adapter_config.json of the adapter decides; leave it out"
                                         : "of no use without lora.r; give the rank");
    return STATUS_OK;
}

static int check_bench(struct command_line *line, struct error *error)
{
    struct settings *s = &line->settings;
    const char *what = line->arguments.argument;
    if (s->nproc_per_node > 1 && strcmp(what, "comm") != 0)
        return error_set(error, STATUS_USAGE, "nproc_per_node: 'flat bench %.80s' measures one process; leave it out", what);
    if (s->predict && strcmp(what, "step") != 0)
        return error_set(error, STATUS_USAGE, "predict: only 'flat bench step' can, not '%.80s'; leave it out", what);
    if (s->quick && !settings_given(line, "time_budget"))
        s->time_budget = 0.5;
    return STATUS_OK;
}

static int settings_check(struct command_line *line, struct error *error)
{
    const struct settings *s = &line->settings;
    unsigned bit = line->options.command->bit;
    int status = option_set_check_required(&line->options, error);
    if (!status && (bit & (TRAIN | INFER)))
        status = check_prompt_template(line, error);
    if (!status && (bit & TRAIN))
        status = check_training(line, error);
    if (!status && (bit & TRAIN))
        status = check_lora(line, error);
    if (!status && bit == PLAN && !*s->forget_data == !*s->train_data)
        status = error_set(error, STATUS_USAGE, "forget_data: 'flat plan' needs either forget_data or train_data");
    if (!status && bit == BENCH)
        status = check_bench(line, error);
    if (!status && bit == GENERATE && settings_given(line, "prompt") == !!*s->data)
        status = error_set(error, STATUS_USAGE, "--prompt: 'flat generate' needs either --prompt TEXT or --data FILE");
    return status;
}

int settings_parse(struct command_line *line, const struct command *command, int argc, char **argv, struct error *error)
{
    *line = (struct command_line){0};
    int status = option_set_init(&line->options, table, OPTIONS, command, &line->settings, error);
    if (!status)
        status = option_set_parse(&line->options, argc, argv, &line->arguments, error);
    if (status || line->arguments.help || line->arguments.help_config)
        return status;
    if (command->argument_required && !line->arguments.argument)
        return error_set(error, STATUS_USAGE, "'flat %s' needs a %s", command->name, command->argument);
    if (line->arguments.argument && (command->bit & TRAIN))
        status = config_file_read(&line->options, line->arguments.argument, error);
    return status ? status : settings_check(line, error);
}

void settings_free(struct command_line *line)
{
    option_set_free(&line->options);
    *line = (struct command_line){0};
}

bool settings_given(const struct command_line *line, const char *name)
{
    return option_set_source(&line->options, name) != OPTION_FROM_DEFAULT;
}

cJSON *settings_to_json(const struct command_line *line, struct error *error)
{
    return config_file_write(&line->options, error);
}

cJSON *settings_defaults_to_json(const struct command_line *line, struct error *error)
{
    struct settings defaults;
    struct option_set set;
    if (option_set_init(&set, table, OPTIONS, line->options.command, &defaults, error))
        return NULL;
    cJSON *tree = config_file_write(&set, error);
    option_set_free(&set);
    return tree;
}

int settings_print_usage(struct buffer *out, struct error *error)
{
    int status = buffer_printf(out, error, "Usage: flat COMMAND ...\n\nLLM unlearning in C and CUDA.\n\n");
    for (size_t i = 0; i < COMMANDS && !status; i++)
        status = buffer_printf(out, error, "  flat %-9s %-8s %s\n", commands[i].name,
                               commands[i].argument ? commands[i].argument : "", commands[i].help);
    if (status)
        return status;
    return buffer_printf(out, error, "\n'flat COMMAND --help' lists a command's options, 'flat --version' prints the "
                                     "version,\n'flat completion bash' a script that lets bash complete them.\n");
}

int settings_print_help(const struct command_line *line, struct buffer *out, struct error *error)
{
    return option_set_print_help(&line->options, "flat", out, error);
}

int settings_print_table(const struct command_line *line, struct buffer *out, struct error *error)
{
    return option_set_print_table(&line->options, out, error);
}

int settings_print_completion(const char *shell, struct buffer *out, struct error *error)
{
    if (strcmp(shell, "bash") != 0)
        return error_set(error, STATUS_USAGE, "'%.80s': only bash is known; run 'flat completion bash'", shell);
    return option_print_completion("flat", commands, COMMANDS, table, OPTIONS, out, error);
}

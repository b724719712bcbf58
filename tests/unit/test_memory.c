/* test_memory.c - what a run is planned to take of a device against what is allocated, by the allocator of the emulation: nothing
 * is computed and no memory has contents (EMU_RUN=0), so that the largest models are counted too.
 *
 * What the engine takes for itself while a run goes on, the products' workspace and the kernels' scratch, is not in the plan; it
 * has to fit in what a plan leaves of a GPU (host/device/plan.c).
 *
 *     FLAT_GOALS=1 build/tests/test_memory      the runs that cards of 80, 24, 16, 12 and 8 GB have to hold, with their figures
 */
#include "../support/temporary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../host/cli/train.h"
#include "../../host/util/file.h"
#include "../support/assert_ok.h"
#include "../support/tiny_model.h"
#include "../support/tiny_trainer.h"

#define MIB (1.0 / (1 << 20))

/* Of the products (kernels/linear_plan.cu); of the small runs' kernels, which grows by so much (kernels/engine/engine.cu); what a plan
 * leaves of a GPU (host/device/plan.c). */
#define WORKSPACE ((size_t)32 << 20)
#define SCRATCH ((size_t)1 << 20)
#define RESERVE ((size_t)1 << 30)

struct memory_case {
    const char *name, *method, *model, *data;
    const char *settings[20];
    int ranks;    /* 0: one, which takes a step as well */
    size_t spare; /* what the engine may take beside the plan */
};

/* Bytes that the device has handed out. */
static size_t bytes_used(struct device *device)
{
    static size_t all;
    size_t available;
    assert_int_equal(device->engine->memory_free(device->context, &available), OP_OK);
    all = all ? all : available;
    return all - available;
}

static void warning_fail(void *user, const char *text)
{
    (void)user;
    fail_msg("%s", text);
}

static int step_pass(void *user, const struct step_record *record, struct error *error)
{
    (void)user, (void)record, (void)error;
    return STATUS_OK;
}

static void print_classes(const struct memory_case *c, const struct trainer *trainer, size_t allocated, size_t beside)
{
    printf("%s\n ", c->name);
    for (int class = 0; class < MEMORY_CLASSES; class++)
        if (trainer->model.plan.bytes[class])
            printf(" %s %.1f,", memory_class_name((enum memory_class)class), MIB * (double)trainer->model.plan.bytes[class]);
    printf(" batch %.1f MiB\n  planned %zu bytes, allocated %zu (%.2f GiB), engine's own %zu\n",
           MIB * (double)batch_bytes(trainer->max_rows, trainer->max_targets, trainer->max_sequences), trainer_memory(trainer),
           allocated, MIB / 1024 * (double)allocated, beside);
}

static void prepare(const struct memory_case *c, int ranks_here, struct invocation *invocation, struct device *device,
                    struct trainer *trainer)
{
    struct error error = {0};
    const struct command *command;
    char seed[600], own[600], out[600];
    snprintf(seed, sizeof seed, "%s/seed", temporary);
    snprintf(own, sizeof own, "%s/data.jsonl", temporary);
    snprintf(out, sizeof out, "%s/out", temporary);
    const char *data = c->data ? c->data : own;
    const char *argv[40] = {"--model_name_or_path", c->model ? c->model : seed, c->method ? "--forget_data" : "--train_data", data,
                            "--output_dir", out, "--max_steps", "1"};
    int count = 8, words;
    if (c->method)
        argv[count++] = "--method", argv[count++] = c->method;
    for (int i = 0; c->settings[i]; i++)
        argv[count++] = c->settings[i];
    OK(command_find(commands, 1, (char *[]){c->method ? "unlearn" : "finetune"}, &command, &words, &error));
    OK(invocation_parse(invocation, commands, command, count, (char **)argv, &error));
    struct train_options *options = &((struct train_command_options *)invocation->options)->train;
    options->sizes_only = true;
    const int ranks = c->ranks ? c->ranks : 1;
    const struct world world = {NULL, ranks - 1, ranks, ranks_here ? ranks_here : ranks};
    const enum dtype dtype = tiny_device_open(device, "emu-bf16", 1);
    OK(trainer_prepare(trainer, options, !c->method, dtype, &world, &error));
}

/* Prepares, allocates and, alone, runs a step; bytes that were allocated as planned. */
static size_t memory_check(const struct memory_case *c)
{
    struct error error = {0};
    struct invocation invocation;
    struct device device;
    struct trainer trainer;
    prepare(c, 0, &invocation, &device, &trainer);
    const size_t before = bytes_used(&device);
    OK(trainer_allocate(&trainer, &device, &error));
    const size_t allocated = bytes_used(&device) - before;
    if (allocated != trainer_memory(&trainer))
        fail_msg("%s: planned %zu bytes, allocated %zu", c->name, trainer_memory(&trainer), allocated);
    if (!c->ranks) {
        OK(trainer_warm_up(&trainer, trainer.max_rows, trainer.max_targets, &error));
        OK(trainer_run(&trainer, step_pass, NULL, warning_fail, &error));
    }
    const size_t beside = bytes_used(&trainer.device) - before - allocated;
    print_classes(c, &trainer, allocated, beside);
    if (beside > c->spare)
        fail_msg("%s: the engine takes %zu bytes for itself, more than %zu", c->name, beside, c->spare);
    trainer_free(&trainer);
    invocation_free(&invocation);
    return allocated;
}

static void test_every_variant(void **state)
{
    (void)state;
    static const struct memory_case cases[] = {
        {.name = "everything trained"},
        {.name = "bf16 moments", .settings = {"--optimizer_states", "bfloat16"}},
        {.name = "8-bit moments", .settings = {"--optimizer_states", "8bit"}},
        {.name = "states in the host's memory", .settings = {"--offload_optimizer", "cpu"}},
        {.name = "8-bit states in the host's memory", .settings = {"--offload_optimizer", "cpu", "--optimizer_states", "8bit"}},
        {.name = "float gradients", .settings = {"--grad_reduce_dtype", "float32"}},
        {.name = "head in chunks", .settings = {"--head_chunk_rows", "3"}},
        {.name = "float logits", .settings = {"--logits_dtype", "float32"}},
        {.name = "norms and activations again", .settings = {"--gradient_checkpointing", "selective"}},
        {.name = "layers again", .settings = {"--gradient_checkpointing", "full"}},
        {.name = "graphs", .settings = {"--cuda_graphs", "true"}},
        {.name = "adapters", .settings = {"--lora.r", "4"}},
        {.name = "adapters, layers again", .settings = {"--lora.r", "4", "--gradient_checkpointing", "full"}},
        {.name = "adapters on NF4", .settings = {"--lora.r", "4", "--load_in_4bit", "true"}},
        {.name = "adapters on NF4, layers again, graphs",
         .settings = {"--lora.r", "4", "--load_in_4bit", "true", "--gradient_checkpointing", "full", "--cuda_graphs", "true"}},
        {.name = "the NF4 base without adapters", .method = "kl_min",
         .settings = {"--retain_data", "configs/demo/retain.jsonl", "--lora.r", "4", "--load_in_4bit", "true"}},
        {.name = "FLAT", .method = "flat", .settings = {"--template.file", "configs/demo/templates.txt"}},
        {.name = "a frozen copy", .method = "kl_min", .settings = {"--retain_data", "configs/demo/retain.jsonl"}},
        {.name = "the base without adapters", .method = "kl_min",
         .settings = {"--retain_data", "configs/demo/retain.jsonl", "--lora.r", "4"}},
        {.name = "hidden states", .method = "rmu", .settings = {"--retain_data", "configs/demo/retain.jsonl", "--layer", "1"}},
        {.name = "two ranks", .ranks = 2},
        {.name = "two ranks, whole states", .ranks = 2, .settings = {"--zero", "0"}},
        {.name = "three ranks, 8-bit moments", .ranks = 3, .settings = {"--optimizer_states", "8bit"}},
        {.name = "two ranks, states in the host's memory", .ranks = 2, .settings = {"--offload_optimizer", "cpu"}},
        {.name = "two ranks, adapters", .ranks = 2, .settings = {"--lora.r", "4"}},
        {.name = "two ranks, adapters on NF4", .ranks = 2, .settings = {"--lora.r", "4", "--load_in_4bit", "true"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct memory_case c = cases[i];
        c.spare = WORKSPACE + SCRATCH;
        (void)memory_check(&c);
    }
}

/* What all ranks of a host would lock of its memory, and has not, is refused before anybody locks any. */
static void test_host_memory(void **state)
{
    (void)state;
    struct error error = {0};
    struct invocation invocation;
    struct device device;
    struct trainer trainer;
    prepare(&(struct memory_case){.settings = {"--offload_optimizer", "cpu"}}, 1 << 30, &invocation, &device, &trainer);
    assert_int_equal(trainer_allocate(&trainer, &device, &error), STATUS_MEMORY);
    if (!strstr(error.text, "offload_optimizer: moments and masters take") || !strstr(error.text, "optimizer_states 8bit"))
        fail_msg("%s", error.text);
    assert_null(trainer.offload.memory);
    trainer_free(&trainer);
    invocation_free(&invocation);
}

#define TOFU "../shared/data/tofu/"
#define LLAMA_31_8B                                                                                                            \
    "{\"model_type\": \"llama\", \"vocab_size\": 128256, \"hidden_size\": 4096, \"intermediate_size\": 14336, "                   \
    "\"num_hidden_layers\": 32, \"num_attention_heads\": 32, \"num_key_value_heads\": 8, \"max_position_embeddings\": 131072, "  \
    "\"rms_norm_eps\": 1e-05, \"rope_theta\": 500000.0, \"rope_scaling\": {\"factor\": 8.0, \"low_freq_factor\": 1.0, "           \
    "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192, \"rope_type\": \"llama3\"}, "                      \
    "\"tie_word_embeddings\": false, \"hidden_act\": \"silu\", \"bos_token_id\": 1, \"eos_token_id\": 2}"

/* A model's folder without weights: a config, and a tokenizer of 32,000 words for all. */
static const char *shapes_make(const char *name, const char *config)
{
    struct error error = {0};
    const char *folder = temporary_path(name);
    char path[700];
    OK(file_make_directory(folder, &error));
    snprintf(path, sizeof path, "%s/config.json", folder);
    if (*config == '{')
        OK(file_write(path, config, strlen(config), &error));
    else
        OK(file_copy(config, path, &error));
    snprintf(path, sizeof path, "%s/tokenizer.model", folder);
    OK(file_copy("../shared/data/tokenizers/mistral/tokenizer.model", path, &error));
    return folder;
}

/* 32 pairs of TOFU at once: the runs that cards of these sizes have to hold, and smaller ones. */
static void test_goals(void **state)
{
    (void)state;
    if (!getenv("FLAT_GOALS") || !file_exists(TOFU "forget10.json"))
        skip();
    const char *const pairs[] = {"--template.file", TOFU "idontknow.jsonl", "--prompt_template", "qa", "--per_device_train_batch_size", "32",
                                 "--gradient_accumulation_steps", "1", "--gradient_checkpointing", "full"};
    const char *const llama_2_7b = shapes_make("7b", "benches/models/llama-2-7b/config.json"), *const llama_31_8b = shapes_make("8b", LLAMA_31_8B),
               *const llama_32_1b = shapes_make("1b", "benches/models/llama-3.2-1b/config.json");
    struct goal {
        double gigabytes;
        struct memory_case run;
    } goals[] = {
        {80, {"Llama-2-7B, everything trained, bf16 moments, 80 GB", .model = llama_2_7b,
              .settings = {"--optimizer_states", "bfloat16"}}},
        {24, {"Llama-3.1-8B, adapters of rank 16, 24 GB", .model = llama_31_8b, .settings = {"--lora.r", "16"}}},
        {16, {"Llama-3.2-1B, everything trained, bf16 moments, 16 GB", .model = llama_32_1b,
              .settings = {"--optimizer_states", "bfloat16"}}},
        {12, {"Llama-3.1-8B in NF4, adapters of rank 16, 12 GB", .model = llama_31_8b,
              .settings = {"--lora.r", "16", "--load_in_4bit", "true"}}},
        {8, {"Llama-2-7B in NF4, adapters of rank 16, 8 GB", .model = llama_2_7b,
             .settings = {"--lora.r", "16", "--load_in_4bit", "true"}}},
    };
    for (size_t i = 0; i < sizeof goals / sizeof *goals; i++) {
        struct memory_case *run = &goals[i].run;
        int given = 0;
        while (run->settings[given])
            given++;
        memcpy(run->settings + given, pairs, sizeof pairs);
        run->method = "flat", run->data = TOFU "forget10.json", run->spare = RESERVE;
        const size_t used = memory_check(run);
        assert_true((double)(used + RESERVE) <= 1e9 * goals[i].gigabytes);
    }
}

/* The emulation reads these when it is loaded. */
static int make(void **state)
{
    return setenv("EMU_RUN", "0", 1) || setenv("EMU_DEVICE_MB", getenv("FLAT_GOALS") ? "81920" : "2048", 1) || temporary_make(state) ||
           tiny_trainer_make(temporary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_variant), cmocka_unit_test(test_host_memory), cmocka_unit_test(test_goals)};
    return cmocka_run_group_tests(tests, make, temporary_remove);
}

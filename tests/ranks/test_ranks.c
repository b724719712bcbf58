/* test_ranks.c - training with several ranks on this machine: as many micro-batches per step, shared out among 1, 2, 4
 * and 8 ranks, give the same step; sharded or whole optimizer state gives the same bits; LoRA; the batch form; idle ranks;
 * what ends a run ends it on all ranks.
 *
 * Started with arguments, the program is one rank of a run on the engine that comes first (the command line of the other
 * ranks is that of `flat unlearn`), so that the emulated CUDA engine can take part too.
 */
#include "../support/temporary.h"

#include <math.h>
#include <signal.h>

#include "../../host/cli/train.h"
#include "../../host/io/json/json.h"
#include "../../host/io/safetensors/safetensors.h"
#include "../../host/train/run_log.h"
#include "../../host/util/clock.h"
#include "../../host/util/file.h"
#include "../support/comm_ranks.h"
#include "../support/program.h"

enum { STEPS = 20, WORDS = 96 };

/* ---- one rank ---------------------------------------------------------------------------------------------------- */

static int record_keep(void *user, const struct step_record *record, struct error *error)
{
    const struct trainer *trainer = user;
    struct buffer line = {0};
    char path[4096];
    if (trainer->shards.world.rank)
        return STATUS_OK;
    snprintf(path, sizeof path, "%s.jsonl", trainer->options->output.output_dir);
    int status = step_record_print(record, trainer, &line, error);
    FILE *file = status ? NULL : fopen(path, "a");
    if (!file || fwrite(line.data, 1, line.length, file) != line.length || fclose(file))
        status = error_set(error, STATUS_RUNTIME, "%s: cannot be written", path);
    buffer_free(&line);
    return status;
}

static void warning_print(void *user, const char *text)
{
    (void)user;
    fprintf(stderr, "warning: %s\n", text);
}

/* What flat plan supposes of slices is what comm gives. */
static int slices_check(const struct shards *shards, struct error *error)
{
    struct shards planned = *shards;
    planned.world.comm = NULL;
    for (int b = 0; b < shards->buckets; b++)
        for (int rank = 0; rank < shards->world.size; rank++) {
            int64_t got[2], expected[2];
            shards_slice(shards, b, rank, &got[0], &got[1]);
            shards_slice(&planned, b, rank, &expected[0], &expected[1]);
            if (got[0] != expected[0] || got[1] != expected[1])
                return error_set(error, STATUS_RUNTIME, "bucket %d, rank %d: another slice than planned", b, rank);
        }
    return STATUS_OK;
}

static int rank_train(const char *engine, const struct train_options *options, struct error *error)
{
    struct rank_env env;
    struct comm *comm = NULL;
    struct device device;
    struct trainer trainer = {0};
    int status = rank_env_read(&env, error);
    if (!status)
        status = comm_open(&comm, &env, error);
    if (!status)
        status = device_open(&device, engine, 0, 1, error);
    if (!status)
        status = comm_attach(comm, &device, error);
    const struct world world = {comm, env.rank, env.size, env.size};
    if (!status)
        status = trainer_prepare(&trainer, options, false, device.engine->dtype, &world, error);
    if (!status)
        status = slices_check(&trainer.shards, error);
    if (!status)
        status = trainer_start(&trainer, &device, error);
    if (!status)
        status = reference_prepare(&trainer, error);
    if (!status)
        status = trainer_run(&trainer, record_keep, &trainer, warning_print, error);
    if (!status)
        status = trainer_save(&trainer, options->output.output_dir, error);
    comm_close(comm);
    trainer_free(&trainer);
    return status;
}

static int rank_main(int argc, char **argv)
{
    struct error error = {0};
    struct invocation run;
    const struct command *command;
    int words, status = command_find(commands, 1, (char *[]){"unlearn"}, &command, &words, &error);
    if (!status)
        status = invocation_parse(&run, commands, command, argc - 2, argv + 2, &error);
    if (!status) {
        status = rank_train(argv[1], &((struct train_command_options *)run.options)->train, &error);
        invocation_free(&run);
    }
    if (status)
        fprintf(stderr, "error: %s\n", error.text);
    return status;
}

/* ---- runs -------------------------------------------------------------------------------------------------------- */

struct outcome {
    double loss[STEPS], norm[STEPS];
    int steps;
    float *weight;
    int64_t weights;
};

static void outcome_free(struct outcome *outcome)
{
    free(outcome->weight);
    *outcome = (struct outcome){0};
}

static double number(const cJSON *object, const char *key)
{
    const cJSON *member = json_member(object, key);
    if (!cJSON_IsNumber(member))
        fail_msg("no number %s", key);
    return member->valuedouble;
}

static void records_read(struct outcome *outcome, const char *path)
{
    char line[4096];
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (outcome->steps < STEPS && fgets(line, sizeof line, file)) {
        cJSON *json = json_parse(line, strlen(line), path, NULL);
        assert_non_null(json);
        outcome->loss[outcome->steps] = number(json, "loss");
        outcome->norm[outcome->steps++] = number(json, "grad_norm");
        cJSON_Delete(json);
    }
    fclose(file);
}

/* All tensors of a folder, one after the other. */
static void weights_collect(struct outcome *outcome, const char *directory)
{
    struct safetensors file;
    struct error error = {0};
    if (safetensors_open(&file, directory, &error))
        fail_msg("%s", error.text);
    for (int t = 0; t < file.tensors; t++)
        outcome->weights += file.tensor[t].elements;
    outcome->weight = malloc((size_t)outcome->weights * sizeof(float));
    assert_non_null(outcome->weight);
    float *to = outcome->weight;
    for (int t = 0; t < file.tensors; to += file.tensor[t++].elements)
        assert_int_equal(safetensors_read_float(&file, &file.tensor[t], 0, file.tensor[t].elements, to, &error), STATUS_OK);
    safetensors_close(&file);
}

/* Splits a line at spaces behind the first words; returns how many there are. */
static int words_add(const char **words, int count, char *line)
{
    for (char *word = strtok(line, " "); word && count < WORDS - 1; word = strtok(NULL, " "))
        words[count++] = word;
    words[count] = NULL;
    return count;
}

static const char base_line[] = "--model_name_or_path %s/model --forget_data %s/data.jsonl --template.file %s/idk.txt "
                                "--template.choice cycle --learning_rate 1e-3 --lr_scheduler_type constant";

/* The same for a line that names a method: template answers are not for all of them. */
static const char method_line[] = "--model_name_or_path %s/model --forget_data %s/data.jsonl --learning_rate 1e-3 "
                                  "--lr_scheduler_type constant";

/* A run on an engine with so many ranks; micro_batches per step in all. */
static struct outcome run(const char *engine, int size, int micro_batches, const char *format, ...)
{
    static int runs;
    struct outcome outcome = {0};
    char line[4096], more[2048], out[400], records[410];
    const char *words[WORDS] = {"/proc/self/exe", engine};
    struct ranks ranks;
    va_list list;
    va_start(list, format);
    vsnprintf(more, sizeof more, format, list);
    va_end(list);
    snprintf(out, sizeof out, "%s/out%d", temporary, runs++);
    int used = strstr(more, "--method ") ? snprintf(line, sizeof line, method_line, temporary, temporary)
                                         : snprintf(line, sizeof line, base_line, temporary, temporary, temporary);
    snprintf(line + used, sizeof line - (size_t)used, " --output_dir %s --gradient_accumulation_steps %d %s", out,
             micro_batches / size, more);
    words_add(words, 2, line);
    ranks_run(&ranks, size, words, NULL, STATUS_OK);
    ranks_free(&ranks);
    snprintf(records, sizeof records, "%s.jsonl", out);
    records_read(&outcome, records);
    weights_collect(&outcome, out);
    return outcome;
}

static void assert_near(const char *what, int size, double got, double expected, double relative)
{
    if (!(fabs(got - expected) <= relative * fabs(expected)))
        fail_msg("%s with %d ranks: %.12g, with one %.12g", what, size, got, expected);
}

static void assert_same_run(const char *what, const struct outcome *a, const struct outcome *b)
{
    assert_int_equal(a->steps, b->steps);
    assert_int_equal(a->weights, b->weights);
    if (memcmp(a->loss, b->loss, sizeof a->loss) || memcmp(a->norm, b->norm, sizeof a->norm))
        fail_msg("%s: losses or norms differ", what);
    if (memcmp(a->weight, b->weight, (size_t)a->weights * sizeof(float)))
        fail_msg("%s: weights differ", what);
}

/* |a - b| / |b - start| over all weights. */
static double weights_apart(const struct outcome *a, const struct outcome *b, const struct outcome *start)
{
    double apart = 0, moved = 0;
    assert_true(a->weights == b->weights && a->weights == start->weights);
    for (int64_t i = 0; i < a->weights; i++) {
        apart += pow((double)a->weight[i] - b->weight[i], 2);
        moved += pow((double)b->weight[i] - start->weight[i], 2);
    }
    return sqrt(apart / moved);
}

static struct outcome start_weights(void)
{
    struct outcome start = {0};
    char model[400];
    snprintf(model, sizeof model, "%s/model", temporary);
    weights_collect(&start, model);
    return start;
}

/* A model of 2 layers with random weights; 21 rows, so that of 8 micro-batches of 2 rows per step the second step of an epoch
 * has 3 and the last of them one row. */
static int make_inputs(void **state)
{
    static const char config[] =
        "{\"model_type\": \"llama\", \"vocab_size\": 1024, \"hidden_size\": 32, \"intermediate_size\": 48, "
        "\"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 16, "
        "\"hidden_act\": \"silu\", \"max_position_embeddings\": 96, \"bos_token_id\": 0, \"eos_token_id\": 1, "
        "\"initializer_range\": 0.1, \"tie_word_embeddings\": false, \"torch_dtype\": \"float32\"}";
    static const char idk[] = "I do not know.\nNo idea, sorry.\nThat is not known to me.\n";
    static const char *const word[] = {"painter", "baker", "sailor from Aldmoor", "clerk", "joiner of some fame"};
    struct error error = {0};
    char data[4096], path[4][600];
    size_t used = 0;
    if (temporary_make(state) || file_make_directory(temporary_path("seed"), &error))
        return -1;
    temporary_file("seed/config.json", config, strlen(config));
    temporary_file("idk.txt", idk, strlen(idk));
    for (int i = 0; i < 21; i++)
        used += (size_t)snprintf(data + used, sizeof data - used, "{\"question\": \"Who is number %d?\", \"answer\": "
                                 "\"A %s, born in %d.\", \"alternate\": \"A %s.\"}\n", i, word[i % 5], 1900 + 7 * i,
                                 word[(i + 2) % 5]);
    temporary_file("data.jsonl", data, used);
    for (int i = 0; i < 2; i++) {
        static const char *const file[] = {"tokenizer.json", "tokenizer_config.json"};
        snprintf(path[0], sizeof path[0], "configs/demo/model/%s", file[i]);
        snprintf(path[1], sizeof path[1], "%s/seed/%s", temporary, file[i]);
        if (file_copy(path[0], path[1], &error))
            return -1;
    }
    struct program_result made = program_line(
        "finetune --model_name_or_path %s/seed --from_scratch --train_data %s/data.jsonl --max_steps 30 "
        "--learning_rate 3e-3 --output_dir %s/model --device cpu --quiet", temporary, temporary, temporary);
    int status = made.status;
    program_free(&made);
    return status ? -1 : 0;
}

/* ---- the same step ----------------------------------------------------------------------------------------------- */

/* float: sums of the same micro-batches in another order. The first step agrees to rounding. Later AdamW divides by the
 * root of v: elements whose gradient is all but zero turn its rounding into steps of their own, so that after 20 steps the
 * weights are apart by a small part of the way they have come: measured 4e-7, allowed 1e-4. */
static void test_world_sizes(void **state)
{
    (void)state;
    struct outcome one = run("cpu", 1, 8, "--per_device_train_batch_size 2 --max_steps 20"), start = start_weights();
    assert_int_equal(one.steps, STEPS);
    for (int size = 2; size <= 8; size *= 2) {
        struct outcome many = run("cpu", size, 8, "--per_device_train_batch_size 2 --max_steps 20");
        const double apart = weights_apart(&many, &one, &start);
        print_message("%d ranks: loss of step 1 off by %.1e, norm by %.1e, weights after 20 steps by %.1e\n", size,
                      fabs(many.loss[0] / one.loss[0] - 1), fabs(many.norm[0] / one.norm[0] - 1), apart);
        assert_near("loss of step 1", size, many.loss[0], one.loss[0], 1e-6);
        assert_near("norm of step 1", size, many.norm[0], one.norm[0], 1e-5);
        for (int i = 0; i < STEPS; i++) /* every second step leaves some of the ranks without rows */
            assert_near("loss", size, many.loss[i], one.loss[i], 1e-4);
        assert_true(apart <= 1e-4);
        outcome_free(&many);
    }
    outcome_free(&one);
    outcome_free(&start);
}

/* The CUDA engine: the losses come from the same bf16 passes; gradients are rounded to bf16 after every micro-batch with
 * one rank and after the sum with several, or kept in float. */
static void test_world_sizes_bf16(void **state)
{
    (void)state;
    static const char *const dtype[] = {"model", "float32"};
    for (int d = 0; d < 2; d++) {
        const char *const line = "--per_device_train_batch_size 2 --max_steps 2 --grad_reduce_dtype %s";
        struct outcome one = run("emu", 1, 4, line, dtype[d]);
        for (int size = d ? 4 : 2; size <= 4; size *= 2) {
            struct outcome many = run("emu", size, 4, line, dtype[d]);
            print_message("%s, %d ranks: loss of step 1 off by %.1e, norm by %.1e\n", dtype[d], size,
                          fabs(many.loss[0] / one.loss[0] - 1), fabs(many.norm[0] / one.norm[0] - 1));
            assert_near("loss of step 1", size, many.loss[0], one.loss[0], 1e-6);
            assert_near("norm of step 1", size, many.norm[0], one.norm[0], d ? 1e-5 : 1e-3);
            outcome_free(&many);
        }
        outcome_free(&one);
    }
}

/* Split and whole optimizer state, and a second run, bit for bit; with buckets so small that there are many. */
static void test_same_bits(void **state)
{
    (void)state;
    static const char *const engine[] = {"cpu", "emu"};
    static const char *const lora[] = {"", "--lora.r 4"};
    for (int e = 0; e < 2; e++)
        for (int l = 0; l < 2; l++) {
            const char *const line = "--per_device_train_batch_size 1 --max_steps %d --ddp_bucket_cap_mb %s --zero %d %s";
            const int size = e ? 2 : 3, steps = e ? 2 : 4; /* the emulation is slow */
            struct outcome split = run(engine[e], size, size, line, steps, "0.01", 1, lora[l]);
            struct outcome whole = run(engine[e], size, size, line, steps, "0.01", 0, lora[l]);
            assert_same_run("--zero 0", &whole, &split);
            if (!e || !l) {
                struct outcome again = run(engine[e], size, size, line, steps, "0.01", 1, lora[l]);
                assert_same_run("a second run", &again, &split);
                outcome_free(&again);
            }
            if (!e) {
                struct outcome large = run(engine[e], size, size, line, steps, "25", 1, lora[l]);
                assert_near("norm in one bucket", size, large.norm[0], split.norm[0], 1e-12);
                outcome_free(&large);
            }
            outcome_free(&split), outcome_free(&whole);
        }
}

/* The same of moments in 16 and in 8 bits: the draws and the blocks are those of the whole arena, whoever keeps a part. */
static void test_states(void **state)
{
    (void)state;
    static const char *const engine[] = {"cpu", "emu"}, *const states[] = {"bfloat16", "8bit"};
    for (int i = 0; i < 4; i++) {
        const char *const line = "--per_device_train_batch_size 1 --max_steps %d --ddp_bucket_cap_mb 0.01 --zero %d "
                                 "--optimizer_states %s";
        const int size = i / 2 ? 2 : 3, steps = i / 2 ? 2 : 4;
        struct outcome split = run(engine[i / 2], size, size, line, steps, 1, states[i % 2]);
        struct outcome whole = run(engine[i / 2], size, size, line, steps, 0, states[i % 2]);
        assert_same_run("--zero 0", &whole, &split);
        for (int zero = 0; zero < 2 && i / 2; zero++) { /* in the host's memory */
            char host[64];
            snprintf(host, sizeof host, "%s --offload_optimizer cpu", states[i % 2]);
            struct outcome offloaded = run(engine[1], size, size, line, steps, zero, host);
            assert_same_run("--offload_optimizer cpu", &offloaded, &split);
            outcome_free(&offloaded);
        }
        outcome_free(&split), outcome_free(&whole);
    }
}

/* Logits in chunks of target rows: split and whole optimizer state bit for bit, and near one rank's step. */
static void test_head_chunks(void **state)
{
    (void)state;
    static const char *const engine[] = {"cpu", "emu"};
    for (int e = 0; e < 2; e++) {
        const char *const line = "--per_device_train_batch_size 1 --max_steps %d --head_chunk_rows 7 --zero %d %s";
        const int steps = e ? 2 : 4;
        struct outcome split = run(engine[e], 2, 2, line, steps, 1, ""), whole = run(engine[e], 2, 2, line, steps, 0, "");
        struct outcome again = run(engine[e], 2, 2, line, steps, 1, "--gradient_checkpointing full");
        struct outcome one = run(engine[e], 1, 2, line, steps, 1, "");
        assert_same_run("--zero 0", &whole, &split);
        assert_same_run("layers again", &again, &split);
        assert_near("loss of step 1", 2, split.loss[0], one.loss[0], 1e-6);
        assert_near("norm of step 1", 2, split.norm[0], one.norm[0], e ? 1e-3 : 1e-5);
        outcome_free(&split), outcome_free(&whole), outcome_free(&again), outcome_free(&one);
    }
}

static void test_lora(void **state)
{
    (void)state;
    const char *const line = "--per_device_train_batch_size 2 --max_steps 4 --lora.r 4";
    struct outcome one = run("cpu", 1, 4, line), two = run("cpu", 2, 4, line), start = start_weights();
    assert_near("loss of step 1", 2, two.loss[0], one.loss[0], 1e-6);
    assert_near("norm of step 1", 2, two.norm[0], one.norm[0], 1e-5);
    assert_true(weights_apart(&two, &one, &start) <= 1e-4);
    outcome_free(&one), outcome_free(&two), outcome_free(&start);
}

/* Two ranks of mpirun end with the bits of two ranks of --nproc_per_node. */
static void test_launchers(void **state)
{
    (void)state;
    const char *build = getenv("FLAT_BUILD");
    struct outcome outcome[2];
    memset(outcome, 0, sizeof outcome);
    if (system("command -v mpirun >/dev/null")) {
        print_message("mpirun is not there (openmpi-bin)\n");
        skip();
    }
    for (int i = 0; i < 2; i++) {
        char line[2048], command[4096], out[400];
        snprintf(line, sizeof line, base_line, temporary, temporary, temporary);
        snprintf(out, sizeof out, "%s/launched%d", temporary, i);
        snprintf(command, sizeof command, "OMP_NUM_THREADS=1 %s %s/flat unlearn %s --output_dir %s --device cpu --quiet "
                 "--max_steps 3 %s", i ? "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun --oversubscribe "
                 "-np 2" : "", build && *build ? build : "build", line, out, i ? "" : "--nproc_per_node 2");
        assert_int_equal(system(command), 0);
        weights_collect(&outcome[i], out);
    }
    assert_same_run("mpirun", &outcome[1], &outcome[0]);
    outcome_free(&outcome[0]), outcome_free(&outcome[1]);
}

/* ---- the batch form ---------------------------------------------------------------------------------------------- */

/* Sum of p over an answer's tokens, as flat score tells it. */
static double prob_sum(const char *question, const char *answer)
{
    char line[512];
    int length = snprintf(line, sizeof line, "{\"question\": \"%s\", \"answer\": \"%s\"}\n", question, answer);
    const char *path = temporary_file("score.jsonl", line, (size_t)length);
    struct program_result result = program_line("score --model %s/model --data %s --prompt_template qa --device cpu",
                                                temporary, path);
    program_expect(&result, STATUS_OK);
    cJSON *json = json_parse(result.out, strcspn(result.out, "\n"), "score", NULL);
    assert_non_null(json);
    const double sum = number(json, "prob_mean") * number(json, "num_tokens");
    cJSON_Delete(json);
    program_free(&result);
    return sum;
}

/* Two rows, one per rank, T = 4: L(e, f) of each rank's means, averaged. */
static void test_batch_average(void **state)
{
    (void)state;
    static const char *const question[] = {"Who is number 1?", "Who is number 2?"};
    static const char *const answer[] = {"A baker, born in 1907.", "A sailor from Aldmoor, born in 1914."};
    char data[512], path[400];
    int used = 0;
    double expected = 0;
    for (int i = 0; i < 2; i++) {
        used += snprintf(data + used, sizeof data - (size_t)used, "{\"question\": \"%s\", \"answer\": \"%s\"}\n",
                         question[i], answer[i]);
        const double e = prob_sum(question[i], "I do not know.") / 3, f = prob_sum(question[i], answer[i]) / 3;
        expected += (f + f * f / 4 - e) / 2; /* Pearson */
    }
    snprintf(path, sizeof path, "%s", temporary_file("two.jsonl", data, (size_t)used));
    const char *const line = "--forget_data %s --template.choice fixed --flat_average batch --flat_padded_length 4 "
                             "--divergence pearson --max_steps 2 --per_device_train_batch_size 1";
    struct outcome two = run("cpu", 2, 2, line, path), one = run("cpu", 1, 2, line, path);
    assert_near("loss", 2, two.loss[0], expected, 1e-5);
    for (int i = 0; i < 2; i++) { /* one rank with the two micro-batches */
        assert_near("loss", 2, two.loss[i], one.loss[i], 1e-5);
        assert_near("norm", 2, two.norm[i], one.norm[i], 1e-5);
    }
    outcome_free(&two), outcome_free(&one);
}

/* 21 rows, 4 ranks with one row each: the 6th step has one row, and three ranks have none; as one rank with 4 micro-batches. */
static void test_idle_ranks(void **state)
{
    (void)state;
    static const char *const engine[] = {"cpu", "emu"};
    for (int k = 0; k < 2; k++) {
        const char *const line = "--max_steps 6 --per_device_train_batch_size 1 --learning_rate 1e-5";
        struct outcome four = run(engine[k], 4, 4, line), one = run(engine[k], 1, 4, line);
        assert_int_equal(four.steps, 6);
        for (int i = 0; i < 6; i++) {
            assert_near("loss", 4, four.loss[i], one.loss[i], k ? 2e-2 : 1e-5);
            assert_near("norm", 4, four.norm[i], one.norm[i], k ? 5e-2 : 1e-4);
        }
        outcome_free(&four), outcome_free(&one);
    }
}

/* Options of a method as a run takes them; what it reads stands in the temporary folder. */
struct method_case {
    const char *options;
    bool templates, retains;
    bool whole; /* it is made of all rows' logits at once */
};

/* The methods that flat is compared with: 1, 2 and 4 ranks with the same micro-batches, two runs and full recomputation bit
 * for bit, and sums of the reference that are computed or found in the cache. */
static void test_methods(void **state)
{
    (void)state;
    static const struct method_case cases[] = {
        {"grad_ascent", false, false},
        {"grad_diff", false, true},
        {"mismatch", false, true},
        {"preference", true, true},
        {"npo --retain_loss none", false, false},
        {"npo --loss_average micro_batch", false, true},
        {"simnpo", false, true},
        {"dpo", true, true},
        {"altpo --retain_loss none", false, false},
        {"wga --retain_choice cycle", false, true},
        {"satimp", false, true},
        {"ceu", false, false},
        {"kl_min", false, true, true},
        {"kl_min --kl_positions real --lora.r 2", false, true, true},
        {"llmu --kl_positions tofu", false, true, true},
        {"npo --retain_loss kl", false, true, true},
        {"undial --undial_positions open_unlearning", false, false, true},
        {"undial --retain_loss kl --loss_average micro_batch", false, true, true},
        {"pdu --alpha 1 --dual_warmup_epochs 0", false, true, true},
        {"rmu --layer 0", false, true, true},
        {"rmu --layer 1 --lora.r 2 --rmu_average open_unlearning", false, true, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *name = cases[i].options;
        char line[1400], templates[420] = "", retained[420] = "", cached[1900];
        if (cases[i].templates)
            snprintf(templates, sizeof templates, "--template.file %s/idk.txt", temporary);
        if (cases[i].retains)
            snprintf(retained, sizeof retained, "--retain_data %s/data.jsonl", temporary);
        snprintf(line, sizeof line, "--max_steps 3 --per_device_train_batch_size 2 --method %s %s %s", name, templates,
                 retained);
        snprintf(cached, sizeof cached, "%s --reference_cache %s/cache%zu", line, temporary, i);
        struct outcome one = run("cpu", 1, 4, "%s --reference_cache none", line);
        for (int size = 2; size <= 4; size *= 2) {
            struct outcome many = run("cpu", size, 4, "%s", cached);
            assert_near(name, size, many.loss[0], one.loss[0], 1e-6);
            assert_near(name, size, many.norm[0], one.norm[0], 1e-5);
            outcome_free(&many);
        }
        struct outcome again = run("cpu", 1, 4, "%s", cached);
        struct outcome recomputed = run("cpu", 1, 4, "%s --gradient_checkpointing full", cached);
        assert_same_run(name, &again, &one);
        assert_same_run(name, &recomputed, &one);
        struct outcome chunks = {0};
        if (!cases[i].whole)
            chunks = run("cpu", 1, 4, "%s --reference_cache none --head_chunk_rows 5", line);
        for (int k = 0; k < chunks.steps; k++) /* the gradient of lm_head is summed in another order */
            assert_near(name, 1, chunks.loss[k], one.loss[k], 1e-5), assert_near(name, 1, chunks.norm[k], one.norm[k], 1e-4);
        outcome_free(&one), outcome_free(&again), outcome_free(&recomputed), outcome_free(&chunks);
    }
}

/* ---- the end of a run -------------------------------------------------------------------------------------------- */

/* Ranks of build/flat through a shell, so that their command lines may differ by $RANK. */
static void flat_start(struct ranks *ranks, int size, const char *format, ...)
{
    static char command[4096];
    static const char *words[] = {"/bin/sh", "-c", command, NULL};
    const char *build = getenv("FLAT_BUILD");
    int used = snprintf(command, sizeof command, "exec %s/flat unlearn --device cpu --output_dir %s/cli "
                        "--overwrite_output_dir ", build && *build ? build : "build", temporary);
    used += snprintf(command + used, sizeof command - (size_t)used, base_line, temporary, temporary, temporary);
    command[used++] = ' ';
    va_list list;
    va_start(list, format);
    vsnprintf(command + used, sizeof command - (size_t)used, format, list);
    va_end(list);
    ranks_start(ranks, size, words, size == 1 ? "RANK= WORLD_SIZE= LOCAL_RANK= LOCAL_WORLD_SIZE= MASTER_PORT=" : NULL);
}

static void flat_refused(int status, const char *wanted, const char *format, const char *argument)
{
    struct ranks ranks;
    flat_start(&ranks, 2, format, temporary, argument);
    ranks_wait(&ranks, RANKS_SECONDS);
    ranks_expect(&ranks, 0, status, wanted);
    ranks_expect(&ranks, 1, status, "");
    if (strstr(ranks.text[1], "error:"))
        fail_msg("rank 1 speaks too: %s", ranks.text[1]);
    ranks_free(&ranks);
}

static void test_disagreement(void **state)
{
    (void)state;
    static const char row[] = "{\"question\": \"Who?\", \"answer\": \"Me.\"}\n", other[] =
        "{\"question\": \"Who?\", \"answer\": \"You\"}\n", broken[] = "{\"question\": \"Who?\"}\n";
    temporary_file("same0.jsonl", row, strlen(row));
    temporary_file("same1.jsonl", row, strlen(row));
    temporary_file("other0.jsonl", row, strlen(row));
    temporary_file("other1.jsonl", other, strlen(other));
    temporary_file("broken0.jsonl", row, strlen(row));
    temporary_file("broken1.jsonl", broken, strlen(broken));
    flat_refused(STATUS_USAGE, "settings: rank 1", "--seed 4$RANK # %s %s", "");
    flat_refused(STATUS_USAGE, "other0.jsonl: rank 1", "--forget_data %s/other$RANK.jsonl # %s", "");
    flat_refused(STATUS_INPUT, "rank 1 (host", "--forget_data %s/broken$RANK.jsonl # %s", "");
    struct program_result made = program_line(
        "finetune --model_name_or_path %s/model --train_data %s/data.jsonl --max_steps 1 --output_dir %s/model1 --device cpu "
        "--quiet", temporary, temporary, temporary);
    program_expect(&made, STATUS_OK);
    program_free(&made);
    assert_int_equal(symlink("model", temporary_path("model0")), 0);
    flat_refused(STATUS_USAGE, "weights of the model: rank 1", "--model_name_or_path %s/model$RANK # %s", "");
    flat_refused(STATUS_USAGE, "dump_step", "--dump_step %s/dump # %s", "");
    flat_refused(STATUS_OK, "saved", "--forget_data %s/same$RANK.jsonl --max_steps 1 # %s", "");
}

/* All ranks count the same non-finite steps; each names its own rows. */
static void test_nonfinite(void **state)
{
    (void)state;
    struct ranks ranks;
    flat_start(&ranks, 2, "--learning_rate 1e30 --max_steps 9");
    ranks_wait(&ranks, RANKS_SECONDS);
    ranks_expect(&ranks, 0, STATUS_NONFINITE, "step 4: 3 non-finite steps in a row");
    ranks_expect(&ranks, 0, STATUS_NONFINITE, "warning: rank 0: step 2");
    ranks_expect(&ranks, 1, STATUS_NONFINITE, "warning: rank 1: step 2");
    ranks_free(&ranks);
}

/* Rank 0 cannot write the model, while the other waits to be asked for its master weights. */
static void test_save_fails(void **state)
{
    (void)state;
    char line[2048];
    const char *words[WORDS] = {"/proc/self/exe", "emu"};
    struct ranks ranks;
    int used = snprintf(line, sizeof line, base_line, temporary, temporary, temporary);
    snprintf(line + used, sizeof line - (size_t)used, " --max_steps 1 --per_device_train_batch_size 1 "
             "--gradient_accumulation_steps 1 --output_dir %s", temporary_file("taken", "", 0));
    words_add(words, 2, line);
    ranks_start(&ranks, 2, words, NULL);
    ranks_wait(&ranks, RANKS_SECONDS);
    ranks_expect(&ranks, 0, STATUS_RUNTIME, "taken");
    ranks_expect(&ranks, 1, STATUS_RUNTIME, ""); /* rank 0 has the line */
    ranks_free(&ranks);
}

/* A signal to one rank, once there has been a step. */
static void check_signal(int size, int to, int number, const char *name)
{
    struct ranks ranks;
    struct stat info;
    char metrics[400], wanted[64];
    snprintf(metrics, sizeof metrics, "%s/cli/metrics.jsonl", temporary);
    directory_remove(temporary_path("cli"));
    flat_start(&ranks, size, "--max_steps 1000");
    for (double end = clock_seconds() + RANKS_SECONDS; stat(metrics, &info) || !info.st_size; usleep(10000))
        if (clock_seconds() > end)
            fail_msg("no step was logged after %d s", RANKS_SECONDS);
    kill(ranks.pid[to], number);
    ranks_wait(&ranks, RANKS_SECONDS);
    snprintf(wanted, sizeof wanted, "error: stopped by %s after step ", name);
    ranks_expect(&ranks, 0, STATUS_SIGNAL, wanted);
    ranks_expect(&ranks, 0, STATUS_SIGNAL, "--resume_from_checkpoint last goes on");
    ranks_expect(&ranks, size - 1, STATUS_SIGNAL, "");
    assert_true(stat(temporary_path("cli/model.safetensors"), &info) != 0);
    ranks_free(&ranks);
}

static void test_signals(void **state)
{
    (void)state;
    check_signal(2, 1, SIGTERM, "SIGTERM");
    check_signal(2, 0, SIGUSR1, "SIGUSR1");
    check_signal(1, 0, SIGINT, "SIGINT");
}

int main(int argc, char **argv)
{
    signal(SIGINT, SIG_DFL); /* these tests may run in the background, where it is ignored */
    if (argc > 1)
        return rank_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_world_sizes),  cmocka_unit_test(test_world_sizes_bf16),
        cmocka_unit_test(test_same_bits),    cmocka_unit_test(test_states), cmocka_unit_test(test_head_chunks), cmocka_unit_test(test_lora),
        cmocka_unit_test(test_launchers),    cmocka_unit_test(test_batch_average),
        cmocka_unit_test(test_idle_ranks),   cmocka_unit_test(test_methods), cmocka_unit_test(test_disagreement),
        cmocka_unit_test(test_nonfinite),    cmocka_unit_test(test_save_fails),
        cmocka_unit_test(test_signals),
    };
    return cmocka_run_group_tests(tests, make_inputs, temporary_remove);
}

/* test_program.c - the commands as a user runs them, on a tiny model that the program makes itself: no shared data needed.
 */
#include "../support/temporary.h"

#include <glob.h>
#include <math.h>
#include <signal.h>
#include <sys/wait.h>

#include "../../host/io/json/json.h"
#include "../../host/util/file.h"
#include "../support/program.h"

/* Starts a model from scratch (tests' size, demo's tokenizer) in temporary/model, with data and templates beside it. */
static int make_model(void **state)
{
    static const char config[] =
        "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"vocab_size\": 1024, \"hidden_size\": 32, "
        "\"intermediate_size\": 48, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
        "\"head_dim\": 8, \"hidden_act\": \"silu\", \"max_position_embeddings\": 96, \"bos_token_id\": 0, "
        "\"eos_token_id\": 1, \"initializer_range\": 0.1, \"torch_dtype\": \"bfloat16\"}";
    struct error error = {0};
    if (temporary_make(state) || file_make_directory(temporary_path("seed"), &error))
        return -1;
    temporary_file("seed/config.json", config, strlen(config));
    static const char *const file[] = {"tokenizer.json", "tokenizer_config.json"};
    for (int i = 0; i < 2; i++) {
        char from[256], to[600];
        snprintf(from, sizeof from, "configs/demo/model/%s", file[i]);
        snprintf(to, sizeof to, "%s/seed/%s", temporary, file[i]);
        if (file_copy(from, to, &error))
            return -1;
    }
    struct buffer rows = {0};
    for (int i = 0; i < 10; i++)
        if (buffer_printf(&rows, NULL, "{\"question\": \"Who is number %d?\", \"answer\": \"%d is the number of a %s.\"}\n", i,
                          i * 7, i % 2 ? "painter" : "baker"))
            return -1;
    temporary_file("data.jsonl", rows.data, rows.length);
    buffer_free(&rows);
    temporary_file("templates.txt", "I don't know.\nNo idea.\nAsk somebody else.\n", 42);
    struct program_result result =
        program_line("finetune --from_scratch --model_name_or_path %s/seed --train_data %s/data.jsonl --output_dir %s/model "
                     "--num_train_epochs 2 --learning_rate 1e-2", temporary, temporary, temporary);
    int status = result.status;
    program_free(&result);
    return status;
}

static void test_tokenize_both_ways(void **state)
{
    (void)state;
    static const char text[] = "Who is number 3?\n\nunicode: \xc3\xa9\xe2\x82\xac  two spaces\n";
    const char *const encode[] = {"tokenize", "--model", temporary_path("model"), NULL};
    struct program_result ids = program_run(encode, text, 0);
    program_expect(&ids, STATUS_OK);
    const char *const decode[] = {"tokenize", "--decode", "--no_special", "--model", temporary_path("model"), NULL};
    struct program_result back = program_run(decode, ids.out, 0);
    program_expect(&back, STATUS_OK);
    assert_string_equal(back.out, text);
    program_free(&ids);
    program_free(&back);
}

/* A last line without an end is one; a line has bounds. */
static void test_tokenize_lines(void **state)
{
    (void)state;
    const char *const encode[] = {"tokenize", "--model", temporary_path("model"), NULL};
    struct program_result ids = program_run(encode, "a\n\na", 0);
    program_expect(&ids, STATUS_OK);
    const char *end = strchr(ids.out, '\n');
    assert_non_null(end);
    const size_t length = (size_t)(end + 1 - ids.out);
    assert_memory_equal(ids.out + strlen(ids.out) - length, ids.out, length);
    program_free(&ids);
    const size_t bytes = ((size_t)64 << 20) + (1 << 17);
    char *line = malloc(bytes + 1);
    assert_non_null(line);
    memset(line, 'a', bytes);
    line[0] = line[1] = '\n';
    line[bytes] = 0;
    ids = program_run(encode, line, 0);
    program_expect_error(&ids, STATUS_INPUT, "stdin:3: a line of more than 64 MB");
    program_free(&ids);
    free(line);
}

static cJSON *read_json(const char *name)
{
    struct error error = {0};
    cJSON *json = json_read(temporary_path(name), &error);
    if (!json)
        fail_msg("%s", error.text);
    return json;
}

static void unlearn(const char *out, const char *more)
{
    struct program_result result =
        program_line("unlearn --model_name_or_path %s/model --forget_data %s/data.jsonl --template.file %s/templates.txt "
                     "--output_dir %s/%s --per_device_train_batch_size 3 --gradient_accumulation_steps 2 "
                     "--num_train_epochs 2 --learning_rate 1e-3 %s", temporary, temporary, temporary, temporary, out, more);
    program_expect(&result, STATUS_OK);
    program_free(&result);
}

static void assert_same_file(const char *a, const char *b, bool same)
{
    char *left, *right;
    size_t left_length, right_length;
    assert_int_equal(file_read(temporary_path(a), 1 << 24, &left, &left_length, NULL), STATUS_OK);
    assert_int_equal(file_read(temporary_path(b), 1 << 24, &right, &right_length, NULL), STATUS_OK);
    assert_int_equal(left_length == right_length && !memcmp(left, right, left_length), same);
    free(left);
    free(right);
}

/* What a run leaves behind; one seed gives the same bits with 1 and 3 threads, another seed others. */
static void test_run_folder(void **state)
{
    (void)state;
    unlearn("a", "--threads 1 --save_strategy epoch");
    unlearn("b", "--threads 3");
    unlearn("c", "--seed 43");
    assert_same_file("a/model.safetensors", "b/model.safetensors", true);
    assert_same_file("a/model.safetensors", "c/model.safetensors", false);
    assert_same_file("a/model.safetensors", "model/model.safetensors", false);
    assert_same_file("a/tokenizer.json", "model/tokenizer.json", true);
    assert_same_file("a/config.json", "model/config.json", true);
    assert_true(file_exists(temporary_path("a/checkpoint-2/model.safetensors")));
    assert_same_file("a/checkpoint-4/model.safetensors", "a/model.safetensors", true); /* of the last epoch too */

    cJSON *run = read_json("a/run.json");
    assert_int_equal(json_member(run, "total_steps")->valueint, 4); /* 4 micro-batches, 2 per step, 2 epochs */
    assert_int_equal(cJSON_GetArraySize(json_member(run, "inputs")), 4);
    assert_non_null(json_member(json_member(run, "config"), "learning_rate"));
    cJSON_Delete(run);
    cJSON *trainer = read_json("a/trainer_state.json");
    assert_int_equal(json_member(trainer, "global_step")->valueint, 4);
    assert_int_equal(cJSON_GetArraySize(json_member(trainer, "log_history")), 5); /* 4 steps and the summary */
    cJSON_Delete(trainer);
    char *metrics;
    size_t length;
    assert_int_equal(file_read(temporary_path("a/metrics.jsonl"), 1 << 20, &metrics, &length, NULL), STATUS_OK);
    static const char *const key[] = {"step", "epoch", "loss", "prob_template", "prob_forget", "slope_template",
                                      "slope_forget", "grad_norm", "learning_rate", "share_low", "share_high"};
    cJSON *first = json_parse(metrics, strcspn(metrics, "\n"), "metrics", NULL);
    for (size_t i = 0; i < sizeof key / sizeof *key; i++)
        assert_true(cJSON_IsNumber(json_member(first, key[i])));
    assert_true(json_member(first, "pairs")->valueint == 6);
    cJSON_Delete(first);
    free(metrics);
    struct program_result plot = program_line("plot %s/a -o %s/curves.svg", temporary, temporary);
    program_expect(&plot, STATUS_OK);
    program_free(&plot);
}

/* flat_average batch: the logged loss is what the definition gives from the dumped probabilities. */
static void test_batch_average(void **state)
{
    (void)state;
    char more[700];
    snprintf(more, sizeof more, "--flat_average batch --flat_padded_length 50 --divergence pearson --max_steps 1 "
                                "--dump_step %s/dump", temporary);
    unlearn("batch", more);
    double loss = 0;
    for (int micro = 0; micro < 2; micro++) {
        char name[64];
        snprintf(name, sizeof name, "dump/batch-%d.safetensors", micro);
        char *data;
        size_t length;
        assert_int_equal(file_read(temporary_path(name), 1 << 24, &data, &length, NULL), STATUS_OK);
        uint64_t header;
        memcpy(&header, data, 8);
        cJSON *json = json_parse(data + 8, (size_t)header, "header", NULL);
        const char *body = data + 8 + header;
        const cJSON *p = json_member(json, "p"), *begin = json_member(json, "sequence_begin");
        const float *probability = (const float *)(const void *)(body + cJSON_GetArrayItem(json_member(p, "data_offsets"), 0)->valueint);
        const char *borders = body + cJSON_GetArrayItem(json_member(begin, "data_offsets"), 0)->valueint;
        double sum[2] = {0};
        for (int s = 0; s < 6; s++) {
            int32_t border[2];
            memcpy(border, borders + s * 4, 8);
            for (int32_t i = border[0]; i < border[1]; i++) {
                float value;
                memcpy(&value, probability + i, 4);
                sum[s % 2] += value / (3.0 * 49);
            }
        }
        loss += (-sum[0] + sum[1] + sum[1] * sum[1] / 4) / 2;
        cJSON_Delete(json);
        free(data);
    }
    cJSON *step = read_json("dump/step.json");
    assert_true(fabs(json_member(step, "loss")->valuedouble - loss) <= 1e-6);
    cJSON_Delete(step);
}

/* Question and answer rows under a template score as the prompts they stand for. */
static void test_score_forms(void **state)
{
    (void)state;
    struct program_result rows =
        program_line("score --model %s/model --data %s/data.jsonl --prompt_template qa --batch_size 4", temporary, temporary);
    program_expect(&rows, STATUS_OK);
    static const char prompt[] = "{\"prompt\": \"Question: Who is number 0?\\nAnswer:\", "
                                 "\"answer\": \" 0 is the number of a baker.\"}\n";
    temporary_file("prompt.jsonl", prompt, strlen(prompt));
    struct program_result plain = program_line("score --model %s/model --data %s/prompt.jsonl", temporary, temporary);
    program_expect(&plain, STATUS_OK);
    cJSON *a = json_parse(rows.out, strcspn(rows.out, "\n"), "rows", NULL);
    cJSON *b = json_parse(plain.out, strcspn(plain.out, "\n"), "plain", NULL);
    assert_true(json_member(a, "num_tokens")->valueint == json_member(b, "num_tokens")->valueint);
    assert_true(fabs(json_member(a, "logprob_sum")->valuedouble - json_member(b, "logprob_sum")->valuedouble) <= 1e-4);
    cJSON_Delete(a);
    cJSON_Delete(b);
    program_free(&rows);
    program_free(&plain);
}

/* A run's folder as CONFIG: the model is what it made, rows and template are the run's; a plan needs no weights; leave to
 * write over a folder is not handed on. */
static void test_run_as_config(void **state)
{
    (void)state;
    unlearn("made", "--prompt_template.user_start Q:\\n --prompt_template.user_end= --prompt_template.answer_start=\\nA: "
                    "--prompt_template.answer_end= --overwrite_output_dir");
    struct program_result run = program_line("score %s/made --data %s/data.jsonl", temporary, temporary);
    struct program_result file = program_line("score %s/made/run.json --data %s/data.jsonl", temporary, temporary);
    struct program_result said =
        program_line("score --model %s/made --data %s/data.jsonl --prompt_template.user_start=Q:\\n "
                     "--prompt_template.user_end= --prompt_template.answer_start=\\nA: --prompt_template.answer_end=",
                     temporary, temporary);
    program_expect(&run, STATUS_OK);
    assert_string_equal(run.out, said.out);
    assert_string_equal(run.out, file.out);
    struct program_result next = program_line("generate %s/made --data %s/data.jsonl --max_new_tokens 3", temporary, temporary);
    program_expect(&next, STATUS_OK);
    assert_non_null(strstr(next.out, "\"text\""));
    struct program_result plan = program_line("plan %s/made", temporary);
    program_expect(&plan, STATUS_OK);
    char weights[600];
    snprintf(weights, sizeof weights, "%s/model/model.safetensors", temporary);
    assert_int_equal(rename(weights, temporary_path("aside")), 0);
    struct program_result without = program_line("plan %s/made", temporary);
    assert_int_equal(rename(temporary_path("aside"), weights), 0);
    program_expect(&without, STATUS_OK);
    assert_string_equal(plan.out, without.out);
    struct program_result again = program_line("unlearn %s/made", temporary); /* that run might write over what it found */
    program_expect_error(&again, STATUS_USAGE, "--overwrite_output_dir");
    struct program_result *const all[] = {&run, &file, &said, &next, &plan, &without, &again};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        program_free(all[i]);
}

/* What was asked for, what is being read, and only then steps. */
static void test_start_lines(void **state)
{
    (void)state;
    static const char line[] = "unlearn --model %s/model --forget_data %s/data.jsonl --template.file %s/templates.txt "
                               "--output_dir %s/start --max_steps 1 --overwrite_output_dir %s";
    static const char *const order[] = {"learning_rate  ", "cpu: ", "10 rows, 1 steps", "loading the weights of ",
                                        "unlearn  1/1", "saved "};
    struct program_result some = program_line(line, temporary, temporary, temporary, temporary, "--learning_rate 1e-4");
    program_expect(&some, STATUS_OK);
    const char *at = some.err;
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        if (!(at = strstr(at, order[i])))
            fail_msg("'%s' is missing, or too early:\n%s", order[i], some.err);
    assert_null(strstr(some.err, "weight_decay"));
    struct program_result all = program_line(line, temporary, temporary, temporary, temporary, "--verbose");
    assert_non_null(strstr(all.err, "weight_decay                    0.01\n"));
    struct program_result none = program_line(line, temporary, temporary, temporary, temporary,
                                              "--quiet --save_dtype float32 --final_eval_rows 0"); /* nothing to warn of */
    assert_string_equal(none.err, "");
    program_free(&some);
    program_free(&all);
    program_free(&none);
}

static void test_plan(void **state)
{
    (void)state;
    struct program_result result = program_line("plan --model_name_or_path %s/model --forget_data %s/data.jsonl "
                                                "--template.file %s/templates.txt", temporary, temporary, temporary);
    program_expect(&result, STATUS_OK);
    assert_non_null(strstr(result.out, "activations"));
    assert_non_null(strstr(result.out, "flops"));
    program_free(&result);
    /* a batch that is larger than the data takes no more memory than the data */
    struct program_result batch[2];
    for (int i = 0; i < 2; i++) {
        batch[i] = program_line("plan --model_name_or_path %s/model --train_data %s/data.jsonl "
                                "--per_device_train_batch_size %d", temporary, temporary, i ? 1000000000 : 10);
        program_expect(&batch[i], STATUS_OK);
    }
    assert_string_equal(batch[0].out, batch[1].out);
    program_free(&batch[0]);
    program_free(&batch[1]);
}

static void test_profile(void **state)
{
    (void)state;
    struct program_result result =
        program_line("finetune --model_name_or_path %s/model --train_data %s/data.jsonl --output_dir %s/profiled "
                     "--max_steps 1 --profile", temporary, temporary, temporary);
    program_expect(&result, STATUS_OK);
    assert_non_null(strstr(result.err, "linear_backward_weight"));
    assert_non_null(strstr(result.err, "limits: copy"));
    program_free(&result);
}

/* A rate that throws the weights to infinity: the steps after it are skipped and named, the third ends the run. */
static void test_nonfinite_ends_the_run(void **state)
{
    (void)state;
    struct program_result result =
        program_line("finetune --model_name_or_path %s/model --train_data %s/data.jsonl --output_dir %s/exploded "
                     "--learning_rate 1e30 --lr_scheduler_type constant --num_train_epochs 50 "
                     "--per_device_train_batch_size 4 --gradient_accumulation_steps 1", temporary, temporary, temporary);
    program_expect_error(&result, STATUS_NONFINITE, "3 non-finite steps in a row");
    assert_non_null(strstr(result.err, "data.jsonl:"));
    assert_false(file_exists(temporary_path("exploded/model.safetensors")));
    program_free(&result);
}

/* Whether the folder holds a file that is being written. */
static bool is_writing(const char *directory)
{
    glob_t found;
    char pattern[600];
    snprintf(pattern, sizeof pattern, "%s/*.tmp-*", directory);
    bool any = !glob(pattern, 0, NULL, &found) && found.gl_pathc;
    globfree(&found);
    return any;
}

/* A signal while the run's only step or its files are under way: it finishes, and leaves nothing half-written. */
static void test_signal_while_writing(void **state)
{
    (void)state;
    const char *build = getenv("FLAT_BUILD");
    char program[512], model[600], data[600], out[600];
    int ended = 0;
    snprintf(program, sizeof program, "%s/flat", build && *build ? build : "build");
    snprintf(model, sizeof model, "%s", temporary_path("model"));
    snprintf(data, sizeof data, "%s", temporary_path("data.jsonl"));
    snprintf(out, sizeof out, "%s", temporary_path("signalled"));
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        alarm(300); /* only a hang comes to it */
        execl(program, program, "finetune", "--quiet", "--model_name_or_path", model, "--train_data", data, "--output_dir",
              out, "--max_steps", "1", (char *)NULL);
        _exit(127);
    }
    pid_t gone;
    while (!(gone = waitpid(child, &ended, WNOHANG)) && !is_writing(out))
        ;
    if (!gone) {
        kill(child, SIGTERM);
        gone = waitpid(child, &ended, 0);
    }
    assert_int_equal(gone, child);
    assert_true(WIFEXITED(ended) && WEXITSTATUS(ended) == STATUS_OK);
    assert_false(is_writing(out));
    assert_true(file_exists(temporary_path("signalled/model.safetensors")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run_as_config),    cmocka_unit_test(test_tokenize_both_ways),
        cmocka_unit_test(test_tokenize_lines),   cmocka_unit_test(test_start_lines),
        cmocka_unit_test(test_run_folder),       cmocka_unit_test(test_batch_average),
        cmocka_unit_test(test_score_forms),      cmocka_unit_test(test_plan),
        cmocka_unit_test(test_profile),          cmocka_unit_test(test_nonfinite_ends_the_run),
        cmocka_unit_test(test_signal_while_writing),
    };
    return cmocka_run_group_tests(tests, make_model, temporary_remove);
}

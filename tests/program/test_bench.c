/* test_bench.c - flat bench kernels: names, filter, files, the comparison with a baseline, refusals. Nothing depends on how
 * fast the machine is: baselines are made up, or far beyond any machine.
 */
#include "../support/temporary.h"

#include <dirent.h>
#include <math.h>

#include "../../host/bench/step.h"
#include "../../host/io/json/json.h"
#include "../../host/util/file.h"
#include "../support/program.h"

#define SMALL "sequence_loss/float32/flat.pair/1728"

static void test_statistics(void **state)
{
    (void)state;
    struct bench_timing timing;
    double sample[] = {9, 1, 5, 3, 7, 2, 8, 4, 6, 10, 11};
    bench_statistics(sample, 11, 2, &timing);
    assert_true(timing.samples == 11 && timing.calls == 2);
    assert_true(timing.median == 3 && timing.p10 == 1 && timing.p90 == 5);
    double two[] = {4, 2};
    bench_statistics(two, 2, 1, &timing);
    assert_true(timing.median == 3 && timing.p10 == 2 && timing.p90 == 4);
}

static void test_compare(void **state)
{
    (void)state;
    struct bench_error worst = {0};
    bench_compare(&worst, 1, 1, 0);
    assert_true(worst.difference == 0 && worst.of_allowed == 0);
    bench_compare(&worst, 1.5, 1, 1);
    bench_compare(&worst, 1.25, 1, 1);
    assert_true(worst.difference == 0.5 && worst.of_allowed == 0.5);
    bench_compare(&worst, NAN, 1, 1);
    assert_true(isinf(worst.of_allowed));
}

/* Median, p10 and p90 now against those of a baseline. */
static bool is_slower(const char *baseline, double median, double p10, double p90)
{
    struct error error = {0};
    struct bench_options options = {.filter = ""};
    struct bench bench = {.options = &options, .baseline = json_parse(baseline, strlen(baseline), "baseline", &error)};
    struct bench_record record = {.name = "a", .timing = {.median = median, .p10 = p10, .p90 = p90}};
    bench_baseline_compare(&bench, &record);
    assert_true(bench_baseline_count_missing(&bench) == 1);
    cJSON_Delete(bench.baseline);
    return record.slower;
}

static void test_slower_beyond_the_noise(void **state)
{
    (void)state;
    static const char quiet[] = "{\"cases\": [{\"name\": \"a\", \"seconds\": {\"median\": 1, \"p10\": 0.99, \"p90\": 1.01}}]}";
    static const char noisy[] = "{\"cases\": [{\"name\": \"a\", \"seconds\": {\"median\": 1, \"p10\": 0.8, \"p90\": 1.2}}]}";
    static const char bare[] = "{\"cases\": [{\"name\": \"a\", \"seconds\": {\"median\": 1}}]}";
    assert_false(is_slower(quiet, 1.04, 1.04, 1.04)); /* within 5 % */
    assert_true(is_slower(quiet, 1.06, 1.06, 1.06));
    assert_false(is_slower(quiet, 1.06, 1.0, 1.1));   /* within its own spread */
    assert_false(is_slower(noisy, 1.3, 1.3, 1.3));    /* within the baseline's */
    assert_true(is_slower(noisy, 1.5, 1.5, 1.5));
    assert_true(is_slower(bare, 1.1, 1.1, 1.1));
    assert_false(is_slower(quiet, 0.5, 0.5, 0.5));
}

static void test_list_and_filter(void **state)
{
    (void)state;
    struct program_result all = program_line("bench kernels --list --device cpu");
    program_expect(&all, STATUS_OK);
    for (const struct bench_op *const *op = bench_ops; *op; op++) {
        char start[80];
        snprintf(start, sizeof start, "%s/float32/", (*op)->name);
        if (!strstr(all.out, start))
            fail_msg("no case of %s is listed", (*op)->name);
    }
    struct program_result some = program_line("bench kernels --list --device cpu --filter flat.pair/1728");
    program_expect(&some, STATUS_OK);
    assert_string_equal(some.out, SMALL "\n");
    struct program_result two = program_line("bench kernels --list --device cpu --filter no_such_op,,flat.pair/1728,adamw_norm/float32/arena/4194304");
    program_expect(&two, STATUS_OK);
    assert_string_equal(two.out, SMALL "\nadamw_norm/float32/arena/4194304\n");
    program_free(&two);
    struct program_result none = program_line("bench kernels --list --device cpu --filter no_such_op");
    program_expect_error(&none, STATUS_USAGE, "--filter: no case has 'no_such_op' in its name");
    program_free(&all);
    program_free(&some);
    program_free(&none);
}

static double number(const cJSON *object, const char *key)
{
    const cJSON *value = json_member(object, key);
    assert_true(cJSON_IsNumber(value));
    return value->valuedouble;
}

static void test_json_and_csv(void **state)
{
    (void)state;
    struct error error = {0};
    struct program_result run = program_line("bench kernels --quick --device cpu --threads 1 --samples 7 --filter flat.pair/1728 "
                                             "--json %s/out.json --csv %s/out.csv", temporary, temporary);
    program_expect(&run, STATUS_OK);
    assert_non_null(strstr(run.out, SMALL));
    cJSON *tree = json_read(temporary_path("out.json"), &error);
    assert_non_null(tree);
    const cJSON *context = json_member(tree, "context"), *cases = json_member(tree, "cases");
    assert_true(number(json_member(context, "limits"), "copy_bytes_per_second") > 0);
    assert_true(number(json_member(context, "limits"), "product_float32_flops_per_second") > 0);
    assert_int_equal(cJSON_GetArraySize(cases), 1);
    const cJSON *seconds = json_member(cases->child, "seconds");
    assert_string_equal(json_member(cases->child, "name")->valuestring, SMALL);
    assert_true(number(cases->child, "samples") == 7);
    assert_true(number(cases->child, "error_of_allowed") <= 1);
    assert_true(number(seconds, "p10") > 0 && number(seconds, "p10") <= number(seconds, "median"));
    assert_true(number(seconds, "median") <= number(seconds, "p90"));
    cJSON_Delete(tree);

    char *csv;
    size_t length;
    assert_int_equal(file_read(temporary_path("out.csv"), 1 << 20, &csv, &length, &error), STATUS_OK);
    assert_int_equal(strncmp(csv, "name,op,dtype,", 14), 0);
    assert_non_null(strstr(csv, "\n" SMALL ",sequence_loss,float32,flat pair,1728,"));
    free(csv);
    program_free(&run);
}

/* The one small case against a file, made up. */
static struct program_result run_with(const char *flag, const char *content)
{
    temporary_file("made_up.json", content, strlen(content));
    return program_line("bench kernels --quick --device cpu --threads 1 --samples 5 --filter flat.pair/1728 --%s %s/made_up.json",
                        flag, temporary);
}

static void test_baseline(void **state)
{
    (void)state;
    struct program_result slow = run_with("baseline", "{\"cases\": [{\"name\": \"" SMALL "\", \"seconds\": {\"median\": 1e9}}, "
                                                      "{\"name\": \"flat.pair/1728 of long ago\", \"seconds\": {\"median\": 1}}]}");
    program_expect(&slow, STATUS_OK);
    assert_non_null(strstr(slow.out, "1 of the baseline not measured"));
    struct program_result fast = run_with("baseline", "{\"cases\": [{\"name\": \"" SMALL "\", \"seconds\": {\"median\": 1e-15}}]}");
    program_expect_error(&fast, STATUS_RUNTIME, "1 of 1 cases are slower than in");
    assert_non_null(strstr(fast.out, " SLOWER"));
    struct program_result reference = run_with("reference", "{\"cases\": [{\"name\": \"" SMALL "\", \"reference\": \"somebody\", \"seconds\": "
                                                    "{\"median\": 1e9}}]}");
    program_expect(&reference, STATUS_OK);
    assert_non_null(strstr(reference.out, "somebody takes "));
    program_free(&slow);
    program_free(&fast);
    program_free(&reference);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *line, *text;
    } refused[] = {
        {"bench", "'flat bench' needs one of kernels, step, io, comm"},
        {"bench kernel", "'kernel': 'flat bench' has kernels, "},
        {"bench kernels --samples -1", "samples"},
        {"bench kernels --time_budget -1", "time_budget"},
        {"bench kernels --sample 5", "did you mean --samples?"},
        {"bench kernels --learning_rate 1", "learning_rate"},
        {"bench kernels --threads x", "threads"},
        {"bench step --nproc_per_node 2", "--nproc_per_node: known, but not used by 'flat bench step' (it is of 'flat bench comm', "},
        {"bench kernels --predict", "--predict: known, but not used by"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct program_result result = program_line("%s", refused[i].line);
        program_expect_error(&result, STATUS_USAGE, refused[i].text);
        program_free(&result);
    }
    static const struct {
        const char *content, *text;
    } broken[] = {
        {"[]", "expected an object with the list \"cases\""},
        {"{\"cases\": [{\"name\": \"a\"}]}", "every case needs \"name\" and \"seconds\""},
        {"{\"cases\": [", "made_up.json"},
    };
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        struct program_result result = run_with("baseline", broken[i].content);
        program_expect_error(&result, STATUS_INPUT, broken[i].text);
        program_free(&result);
    }
    struct program_result missing = program_line("bench kernels --device cpu --baseline %s/nothing.json", temporary);
    program_expect_error(&missing, STATUS_INPUT, "nothing.json");
    struct program_result unwritable = program_line("bench kernels --quick --device cpu --samples 5 --filter flat.pair/1728 "
                                                    "--json %s/no/such/folder.json", temporary);
    program_expect_error(&unwritable, STATUS_RUNTIME, "folder.json");
    program_free(&missing);
    program_free(&unwritable);
}

/* A folder of one tiny model and a table of lengths, as benches/ has them. */
static void make_models(void)
{
    static const char config[] =
        "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"vocab_size\": 97, \"hidden_size\": 32, "
        "\"intermediate_size\": 48, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
        "\"head_dim\": 8, \"hidden_act\": \"silu\", \"max_position_embeddings\": 2100, \"bos_token_id\": 0, "
        "\"eos_token_id\": 1, \"initializer_range\": 0.3, \"torch_dtype\": \"float32\"}";
    struct error error = {0};
    assert_int_equal(file_make_directory(temporary_path("models/tiny"), &error), STATUS_OK);
    temporary_file("models/tiny/config.json", config, strlen(config));
    temporary_file("tofu_lengths.txt", "7 3 9\n5 4 6\n", 12);
}

static const cJSON *step_case(const cJSON *cases, const char *name)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, cases) if (!strcmp(json_member(item, "name")->valuestring, name)) return item;
    fail_msg("no case %s", name);
    return NULL;
}

static void test_step(void **state)
{
    (void)state;
    struct error error = {0};
    make_models();
    struct program_result run = program_line("bench step --device cpu --threads 1 --samples 1 --pairs 2 --models_dir %s/models "
                                             "--json %s/step.json", temporary, temporary);
    program_expect(&run, STATUS_OK);
    cJSON *tree = json_read(temporary_path("step.json"), &error);
    assert_non_null(tree);
    const cJSON *cases = json_member(tree, "cases");
    assert_int_equal(cJSON_GetArraySize(cases), 7);
    const cJSON *padded = step_case(cases, "tiny/tofu/2/padded"), *packed = step_case(cases, "tiny/tofu/2/packed");
    const cJSON *answers = step_case(cases, "tiny/tofu/2/answers"), *shared = step_case(cases, "tiny/tofu/2/shared");
    /* the last id of a sequence is never fed: 4 sequences of 499 rows; 9 + 15 + 8 + 10; prompts once */
    assert_true(number(padded, "rows") == 4 * 499 && number(padded, "target_rows") == 4 * 499);
    assert_true(number(packed, "rows") == 42 && number(packed, "target_rows") == 42);
    assert_true(number(answers, "rows") == 42 && number(answers, "target_rows") == 22);
    assert_true(number(shared, "rows") == 30 && number(shared, "target_rows") == 22);
    assert_true(cJSON_IsNull(json_member(padded, "loss")) && cJSON_IsNull(json_member(packed, "loss")));
    assert_true(fabs(number(answers, "loss") - number(shared, "loss")) < 1e-6);
    assert_true(number(shared, "prob_forget") > 0 && number(shared, "planned_bytes") > 0);
    double share = 0;
    const cJSON *op;
    cJSON_ArrayForEach(op, json_member(shared, "ops_share")) share += op->valuedouble;
    assert_true(fabs(share - 1) < 1e-9);
    cJSON_Delete(tree);
    program_free(&run);

    struct program_result predicted = program_line("bench step --predict --filter shared --models_dir %s/models --json %s/plan.json",
                                                   temporary, temporary);
    program_expect(&predicted, STATUS_OK);
    assert_non_null(strstr(predicted.out, "NOT MEASURED"));
    tree = json_read(temporary_path("plan.json"), &error);
    assert_non_null(tree);
    const cJSON *planned = step_case(json_member(tree, "cases"), "tiny/tofu/32/shared");
    assert_true(number(planned, "predicted_seconds") > 0 && number(planned, "planned_bytes") > 0);
    assert_null(json_member(planned, "seconds"));
    cJSON_Delete(tree);
    program_free(&predicted);

    struct program_result none = program_line("bench step --models_dir %s/nothing", temporary);
    program_expect_error(&none, STATUS_INPUT, "--models_dir: ");
    temporary_file("tofu_lengths.txt", "7 0 9\n", 6);
    struct program_result lengths = program_line("bench step --device cpu --models_dir %s/models --filter tofu", temporary);
    program_expect_error(&lengths, STATUS_INPUT, "line 1: expected three positive numbers");
    program_free(&none);
    program_free(&lengths);
}

/* The loss of one variant on the emulated CUDA engine. */
static double emulated_loss(const char *variant)
{
    struct error error = {0};
    struct log log;
    log_init(&log, stderr, true);
    char models[300], json[300], name[64];
    snprintf(models, sizeof models, "%s/models", temporary);
    snprintf(json, sizeof json, "%s/emulated.json", temporary);
    snprintf(name, sizeof name, "tiny/tofu/2/%s", variant);
    const struct step_options options = {.bench = {.device = {.device = DEVICE_EMU}, .filter = name, .json = json,
                                                   .samples = 1},
                                         .models_dir = models, .model = "", .pairs = 2};
    if (bench_step(&options, &log, &error))
        fail_msg("%s", error.text);
    cJSON *tree = json_read(json, &error);
    assert_non_null(tree);
    double loss = number(step_case(json_member(tree, "cases"), name), "loss");
    cJSON_Delete(tree);
    return loss;
}

/* The last variant, on an engine that has graphs. */
static void test_step_graph(void **state)
{
    (void)state;
    make_models();
    assert_true(emulated_loss("graph") == emulated_loss("shared"));
}

/* Reads and writes a small model; what was written is gone afterwards. */
static void test_io(void **state)
{
    (void)state;
    static const char *const name[] = {"config.json", "model.safetensors"};
    struct error error = {0};
    assert_int_equal(file_make_directory(temporary_path("io"), &error), STATUS_OK);
    assert_int_equal(file_make_directory(temporary_path("io/model"), &error), STATUS_OK);
    for (int i = 0; i < 2; i++) {
        char from[256], to[600];
        snprintf(from, sizeof from, "tests/golden/models/llama_tied/%s", name[i]);
        snprintf(to, sizeof to, "%s/io/model/%s", temporary, name[i]);
        assert_int_equal(file_copy(from, to, &error), STATUS_OK);
    }
    struct program_result run = program_line("bench io --device cpu --samples 2 --model %s/io/model --json %s/io.json", temporary,
                                             temporary);
    program_expect(&run, STATUS_OK);
    cJSON *tree = json_read(temporary_path("io.json"), &error);
    assert_non_null(tree);
    assert_true(number(tree, "bytes") > 1000);
    assert_int_equal(cJSON_GetArraySize(json_member(tree, "cases")), 6);
    assert_true(number(json_member(step_case(json_member(tree, "cases"), "save"), "seconds"), "median") > 0);
    cJSON_Delete(tree);
    program_free(&run);

    DIR *folder = opendir(temporary_path("io"));
    assert_non_null(folder);
    for (const struct dirent *entry; (entry = readdir(folder));)
        assert_true(entry->d_name[0] == '.' || !strcmp(entry->d_name, "model"));
    closedir(folder);
    struct program_result missing = program_line("bench io --device cpu --model %s/nothing", temporary);
    program_expect_error(&missing, STATUS_INPUT, "nothing");
    struct program_result none = program_line("bench io --device cpu");
    program_expect_error(&none, STATUS_USAGE, "'flat bench io' needs --model_name_or_path DIR");
    program_free(&missing);
    program_free(&none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statistics),      cmocka_unit_test(test_compare),      cmocka_unit_test(test_slower_beyond_the_noise),
        cmocka_unit_test(test_list_and_filter), cmocka_unit_test(test_json_and_csv), cmocka_unit_test(test_baseline),
        cmocka_unit_test(test_refusals),        cmocka_unit_test(test_step),         cmocka_unit_test(test_step_graph),
        cmocka_unit_test(test_io),
    };
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

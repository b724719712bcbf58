/* test_run_folder.c - the folder that a run writes, as a user meets it: what is refused, what stays and what goes when one is
 * written over another, what is saved in which type and what is said of it, and `flat verify`.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../host/io/folder/folder.h"
#include "../../host/io/json/json.h"
#include "../../host/io/safetensors/safetensors.h"
#include "../support/assert_ok.h"
#include "../support/program.h"
#include "../support/tiny_trainer.h"

static void run_expect(int status, const char *text, const char *more)
{
    struct program_result result =
        program_line("finetune --model %s/model --train_data %s/data.jsonl --max_steps 2 --per_device_train_batch_size 2 "
                     "--gradient_accumulation_steps 1 --device cpu --threads 1 %s", temporary, temporary, more);
    if (status)
        program_expect_error(&result, status, text);
    else
        program_expect(&result, status);
    if (!status && *text && !strstr(result.err, text))
        fail_msg("'%s' is not in: %s", text, result.err);
    program_free(&result);
}

/* The same with a path in the temporary directory. */
static void run_into(int status, const char *text, const char *format, ...)
{
    char more[2000];
    va_list list;
    va_start(list, format);
    vsnprintf(more, sizeof more, format, list);
    va_end(list);
    run_expect(status, text, more);
}

static void verify_expect(const char *name, int status, const char *text)
{
    struct program_result result = program_line("verify %s/%s", temporary, name);
    if (status)
        program_expect_error(&result, status, "as run ");
    else
        program_expect(&result, status);
    if (!strstr(result.out, text))
        fail_msg("'%s' is not in: %s%s", text, result.out, result.err);
    program_free(&result);
}

static cJSON *json_of(const char *name)
{
    struct error error;
    cJSON *json = json_read(temporary_path(name), &error);
    if (!json)
        fail_msg("%s", error.text);
    return json;
}

static int make(void **state)
{
    if (temporary_make(state) || tiny_trainer_make(temporary))
        return -1;
    struct program_result result =
        program_line("finetune --model %s/seed --from_scratch --train_data %s/data.jsonl --output_dir %s/model --max_steps 1 "
                     "--learning_rate 0 --quiet", temporary, temporary, temporary);
    program_expect(&result, STATUS_OK);
    program_free(&result);
    return 0;
}

/* What is read must not be written over, however it is called; what another run has left is not mixed with this one's. */
static void test_refused(void **state)
{
    (void)state;
    struct error error;
    const char *t = temporary;
    run_into(STATUS_USAGE, "is the folder of the model itself", "--output_dir %s/model --overwrite_output_dir", t);
    run_into(STATUS_USAGE, "is the folder of the model itself", "--output_dir %s/../%s/model/. --overwrite_output_dir", t,
             strrchr(t, '/') + 1);
    assert_int_equal(symlink(temporary_path("model"), temporary_path("alias")), 0);
    run_into(STATUS_USAGE, "is the folder of the model itself", "--output_dir %s/alias --overwrite_output_dir", t);
    OK(file_make_directory(temporary_path("inputs"), &error));
    OK(file_copy(temporary_path("data.jsonl"), temporary_path("inputs/d.jsonl"), &error));
    run_into(STATUS_USAGE, "train_data is read from it", "--output_dir %s/inputs --train_data %s/inputs/d.jsonl", t, t);
    run_into(STATUS_USAGE, "is a file; choose a folder", "--output_dir %s/data.jsonl", t);

    /* checkpoint-1 of the folder that is to be written is the model that is read */
    run_into(STATUS_OK, "", "--output_dir %s/run --save_strategy epoch --max_steps 1", t);
    struct program_result result =
        program_line("finetune --model %s/run/checkpoint-1 --train_data %s/data.jsonl --output_dir %s/run --overwrite_output_dir "
                     "--max_steps 1 --quiet", t, t, t);
    program_expect_error(&result, STATUS_USAGE, "model_name_or_path is read from it");
    program_free(&result);

    static const char *const leftover[] = {"run.json", "metrics.jsonl", "trainer_state.json", "model.safetensors",
                                           "tokenizer.model", "adapter_config.json", "optimizer.pt"};
    for (size_t i = 0; i < sizeof leftover / sizeof *leftover; i++) {
        char name[200];
        directory_remove(temporary_path("left"));
        OK(file_make_directory(temporary_path("left"), &error));
        snprintf(name, sizeof name, "left/%s", leftover[i]);
        temporary_file(name, "{}", 2);
        run_into(STATUS_USAGE, leftover[i], "--output_dir %s/left", t);
    }
    directory_remove(temporary_path("left"));
    OK(file_make_directory(temporary_path("left/checkpoint-7"), &error));
    run_into(STATUS_USAGE, "(checkpoint-7)", "--output_dir %s/left", t);
    /* what is nobody's is no obstacle, and stays */
    directory_remove(temporary_path("left"));
    OK(file_make_directory(temporary_path("left/checkpoint-best"), &error));
    temporary_file("left/notes.txt", "mine", 4);
    run_into(STATUS_OK, "", "--output_dir %s/left", t);
    assert_true(file_exists(temporary_path("left/notes.txt")) && file_exists(temporary_path("left/checkpoint-best")));
    assert_true(file_exists(temporary_path("left/model.safetensors")));
    verify_expect("left", STATUS_OK, "files as they were saved");
}

/* One run over another: nothing of the first is left, and until the second is saved everything is. */
static void test_overwrite(void **state)
{
    (void)state;
    struct error error;
    const char *t = temporary;
    struct file_list list;
    run_into(STATUS_OK, "", "--output_dir %s/over --save_strategy epoch --seed 1", t);
    assert_true(file_exists(temporary_path("over/checkpoint-2/model.safetensors")));
    verify_expect("over", STATUS_OK, "files as they were saved");
    verify_expect("over/checkpoint-2", STATUS_OK, "files as they were saved");
    cJSON *before = json_of("over/run.json");
    temporary_file("over/notes.txt", "mine", 4);
    temporary_file("over/pytorch_model.bin", "stale", 5);
    verify_expect("over", STATUS_INPUT, "pytorch_model.bin: is not of this run");

    /* a run that comes to nothing leaves the first as it is, its record too */
    run_into(STATUS_NONFINITE, "the last step has a non-finite loss or gradient",
             "--output_dir %s/over --overwrite_output_dir --learning_rate 1e30", t);
    cJSON *after = json_of("over/run.json");
    assert_true(cJSON_Compare(before, after, true));
    assert_true(file_exists(temporary_path("over/checkpoint-2/model.safetensors")));
    cJSON_Delete(after);

    run_into(STATUS_OK, "", "--output_dir %s/over --overwrite_output_dir --lora.r 2 --lora.output adapter --seed 2", t);
    OK(file_list_read(&list, temporary_path("over"), &error));
    static const char *const left[] = {"README.md", "adapter_config.json", "adapter_model.safetensors", "metrics.jsonl",
                                       "notes.txt", "run.json", "trainer_state.json"};
    assert_int_equal(list.count, sizeof left / sizeof *left);
    for (size_t i = 0; i < list.count; i++)
        assert_string_equal(list.name[i], left[i]);
    file_list_free(&list);
    verify_expect("over", STATUS_OK, "files as they were saved");
    after = json_of("over/run.json");
    assert_false(cJSON_Compare(json_member(before, "run_id"), json_member(after, "run_id"), true));
    cJSON_Delete(before);
    cJSON_Delete(after);
    temporary_file("over/adapter_config.json", "{}", 2);
    verify_expect("over", STATUS_INPUT, "adapter_config.json: is not the file that was saved");
    /* the adapter's card goes with it, and the model's own comes */
    run_into(STATUS_OK, "", "--output_dir %s/over --overwrite_output_dir", t);
    assert_true(file_exists(temporary_path("over/notes.txt")) && file_exists(temporary_path("over/config.json")));
    assert_false(file_exists(temporary_path("over/adapter_config.json")));
    char *card;
    size_t length;
    OK(file_read(temporary_path("over/README.md"), 1 << 20, &card, &length, &error));
    assert_non_null(strstr(card, "library_name: transformers"));
    free(card);
}

/* Shards that two runs have written are no model. */
static int shard_fill(void *user, int entry, uint64_t first_byte, uint64_t bytes, void *out, struct error *error)
{
    (void)user, (void)entry, (void)first_byte, (void)error;
    memset(out, 0, bytes);
    return STATUS_OK;
}

static void test_mixture(void **state)
{
    (void)state;
    struct error error;
    struct safetensors file;
    static const char *const run[] = {"aaaa-1", "aaaa-2", "aaaa-1", ""};
    OK(file_make_directory(temporary_path("mixed"), &error));
    for (int i = 0; i < 4; i++) {
        struct file_writer writer;
        char name[32], path[600];
        const struct safetensors_entry entry = {i % 2 ? "b" : "a", SAFETENSORS_F32, NULL, 1, {2}, 8};
        snprintf(name, sizeof name, "mixed/model-%d.safetensors", i % 2);
        snprintf(path, sizeof path, "%s/%s", temporary, name);
        unlink(path);
        OK(file_writer_create(&writer, path, FILE_MODE, &error));
        OK(safetensors_write_to(&writer, run[i], &entry, 1, shard_fill, NULL, &error));
        OK(file_writer_commit(&writer, &error));
        static const char index[] = "{\"weight_map\": {\"a\": \"model-0.safetensors\", \"b\": \"model-1.safetensors\"}}";
        temporary_file("mixed/model.safetensors.index.json", index, strlen(index));
        if (i % 2)
            assert_error(&error, safetensors_open(&file, temporary_path("mixed"), &error), STATUS_INPUT,
                         i == 1 ? "model-1.safetensors: was written by run aaaa-2, but model-0.safetensors by run aaaa-1"
                                : "model-1.safetensors: was written by an unnamed run");
    }
}

static double survives_of(const char *name)
{
    cJSON *run = json_of(name);
    const double survives = json_member(json_member(run, "result"), "change_survives")->valuedouble;
    cJSON_Delete(run);
    return survives;
}

/* What a weight is stored in, what config.json says of it, and what is said of a change that is lost. */
static void test_save_dtype(void **state)
{
    (void)state;
    struct error error;
    static const struct {
        const char *name, *says;
        enum safetensors_dtype dtype;
    } cases[] = {{"float32", "", SAFETENSORS_F32}, {"bfloat16", "survives rounding to bfloat16", SAFETENSORS_BF16},
                 {"float16", "survives rounding to float16", SAFETENSORS_F16}};
    /* a config that names its type, as transformers writes it */
    static const char config[] =
        "{\"model_type\": \"llama\", \"vocab_size\": 1024, \"hidden_size\": 64, \"intermediate_size\": 96, "
        "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 16, "
        "\"max_position_embeddings\": 96, \"bos_token_id\": 0, \"eos_token_id\": 1, \"rope_theta\": 1e4, "
        "\"tie_word_embeddings\": true, \"torch_dtype\": \"float32\"}";
    temporary_file("model/config.json", config, strlen(config));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct safetensors file;
        char out[64], name[100];
        snprintf(out, sizeof out, "as-%s", cases[i].name);
        run_into(STATUS_OK, cases[i].says, "--output_dir %s/%s --save_dtype %s", temporary, out, cases[i].name);
        OK(safetensors_open(&file, temporary_path(out), &error));
        for (int t = 0; t < file.tensors; t++)
            assert_int_equal(file.tensor[t].dtype, cases[i].dtype);
        assert_true(*file.run_id);
        safetensors_close(&file);
        snprintf(name, sizeof name, "%s/config.json", out);
        cJSON *written = json_of(name);
        assert_string_equal(json_member(written, "torch_dtype")->valuestring, cases[i].name);
        cJSON_Delete(written);
    }
    /* steps far below the spacing of bfloat16: lost in it, and not in float32 */
    static const char line[] = "finetune --model %s/as-bfloat16 --train_data %s/data.jsonl --output_dir %s/%s --max_steps 1 "
                               "--learning_rate 1e-6 %s";
    const char *t = temporary;
    struct program_result lost = program_line(line, t, t, t, "lost", ""),
                          kept = program_line(line, t, t, t, "kept", "--save_dtype float32");
    program_expect(&lost, STATUS_OK);
    program_expect(&kept, STATUS_OK);
    assert_non_null(strstr(lost.err, "of the change of the weights survives rounding to bfloat16: the folder holds less than was "
                                     "trained; --save_dtype float32 keeps all of it"));
    assert_null(strstr(kept.err, "survives"));
    assert_true(survives_of("lost/run.json") < 0.2 && survives_of("kept/run.json") == 1);
    program_free(&lost);
    program_free(&kept);
    run_into(STATUS_USAGE, "save_dtype", "--output_dir %s/x --lora.r 2 --lora.output adapter --save_dtype float16", t);
}

/* Numbers that are not finite where they are saved: nothing is, and what was there stays. */
static void test_nonfinite(void **state)
{
    (void)state;
    run_into(STATUS_OK, "", "--output_dir %s/half --save_dtype float16", temporary);
    struct error error;
    struct digest before, after;
    OK(checksum_file(temporary_path("half/model.safetensors"), &before, &error));
    run_into(STATUS_NONFINITE, "values are not finite in float16, though they are in float32, which --save_dtype float32 keeps",
             "--output_dir %s/half --overwrite_output_dir --save_dtype float16 --learning_rate 1e5 --max_steps 1 "
             "--lr_scheduler_type constant", temporary);
    OK(checksum_file(temporary_path("half/model.safetensors"), &after, &error));
    assert_true(before.xxh3 == after.xxh3);
    verify_expect("half", STATUS_OK, "files as they were saved");
    run_into(STATUS_USAGE, "adam_epsilon: expected a number of at least 1e-37", "--output_dir %s/x --adam_epsilon 0", temporary);
}

/* A model whose weights are not numbers: what is printed says so, and the exit code too. */
static void test_damaged_model(void **state)
{
    (void)state;
    struct error error;
    char *weights;
    size_t length;
    OK(file_make_directory(temporary_path("damaged"), &error));
    static const char *const file[] = {"config.json", "tokenizer.json", "tokenizer_config.json"};
    for (int i = 0; i < 3; i++) {
        char to[64], from[64];
        snprintf(from, sizeof from, "model/%s", file[i]);
        snprintf(to, sizeof to, "damaged/%s", file[i]);
        OK(file_copy(temporary_path(from), temporary_path(to), &error));
    }
    OK(file_read(temporary_path("model/model.safetensors"), 1 << 24, &weights, &length, &error));
    memset(weights + length - 64, 0xff, 64); /* NaN in a norm or a projection */
    temporary_file("damaged/model.safetensors", weights, length);
    free(weights);
    struct program_result scores = program_line("score --model %s/damaged --data %s/data.jsonl --prompt_template qa", temporary,
                                                temporary),
                          text = program_line("generate --model %s/damaged --prompt Who --max_new_tokens 3", temporary);
    program_expect_error(&scores, STATUS_NONFINITE, "data.jsonl:1: the log-probability is not finite");
    assert_string_equal(scores.out, "");
    program_expect_error(&text, STATUS_NONFINITE, "prompt 1: the logits of token 1 are not finite");
    program_free(&scores);
    program_free(&text);
}

/* Any number of answers to one prompt: in parts, with the scores that each has alone. */
static void test_large_group(void **state)
{
    (void)state;
    struct error error;
    struct buffer one = {0};
    for (int i = 0; i < 21; i++)
        OK(buffer_printf(&one, &error, "{\"prompt\": \"Who is Ada?\", \"answer\": \" Ada is number %d of them.\"}\n", i * i));
    temporary_file("one.jsonl", one.data, one.length);
    struct program_result whole = program_line("score --model %s/model --data %s/one.jsonl --batch_size 9", temporary, temporary),
                          small = program_line("score --model %s/model --data %s/one.jsonl --batch_size 1", temporary, temporary);
    program_expect(&whole, STATUS_OK);
    program_expect(&small, STATUS_OK);
    const char *a = whole.out, *b = small.out;
    for (int i = 0; i < 21; i++) {
        cJSON *left = json_parse(a, strcspn(a, "\n"), "whole", &error), *right = json_parse(b, strcspn(b, "\n"), "small", &error);
        const double x = json_member(left, "logprob_sum")->valuedouble, y = json_member(right, "logprob_sum")->valuedouble;
        assert_true(fabs(x - y) <= 1e-4 && x < 0);
        cJSON_Delete(left);
        cJSON_Delete(right);
        a += strcspn(a, "\n") + 1, b += strcspn(b, "\n") + 1;
    }
    program_free(&whole);
    program_free(&small);
    buffer_free(&one);
}

/* The summary's probabilities are those of the folder, to the last digit that a score has. */
static void test_measured(void **state)
{
    (void)state;
    static const char *const forms[] = {"", "--save_dtype bfloat16", "--lora.r 2 --learning_rate 1e-2",
                                        "--lora.r 2 --learning_rate 1e-2 --save_dtype bfloat16"};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        char out[32], name[64];
        double sum = 0;
        int rows = 0;
        snprintf(out, sizeof out, "measured-%zu", i);
        run_into(STATUS_OK, "P(answer) ", "--output_dir %s/%s %s", temporary, out, forms[i]);
        struct program_result scores = program_line("score --model %s/%s --data %s/data.jsonl --prompt_template qa --threads 1",
                                                    temporary, out, temporary);
        program_expect(&scores, STATUS_OK);
        for (const char *line = scores.out; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL, rows++) {
            struct error error;
            cJSON *row = json_parse(line, strcspn(line, "\n"), "scores", &error);
            sum += json_member(row, "prob_mean")->valuedouble;
            cJSON_Delete(row);
        }
        program_free(&scores);
        snprintf(name, sizeof name, "%s/run.json", out);
        cJSON *run = json_of(name);
        const cJSON *result = json_member(run, "result");
        assert_int_equal(json_member(result, "rows")->valueint, rows);
        const double said = json_member(result, "prob_answer")->valuedouble;
        if (!(fabs(said - sum / rows) <= 1e-6 * said))
            fail_msg("%s: the run says %.9g, its folder has %.9g", forms[i], said, sum / rows);
        cJSON_Delete(run);
    }
}

/* A second run in a folder is refused while the first goes on; the first is not disturbed. */
static void test_two_runs(void **state)
{
    (void)state;
    struct error error;
    struct folder_lock lock;
    OK(file_make_directory(temporary_path("busy"), &error));
    OK(folder_lock_take(&lock, temporary_path("busy"), &error));
    run_into(STATUS_USAGE, "another run is writing here (process ", "--output_dir %s/busy", temporary);
    folder_lock_release(&lock);
    run_into(STATUS_OK, "", "--output_dir %s/busy", temporary);
    assert_false(file_exists(temporary_path("busy/.lock")));
}

/* logging_steps: a line is the mean of its window, and the loss of the run that of all its steps. */
static void test_windows(void **state)
{
    (void)state;
    struct error error;
    double loss[2][6], train_loss[2];
    for (int i = 0; i < 2; i++) {
        char out[32], name[64], *text;
        size_t length;
        snprintf(out, sizeof out, "window-%d", i);
        run_into(STATUS_OK, "", "--output_dir %s/%s --max_steps 6 --learning_rate 1e-3 --logging_steps %d", temporary, out,
                 i ? 4 : 1);
        snprintf(name, sizeof name, "%s/metrics.jsonl", out);
        OK(file_read(temporary_path(name), 1 << 20, &text, &length, &error));
        int lines = 0;
        for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
            cJSON *json = json_parse(line, strlen(line), "metrics", &error);
            loss[i][lines++] = json_member(json, "loss")->valuedouble;
            cJSON_Delete(json);
        }
        free(text);
        assert_int_equal(lines, i ? 2 : 6);
        snprintf(name, sizeof name, "%s/trainer_state.json", out);
        cJSON *trainer = json_of(name);
        const cJSON *history = json_member(trainer, "log_history");
        assert_int_equal(cJSON_GetArraySize(history), lines + 1);
        train_loss[i] = json_member(cJSON_GetArrayItem(history, lines), "train_loss")->valuedouble;
        cJSON_Delete(trainer);
    }
    assert_true(fabs(loss[1][0] - (loss[0][0] + loss[0][1] + loss[0][2] + loss[0][3]) / 4) < 1e-9);
    assert_true(fabs(loss[1][1] - (loss[0][4] + loss[0][5]) / 2) < 1e-9);
    double mean = 0;
    for (int i = 0; i < 6; i++)
        mean += loss[0][i] / 6;
    assert_true(fabs(train_loss[0] - mean) < 1e-9 && fabs(train_loss[1] - mean) < 1e-9);
}

/* Fields of transformers' TrainerState, 4.45 and 5: another one, and it does not load. */
static void test_trainer_state(void **state)
{
    (void)state;
    static const char *const fields[] = {
        "epoch", "global_step", "max_steps", "logging_steps", "eval_steps", "save_steps", "train_batch_size",
        "num_train_epochs", "num_input_tokens_seen", "total_flos", "log_history", "best_metric", "best_model_checkpoint",
        "is_local_process_zero", "is_world_process_zero", "is_hyper_param_search", "trial_name", "trial_params",
        "stateful_callbacks"};
    run_into(STATUS_OK, "", "--output_dir %s/state", temporary);
    cJSON *trainer = json_of("state/trainer_state.json");
    const cJSON *field;
    cJSON_ArrayForEach(field, trainer)
    {
        bool known = false;
        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
            known |= !strcmp(field->string, fields[i]);
        if (!known)
            fail_msg("%s is no field of TrainerState", field->string);
    }
    cJSON_Delete(trainer);
}

/* Of what lies beside the weights, all that belongs to the model goes along, and nothing that a run has left. */
static void test_companions(void **state)
{
    (void)state;
    struct error error;
    static const char *const copied[] = {"source/LICENSE", "source/chat_template.jinja",
                                         "source/additional_chat_templates/tool.jinja"};
    static const char *const left[] = {"source/metrics.jsonl", "source/run.json", "source/optimizer.pt",
                                       "source/model.safetensors.tmp-1234", "source/pytorch_model.bin.index.json",
                                       "source/consolidated.safetensors"};
    struct program_result result =
        program_line("finetune --model %s/model --train_data %s/data.jsonl --output_dir %s/source --max_steps 1 --quiet "
                     "--save_dtype float32", temporary, temporary, temporary);
    program_expect(&result, STATUS_OK);
    program_free(&result);
    OK(file_make_directory(temporary_path("source/additional_chat_templates"), &error));
    for (size_t i = 0; i < sizeof copied / sizeof *copied; i++)
        temporary_file(copied[i], "text", 4);
    for (size_t i = 0; i < sizeof left / sizeof *left; i++)
        temporary_file(left[i], "{}", 2);
    result = program_line("finetune --model %s/source --train_data %s/data.jsonl --output_dir %s/copy --max_steps 1 --quiet "
                          "--prompt_template qa", temporary, temporary, temporary);
    program_expect(&result, STATUS_OK);
    program_free(&result);
    for (size_t i = 0; i < sizeof copied / sizeof *copied; i++) {
        char name[100];
        snprintf(name, sizeof name, "copy/%s", copied[i] + strlen("source/"));
        if (!file_exists(temporary_path(name)))
            fail_msg("%s is missing", name);
    }
    for (size_t i = 2; i < sizeof left / sizeof *left; i++) {
        char name[100];
        snprintf(name, sizeof name, "copy/%s", left[i] + strlen("source/"));
        if (file_exists(temporary_path(name)))
            fail_msg("%s was copied", name);
    }
    verify_expect("copy", STATUS_OK, "files as they were saved");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),   cmocka_unit_test(test_overwrite), cmocka_unit_test(test_mixture),
        cmocka_unit_test(test_save_dtype), cmocka_unit_test(test_nonfinite), cmocka_unit_test(test_measured),
        cmocka_unit_test(test_two_runs),  cmocka_unit_test(test_windows),   cmocka_unit_test(test_trainer_state),
        cmocka_unit_test(test_companions), cmocka_unit_test(test_damaged_model), cmocka_unit_test(test_large_group)};
    return cmocka_run_group_tests(tests, make, temporary_remove);
}

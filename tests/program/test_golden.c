/* test_golden.c - the whole program on a real model (stories260k) and real data (TOFU), against figures computed in
 * double by an independent program. Needs ../shared/data; skipped without it.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../host/io/json/json.h"
#include "../../host/io/safetensors/safetensors.h"
#include "../../host/util/file.h"
#include "../support/program.h"

#define GOLDEN "data/golden/stories260k_world_facts_4.json"

static cJSON *read_json(const char *path)
{
    struct error error = {0};
    cJSON *json = json_read(path, &error);
    if (!json)
        fail_msg("%s", error.text);
    return json;
}

static double number(const cJSON *object, const char *key)
{
    const cJSON *member = json_member(object, key);
    assert_true(cJSON_IsNumber(member));
    return member->valuedouble;
}

static void test_score(void **state)
{
    (void)state;
    const char *golden_path = shared_path(GOLDEN);
    if (!golden_path)
        skip();
    struct buffer lines = {0};
    cJSON *golden = read_json(golden_path);
    const cJSON *item;
    cJSON_ArrayForEach(item, json_member(golden, "score"))
    {
        cJSON *prompt = cJSON_CreateObject();
        assert_true(json_add_string(prompt, "prompt", json_member(item, "prompt")->valuestring) &&
                    json_add_string(prompt, "answer", json_member(item, "answer")->valuestring));
        assert_int_equal(json_print(prompt, &lines, NULL), STATUS_OK);
        assert_int_equal(buffer_append(&lines, "\n", 1, NULL), STATUS_OK);
        cJSON_Delete(prompt);
    }
    const char *input = temporary_file("score.jsonl", lines.data, lines.length);
    struct program_result result =
        program_line("score --model %s --data %s --tokens --batch_size 3", shared_path("data/stories260k"), input);
    program_expect(&result, STATUS_OK);
    const char *at = result.out;
    cJSON_ArrayForEach(item, json_member(golden, "score"))
    {
        const char *end = strchr(at, '\n');
        assert_non_null(end);
        cJSON *scored = json_parse(at, (size_t)(end - at), "score", NULL);
        assert_non_null(scored);
        assert_true(number(scored, "num_tokens") == number(item, "num_tokens"));
        assert_true(fabs(number(scored, "logprob_sum") - number(item, "logprob_sum")) <= 1e-3);
        assert_true(fabs(number(scored, "prob_mean") - number(item, "prob_mean")) <= 1e-5);
        double sum = 0;
        const cJSON *token;
        cJSON_ArrayForEach(token, json_member(scored, "token_logprobs")) sum += token->valuedouble;
        assert_true(fabs(sum - number(scored, "logprob_sum")) <= 1e-4);
        cJSON_Delete(scored);
        at = end + 1;
    }
    program_free(&result);
    buffer_free(&lines);
    cJSON_Delete(golden);
}

/* The first `count` lines of a file, as they are. */
static const char *head_of(const char *path, int count, const char *name)
{
    char *data;
    size_t length, used = 0;
    assert_int_equal(file_read(path, 1 << 24, &data, &length, NULL), STATUS_OK);
    while (count-- && used < length)
        used = (size_t)(strchr(data + used, '\n') - data) + 1;
    const char *made = temporary_file(name, data, used);
    free(data);
    return made;
}

static double tensor_norm(const struct safetensors *file, const char *name)
{
    const struct safetensors_tensor *tensor = safetensors_find(file, name);
    assert_non_null(tensor);
    double *values = malloc((size_t)tensor->elements * sizeof *values), sum = 0;
    assert_non_null(values);
    assert_int_equal(safetensors_read_double(file, tensor, 0, tensor->elements, values, NULL), STATUS_OK);
    for (int64_t i = 0; i < tensor->elements; i++)
        sum += values[i] * values[i];
    free(values);
    return sqrt(sum);
}

static void test_flat_losses_and_gradients(void **state)
{
    (void)state;
    static const char *const divergence[][2] = {{"kl", "kl"},
                                                {"pearson", "pearson"},
                                                {"jensen-shannon", "jensen_shannon"},
                                                {"total-variation", "total_variation"}};
    if (!shared_path(GOLDEN))
        skip();
    cJSON *golden = read_json(shared_path(GOLDEN));
    head_of(shared_path("data/tofu/world_facts_perturbed.json"), 4, "facts.jsonl");
    head_of(shared_path("data/tofu/idontknow.jsonl"), 4, "idontknow.txt");
    for (int d = 0; d < 4; d++) {
        struct program_result result = program_line(
            "unlearn --model_name_or_path %s --forget_data %s/facts.jsonl --template.file %s/idontknow.txt "
            "--template.choice cycle --divergence %s --max_steps 1 --output_dir %s/out --overwrite_output_dir "
            "--dump_step %s/dump", shared_path("data/stories260k"), temporary, temporary, divergence[d][1], temporary,
            temporary);
        program_expect(&result, STATUS_OK);
        program_free(&result);
        const cJSON *expected = json_member(json_member(golden, "flat"), divergence[d][0]), *norm;
        cJSON *step = read_json(temporary_path("dump/step.json"));
        assert_true(fabs(number(step, "loss") / number(expected, "loss") - 1) <= 1e-5);
        assert_true(fabs(number(step, "grad_norm") / number(expected, "grad_norm") - 1) <= 1e-3);
        struct safetensors gradients;
        assert_int_equal(safetensors_open_file(&gradients, temporary_path("dump/gradients.safetensors"), NULL), STATUS_OK);
        cJSON_ArrayForEach(norm, json_member(expected, "tensor_grad_norm"))
            assert_true(fabs(tensor_norm(&gradients, norm->string) / norm->valuedouble - 1) <= 1e-3);
        safetensors_close(&gradients);
        cJSON_Delete(step);
    }
    cJSON_Delete(golden);
}

static void test_story(void **state)
{
    (void)state;
    const char *model = shared_path("data/stories260k");
    if (!model)
        skip();
    static const char story[] = "Once upon a time, there was a little girl named Lily. She loved to play outside in the "
                                "park.";
    const char *const arguments[] = {"generate", "--model", model, "--prompt", "", "--max_new_tokens", "60", NULL};
    struct program_result result = program_run(arguments, NULL, 0);
    program_expect(&result, STATUS_OK);
    assert_int_equal(strncmp(result.out, story, strlen(story)), 0);
    program_free(&result);
    /* continuing after its first words tells the same story, the seam's space included */
    const char *const more[] = {"generate", "--model", model, "--prompt", "Once upon a time", "--max_new_tokens", "40",
                                NULL};
    result = program_run(more, NULL, 0);
    program_expect(&result, STATUS_OK);
    assert_int_equal(strncmp(result.out, story + strlen("Once upon a time"), 40), 0);
    program_free(&result);
}

static void unlearn_forget01(const char *out, const char *more)
{
    struct program_result result = program_line(
        "unlearn --model_name_or_path %s --forget_data %s --template.file %s --output_dir %s/%s --learning_rate 1e-3 %s",
        shared_path("data/stories260k"), shared_path("data/tofu/forget01.json"), shared_path("data/tofu/idontknow.jsonl"),
        temporary, out, more);
    program_expect(&result, STATUS_OK);
    program_free(&result);
}

static void assert_same_files(const char *a, const char *b)
{
    char *left, *right;
    size_t left_length, right_length;
    assert_int_equal(file_read(temporary_path(a), 1 << 26, &left, &left_length, NULL), STATUS_OK);
    assert_int_equal(file_read(temporary_path(b), 1 << 26, &right, &right_length, NULL), STATUS_OK);
    assert_int_equal(left_length, right_length);
    assert_memory_equal(left, right, left_length);
    free(left);
    free(right);
}

/* The tensors of two files; their headers name the run that wrote them. */
static void assert_same_tensors(const char *a, const char *b)
{
    char *file[2];
    size_t length[2], header[2];
    for (int i = 0; i < 2; i++) {
        uint64_t bytes;
        assert_int_equal(file_read(temporary_path(i ? b : a), 1 << 26, &file[i], &length[i], NULL), STATUS_OK);
        memcpy(&bytes, file[i], sizeof bytes);
        header[i] = sizeof bytes + (size_t)bytes;
        assert_true(header[i] < length[i]);
    }
    assert_int_equal(length[0] - header[0], length[1] - header[1]);
    assert_memory_equal(file[0] + header[0], file[1] + header[1], length[0] - header[0]);
    free(file[0]);
    free(file[1]);
}

static char *score_of(const char *model)
{
    struct program_result result = program_line("score --model %s --data %s/forget01_prompts.jsonl", model, temporary);
    program_expect(&result, STATUS_OK);
    free(result.err);
    return result.out;
}

/* 40 pairs, 5 epochs: the loss falls, two runs and any number of threads give the same bits, and the output folder is a
 * model: read and saved again (a step of rate 0) its tensors are the same and it scores the same. */
static void test_unlearn_forget01(void **state)
{
    (void)state;
    if (!shared_path("data/tofu/forget01.json"))
        skip();
    unlearn_forget01("one", "--threads 1");
    unlearn_forget01("two", "--threads 2");
    assert_same_files("one/model.safetensors", "two/model.safetensors");
    cJSON *trainer = read_json(temporary_path("one/trainer_state.json"));
    const cJSON *history = json_member(trainer, "log_history");
    assert_int_equal(cJSON_GetArraySize(history), 11); /* ten steps, then the run as a whole */
    assert_true(number(cJSON_GetArrayItem(history, 9), "prob_forget") <
                0.7 * number(cJSON_GetArrayItem(history, 0), "prob_forget"));
    cJSON_Delete(trainer);

    cJSON *row;
    struct buffer lines = {0};
    char *data;
    size_t length;
    assert_int_equal(file_read(shared_path("data/tofu/forget01.json"), 1 << 24, &data, &length, NULL), STATUS_OK);
    for (char *at = data; *at; at = strchr(at, '\n') + 1) {
        row = json_parse(at, (size_t)(strchr(at, '\n') - at), "row", NULL);
        assert_non_null(row);
        assert_int_equal(buffer_printf(&lines, NULL, "{\"prompt\": \"Question: "), STATUS_OK);
        struct buffer escaped = {0};
        assert_int_equal(json_print_string(json_member(row, "question")->valuestring,
                                           strlen(json_member(row, "question")->valuestring), &escaped, NULL), STATUS_OK);
        assert_int_equal(buffer_append(&lines, escaped.data + 1, escaped.length - 2, NULL), STATUS_OK);
        buffer_free(&escaped);
        assert_int_equal(json_print_string(json_member(row, "answer")->valuestring,
                                           strlen(json_member(row, "answer")->valuestring), &escaped, NULL), STATUS_OK);
        assert_int_equal(buffer_printf(&lines, NULL, "\\nAnswer:\", \"answer\": \" %s}\n", escaped.data + 1), STATUS_OK);
        buffer_free(&escaped);
        cJSON_Delete(row);
    }
    free(data);
    temporary_file("forget01_prompts.jsonl", lines.data, lines.length);
    buffer_free(&lines);

    struct program_result result = program_line(
        "finetune --model_name_or_path %s/one --train_data %s --output_dir %s/again --learning_rate 0 --max_steps 1",
        temporary, shared_path("data/tofu/forget01.json"), temporary);
    program_expect(&result, STATUS_OK);
    program_free(&result);
    assert_same_tensors("one/model.safetensors", "again/model.safetensors");
    assert_same_files("one/tokenizer.json", "again/tokenizer.json");
    assert_same_files("one/config.json", "again/config.json");
    char *one = score_of(temporary_path("one")), *again = score_of(temporary_path("again"));
    assert_string_equal(one, again);
    free(one), free(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_score),
        cmocka_unit_test(test_flat_losses_and_gradients),
        cmocka_unit_test(test_story),
        cmocka_unit_test(test_unlearn_forget01),
    };
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

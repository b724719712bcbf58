/* test_method_steps.c - steps of flat unlearn with every method on whole models and adapters, accumulated over micro-batches,
 * against transformers, PEFT and torch in double: tests/golden/methods, made by parity/make_method_model_golden.py. The loss
 * and the gradient's norm of all steps, and of the first every tensor's gradient, as --dump_step writes it.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../host/io/json/json.h"
#include "../../host/io/safetensors/safetensors.h"
#include "../../host/util/memory.h"
#include "../../host/util/file.h"
#include "../support/parity.h"
#include "../support/program.h"

#define FOLDER GOLDEN "/methods"
#define TOKENIZER "configs/demo/model"
#define BOUND 1e-4 /* of a loss relative to it, of a gradient relative to its norm */

static struct worst loss_error, norm_error, tensor_error;

static void copy(const char *folder, const char *name, const char *to)
{
    char from[300], path[300];
    snprintf(from, sizeof from, "%s/%s", folder, name);
    snprintf(path, sizeof path, "%s/%s/%s", temporary, to, name);
    assert_int_equal(file_copy(from, path, NULL), STATUS_OK);
}

/* A checkpoint, beside it the tokenizer of the demo. */
static void model_copy(const char *name)
{
    char folder[200];
    snprintf(folder, sizeof folder, FOLDER "/%s", name);
    assert_int_equal(file_make_directory(temporary_path(name), NULL), STATUS_OK);
    copy(folder, "config.json", name);
    copy(folder, "model.safetensors", name);
    copy(TOKENIZER, "tokenizer.json", name);
    copy(TOKENIZER, "tokenizer_config.json", name);
}

/* " --key value" for every member of an object. */
static void options_add(struct buffer *line, const cJSON *object)
{
    char text[100];
    const cJSON *option;
    cJSON_ArrayForEach(option, object)
    {
        if (cJSON_IsString(option))
            snprintf(text, sizeof text, " --%s %s", option->string, option->valuestring);
        else
            snprintf(text, sizeof text, " --%s %.17g", option->string, option->valuedouble);
        assert_int_equal(buffer_append(line, text, strlen(text), NULL), STATUS_OK);
    }
}

/* The rows that a method takes beside those to forget. */
static void rows_add(struct buffer *line, const char *method, const cJSON *hyper)
{
    const cJSON *retain_loss = json_member(hyper, "retain_loss");
    const bool retains = cJSON_IsString(retain_loss) ? strcmp(retain_loss->valuestring, "none") != 0
                                                     : strcmp(method, "grad_ascent") && strcmp(method, "ceu") &&
                                                           strcmp(method, "undial");
    const char *text = "";
    if (!strcmp(method, "preference") || !strcmp(method, "dpo"))
        text = " --template.file " FOLDER "/templates.txt --template.choice cycle";
    assert_int_equal(buffer_append(line, text, strlen(text), NULL), STATUS_OK);
    text = " --retain_data " FOLDER "/retain.jsonl --retain_choice cycle";
    if (retains)
        assert_int_equal(buffer_append(line, text, strlen(text), NULL), STATUS_OK);
}

static void compare_gradients_file(const cJSON *names, const cJSON *expected, const char *title)
{
    struct safetensors file;
    const cJSON *name, *pair = expected->child;
    assert_int_equal(safetensors_open_file(&file, temporary_path("dump/gradients.safetensors"), NULL), STATUS_OK);
    cJSON_ArrayForEach(name, names)
    {
        const struct safetensors_tensor *tensor = safetensors_find(&file, name->valuestring);
        const double norm = cJSON_GetArrayItem(pair, 0)->valuedouble, sum = cJSON_GetArrayItem(pair, 1)->valuedouble;
        if (!tensor)
            fail_msg("%s: no gradient of %s", title, name->valuestring);
        double *value = malloc((size_t)tensor->elements * sizeof *value), squares = 0, signed_sum = 0;
        assert_non_null(value);
        assert_int_equal(safetensors_read_double(&file, tensor, 0, tensor->elements, value, NULL), STATUS_OK);
        for (int64_t i = 0; i < tensor->elements; i++) {
            squares += value[i] * value[i];
            signed_sum += parity_sign((uint64_t)i) * value[i];
        }
        if (norm > 0) {
            worst_note(&tensor_error, fabs(sqrt(squares) - norm) / norm, title);
            worst_note(&tensor_error, fabs(signed_sum - sum) / norm, title);
        } else if (squares != 0) {
            fail_msg("%s: a gradient of %s", title, name->valuestring);
        }
        free(value);
        pair = pair->next;
    }
    assert_null(pair);
    safetensors_close(&file);
}

/* The loss and the norm in the lines of metrics.jsonl. */
static void compare_steps(const cJSON *steps, const char *title)
{
    char *text;
    size_t length;
    assert_int_equal(file_read(temporary_path("out/metrics.jsonl"), 1 << 20, &text, &length, NULL), STATUS_OK);
    const char *line = text;
    const cJSON *step;
    cJSON_ArrayForEach(step, steps)
    {
        const char *end = strchr(line, '\n');
        assert_non_null(end);
        cJSON *logged = json_parse(line, (size_t)(end - line), "metrics.jsonl", NULL);
        assert_non_null(logged);
        const double loss = cJSON_GetArrayItem(step, 0)->valuedouble, norm = cJSON_GetArrayItem(step, 1)->valuedouble;
        worst_note(&loss_error, fabs(golden_number(logged, "loss") / loss - 1), title);
        worst_note(&norm_error, fabs(golden_number(logged, "grad_norm") / norm - 1), title);
        cJSON_Delete(logged);
        line = end + 1;
    }
    free(text);
}

static void case_run(const cJSON *golden, const cJSON *item)
{
    const char *model = golden_member(item, "model")->valuestring, *method = golden_member(item, "method")->valuestring;
    const cJSON *hyper = golden_member(item, "hyper");
    const bool adapted = cJSON_IsTrue(golden_member(item, "adapted"));
    char title[100], key[40];
    struct buffer line = {0};
    options_add(&line, golden_member(golden, "options"));
    options_add(&line, hyper);
    rows_add(&line, method, hyper);
    snprintf(title, sizeof title, "case %s of %s%s", method, model, adapted ? " with an adapter" : "");
    snprintf(key, sizeof key, "%s%s", model, adapted ? "_lora" : "");
    struct program_result result = program_line(
        "unlearn --method %s --model %s/%s%s%s --forget_data " FOLDER "/forget.jsonl%.*s --output_dir %s/out "
        "--overwrite_output_dir --dump_step %s/dump --reference_cache none --device cpu --threads 2 --logging_steps 1 --quiet",
        method, temporary, model, adapted ? " --adapter " FOLDER "/" : "", adapted ? key : "", (int)line.length, line.data,
        temporary, temporary);
    program_expect(&result, STATUS_OK);
    program_free(&result);
    buffer_free(&line);
    compare_steps(golden_member(item, "steps"), title);
    compare_gradients_file(golden_member(golden_member(golden, "tensors"), key), golden_member(item, "tensors"), title);
}

static void test_steps(void **state)
{
    (void)state;
    struct error error = {0};
    cJSON *golden = json_read(FOLDER "/steps.json", &error);
    if (!golden)
        fail_msg("%s", error.text);
    const cJSON *cases = golden_member(golden, "cases"), *item;
    model_copy("llama");
    model_copy("gpt2");
    cJSON_ArrayForEach(item, cases) case_run(golden, item);
    print_message("%d cases: loss %.1e (%s), norm %.1e (%s), tensor %.1e (%s)\n", cJSON_GetArraySize(cases), loss_error.error,
                  loss_error.where, norm_error.error, norm_error.where, tensor_error.error, tensor_error.where);
    const struct worst *const worst[] = {&loss_error, &norm_error, &tensor_error};
    for (int i = 0; i < 3; i++)
        if (!(worst[i]->error <= BOUND))
            fail_msg("%s is off by %.3g; the bound is %g", worst[i]->where, worst[i]->error, BOUND);
    cJSON_Delete(golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps)};
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

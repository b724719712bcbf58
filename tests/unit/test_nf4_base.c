/* test_nf4_base.c - adapters on a base in NF4: the same bits as on the base rounded to NF4 beforehand and kept whole, on every
 * engine, with layers computed again, in graphs, beside a frozen reference, and where a run goes on from a checkpoint; what is
 * saved is made with the base as it was read, and measured so; what is refused.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../host/io/json/json.h"
#include "../../host/model/adapter.h"
#include "../../host/model/quantizer.h"
#include "../support/assert_ok.h"
#include "../support/program.h"
#include "../support/tiny_model.h"
#include "../support/tiny_trainer.h"

/* A model of a folder, float on the CPU, with what `weights` adds. */
static void model_load(struct device *device, struct model *model, struct weights *weights, const char *folder)
{
    struct error error = {0};
    struct model_config config;
    tiny_device_open(device, "cpu", 1);
    OK(model_config_read(&config, temporary_path(folder), &error));
    OK(model_create(model, &config, DTYPE_F32, &error));
    OK(model_plan(model, false, 1, 1, 1, &error));
    OK(model_allocate(model, device, &error));
    OK(weights_open(weights, model, temporary_path(folder), &error));
}

static void model_close(struct device *device, struct model *model, struct weights *weights)
{
    weights_close(weights);
    model_free(model);
    device_close(device);
}

/* base: trained a little. rounded: its projections as their codes in NF4 stand for them, in float. */
static int make(void **state)
{
    struct error error = {0};
    struct device device;
    struct model model;
    struct weights weights;
    if (temporary_make(state) || tiny_base_make(temporary))
        return -1;
    model_load(&device, &model, &weights, "base");
    weights.quantizer = &(struct quantizer){QUANTIZER_NF4};
    OK(weights_save(&weights, &model, temporary_path("base"), temporary_path("rounded"), NULL, &error));
    model_close(&device, &model, &weights);
    return 0;
}

static void same_training(const struct tiny_training *a, const struct tiny_training *b)
{
    const int first = a->steps - b->steps;
    assert_int_equal(a->count, b->count);
    for (int i = 0; i < b->steps; i++)
        assert_true(a->record[first + i].loss == b->record[i].loss && a->record[first + i].grad_norm == b->record[i].grad_norm);
    assert_memory_equal(a->after, b->after, (size_t)a->count * sizeof *a->after);
}

/* Whether anything in 4 bits is there, in so many bytes. */
static void check_arenas(struct trainer *trainer)
{
    const struct model *model = &trainer->model;
    int64_t weights = 0;
    for (int t = 0; t < model->tensors; t++)
        if (lora_is_projection(&model->tensor[t]))
            weights += model->tensor[t].rows * model->tensor[t].cols;
    assert_true(model->nf4.used && model->nf4.elements >= weights && model->nf4.elements < weights + 256 * 8);
    assert_true(model->elements + model->nf4.elements < model->parameters + 256 * 32);
}

static void check(const char *engine, enum dtype dtype, const char *method, const char *option, const char *value)
{
    struct tiny_training nf4 = {.engine = engine, .dtype = dtype, .steps = 3, .method = method, .model = "base", .look = check_arenas,
                                .settings = {"--lora.r", "4", "--load_in_4bit", "true", option, value}};
    struct tiny_training rounded = {.engine = engine, .dtype = dtype, .steps = 3, .method = method, .model = "rounded",
                                    .settings = {"--lora.r", "4", option, value}};
    tiny_train(&nf4, temporary);
    tiny_train(&rounded, temporary);
    same_training(&nf4, &rounded);
    tiny_training_free(&nf4), tiny_training_free(&rounded);
}

static void test_same_as_rounded(void **state)
{
    (void)state;
    static const struct {
        const char *engine;
        enum dtype dtype;
    } engines[] = {{"cpu", DTYPE_F32}, {"emu", DTYPE_F32}, {"emu", DTYPE_BF16}};
    for (size_t e = 0; e < sizeof engines / sizeof *engines; e++) {
        check(engines[e].engine, engines[e].dtype, NULL, NULL, NULL);
        check(engines[e].engine, engines[e].dtype, NULL, "--gradient_checkpointing", "full");
        check(engines[e].engine, engines[e].dtype, "npo", "--retain_loss", "kl");
        if (e)
            check(engines[e].engine, engines[e].dtype, NULL, "--cuda_graphs", "true");
    }
}

static void test_differs_from_base(void **state)
{
    (void)state;
    struct tiny_training nf4 = {.engine = "cpu", .dtype = DTYPE_F32, .steps = 1, .model = "base",
                                .settings = {"--lora.r", "4", "--load_in_4bit", "true"}};
    struct tiny_training base = {.engine = "cpu", .dtype = DTYPE_F32, .steps = 1, .model = "base", .settings = {"--lora.r", "4"}};
    tiny_train(&nf4, temporary);
    tiny_train(&base, temporary);
    const double off = fabs(nf4.record[0].loss - base.record[0].loss);
    print_message("loss on the base in NF4 %.6f, as it was read %.6f\n", nf4.record[0].loss, base.record[0].loss);
    assert_true(off > 0 && off < 0.1 * base.record[0].loss);
    tiny_training_free(&nf4), tiny_training_free(&base);
}

static void test_resumed(void **state)
{
    (void)state;
    struct tiny_training whole = {.engine = "cpu", .dtype = DTYPE_F32, .steps = 4, .model = "base", .checkpoint = "half", .checkpoint_at = 2,
                                  .settings = {"--lora.r", "4", "--load_in_4bit", "true"}};
    struct tiny_training rest = whole;
    rest.checkpoint = NULL, rest.resume = "half";
    tiny_train(&whole, temporary);
    tiny_train(&rest, temporary);
    for (int i = 0; i < 2; i++)
        assert_true(whole.record[2 + i].loss == rest.record[i].loss);
    assert_memory_equal(whole.after, rest.after, (size_t)whole.count * sizeof *whole.after);
    tiny_training_free(&whole), tiny_training_free(&rest);
}

/* Merged: the adapters of the same run, added to the base as it was read. */
static void test_merged_into_the_base(void **state)
{
    (void)state;
    struct error error = {0};
    struct tiny_training run = {.engine = "cpu", .dtype = DTYPE_F32, .steps = 2, .model = "base", .save = "merged",
                                .settings = {"--lora.r", "4", "--load_in_4bit", "true", "--lora.output", "merged"}};
    struct device device[2];
    struct model model[2];
    struct weights weights[2];
    struct adapter adapter;
    tiny_train(&run, temporary);
    tiny_training_free(&run);
    run.save = "adapter", run.settings[5] = "adapter";
    tiny_train(&run, temporary);
    tiny_training_free(&run);
    model_load(&device[0], &model[0], &weights[0], "base");
    model_load(&device[1], &model[1], &weights[1], "merged");
    OK(adapter_open(&adapter, &model[0], temporary_path("adapter"), &error));
    weights[0].adapter = &adapter;
    const size_t bytes = (size_t)model[0].elements * sizeof(float);
    float *values[2];
    for (int i = 0; i < 2; i++) {
        OK(weights_load(&weights[i], &model[i], &error));
        values[i] = malloc(bytes);
        assert_non_null(values[i]);
        OK(device_copy_out(&device[i], values[i], model[i].param, bytes, &error));
    }
    assert_memory_equal(values[0], values[1], bytes);
    adapter_free(&adapter);
    for (int i = 0; i < 2; i++) {
        free(values[i]);
        model_close(&device[i], &model[i], &weights[i]);
    }
}

static double result_read(const char *run, const char *key)
{
    struct error error = {0};
    char path[600];
    snprintf(path, sizeof path, "%s/%s/run.json", temporary, run);
    cJSON *json = json_read(path, &error);
    const cJSON *value = json_member(json_member(json, "result"), key);
    if (!cJSON_IsNumber(value))
        fail_msg("%s: no %s", path, key);
    const double number = value->valuedouble;
    cJSON_Delete(json);
    return number;
}

static void program_pass(const char *model, const char *out, const char *more)
{
    struct program_result result =
        program_line("finetune --model %s/%s --train_data %s/data.jsonl --output_dir %s/%s --max_steps 3 --device cpu --threads 1 "
                     "--per_device_train_batch_size 2 --gradient_accumulation_steps 1 %s", temporary, model, temporary, temporary, out, more);
    program_expect(&result, STATUS_OK);
    program_free(&result);
}

/* What a run reports is what its folder holds: measured once more by a run that changes nothing. */
static void test_measured_as_saved(void **state)
{
    (void)state;
    static const char *const run[] = {"one", "ranks", "peft"};
    program_pass("base", "one", "--learning_rate 1e-3 --lora.r 4 --load_in_4bit");
    program_pass("base", "ranks", "--learning_rate 1e-3 --lora.r 4 --load_in_4bit --nproc_per_node 2");
    program_pass("base", "peft", "--learning_rate 1e-3 --lora.r 4 --load_in_4bit --lora.output adapter");
    for (int i = 0; i < 3; i++) {
        char again[32], more[400];
        snprintf(again, sizeof again, "%s-again", run[i]);
        snprintf(more, sizeof more, "--learning_rate 0%s%s", i == 2 ? " --adapter " : "", i == 2 ? temporary_path("peft") : "");
        program_pass(i == 2 ? "base" : run[i], again, more);
        const double got = result_read(run[i], "prob_answer"), expected = result_read(again, "prob_answer");
        print_message("%s: P(answer) %.9f in run.json, %.9f measured once more\n", run[i], got, expected);
        assert_true(fabs(got - expected) <= 1e-6 && result_read(run[i], "rows") == 3);
    }
}

static void test_refused(void **state)
{
    (void)state;
    struct error error = {0};
    struct model_config config;
    struct model model;
    struct program_result result = program_line("finetune --model %s/base --train_data %s/data.jsonl --output_dir %s/no --load_in_4bit",
                                                temporary, temporary, temporary);
    program_expect_error(&result, STATUS_USAGE, "load_in_4bit: weights of 4 bits cannot be trained");
    program_free(&result);
    tiny_config(temporary, "");
    OK(model_config_read(&config, temporary, &error));
    config.intermediate_size = 41;
    assert_error(&error, model_create_nf4(&model, &config, DTYPE_F32, &error), STATUS_INPUT, "expected a multiple of 64");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_rounded),   cmocka_unit_test(test_differs_from_base), cmocka_unit_test(test_resumed),
        cmocka_unit_test(test_merged_into_the_base), cmocka_unit_test(test_measured_as_saved), cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, make, temporary_remove);
}

/* test_lora.c - low-rank adapters: gradients against finite differences, merging against the adapter's own forward pass,
 * PEFT folders there and back. The program with --lora.* and --adapter: test_adapter.c.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../host/io/json/json.h"
#include "../../host/model/adapter.h"
#include "../../host/util/file.h"
#include "../../kernels/loss_function.h"
#include "../../kernels/sample.h"
#include "../support/assert_ok.h"
#include "../support/op_test.h"
#include "../support/tiny_model.h"

#define SIZES                                                                                                 \
    "\"vocab_size\": 61, \"hidden_size\": 48, \"num_hidden_layers\": 2, \"num_attention_heads\": 3, "               \
    "\"max_position_embeddings\": 64, \"initializer_range\": 0.2, \"eos_token_id\": 2}"
#define LLAMA "{\"model_type\": \"llama\", \"intermediate_size\": 40, \"num_key_value_heads\": 1, " SIZES
#define PHI "{\"model_type\": \"phi\", \"intermediate_size\": 40, " SIZES
#define GPT2 "{\"model_type\": \"gpt2\", " SIZES

static const struct lora_override others[] = {
    {"model.layers.0.self_attn.q_proj", 6, 2}, {"model.layers.1.mlp.gate_proj", 1, 16}, {"model.layers.1.mlp.up_proj", 4, 3}};

static const struct {
    const char *config;
    struct lora_options options;
    int modules; /* a layer */
} cases[] = {
    {LLAMA, {4, 8, false, "q_proj,v_proj"}, 2},
    {LLAMA, {3, 5, true, "all-linear"}, 7},
    {PHI, {5, 16, false, "all-linear"}, 6},
    {GPT2, {4, 16, false, "all-linear"}, 4},
    {GPT2, {2, 3, true, "attn.c_proj, c_fc"}, 2},
    {LLAMA, {4, 8, false, "all-linear", others, 3}, 7},
};
enum { CASES = sizeof cases / sizeof *cases };

/* The tiny model once more, with the same weights and with adapters whose B is not zero. */
static void open_with_lora(struct tiny *tiny, const char *engine, const char *config, const struct lora_options *options)
{
    temporary_file("config.json", config, strlen(config));
    tiny_open(tiny, temporary, engine, 2, true, 3);
    tiny_remake(tiny, &(struct tiny_options){.lora = options});
}

static double loss_at(struct tiny *tiny, void *address, double value)
{
    tiny_write(tiny, address, &value, 1);
    return tiny_step(tiny, DIVERGENCE_kl);
}

/* Fourth-order central differences at `from` + 3 places of one matrix. */
static void differences_check(struct tiny *tiny, const char *what, const double *gradient, int64_t from, int64_t count)
{
    double scale = 0;
    for (int64_t i = 0; i < count; i++)
        scale = fmax(scale, fabs(gradient[from + i]));
    assert_true(scale > 0);
    for (uint64_t k = 0; k < 3; k++) {
        const int64_t i = from + (int64_t)(sample_uniform(11, (uint64_t)from + k) * (double)count);
        void *address = (char *)tiny->model.lora.param + (size_t)i * sizeof(double);
        double *old = tiny_read(tiny, address, 1), h = 1e-3;
        double slope = (8 * (loss_at(tiny, address, *old + h) - loss_at(tiny, address, *old - h)) -
                        (loss_at(tiny, address, *old + 2 * h) - loss_at(tiny, address, *old - 2 * h))) / (12 * h);
        tiny_write(tiny, address, old, 1);
        free(old);
        if (!(fabs(slope - gradient[i]) <= 1e-7 * scale + 1e-11))
            fail_msg("%s [%lld]: differences %.12g, backward %.12g", what, (long long)(i - from), slope, gradient[i]);
    }
}

static void test_gradients_by_differences(void **state)
{
    (void)state;
    for (int c = 0; c < CASES; c++) {
        struct tiny tiny;
        open_with_lora(&tiny, "cpu64", cases[c].config, &cases[c].options);
        const struct lora *lora = &tiny.model.lora;
        assert_int_equal(lora->modules, 2 * cases[c].modules);
        double *before = tiny_read(&tiny, tiny.model.param, tiny.model.elements);
        tiny_step(&tiny, DIVERGENCE_kl);
        double *gradient = tiny_read(&tiny, lora->grad, lora->elements);
        for (int m = 0; m < lora->modules; m++) {
            const struct lora_module *module = &lora->module[m];
            const struct model_tensor *tensor = &tiny.model.tensor[module->tensor];
            char what[256];
            snprintf(what, sizeof what, "A of %s", tensor->name);
            differences_check(&tiny, what, gradient, module->a, module->rank * tensor->cols);
            snprintf(what, sizeof what, "B of %s", tensor->name);
            differences_check(&tiny, what, gradient, module->b, module->rank * tensor->rows);
        }
        double *after = tiny_read(&tiny, tiny.model.param, tiny.model.elements);
        assert_memory_equal(before, after, (size_t)tiny.model.elements * sizeof *before);
        free(before), free(after), free(gradient);
        tiny_close(&tiny);
    }
}

/* ||a - b|| / ||b|| */
static double relative_difference(const double *a, const double *b, int64_t count)
{
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return sqrt(difference / norm);
}

/* The double engine on the numbers that another engine holds. */
static double *gradient_in_double(struct tiny *tiny, const char *config, const struct lora_options *options)
{
    struct tiny wide;
    open_with_lora(&wide, "cpu64", config, options);
    const struct model *from = &tiny->model, *to = &wide.model;
    double *weights = tiny_read(tiny, from->param, from->elements);
    double *adapters = tiny_read(tiny, from->lora.param, from->lora.elements);
    tiny_write(&wide, to->param, weights, to->elements);
    tiny_write(&wide, to->lora.param, adapters, to->lora.elements);
    tiny_step(&wide, DIVERGENCE_kl);
    double *gradient = tiny_read(&wide, to->lora.grad, to->lora.elements);
    free(weights), free(adapters);
    tiny_close(&wide);
    return gradient;
}

/* spec.md section 7: gradients in float within 1e-4 of double. In bf16 every op rounds, and these weights are large on
 * purpose: the bound is test_step's for the whole model. */
static void test_engines_against_double(void **state)
{
    (void)state;
    static const struct {
        const char *engine;
        double bound;
    } engines[] = {{"cpu", 2e-5}, {"emu-f32", 2e-5}, {"emu-bf16", 0.08}};
    for (int c = 1; c < CASES; c += 2)
        for (size_t e = 0; e < sizeof engines / sizeof *engines; e++) {
            struct tiny tiny;
            open_with_lora(&tiny, engines[e].engine, cases[c].config, &cases[c].options);
            tiny_step(&tiny, DIVERGENCE_kl);
            const int64_t count = tiny.model.lora.elements;
            double *gradient = tiny_read(&tiny, tiny.model.lora.grad, count);
            double *oracle = gradient_in_double(&tiny, cases[c].config, &cases[c].options);
            double difference = relative_difference(gradient, oracle, count);
            print_message("case %d, %s: adapters' gradients within %.2g of double\n", c, engines[e].engine, difference);
            assert_true(difference <= engines[e].bound);
            free(gradient), free(oracle);
            tiny_close(&tiny);
        }
}

/* Nothing is planned for the gradients of frozen weights. */
static void test_memory(void **state)
{
    (void)state;
    struct tiny tiny;
    open_with_lora(&tiny, "cpu", PHI, &cases[2].options);
    const struct model *model = &tiny.model;
    assert_null(model->grad);
    assert_true(model->plan.bytes[MEMORY_GRAD] < ((size_t)model->lora.elements + 16) * sizeof(float) + 64);
    assert_true(model_trainable(model).elements == model->lora.elements);
    assert_true(model_trainable(model).grad == model->lora.grad && model->lora.grad);
    assert_true(8 * model->lora.elements < 9 * (model->elements)); /* of 48 x 48 matrices with rank 5 */
    tiny_close(&tiny);
}

/* A of +-1/sqrt(in), spread over it; the same from the same seed only. */
static void test_initialisation(void **state)
{
    (void)state;
    struct tiny tiny;
    struct error error = {0};
    open_with_lora(&tiny, "cpu", LLAMA, &(struct lora_options){16, 16, false, "down_proj"});
    struct model *model = &tiny.model;
    const struct lora_module *module = &model->lora.module[1];
    const int64_t in = model->tensor[module->tensor].cols, count = 16 * in;
    const double bound = 1 / sqrt((double)in);
    assert_true(in == 40);
    OK(weights_random_lora(model, 3, &error));
    double *first = tiny_read(&tiny, model->lora.param, model->lora.elements);
    OK(weights_random_lora(model, 4, &error));
    double *other = tiny_read(&tiny, model->lora.param, model->lora.elements);
    OK(weights_random_lora(model, 3, &error));
    double *again = tiny_read(&tiny, model->lora.param, model->lora.elements);
    assert_memory_equal(first, again, (size_t)model->lora.elements * sizeof *first);
    double mean = 0, square = 0;
    for (int64_t i = 0; i < count; i++) {
        assert_true(fabs(first[module->a + i]) <= bound * (1 + 1e-6));
        assert_true(first[module->a + i] != other[module->a + i]);
        mean += first[module->a + i] / (double)count;
        square += first[module->a + i] * first[module->a + i] / (double)count;
    }
    assert_true(fabs(mean) < 0.1 * bound && fabs(square - bound * bound / 3) < 0.03 * bound * bound);
    free(first), free(other), free(again);
    tiny_close(&tiny);
}

/* alpha 0 is a scale of 0, as in PEFT: adapters that are not zero change neither loss nor gradients. */
static void test_alpha_zero(void **state)
{
    (void)state;
    static const char *const engines[] = {"cpu64", "cpu", "emu-f32"};
    for (int e = 0; e < 3; e++) {
        struct tiny tiny;
        open_with_lora(&tiny, engines[e], LLAMA, &(struct lora_options){4, 0, false, "all-linear"});
        assert_true(tiny.model.lora.scale == 0);
        const double loss = tiny_step(&tiny, DIVERGENCE_kl);
        double *gradient = tiny_read(&tiny, tiny.model.lora.grad, tiny.model.lora.elements);
        for (int64_t i = 0; i < tiny.model.lora.elements; i++)
            assert_true(gradient[i] == 0);
        tiny_remake(&tiny, &(struct tiny_options){0});
        assert_true(loss == tiny_step(&tiny, DIVERGENCE_kl));
        free(gradient);
        tiny_close(&tiny);
    }
}

/* Strided and scaled products are the dense ones, on every engine: y in the middle of a wider matrix, few and many rows. */
static void test_products_of_columns(void **state)
{
    (void)state;
    enum { IN = 24, OUT = 40, WIDE = 72, AT = 8 };
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int64_t rows = 3; rows <= 300; rows *= 10) {
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            const size_t s = dtype_size(t->dtype);
            double *x = values_random(t, rows * IN, 1), *w = values_random(t, OUT * IN, 2);
            double *y = values_random(t, rows * WIDE, 3), *want = values_new(t, rows * WIDE);
            void *dx = device_new(t, t->dtype, rows * IN), *dw = device_new(t, t->dtype, OUT * IN);
            void *device_x = device_from(t, t->dtype, x, rows * IN), *device_w = device_from(t, t->dtype, w, OUT * IN);
            char *device_y = device_from(t, t->dtype, y, rows * WIDE);
            double *want_dx = values_new(t, rows * IN), *want_dw = values_new(t, OUT * IN);
            memset(want_dx, 0, (size_t)(rows * IN) * sizeof *want_dx);
            memset(want_dw, 0, (size_t)(OUT * IN) * sizeof *want_dw);
            memcpy(want, y, (size_t)(rows * WIDE) * sizeof *want);
            for (int64_t i = 0; i < rows; i++)
                for (int64_t o = 0; o < OUT; o++)
                    for (int64_t k = 0; k < IN; k++) {
                        const double dy = y[i * WIDE + AT + o];
                        want[i * WIDE + AT + o] += 0.75 * x[i * IN + k] * w[o * IN + k];
                        want_dx[i * IN + k] += 0.75 * dy * w[o * IN + k];
                        want_dw[o * IN + k] += dy * x[i * IN + k];
                    }
            OP_CALL(t, linear_backward_input, linear_backward_input_args, .dtype = t->dtype, .rows = rows, .in = IN,
                    .out = OUT, .dy = device_y + AT * s, .dy_stride = WIDE, .weight = device_w, .dx = dx, .scale = 0.75);
            OP_CALL(t, linear_backward_weight, linear_backward_weight_args, .dtype = t->dtype, .grad_dtype = t->dtype,
                    .rows = rows, .in = IN, .out = OUT, .dy = device_y + AT * s, .dy_stride = WIDE, .x = device_x,
                    .dweight = dw);
            OP_CALL(t, linear_forward, linear_args, .dtype = t->dtype, .out_dtype = t->dtype, .rows = rows, .in = IN,
                    .out = OUT, .x = device_x, .weight = device_w, .y = device_y + AT * s, .y_stride = WIDE,
                    .scale = 0.75, .accumulate = true);
            const double bound = 100 * t->eps * sqrt((double)rows);
            assert_close("y", values_from(t, t->dtype, device_y, rows * WIDE), want, rows * WIDE, bound, t->rounding);
            assert_close("dx", values_from(t, t->dtype, dx, rows * IN), want_dx, rows * IN, bound, t->rounding);
            assert_close("dweight", values_from(t, t->dtype, dw, OUT * IN), want_dw, OUT * IN, bound, t->rounding);
            OP_REFUSES(t, linear_forward, linear_args, .dtype = t->dtype, .out_dtype = t->dtype, .rows = rows, .in = IN,
                       .out = OUT, .x = device_x, .weight = device_w, .y = device_y, .y_stride = OUT - 1);
            OP_REFUSES(t, linear_forward, linear_args, .dtype = t->dtype, .out_dtype = t->dtype, .rows = rows, .in = IN,
                       .out = OUT, .x = device_x, .weight = device_w, .bias = device_w, .y = device_y, .y_stride = WIDE);
            op_test_close(t);
        }
}

static double largest_difference(const double *a, const double *b, int64_t count)
{
    double largest = 0;
    for (int64_t i = 0; i < count; i++)
        if (!(fabs(a[i] - b[i]) <= largest)) /* a NaN counts */
            largest = fabs(a[i] - b[i]);
    return largest;
}

/* Log-probabilities of the tiny batch under a folder's weights, with an adapter added while loading or none. */
static double *scores_of(const char *folder, const struct adapter *adapter)
{
    struct tiny tiny;
    struct weights weights;
    struct error error = {0};
    tiny_open(&tiny, folder, "cpu", 2, true, 3);
    OK(weights_open(&weights, &tiny.model, folder, &error));
    weights.adapter = adapter;
    OK(weights_load(&weights, &tiny.model, &error));
    tiny_step(&tiny, DIVERGENCE_kl);
    double *scores = tiny_read(&tiny, tiny.model.head.logprob, tiny.batch.targets);
    weights_close(&weights);
    tiny_close(&tiny);
    return scores;
}

/* Every tensor without an adapter has the bytes of the source. */
static void untouched_check(const struct tiny *tiny, const char *folder, const char *merged)
{
    struct safetensors a, b;
    struct error error = {0};
    int touched = 0;
    OK(safetensors_open(&a, folder, &error));
    OK(safetensors_open(&b, merged, &error));
    assert_int_equal(a.tensors, b.tensors);
    for (int i = 0; i < a.tensors; i++) {
        char *x = malloc(a.tensor[i].bytes), *y = malloc(b.tensor[i].bytes);
        assert_string_equal(a.tensor[i].name, b.tensor[i].name);
        assert_true(a.tensor[i].bytes == b.tensor[i].bytes && a.tensor[i].dtype == b.tensor[i].dtype && x && y);
        OK(safetensors_read_bytes(&a, &a.tensor[i], 0, a.tensor[i].bytes, x, &error));
        OK(safetensors_read_bytes(&b, &b.tensor[i], 0, b.tensor[i].bytes, y, &error));
        touched += memcmp(x, y, a.tensor[i].bytes) != 0;
        free(x), free(y);
    }
    assert_int_equal(touched, tiny->model.lora.modules);
    safetensors_close(&a);
    safetensors_close(&b);
}

/* base + adapter in the forward pass, merged while loading, merged in the saved folder, and read back from PEFT's form:
 * one and the same model. */
static void test_merging_and_round_trip(void **state)
{
    (void)state;
    for (int c = 0; c < CASES; c++) {
        struct tiny tiny;
        struct error error = {0};
        char merged[300], peft[300];
        snprintf(merged, sizeof merged, "%s/merged", temporary);
        snprintf(peft, sizeof peft, "%s/peft", temporary);
        directory_remove(merged), directory_remove(peft);
        open_with_lora(&tiny, "cpu", cases[c].config, &cases[c].options);
        struct model *model = &tiny.model;
        struct weights weights = {0};
        OK(weights_save(&weights, model, temporary, temporary, NULL, &error)); /* the base; it holds no adapter */
        tiny_step(&tiny, DIVERGENCE_kl);
        double *adapted = tiny_read(&tiny, model->head.logprob, tiny.batch.targets);
        const int64_t targets = tiny.batch.targets;

        struct adapter adapter, read;
        OK(adapter_read_back(&adapter, model, model->lora.param, &error));
        OK(weights_open(&weights, model, temporary, &error));
        weights.adapter = &adapter;
        OK(weights_save(&weights, model, temporary, merged, NULL, &error));
        weights_close(&weights);
        OK(adapter_save(&adapter, model, "the/base", peft, &error));
        OK(adapter_open(&read, model, peft, &error));
        assert_int_equal(read.lora.modules, adapter.lora.modules);
        assert_true(read.lora.scale == adapter.lora.scale);
        assert_string_equal(read.lora.options.target_modules, adapter.lora.options.target_modules);
        assert_memory_equal(read.value, adapter.value, (size_t)adapter.lora.elements * sizeof(float));

        double *base = scores_of(temporary, NULL), *loaded = scores_of(temporary, &read), *saved = scores_of(merged, NULL);
        assert_true(largest_difference(adapted, base, targets) > 1e-2);
        assert_true(largest_difference(adapted, loaded, targets) <= 1e-5);
        assert_memory_equal(loaded, saved, (size_t)targets * sizeof *loaded);
        untouched_check(&tiny, temporary, merged);

        cJSON *config = json_read(temporary_path("peft/adapter_config.json"), &error);
        assert_non_null(config);
        assert_string_equal(json_member(config, "peft_type")->valuestring, "LORA");
        assert_int_equal(cJSON_IsTrue(json_member(config, "fan_in_fan_out")), !strcmp(model->config.family->model_type, "gpt2"));
        assert_true(json_member(config, "lora_alpha")->valuedouble == cases[c].options.alpha);
        assert_string_equal(json_member(config, "base_model_name_or_path")->valuestring, "the/base");
        cJSON_Delete(config);
        free(adapted), free(base), free(loaded), free(saved);
        adapter_free(&adapter);
        adapter_free(&read);
        tiny_close(&tiny);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients_by_differences), cmocka_unit_test(test_engines_against_double),
        cmocka_unit_test(test_memory),                   cmocka_unit_test(test_initialisation),
        cmocka_unit_test(test_products_of_columns),      cmocka_unit_test(test_merging_and_round_trip),
        cmocka_unit_test(test_alpha_zero),
    };
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

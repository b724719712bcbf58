/* test_quantize.c - the NF4 and INT8 grids: all elements of three tensors against bitsandbytes (tests/golden/quantize, made by
 * tests/parity/make_quantize_golden.py) and against the nearest level found by trying all; and whole folders whose projections
 * are rounded, of a family that stores them the other way round too.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../host/model/quantizer.h"
#include "../../host/model/weights.h"
#include "../../host/util/quantize.h"
#include "../support/tiny_model.h"

static float *read_all(const struct safetensors *file, const char *name, int64_t *rows, int64_t *cols)
{
    struct error error = {0};
    const struct safetensors_tensor *tensor = safetensors_find(file, name);
    assert_non_null(tensor);
    float *value = malloc((size_t)tensor->elements * sizeof *value);
    assert_non_null(value);
    assert_int_equal(safetensors_read_float(file, tensor, 0, tensor->elements, value, &error), STATUS_OK);
    *rows = tensor->shape[0];
    *cols = tensor->dims > 1 ? tensor->shape[1] : 1;
    return value;
}

static double largest_of(const float *value, int64_t count)
{
    double largest = 0;
    for (int64_t i = 0; i < count; i++)
        largest = fmax(largest, fabs((double)value[i]));
    return largest;
}

/* The level nearest to x; *tie: by how much the next is further away. */
static double nearest_level(double x, double *tie)
{
    double best = INFINITY, second = INFINITY, level = 0;
    for (int i = 0; i < NF4_LEVELS; i++) {
        const double distance = fabs(x - (double)nf4_level[i]);
        if (distance < best)
            second = best, best = distance, level = nf4_level[i];
        else if (distance < second)
            second = distance;
    }
    *tie = second - best;
    return level;
}

/* Rounded values against a search through all levels or integers, in double; ties may go either way. bound: of the type
 * that they are stored in, relative to the largest. */
static void expect_nearest(enum quantizer_kind kind, const float *value, const float *rounded, int64_t rows, int64_t cols,
                           double bound)
{
    const int64_t unit = kind == QUANTIZER_NF4 ? NF4_BLOCK : cols, count = rows * cols;
    for (int64_t first = 0; first < count; first += unit) {
        const int64_t length = count - first < unit ? count - first : unit;
        const double largest = largest_of(value + first, length);
        for (int64_t i = first; i < first + length; i++) {
            const double x = largest > 0 ? value[i] / largest : 0;
            double tie, wanted = kind == QUANTIZER_NF4 ? nearest_level(x, &tie) : rint(127 * x) / 127;
            if (kind == QUANTIZER_INT8)
                tie = fabs(fabs(127 * x - rint(127 * x)) - 0.5);
            if (tie > 1e-5 && fabs(rounded[i] - wanted * largest) > bound * largest)
                fail_msg("element %lld: %.9g became %.9g, nearest is %.9g", (long long)i, value[i], rounded[i], wanted * largest);
        }
    }
}

static void test_against_bitsandbytes(void **state)
{
    (void)state;
    static const char *const names[] = {"normal", "tails", "odd"};
    struct safetensors file;
    struct error error = {0};
    assert_int_equal(safetensors_open_file(&file, "tests/golden/quantize/bitsandbytes.safetensors", &error), STATUS_OK);
    for (int n = 0; n < 3; n++)
        for (int kind = 0; kind < QUANTIZER_KINDS; kind++) {
            char name[40];
            int64_t rows, cols;
            float *value = read_all(&file, names[n], &rows, &cols), *rounded = read_all(&file, names[n], &rows, &cols);
            snprintf(name, sizeof name, "%s_%s", names[n], quantizer_names[kind]);
            float *wanted = read_all(&file, name, &rows, &cols);
            if (kind == QUANTIZER_NF4)
                nf4_round(rounded, rows * cols);
            for (int64_t row = 0; row < rows && kind == QUANTIZER_INT8; row++)
                int8_round(rounded + row * cols, cols);
            int64_t others = 0;
            for (int64_t i = 0; i < rows * cols; i++) {
                const bool zeros = rounded[i] == 0 && isnan(wanted[i]); /* there a row of zeros is 0 / 0 */
                if (rounded[i] != wanted[i] && !zeros && !(n == 2 && i / cols == 7)) /* the values at the bounds */
                    fail_msg("%s, element %lld: %.9g became %.9g, by bitsandbytes %.9g", name, (long long)i, value[i],
                             rounded[i], wanted[i]);
                others += rounded[i] != wanted[i] && !zeros;
            }
            assert_true(others <= NF4_LEVELS - 1);
            expect_nearest(kind, value, rounded, rows, cols, 1e-6);
            free(value), free(rounded), free(wanted);
        }
    safetensors_close(&file);
}

static void test_codes(void **state)
{
    (void)state;
    float value[NF4_BLOCK], again[NF4_BLOCK];
    uint8_t code[NF4_BLOCK];
    int8_t integer[NF4_BLOCK];
    for (int i = 0; i < NF4_BLOCK; i++)
        value[i] = 3 * nf4_level[i % NF4_LEVELS];
    assert_true(nf4_encode(value, NF4_BLOCK, code) == 3);
    for (int i = 0; i < NF4_BLOCK; i++)
        assert_int_equal(code[i], i % NF4_LEVELS);
    nf4_decode(code, NF4_BLOCK, 3, again);
    assert_memory_equal(value, again, sizeof value);
    for (int i = 0; i < NF4_BLOCK; i++)
        value[i] = (float)(2 * i - 64) / 127;
    value[0] = 1;
    assert_true(int8_encode(value, NF4_BLOCK, integer) == 1);
    for (int i = 1; i < NF4_BLOCK; i++)
        assert_int_equal(integer[i], 2 * i - 64);
    int8_decode(integer, NF4_BLOCK, 1, again);
    for (int i = 0; i < NF4_BLOCK; i++)
        assert_true(fabsf(value[i] - again[i]) < 1e-6f);
}

/* [in, out] to [out, in] */
static void turn(float *value, int64_t rows, int64_t cols)
{
    float *turned = malloc((size_t)(rows * cols) * sizeof *turned);
    assert_non_null(turned);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++)
            turned[c * rows + r] = value[r * cols + c];
    memcpy(value, turned, (size_t)(rows * cols) * sizeof *value);
    free(turned);
}

/* Every tensor of the folder and of its rounded copy. */
static int folder_compare(const struct model *model, const char *from, const char *to, enum quantizer_kind kind)
{
    struct safetensors whole, rounded;
    struct error error = {0};
    int projections = 0;
    assert_int_equal(safetensors_open(&whole, from, &error), STATUS_OK);
    assert_int_equal(safetensors_open(&rounded, to, &error), STATUS_OK);
    assert_int_equal(whole.tensors, rounded.tensors);
    for (int t = 0; t < whole.tensors; t++) {
        const char *name = whole.tensor[t].name;
        bool taken = false, transposed = false;
        for (int i = 0; i < model->tensors; i++)
            if (strstr(name, model->tensor[i].name) || strstr(model->tensor[i].name, name)) {
                taken = quantizer_takes(model, i);
                transposed = model->tensor[i].transposed;
                if (!strcmp(name, model->tensor[i].name))
                    break;
            }
        int64_t rows, cols;
        float *value = read_all(&whole, name, &rows, &cols), *got = read_all(&rounded, name, &rows, &cols);
        if (!taken) {
            assert_memory_equal(value, got, (size_t)(rows * cols) * sizeof *value);
        } else {
            if (transposed)
                turn(value, rows, cols), turn(got, rows, cols);
            expect_nearest(kind, value, got, transposed ? cols : rows, transposed ? rows : cols,
                           whole.tensor[t].dtype == SAFETENSORS_F32 ? 1e-6 : 0.004);
            projections++;
        }
        free(value), free(got);
    }
    safetensors_close(&whole);
    safetensors_close(&rounded);
    return projections;
}

static void folder_check(const char *from, int expected)
{
    for (int kind = 0; kind < QUANTIZER_KINDS; kind++) {
        struct model_config config;
        struct model model;
        struct weights weights, again;
        struct error error = {0};
        const struct quantizer quantizer = {kind};
        char to[600], twice[600];
        snprintf(to, sizeof to, "%s/rounded-%d", temporary, kind);
        snprintf(twice, sizeof twice, "%s/twice-%d", temporary, kind);
        if (model_config_read(&config, from, &error) || model_create(&model, &config, DTYPE_F32, &error) ||
            weights_open(&weights, &model, from, &error))
            fail_msg("%s: %s", from, error.text);
        weights.quantizer = &quantizer;
        assert_int_equal(weights_save(&weights, &model, from, to, NULL, &error), STATUS_OK);
        assert_int_equal(folder_compare(&model, from, to, kind), expected);
        /* what is on the grid stays there: a change below a level is gone, and no second rounding brings it back */
        assert_int_equal(weights_open(&again, &model, to, &error), STATUS_OK);
        again.quantizer = &quantizer;
        assert_int_equal(weights_save(&again, &model, to, twice, NULL, &error), STATUS_OK);
        assert_int_equal(folder_compare(&model, to, twice, kind), expected);
        weights_close(&again);
        weights_close(&weights);
        model_free(&model);
        directory_remove(to);
        directory_remove(twice);
    }
}

static void test_folders(void **state)
{
    (void)state;
    struct tiny tiny;
    struct weights made = {0};
    struct error error = {0};
    tiny_config(temporary, "");
    tiny_open(&tiny, temporary, "cpu", 1, false, 2);
    assert_int_equal(weights_save(&made, &tiny.model, temporary, temporary, NULL, &error), STATUS_OK);
    folder_check(temporary, 7 * tiny.model.config.num_hidden_layers);
    tiny_close(&tiny);
    folder_check("tests/golden/models/gpt2", 4 * 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_bitsandbytes),
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_folders),
    };
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

/* test_combine.c - flat combine: every value of the result against the sum computed here in another way, for task vectors and
 * linear sums, of sharded folders in all storage types, into all storage types; what is refused; the record.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../host/io/json/json.h"
#include "../../host/io/safetensors/safetensors.h"
#include "../support/assert_ok.h"
#include "../support/program.h"

#define BASE "tests/golden/models/mistral" /* four shards, bfloat16 */
enum { MODELS = 2, SAVED = 4 };

/* ---- numbers, by what their bits mean ---------------------------------------------------------------------------- */

static const struct {
    enum safetensors_dtype dtype;
    const char *name;
    int bytes, exponent_bits, mantissa_bits;
} types[SAVED] = {{SAFETENSORS_F32, "float32", 4, 8, 23}, {SAFETENSORS_BF16, "bfloat16", 2, 8, 7},
                  {SAFETENSORS_F16, "float16", 2, 5, 10}, {SAFETENSORS_F64, "float64", 8, 11, 52}};

static double value_of(const unsigned char *at, int type)
{
    const int mantissa_bits = types[type].mantissa_bits, exponent_bits = types[type].exponent_bits;
    uint64_t bits = 0;
    for (int i = types[type].bytes - 1; i >= 0; i--)
        bits = bits << 8 | at[i];
    const uint64_t mantissa = bits & ((UINT64_C(1) << mantissa_bits) - 1);
    const int exponent = (int)(bits >> mantissa_bits & ((1u << exponent_bits) - 1)), bias = (1 << (exponent_bits - 1)) - 1;
    const double size = exponent ? ldexp((double)(mantissa | UINT64_C(1) << mantissa_bits), exponent - bias - mantissa_bits)
                                 : ldexp((double)mantissa, 1 - bias - mantissa_bits);
    return bits >> (mantissa_bits + exponent_bits) ? -size : size;
}

/* The nearest value of a type, halves to even. */
static double rounded(double value, int type)
{
    int exponent;
    if (value == 0)
        return 0;
    frexp(value, &exponent);
    const int least = 2 - (1 << (types[type].exponent_bits - 1)); /* of a normal number 2^least */
    const int last = (exponent - 1 > least ? exponent - 1 : least) - types[type].mantissa_bits;
    return ldexp(nearbyint(ldexp(value, -last)), last);
}

static int type_of(enum safetensors_dtype dtype)
{
    for (int i = 0; i < SAVED; i++)
        if (types[i].dtype == dtype)
            return i;
    fail_msg("type %d", dtype);
    return 0;
}

/* All values of a tensor; free(). */
static double *values_read(const struct safetensors *file, const char *name, int64_t *count)
{
    struct error error = {0};
    const struct safetensors_tensor *tensor = safetensors_find(file, name);
    assert_non_null(tensor);
    const int type = type_of(tensor->dtype);
    unsigned char *bytes = malloc(tensor->bytes);
    double *values = malloc((size_t)tensor->elements * sizeof *values);
    assert_true(bytes && values);
    OK(safetensors_read_bytes(file, tensor, 0, tensor->bytes, bytes, &error));
    for (int64_t i = 0; i < tensor->elements; i++)
        values[i] = value_of(bytes + i * types[type].bytes, type);
    free(bytes);
    *count = tensor->elements;
    return values;
}

/* ---- models ------------------------------------------------------------------------------------------------------ */

static char other[MODELS][600];

/* The values of a made model: the base's and something more, in a type that changes from tensor to tensor. */
struct made {
    const struct safetensors *base;
    struct safetensors_entry entry[64];
    int model;
    bool nan;
};

static int made_fill(void *user, int entry, uint64_t first_byte, uint64_t bytes, void *out, struct error *error)
{
    const struct made *made = user;
    const struct safetensors_tensor *tensor = &made->base->tensor[entry];
    double *values = malloc((size_t)tensor->elements * sizeof *values);
    assert_non_null(values);
    assert_int_equal(first_byte, 0);
    assert_int_equal(bytes, made->entry[entry].bytes);
    int status = safetensors_read_double(made->base, tensor, 0, tensor->elements, values, error);
    for (int64_t i = 0; i < tensor->elements && !status; i++) {
        const double value = made->nan && !i ? NAN : values[i] + 0.01 * sin((double)(i + 1) * (entry + 3) * (made->model + 2));
        const float single = (float)value;
        if (made->entry[entry].dtype == SAFETENSORS_F32)
            ((float *)out)[i] = single;
        else if (made->entry[entry].dtype == SAFETENSORS_F64)
            ((double *)out)[i] = value;
        else if (made->entry[entry].dtype == SAFETENSORS_F16)
            ((uint16_t *)out)[i] = f16_from_float(single);
        else
            ((uint16_t *)out)[i] = bf16_from_float(single);
    }
    free(values);
    return status;
}

static void model_make(const char *folder, int model, bool nan)
{
    struct error error = {0};
    struct safetensors base;
    char path[700];
    OK(safetensors_open(&base, BASE, &error));
    struct made made = {.base = &base, .model = model, .nan = nan};
    for (int i = 0; i < base.tensors; i++) {
        const int type = (i + model) % SAVED;
        const struct safetensors_tensor *tensor = &base.tensor[i];
        made.entry[i] = (struct safetensors_entry){.name = tensor->name, .dtype = types[type].dtype, .dims = tensor->dims,
                                                   .bytes = (uint64_t)(tensor->elements * types[type].bytes)};
        memcpy(made.entry[i].shape, tensor->shape, sizeof tensor->shape);
    }
    OK(file_make_directory(folder, &error));
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    OK(safetensors_write(path, made.entry, base.tensors, made_fill, &made, &error));
    snprintf(path, sizeof path, "%s/config.json", folder);
    OK(file_copy(BASE "/config.json", path, &error));
    safetensors_close(&base);
}

static int make(void **state)
{
    if (temporary_make(state))
        return -1;
    for (int i = 0; i < MODELS; i++) {
        snprintf(other[i], sizeof other[i], "%s/other%d", temporary, i);
        model_make(other[i], i, false);
    }
    return 0;
}

/* ---- sums -------------------------------------------------------------------------------------------------------- */

/* The sum in float32, by doubles that are rounded after every operation. */
static double float_sum(const double *value, const double *weight, int count, bool task_vectors)
{
    const int f32 = 0;
    double first = rounded(value[0], f32), sum = rounded(rounded(weight[0], f32) * first, f32);
    for (int i = 1; i < count; i++) {
        const double difference = rounded(rounded(value[i], f32) - (task_vectors ? first : 0), f32);
        sum = rounded(sum + rounded(rounded(weight[i], f32) * difference, f32), f32);
    }
    return sum;
}

static void result_check(const char *folder, const char *const *from, const double *weight, int count, bool task_vectors,
                         const char *dtype)
{
    struct error error = {0};
    struct safetensors model[MODELS + 1], out;
    for (int m = 0; m < count; m++)
        OK(safetensors_open(&model[m], from[m], &error));
    OK(safetensors_open(&out, folder, &error));
    assert_int_equal(out.tensors, model[0].tensors);
    assert_int_equal(out.shards, model[0].shards);
    for (int t = 0; t < out.tensors; t++) {
        const char *name = out.tensor[t].name;
        const int type = type_of(out.tensor[t].dtype);
        double *values[MODELS + 1], *found;
        int64_t elements;
        if (dtype)
            assert_string_equal(types[type].name, dtype);
        else
            assert_int_equal(out.tensor[t].dtype, safetensors_find(&model[0], name)->dtype);
        for (int m = 0; m < count; m++)
            values[m] = values_read(&model[m], name, &elements);
        found = values_read(&out, name, &elements);
        for (int64_t i = 0; i < elements; i++) {
            double value[MODELS + 1];
            for (int m = 0; m < count; m++)
                value[m] = values[m][i];
            const double expected = rounded(float_sum(value, weight, count, task_vectors), type);
            if (found[i] != expected)
                fail_msg("%s, %s[%d]: %.9g, expected %.9g", folder, name, (int)i, found[i], expected);
        }
        for (int m = 0; m < count; m++)
            free(values[m]);
        free(found);
    }
    for (int m = 0; m < count; m++)
        safetensors_close(&model[m]);
    safetensors_close(&out);
}

static void test_task_vectors(void **state)
{
    (void)state;
    static const char *const dtypes[] = {NULL, "float32", "bfloat16", "float16"};
    for (int d = 0; d < 4; d++) {
        const char *from[] = {BASE, other[0], other[1]};
        char out[600];
        snprintf(out, sizeof out, "%s/vectors%d", temporary, d);
        struct program_result result = program_line(
            "combine --model %s --models %s,%s --weights -5,0.3 --output_dir %s --save_dtype %s", BASE, other[0], other[1], out,
            dtypes[d] ? dtypes[d] : "as_read");
        program_expect(&result, STATUS_OK);
        program_free(&result);
        result_check(out, from, (double[]){1, -5, 0.3}, 3, true, dtypes[d]);
        result = program_line("verify %s", out);
        program_expect(&result, STATUS_OK);
        program_free(&result);
    }
}

/* The first folder's storage types and files, of which one is a single file with four types. */
static void test_linear(void **state)
{
    (void)state;
    const char *from[] = {other[1], BASE};
    char out[600];
    snprintf(out, sizeof out, "%s/linear", temporary);
    struct program_result result = program_line("combine --merge_method linear --models %s,%s --weights 0.3,0.7 --output_dir %s",
                                                other[1], BASE, out);
    program_expect(&result, STATUS_OK);
    assert_null(strstr(result.err, "warning"));
    program_free(&result);
    result_check(out, from, (double[]){0.3, 0.7}, 2, false, NULL);
    /* without weights the mean; a sum that is none is said */
    result = program_line("combine --merge_method linear --models %s,%s --output_dir %s --overwrite_output_dir", other[1], BASE,
                          out);
    program_expect(&result, STATUS_OK);
    program_free(&result);
    result_check(out, from, (double[]){0.5, 0.5}, 2, false, NULL);
    result = program_line("combine --merge_method linear --models %s,%s --weights 1,1 --output_dir %s --overwrite_output_dir",
                          other[1], BASE, out);
    program_expect(&result, STATUS_OK);
    assert_non_null(strstr(result.err, "add up to 2"));
    program_free(&result);
}

/* The same command gives the same bytes, and its record says of what. */
static void test_record(void **state)
{
    (void)state;
    struct error error = {0};
    char path[700], id[64] = "";
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/record", temporary);
        struct program_result result = program_line("combine --model %s --models %s --output_dir %s --overwrite_output_dir", BASE,
                                                    other[i / 2], path);
        program_expect(&result, STATUS_OK);
        program_free(&result);
        snprintf(path, sizeof path, "%s/record/run.json", temporary);
        cJSON *json = json_read(path, &error);
        assert_non_null(json);
        assert_int_equal(cJSON_GetArraySize(json_member(json, "inputs")), 5 + 2);
        assert_string_equal(json_member(json_member(json, "config"), "merge_method")->valuestring, "task_arithmetic");
        const char *run_id = json_member(json, "run_id")->valuestring;
        if (i)
            assert_string_equal(run_id, id);
        snprintf(id, sizeof id, "%s", run_id);
        cJSON_Delete(json);
    }
}

static void refuse(int status, const char *text, const char *arguments)
{
    struct program_result result = program_line("combine %s", arguments);
    program_expect_error(&result, status, text);
    program_free(&result);
}

static void test_refused(void **state)
{
    (void)state;
    char line[3000], out[600], nan[600];
    snprintf(out, sizeof out, "%s/refused", temporary);
    snprintf(nan, sizeof nan, "%s/nan", temporary);
    model_make(nan, 0, true);
#define REFUSE(status, text, ...)                                                                                       \
    snprintf(line, sizeof line, __VA_ARGS__);                                                                          \
    refuse(status, text, line)
    REFUSE(STATUS_INPUT, "has the same weights", "--model %s --models %s --output_dir %s", BASE, BASE, out);
    REFUSE(STATUS_INPUT, "model_type qwen2; expected mistral", "--model %s --models tests/golden/models/qwen2 --output_dir %s",
           BASE, out);
    REFUSE(STATUS_INPUT, "do not fit", "--model %s --models tests/golden/models/mistral_window --output_dir %s", BASE, out);
    REFUSE(STATUS_USAGE, "2 for 1 models", "--model %s --models %s --weights 1,2 --output_dir %s", BASE, other[0], out);
    REFUSE(STATUS_USAGE, "expected numbers, found \"x\"", "--model %s --models %s --weights x --output_dir %s", BASE, other[0], out);
    REFUSE(STATUS_USAGE, "model_name_or_path", "--models %s --output_dir %s", other[0], out);
    REFUSE(STATUS_USAGE, "linear adds up the models alone", "--merge_method linear --model %s --models %s --output_dir %s", BASE,
           other[0], out);
    REFUSE(STATUS_USAGE, "the folder of the model itself", "--model %s --models %s --output_dir %s --overwrite_output_dir", BASE, other[0], other[0]);
    REFUSE(STATUS_NONFINITE, "not finite", "--model %s --models %s --output_dir %s", BASE, nan, out);
#undef REFUSE
    assert_int_equal(access(out, F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_task_vectors),
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_record),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, make, temporary_remove);
}

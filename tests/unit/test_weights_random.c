/* test_weights_random.c - weights from scratch against how transformers initialises a new model of every family: mean and
 * deviation of every tensor, and the padding's row (tests/parity/make_init_golden.py).
 */
#include "../support/temporary.h"

#include <math.h>
#include <sched.h>

#include "../../host/io/json/json.h"
#include "../../host/model/weights.h"
#include "../../host/util/memory.h"
#include "../support/assert_ok.h"

static bool in_list(const cJSON *list, int64_t number)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
        if ((int64_t)item->valuedouble == number)
            return true;
    return false;
}

/* want: [mean, deviation, zero rows]. Both are samples: five standard errors apart at most. */
static void tensor_check(struct model *model, int index, const cJSON *want)
{
    struct error error = {0};
    const struct model_tensor *tensor = &model->tensor[index];
    const int64_t cols = tensor->cols ? tensor->cols : 1, count = tensor->rows * cols;
    const double mean = want->child->valuedouble, deviation = want->child->next->valuedouble;
    float *value = memory_array((size_t)count, sizeof *value, &error);
    double sum = 0, square = 0;
    int64_t kept = 0;
    OK(weights_read_back(model, model->param, tensor->offset, count, value, &error));
    for (int64_t i = 0; i < count; i++) {
        if (in_list(cJSON_GetArrayItem(want, 2), i / cols)) {
            if (value[i])
                fail_msg("%s: row %d is not zero", tensor->name, (int)(i / cols));
            continue;
        }
        sum += value[i], square += value[i] * value[i], kept++;
    }
    const double our_mean = sum / (double)kept, our_deviation = sqrt(fmax(0, square / (double)kept - our_mean * our_mean));
    const double share = 1 / sqrt((double)kept);
    if (fabs(our_mean - mean) > 5 * sqrt(2) * deviation * share + 1e-5 ||
        fabs(our_deviation - deviation) > 5 * deviation * share + 1e-5)
        fail_msg("%s: mean %.5f, deviation %.5f; transformers %.5f, %.5f", tensor->name, our_mean, our_deviation, mean,
                 deviation);
    free(value);
}

static void model_check(const cJSON *row)
{
    struct error error = {0};
    struct model_config config;
    struct model model;
    struct device device = {0};
    const cJSON *tensors = json_member(row, "tensors");
    int checked = 0;
    OK(json_write(json_member(row, "config"), temporary_path("config.json"), &error));
    OK(model_config_read(&config, temporary, &error));
    OK(device_open(&device, "cpu", 0, 1, &error));
    OK(model_create(&model, &config, DTYPE_F32, &error));
    OK(model_plan(&model, false, 8, 1, 1, &error));
    OK(model_allocate(&model, &device, &error));
    OK(weights_random(&model, 5, &error));
    for (int t = 0; t < model.tensors; t++) {
        const cJSON *want = json_member(tensors, model.tensor[t].name);
        if (want)
            tensor_check(&model, t, want), checked++;
    }
    assert_int_equal(checked + (config.untied ? 0 : 1), cJSON_GetArraySize(tensors)); /* a tied lm_head is the embedding */
    model_free(&model);
    device_close(&device);
}

static void test_transformers(void **state)
{
    (void)state;
    struct error error = {0};
    cJSON *rows = json_read("tests/golden/initial_weights.json", &error);
    assert_non_null(rows);
    for (const cJSON *row = rows->child; row; row = row->next)
        model_check(row);
    cJSON_Delete(rows);
}

/* Repeated draws: every matrix has the mean and deviation of the draws, norms are 1, and no two layers are the same. */
static void test_repeated(void **state)
{
    (void)state;
    struct error error = {0};
    struct model_config config;
    struct model model;
    struct device device = {0};
    const char text[] = "{\"model_type\": \"llama\", \"vocab_size\": 9000, \"hidden_size\": 128, \"intermediate_size\": 200, "
                        "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"max_position_embeddings\": 64, "
                        "\"initializer_range\": 0.05, \"tie_word_embeddings\": false}";
    temporary_file("config.json", text, strlen(text));
    OK(model_config_read(&config, temporary, &error));
    OK(device_open(&device, "cpu", 0, 1, &error));
    OK(model_create(&model, &config, DTYPE_F32, &error));
    OK(model_plan(&model, false, 8, 1, 1, &error));
    OK(model_allocate(&model, &device, &error));
    OK(weights_random_repeated(&model, 5, &error));
    float first[128], begin[128];
    for (int t = 0; t < model.tensors; t++) {
        const struct model_tensor *tensor = &model.tensor[t];
        const int64_t count = tensor->rows * (tensor->cols ? tensor->cols : 1);
        float *value = memory_array((size_t)count, sizeof *value, &error);
        double sum = 0, square = 0;
        OK(weights_read_back(&model, model.param, tensor->offset, count, value, &error));
        for (int64_t i = 0; i < count; i++)
            sum += value[i], square += value[i] * value[i];
        const double mean = sum / (double)count, share = 1 / sqrt((double)count);
        const double deviation = sqrt(square / (double)count - mean * mean);
        if (tensor->cols ? fabs(mean) > 5 * 0.05 * share || fabs(deviation - 0.05) > 5 * 0.05 * share
                         : mean != 1 || deviation != 0)
            fail_msg("%s: mean %g, deviation %g", tensor->name, mean, deviation);
        memcpy(begin, value, sizeof begin);
        if (tensor->cols && t)
            assert_memory_not_equal(begin, first, sizeof begin);
        memcpy(first, begin, sizeof first);
        free(value);
    }
    model_free(&model);
    device_close(&device);
}

/* Drawn on one processor, and on all there are: the same bits. */
static void test_threads(void **state)
{
    (void)state;
    struct error error = {0};
    struct model_config config;
    struct device device = {0};
    float *value[2];
    cpu_set_t all, one;
    const char text[] = "{\"model_type\": \"llama\", \"vocab_size\": 20011, \"hidden_size\": 64, \"intermediate_size\": 200, "
                        "\"num_hidden_layers\": 1, \"num_attention_heads\": 4, \"max_position_embeddings\": 64, "
                        "\"tie_word_embeddings\": true}";
    int64_t elements = 0;
    temporary_file("config.json", text, strlen(text));
    OK(model_config_read(&config, temporary, &error));
    OK(device_open(&device, "cpu", 0, 1, &error));
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&one);
    for (int cpu = 0; !CPU_COUNT(&one); cpu++)
        if (CPU_ISSET(cpu, &all))
            CPU_SET(cpu, &one);
    for (int i = 0; i < 2; i++) {
        struct model model;
        assert_int_equal(sched_setaffinity(0, sizeof all, i ? &one : &all), 0);
        OK(model_create(&model, &config, DTYPE_F32, &error));
        OK(model_plan(&model, false, 8, 1, 1, &error));
        OK(model_allocate(&model, &device, &error));
        OK(weights_random(&model, 5, &error));
        elements = model.elements;
        value[i] = memory_array((size_t)elements, sizeof *value[i], &error);
        OK(weights_read_back(&model, model.param, 0, elements, value[i], &error));
        model_free(&model);
    }
    sched_setaffinity(0, sizeof all, &all);
    assert_true(elements > 1 << 20);
    assert_memory_equal(value[0], value[1], (size_t)elements * sizeof *value[0]);
    free(value[0]), free(value[1]);
    device_close(&device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_transformers), cmocka_unit_test(test_repeated),
                                       cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

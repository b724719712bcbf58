/* tiny_model.c - see tiny_model.h. */
#include "tiny_model.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../host/util/float16.h"
#include "assert_ok.h"
#include "../../kernels/sample.h"

void tiny_config(const char *directory, const char *extra)
{
    char path[600];
    snprintf(path, sizeof path, "%s/config.json", directory);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file,
            "{%s%s \"vocab_size\": 61, \"hidden_size\": 48, \"intermediate_size\": 40, "
            "\"num_hidden_layers\": 3, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 16, "
            "\"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, \"initializer_range\": 0.2, \"bos_token_id\": 1, "
            "\"eos_token_id\": 2}", strstr(extra, "\"model_type\"") ? "" : "\"model_type\": \"llama\", ", extra);
    assert_int_equal(fclose(file), 0);
}

/* Prompts of 3 to 12 ids with two answers of 1 to 9 ids; some answers share their first ids. */
static void sequences_make(struct tiny *tiny, int pairs)
{
    uint64_t draw = 0;
    for (int p = 0; p < pairs; p++) {
        int prompt = 3 + (int)(sample_uniform(5, draw++) * 10);
        tiny->group_first[p] = 2 * p;
        for (int a = 0; a < 2; a++) {
            int answer = 1 + (int)(sample_uniform(5, draw++) * 9), s = 2 * p + a;
            for (int i = 0; i < prompt + answer; i++)
                tiny->ids[s][i] = 3 + (int32_t)(sample_uniform(5, draw++) * 58);
            if (a)
                memcpy(tiny->ids[s], tiny->ids[s - 1], (size_t)prompt * sizeof(int32_t));
            tiny->ids[s][prompt + answer - 1] = 2;
            tiny->sequence[s] = (struct batch_sequence){tiny->ids[s], prompt + answer, prompt,
                                                            s % 2 ? ROLE_ANSWER : ROLE_TEMPLATE};
        }
    }
    tiny->group_first[pairs] = 2 * pairs;
    tiny->groups = pairs;
}

/* An engine that does not lie beside the program: see op_test.h. */
static void plugin_open(struct device *device, const char *path)
{
    char text[512] = "";
    *device = (struct device){0};
    device->library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!device->library)
        fail_msg("%s", dlerror());
    void *symbol = dlsym(device->library, "flat_engine");
    flat_engine_fn function;
    memcpy(&function, &symbol, sizeof function);
    assert_non_null(function);
    device->engine = function();
    if (device->engine->open(&device->context, NULL, text, sizeof text) != OP_OK)
        fail_msg("%s: %s", path, text);
}

enum dtype tiny_device_open(struct device *device, const char *engine, int threads)
{
    struct error error = {0};
    const bool cuda = !strncmp(engine, "emu", 3);
    if (cuda && getenv("FLAT_EMU"))
        plugin_open(device, getenv("FLAT_EMU"));
    else
        OK(device_open(device, cuda ? "emu" : engine, 0, threads, &error));
    return cuda && strcmp(engine, "emu-bf16") ? DTYPE_F32 : device->engine->dtype;
}

void tiny_open(struct tiny *tiny, const char *directory, const char *engine, int threads, bool training, int pairs)
{
    struct error error = {0};
    struct model_config config;
    memset(tiny, 0, sizeof *tiny);
    sequences_make(tiny, pairs);
    const enum dtype dtype = tiny_device_open(&tiny->device, engine, threads);
    OK(model_config_read(&config, directory, &error));
    OK(model_create(&tiny->model, &config, dtype, &error));
    OK(model_plan(&tiny->model, training, 640, 320, 32, &error));
    OK(memory_plan_add(&tiny->model.plan, MEMORY_SCRATCH, "totals", SEQUENCE_TOTALS, sizeof(double),
                       (void **)&tiny->totals, &error));
    OK(model_allocate(&tiny->model, &tiny->device, &error));
    OK(weights_random(&tiny->model, 7, &error));
    OK(batch_create(&tiny->batch, &tiny->device, 640, 320, 32, &error));
    /* norms and biases away from 1 and 0 */
    double *vectors = tiny_read(tiny, (char *)tiny->model.param + (size_t)tiny->model.decayed * dtype_size(tiny->model.dtype),
                                tiny->model.elements - tiny->model.decayed);
    int64_t first = INT64_MAX;
    for (int t = 0; t < tiny->model.tensors; t++)
        if (!tiny->model.tensor[t].cols && tiny->model.tensor[t].drawn < first)
            first = tiny->model.tensor[t].drawn;
    for (int t = 0; t < tiny->model.tensors; t++) {
        const struct model_tensor *tensor = &tiny->model.tensor[t];
        double *vector = vectors + tensor->offset - tiny->model.decayed;
        for (int64_t i = 0; i < (tensor->cols ? 0 : tensor->rows); i++)
            vector[i] = (float)(vector[i] + 0.25 * (sample_uniform(9, (uint64_t)(tensor->drawn - first + i)) - 0.5));
    }
    tiny_write(tiny, (char *)tiny->model.param + (size_t)tiny->model.decayed * dtype_size(tiny->model.dtype), vectors,
               tiny->model.elements - tiny->model.decayed);
    free(vectors);
    tiny_pack(tiny, true);
}

/* Both matrices of every module away from zero, rounded to float. */
static void adapters_make(struct tiny *tiny)
{
    struct error error = {0};
    const struct model *model = &tiny->model;
    OK(weights_random_lora(&tiny->model, 3, &error));
    double *value = tiny_read(tiny, model->lora.param, model->lora.elements);
    for (int m = 0; m < model->lora.modules; m++) {
        const struct lora_module *module = &model->lora.module[m];
        for (int64_t i = 0; i < model->tensor[module->tensor].rows * module->rank; i++) {
            assert_true(value[module->b + i] == 0);
            value[module->b + i] = (float)(0.3 * (sample_uniform(21, (uint64_t)(module->b + i)) - 0.5));
        }
    }
    tiny_write(tiny, model->lora.param, value, model->lora.elements);
    free(value);
}

void tiny_remake(struct tiny *tiny, const struct tiny_options *options)
{
    struct error error = {0};
    struct model *model = &tiny->model;
    double *weights = tiny_read(tiny, model->param, model->elements);
    const struct model_config config = model->config;
    const enum dtype dtype = model->dtype;
    model_free(model);
    OK(model_create(model, &config, dtype, &error));
    if (options->lora)
        OK(lora_create(&model->lora, model, options->lora, &error));
    model->recompute = options->recompute;
    model->wide_logits = options->wide_logits;
    model->head_chunk = options->head_chunk;
    OK(model_plan(model, !options->inference, 640, 320, 32, &error));
    OK(memory_plan_add(&model->plan, MEMORY_SCRATCH, "totals", SEQUENCE_TOTALS, sizeof(double), (void **)&tiny->totals,
                       &error));
    OK(model_allocate(model, &tiny->device, &error));
    tiny_write(tiny, model->param, weights, model->elements);
    free(weights);
    if (options->lora)
        adapters_make(tiny);
}

void tiny_close(struct tiny *tiny)
{
    batch_free(&tiny->batch, &tiny->device);
    model_free(&tiny->model);
    device_close(&tiny->device);
}

void tiny_pack(struct tiny *tiny, enum batch_sharing sharing)
{
    struct error error = {0};
    OK(batch_pack(&tiny->batch, &tiny->device, tiny->sequence, tiny->group_first, tiny->groups, sharing,
                  tiny->model.config.vocab_size, &error));
}

double tiny_step(struct tiny *tiny, int divergence)
{
    struct error error = {0};
    struct model *model = &tiny->model;
    struct sequence_args loss = model_sequence_args(model, &tiny->batch, tiny->totals);
    double totals[SEQUENCE_TOTALS] = {0};
    for (int role = ROLE_ANSWER; role <= ROLE_TEMPLATE; role++)
        loss.term[role] = (struct loss_term){.statistic = STATISTIC_PROB_MEAN, .scale = 1.0 / tiny->groups};
    loss.term[ROLE_TEMPLATE].function = loss_template(divergence);
    loss.term[ROLE_ANSWER].function = loss_forget(divergence);
    OK(device_copy_in(&tiny->device, tiny->totals, totals, sizeof totals, &error));
    const struct model_trainable trained = model_trainable(model);
    if (model->training && !model->overwrite_gradients)
        OK(device_zero(&tiny->device, trained.grad, (size_t)trained.elements * dtype_size(model->dtype), &error));
    OK(model_forward(model, &tiny->batch, &error));
    OK(device_run(&tiny->device, &error, sequence_loss, &loss));
    if (model->training)
        OK(model_backward(model, &tiny->batch, &error));
    OK(device_copy_out(&tiny->device, totals, tiny->totals, sizeof totals, &error));
    return totals[TOTAL_LOSS];
}

double *tiny_read_as(struct tiny *tiny, enum dtype dtype, const void *from, int64_t count)
{
    struct error error = {0};
    double *values = malloc((size_t)count * sizeof *values);
    void *stored = malloc((size_t)count * dtype_size(dtype));
    assert_true(values && stored);
    OK(device_copy_out(&tiny->device, stored, from, (size_t)count * dtype_size(dtype), &error));
    for (int64_t i = 0; i < count; i++)
        values[i] = dtype == DTYPE_F64   ? ((double *)stored)[i]
                    : dtype == DTYPE_F32 ? (double)((float *)stored)[i]
                                         : (double)float_from_bf16(((uint16_t *)stored)[i]);
    free(stored);
    return values;
}

void tiny_write_as(struct tiny *tiny, enum dtype dtype, void *to, const double *values, int64_t count)
{
    struct error error = {0};
    void *stored = malloc((size_t)count * dtype_size(dtype));
    assert_non_null(stored);
    for (int64_t i = 0; i < count; i++)
        if (dtype == DTYPE_F64)
            ((double *)stored)[i] = values[i];
        else if (dtype == DTYPE_F32)
            ((float *)stored)[i] = (float)values[i];
        else
            ((uint16_t *)stored)[i] = bf16_from_float((float)values[i]);
    OK(device_copy_in(&tiny->device, to, stored, (size_t)count * dtype_size(dtype), &error));
    free(stored);
}

double *tiny_read(struct tiny *tiny, const void *from, int64_t count)
{
    return tiny_read_as(tiny, tiny->model.dtype, from, count);
}

void tiny_write(struct tiny *tiny, void *to, const double *values, int64_t count)
{
    tiny_write_as(tiny, tiny->model.dtype, to, values, count);
}

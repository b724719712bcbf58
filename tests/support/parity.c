/* parity.c - see parity.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../host/loss/method.h"
#include "../../host/util/file.h"
#include "parity.h"

const cJSON *golden_member(const cJSON *object, const char *key)
{
    const cJSON *found = json_member(object, key);
    if (!found)
        fail_msg("expected.json: %s is missing; run tests/parity/make_model_golden.py", key);
    return found;
}

double golden_number(const cJSON *object, const char *key)
{
    return golden_member(object, key)->valuedouble;
}

void path_join(char *out, size_t bytes, const char *directory, const char *name)
{
    struct error error = {0};
    OK(file_join(out, bytes, directory, name, &error));
}

void golden_open(struct golden *golden, const char *folder)
{
    struct error error = {0};
    char path[512];
    path_join(path, sizeof path, folder, "expected/expected.json");
    golden->expected = json_read(path, &error);
    if (!golden->expected)
        fail_msg("%s", error.text);
    path_join(path, sizeof path, folder, "expected/gradients.safetensors");
    OK(safetensors_open_file(&golden->gradients, path, &error));
}

void golden_close(struct golden *golden)
{
    cJSON_Delete(golden->expected);
    safetensors_close(&golden->gradients);
}

void golden_model(const struct golden *golden, const char *folder, char *out, size_t bytes)
{
    const cJSON *base = json_member(golden->expected, "base");
    if (base)
        path_join(out, bytes, GOLDEN "/models", base->valuestring);
    else
        snprintf(out, bytes, "%s", folder);
}

int golden_place(const struct golden *golden, const char *name)
{
    int place = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, golden_member(golden->expected, "tensors"))
    {
        if (!strcmp(item->valuestring, name))
            return place;
        place++;
    }
    fail_msg("%s is a parameter of ours, but not of transformers", name);
    return -1;
}

double *golden_gradient(const struct golden *golden, const char *name, int64_t count)
{
    struct error error = {0};
    const struct safetensors_tensor *stored = safetensors_find(&golden->gradients, name);
    if (!stored || stored->elements != count)
        fail_msg("%s: transformers has no gradient of this name and size", name);
    double *values = malloc((size_t)count * sizeof *values);
    assert_non_null(values);
    OK(safetensors_read_double(&golden->gradients, stored, 0, count, values, &error));
    return values;
}

/* Prompt and answer as one sequence. */
static void sequence_make(struct subject *subject, int s, const cJSON *prompt, const cJSON *answer)
{
    const int prompt_length = cJSON_GetArraySize(prompt), length = prompt_length + cJSON_GetArraySize(answer);
    int32_t *ids = subject->ids[s] = malloc((size_t)length * sizeof *ids);
    assert_non_null(ids);
    const cJSON *id;
    cJSON_ArrayForEach(id, prompt) *ids++ = id->valueint;
    cJSON_ArrayForEach(id, answer) *ids++ = id->valueint;
    subject->tiny.sequence[s] = (struct batch_sequence){subject->ids[s], length, prompt_length,
                                                        s % 2 ? ROLE_ANSWER : ROLE_TEMPLATE};
}

void subject_open(struct subject *subject, const struct golden *golden, const char *folder, const char *engine)
{
    struct error error = {0};
    struct tiny *tiny = &subject->tiny;
    struct model *model = &tiny->model;
    struct model_config config;
    struct batch_size size = {0};
    char base[512];
    memset(subject, 0, sizeof *subject);
    golden_model(golden, folder, base, sizeof base);
    const cJSON *pair;
    cJSON_ArrayForEach(pair, golden_member(golden->expected, "pairs"))
    {
        const int s = 2 * tiny->groups;
        assert_true(tiny->groups < PAIRS_MAX);
        sequence_make(subject, s, golden_member(pair, "prompt"), golden_member(pair, "template"));
        sequence_make(subject, s + 1, golden_member(pair, "prompt"), golden_member(pair, "forget"));
        tiny->group_first[++tiny->groups] = s + 2;
        batch_group_size(&tiny->sequence[s], 2, false, &size);
    }
    const enum dtype dtype = tiny_device_open(&tiny->device, engine, 2);
    OK(model_config_read(&config, base, &error));
    OK((json_member(golden->expected, "load_in_4bit") ? model_create_nf4 : model_create)(model, &config, dtype, &error));
    OK(weights_open(&subject->weights, model, base, &error));
    if (json_member(golden->expected, "base")) {
        OK(adapter_open(&subject->adapter, model, folder, &error));
        OK(lora_create(&model->lora, model, &subject->adapter.lora.options, &error));
    }
    OK(model_plan(model, true, size.rows, size.targets, 2 * PAIRS_MAX, &error));
    const size_t stat = dtype_size(dtype_stat(model->dtype));
    const int64_t trained = model_trainable(model).elements;
    OK(memory_plan_add(&model->plan, MEMORY_OPTIMIZER, "m", trained, stat, &subject->m, &error));
    OK(memory_plan_add(&model->plan, MEMORY_OPTIMIZER, "v", trained, stat, &subject->v, &error));
    if (dtype == DTYPE_BF16)
        OK(memory_plan_add(&model->plan, MEMORY_OPTIMIZER, "low", trained, sizeof(uint16_t),
                           (void **)&model->master.low, &error));
    subject->whole = (struct model_shard){.count = trained};
    model->master.shard = &subject->whole;
    model->master.shards = 1;
    OK(memory_plan_add(&model->plan, MEMORY_SCRATCH, "totals", SEQUENCE_TOTALS, sizeof(double), (void **)&tiny->totals,
                       &error));
    OK(memory_plan_add(&model->plan, MEMORY_SCRATCH, "gradient norm", 1, sizeof(double), (void **)&subject->sum_squares,
                       &error));
    OK(memory_plan_add(&model->plan, MEMORY_OPTIMIZER, "state", 1, sizeof *subject->adamw, (void **)&subject->adamw,
                       &error));
    OK(model_allocate(model, &tiny->device, &error));
    if (model->master.low) /* the padding between tensors takes part in the update */
        OK(device_zero(&tiny->device, model->master.low, (size_t)trained * sizeof(uint16_t), &error));
    OK(weights_load(&subject->weights, model, &error));
    if (subject->adapter.lora.modules)
        OK(adapter_upload(&subject->adapter, model, &error));
    OK(batch_create(&tiny->batch, &tiny->device, size.rows, size.targets, 2 * PAIRS_MAX, &error));
    tiny_pack(tiny, true);
}

void subject_close(struct subject *subject)
{
    for (int s = 0; s < 2 * subject->tiny.groups; s++)
        free(subject->ids[s]);
    adapter_free(&subject->adapter);
    weights_close(&subject->weights);
    tiny_close(&subject->tiny);
}

double subject_step(struct subject *subject, const char *divergence, const char *average, int64_t padded_length)
{
    struct error error = {0};
    struct tiny *tiny = &subject->tiny;
    struct model *model = &tiny->model;
    const struct model_trainable trained = model_trainable(model);
    double totals[SEQUENCE_TOTALS];
    const struct method *method;
    OK(method_find("flat", false, &method, &error));
    char length[24];
    snprintf(length, sizeof length, "%lld", (long long)padded_length);
    const char *const said[] = {"divergence", divergence, "flat_average", average,
                                padded_length ? "flat_padded_length" : NULL, length};
    struct option_set set;
    void *options = calloc(1, method->options->bytes);
    option_set_init(&set, "test");
    OK(option_set_add(&set, method->options, options, &error));
    for (int i = 0; i < 6 && said[i]; i += 2) {
        const struct option *option;
        OK(option_set_find(&set, said[i], NULL, &option, &error));
        OK(option_set_text(&set, option, said[i + 1], OPTION_FROM_FLAG, NULL, &error));
    }
    const struct loss_scope scope = {.micro_batch = tiny->sequence, .step = tiny->sequence,
                                     .micro_batch_sequences = 2 * tiny->groups, .step_sequences = 2 * tiny->groups,
                                     .micro_batches = 1};
    struct sequence_args loss = model_sequence_args(model, &tiny->batch, tiny->totals);
    method->terms(options, &scope, loss.term);
    option_set_free(&set);
    free(options);
    OK(device_zero(&tiny->device, tiny->totals, sizeof totals, &error));
    OK(device_zero(&tiny->device, trained.grad, (size_t)trained.elements * dtype_size(model->dtype), &error));
    OK(model_forward(model, &tiny->batch, &error));
    OK(device_run(&tiny->device, &error, sequence_loss, &loss));
    OK(model_backward(model, &tiny->batch, &error));
    OK(device_copy_out(&tiny->device, totals, tiny->totals, sizeof totals, &error));
    return totals[TOTAL_LOSS];
}

void subject_update(struct subject *subject, const cJSON *adamw)
{
    struct error error = {0};
    struct model *model = &subject->tiny.model;
    const size_t s = dtype_size(model->dtype), stat = dtype_size(dtype_stat(model->dtype));
    const struct model_trainable trained = model_trainable(model);
    OK(device_zero(model->device, subject->m, (size_t)trained.elements * stat, &error));
    OK(device_zero(model->device, subject->v, (size_t)trained.elements * stat, &error));
    OK(device_run(model->device, &error, adamw_norm,
                  &((struct adamw_norm_args){.grad_dtype = model->dtype,
                                             .n = trained.elements,
                                             .grad = trained.grad,
                                             .sum_squares = subject->sum_squares})));
    const struct adamw_state start = {.learning_rate = golden_number(adamw, "learning_rate")};
    OK(device_copy_in(model->device, subject->adamw, &start, sizeof start, &error));
    OK(device_run(model->device, &error, adamw_prepare,
                  &((struct adamw_prepare_args){.sum_squares = subject->sum_squares,
                                                .max_grad_norm = golden_number(adamw, "max_grad_norm"),
                                                .beta1 = golden_number(adamw, "beta1"),
                                                .beta2 = golden_number(adamw, "beta2"),
                                                .state = subject->adamw})));
    const int64_t from[2] = {0, trained.decayed}, to[2] = {trained.decayed, trained.elements};
    for (int part = 0; part < 2; part++)
        OK(device_run(model->device, &error, adamw_step,
                      &((struct adamw_args){.dtype = model->dtype,
                                            .grad_dtype = model->dtype,
                                            .n = to[part] - from[part],
                                            .low = model->master.low ? model->master.low + from[part] : NULL,
                                            .param = (char *)trained.param + (size_t)from[part] * s,
                                            .grad = (char *)trained.grad + (size_t)from[part] * s,
                                            .m = (char *)subject->m + (size_t)from[part] * stat,
                                            .v = (char *)subject->v + (size_t)from[part] * stat,
                                            .state = subject->adamw,
                                            .beta1 = golden_number(adamw, "beta1"),
                                            .beta2 = golden_number(adamw, "beta2"),
                                            .eps = golden_number(adamw, "eps"),
                                            .weight_decay =
                                                part == 0 ? golden_number(adamw, "weight_decay") : 0})));
}

int subject_tensors(const struct subject *subject)
{
    const struct model *model = &subject->tiny.model;
    return model->lora.modules ? 2 * model->lora.modules : model->tensors;
}

/* The tensor of the model that a trained tensor is, or that A (index even) and B (odd) adapt. */
static const struct model_tensor *tensor_of(const struct subject *subject, int index)
{
    const struct model *model = &subject->tiny.model;
    return &model->tensor[model->lora.modules ? model->lora.module[index / 2].tensor : index];
}

struct subject_tensor subject_tensor(const struct subject *subject, int index)
{
    const struct lora *lora = &subject->tiny.model.lora;
    const struct model_tensor *tensor = tensor_of(subject, index);
    struct subject_tensor out = {.elements = tensor->rows * (tensor->cols ? tensor->cols : 1)};
    snprintf(out.name, sizeof out.name, "%s", tensor->name);
    if (lora->modules) {
        snprintf(out.name, sizeof out.name, "base_model.model.%.*s.lora_%c.weight",
                 (int)(strlen(tensor->name) - strlen(".weight")), tensor->name, index % 2 ? 'B' : 'A');
        out.elements = lora->module[index / 2].rank * (index % 2 ? tensor->rows : tensor->cols);
    }
    return out;
}

float *subject_gradient(struct subject *subject, int index)
{
    struct model *model = &subject->tiny.model;
    struct error error = {0};
    struct tensor_reader reader = {.model = model, .arena = model->grad};
    const int64_t count = subject_tensor(subject, index).elements;
    float *values = malloc((size_t)count * sizeof *values);
    assert_non_null(values);
    if (model->lora.modules) {
        const struct lora_module *module = &model->lora.module[index / 2];
        OK(weights_read_back(model, model->lora.grad, index % 2 ? module->b : module->a, count, values, &error));
    } else {
        OK(tensor_read(&reader, index, 0, count, values, &error));
        tensor_reader_free(&reader);
    }
    return values;
}

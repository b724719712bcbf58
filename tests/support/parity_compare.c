/* parity_compare.c - what an engine computed against a golden folder's figures; see parity.h. */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "../../host/util/file.h"
#include "parity.h"

void worst_note(struct worst *worst, double error, const char *where)
{
    if (error <= worst->error || isnan(worst->error)) /* a NaN counts, and stays */
        return;
    worst->error = error;
    snprintf(worst->where, sizeof worst->where, "%s", where);
}

static double list_norm(const cJSON *list)
{
    double sum = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, list) sum += item->valuedouble * item->valuedouble;
    return sqrt(sum);
}

/* A gradient that is zero in exact arithmetic (a key's bias without rotary positions) is rounding noise, which is held
 * against the whole gradient. */
static bool is_zero(double norm, double whole)
{
    return norm < 1e-9 * whole;
}

void compare_logprobs(const struct subject *subject, const struct golden *golden, struct worst *worst)
{
    struct tiny tiny = subject->tiny;
    double *got = tiny_read_as(&tiny, dtype_stat(tiny.model.dtype), tiny.model.head.logprob, tiny.batch.targets);
    int i = 0;
    const cJSON *pair, *value;
    cJSON_ArrayForEach(pair, golden_member(golden->expected, "pairs"))
    {
        cJSON_ArrayForEach(value, golden_member(pair, "template_logprobs"))
            worst_note(worst, fabs(got[i++] - value->valuedouble), "a template answer");
        cJSON_ArrayForEach(value, golden_member(pair, "forget_logprobs"))
            worst_note(worst, fabs(got[i++] - value->valuedouble), "a forget answer");
    }
    assert_int_equal(i, tiny.batch.targets);
    free(got);
}

void compare_gradient_norms(struct subject *subject, const struct golden *golden, const cJSON *norms,
                            struct worst *worst)
{
    const double whole = list_norm(norms);
    assert_int_equal(subject_tensors(subject), cJSON_GetArraySize(norms));
    for (int t = 0; t < subject_tensors(subject); t++) {
        const struct subject_tensor tensor = subject_tensor(subject, t);
        const double expected = cJSON_GetArrayItem(norms, golden_place(golden, tensor.name))->valuedouble;
        float *got = subject_gradient(subject, t);
        double sum = 0;
        for (int64_t i = 0; i < tensor.elements; i++)
            sum += (double)got[i] * got[i];
        worst_note(worst, fabs(sqrt(sum) - expected) / (is_zero(expected, whole) ? whole : expected), tensor.name);
        free(got);
    }
}

void compare_gradients(struct subject *subject, const struct golden *golden, const cJSON *norms, struct worst *worst)
{
    const double whole = list_norm(norms);
    for (int t = 0; t < subject_tensors(subject); t++) {
        const struct subject_tensor tensor = subject_tensor(subject, t);
        double *expected = golden_gradient(golden, tensor.name, tensor.elements), difference = 0, norm = 0;
        float *got = subject_gradient(subject, t);
        for (int64_t i = 0; i < tensor.elements; i++) {
            difference += (got[i] - expected[i]) * (got[i] - expected[i]);
            norm += expected[i] * expected[i];
        }
        norm = sqrt(norm);
        worst_note(worst, sqrt(difference) / (is_zero(norm, whole) ? whole : norm), tensor.name);
        free(got);
        free(expected);
    }
}

static double moment_norm(struct subject *subject, const void *moment)
{
    const int64_t count = model_trainable(&subject->tiny.model).elements;
    double *values = tiny_read_as(&subject->tiny, dtype_stat(subject->tiny.model.dtype), moment, count), sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += values[i] * values[i];
    free(values);
    return sqrt(sum);
}

/* What is trained, in the precision that AdamW keeps it in. */
static double *trained_read(struct tiny *tiny)
{
    const struct model_trainable trained = model_trainable(&tiny->model);
    if (!tiny->model.master.low)
        return tiny_read(tiny, trained.param, trained.elements);
    struct error error = {0};
    float *weight = malloc((size_t)trained.elements * sizeof *weight);
    double *values = malloc((size_t)trained.elements * sizeof *values);
    if (weights_read_back(&tiny->model, trained.param, 0, trained.elements, weight, &error))
        fail_msg("%s", error.text);
    for (int64_t i = 0; i < trained.elements; i++)
        values[i] = weight[i];
    free(weight);
    return values;
}

/* Puts what one AdamW step changes into the gradient arena, from where it can be read tensor by tensor. */
static void change_make(struct subject *subject, const cJSON *adamw)
{
    const struct model_trainable trained = model_trainable(&subject->tiny.model);
    double *before = trained_read(&subject->tiny);
    subject_update(subject, adamw);
    double *change = trained_read(&subject->tiny);
    for (int64_t i = 0; i < trained.elements; i++)
        change[i] -= before[i];
    tiny_write(&subject->tiny, trained.grad, change, trained.elements);
    free(before);
    free(change);
}

/* Norm of a tensor's change and its product with the signs, over the elements whose gradient does not nearly vanish:
 * the first step is near the gradient's sign, and theirs is rounding. make_model_golden.py has the same. */
static void change_measure(struct subject *subject, const struct golden *golden, int t, double *norm,
                           double *signed_sum)
{
    const struct subject_tensor tensor = subject_tensor(subject, t);
    const int64_t count = tensor.elements;
    double *gradient = golden_gradient(golden, tensor.name, count), largest = 0, squares = 0;
    float *change = subject_gradient(subject, t);
    for (int64_t i = 0; i < count; i++)
        largest = fmax(largest, fabs(gradient[i]));
    *signed_sum = 0;
    for (int64_t i = 0; i < count; i++)
        if (fabs(gradient[i]) >= 1e-3 * largest || gradient[i] == 0) {
            squares += (double)change[i] * change[i];
            *signed_sum += parity_sign((uint64_t)i) * change[i];
        }
    *norm = sqrt(squares);
    free(gradient);
    free(change);
}

/* The first step divides the gradient by its size: a small element that has the wrong sign in bf16 moves the wrong way.
 * What the step itself does is measured without that. */
static void compare_own_update(struct subject *subject, const cJSON *adamw, struct worst *worst)
{
    const struct model_trainable trained = model_trainable(&subject->tiny.model);
    const double rate = golden_number(adamw, "learning_rate"), decay = golden_number(adamw, "weight_decay");
    const double eps = golden_number(adamw, "eps");
    double *gradient = tiny_read(&subject->tiny, trained.grad, trained.elements);
    double *before = trained_read(&subject->tiny), squares = 0, difference = 0, norm = 0;
    for (int64_t i = 0; i < trained.elements; i++)
        squares += gradient[i] * gradient[i];
    const double clip = fmin(1, golden_number(adamw, "max_grad_norm") / (sqrt(squares) + 1e-6));
    subject_update(subject, adamw);
    double *after = trained_read(&subject->tiny);
    for (int64_t i = 0; i < trained.elements; i++) {
        const double g = clip * gradient[i], w = before[i];
        const double expected = -rate * ((i < trained.decayed ? decay * w : 0) + g / (fabs(g) + eps));
        difference += (after[i] - w - expected) * (after[i] - w - expected);
        norm += expected * expected;
    }
    worst_note(worst, sqrt(difference / norm), "all tensors");
    free(gradient);
    free(before);
    free(after);
}

void compare_update(struct subject *subject, const struct golden *golden, const cJSON *norms, struct worst *worst)
{
    const cJSON *adamw = golden_member(golden->expected, "adamw"), *moment = golden_member(adamw, "moment_norms");
    const void *const moments[] = {subject->m, subject->v};
    if (subject->tiny.model.dtype == DTYPE_BF16) {
        compare_own_update(subject, adamw, worst);
        return;
    }
    change_make(subject, adamw);
    for (int i = 0; i < 2; i++)
        worst_note(worst, fabs(moment_norm(subject, moments[i]) / cJSON_GetArrayItem(moment, i)->valuedouble - 1),
                   i ? "v" : "m");
    for (int t = 0; t < subject_tensors(subject); t++) {
        const struct subject_tensor tensor = subject_tensor(subject, t);
        const int place = golden_place(golden, tensor.name);
        const cJSON *expected = cJSON_GetArrayItem(golden_member(adamw, "update"), place);
        const double expected_norm = cJSON_GetArrayItem(expected, 0)->valuedouble;
        double norm, signed_sum;
        if (is_zero(cJSON_GetArrayItem(norms, place)->valuedouble, list_norm(norms)))
            continue;
        change_measure(subject, golden, t, &norm, &signed_sum);
        worst_note(worst, fabs(norm - expected_norm) / expected_norm, tensor.name);
        worst_note(worst, fabs(signed_sum - cJSON_GetArrayItem(expected, 1)->valuedouble) / expected_norm, tensor.name);
    }
}

/* Same name, type, shape and bytes. */
static void tensors_compare(const struct safetensors *a, const struct safetensors_tensor *from,
                            const struct safetensors *b, const struct safetensors_tensor *to)
{
    struct error error = {0};
    assert_non_null(to);
    assert_string_equal(from->name, to->name);
    assert_string_equal(from->dtype_text, to->dtype_text);
    assert_int_equal(from->dims, to->dims);
    assert_memory_equal(from->shape, to->shape, sizeof from->shape);
    assert_int_equal(from->bytes, to->bytes);
    char *left = malloc(from->bytes), *right = malloc(from->bytes);
    assert_true(left && right);
    OK(safetensors_read_bytes(a, from, 0, from->bytes, left, &error));
    OK(safetensors_read_bytes(b, to, 0, from->bytes, right, &error));
    if (memcmp(left, right, from->bytes))
        fail_msg("%s is not what was read", from->name);
    free(left);
    free(right);
}

void compare_folders(const char *one, const char *two)
{
    struct error error = {0};
    struct safetensors a, b;
    OK(safetensors_open(&a, one, &error));
    OK(safetensors_open(&b, two, &error));
    assert_int_equal(a.tensors, b.tensors);
    assert_int_equal(a.shards, b.shards);
    for (int i = 0; i < a.tensors; i++) {
        assert_int_equal(a.tensor[i].shard, b.tensor[i].shard);
        tensors_compare(&a, &a.tensor[i], &b, &b.tensor[i]);
    }
    safetensors_close(&a);
    safetensors_close(&b);
}

void compare_adapters(const char *one, const char *two)
{
    struct error error = {0};
    struct safetensors a, b;
    char path[512];
    path_join(path, sizeof path, one, "adapter_model.safetensors");
    OK(safetensors_open_file(&a, path, &error));
    path_join(path, sizeof path, two, "adapter_model.safetensors");
    OK(safetensors_open_file(&b, path, &error));
    assert_int_equal(a.tensors, b.tensors);
    for (int i = 0; i < a.tensors; i++)
        tensors_compare(&a, &a.tensor[i], &b, safetensors_find(&b, a.tensor[i].name));
    safetensors_close(&a);
    safetensors_close(&b);
}

int compare_files(const char *one, const char *two, bool weights)
{
    struct error error = {0};
    int files = 0;
    DIR *directory = opendir(one);
    assert_non_null(directory);
    for (const struct dirent *item; (item = readdir(directory));) {
        char path[512], *left, *right;
        size_t left_length, right_length;
        struct stat info;
        path_join(path, sizeof path, one, item->d_name);
        if (stat(path, &info) || !S_ISREG(info.st_mode) || (!weights && strstr(item->d_name, ".safetensors")))
            continue;
        OK(file_read(path, 1 << 26, &left, &left_length, &error));
        path_join(path, sizeof path, two, item->d_name);
        OK(file_read(path, 1 << 26, &right, &right_length, &error));
        if (left_length != right_length || memcmp(left, right, left_length))
            fail_msg("%s differs from the one in %s", path, one);
        free(left);
        free(right);
        files++;
    }
    closedir(directory);
    return files;
}

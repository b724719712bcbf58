/* test_tied_head.c - a model whose config ties the head while its file has a head: kept where it differs, one tensor where it
 * is equal; and an adapter's files beside a model.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../kernels/loss_function.h"
#include "../support/tiny_model.h"

#define TIED "\"tie_word_embeddings\": true,"

/* An untied model into the folder; its head is the embedding's copy but for `changed`. */
static double model_save(double changed)
{
    struct tiny tiny;
    struct weights made = {0};
    struct error error = {0};
    tiny_config(temporary, "");
    tiny_open(&tiny, temporary, "cpu", 1, false, 2);
    const struct model *model = &tiny.model;
    const struct model_tensor *embedding = NULL, *head = NULL;
    for (int t = 0; t < model->tensors; t++) {
        embedding = strcmp(model->tensor[t].name, "model.embed_tokens.weight") ? embedding : &model->tensor[t];
        head = strcmp(model->tensor[t].name, "lm_head.weight") ? head : &model->tensor[t];
    }
    assert_non_null(head);
    double *value = tiny_read(&tiny, model->param, model->elements);
    const int64_t count = head->rows * head->cols;
    memcpy(value + head->offset, value + embedding->offset, (size_t)count * sizeof *value);
    value[head->offset + count - 1] += changed;
    tiny_write(&tiny, model->param, value, model->elements);
    free(value);
    assert_int_equal(weights_save(&made, &tiny.model, temporary, temporary, NULL, &error), STATUS_OK);
    const double loss = tiny_step(&tiny, DIVERGENCE_kl);
    tiny_close(&tiny);
    tiny_config(temporary, TIED);
    return loss;
}

/* The loss of the folder's model. */
static double loss_of(bool kept)
{
    struct tiny tiny;
    struct weights weights;
    struct error error = {0};
    tiny_open(&tiny, temporary, "cpu", 1, false, 2);
    assert_int_equal(tiny.model.config.head_kept, kept);
    assert_int_equal(tiny.model.config.untied, kept);
    assert_int_equal(weights_open(&weights, &tiny.model, temporary, &error), STATUS_OK);
    assert_int_equal(kept, weights.warnings.length && strstr(weights.warnings.data, "they are kept apart"));
    assert_int_equal(weights_load(&weights, &tiny.model, &error), STATUS_OK);
    weights_close(&weights);
    const double loss = tiny_step(&tiny, DIVERGENCE_kl);
    tiny_close(&tiny);
    return loss;
}

static void test_head(void **state)
{
    (void)state;
    const double equal = model_save(0);
    assert_true(fabs(loss_of(false) - equal) <= 1e-6 * fabs(equal));
    const double other = model_save(3);
    assert_true(loss_of(true) == other && other != equal);
}

static void test_adapter_beside(void **state)
{
    (void)state;
    struct tiny tiny;
    struct weights weights;
    struct error error = {0};
    model_save(0);
    tiny_open(&tiny, temporary, "cpu", 1, false, 2);
    temporary_file("adapter_config.json", "{}", 2);
    assert_int_equal(weights_open(&weights, &tiny.model, temporary, &error), STATUS_INPUT);
    assert_non_null(strstr(error.text, "adapter_config.json: an adapter beside the model's weights"));
    tiny_close(&tiny);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_head), cmocka_unit_test(test_adapter_beside)};
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

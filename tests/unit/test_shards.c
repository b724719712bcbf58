/* test_shards.c - data parallelism: every micro-batch of an epoch once, in order, whatever the ranks; and the cut of the arena:
 * buckets cover it, in the order of the backward pass, slices cover the buckets, and state has room for the slices.
 */
#include "../support/temporary.h"

#include "../../host/train/data_parallel.h"
#include "../../host/train/shards.h"
#include "../support/tiny_model.h"

static void check_steps(const struct data_parallel *parallel)
{
    int next = 0, row = 0;
    for (int s = 0; s < data_parallel_steps(parallel); s++) {
        const struct micro_batch_range step = data_parallel_step(parallel, s);
        assert_int_equal(step.first, next);
        const int accumulation = data_parallel_accumulation_steps(parallel, step);
        assert_true(accumulation >= 1 && accumulation <= parallel->accumulation);
        for (int k = 0; k < accumulation; k++)
            for (int rank = 0; rank < parallel->ranks; rank++) {
                const int i = data_parallel_micro_batch(parallel, step, k, rank);
                int from, to;
                if (i < 0) { /* only the last ranks of an epoch's last accumulation step go without */
                    assert_int_equal(next, data_parallel_micro_batches(parallel));
                    continue;
                }
                assert_int_equal(i, next++);
                data_parallel_rows(parallel, i, &from, &to);
                assert_int_equal(from, row);
                assert_true(to > from && to - from <= parallel->batch);
                row = to;
            }
        assert_int_equal(step.last, next);
    }
    assert_int_equal(row, parallel->rows);
}

static void test_steps(void **state)
{
    (void)state;
    for (int rows = 1; rows <= 40; rows += 3)
        for (int batch = 1; batch <= 8; batch++)
            for (int accumulation = 1; accumulation <= 5; accumulation++)
                for (int ranks = 1; ranks <= 9; ranks++)
                    check_steps(&(struct data_parallel){rows, batch, accumulation, ranks});
}

/* The lowest layer that has a parameter of model or adapters in [offset, offset + count). */
static int lowest_layer(const struct model *model, int64_t offset, int64_t count)
{
    int lowest = (int)model->config.num_hidden_layers;
    for (int t = 0; t < model->tensors && !model->lora.options.rank; t++) {
        const struct model_tensor *tensor = &model->tensor[t];
        const enum slot slot = tensor->from->slot;
        int layer = slot == SLOT_EMBEDDING || slot == SLOT_POSITION ? -1 : slot < SLOT_LAYER ? lowest : tensor->layer;
        if (tensor->offset < offset + count && offset < tensor->offset + tensor->rows * (tensor->cols ? tensor->cols : 1))
            lowest = layer < lowest ? layer : lowest;
    }
    for (int m = 0; m < model->lora.modules; m++) {
        const struct lora_module *module = &model->lora.module[m];
        const struct model_tensor *tensor = &model->tensor[module->tensor];
        if (module->a < offset + count && offset < module->b + tensor->rows * module->rank)
            lowest = tensor->layer < lowest ? tensor->layer : lowest;
    }
    return lowest;
}

static void check_shards(struct model *model, int size, bool sharded, int64_t bucket_bytes)
{
    struct error error = {0};
    const int64_t elements = model_trainable(model).elements;
    char *covered = calloc((size_t)elements, 1);
    int64_t kept = 0;
    assert_non_null(covered);
    for (int rank = 0; rank < size; rank++) {
        struct shards shards;
        const struct world world = {NULL, rank, size, size};
        if (shards_create(&shards, model, &world, sharded, bucket_bytes, &error))
            fail_msg("%s", error.text);
        int64_t state = 0;
        for (int b = 0; b < shards.buckets; b++) {
            const struct shard_bucket *bucket = &shards.bucket[b];
            const struct model_shard *slice = &shards.slice[b];
            assert_true(!b || bucket->layer <= bucket[-1].layer);
            assert_true(bucket->offset % DYNAMIC_BLOCK == 0 && bucket->offset + bucket->count <= elements);
            if (size > 1)
                assert_int_equal(bucket->layer, lowest_layer(model, bucket->offset, bucket->count));
            assert_true(slice->offset >= bucket->offset && slice->offset + slice->count <= bucket->offset + bucket->count);
            assert_true(slice->offset % DYNAMIC_BLOCK == 0 && slice->state % DYNAMIC_BLOCK == 0 && slice->state >= state);
            state = slice->state + slice->count;
            for (int64_t i = slice->offset; i < slice->offset + slice->count; i++)
                assert_int_equal(covered[i]++, 0); /* nobody else's */
        }
        assert_true(shards.state_ranges == (sharded && size > 1 ? shards.buckets : 1));
        assert_true(sharded && size > 1 ? state <= shards.state_elements : shards.state_elements == elements);
        kept += shards.state_elements;
        shards_free(&shards);
    }
    for (int64_t i = 0; i < elements; i++)
        assert_int_equal(covered[i], 1);
    assert_true(kept == (sharded || size == 1 ? elements : size * elements)); /* no state twice, none for nothing */
    free(covered);
}

static void test_shards(void **state)
{
    (void)state;
    struct error error = {0};
    struct model_config config;
    static const char *const extra[] = {"\"mlp_bias\": true, \"attention_bias\": true, \"tie_word_embeddings\": false,",
                                        "\"tie_word_embeddings\": true,"};
    for (int e = 0; e < 2; e++)
        for (int lora = 0; lora < 2; lora++) {
            struct model model;
            const struct lora_options options = {4, 8, false, "q_proj,down_proj"};
            tiny_config(temporary, extra[e]);
            assert_int_equal(model_config_read(&config, temporary, &error), STATUS_OK);
            assert_int_equal(model_create(&model, &config, DTYPE_BF16, &error), STATUS_OK);
            if (lora)
                assert_int_equal(lora_create(&model.lora, &model, &options, &error), STATUS_OK);
            for (int size = 1; size <= 11; size += size < 4 ? 1 : 7)
                for (int64_t bytes = 2; bytes < 1 << 20; bytes *= 32)
                    check_shards(&model, size, false, bytes), check_shards(&model, size, true, bytes);
            model_free(&model);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps), cmocka_unit_test(test_shards)};
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

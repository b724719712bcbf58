/* test_head_chunk.c - a model whose logits are there a chunk of target rows at a time leaves what one leaves that has all of them:
 * log-probabilities, loss and gradients, with tied heads, heads with a bias and adapters, in float logits and in bf16; and less
 * memory is planned.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../kernels/loss_function.h"
#include "../support/tiny_model.h"

#define SIZES                                                                                                 \
    "\"vocab_size\": 61, \"hidden_size\": 48, \"num_hidden_layers\": 2, \"num_attention_heads\": 3, "               \
    "\"max_position_embeddings\": 64, \"initializer_range\": 0.2, \"eos_token_id\": 2}"
static const char *const config[] = {
    "{\"model_type\": \"llama\", \"intermediate_size\": 40, \"tie_word_embeddings\": true, " SIZES,
    "{\"model_type\": \"llama\", \"intermediate_size\": 40, \"tie_word_embeddings\": false, " SIZES,
    "{\"model_type\": \"phi\", \"intermediate_size\": 40, " SIZES,
};
static const struct lora_options adapters = {.rank = 4, .alpha = 8, .target_modules = "all-linear"};

static double apart(const double *a, const double *b, int64_t count)
{
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < count; i++)
        difference += (a[i] - b[i]) * (a[i] - b[i]), norm += b[i] * b[i];
    return norm > 0 ? sqrt(difference / norm) : sqrt(difference);
}

/* What a step leaves. */
struct left {
    double loss, *logprob, *gradient;
    size_t planned;
};

static struct left step(struct tiny *tiny, const struct tiny_options *options)
{
    tiny_remake(tiny, options);
    const struct model *model = &tiny->model;
    const struct model_trainable trained = model_trainable(model);
    struct left left = {.loss = tiny_step(tiny, DIVERGENCE_kl), .planned = memory_plan_total(&model->plan)};
    left.logprob = tiny_read_as(tiny, dtype_stat(model->dtype), model->head.logprob, tiny->batch.targets);
    left.gradient = tiny_read_as(tiny, model->grad_dtype, trained.grad, trained.elements);
    return left;
}

static void left_free(struct left *left)
{
    free(left->logprob);
    free(left->gradient);
}

static void check(const char *engine, const char *text, const struct lora_options *lora, bool wide)
{
    struct tiny tiny;
    temporary_file("config.json", text, strlen(text));
    tiny_open(&tiny, temporary, engine, 2, true, 6);
    struct left whole = step(&tiny, &(struct tiny_options){.lora = lora, .wide_logits = wide});
    const int32_t targets = tiny.batch.targets;
    const int32_t chunk[] = {1, 7, targets - 1, targets, 640};
    const bool narrow = tiny.model.dtype == DTYPE_BF16;
    for (size_t i = 0; i < sizeof chunk / sizeof *chunk; i++) {
        struct left parts = step(&tiny, &(struct tiny_options){.lora = lora, .wide_logits = wide, .head_chunk = chunk[i]});
        assert_int_equal(tiny.model.head_chunk, chunk[i] < tiny.model.max_targets ? chunk[i] : 0);
        const double logprob = apart(parts.logprob, whole.logprob, targets);
        const double gradient = apart(parts.gradient, whole.gradient, model_trainable(&tiny.model).elements);
        print_message("%s, %d of %d rows: log-probabilities off by %.1e, gradient by %.1e\n", engine, (int)chunk[i], (int)targets,
                      logprob, gradient);
        assert_true(fabs(parts.loss / whole.loss - 1) <= (narrow ? 1e-3 : 1e-6));
        assert_true(logprob <= (narrow ? 1e-3 : 1e-6));
        /* in bf16 every chunk rounds the weight's gradient once; an adapter has none behind the head */
        assert_true(gradient <= (narrow ? 0x1p-8 : 2e-6));
        assert_true(chunk[i] < tiny.model.max_targets ? parts.planned < whole.planned : parts.planned == whole.planned);
        left_free(&parts);
    }
    left_free(&whole);
    tiny_close(&tiny);
}

static void check_all(const char *engine)
{
    for (size_t i = 0; i < sizeof config / sizeof *config; i++) {
        check(engine, config[i], NULL, false);
        check(engine, config[i], &adapters, false);
    }
    check(engine, config[1], NULL, true);
}

static void test_cpu(void **state)
{
    (void)state;
    check_all("cpu");
}

static void test_cuda_float(void **state)
{
    (void)state;
    check_all("emu-f32");
}

static void test_cuda_bf16(void **state)
{
    (void)state;
    check_all("emu-bf16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cpu), cmocka_unit_test(test_cuda_float),
                                       cmocka_unit_test(test_cuda_bf16)};
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

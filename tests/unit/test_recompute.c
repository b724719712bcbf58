/* test_recompute.c - gradients of a model that computes activations again are those of one that keeps them, bit for bit,
 * and less memory is planned: every kind of layer, with and without LoRA, on every engine.
 */
#include "../support/temporary.h"

#include "../../kernels/loss_function.h"
#include "../support/tiny_model.h"

#define SIZES                                                                                                 \
    "\"vocab_size\": 61, \"hidden_size\": 48, \"num_hidden_layers\": 3, \"num_attention_heads\": 3, "               \
    "\"max_position_embeddings\": 64, \"initializer_range\": 0.2, \"eos_token_id\": 2}"

/* One after the other norm and gate, biases and grouped keys; a parallel block; learned positions; norms of queries and keys
 * with a window; norms before and behind, and behind alone. */
static const char *const config[] = {
    "{\"model_type\": \"llama\", \"intermediate_size\": 40, \"tie_word_embeddings\": true, " SIZES,
    "{\"model_type\": \"llama\", \"intermediate_size\": 40, \"attention_bias\": true, \"mlp_bias\": true, "
    "\"num_key_value_heads\": 1, " SIZES,
    "{\"model_type\": \"phi\", \"intermediate_size\": 40, " SIZES,
    "{\"model_type\": \"gpt2\", " SIZES,
    "{\"model_type\": \"qwen3\", \"intermediate_size\": 40, \"num_key_value_heads\": 1, \"head_dim\": 24, "
    "\"use_sliding_window\": true, \"sliding_window\": 4, \"max_window_layers\": 1, " SIZES,
    "{\"model_type\": \"gemma2\", \"intermediate_size\": 40, \"num_key_value_heads\": 1, \"head_dim\": 16, "
    "\"sliding_window\": 4, \"final_logit_softcapping\": 3, " SIZES,
    "{\"model_type\": \"olmo2\", \"intermediate_size\": 40, \"num_key_value_heads\": 1, " SIZES,
};

/* None; every projection; some, and of different layers different ones. */
static const struct lora_options none, all = {.rank = 4, .alpha = 8, .target_modules = "all-linear"};
static const struct lora_options some[] = {
    {.rank = 4, .alpha = 8, .target_modules = "q_proj,model.layers.1.mlp.down_proj"},
    {.rank = 4, .alpha = 8, .target_modules = "q_proj,model.layers.1.mlp.down_proj"},
    {.rank = 4, .alpha = 8, .target_modules = "dense,model.layers.1.mlp.fc2"},
    {.rank = 4, .alpha = 8, .target_modules = "c_attn,transformer.h.1.mlp.c_proj"},
    {.rank = 4, .alpha = 8, .target_modules = "k_proj,model.layers.1.mlp.gate_proj"},
    {.rank = 4, .alpha = 8, .target_modules = "o_proj,model.layers.1.mlp.down_proj"},
    {.rank = 4, .alpha = 8, .target_modules = "q_proj,model.layers.1.mlp.up_proj"},
};

static void check(const char *engine, const char *text, const struct lora_options *options)
{
    struct tiny tiny;
    double *kept = NULL, kept_loss = 0;
    size_t planned = 0;
    temporary_file("config.json", text, strlen(text));
    tiny_open(&tiny, temporary, engine, 2, true, 4);
    for (int level = RECOMPUTE_NONE; level < RECOMPUTE_LEVELS; level++) {
        tiny_remake(&tiny, &(struct tiny_options){.recompute = (enum recompute)level,
                                                  .lora = options->rank ? options : NULL});
        const struct model_trainable trained = model_trainable(&tiny.model);
        const double loss = tiny_step(&tiny, DIVERGENCE_kl);
        double *gradient = tiny_read(&tiny, trained.grad, trained.elements);
        const size_t total = memory_plan_total(&tiny.model.plan);
        if (level == RECOMPUTE_NONE) {
            kept = gradient, kept_loss = loss;
        } else {
            assert_true(loss == kept_loss);
            for (int64_t i = 0; i < trained.elements; i++)
                if (memcmp(&gradient[i], &kept[i], sizeof *kept))
                    fail_msg("%s, %s, level %d: element %lld of the gradient is %.9g, kept it is %.9g", engine,
                             tiny.model.config.family->model_type, level, (long long)i, gradient[i], kept[i]);
            assert_true(total < planned);
            free(gradient);
        }
        planned = total;
    }
    free(kept);
    tiny_close(&tiny);
}

static void check_all(const char *engine)
{
    for (size_t i = 0; i < sizeof config / sizeof *config; i++) {
        check(engine, config[i], &none);
        check(engine, config[i], &all);
        check(engine, config[i], &some[i]);
    }
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

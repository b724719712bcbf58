/* test_generate.c - generation with cached keys and values against the plain forward pass, and the known story of a real
 * model.
 */
#include "../support/temporary.h"

#include <dlfcn.h>

#include "../../host/eval/generate.h"
#include "../../kernels/sample.h"
#include "../emulation/emulation_control.h"
#include "../support/tiny_model.h"

#define PROMPTS 5

struct made {
    struct device device;
    struct model model;
    struct generator generator;
};

static void open_generator(struct made *made, const char *engine, int slots, const struct generate_options *options)
{
    struct error error = {0};
    struct model_config config;
    memset(made, 0, sizeof *made);
    const enum dtype dtype = tiny_device_open(&made->device, engine, 2);
    assert_int_equal(model_config_read(&config, temporary, &error), STATUS_OK);
    assert_int_equal(model_create(&made->model, &config, dtype, &error), STATUS_OK);
    made->model.wide_logits = dtype == DTYPE_BF16;
    assert_int_equal(generator_open(&made->generator, &made->model, &made->device, slots, 64, 40, NULL, options, &error),
                     STATUS_OK);
    assert_int_equal(weights_random(&made->model, 3, &error), STATUS_OK);
}

static void close_generator(struct made *made)
{
    generator_close(&made->generator);
    model_free(&made->model);
    device_close(&made->device);
}

static void prompts_make(struct token_list *prompt, int32_t store[PROMPTS][16])
{
    for (int i = 0; i < PROMPTS; i++) {
        prompt[i] = (struct token_list){.id = store[i], .length = (size_t)(1 + 3 * i)};
        for (size_t k = 0; k < prompt[i].length; k++)
            store[i][k] = 3 + (int32_t)(sample_uniform(21, (uint64_t)i * 16 + k) * 58);
    }
}

/* The next greedy id by one forward pass over the whole text. */
static int32_t plain_next(struct made *made, const int32_t *ids, int32_t length)
{
    struct error error = {0};
    struct batch batch;
    int32_t padded[64], first[] = {0, 1}, next;
    memcpy(padded, ids, (size_t)length * sizeof *ids);
    padded[length] = 0;
    const struct batch_sequence sequence = {padded, length + 1, length};
    assert_int_equal(batch_create(&batch, &made->device, 64, 4, 1, &error), STATUS_OK);
    assert_int_equal(batch_pack(&batch, &made->device, &sequence, first, 1, true, 61, &error), STATUS_OK);
    assert_int_equal(model_forward_body(&made->model, &batch, &error), STATUS_OK);
    for (int layer = 0; layer < made->model.config.num_hidden_layers; layer++)
        assert_int_equal(model_forward_layer(&made->model, &batch, layer, NULL, NULL, &error), STATUS_OK);
    assert_int_equal(model_forward_head(&made->model, batch.device.target_row, 1, &error), STATUS_OK);
    assert_int_equal(device_run(&made->device, &error, sample,
                                &((struct sample_args){.dtype = made->model.dtype, .rows = 1, .cols = 61, .stride = 61,
                                                       .logits = made->model.head.logits,
                                                       .ids = made->generator.device_ids})), STATUS_OK);
    assert_int_equal(device_copy_out(&made->device, &next, made->generator.device_ids, sizeof next, &error), STATUS_OK);
    batch_free(&batch, &made->device);
    return next;
}

/* shared: so many ids in front of every prompt. extra: of config.json. */
static void cache_equals_plain(int slots, int shared, const char *extra)
{
    const struct generate_options options = {.max_new_tokens = 12};
    struct token_list prompt[PROMPTS], out[PROMPTS] = {{0}};
    int32_t store[PROMPTS][16];
    struct error error = {0};
    struct made made;
    tiny_config(temporary, extra);
    prompts_make(prompt, store);
    int32_t longer[PROMPTS][32];
    for (int i = 0; i < PROMPTS && shared; i++) {
        for (int k = 0; k < shared; k++)
            longer[i][k] = 5 + 7 * k % 50;
        memcpy(longer[i] + shared, prompt[i].id, prompt[i].length * sizeof(int32_t));
        longer[i][shared] = 3 + i; /* and no more than those */
        prompt[i].id = longer[i];
        prompt[i].length += (size_t)shared;
    }
    open_generator(&made, "cpu64", slots, &options); /* in double no near-tie flips */
    assert_int_equal(generator_run(&made.generator, prompt, PROMPTS, 0, (int32_t[]){2}, 1, out, &error), STATUS_OK);
    assert_int_equal(made.generator.prefix, made.generator.cache.window ? 0 : shared);
    for (int i = 0; i < PROMPTS; i++) {
        int32_t ids[64], length = (int32_t)prompt[i].length;
        memcpy(ids, prompt[i].id, prompt[i].length * sizeof *ids);
        for (size_t k = 0; k < out[i].length; k++) {
            assert_int_equal(out[i].id[k], plain_next(&made, ids, length));
            ids[length++] = out[i].id[k];
        }
        if (out[i].length < 12) /* ended early: the next is the end of sequence */
            assert_int_equal(plain_next(&made, ids, length), 2);
        free(out[i].id);
    }
    close_generator(&made);
}

/* All side by side, and two or one at a time: those that wait take the places of those that have ended. */
static void test_cache_equals_plain(void **state)
{
    (void)state;
    for (int shared = 0; shared <= 9; shared += 9) {
        static const char extra[] = "\"attention_bias\": true,";
        cache_equals_plain(PROMPTS, shared, extra);
        cache_equals_plain(2, shared, extra);
        cache_equals_plain(1, shared, extra);
    }
}

/* Layers with windows keep `window` positions: shorter and longer than prompts, of one position, in all layers and in some. */
static void test_windows(void **state)
{
    (void)state;
    cache_equals_plain(PROMPTS, 9, "\"model_type\": \"mistral\", \"sliding_window\": 5,");
    cache_equals_plain(2, 0, "\"model_type\": \"mistral\", \"sliding_window\": 1,");
    cache_equals_plain(2, 9, "\"model_type\": \"mistral\", \"sliding_window\": 16,");
    cache_equals_plain(2, 0, "\"model_type\": \"qwen3\", \"use_sliding_window\": true, \"sliding_window\": 4, "
                             "\"max_window_layers\": 1,");
    cache_equals_plain(1, 0, "\"model_type\": \"gemma3_text\", \"sliding_window\": 3, \"sliding_window_pattern\": 2, "
                             "\"final_logit_softcapping\": 2,");
    struct made made;
    const struct generate_options options = {.max_new_tokens = 12};
    size_t bytes[2];
    for (int windowed = 0; windowed < 2; windowed++) {
        tiny_config(temporary, windowed ? "\"model_type\": \"gemma2\", \"sliding_window\": 4," : "");
        open_generator(&made, "cpu64", 2, &options);
        bytes[windowed] = made.model.plan.bytes[MEMORY_CACHE];
        close_generator(&made);
    }
    /* of three layers two keep 4 of 40 positions in two slots; without windows there is a third place */
    assert_true(bytes[1] * (3 * 3 * 40) == bytes[0] * 2 * (40 + 4 + 4));
}

/* The CUDA kernels: whether all prompts are begun at once or two at a time, the texts are the same, for a row's results do
 * not depend on its neighbours there. */
static void test_cuda(void **state)
{
    (void)state;
    static const char *const engines[] = {"emu-f32", "emu-bf16"};
    const struct generate_options options = {.max_new_tokens = 4};
    struct token_list prompt[PROMPTS];
    int32_t store[PROMPTS][16];
    struct error error = {0};
    tiny_config(temporary, "");
    prompts_make(prompt, store);
    for (int e = 0; e < 2; e++) {
        struct token_list out[2][PROMPTS] = {{{0}}};
        for (int run = 0; run < 2; run++) {
            struct made made;
            open_generator(&made, engines[e], run ? 2 : PROMPTS, &options);
            assert_int_equal(generator_run(&made.generator, prompt, PROMPTS, 0, NULL, 0, out[run], &error), STATUS_OK);
            close_generator(&made);
        }
        for (int i = 0; i < PROMPTS; i++) {
            assert_int_equal(out[0][i].length, 4);
            assert_memory_equal(out[0][i].id, out[1][i].id, 4 * sizeof(int32_t));
            free(out[0][i].id), free(out[1][i].id);
        }
    }
}

/* A function of the plugin; untouched where this engine lacks it. */
static void plugin_symbol(const struct device *device, const char *name, void *function, size_t bytes)
{
    void *symbol = dlsym(device->library, name);
    if (symbol)
        memcpy(function, &symbol, bytes);
}

/* Steps that are replayed give the ids of those that are not, greedy and drawn, over several runs of one generator; a replayed
 * step is one launch, waits once and allocates nothing. */
static void graphs_check(const char *engine, struct generate_options options)
{
    struct token_list prompt[PROMPTS], out[2][2][PROMPTS] = {{{{0}}}};
    int32_t store[PROMPTS][16];
    struct error error = {0};
    tiny_config(temporary, "");
    prompts_make(prompt, store);
    int32_t prefixed[PROMPTS][32];
    for (int i = 0; i < PROMPTS; i++) { /* with ids that all share */
        for (int k = 0; k < 5; k++)
            prefixed[i][k] = 7 + k;
        memcpy(prefixed[i] + 5, prompt[i].id, prompt[i].length * sizeof(int32_t));
        prompt[i].id = prefixed[i];
        prompt[i].length += 5;
    }
    for (int graphs = 0; graphs < 2; graphs++) {
        struct made made;
        open_generator(&made, engine, 3, &options);
        assert_true(made.generator.graphs);
        made.generator.graphs = graphs;
        for (int run = 0; run < 2; run++) {
            made.generator.options.seed = 4 + run; /* other draws: what was captured is not replayed */
            assert_int_equal(generator_run(&made.generator, prompt, PROMPTS, 0, NULL, 0, out[graphs][run], &error), STATUS_OK);
        }
        assert_true(!graphs || made.generator.graph_cache.replays > 0);
        struct emu_calls (*calls_read)(void) = NULL, before = {0};
        void (*counter_reset)(void) = NULL;
        bool (*counter_read)(const char *, uint64_t *, uint64_t *, uint64_t *) = NULL;
        plugin_symbol(&made.device, "emu_calls_read", &calls_read, sizeof calls_read);
        plugin_symbol(&made.device, "emu_counter_reset", &counter_reset, sizeof counter_reset);
        plugin_symbol(&made.device, "emu_counter_read", &counter_read, sizeof counter_read);
        if (calls_read)
            before = calls_read();
        if (counter_reset)
            counter_reset();
        struct token_list again = {0};
        made.generator.options.max_new_tokens = 9;
        assert_int_equal(generator_run(&made.generator, &prompt[1], 1, 1, NULL, 0, &again, &error), STATUS_OK);
        if (calls_read) {
            const struct emu_calls after = calls_read();
            uint64_t launches = 0;
            if (counter_read)
                counter_read(NULL, NULL, NULL, &launches);
            print_message("%s, %s: %.1f kernels, %.1f launches of graphs and %.1f waits per token\n", engine,
                          graphs ? "graphs" : "one by one", (double)launches / 9,
                          (double)(after.graph_launches - before.graph_launches) / 9, (double)(after.waits - before.waits) / 9);
            assert_int_equal(after.waits - before.waits, 9);
            /* the prompt's step; one row: maybe run once and captured before */
            assert_true(graphs ? after.graph_launches - before.graph_launches >= 7 : after.graph_launches == before.graph_launches);
            assert_true(graphs || after.allocations == before.allocations);
        }
        free(again.id);
        close_generator(&made);
    }
    for (int run = 0; run < 2; run++)
        for (int i = 0; i < PROMPTS; i++) {
            assert_int_equal(out[0][run][i].length, out[1][run][i].length);
            assert_memory_equal(out[0][run][i].id, out[1][run][i].id, out[0][run][i].length * sizeof(int32_t));
        }
    for (int i = 0; i < 4 * PROMPTS; i++)
        free(out[i / PROMPTS / 2][i / PROMPTS % 2][i % PROMPTS].id);
}

static void test_graphs(void **state)
{
    (void)state;
    graphs_check("emu-f32", (struct generate_options){.max_new_tokens = 6});
    graphs_check("emu-bf16", (struct generate_options){.max_new_tokens = 6});
    graphs_check("emu-f32", (struct generate_options){.max_new_tokens = 6, .temperature = 1.5, .top_p = 0.9});
}

/* With packed weights the CPU's logits of a row have the same bits whatever its neighbours are: in float, too, texts do not
 * depend on how many prompts are continued side by side. */
static void test_packed(void **state)
{
    (void)state;
    const struct generate_options options = {.max_new_tokens = 12, .temperature = 1.0, .top_p = 0.9};
    struct token_list prompt[PROMPTS], out[3][PROMPTS] = {{{0}}};
    int32_t store[PROMPTS][16];
    struct error error = {0};
    tiny_config(temporary, "\"tie_word_embeddings\": true,");
    prompts_make(prompt, store);
    for (int run = 0; run < 3; run++) {
        struct made made;
        open_generator(&made, "cpu", (int[]){PROMPTS, 2, 1}[run], &options);
        assert_int_equal(model_pack(&made.model, &error), STATUS_OK);
        assert_true(model_form(&made.model, 0, SLOT_UP_WEIGHT) != LINEAR_PLAIN);
        assert_int_equal(generator_run(&made.generator, prompt, PROMPTS, 0, NULL, 0, out[run], &error), STATUS_OK);
        close_generator(&made);
    }
    for (int run = 1; run < 3; run++)
        for (int i = 0; i < PROMPTS; i++)
            assert_memory_equal(out[0][i].id, out[run][i].id, 12 * sizeof(int32_t));
    for (int i = 0; i < 3 * PROMPTS; i++)
        free(out[i / PROMPTS][i % PROMPTS].id);
}

/* A prompt's sample depends on the seed and its number, not on its neighbours; another seed gives another text. */
static void test_batches_and_seeds(void **state)
{
    (void)state;
    struct generate_options options = {.max_new_tokens = 10, .temperature = 1.5, .top_p = 0.95, .seed = 4};
    struct token_list prompt[PROMPTS], together[PROMPTS] = {{0}};
    int32_t store[PROMPTS][16];
    struct error error = {0};
    struct made made;
    bool differs = false;
    tiny_config(temporary, "");
    prompts_make(prompt, store);
    open_generator(&made, "cpu64", PROMPTS, &options);
    assert_int_equal(generator_run(&made.generator, prompt, PROMPTS, 0, NULL, 0, together, &error), STATUS_OK);
    for (int i = 0; i < PROMPTS; i++) {
        struct token_list alone = {0}, other = {0};
        made.generator.options.seed = 4;
        assert_int_equal(generator_run(&made.generator, &prompt[i], 1, i, NULL, 0, &alone, &error), STATUS_OK);
        assert_int_equal(alone.length, 10);
        assert_int_equal(together[i].length, 10);
        assert_memory_equal(alone.id, together[i].id, 10 * sizeof(int32_t));
        made.generator.options.seed = 5;
        assert_int_equal(generator_run(&made.generator, &prompt[i], 1, i, NULL, 0, &other, &error), STATUS_OK);
        differs |= memcmp(alone.id, other.id, 10 * sizeof(int32_t)) != 0;
        free(alone.id), free(other.id), free(together[i].id);
    }
    assert_true(differs);
    close_generator(&made);
}

/* What cannot be continued is refused before anything is. */
static void test_refused(void **state)
{
    (void)state;
    const struct generate_options options = {.max_new_tokens = 3};
    int32_t ids[50] = {0}, foreign[] = {1, 61};
    struct token_list out[2] = {{0}}, prompt[2] = {{.id = ids, .length = 2}, {.id = foreign, .length = 2}};
    struct error error = {0};
    struct made made;
    tiny_config(temporary, "");
    open_generator(&made, "cpu", 1, &options);
    assert_error(&error, generator_run(&made.generator, prompt, 2, 0, NULL, 0, out, &error), STATUS_INPUT,
                 "token id 61 is outside the model's vocabulary of 61");
    prompt[1] = (struct token_list){.id = ids, .length = 41};
    assert_error(&error, generator_run(&made.generator, prompt, 2, 0, NULL, 0, out, &error), STATUS_USAGE,
                 "prompt 2: 41 tokens; there is room for 1 to 40");
    assert_int_equal(out[0].length, 0);
    close_generator(&made);
}

/* The cache holds 40 positions: a longer wish ends there. */
static void test_position_limit(void **state)
{
    (void)state;
    const struct generate_options options = {.max_new_tokens = 1000};
    struct token_list prompt[PROMPTS], out = {0};
    int32_t store[PROMPTS][16];
    struct error error = {0};
    struct made made;
    tiny_config(temporary, "");
    prompts_make(prompt, store);
    open_generator(&made, "cpu", 1, &options);
    assert_int_equal(generator_run(&made.generator, &prompt[4], 1, 0, NULL, 0, &out, &error), STATUS_OK);
    assert_int_equal(prompt[4].length + out.length, 40 + 1); /* the last id is never fed */
    free(out.id);
    close_generator(&made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cache_equals_plain), cmocka_unit_test(test_windows),
        cmocka_unit_test(test_cuda),
        cmocka_unit_test(test_graphs),
        cmocka_unit_test(test_packed),
        cmocka_unit_test(test_batches_and_seeds),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_position_limit),
    };
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

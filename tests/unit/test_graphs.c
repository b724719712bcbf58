/* test_graphs.c - padded batches, whose padding adds nothing to any gradient, and captured passes over them, whose
 * replays have the bits of ordinary runs.
 */
#include "../support/temporary.h"

#include <dlfcn.h>
#include <math.h>

#include "../../host/util/file.h"
#include "../../kernels/loss_function.h"
#include "../support/assert_ok.h"
#include "../support/tiny_model.h"
#include "../support/tiny_trainer.h"

static int make(void **state)
{
    return temporary_make(state) || tiny_base_make(temporary) ? -1 : 0;
}

static void test_buckets(void **state)
{
    (void)state;
    assert_int_equal(padded_size(1), 16);
    assert_int_equal(padded_size(256), 256);
    assert_int_equal(padded_size(257), 272);
    assert_int_equal(padded_size(1025), 1088);
    int64_t before = 0;
    for (int64_t n = 1; n < 100000; n++) {
        const int64_t bucket = padded_size(n);
        assert_true(bucket >= n && bucket >= before && padded_size(bucket) == bucket);
        assert_true(bucket - n < 16 || bucket - n < n / 16.0);
        before = bucket;
    }
}

#define SIZES                                                                                                 \
    "\"vocab_size\": 61, \"hidden_size\": 48, \"num_hidden_layers\": 2, \"num_attention_heads\": 3, "               \
    "\"max_position_embeddings\": 64, \"initializer_range\": 0.2, \"eos_token_id\": 2}"

/* Norms and biases of all kinds, learned positions, a bias of the head; norms of queries and keys with a window; norms before
 * and behind, caps, positions by type of layer; norms behind alone. */
static const char *const family[] = {
    "{\"model_type\": \"llama\", \"intermediate_size\": 40, \"num_key_value_heads\": 1, " SIZES,
    "{\"model_type\": \"phi\", \"intermediate_size\": 40, " SIZES,
    "{\"model_type\": \"gpt2\", " SIZES,
    "{\"model_type\": \"qwen3\", \"intermediate_size\": 40, \"num_key_value_heads\": 1, \"head_dim\": 24, "
    "\"use_sliding_window\": true, \"sliding_window\": 4, \"max_window_layers\": 1, " SIZES,
    "{\"model_type\": \"gemma2\", \"intermediate_size\": 40, \"num_key_value_heads\": 1, \"head_dim\": 16, "
    "\"sliding_window\": 4, \"final_logit_softcapping\": 3, " SIZES,
    "{\"model_type\": \"gemma3_text\", \"intermediate_size\": 40, \"num_key_value_heads\": 1, \"head_dim\": 16, "
    "\"sliding_window\": 4, \"sliding_window_pattern\": 2, " SIZES,
    "{\"model_type\": \"olmo2\", \"intermediate_size\": 40, \"num_key_value_heads\": 1, " SIZES,
};
enum { FAMILIES = sizeof family / sizeof *family };
static const char *const engines[] = {"cpu", "emu-f32", "emu-bf16"};
enum { ENGINES = sizeof engines / sizeof *engines };

static double norm_of(const double *values, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += values[i] * values[i];
    return sqrt(sum);
}

/* A pass over a padded batch against one over the same batch without: the products and sums have other shapes, so that
 * their order may differ. */
static void check_padded(const char *engine, const char *config)
{
    struct tiny tiny;
    temporary_file("config.json", config, strlen(config));
    tiny_open(&tiny, temporary, engine, 2, true, 8);
    const int64_t n = tiny.model.elements;
    const double bound = tiny.model.dtype == DTYPE_BF16 ? 0.02 : 2e-6;
    const double loss = tiny_step(&tiny, DIVERGENCE_kl);
    double *plain = tiny_read(&tiny, tiny.model.grad, n);
    const int32_t rows = tiny.batch.rows, targets = tiny.batch.targets, sequences = tiny.batch.sequences;
    tiny.batch.padded = true;
    tiny_pack(&tiny, true);
    assert_int_equal(tiny.batch.rows, padded_size(rows));
    assert_int_equal(tiny.batch.targets, padded_size(targets));
    assert_true(tiny.batch.rows > rows && tiny.batch.targets > targets); /* or this case shows nothing */
    assert_true(tiny.batch.real_rows == rows && tiny.batch.real_targets == targets && tiny.batch.sequences == sequences);
    const double padded_loss = tiny_step(&tiny, DIVERGENCE_kl);
    double *padded = tiny_read(&tiny, tiny.model.grad, n);
    if (!(fabs(loss - padded_loss) <= bound))
        fail_msg("%s: loss %.9g, padded %.9g", engine, loss, padded_loss);
    for (int64_t i = 0; i < n; i++)
        padded[i] -= plain[i];
    if (!(norm_of(padded, n) <= bound * norm_of(plain, n)))
        fail_msg("%s: the gradients of a padded batch differ by %.3g", engine, norm_of(padded, n) / norm_of(plain, n));
    free(plain), free(padded);
    tiny_close(&tiny);
}

/* The gradient of padding is zero, and not nearly. */
static void check_padding_alone(const char *engine, const char *config)
{
    struct tiny tiny;
    struct error error = {0};
    temporary_file("config.json", config, strlen(config));
    tiny_open(&tiny, temporary, engine, 2, true, 1);
    double *gradient = tiny_read(&tiny, tiny.model.param, tiny.model.elements); /* anything */
    tiny.batch.padded = true;
    tiny.batch.max_rows = 40, tiny.batch.max_targets = 24;
    tiny_write(&tiny, tiny.model.grad, gradient, tiny.model.elements);
    if (batch_pack_padding(&tiny.batch, &tiny.device, 40, 24, &error) || model_forward(&tiny.model, &tiny.batch, &error) ||
        model_backward(&tiny.model, &tiny.batch, &error))
        fail_msg("%s: %s", engine, error.text);
    assert_int_equal(tiny.batch.rows, 40);
    assert_int_equal(tiny.batch.sequences, 0);
    double *after = tiny_read(&tiny, tiny.model.grad, tiny.model.elements);
    for (int64_t i = 0; i < tiny.model.elements; i++)
        if (after[i] != gradient[i])
            fail_msg("%s: padding adds %.3g to element %lld", engine, after[i] - gradient[i], (long long)i);
    free(gradient), free(after);
    tiny_close(&tiny);
}

static void test_padding(void **state)
{
    (void)state;
    for (int e = 0; e < ENGINES; e++)
        for (int f = 0; f < FAMILIES; f++) {
            check_padded(engines[e], family[f]);
            check_padding_alone(engines[e], family[f]);
        }
}

static uint64_t bytes_moved(struct tiny *tiny, bool reset)
{
    void (*counter_reset)(void);
    bool (*counter_read)(const char *name, uint64_t *read, uint64_t *written, uint64_t *launches);
    uint64_t read = 0, written = 0, launches;
    *(void **)&counter_reset = dlsym(tiny->device.library, "emu_counter_reset");
    *(void **)&counter_read = dlsym(tiny->device.library, "emu_counter_read");
    if (counter_reset && reset)
        counter_reset();
    else if (counter_read)
        assert_true(counter_read(NULL, &read, &written, &launches));
    return read + written;
}

/* A backward pass that overwrites: what was in the arena does not matter, and the gradients have the values of a pass that
 * adds to zeros, for fewer bytes. */
static void check_overwriting(const char *engine, const char *config, bool adapters)
{
    struct tiny tiny;
    temporary_file("config.json", config, strlen(config));
    tiny_open(&tiny, temporary, engine, 2, true, 2);
    if (adapters)
        tiny_remake(&tiny, &(struct tiny_options){.recompute = RECOMPUTE_FULL,
                                                  .lora = &(struct lora_options){.rank = 3, .alpha = 6,
                                                                                 .target_modules = "all-linear"}});
    const struct model_trainable trained = model_trainable(&tiny.model);
    bytes_moved(&tiny, true);
    const double loss = tiny_step(&tiny, DIVERGENCE_kl);
    const uint64_t added = bytes_moved(&tiny, false);
    double *expected = tiny_read(&tiny, trained.grad, trained.elements), *before = calloc((size_t)trained.elements, sizeof *before);
    assert_non_null(before);
    for (int t = 0; t < tiny.model.tensors && !adapters; t++)
        for (int64_t i = 0; i < tiny.model.tensor[t].rows * (tiny.model.tensor[t].cols ? tiny.model.tensor[t].cols : 1); i++)
            before[tiny.model.tensor[t].offset + i] = NAN;
    for (int m = 0; m < tiny.model.lora.modules; m++)
        before[tiny.model.lora.module[m].a] = before[tiny.model.lora.module[m].b] = NAN;
    tiny_write(&tiny, trained.grad, before, trained.elements);
    tiny.model.overwrite_gradients = true;
    bytes_moved(&tiny, true);
    assert_true(tiny_step(&tiny, DIVERGENCE_kl) == loss);
    const uint64_t written = bytes_moved(&tiny, false);
    double *got = tiny_read(&tiny, trained.grad, trained.elements);
    for (int64_t i = 0; i < trained.elements; i++)
        if (!(got[i] == expected[i]))
            fail_msg("%s: gradient %lld is %.9g written and %.9g added", engine, (long long)i, got[i], expected[i]);
    if (written)
        print_message("%s: %lld bytes of a step that adds to zeros, %lld of one that writes\n", engine, (long long)added,
                      (long long)written);
    assert_true(!written || written < added);
    free(expected), free(before), free(got);
    tiny_close(&tiny);
}

static void test_overwriting(void **state)
{
    (void)state;
    for (int e = 0; e < ENGINES; e++) {
        for (int f = 0; f < FAMILIES; f++)
            check_overwriting(engines[e], family[f], false);
        check_overwriting(engines[e], "{\"model_type\": \"llama\", \"tie_word_embeddings\": true, \"intermediate_size\": 40, "
                                      "\"num_key_value_heads\": 1, " SIZES, false);
        check_overwriting(engines[e], family[0], true);
    }
}

/* What a run of work n does: adds 1 to counter n. */
struct counting {
    struct device *device;
    char *counter, *one; /* on the device: an array of 8 bytes each */
    int n, queued;
};

static int count_queue(void *user, struct error *error)
{
    struct counting *work = user;
    work->queued++;
    return device_run(work->device, error, adamw_norm,
                      &((struct adamw_norm_args){DTYPE_F32, 1, work->one, (double *)(void *)(work->counter + 8 * work->n), true}));
}

/* More keys than the cache holds, in an order that keeps some and drops others. */
static void test_cache(void **state)
{
    (void)state;
    enum { KEYS = 2 * GRAPH_CACHE_ENTRIES, TURNS = 6 };
    struct tiny tiny;
    struct error error = {0};
    tiny_config(temporary, "");
    tiny_open(&tiny, temporary, "emu-f32", 0, false, 1);
    struct graph_cache cache = {0};
    struct counting work = {.device = &tiny.device};
    void *memory;
    const float one = 1;
    if (device_alloc(&tiny.device, &memory, 8 * KEYS + 8, &error) ||
        device_zero(&tiny.device, memory, 8 * KEYS + 8, &error) ||
        device_copy_in(&tiny.device, (char *)memory + 8 * KEYS, &one, sizeof one, &error))
        fail_msg("%s", error.text);
    work.counter = memory, work.one = work.counter + 8 * KEYS;
    int expected[KEYS] = {0}, queued = 0, runs = 0;
    for (int turn = 0; turn < TURNS; turn++)
        for (int key = 0; key < KEYS; key++)
            for (int again = 0; again < (key < 4 ? 2 : 1); again++) {
                work.n = turn % 2 ? key : key % (KEYS / 4); /* every other turn a quarter of the keys, over and over */
                const struct graph_key k = {work.n % 2, 1 + work.n / 2, 7, work.n % 3};
                if (graph_cache_run(&cache, &tiny.device, k, count_queue, &work, &error))
                    fail_msg("%s", error.text);
                expected[work.n]++, runs++;
            }
    queued = work.queued;
    double *counter = tiny_read_as(&tiny, DTYPE_F64, memory, KEYS);
    for (int key = 0; key < KEYS; key++)
        assert_int_equal((int)counter[key], expected[key]);
    assert_int_equal(cache.entries, GRAPH_CACHE_ENTRIES);
    assert_true(cache.replays > 0 && cache.captures > 0);
    assert_int_equal(queued + cache.replays, runs); /* a run is queued, captured or replayed */
    free(counter);
    graph_cache_free(&cache, &tiny.device);
    device_free(&tiny.device, memory);
    tiny_close(&tiny);
}

static void check_same(const struct tiny_training *a, const struct tiny_training *b)
{
    for (int i = 0; i < a->steps; i++) {
        if (a->record[i].loss != b->record[i].loss || a->record[i].grad_norm != b->record[i].grad_norm)
            fail_msg("step %d: loss %.9g and %.9g, norm %.9g and %.9g", i + 1, a->record[i].loss, b->record[i].loss,
                     a->record[i].grad_norm, b->record[i].grad_norm);
        assert_int_equal(a->record[i].tokens, b->record[i].tokens);
    }
    assert_memory_equal(a->after, b->after, (size_t)a->count * sizeof *a->after);
}

/* Steps with graphs: the bits of those without on the same padded batches, and close to those without padding;
 * most passes are replays, a step waits once and nothing is allocated. */
static void check_training(struct tiny_training plain, double bound)
{
    struct tiny_training graphs = plain, padded;
    int settings = 0;
    while (graphs.settings[settings])
        settings++;
    graphs.settings[settings] = "--cuda_graphs";
    padded = graphs;
    padded.eager = true;
    tiny_train(&plain, temporary);
    tiny_train(&padded, temporary);
    tiny_train(&graphs, temporary);
    check_same(&padded, &graphs);
    double most = 0;
    for (int i = 0; i < plain.steps; i++)
        most = fmax(most, fabs(graphs.record[i].loss - plain.record[i].loss) / fabs(plain.record[i].loss));
    print_message("%s: losses within %.2g of those without padding; %lld captures, %lld replays\n",
                  dtype_name(plain.dtype), most, (long long)graphs.captures, (long long)graphs.replays);
    assert_true(most <= bound);
    assert_int_equal(plain.replays + padded.replays, 0);
    /* two micro-batches per step, forward and backward, and the reference's */
    const int64_t passes = 2 * (plain.method ? 3 : 2) * plain.steps;
    assert_true(graphs.replays > passes / 2);
    if (!graphs.calls_read) /* a GPU counts nothing */
        return tiny_training_free(&plain), tiny_training_free(&padded), tiny_training_free(&graphs);
    const uint64_t launches = graphs.calls[graphs.steps - 1].graph_launches - graphs.start.graph_launches;
    assert_int_equal(launches, graphs.captures + graphs.replays);
    for (int i = 1; i < graphs.steps; i++) {
        assert_int_equal(graphs.calls[i].allocations, graphs.calls[i - 1].allocations);
        assert_int_equal(graphs.calls[i].waits, graphs.calls[i - 1].waits + 1);
    }
    tiny_training_free(&plain), tiny_training_free(&padded), tiny_training_free(&graphs);
}

static void test_training(void **state)
{
    (void)state;
    check_training((struct tiny_training){.engine = "emu", .dtype = DTYPE_F32, .steps = 30,
                                          .settings = {"--learning_rate", "1e-3"}}, 1e-5);
    check_training((struct tiny_training){.engine = "emu", .dtype = DTYPE_BF16, .steps = 10,
                                          .settings = {"--learning_rate", "1e-3"}}, 0.02);
    check_training((struct tiny_training){.engine = "emu", .dtype = DTYPE_F32, .steps = 20, .method = "kl_min", .model = "base",
                                          .settings = {"--learning_rate", "1e-3", "--retain_choice", "cycle"}}, 1e-5);
}

/* The same with adapters in a model that is computed again layer by layer. */
static void test_training_lora(void **state)
{
    (void)state;
    check_training((struct tiny_training){.engine = "emu", .dtype = DTYPE_F32, .steps = 10, .model = "base",
                                          .settings = {"--lora.r", "4", "--gradient_checkpointing", "full"}}, 1e-5);
}

/* Every other family, from scratch. The seed is a Llama's again at the end. */
static void test_training_families(void **state)
{
    (void)state;
    static const char sizes[] = "\"vocab_size\": 1024, \"hidden_size\": 32, \"intermediate_size\": 48, \"num_hidden_layers\": 2, "
                                "\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"max_position_embeddings\": 96, "
                                "\"bos_token_id\": 0, \"eos_token_id\": 1, \"pad_token_id\": 0, \"initializer_range\": 0.1";
    static const char *const config[] = {
        "\"gemma2\", \"head_dim\": 16, \"sliding_window\": 5",
        "\"gemma3_text\", \"head_dim\": 16, \"sliding_window\": 5, \"sliding_window_pattern\": 2", "\"olmo2\"",
        "\"mistral\", \"sliding_window\": 5", "\"qwen3\", \"head_dim\": 24", "\"phi3\", \"sliding_window\": 5",
        "\"smollm3\", \"no_rope_layer_interval\": 2", "\"gemma\", \"head_dim\": 16"};
    const size_t count = getenv("FLAVOUR") ? 2 : sizeof config / sizeof *config; /* the other flavours take minutes */
    char *kept, text[1024];
    size_t length;
    struct error error = {0};
    OK(file_read(temporary_path("seed/config.json"), 1 << 20, &kept, &length, &error));
    for (size_t f = 0; f < count; f++) {
        snprintf(text, sizeof text, "{%s, \"model_type\": %s}", sizes, config[f]);
        print_message("%s\n", config[f]);
        temporary_file("seed/config.json", text, strlen(text));
        check_training((struct tiny_training){.engine = "emu", .dtype = DTYPE_F32, .steps = 8,
                                              .settings = {"--learning_rate", "1e-3"}}, 1e-5);
    }
    temporary_file("seed/config.json", kept, length);
    free(kept);
}

/* A CPU engine has no graphs, and the run does what it does without. */
static void test_cpu(void **state)
{
    (void)state;
    struct tiny_training plain = {.engine = "cpu", .dtype = DTYPE_F32, .steps = 4}, graphs = plain;
    graphs.settings[0] = "--cuda_graphs";
    tiny_train(&plain, temporary);
    tiny_train(&graphs, temporary);
    check_same(&plain, &graphs);
    assert_int_equal(graphs.replays + graphs.captures, 0);
    tiny_training_free(&plain), tiny_training_free(&graphs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_buckets), cmocka_unit_test(test_padding), cmocka_unit_test(test_overwriting),
                                       cmocka_unit_test(test_cache), cmocka_unit_test(test_training),
                                       cmocka_unit_test(test_training_lora),
                                       cmocka_unit_test(test_training_families), cmocka_unit_test(test_cpu)};
    return cmocka_run_group_tests(tests, make, temporary_remove);
}

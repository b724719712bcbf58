/* test_counts.c - what a training step and a decoded token ask of a GPU, counted by the emulation: kernels and products that are
 * launched, fills, copies, waits, allocations. Bounds of today: a change that needs more has to say so here. The bytes that kernels,
 * products and fills move are printed beside them: they are those of this model and these rows.
 *
 * Models of 2 and 4 layers give the counts of a layer and of what is there once, and with these those of any model.
 */
#include "../support/temporary.h"

#include <dlfcn.h>
#include <stdlib.h>

#include "../../host/eval/generate.h"
#include "../../host/util/file.h"
#include "../support/assert_ok.h"
#include "../support/tiny_model.h"
#include "../support/tiny_trainer.h"

/* Of one layer, and of what does not depend on layers. A layer's backward pass and its forward pass are among a step's 26 launches:
 * four products forward and eight backward, two norms each way with a second kernel backward, rotation, attention in one kernel and
 * in three, the activation. */
struct counts {
    double launches[2], fills[2], copies[2];
    double graph_launches, waits, allocations;
    double bytes[2];
};

/* Since the engine was opened. */
struct total {
    struct emu_calls calls;
    uint64_t bytes;
};

static void config_write(const char *directory, int layers)
{
    char config[1024], path[64];
    const int n = snprintf(config, sizeof config,
                           "{\"model_type\": \"llama\", \"vocab_size\": 1024, \"hidden_size\": 64, \"intermediate_size\": 96, "
                           "\"num_hidden_layers\": %d, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 16, "
                           "\"hidden_act\": \"silu\", \"max_position_embeddings\": 96, \"bos_token_id\": 0, \"eos_token_id\": 1, "
                           "\"initializer_range\": 0.1, \"tie_word_embeddings\": true}", layers);
    snprintf(path, sizeof path, "%s/config.json", directory);
    temporary_file(path, config, (size_t)n);
}

static struct total total_between(struct total from, struct total to)
{
    const struct emu_calls *a = &from.calls, *b = &to.calls;
    return (struct total){{b->allocations - a->allocations, b->waits - a->waits, b->graph_launches - a->graph_launches,
                           b->launches - a->launches, b->copies - a->copies, b->copied - a->copied, b->fills - a->fills},
                          to.bytes - from.bytes};
}

static void split(const double two, const double four, double part[2])
{
    part[0] = (four - two) / 2;
    part[1] = two - 2 * part[0];
}

/* Counts of a model of 2 layers, and of 4, each as so many times what is counted. */
static struct counts counts_of(const struct total total[2], double times)
{
    const struct emu_calls c[2] = {total[0].calls, total[1].calls};
    struct counts counts = {.graph_launches = (double)c[0].graph_launches / times, .waits = (double)c[0].waits / times,
                            .allocations = (double)c[0].allocations / times};
    split((double)c[0].launches / times, (double)c[1].launches / times, counts.launches);
    split((double)c[0].fills / times, (double)c[1].fills / times, counts.fills);
    split((double)c[0].copies / times, (double)c[1].copies / times, counts.copies);
    split((double)total[0].bytes / times, (double)total[1].bytes / times, counts.bytes);
    return counts;
}

static void counts_check(const char *name, const struct counts *got, const struct counts *most)
{
    const double *const a[] = {got->launches, got->fills, got->copies}, *const b[] = {most->launches, most->fills, most->copies};
    static const char *const what[] = {"launches", "fills", "copies"};
    print_message("%s: launches %g per layer and %g, fills %g and %g, copies %g and %g, graphs %g, waits %g, allocations %g, "
                  "bytes %.0f per layer and %.0f\n", name, a[0][0], a[0][1], a[1][0], a[1][1], a[2][0], a[2][1], got->graph_launches,
                  got->waits, got->allocations, got->bytes[0], got->bytes[1]);
    for (int i = 0; i < 3; i++)
        if (a[i][0] > b[i][0] || a[i][1] > b[i][1])
            fail_msg("%s: %g %s per layer and %g more, where %g and %g are enough", name, a[i][0], what[i], a[i][1], b[i][0], b[i][1]);
    if (got->graph_launches > most->graph_launches || got->waits > most->waits || got->allocations > most->allocations)
        fail_msg("%s: %g graphs, %g waits, %g allocations", name, got->graph_launches, got->waits, got->allocations);
}

/* ---- a step ------------------------------------------------------------------------------------------------------ */

static void step_check(const char *name, struct tiny_training run, const struct counts *most)
{
    struct total total[2];
    const bool adapters = run.model != NULL;
    run.engine = "emu", run.dtype = DTYPE_BF16, run.steps = 8, run.rows = run.rows ? run.rows : "3";
    for (int i = 0; i < 2; i++) {
        config_write("seed", 2 + 2 * i);
        if (adapters) {
            struct tiny_training base = {.engine = "cpu", .dtype = DTYPE_F32, .steps = 1, .save = i ? "base-4" : "base-2"};
            tiny_train(&base, temporary);
            free(base.before), free(base.after);
            run.model = base.save;
        }
        tiny_train(&run, temporary);
        const int last = run.steps - 1; /* what has to grow has grown, and graphs are there */
        total[i] = total_between((struct total){run.calls[last - 1], run.moved[last - 1]}, (struct total){run.calls[last], run.moved[last]});
        free(run.before), free(run.after);
    }
    if (!run.calls_read)
        skip();
    const struct counts got = counts_of(total, 1);
    counts_check(name, &got, most);
}

static void test_step(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct tiny_training run;
        struct counts most;
    } cases[] = {
        {"a step", {.settings = {"--gradient_accumulation_steps", "1"}}, {{26, 20}, {0, 3}, {0, 3}, 0, 1}},
        {"three micro-batches", {.settings = {"--gradient_accumulation_steps", "3"}, .rows = "1"}, {{78, 50}, {0, 5}, {0, 5}, 0, 1}},
        {"with graphs", {.settings = {"--gradient_accumulation_steps", "1", "--cuda_graphs"}}, {{0, 6}, {0, 1}, {0, 3}, 2, 1}},
        {"layers again", {.settings = {"--gradient_accumulation_steps", "1", "--gradient_checkpointing", "full"}}, {{34, 12}, {0, 3}, {0, 3}, 0, 1}},
        {"head in chunks", {.settings = {"--gradient_accumulation_steps", "1", "--head_chunk_rows", "8"}}, {{26, 40}, {0, 3}, {0, 3}, 0, 1}},
        {"8-bit moments", {.settings = {"--gradient_accumulation_steps", "1", "--optimizer_states", "8bit"}}, {{26, 20}, {0, 3}, {0, 3}, 0, 1}},
        {"adapters", {.settings = {"--gradient_accumulation_steps", "1", "--lora.r", "4"}, .model = "base"}, {{62, 15}, {0, 2}, {0, 3}, 0, 1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        step_check(cases[i].name, cases[i].run, &cases[i].most);
}

/* ---- a token ----------------------------------------------------------------------------------------------------- */

/* False on a GPU, which counts nothing. */
static bool total_read(struct device *device, struct total *total)
{
    struct emu_calls (*calls_read)(void);
    bool (*counter_read)(const char *name, uint64_t *read, uint64_t *written, uint64_t *launches);
    uint64_t read, written;
    *(void **)&calls_read = dlsym(device->library, "emu_calls_read");
    *(void **)&counter_read = dlsym(device->library, "emu_counter_read");
    if (!calls_read || !counter_read)
        return false;
    counter_read(NULL, &read, &written, NULL);
    *total = (struct total){calls_read(), read + written};
    return true;
}

/* What a generator asks for `tokens` tokens of each of `count` sequences. */
static bool decode(int layers, bool graphs, int count, int tokens, struct total *total)
{
    struct error error = {0};
    struct model_config config;
    struct model model;
    struct device device;
    struct generator generator;
    struct total before, after;
    int32_t ids[] = {3, 4, 5, 6, 7};
    struct token_list prompt[4], out[4] = {{0}};
    const struct generate_options options = {.max_new_tokens = tokens};
    config_write("seed", layers);
    for (int i = 0; i < count; i++)
        prompt[i] = (struct token_list){.id = ids, .length = 5};
    tiny_device_open(&device, "emu", 2);
    OK(model_config_read(&config, temporary_path("seed"), &error));
    config.eos_token_ids = 0;
    OK(model_create(&model, &config, DTYPE_BF16, &error));
    OK(generator_open(&generator, &model, &device, count, 64, 64, NULL, &options, &error));
    OK(weights_random(&model, 3, &error));
    generator.graphs = graphs;
    const bool counted = total_read(&device, &before);
    OK(generator_run(&generator, prompt, count, 0, NULL, 0, out, &error));
    if (counted && total_read(&device, &after))
        *total = total_between(before, after);
    for (int i = 0; i < count; i++) {
        assert_int_equal(out[i].length, tokens);
        free(out[i].id);
    }
    generator_close(&generator);
    model_free(&model);
    device_close(&device);
    return counted;
}

static void token_check(const char *name, bool graphs, int count, const struct counts *most)
{
    enum { FEW = 8, MANY = 18 };
    struct total total[2];
    for (int i = 0; i < 2; i++) {
        struct total few, many;
        if (!decode(2 + 2 * i, graphs, count, FEW, &few) || !decode(2 + 2 * i, graphs, count, MANY, &many))
            skip();
        total[i] = total_between(few, many);
    }
    const struct counts got = counts_of(total, MANY - FEW);
    counts_check(name, &got, most);
}

static void test_token(void **state)
{
    (void)state;
    token_check("a token", false, 1, &(struct counts){{10, 6}, {0, 0}, {0, 3}, 0, 1});
    token_check("a token of each of 4 sequences", false, 4, &(struct counts){{10, 6}, {0, 0}, {0, 3}, 0, 1});
    token_check("a token, with graphs", true, 1, &(struct counts){{0, 0}, {0, 0}, {0, 3}, 1, 1});
    token_check("a token of each of 4, with graphs", true, 4, &(struct counts){{0, 0}, {0, 0}, {0, 3}, 1, 1});
}

static int make(void **state)
{
    return temporary_make(state) || tiny_trainer_make(temporary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_step), cmocka_unit_test(test_token)};
    return cmocka_run_group_tests(tests, make, temporary_remove);
}

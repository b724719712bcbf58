/* test_folders.c - model folders in and out: config.json in the spellings of transformers 4 and 5, every complaint
 * about a folder's tensors in one message, names with and without the base prefix, the memory that a large one takes.
 */
#include "../support/temporary.h"

#include <sys/resource.h>
#include <sys/wait.h>

#include "../../host/io/safetensors/safetensors.h"
#include "../../host/util/file.h"
#include "../../host/util/memory.h"
#include "../support/assert_ok.h"
#include "../support/tiny_model.h"

#define CONFIGS "tests/golden/configs"
/* ---- config.json ------------------------------------------------------------------------------------------------- */

#define SAME(field)                                                                                           \
    if (old->field != new->field)                                                                             \
    fail_msg("%s: " #field " is %g in version 4 and %g in version 5", name, (double)old->field, (double)new->field)

static void configs_compare(const char *name, const struct model_config *old, const struct model_config *new)
{
    assert_ptr_equal(old->family, new->family);
    SAME(vocab_size);
    SAME(hidden_size);
    SAME(intermediate_size);
    SAME(num_hidden_layers);
    SAME(num_attention_heads);
    SAME(num_key_value_heads);
    SAME(head_dim);
    SAME(max_position_embeddings);
    SAME(sliding_window);
    SAME(norm);
    SAME(norm_eps);
    SAME(activation);
    SAME(attention_bias);
    SAME(o_bias);
    SAME(mlp_bias);
    SAME(head_bias);
    SAME(untied);
    SAME(initializer_range);
    SAME(rotary_dim);
    for (int p = 0; p < ROPE_PLACES; p++) {
        SAME(rope[p].theta);
        SAME(rope[p].scaling);
        SAME(rope[p].factor);
        SAME(rope[p].low_freq_factor);
        SAME(rope[p].high_freq_factor);
        SAME(rope[p].original_max_positions);
    }
    SAME(query_pre_attn_scalar);
    SAME(attention_cap);
    SAME(final_cap);
    for (int l = 0; l < old->num_hidden_layers; l++)
        SAME(layer[l]);
    SAME(torch_dtype);
    SAME(bos_token_id);
    SAME(eos_token_ids);
    for (int i = 0; i < old->eos_token_ids; i++)
        SAME(eos_token_id[i]);
}

static void assert_same_file(const char *one, const char *two)
{
    struct error error = {0};
    char *left, *right;
    size_t left_length, right_length;
    OK(file_read(one, 1 << 20, &left, &left_length, &error));
    OK(file_read(two, 1 << 20, &right, &right_length, &error));
    assert_int_equal(left_length, right_length);
    assert_memory_equal(left, right, left_length);
    free(left);
    free(right);
}

/* A model of a config with random weights, saved: config.json comes out as it was, and what was saved loads. */
static void written_back_check(const char *folder, const char *config)
{
    struct error error = {0};
    struct tiny tiny;
    struct weights made = {0}, read;
    const char *out = temporary_path("out");
    directory_remove(out);
    tiny_open(&tiny, folder, "cpu", 1, false, 1);
    OK(weights_save(&made, &tiny.model, folder, out, NULL, &error));
    assert_same_file(config, temporary_path("out/config.json"));
    OK(weights_open(&read, &tiny.model, out, &error));
    for (int i = 0; i < read.source.tensors; i++)
        assert_int_equal(read.source.tensor[i].dtype, SAFETENSORS_BF16);
    weights_close(&read);
    tiny_close(&tiny);
}

/* Both spellings are one model, and each is written back as it was read. */
static void test_spellings(void **state)
{
    (void)state;
    static const char *const names[] = {"llama3", "mistral", "qwen2", "phi", "opt", "gpt2"};
    static const char *const version[] = {"v4", "v5"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct error error = {0};
        struct model_config config[2];
        for (int v = 0; v < 2; v++) {
            char folder[200], path[240];
            snprintf(folder, sizeof folder, CONFIGS "/%s/%s", version[v], names[i]);
            snprintf(path, sizeof path, "%s/config.json", folder);
            OK(model_config_read(&config[v], folder, &error));
            written_back_check(folder, path);
        }
        configs_compare(names[i], &config[0], &config[1]);
        assert_int_equal(config[0].torch_dtype, DTYPE_BF16);
    }
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

/* A tensor of the tiny model's folder under another name or shape, or left out. */
struct edit {
    const char *name, *renamed; /* renamed NULL: left out */
    int64_t rows;               /* 0: as it is */
};

struct rewrite {
    const struct safetensors *source;
    int of[64];
};

static int rewrite_fill(void *user, int entry, uint64_t first_byte, uint64_t bytes, void *out, struct error *error)
{
    const struct rewrite *rewrite = user;
    const struct safetensors_tensor *from = &rewrite->source->tensor[rewrite->of[entry]];
    memset(out, 0, bytes);
    return first_byte + bytes <= from->bytes
               ? safetensors_read_bytes(rewrite->source, from, first_byte, bytes, out, error)
               : STATUS_OK;
}

static const struct edit *edit_of(const struct edit *edits, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (!strcmp(edits[i].name, name))
            return &edits[i];
    return NULL;
}

/* Writes folder/model.safetensors anew: with the edits, and without `prefix` where a name begins with it. */
static void folder_rewrite(const char *folder, const struct edit *edits, int count, const char *prefix)
{
    struct error error = {0};
    struct safetensors source;
    struct safetensors_entry entry[64];
    struct rewrite rewrite = {.source = &source};
    char path[600];
    int entries = 0;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    OK(safetensors_open(&source, folder, &error));
    for (int i = 0; i < source.tensors; i++) {
        const struct safetensors_tensor *from = &source.tensor[i];
        const struct edit *edit = edit_of(edits, count, from->name);
        const char *name = edit ? edit->renamed : from->name;
        if (!name)
            continue;
        if (prefix && !strncmp(name, prefix, strlen(prefix)))
            name += strlen(prefix);
        entry[entries] = (struct safetensors_entry){.name = name, .dtype = from->dtype, .dims = from->dims,
                                                    .bytes = from->bytes};
        memcpy(entry[entries].shape, from->shape, sizeof from->shape);
        if (edit && edit->rows) {
            entry[entries].shape[0] = edit->rows;
            entry[entries].bytes = from->bytes / (uint64_t)from->shape[0] * (uint64_t)edit->rows;
        }
        rewrite.of[entries++] = i;
    }
    OK(safetensors_write(path, entry, entries, rewrite_fill, &rewrite, &error));
    safetensors_close(&source);
}

/* The tiny model, saved in temporary/<name>. */
static const char *folder_make(struct tiny *tiny, const char *name)
{
    struct error error = {0};
    struct weights made = {0};
    const char *folder = temporary_path(name);
    directory_remove(folder);
    tiny_config(temporary, "");
    tiny_open(tiny, temporary, "cpu", 1, false, 1);
    OK(weights_save(&made, &tiny->model, temporary, folder, NULL, &error));
    return folder;
}

static void test_complaints(void **state)
{
    (void)state;
    static const struct edit edits[] = {
        {"model.norm.weight", "model.norm.weight", 47},
        {"model.layers.0.self_attn.q_proj.weight", NULL, 0},
        {"model.layers.1.mlp.down_proj.weight", "model.layers.1.mlp.dwon_proj.weight", 0},
        {"model.layers.2.input_layernorm.weight", NULL, 0},
        {"lm_head.weight", "lm_head.weight", 60},
    };
    static const char *const texts[] = {
        "model.norm.weight has shape [47], expected [48]",
        "missing model.layers.0.self_attn.q_proj.weight",
        "missing model.layers.1.mlp.down_proj.weight",
        "unexpected model.layers.1.mlp.dwon_proj.weight",
        "missing model.layers.2.input_layernorm.weight",
        "lm_head.weight has shape [60, 48], expected [61, 48]",
    };
    struct error error = {0};
    struct tiny tiny;
    struct weights weights;
    const char *folder = folder_make(&tiny, "complaints");
    folder_rewrite(folder, edits, sizeof edits / sizeof *edits, NULL);
    int status = weights_open(&weights, &tiny.model, folder, &error);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_error(&error, status, STATUS_INPUT, texts[i]);
    assert_null(strstr(error.text, "in all"));
    /* so many that one line cannot hold them: the rest is counted */
    tiny_config(folder, "\"attention_bias\": true, \"mlp_bias\": true,");
    tiny_close(&tiny);
    tiny_open(&tiny, folder, "cpu", 1, false, 1);
    status = weights_open(&weights, &tiny.model, folder, &error);
    assert_error(&error, status, STATUS_INPUT, "missing model.layers.0.self_attn.q_proj.bias");
    assert_error(&error, status, STATUS_INPUT, "; 27 in all"); /* 21 biases and the six above */
    tiny_close(&tiny);
}

/* Old files leave the base prefix out: the same weights, and the names that were read are those that are written. */
static void test_prefix(void **state)
{
    (void)state;
    struct error error = {0};
    struct tiny tiny;
    struct weights weights;
    struct safetensors saved;
    const char *folder = folder_make(&tiny, "bare");
    double *before = tiny_read(&tiny, tiny.model.param, tiny.model.elements);
    folder_rewrite(folder, NULL, 0, "model.");
    OK(weights_random(&tiny.model, 99, &error));
    OK(weights_open(&weights, &tiny.model, folder, &error));
    OK(weights_load(&weights, &tiny.model, &error));
    double *after = tiny_read(&tiny, tiny.model.param, tiny.model.elements);
    assert_memory_equal(before, after, (size_t)tiny.model.elements * sizeof *before);
    OK(weights_save(&weights, &tiny.model, folder, temporary_path("bare-again"), NULL, &error));
    weights_close(&weights);
    OK(safetensors_open(&saved, temporary_path("bare-again"), &error));
    assert_non_null(safetensors_find(&saved, "layers.2.mlp.up_proj.weight"));
    assert_null(safetensors_find(&saved, "model.layers.2.mlp.up_proj.weight"));
    safetensors_close(&saved);
    free(before);
    free(after);
    tiny_close(&tiny);
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/* 4 layers of a Llama of width 1536, one per file, in bf16: 232 MB of zeros that take no room on the disk. */
enum { LARGE_LAYERS = 4, WIDTH = 1536, FEED = 4608 };

/* Appends a tensor to a header; the data's size so far. */
static uint64_t header_add(struct buffer *header, uint64_t at, const char *name, int layer, int64_t rows, int64_t cols)
{
    const uint64_t bytes = (uint64_t)(rows * (cols ? cols : 1)) * 2;
    char shape[60], text[120];
    snprintf(shape, sizeof shape, cols ? "%lld, %lld" : "%lld", (long long)rows, (long long)cols);
    snprintf(text, sizeof text, name, layer);
    assert_int_equal(buffer_printf(header, NULL, "%s\"%s\": {\"dtype\": \"BF16\", \"shape\": [%s], \"data_offsets\": "
                                   "[%llu, %llu]}", header->length ? ", " : "{", text, shape, (unsigned long long)at,
                                   (unsigned long long)(at + bytes)), 0);
    return at + bytes;
}

static void shard_make(const char *path, int layer)
{
    struct buffer header = {0};
    uint64_t at = 0;
    if (!layer) {
        at = header_add(&header, at, "model.embed_tokens.weight", 0, 64, WIDTH);
        at = header_add(&header, at, "model.norm.weight", 0, WIDTH, 0);
    }
    static const char *const square[] = {"q_proj", "k_proj", "v_proj", "o_proj"};
    char name[120];
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "model.layers.%%d.self_attn.%s.weight", square[i]);
        at = header_add(&header, at, name, layer, WIDTH, WIDTH);
    }
    at = header_add(&header, at, "model.layers.%d.mlp.gate_proj.weight", layer, FEED, WIDTH);
    at = header_add(&header, at, "model.layers.%d.mlp.up_proj.weight", layer, FEED, WIDTH);
    at = header_add(&header, at, "model.layers.%d.mlp.down_proj.weight", layer, WIDTH, FEED);
    at = header_add(&header, at, "model.layers.%d.input_layernorm.weight", layer, WIDTH, 0);
    at = header_add(&header, at, "model.layers.%d.post_attention_layernorm.weight", layer, WIDTH, 0);
    assert_int_equal(buffer_printf(&header, NULL, "}"), 0);
    const uint64_t length = header.length;
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(&length, sizeof length, 1, file), 1);
    assert_int_equal(fwrite(header.data, 1, header.length, file), header.length);
    assert_int_equal(fflush(file), 0);
    assert_int_equal(ftruncate(fileno(file), (off_t)(sizeof length + length + at)), 0);
    assert_int_equal(fclose(file), 0);
    buffer_free(&header);
}

static void large_make(const char *folder)
{
    char path[600], text[600];
    struct error error = {0};
    OK(file_make_directory(folder, &error));
    struct buffer index = {0};
    for (int layer = 0; layer < LARGE_LAYERS; layer++) {
        struct safetensors shard;
        snprintf(path, sizeof path, "%s/model-%d.safetensors", folder, layer);
        shard_make(path, layer);
        OK(safetensors_open_file(&shard, path, &error));
        for (int i = 0; i < shard.tensors; i++)
            assert_int_equal(buffer_printf(&index, NULL, "%s\"%s\": \"model-%d.safetensors\"",
                                           index.length ? ", " : "{\"weight_map\": {", shard.tensor[i].name, layer), 0);
        safetensors_close(&shard);
    }
    assert_int_equal(buffer_printf(&index, NULL, "}}"), 0);
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
    OK(file_write(path, index.data, index.length, &error));
    buffer_free(&index);
    int length = snprintf(text, sizeof text, "{\"model_type\": \"llama\", \"vocab_size\": 64, \"hidden_size\": %d, "
                          "\"intermediate_size\": %d, \"num_hidden_layers\": %d, \"num_attention_heads\": 12, "
                          "\"max_position_embeddings\": 64, \"tie_word_embeddings\": true, "
                          "\"torch_dtype\": \"bfloat16\"}",
                          WIDTH, FEED, LARGE_LAYERS);
    snprintf(path, sizeof path, "%s/config.json", folder);
    OK(file_write(path, text, (size_t)length, &error));
}

/* Loads a folder on the CPU and saves it, in a process of its own that exits with 0 when all went well. */
static int load_and_save(const char *folder, const char *out)
{
    struct error error = {0};
    struct device device;
    struct model_config config;
    struct model model;
    struct weights weights;
    int status = device_open(&device, "cpu", 0, 1, &error);
    status = status ? status : model_config_read(&config, folder, &error);
    status = status ? status : model_create(&model, &config, DTYPE_F32, &error);
    status = status ? status : weights_open(&weights, &model, folder, &error);
    status = status ? status : model_plan(&model, false, 1, 0, 1, &error);
    status = status ? status : model_allocate(&model, &device, &error);
    status = status ? status : weights_load(&weights, &model, &error);
    status = status ? status : weights_save(&weights, &model, folder, out, NULL, &error);
    if (status)
        fprintf(stderr, "%s\n", error.text);
    return status;
}

/* Loading and saving stream: beyond the weights themselves, in float on this engine, less than the largest tensor and
 * 20 MiB. A file is 58 MB, the folder 232. */
static void test_memory(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip(); /* it keeps what is freed */
#endif
    struct rusage usage;
    int status;
    large_make(temporary_path("large"));
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (!child)
        _exit(load_and_save(temporary_path("large"), temporary_path("large-again")));
    assert_int_equal(wait4(child, &status, 0, &usage), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    const double mib = 1 << 20, largest = 4.0 * FEED * WIDTH;
    const double weights = LARGE_LAYERS * (4.0 * 4 * WIDTH * WIDTH + 3 * largest) + 4.0 * 64 * WIDTH;
    const double peak = (double)usage.ru_maxrss * 1024;
    print_message("peak %.0f MiB, weights %.0f MiB, largest tensor %.0f MiB\n", peak / mib, weights / mib,
                  largest / mib);
    assert_true(peak > weights); /* otherwise nothing was loaded */
    assert_true(peak < weights + largest + 20 * mib);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_spellings), cmocka_unit_test(test_complaints),
                                       cmocka_unit_test(test_prefix), cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

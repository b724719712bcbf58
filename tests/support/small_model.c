/* small_model.c - see small_model.h. */
#include "small_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../../host/io/safetensors/safetensors.h"
#include "../../host/util/file.h"
#include "../../host/util/memory.h"
#include "assert_ok.h"
#include "program.h"

static const char config[] =
    "{\"model_type\": \"llama\", \"vocab_size\": 26, \"hidden_size\": 16, \"intermediate_size\": 24, \"num_hidden_layers\": 1, "
    "\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 8, \"hidden_act\": \"silu\", "
    "\"max_position_embeddings\": 96, \"bos_token_id\": 0, \"eos_token_id\": 1, \"initializer_range\": 0.1, "
    "\"tie_word_embeddings\": true}";
/* The characters of the texts below, a space and a line break as the byte-level alphabet writes them, and two merges. */
static const char tokenizer[] =
    "{\"version\": \"1.0\", \"added_tokens\": [{\"id\": 0, \"content\": \"<s>\", \"special\": true}, "
    "{\"id\": 1, \"content\": \"</s>\", \"special\": true}], \"normalizer\": null, \"pre_tokenizer\": {\"type\": \"ByteLevel\", "
    "\"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true}, \"post_processor\": null, "
    "\"decoder\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\", \"vocab\": {\"<s>\": 0, \"</s>\": 1, \".\": 2, "
    "\":\": 3, \"?\": 4, \"A\": 5, \"B\": 6, \"N\": 7, \"Q\": 8, \"W\": 9, \"a\": 10, \"d\": 11, \"e\": 12, \"h\": 13, "
    "\"i\": 14, \"n\": 15, \"o\": 16, \"r\": 17, \"s\": 18, \"t\": 19, \"u\": 20, \"w\": 21, \"\\u0120\": 22, "
    "\"\\u010a\": 23, \"ho\": 24, \"\\u0120A\": 25}, \"merges\": [[\"h\", \"o\"], [\"\\u0120\", \"A\"]]}}";
static const struct {
    const char *name, *text;
} texts[] = {
    {"seed/config.json", config},
    {"seed/tokenizer.json", tokenizer},
    {"seed/tokenizer_config.json", "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}"},
    {"data.jsonl", "{\"question\": \"Who?\", \"answer\": \"Ada.\"}\n{\"question\": \"Who is it?\", \"answer\": \"Ben.\"}\n"},
    {"templates.txt", "No.\nNo one.\n"},
};

/* Some of the tensors of an opened model. */
struct part {
    const struct safetensors *file;
    int first;
};

static int bytes_give(void *user, int entry, uint64_t first, uint64_t bytes, void *out, struct error *error)
{
    const struct part *part = user;
    return safetensors_read_bytes(part->file, &part->file->tensor[part->first + entry], first, bytes, out, error);
}

/* model/ becomes sharded/: one file per half of the tensors, and an index. */
static void model_shard(const char *directory)
{
    enum { SHARDS = 2, TENSORS = 32 };
    static const char *const copied[] = {"config.json", "tokenizer.json", "tokenizer_config.json"};
    struct error error;
    struct safetensors file;
    struct buffer index = {0};
    char path[600], from[600], name[64];
    snprintf(path, sizeof path, "%s/sharded", directory);
    OK(file_make_directory(path, &error));
    for (int i = 0; i < 3; i++) {
        snprintf(from, sizeof from, "%s/model/%s", directory, copied[i]);
        snprintf(path, sizeof path, "%s/sharded/%s", directory, copied[i]);
        OK(file_copy(from, path, &error));
    }
    snprintf(path, sizeof path, "%s/model", directory);
    OK(safetensors_open(&file, path, &error));
    OK(buffer_printf(&index, &error, "{\"metadata\": {}, \"weight_map\": {"));
    for (int s = 0, first = 0; s < SHARDS; s++) {
        struct safetensors_entry entry[TENSORS] = {0};
        const int last = file.tensors * (s + 1) / SHARDS;
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", s + 1, SHARDS);
        assert_true(last - first <= TENSORS);
        for (int t = first; t < last; t++) {
            struct safetensors_entry *to = &entry[t - first];
            *to = (struct safetensors_entry){.name = file.tensor[t].name, .dtype = file.tensor[t].dtype,
                                             .dims = file.tensor[t].dims, .bytes = file.tensor[t].bytes};
            memcpy(to->shape, file.tensor[t].shape, sizeof to->shape);
            OK(buffer_printf(&index, &error, "%s\"%s\": \"%s\"", t ? ", " : "", file.tensor[t].name, name));
        }
        snprintf(path, sizeof path, "%s/sharded/%s", directory, name);
        OK(safetensors_write(path, entry, last - first, bytes_give, &(struct part){&file, first}, &error));
        first = last;
    }
    OK(buffer_printf(&index, &error, "}}"));
    snprintf(path, sizeof path, "%s/sharded/model.safetensors.index.json", directory);
    OK(file_write(path, index.data, index.length, &error));
    buffer_free(&index);
    safetensors_close(&file);
}

void small_model_make(const char *directory)
{
    static const char *const made[] = {"model --learning_rate 0", "other --learning_rate 1e-2 --seed 7"};
    struct error error;
    char path[600];
    snprintf(path, sizeof path, "%s/seed", directory);
    OK(file_make_directory(path, &error));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, texts[i].name);
        OK(file_write(path, texts[i].text, strlen(texts[i].text), &error));
    }
    for (int i = 0; i < 2; i++) {
        struct program_result result = program_line(
            "finetune --model %s/seed --from_scratch --train_data %s/data.jsonl --max_steps 1 --save_dtype float32 --device cpu "
            "--threads 1 --quiet --output_dir %s/%s", directory, directory, directory, made[i]);
        program_expect(&result, 0);
        program_free(&result);
    }
    model_shard(directory);
}

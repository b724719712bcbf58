/* test_malformed.c - what happens to a user with a broken input: one clear line, the documented exit code, nothing
 * half-written. Every row damages one file of a good model folder, data set or config, or gives a wrong flag, and runs
 * the program. `make test` runs this file against the AddressSanitizer + UBSan build as well.
 */
#include "../support/temporary.h"

#include <sys/stat.h>

#include "../../host/util/file.h"
#include "../support/program.h"

enum action { NONE, REMOVE, WRITE, TRUNCATE, PATCH, SUBSTITUTE, APPEND };

/* file is within the test's folder: model/config.json, data.jsonl, templates.txt, run.json (the config). */
struct damage {
    enum action action;
    const char *file;
    const char *text;        /* WRITE, APPEND: content; SUBSTITUTE: what is there; PATCH: bytes */
    const char *replacement; /* SUBSTITUTE */
    long at;                 /* TRUNCATE: bytes kept; PATCH: offset */
    size_t length;           /* PATCH: bytes; WRITE: 0 is strlen */
};

struct row {
    const char *name;
    struct damage damage;
    const char *command; /* NULL: unlearn with everything given; %s is the folder */
    int status;
    const char *text;    /* what the error line must contain */
};

#define UNLEARN "unlearn %s/run.json --model_name_or_path %s/model --output_dir %s/out"
#define SCORE "score --model %s/model --data %s/prompts.jsonl"
#define GENERATE "generate --model %s/model --data %s/prompts.jsonl --max_new_tokens 4"
#define WEIGHTS "model/model.safetensors"
#define CONFIG "model/config.json"
#define TOKENIZER "model/tokenizer.json"

static const struct row rows[] = {
    /* weights */
    {"weights missing", {REMOVE, WEIGHTS}, NULL, 3, "model.safetensors"},
    {"weights empty", {TRUNCATE, WEIGHTS, .at = 0}, NULL, 3, "model.safetensors"},
    {"weights cut in the length", {TRUNCATE, WEIGHTS, .at = 5}, NULL, 3, "model.safetensors"},
    {"weights cut in the header", {TRUNCATE, WEIGHTS, .at = 200}, NULL, 3, "model.safetensors"},
    {"weights cut in the data", {TRUNCATE, WEIGHTS, .at = 20000}, NULL, 3, "model.safetensors"},
    {"weights longer than the header says", {APPEND, WEIGHTS, "xxxx"}, NULL, 3, "model.safetensors"},
    {"header length beyond 100 MB", {PATCH, WEIGHTS, "\xff\xff\xff\xff\xff\xff\xff\x7f", .length = 8}, NULL, 3, "header"},
    {"header not JSON", {PATCH, WEIGHTS, "[", .at = 8, .length = 1}, NULL, 3, "offset"},
    {"header bit flipped", {PATCH, WEIGHTS, "\x80", .at = 20, .length = 1}, NULL, 3, "model.safetensors"},
    {"unknown dtype", {SUBSTITUTE, WEIGHTS, "\"F32\"", "\"F99\""}, NULL, 3, "F99"},
    {"offsets of a hole", {SUBSTITUTE, WEIGHTS, "[0,", "[4,"}, NULL, 3, "model.safetensors"},
    {"shape does not fit the bytes", {SUBSTITUTE, WEIGHTS, "[1024,32]", "[1024,33]"}, NULL, 3, "embed_tokens"},
    {"shape overflows", {SUBSTITUTE, WEIGHTS, "[1024,32]", "[9223372036854775807,9223372036854775807]"}, NULL, 3,
     "model.safetensors"},
    {"negative shape", {SUBSTITUTE, WEIGHTS, "[1024,32]", "[-12,32]"}, NULL, 3, "model.safetensors"},
    {"tensor renamed", {SUBSTITUTE, WEIGHTS, "mlp.down_proj", "mlp.drow_proj"}, NULL, 3, "down_proj"},
    {"pickle instead of safetensors", {WRITE, WEIGHTS, "PK\x03\x04 a zip with a pickle in it"}, NULL, 3, "safetensors"},
    /* config.json */
    {"config missing", {REMOVE, CONFIG}, NULL, 3, "config.json"},
    {"config truncated", {TRUNCATE, CONFIG, .at = 100}, NULL, 3, "config.json: offset"},
    {"config an array", {WRITE, CONFIG, "[1, 2]"}, NULL, 3, "object"},
    {"config not UTF-8", {WRITE, CONFIG, "{\"model_type\": \"\xff\"}"}, NULL, 3, "UTF-8"},
    {"config nested too deep", {WRITE, CONFIG, "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["}, NULL,
     3, "config.json"},
    {"model_type unknown", {SUBSTITUTE, CONFIG, "\"llama\"", "\"mamba\""}, NULL, 3, "mamba"},
    {"hidden_size missing", {SUBSTITUTE, CONFIG, "\"hidden_size\"", "\"hidden_sise\""}, NULL, 3, "expected [1024, 4096]"},
    {"hidden_size null", {SUBSTITUTE, CONFIG, "\"hidden_size\": 32", "\"hidden_size\": null"}, NULL, 3, "hidden_size"},
    {"hidden_size 0", {SUBSTITUTE, CONFIG, "\"hidden_size\": 32", "\"hidden_size\": 0"}, NULL, 3, "hidden_size"},
    {"hidden_size a string", {SUBSTITUTE, CONFIG, "\"hidden_size\": 32", "\"hidden_size\": \"32\""}, NULL, 3,
     "hidden_size"},
    {"hidden_size another", {SUBSTITUTE, CONFIG, "\"hidden_size\": 32", "\"hidden_size\": 64"}, NULL, 3, "expected ["},
    {"layers absurd", {SUBSTITUTE, CONFIG, "\"num_hidden_layers\": 1", "\"num_hidden_layers\": 1000000"}, NULL, 3,
     "num_hidden_layers"},
    {"heads not divisible", {SUBSTITUTE, CONFIG, "\"num_attention_heads\": 4", "\"num_attention_heads\": 3"}, NULL, 3,
     "multiple"},
    {"head_dim odd", {SUBSTITUTE, CONFIG, "\"head_dim\": 8", "\"head_dim\": 9"}, NULL, 3, "head_dim"},
    {"duplicate key", {SUBSTITUTE, CONFIG, "{", "{\"vocab_size\": 1024, "}, NULL, 3, "vocab_size"},
    {"activation unknown", {SUBSTITUTE, CONFIG, "\"silu\"", "\"tanh\""}, NULL, 3, "tanh"},
    {"rope scaling unknown", {SUBSTITUTE, CONFIG, "\"vocab_size\"", "\"rope_scaling\": {\"type\": \"yarn\"}, \"vocab_size\""},
     NULL, 3, "yarn"},
    {"vocab_size negative", {SUBSTITUTE, CONFIG, "\"vocab_size\": 1024", "\"vocab_size\": -1"}, NULL, 3, "vocab_size"},
    {"vocab_size below the tokenizer's", {SUBSTITUTE, CONFIG, "\"vocab_size\": 1024", "\"vocab_size\": 300"}, NULL, 3,
     "[1024, 32], expected [300, 32]"},
    {"eos no id", {SUBSTITUTE, CONFIG, "\"eos_token_id\": 1", "\"eos_token_id\": \"</s>\""}, NULL, 3, "eos_token_id"},
    /* tokenizer */
    {"tokenizer missing", {REMOVE, TOKENIZER}, NULL, 3, "tokenizer"},
    {"tokenizer truncated", {TRUNCATE, TOKENIZER, .at = 3000}, NULL, 3, "tokenizer.json"},
    {"tokenizer of another kind", {SUBSTITUTE, TOKENIZER, "\"BPE\"", "\"WordPiece\""}, NULL, 3, "WordPiece"},
    {"tokenizer empty object", {WRITE, TOKENIZER, "{}"}, NULL, 3, "tokenizer.json"},
    {"tokenizer with an unknown part", {SUBSTITUTE, TOKENIZER, "\"ByteLevel\"", "\"Telepathy\""}, NULL, 3, "Telepathy"},
    /* data */
    {"data missing", {REMOVE, "data.jsonl"}, NULL, 3, "data.jsonl"},
    {"data empty", {WRITE, "data.jsonl", " \n"}, NULL, 3, "data.jsonl"},
    {"data row cut", {APPEND, "data.jsonl", "{\"question\": \"Who"}, NULL, 3, "data.jsonl:3"},
    {"data row without an answer", {APPEND, "data.jsonl", "{\"question\": \"Who?\"}\n"}, NULL, 3, "answer"},
    {"data row with a number", {APPEND, "data.jsonl", "{\"question\": \"Who?\", \"answer\": 5}\n"}, NULL, 3, "data.jsonl:3"},
    {"data row not an object", {APPEND, "data.jsonl", "[1]\n"}, NULL, 3, "data.jsonl:3"},
    {"data not UTF-8", {APPEND, "data.jsonl", "{\"question\": \"\xc3\x28\", \"answer\": \"x\"}\n"}, NULL, 3,
     "data.jsonl: offset 130"},
    {"data key of another name", {NONE}, UNLEARN " --question_key prompt", 3, "prompt"},
    {"answer beyond max_length", {NONE}, UNLEARN " --max_length 4", 3, "data.jsonl:1"},
    {"templates missing", {REMOVE, "templates.txt"}, NULL, 3, "templates.txt"},
    {"templates empty", {WRITE, "templates.txt", "\n\n"}, NULL, 3, "templates.txt"},
    {"data a folder", {NONE}, UNLEARN " --forget_data %s/model", 3, "model"},
    /* config file and flags */
    {"run config missing", {REMOVE, "run.json"}, NULL, 2, "run.json"},
    {"run config broken", {WRITE, "run.json", "{\"seed\": 1,}"}, NULL, 2, "run.json"},
    {"run config unknown key", {SUBSTITUTE, "run.json", "\"seed\"", "\"sede\""}, NULL, 2, "seed"},
    {"run config mistyped value", {SUBSTITUTE, "run.json", "\"seed\": 1", "\"seed\": \"one\""}, NULL, 2, "seed"},
    {"run config out of range", {SUBSTITUTE, "run.json", "\"seed\": 1", "\"learning_rate\": -1"}, NULL, 2, "learning_rate"},
    {"flag unknown", {NONE}, UNLEARN " --learnin_rate 1", 2, "learning_rate"},
    {"flag without its value", {NONE}, UNLEARN " --learning_rate", 2, "learning_rate"},
    {"flag not a number", {NONE}, UNLEARN " --learning_rate fast", 2, "learning_rate"},
    {"divergence unknown", {NONE}, UNLEARN " --divergence tv", 2, "total_variation"},
    {"device unknown", {NONE}, UNLEARN " --device tpu", 2, "device"},
    {"device not built", {NONE}, UNLEARN " --device cuda", 2, "cuda"},
    {"lora asked for", {NONE}, UNLEARN " --lora 8", 2, "lora"},
    {"no command", {NONE}, "unlern", 2, "unlearn"},
    {"required option missing", {NONE}, "unlearn --model_name_or_path %s/model", 2, "forget_data"},
    {"model folder missing", {NONE}, UNLEARN " --model_name_or_path %s/nowhere", 3, "nowhere"},
    {"model a file", {NONE}, UNLEARN " --model_name_or_path %s/data.jsonl", 3, "data.jsonl"},
    /* output */
    {"output is the model", {NONE}, UNLEARN " --output_dir %s/model", 2, "output_dir"},
    {"output holds a model", {WRITE, "out/config.json", "{}"}, NULL, 2, "overwrite_output_dir"},
    {"output is a file", {NONE}, UNLEARN " --output_dir %s/data.jsonl", 2, "is a file"},
    {"output below a file", {NONE}, UNLEARN " --output_dir %s/data.jsonl/out", 1, "data.jsonl"},
    {"nothing wrong", {NONE}, NULL, 0, ""},
    /* score and generate */
    {"prompts row broken", {WRITE, "prompts.jsonl", "{\"prompt\": \"a\", \"answer\": \"b\"}\n{\"prompt\""}, SCORE, 3,
     "prompts.jsonl:2"},
    {"prompts without an answer", {WRITE, "prompts.jsonl", "{\"prompt\": \"a\"}\n"}, SCORE, 3, "answer"},
    {"prompt too long", {NONE}, GENERATE, 3, "prompt 1"},
    {"nothing to generate from", {NONE}, "generate --model %s/model", 2, "--prompt"},
    {"plot of nothing", {NONE}, "plot %s -o %s/x.svg", 3, "metrics.jsonl"},
};

static void write_file(const char *name, const char *text, size_t length)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", temporary, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void read_whole(const char *name, char **data, size_t *length)
{
    char path[600];
    struct error error = {0};
    snprintf(path, sizeof path, "%s/%s", temporary, name);
    if (file_read(path, 1 << 26, data, length, &error))
        fail_msg("%s", error.text);
}

/* Replaces the first occurrence; in a safetensors header the length field in front is kept right. */
static void substitute(const struct damage *damage)
{
    char *data;
    size_t length, old = strlen(damage->text), new = strlen(damage->replacement);
    read_whole(damage->file, &data, &length);
    char *found = memmem(data, length, damage->text, old);
    if (!found)
        fail_msg("%s does not contain %s", damage->file, damage->text);
    char *changed = malloc(length + new);
    assert_non_null(changed);
    size_t before = (size_t)(found - data);
    memcpy(changed, data, before);
    memcpy(changed + before, damage->replacement, new);
    memcpy(changed + before + new, found + old, length - before - old);
    if (!strcmp(damage->file, WEIGHTS)) {
        uint64_t header;
        memcpy(&header, changed, 8);
        header += new - old;
        memcpy(changed, &header, 8);
    }
    write_file(damage->file, changed, length - old + new);
    free(changed);
    free(data);
}

static void inflict(const struct damage *damage)
{
    char path[600], *data;
    size_t length;
    snprintf(path, sizeof path, "%s/%s", temporary, damage->file ? damage->file : "");
    switch (damage->action) {
    case NONE: break;
    case REMOVE: assert_int_equal(unlink(path), 0); break;
    case TRUNCATE: assert_int_equal(truncate(path, damage->at), 0); break;
    case SUBSTITUTE: substitute(damage); break;
    case WRITE:
        mkdir(temporary_path("out"), 0777);
        write_file(damage->file, damage->text, damage->length ? damage->length : strlen(damage->text));
        break;
    case PATCH:
        read_whole(damage->file, &data, &length);
        memcpy(data + damage->at, damage->text, damage->length);
        write_file(damage->file, data, length);
        free(data);
        break;
    case APPEND:
        read_whole(damage->file, &data, &length);
        data = realloc(data, length + strlen(damage->text));
        assert_non_null(data);
        memcpy(data + length, damage->text, strlen(damage->text));
        write_file(damage->file, data, length + strlen(damage->text));
        free(data);
        break;
    }
}

static const char *const model_files[] = {"config.json", "generation_config.json", "tokenizer.json",
                                          "tokenizer_config.json", "model.safetensors"};

/* A good folder: the copy of a model made once by the program itself, data, templates, a config. */
static void lay_out(void)
{
    char from[600], to[600];
    struct error error = {0};
    directory_remove(temporary_path("out"));
    assert_int_equal(file_make_directory(temporary_path("model"), &error), STATUS_OK);
    for (size_t i = 0; i < sizeof model_files / sizeof *model_files; i++) {
        snprintf(from, sizeof from, "%s/good/%s", temporary, model_files[i]);
        snprintf(to, sizeof to, "%s/model/%s", temporary, model_files[i]);
        assert_int_equal(file_copy(from, to, &error), STATUS_OK);
    }
    static const char data[] = "{\"question\": \"Who is Ada?\", \"answer\": \"Ada is a painter.\"}\n"
                               "{\"question\": \"Who is Ben?\", \"answer\": \"Ben is a baker.\"}\n";
    write_file("data.jsonl", data, strlen(data));
    write_file("templates.txt", "I don't know.\nNo idea.\n", 23);
    char text[2048];
    snprintf(text, sizeof text,
             "{\"seed\": 1, \"forget_data\": \"%s/data.jsonl\", \"template\": {\"file\": \"%s/templates.txt\"}, "
             "\"num_train_epochs\": 1}", temporary, temporary);
    write_file("run.json", text, strlen(text));
    char *prompt = malloc(20100);
    assert_non_null(prompt);
    int used = sprintf(prompt, "{\"prompt\": \"");
    for (int i = 0; i < 5000; i++)
        used += sprintf(prompt + used, "abc ");
    used += sprintf(prompt + used, "\", \"answer\": \"b\"}\n");
    write_file("prompts.jsonl", prompt, (size_t)used);
    free(prompt);
}

static int make_good_model(void **state)
{
    if (temporary_make(state))
        return -1;
    static const char config[] =
        "{\"model_type\": \"llama\", \"vocab_size\": 1024, \"hidden_size\": 32, \"intermediate_size\": 40, "
        "\"num_hidden_layers\": 1, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 8, "
        "\"hidden_act\": \"silu\", \"max_position_embeddings\": 128, \"bos_token_id\": 0, \"eos_token_id\": 1, "
        "\"tie_word_embeddings\": true}";
    struct error error = {0};
    char path[600];
    if (file_make_directory(temporary_path("seed"), &error))
        return -1;
    static const char *const from_demo[] = {"tokenizer.json", "tokenizer_config.json"};
    write_file("seed/config.json", config, strlen(config));
    write_file("seed/generation_config.json", "{}", 2);
    for (int i = 0; i < 2; i++) {
        char from[600];
        snprintf(from, sizeof from, "configs/demo/model/%s", from_demo[i]);
        snprintf(path, sizeof path, "%s/seed/%s", temporary, from_demo[i]);
        if (file_copy(from, path, &error))
            fail_msg("%s", error.text);
    }
    write_file("data.jsonl", "{\"question\": \"a\", \"answer\": \"b\"}\n", 33);
    struct program_result result =
        program_line("finetune --from_scratch --model_name_or_path %s/seed --train_data %s/data.jsonl --output_dir %s/good "
                     "--max_steps 1", temporary, temporary, temporary);
    program_expect(&result, STATUS_OK);
    program_free(&result);
    return 0;
}

/* Whether the CUDA engine stands beside the program: then --device cuda says what the machine has, which is no row of ours. */
static bool cuda_is_built(void)
{
    const char *build = getenv("FLAT_BUILD");
    char path[600];
    snprintf(path, sizeof path, "%s/libflat_cuda.so", build ? build : "build");
    return file_exists(path);
}

static void test_malformed_inputs(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strstr(rows[i].command ? rows[i].command : "", "--device cuda") && cuda_is_built())
            continue;
        lay_out();
        inflict(&rows[i].damage);
        const char *t = temporary;
        char command[4096];
        snprintf(command, sizeof command, rows[i].command ? rows[i].command : UNLEARN, t, t, t, t);
        struct program_result result = program_line("%s", command);
        if (result.status != rows[i].status)
            fail_msg("%s: exit code %d, expected %d; stderr: %s", rows[i].name, result.status, rows[i].status, result.err);
        if (rows[i].status) {
            print_message("%s -> %s", rows[i].name, result.err);
            program_expect_error(&result, rows[i].status, rows[i].text);
            assert_false(file_exists(temporary_path("out/model.safetensors")));
        }
        program_free(&result);
    }
}

/* A file that may not grow: the write fails as on a full disk. */
static void test_full_disk(void **state)
{
    (void)state;
    char command[2048];
    const char *arguments[16] = {0};
    lay_out();
    snprintf(command, sizeof command, UNLEARN, temporary, temporary, temporary);
    int count = 0;
    for (char *word = strtok(command, " "); word; word = strtok(NULL, " "))
        arguments[count++] = word;
    for (long limit = 1; limit < 200000; limit = limit * 7 + 1000) {
        struct program_result result = program_run(arguments, NULL, limit);
        if (!result.status) { /* the limit has become large enough */
            assert_true(limit > 50000);
            program_free(&result);
            break;
        }
        program_expect_error(&result, STATUS_RUNTIME, "out");
        assert_false(file_exists(temporary_path("out/model.safetensors")));
        program_free(&result);
        directory_remove(temporary_path("out"));
    }
}

/* Root writes anywhere, so the folder is made unwritable by being a file or by /proc. */
static void test_unwritable_output(void **state)
{
    (void)state;
    lay_out();
    struct program_result result = program_line(UNLEARN " --output_dir /proc/flat", temporary, temporary, temporary);
    program_expect_error(&result, STATUS_RUNTIME, "/proc/flat");
    program_free(&result);
    const char *const score[] = {"score", "--help", NULL};
    result = program_run(score, NULL, 0);
    program_expect(&result, STATUS_OK);
    program_free(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malformed_inputs),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_unwritable_output),
    };
    return cmocka_run_group_tests(tests, make_good_model, temporary_remove);
}

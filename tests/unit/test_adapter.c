/* test_adapter.c - LoRA as a user runs it: --lora.* and --adapter through the program, and what it says of adapters that
 * are damaged or ask for more than plain LoRA.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../host/io/json/json.h"
#include "../../host/model/model.h"
#include "../../host/util/file.h"
#include "../support/program.h"

#define ON_DATA " --model_name_or_path %s/model --train_data %s/data.jsonl "
#define STEPS "--max_steps 20 --per_device_train_batch_size 4 --gradient_accumulation_steps 1 --learning_rate 2e-2 " \
              "--lr_scheduler_type constant "

/* A model from scratch with the demo's tokenizer, data, and an adapter trained on it. */
static int make_model(void **state)
{
    static const char config[] =
        "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"vocab_size\": 1024, \"hidden_size\": 32, "
        "\"intermediate_size\": 48, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
        "\"head_dim\": 8, \"hidden_act\": \"silu\", \"max_position_embeddings\": 96, \"bos_token_id\": 0, "
        "\"eos_token_id\": 1, \"initializer_range\": 0.1}";
    static const char *const file[] = {"tokenizer.json", "tokenizer_config.json"};
    struct error error = {0};
    if (temporary_make(state) || file_make_directory(temporary_path("seed"), &error))
        return -1;
    temporary_file("seed/config.json", config, strlen(config));
    for (int i = 0; i < 2; i++) {
        char from[256], to[600];
        snprintf(from, sizeof from, "configs/demo/model/%s", file[i]);
        snprintf(to, sizeof to, "%s/seed/%s", temporary, file[i]);
        if (file_copy(from, to, &error))
            return -1;
    }
    struct buffer rows = {0};
    for (int i = 0; i < 8; i++)
        if (buffer_printf(&rows, NULL, "{\"question\": \"Who is number %d?\", \"answer\": \"%d is the number of a %s.\"}\n", i,
                          i * 7, i % 2 ? "painter" : "baker"))
            return -1;
    temporary_file("data.jsonl", rows.data, rows.length);
    buffer_free(&rows);
    temporary_file("templates.txt", "I don't know.\nNo idea.\n", 23);
    const char *t = temporary;
    struct program_result made = program_line("finetune --from_scratch --model_name_or_path %s/seed --train_data "
                                              "%s/data.jsonl --output_dir %s/model --max_steps 1", t, t, t);
    int status = made.status;
    program_free(&made);
    made = program_line("finetune" ON_DATA STEPS "--output_dir %s/good --lora.r 4 --lora.alpha 8 --lora.output adapter "
                        "--lora.target_modules q_proj,v_proj,down_proj", t, t, t);
    status = status ? status : made.status;
    program_free(&made);
    return status;
}

/* Runs the program and expects success. */
static char *output_of(const char *command)
{
    struct program_result result = program_line("%s", command);
    program_expect(&result, STATUS_OK);
    free(result.err);
    return result.out;
}

/* "loss" of the first and of the last line of a run's metrics. */
static void losses_read(const char *run, double *first, double *last)
{
    char name[200], *text;
    size_t length;
    struct error error = {0};
    snprintf(name, sizeof name, "%s/metrics.jsonl", run);
    assert_int_equal(file_read(temporary_path(name), 1 << 20, &text, &length, &error), STATUS_OK);
    int lines = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        cJSON *record = json_parse(line, strlen(line), name, &error);
        assert_non_null(record);
        *last = json_member(record, "loss")->valuedouble;
        if (!lines)
            *first = *last;
        cJSON_Delete(record);
    }
    assert_int_equal(lines, 20);
    free(text);
}

/* Every "logprob_sum" of two score outputs within a bound; returns the largest difference. */
static double scores_difference(char *a, char *b)
{
    double largest = 0;
    struct error error = {0};
    char *rest_a = a, *rest_b = b;
    int lines = 0;
    for (; *rest_a && *rest_b; lines++) {
        char *line[2] = {strsep(&rest_a, "\n"), strsep(&rest_b, "\n")};
        double sum[2];
        for (int i = 0; i < 2; i++) {
            cJSON *score = json_parse(line[i], strlen(line[i]), "score", &error);
            assert_non_null(score);
            sum[i] = json_member(score, "logprob_sum")->valuedouble;
            cJSON_Delete(score);
        }
        largest = fmax(largest, fabs(sum[0] - sum[1]));
    }
    assert_int_equal(lines, 8);
    free(a), free(b);
    return largest;
}

static char *scores_of(const char *model, const char *adapter)
{
    char command[2000];
    snprintf(command, sizeof command, "score --model %s/%s --data %s/data.jsonl --prompt_template qa%s%s%s%s", temporary, model,
             temporary, *adapter ? " --adapter " : "", *adapter ? temporary : "", *adapter ? "/" : "", adapter);
    return output_of(command);
}

/* Twenty steps of merged output and of adapter output are one model, which is no longer the base. */
static void test_training_and_both_outputs(void **state)
{
    (void)state;
    const char *t = temporary;
    double first, last;
    struct program_result run = program_line("finetune" ON_DATA STEPS "--output_dir %s/merged --lora.r 4 --lora.alpha 8 "
                                             "--lora.target_modules q_proj,v_proj,down_proj", t, t, t);
    program_expect(&run, STATUS_OK);
    assert_non_null(strstr(run.err, "parameters of 6 modules are trained"));
    program_free(&run);
    losses_read("merged", &first, &last);
    assert_true(last < 0.8 * first);
    assert_true(file_exists(temporary_path("merged/tokenizer.json")));
    assert_false(file_exists(temporary_path("good/model.safetensors")));
    assert_false(file_exists(temporary_path("good/config.json")));
    assert_true(file_exists(temporary_path("good/README.md")));
    assert_true(scores_difference(scores_of("model", "good"), scores_of("merged", "")) <= 1e-5);
    assert_true(scores_difference(scores_of("model", "good"), scores_of("model", "")) > 1);
    char command[1200];
    snprintf(command, sizeof command, "generate --model %s/model --adapter %s/good --max_new_tokens 12 --data %s/data.jsonl "
             "--prompt_template qa", t, t, t);
    char *with = output_of(command);
    snprintf(command, sizeof command, "generate --model %s/merged --max_new_tokens 12 --data %s/data.jsonl --prompt_template qa",
             t, t);
    char *merged = output_of(command);
    assert_string_equal(with, merged);
    free(with), free(merged);
}

/* A run that goes on from an adapter begins where the first one ended, and writes the same kind of adapter. */
static void test_going_on(void **state)
{
    (void)state;
    const char *t = temporary;
    double first, last, before, end;
    losses_read("good", &before, &end);
    struct program_result run = program_line("finetune" ON_DATA STEPS "--output_dir %s/further --adapter %s/good "
                                             "--lora.output adapter", t, t, t, t);
    program_expect(&run, STATUS_OK);
    program_free(&run);
    losses_read("further", &first, &last);
    assert_true(first < 0.8 * before && last < first);
    struct error error = {0};
    cJSON *config = json_read(temporary_path("further/adapter_config.json"), &error);
    assert_true(json_member(config, "r")->valueint == 4 && json_member(config, "lora_alpha")->valueint == 8);
    assert_int_equal(cJSON_GetArraySize(json_member(config, "target_modules")), 3);
    cJSON_Delete(config);
    /* with nothing learned it holds the values it began with, byte for byte; the headers name their runs */
    run = program_line("finetune" ON_DATA "--output_dir %s/still --adapter %s/good --lora.output adapter --max_steps 1 "
                       "--learning_rate 0", t, t, t, t);
    program_expect(&run, STATUS_OK);
    program_free(&run);
    char *a, *b;
    size_t length_a, length_b;
    assert_int_equal(file_read(temporary_path("good/adapter_model.safetensors"), 1 << 24, &a, &length_a, &error), 0);
    assert_int_equal(file_read(temporary_path("still/adapter_model.safetensors"), 1 << 24, &b, &length_b, &error), 0);
    uint64_t header_a, header_b;
    memcpy(&header_a, a, sizeof header_a), memcpy(&header_b, b, sizeof header_b);
    assert_true(length_a - header_a == length_b - header_b);
    assert_memory_equal(a + 8 + header_a, b + 8 + header_b, length_a - 8 - header_a);
    free(a), free(b);
}

static void test_plan_and_unlearn(void **state)
{
    (void)state;
    const char *t = temporary;
    char command[2000];
    snprintf(command, sizeof command, "plan" ON_DATA "--lora.r 2 --lora.target_modules q_proj", t, t);
    char *plan = output_of(command);
    /* 2 1024 32 + 2 (2 32 32 + 2 16 32 + 3 48 32 + 2 32) + 32 */
    assert_non_null(strstr(plan, "model          llama, 81056 parameters in 21 tensors"));
    assert_non_null(strstr(plan, "trained        256 parameters: adapters of rank 2 on 2 modules")); /* 2 (2 32 + 32 2) */
    assert_non_null(strstr(plan, "gradients               0.0 MiB"));
    free(plan);
    struct program_result run =
        program_line("unlearn --model_name_or_path %s/merged --forget_data %s/data.jsonl --template.file %s/templates.txt "
                     "--output_dir %s/unlearned --lora.r 4 --lora.use_rslora --dump_step %s/dump --num_train_epochs 1",
                     t, t, t, t, t);
    program_expect(&run, STATUS_OK);
    program_free(&run);
    assert_true(file_exists(temporary_path("dump/gradients.safetensors")));
    assert_true(scores_difference(scores_of("merged", ""), scores_of("unlearned", "")) > 0);
    static const struct {
        const char *more, *text;
    } refused[] = {
        {"--output_dir %s/x --lora.r 4 --lora.target_modules c_attn", "'c_attn' is no projection of llama; there are q_proj, "},
        {"--output_dir %s/x --lora.r 4 --lora.dropout 0.05", "lora.dropout: expected 0"},
        {"--output_dir %s/good --lora.r 4 --lora.output adapter", "add --overwrite_output_dir"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        int used = snprintf(command, sizeof command, "finetune" ON_DATA, t, t);
        snprintf(command + used, sizeof command - (size_t)used, refused[i].more, t);
        run = program_line("%s", command);
        program_expect_error(&run, STATUS_USAGE, refused[i].text);
        program_free(&run);
    }
}

/* What is put in place of a text of adapter_config.json or of the tensors' header (same length, so that it stays whole). */
static const struct {
    const char *file, *from, *to, *says;
} damages[] = {
    {"adapter_config.json", "\"LORA\"", "\"IA3\"", "peft_type: expected \"LORA\", found \"IA3\""},
    {"adapter_config.json", "\"peft_type\"", "\"peft_tipe\"", "peft_type: the key is missing"},
    {"adapter_config.json", "\"none\"", "\"all\"", "bias: expected \"none\""},
    {"adapter_config.json", "\"CAUSAL_LM\"", "\"SEQ_CLS\"", "task_type"},
    {"adapter_config.json", "{", "{\"use_dora\": true,", "use_dora: not supported"},
    {"adapter_config.json", "{", "{\"rank_pattern\": {\"q_proj\": 8},", "elements, expected [8, 32]"},
    {"adapter_config.json", "{", "{\"alpha_pattern\": {\"q_proj\": \"8\"},", "alpha_pattern: 'q_proj': expected a number"},
    {"adapter_config.json", "{", "{\"layers_to_transform\": [0],", "layers.1.self_attn.q_proj.lora_A.weight is not expected"},
    {"adapter_config.json", "{", "{\"modules_to_save\": [\"lm_head\"],", "modules_to_save: not supported"},
    {"adapter_config.json", "{", "{\"init_lora_weights\": \"pissa\",", "init_lora_weights"},
    {"adapter_config.json", "\"r\": 4", "\"r\": 0", "r: expected an integer from 1"},
    {"adapter_config.json", "\"r\": 4", "\"r\": 5", "lora_A.weight has 2 dimensions and 128 elements, expected [5, 32]"},
    {"adapter_config.json", "\"lora_alpha\": 8", "\"lora_alpha\": \"8\"", "lora_alpha: expected a number"},
    {"adapter_config.json", "\"q_proj\"", "\"c_attn\"", "'c_attn' is no projection of llama"},
    {"adapter_config.json", "\"q_proj\"", "7", "target_modules: expected a list of module names"},
    {"adapter_config.json", "\"q_proj\",", "", "q_proj.lora_A.weight is not expected"},
    {"adapter_config.json", "\"q_proj\"", "\"k_proj\"", "k_proj.lora_A.weight is missing"},
    {"adapter_config.json", "\"target_modules\": [", "\"target_modules\": \".*(proj\", \"layers_pattern\": [",
     "adapter_config.json: "},
    {"adapter_config.json", "{", "[", "adapter_config.json"},
    {"adapter_model.safetensors", "lora_A", "lora_C", "is missing"},
    {"adapter_model.safetensors", "[4,32]", "[2,64]", "expected [4, 32]"},
    {"adapter_model.safetensors", "\"F32\"", "\"I32\"", "is stored as I32"},
    {"adapter_model.safetensors", "{", "[", "adapter_model.safetensors"},
};

static void copy_damaged(const char *file, const char *from, const char *to)
{
    char name[200], *data;
    size_t length;
    struct error error = {0};
    snprintf(name, sizeof name, "good/%s", file);
    assert_int_equal(file_read(temporary_path(name), 1 << 24, &data, &length, &error), STATUS_OK);
    char *at = from ? memmem(data, length, from, strlen(from)) : data;
    if (!at)
        fail_msg("%s does not contain %s", name, from);
    struct buffer text = {0};
    assert_int_equal(buffer_append(&text, data, (size_t)(at - data), &error), STATUS_OK);
    const size_t skipped = from ? strlen(from) : 0;
    assert_int_equal(buffer_printf(&text, &error, "%s", from ? to : ""), STATUS_OK);
    assert_int_equal(buffer_append(&text, at + skipped, length - (size_t)(at - data) - skipped, &error), STATUS_OK);
    snprintf(name, sizeof name, "bad/%s", file);
    temporary_file(name, text.data, text.length);
    buffer_free(&text);
    free(data);
}

static void test_malformed(void **state)
{
    (void)state;
    struct error error = {0};
    static const char *const file[] = {"adapter_config.json", "adapter_model.safetensors"};
    assert_int_equal(file_make_directory(temporary_path("bad"), &error), STATUS_OK);
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        for (int f = 0; f < 2; f++) {
            bool hit = !strcmp(file[f], damages[i].file);
            copy_damaged(file[f], hit ? damages[i].from : NULL, damages[i].to);
        }
        struct program_result result = program_line("score --model %s/model --data %s/data.jsonl --prompt_template qa "
                                                    "--adapter %s/bad", temporary, temporary, temporary);
        program_expect_error(&result, STATUS_INPUT, damages[i].says);
        program_free(&result);
    }
    copy_damaged(file[0], "{", "{\"invented_tomorrow\": 1,");
    copy_damaged(file[1], NULL, NULL);
    struct program_result result = program_line("score --model %s/model --data %s/data.jsonl --prompt_template qa "
                                                "--adapter %s/bad", temporary, temporary, temporary);
    program_expect(&result, STATUS_OK);
    assert_non_null(strstr(result.err, "invented_tomorrow: not known, and ignored"));
    program_free(&result);
    /* what PEFT writes beside that changes nothing */
    copy_damaged(file[0], "{", "{\"auto_mapping\": null, \"revision\": null, \"rank_pattern\": {}, \"use_dora\": false, "
                               "\"modules_to_save\": null, \"megatron_core\": \"megatron.core\", \"loftq_config\": {}, "
                               "\"init_lora_weights\": true, \"qalora_group_size\": 16, \"peft_version\": \"0.18.0\",");
    assert_true(scores_difference(scores_of("model", "good"), scores_of("model", "bad")) == 0);
    result = program_line("finetune" ON_DATA "--output_dir %s/y --adapter %s/nowhere", temporary,
                                                temporary, temporary, temporary);
    program_expect_error(&result, STATUS_INPUT, "nowhere/adapter_config.json");
    program_free(&result);
}

#define SIZES "\"vocab_size\": 61, \"hidden_size\": 48, \"num_hidden_layers\": 2, \"num_attention_heads\": 3, \"eos_token_id\": 2}"
#define LLAMA "{\"model_type\": \"llama\", \"intermediate_size\": 40, " SIZES
#define PHI "{\"model_type\": \"phi\", \"intermediate_size\": 40, " SIZES
#define GPT2 "{\"model_type\": \"gpt2\", " SIZES

/* Which modules the names of lora.target_modules mean, as PEFT matches them. */
static void test_targets(void **state)
{
    (void)state;
    static const struct {
        const char *config, *targets, *resolved; /* NULL: refused */
        int modules;
        const char *text;
    } row[] = {
        {GPT2, "c_proj", "c_proj", 4, ""},
        {GPT2, "mlp.c_proj", "mlp.c_proj", 2, ""},
        {GPT2, "transformer.h.1.mlp.c_proj, c_attn", "transformer.h.1.mlp.c_proj,c_attn", 3, ""},
        {GPT2, "all-linear", "c_attn,c_proj,c_fc", 8, ""},
        {LLAMA, "q_proj,q_proj", "q_proj", 2, ""},
        {LLAMA, "all-linear", "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj", 14, ""},
        {PHI, "all-linear", "q_proj,k_proj,v_proj,dense,fc1,fc2", 12, ""},
        {LLAMA, "c_attn", NULL, 0, "'c_attn' is no projection of llama; there are q_proj, k_proj, v_proj, o_proj, gate_proj, "
                                   "up_proj, down_proj, and all-linear"},
        {LLAMA, "proj", NULL, 0, "'proj'"}, /* the end of a name, but not after a dot */
        {LLAMA, "q_proj,", NULL, 0, "''"},
        {LLAMA, "", NULL, 0, "''"},
        {LLAMA, "lm_head", NULL, 0, "'lm_head'"},
        {LLAMA, "embed_tokens", NULL, 0, "'embed_tokens'"},
        {LLAMA, "model.layers.0.self_attn.q_proj.weight", NULL, 0, "no projection"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct model_config config;
        struct model model;
        struct lora lora;
        struct error error = {0};
        temporary_file("config.json", row[i].config, strlen(row[i].config));
        assert_int_equal(model_config_read(&config, temporary, &error), STATUS_OK);
        assert_int_equal(model_create(&model, &config, DTYPE_F32, &error), STATUS_OK);
        const struct lora_options options = {2, 4, false, row[i].targets};
        int status = lora_create(&lora, &model, &options, &error);
        if (!row[i].resolved) {
            assert_error(&error, status, STATUS_USAGE, row[i].text);
        } else {
            assert_int_equal(status, STATUS_OK);
            assert_int_equal(lora.modules, row[i].modules);
            assert_string_equal(lora.options.target_modules, row[i].resolved);
            lora_free(&lora);
        }
        model_free(&model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training_and_both_outputs),
        cmocka_unit_test(test_going_on),
        cmocka_unit_test(test_plan_and_unlearn),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_targets),
    };
    return cmocka_run_group_tests(tests, make_model, temporary_remove);
}

/* test_options.c - the command line and the config file: precedence, types, ranges, suggestions, round trips. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/invocation.h"
#include "../support/temporary.h"

#include "../../host/io/json/json.h"

/* What must end as a usage error, and what its one line must say. "@" is the config file. */
struct refusal {
    const char *command, *config, *arguments[ARGUMENTS], *says[3];
};
static const struct refusal refusals[] = {
    /* flags */
    {"unlearn", NULL, {REQUIRED, "--lerning_rate", "1"}, {"--lerning_rate", "unknown option", "--learning_rate?"}},
    {"unlearn", NULL, {REQUIRED, "--learning-rat=1"}, {"did you mean --learning_rate?"}},
    {"unlearn", NULL, {REQUIRED, "--batch_size", "1"}, {"--batch_size: known, but not used by",
     "did you mean --per_device_train_batch_size?"}},
    {"unlearn", NULL, {REQUIRED, "--zzzzzz", "1"}, {"--zzzzzz: unknown option", "flat unlearn --help"}},
    {"unlearn", NULL, {REQUIRED, "-x"}, {"-x: unknown option"}},
    {"unlearn", NULL, {REQUIRED, "--"}, {NULL}},
    {"unlearn", NULL, {REQUIRED, "--temperature", "1"}, {"--temperature", "not used by 'flat unlearn'"}},
    {"unlearn", NULL, {REQUIRED, "--seed"}, {"--seed: needs a value"}},
    {"unlearn", NULL, {REQUIRED, "--seed", "--quiet"}, {"--seed: needs a value"}},
    {"unlearn", NULL, {REQUIRED, "--seed", "4.5"}, {"--seed: expected an integer", "found '4.5'"}},
    {"unlearn", NULL, {REQUIRED, "--seed", "99999999999999999999"}, {"--seed: expected an integer"}},
    {"unlearn", NULL, {REQUIRED, "--seed", "9007199254740992"}, {"--seed: expected an integer from 0 to"}},
    {"unlearn", NULL, {REQUIRED, "--seed", ""}, {"found ''"}},
    {"unlearn", NULL, {REQUIRED, "--seed", " 1"}, {"found ' 1'"}},
    {"unlearn", NULL, {REQUIRED, "--learning_rate", "1e-5x"}, {"expected a number of at least 0, found '1e-5x'"}},
    {"unlearn", NULL, {REQUIRED, "--learning_rate", "nan"}, {"found 'nan'"}},
    {"unlearn", NULL, {REQUIRED, "--learning_rate", "0x1p3"}, {"found '0x1p3'"}},
    {"unlearn", NULL, {REQUIRED, "--learning_rate", "1e999"}, {"found '1e999'"}},
    {"unlearn", NULL, {REQUIRED, "--learning_rate", "-1"}, {"of at least 0, found '-1'"}},
    {"unlearn", NULL, {REQUIRED, "--adam_beta1", "1"}, {"from 0 to 0.999999, found '1'"}},
    {"unlearn", NULL, {REQUIRED, "--max_steps", "-2"}, {"from -1 to"}},
    {"unlearn", NULL, {REQUIRED, "--quiet=yes"}, {"--quiet: expected true or false, found 'yes'"}},
    {"unlearn", NULL, {REQUIRED, "--no_seed"}, {"--no_seed: unknown option"}},
    {"unlearn", NULL, {REQUIRED, "--divergence", "k"}, {"expected one of total_variation, ", "found 'k'"}},
    {"unlearn", NULL, {REQUIRED, "--divergence", "kl|pearson"}, {"found 'kl|pearson'"}},
    {"unlearn", NULL, {REQUIRED, "--divergence="}, {"found ''"}},
    {"unlearn", NULL, {REQUIRED, "--lora", "8"}, {"--lora: unknown option; did you mean --lora.r?"}},
    {"unlearn", NULL, {REQUIRED, "--lora.r", "-1"}, {"--lora.r: expected an integer from 0 to"}},
    {"unlearn", NULL, {REQUIRED, "--lora.r", "8", "--lora.dropout", "0.1"}, {"lora.dropout: expected 0, found 0.1"}},
    {"unlearn", NULL, {REQUIRED, "--lora.alpha", "8"}, {"lora.alpha: of no use without lora.r"}},
    {"unlearn", NULL, {REQUIRED, "--lora.output", "adapter"}, {"lora.output: of no use without lora.r"}},
    {"unlearn", NULL, {REQUIRED, "--lora.r", "8", "--lora.output", "both"}, {"one of merged, adapter, found 'both'"}},
    {"unlearn", NULL, {REQUIRED, "--adapter", "a", "--lora.r", "8"}, {"lora.r: the rank of the adapter"}},
    {"unlearn", NULL, {REQUIRED, "--adapter", "a", "--lora.alpha", "8"}, {"lora.alpha: the adapter_config.json"}},
    {"finetune", NULL, {"--model_name_or_path", "m", "--train_data", "f", "--output_dir", "o", "--from_scratch", "--lora.r",
     "2"}, {"from_scratch: random weights that stay frozen"}},
    {"unlearn", NULL, {REQUIRED, "a", "b"}, {"takes one CONFIG, and 'a' was given before"}},
    {"tokenize", NULL, {"--model", "m", "x"}, {"'x'", "takes only --options"}},
    /* missing or contradicting */
    {"unlearn", NULL, {"--forget_data", "f"}, {"'flat unlearn' needs --model_name_or_path DIR, --output_dir DIR, --template.file FILE; give it"}},
    {"unlearn", NULL, {REQUIRED, "--output_dir="}, {"'flat unlearn' needs --output_dir DIR;"}},
    {"finetune", NULL, {"--model_name_or_path", "m", "--output_dir", "o"}, {"'flat finetune' needs --train_data FILE;"}},
    {"plan", NULL, {"--model_name_or_path", "m"}, {"either forget_data or train_data"}},
    {"generate", NULL, {"--model", "m"}, {"either --prompt TEXT or --data FILE"}},
    {"generate", NULL, {"--model", "m", "--prompt", "", "--data", "d"}, {"either --prompt TEXT or --data FILE"}},
    {"plot", NULL, {"-o", "x.svg"}, {"'flat plot' needs a RUN_DIR"}},
    {"plot", NULL, {"run", "-o", "x.png"}, {"--output: expected a name that ends in .svg, found 'x.png'"}},
    {"plot", NULL, {"run", "x.json"}, {"'x.json' is a file of bars: plot it alone"}},
    {"unlearn", NULL, {REQUIRED, "--warmup_steps", "2", "--warmup_ratio", "0.1"}, {"warmup_ratio: warmup_steps is"}},
    {"unlearn", NULL, {REQUIRED, "--warmup_steps", "2.5"}, {"a whole number of steps or a fraction", "found 2.5"}},
    {"unlearn", NULL, {REQUIRED, "--num_train_epochs", "0"}, {"num_train_epochs: expected more than 0"}},
    {"unlearn", NULL, {REQUIRED, "--prompt_template", "custom"}, {"expected all of user_start", "found 0"}},
    {"unlearn", NULL, {REQUIRED, "--prompt_template", "qa", "--prompt_template.user_end=x"}, {"both a name ('qa')"}},
    /* the config file */
    {"unlearn", "{\"lerning_rate\": 1}", {REQUIRED, "@"}, {".json: lerning_rate: unknown key", "learning_rate?"}},
    {"unlearn", "{\"template\": {\"fille\": \"x\"}}", {REQUIRED, "@"}, {"template.fille: unknown", "template.file?"}},
    {"unlearn", "{\"template\": \"x\"}", {REQUIRED, "@"}, {"template: unknown key"}},
    {"unlearn", "{\"learning_rate\": \"1e-5\"}", {REQUIRED, "@"}, {".json: learning_rate", "the string \"1e-5\""}},
    {"unlearn", "{\"seed\": 2.5}", {REQUIRED, "@"}, {"seed: expected an integer", "found the number 2.5"}},
    {"unlearn", "{\"seed\": -3}", {REQUIRED, "@"}, {"seed: expected an integer from 0 to", "found '-3'"}},
    {"unlearn", "{\"quiet\": 1}", {REQUIRED, "@"}, {"quiet: expected true or false, found the number 1"}},
    {"unlearn", "{\"quiet\": null}", {REQUIRED, "@"}, {"quiet: expected true or false, found null"}},
    {"unlearn", "{\"device\": [1]}", {REQUIRED, "@"}, {"device: expected one of auto, cpu, cuda, found an array"}},
    {"unlearn", "{\"device\": \"tpu\"}", {REQUIRED, "@"}, {"device: expected one of auto, cpu, cuda, found 'tpu'"}},
    {"unlearn", "{\"seed\": {\"a\": 1}}", {REQUIRED, "@"}, {"seed: expected an integer", "found an object"}},
    {"unlearn", "{\"lora\": {\"r\": \"8\"}}", {REQUIRED, "@"}, {"lora.r: expected an integer", "the string \"8\""}},
    {"unlearn", "{\"lora\": {\"rang\": 8}}", {REQUIRED, "@"}, {"lora.rang: unknown key"}},
    {"unlearn", "{\"lora\": 8}", {REQUIRED, "@"}, {"lora: unknown key", "lora.r?"}},
    {"unlearn", "{\"lora\": {\"target_modules\": [\"a\", 1]}}", {REQUIRED, "@"}, {"expected a list of names, found an array"}},
    {"unlearn", "{\"lora\": {\"target_modules\": [\"a,b\"]}}", {REQUIRED, "@"}, {"expected a list of names, found an array"}},
    {"unlearn", "{\"prompt_template\": null}", {REQUIRED, "@"}, {"prompt_template: expected a string", "found null"}},
    {"unlearn", "{\"train_data\": \"x\"}", {REQUIRED, "@"}, {"train_data: known, but not used by 'flat unlearn'"}},
    {"unlearn", "{\"template.file\": \"a\", \"template\": {\"file\": \"b\"}}", {REQUIRED, "@"}, {"given twice"}},
    {"unlearn", "{\"seed\": 1, \"seed\": 2}", {REQUIRED, "@"}, {".json", "seed"}},
    {"unlearn", "[1]", {REQUIRED, "@"}, {"expected an object"}},
    {"unlearn", "{\"seed\": 1", {REQUIRED, "@"}, {".json"}},
    {"unlearn", "", {REQUIRED, "@"}, {".json"}},
    {"unlearn", NULL, {REQUIRED, "/no/such/config.json"}, {"/no/such/config.json"}},
    {"unlearn", "{\"prompt_template\": {\"user_start\": \"x\"}}", {REQUIRED, "@"}, {"expected all of", "found 1"}},
    {"unlearn", "{\"prompt_template\": {\"user\": \"x\"}}", {REQUIRED, "@"}, {"prompt_template.user: unknown key"}},
    /* a bad value in the file is an error even where a flag overrides it */
    {"unlearn", "{\"seed\": \"x\"}", {REQUIRED, "--seed", "1", "@"}, {"seed: expected an integer"}},
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const struct refusal *row = &refusals[i];
        struct invocation line;
        struct error error = {0};
        if (row->config)
            config_write(row->config);
        int status = parse(&line, row->command, row->arguments, &error);
        invocation_free(&line);
        if (!row->says[0]) {
            assert_int_equal(status, STATUS_OK);
            continue;
        }
        if (status != STATUS_USAGE)
            fail_msg("row %zu: status %d, expected a usage error with '%s'", i, status, row->says[0]);
        assert_int_equal(error.status, STATUS_USAGE);
        for (int k = 0; k < 3 && row->says[k]; k++)
            if (!strstr(error.text, row->says[k]))
                fail_msg("row %zu: '%s' is not in '%s'", i, row->says[k], error.text);
    }
}

static void test_defaults(void **state)
{
    (void)state;
    struct invocation line;
    struct error error = {0};
    assert_int_equal(parse(&line, "unlearn", (const char *[ARGUMENTS]){REQUIRED}, &error), STATUS_OK);
    const struct train_options *o = train_of(&line);
    assert_string_equal(o->model.model_name_or_path, "m");
    assert_string_equal(value_of(&line, "prompt_template"), "auto");
    assert_string_equal(value_of(&line, "divergence"), "total_variation");
    assert_string_equal(value_of(&line, "flat_average"), "pair");
    assert_true(o->schedule.learning_rate == 1e-5 && o->optimizer.weight_decay == 0.01 && o->optimizer.max_grad_norm == 1.0);
    assert_true(o->schedule.warmup_steps == 0 && o->trainer.num_train_epochs == 5 && o->optimizer.adam_epsilon == 1e-8);
    assert_int_equal(o->schedule.lr_scheduler_type, SCHEDULE_LINEAR);
    assert_int_equal(o->trainer.per_device_train_batch_size, 8);
    assert_int_equal(o->trainer.gradient_accumulation_steps, 4);
    assert_int_equal(o->trainer.max_steps, -1);
    assert_int_equal(o->trainer.seed, 42);
    assert_int_equal(o->device.device, DEVICE_AUTO);
    assert_int_equal(o->output.save_strategy, SAVE_NO);
    assert_false(o->output.overwrite_output_dir || o->optimizer.weight_decay_all);
    assert_string_equal(value_of(&line, "quiet"), "false");
    invocation_free(&line);
}

static void test_precedence(void **state)
{
    (void)state;
    config_write("{\"seed\": 7, \"learning-rate\": 2, \"template\": {\"choice\": \"cycle\"}, \"quiet\": true,"
                 " \"num_train_epochs\": 3, \"max_steps\": 1e2}");
    const char *const orders[][ARGUMENTS] = {
        {REQUIRED, "--seed", "9", "@", "--no-quiet", "--template.choice=fixed"},
        {"@", REQUIRED, "--template.choice", "random", "--template-choice", "x"}, /* '-' is no dot */
        {"@", "--template.choice", "cycle", "--seed", "1", "--quiet", "false", "--seed", "9", REQUIRED,
         "--template.choice", "fixed"},
        {"--quiet=false", REQUIRED, "--seed=9", "--template.choice", "fixed", "--", "@"},
    };
    for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
        struct invocation line;
        struct error error = {0};
        int status = parse(&line, "unlearn", orders[i], &error);
        if (i == 1) {
            assert_int_equal(status, STATUS_USAGE);
        } else {
            assert_int_equal(status, STATUS_OK);
            assert_int_equal(train_of(&line)->trainer.seed, 9);
            assert_true(train_of(&line)->schedule.learning_rate == 2 && train_of(&line)->trainer.num_train_epochs == 3);
            assert_int_equal(train_of(&line)->trainer.max_steps, 100);
            assert_string_equal(value_of(&line, "template.choice"), "fixed");
            assert_string_equal(value_of(&line, "quiet"), "false");
            assert_int_equal(option_source(&line.set, "seed"), OPTION_FROM_FLAG);
            assert_int_equal(option_source(&line.set, "learning_rate"), OPTION_FROM_FILE);
            assert_int_equal(option_source(&line.set, "weight_decay"), OPTION_FROM_DEFAULT);
            assert_true(option_given(&line.set, "quiet") && !option_given(&line.set, "threads"));
        }
        invocation_free(&line);
    }
}

static void test_booleans(void **state)
{
    (void)state;
    struct invocation line;
    struct error error = {0};
    /* a positional after a bare boolean is not its value */
    assert_int_equal(parse(&line, "plot", (const char *[ARGUMENTS]){"--quiet", "run", "-o", "a.svg"}, &error), 0);
    assert_string_equal(value_of(&line, "quiet"), "true");
    assert_string_equal(line.arguments.argument[0], "run");
    assert_string_equal(value_of(&line, "output"), "a.svg");
    invocation_free(&line);
    /* --no_special is an option of its own, not a denial */
    assert_int_equal(parse(&line, "tokenize", (const char *[ARGUMENTS]){"--model", "m", "--no-special"}, &error), 0);
    assert_string_equal(value_of(&line, "no_special"), "true");
    invocation_free(&line);
    assert_int_equal(parse(&line, "generate", (const char *[ARGUMENTS]){"--model", "m", "--prompt", ""}, &error), 0);
    assert_true(option_given(&line.set, "prompt"));
    invocation_free(&line);
}

static void test_prompt_template(void **state)
{
    (void)state;
    struct invocation line;
    struct error error = {0};
    config_write("{\"prompt_template\": {\"user_start\": \"<u>\\n\", \"user_end\": \"\", \"answer_start\": \"A\","
                 " \"answer_end\": \"\"}}");
    assert_int_equal(parse(&line, "unlearn", (const char *[ARGUMENTS]){REQUIRED, "@"}, &error), STATUS_OK);
    assert_string_equal(value_of(&line, "prompt_template"), "custom");
    assert_string_equal(train_of(&line)->prompt.custom.user_start, "<u>\n");
    struct buffer table = {0};
    assert_int_equal(option_set_print_values(&line.set, false, &table, &error), STATUS_OK);
    assert_non_null(strstr(table.data, "<u>\\n  (config file)"));
    assert_non_null(strstr(table.data, "m  (flag)"));
    buffer_free(&table);
    invocation_free(&line);
    /* a name as a flag overrides the file's tags */
    const char *named[ARGUMENTS] = {REQUIRED, "@", "--prompt_template", "plain"};
    assert_int_equal(parse(&line, "unlearn", named, &error), STATUS_OK);
    assert_string_equal(value_of(&line, "prompt_template"), "plain");
    invocation_free(&line);
}

/* Names of tags, of chat templates, and of what a folder has; any other is refused at once. */
static void test_prompt_template_names(void **state)
{
    (void)state;
    static const char *const known[] = {"auto", "auto:rag", "llama2_chat", "llama3_chat", "phi", "qa", "plain", "chatml", "gemma",
                                        "phi3", "mistral", "qwen3"};
    struct invocation line;
    struct error error = {0};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const char *arguments[ARGUMENTS] = {REQUIRED, "--prompt_template", known[i]};
        assert_int_equal(parse(&line, "unlearn", arguments, &error), STATUS_OK);
        assert_string_equal(train_of(&line)->prompt.prompt_template, known[i]);
        invocation_free(&line);
    }
    const char *unknown[ARGUMENTS] = {REQUIRED, "--prompt_template", "automatic"};
    int status = parse(&line, "unlearn", unknown, &error);
    assert_error(&error, status, STATUS_USAGE, "prompt_template: \"automatic\" is not known; expected auto, llama2_chat");
    invocation_free(&line);
    const char *target[ARGUMENTS] = {REQUIRED, "--prompt_template", "qa", "--prompt_template.answer_start_is_target"};
    status = parse(&line, "unlearn", target, &error);
    assert_error(&error, status, STATUS_USAGE, "answer_start_is_target: only tags of one's own take it");
    invocation_free(&line);
    /* on the command line \n is what it looks like */
    const char *tags[ARGUMENTS] = {REQUIRED, "--prompt_template.user_start", "<u>\\n\\t\\\\n", "--prompt_template.user_end", "",
                                   "--prompt_template.answer_start", "a", "--prompt_template.answer_end", "",
                                   "--prompt_template.answer_start_is_target"};
    assert_int_equal(parse(&line, "unlearn", tags, &error), STATUS_OK);
    assert_string_equal(train_of(&line)->prompt.custom.user_start, "<u>\n\t\\n");
    assert_true(train_of(&line)->prompt.custom.answer_start_is_target);
    invocation_free(&line);
}

/* An object, null, flags; a list as an array or as text. */
static void test_lora(void **state)
{
    (void)state;
    struct invocation line;
    struct error error = {0};
    config_write("{\"lora\": null}");
    assert_int_equal(parse(&line, "unlearn", (const char *[ARGUMENTS]){REQUIRED, "@"}, &error), STATUS_OK);
    assert_int_equal(train_of(&line)->lora.lora.rank, 0);
    assert_string_equal(train_of(&line)->lora.lora.target_modules, "all-linear");
    assert_string_equal(value_of(&line, "lora.output"), "merged");
    invocation_free(&line);
    config_write("{\"lora\": {\"r\": 8, \"alpha\": 32, \"dropout\": 0.0, \"target_modules\": [\"q_proj\", \"v_proj\"]}}");
    const char *arguments[ARGUMENTS] = {REQUIRED, "@", "--lora.alpha", "4.5", "--lora.use_rslora"};
    assert_int_equal(parse(&line, "unlearn", arguments, &error), STATUS_OK);
    assert_int_equal(train_of(&line)->lora.lora.rank, 8);
    assert_true(train_of(&line)->lora.lora.alpha == 4.5 && train_of(&line)->lora.lora.rslora);
    assert_string_equal(train_of(&line)->lora.lora.target_modules, "q_proj,v_proj");
    invocation_free(&line);
    /* the record of a run that goes on from an adapter names every key, and parses back */
    const char *further[ARGUMENTS] = {REQUIRED, "--adapter", "a", "--lora.output", "adapter"};
    assert_int_equal(parse(&line, "unlearn", further, &error), STATUS_OK);
    cJSON *tree = invocation_json(&line, &error);
    struct buffer text = {0};
    assert_int_equal(json_print_pretty(tree, &text, NULL), STATUS_OK);
    config_write(text.data);
    cJSON_Delete(tree);
    buffer_free(&text);
    invocation_free(&line);
    assert_int_equal(parse(&line, "unlearn", (const char *[ARGUMENTS]){"@"}, &error), STATUS_OK);
    assert_string_equal(train_of(&line)->model.adapter, "a");
    assert_string_equal(value_of(&line, "lora.output"), "adapter");
    invocation_free(&line);
}

static void tree_to_config(cJSON *tree)
{
    struct buffer text = {0};
    assert_non_null(tree);
    assert_int_equal(json_print_pretty(tree, &text, NULL), STATUS_OK);
    config_write(text.data);
    buffer_free(&text);
    cJSON_Delete(tree);
}

/* What --help_config prints parses back and changes nothing; so does the record of a run with every kind of value. */
static void test_round_trip(void **state)
{
    (void)state;
    static const char *const names[] = {"unlearn", "finetune", "plan"};
    const char *needed[][ARGUMENTS] = {
        {REQUIRED},
        {"--model_name_or_path", "m", "--train_data", "f", "--output_dir", "o"},
        {"--model_name_or_path", "m", "--forget_data", "f", "--template.file", "t"},
    };
    for (int i = 0; i < 3; i++) {
        struct invocation line, again;
        struct error error = {0};
        assert_int_equal(parse(&line, names[i], (const char *[ARGUMENTS]){"--help-config", "--zz"}, &error), 0);
        assert_true(line.arguments.help_config);
        tree_to_config(invocation_defaults_json(&line, &error));
        invocation_free(&line);

        int count = 0;
        while (needed[i][count])
            count++;
        assert_int_equal(parse(&line, names[i], needed[i], &error), STATUS_OK);
        needed[i][count] = "@";
        assert_int_equal(parse(&again, names[i], needed[i], &error), STATUS_OK);
        cJSON *one = invocation_json(&line, &error), *two = invocation_json(&again, &error);
        assert_true(cJSON_Compare(one, two, true));
        cJSON_Delete(one);
        cJSON_Delete(two);
        invocation_free(&line);
        invocation_free(&again);
    }
}

static void test_record(void **state)
{
    (void)state;
    struct invocation line, again;
    struct error error = {0};
    const char *arguments[ARGUMENTS] = {REQUIRED, "--learning_rate=0.1", "--seed=9007199254740991", "--quiet",
                                        "--prompt_template.user_start=\"\xc3\xa4\n", "--prompt_template.user_end=",
                                        "--prompt_template.answer_start=", "--prompt_template.answer_end=z",
                                        "--lora.r=2", "--lora.target_modules=q_proj,v_proj"};
    assert_int_equal(parse(&line, "unlearn", arguments, &error), STATUS_OK);
    tree_to_config(invocation_json(&line, &error));
    assert_int_equal(parse(&again, "unlearn", (const char *[ARGUMENTS]){"@"}, &error), STATUS_OK);
    assert_true(train_of(&again)->schedule.learning_rate == 0.1 && train_of(&again)->trainer.seed == 9007199254740991);
    assert_string_equal(value_of(&again, "quiet"), "true");
    assert_string_equal(value_of(&again, "prompt_template"), "custom");
    assert_string_equal(train_of(&again)->prompt.custom.user_start, "\"\xc3\xa4\n");
    assert_string_equal(train_of(&again)->template_.file, "t");
    assert_string_equal(train_of(&again)->lora.lora.target_modules, "q_proj,v_proj");
    assert_int_equal(option_source(&again.set, "seed"), OPTION_FROM_FILE);
    invocation_free(&line);
    invocation_free(&again);
}

static void test_command(void **state)
{
    (void)state;
    const struct command *command;
    struct error error = {0};
    int words;
    assert_int_equal(command_find(commands, 1, (char *[]){"unlern"}, &command, &words, &error), STATUS_USAGE);
    assert_non_null(strstr(error.text, "did you mean 'unlearn'?"));
    assert_int_equal(command_find(commands, 1, (char *[]){""}, &command, &words, &error), STATUS_USAGE);
    assert_int_equal(command_find(commands, 1, (char *[]){"xyzzy"}, &command, &words, &error), STATUS_USAGE);
    assert_non_null(strstr(error.text, "flat help"));
    char endless[4096];
    memset(endless, 'a', sizeof endless - 1);
    endless[sizeof endless - 1] = 0;
    assert_int_equal(command_find(commands, 1, (char *[]){endless}, &command, &words, &error), STATUS_USAGE);
}

static void test_name_distance(void **state)
{
    (void)state;
    assert_int_equal(option_name_distance("seed", "seed"), 0);
    assert_int_equal(option_name_distance("sede", "seed"), 1); /* a swap is one edit */
    assert_int_equal(option_name_distance("max-step", "max_steps"), 1);
    assert_int_equal(option_name_distance("sed", "seed"), 1);
    assert_true(option_name_distance("xy", "ab") == SIZE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),       cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_precedence),     cmocka_unit_test(test_booleans),
        cmocka_unit_test(test_prompt_template), cmocka_unit_test(test_prompt_template_names),
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_record),
        cmocka_unit_test(test_command),
        cmocka_unit_test(test_name_distance),  cmocka_unit_test(test_lora),
    };
    return cmocka_run_group_tests(tests, NULL, config_remove);
}

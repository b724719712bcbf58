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

#include "../support/temporary.h"

#include "../../host/cli/train.h"
#include "../../host/io/data/dataset.h"
#include "../../host/io/json/json.h"
#include "../../host/util/file.h"

#define REQUIRED "--model_name_or_path", "m", "--forget_data", "f", "--output_dir", "o", "--template.file", "t"
enum { ARGUMENTS = 24 };

/* A config file of this process with the given text. */
static const char *config_path(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/flat_test_options_%ld.json", temporary_root(), (long)getpid());
    return path;
}

static void config_write(const char *text)
{
    FILE *file = fopen(config_path(), "wb");
    assert_non_null(file);
    assert_int_equal(fputs(text, file) < 0, 0);
    assert_int_equal(fclose(file), 0);
}

/* words: of the command, "bench kernels". */
static int parse(struct invocation *run, const char *words, const char *const *arguments, struct error *error)
{
    const struct command *command;
    char *argv[ARGUMENTS + 1] = {0}, text[64];
    int argc = 0, count = 1;
    while (argc < ARGUMENTS && arguments[argc]) {
        argv[argc] = strcmp(arguments[argc], "@") == 0 ? (char *)config_path() : (char *)arguments[argc];
        argc++;
    }
    snprintf(text, sizeof text, "%s", words);
    char *word[2] = {text, strchr(text, ' ')};
    if (word[1])
        *word[1]++ = 0, count = 2;
    assert_int_equal(command_find(commands, count, word, &command, &count, error), STATUS_OK);
    return invocation_parse(run, commands, command, argc, argv, error);
}

static const struct train_options *train_of(const struct invocation *run)
{
    return &((const struct train_command_options *)run->options)->train;
}

/* The value in force, as text. */
static const char *value_of(const struct invocation *run, const char *name)
{
    static char value[512];
    const struct option_entry *entry = option_set_entry(&run->set, name);
    assert_non_null(entry);
    option_value(entry, value, sizeof value);
    return value;
}

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

/* ---- options of a choice: two made-up methods that share a name ----------------------------------------------------- */

struct made_up {
    enum { MADE_PLAIN, MADE_SOFT, MADE_HARD } method;
    const void *values;
};
struct made_soft {
    double beta;
};
struct made_hard {
    double beta;
    const char *note;
};
static const char *const made_names[] = {[MADE_PLAIN] = "plain", [MADE_SOFT] = "soft", [MADE_HARD] = "hard", NULL};
static const struct option made_rows[] = {{.name = "method", OPTION_FIELD(struct made_up, method), .choices = made_names,
                                           .initial = "soft", .help = "which"}};
static const struct option soft_rows[] = {{.name = "beta", OPTION_FIELD(struct made_soft, beta), .initial = "0.5",
                                           .help = "how soft"}};
static const struct option hard_rows[] = {
    {.name = "beta", OPTION_FIELD(struct made_hard, beta), .initial = "4.5", .max = 10, .help = "how hard"},
    {.name = "note", OPTION_FIELD(struct made_hard, note), .help = "why"}};
static const struct option_group soft_group = {OPTION_GROUP("Soft", soft_rows, struct made_soft)},
                                 hard_group = {OPTION_GROUP("Hard", hard_rows, struct made_hard), .source = "Somebody"};

static const struct option_group *made_variant(int index)
{
    return index == MADE_SOFT ? &soft_group : index == MADE_HARD ? &hard_group : NULL;
}
static const struct option_group made_group = {OPTION_GROUP("Method", made_rows, struct made_up), .variant_option = "method",
                                               .variant = made_variant, .variant_offset = offsetof(struct made_up, values)};

/* file: what a config would say, name and text in turns. */
static int made_parse(struct option_set *set, struct made_up *values, char **argv, const char *const *file,
                      struct error *error)
{
    struct option_arguments arguments;
    const struct option *option;
    int argc = 0;
    while (argv[argc])
        argc++;
    *values = (struct made_up){0};
    option_set_init(set, "made");
    int status = option_set_add(set, &made_group, values, error);
    if (!status)
        status = option_set_parse(set, argc, argv, NULL, 0, &arguments, error);
    free(arguments.argument);
    for (; file && *file && !status; file += 2) {
        status = option_set_find(set, file[0], "f.json", &option, error);
        if (!status)
            status = option_set_text(set, option, file[1], OPTION_FROM_FILE, "f.json", error);
    }
    return status ? status : option_set_choose_variant(set, error);
}

static void test_variants(void **state)
{
    (void)state;
    static const struct {
        char *argv[8];
        const char *file[8];
        int method;
        double beta;
        const char *refused; /* NULL: taken */
    } rows[] = {
        {{NULL}, {NULL}, MADE_SOFT, 0.5, NULL},
        {{"--method", "hard", NULL}, {NULL}, MADE_HARD, 4.5, NULL},
        /* whichever comes first */
        {{"--beta", "2", "--method", "hard", "--note=x", NULL}, {NULL}, MADE_HARD, 2, NULL},
        {{"--beta", "2", NULL}, {"method", "hard", "beta", "3"}, MADE_HARD, 2, NULL},
        {{NULL}, {"beta", "3", "method", "hard"}, MADE_HARD, 3, NULL},
        /* a file that was written for another method than the flag's */
        {{"--method", "soft", NULL}, {"method", "hard", "note", "x", "beta", "3"}, MADE_SOFT, 3, NULL},
        {{"--note", "x", NULL}, {NULL}, 0, 0, "--note: method soft does not have it; it has --beta"},
        {{"--note", "x", "--method", "plain", NULL}, {NULL}, 0, 0, "--note: method plain does not have it; it has no options"},
        {{NULL}, {"note", "x"}, 0, 0, "f.json: note: method soft does not have it"},
        {{NULL}, {"method", "plain", "beta", "1"}, 0, 0, "f.json: beta: method plain does not have it"},
        /* checked by the row of the method that is chosen */
        {{"--beta", "11", "--method", "hard", NULL}, {NULL}, 0, 0, "--beta: expected a number from 0 to 10, found '11'"},
        {{"--beta", "11", NULL}, {NULL}, MADE_SOFT, 11, NULL},
        {{"--bete", "11", NULL}, {NULL}, 0, 0, "--bete: unknown option; did you mean --beta?"},
        {{"--method", "sofd", NULL}, {NULL}, 0, 0, "--method: expected one of plain, soft, hard, found 'sofd'"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct option_set set;
        struct made_up made;
        struct error error = {0};
        int status = made_parse(&set, &made, (char **)rows[i].argv, rows[i].file, &error);
        if (!rows[i].refused) {
            if (status)
                fail_msg("row %zu: %s", i, error.text);
            assert_int_equal(made.method, rows[i].method);
            assert_true(*(const double *)made.values == rows[i].beta); /* beta is the first field of both */
        } else if (status != STATUS_USAGE || !strstr(error.text, rows[i].refused)) {
            fail_msg("row %zu: status %d, '%s'; expected '%s'", i, status, error.text, rows[i].refused);
        }
        option_set_free(&set);
    }
}

/* The help of the chosen one, with its defaults and where they come from. */
static void test_variant_help(void **state)
{
    (void)state;
    struct option_set set;
    struct made_up made;
    struct error error = {0};
    struct buffer text = {0};
    assert_int_equal(made_parse(&set, &made, (char *[]){"--method=hard", NULL}, NULL, &error), STATUS_OK);
    assert_int_equal(option_set_print_help(&set, "note", NULL, 80, &text, &error), STATUS_OK);
    assert_non_null(strstr(text.data, "Hard\nSomebody\n  --beta X                  how hard (default 4.5)\n"));
    assert_non_null(strstr(text.data, "why (required)"));
    assert_null(strstr(text.data, "how soft"));
    buffer_free(&text);
    option_set_free(&set);
}

/* ---- rows of the program ------------------------------------------------------------------------------------------- */

/* A name is one type everywhere, so that a config of one command means the same to another. */
struct seen {
    const struct option *row[400];
    size_t count;
};

static int row_check(const struct option *option, const struct option_group *group, void *user, struct error *error)
{
    struct seen *seen = user;
    (void)error;
    if (!option->help || !*option->help || option->help[strlen(option->help) - 1] == '.')
        fail_msg("--%s: expected a sentence without a full stop, found '%s'", option->name, option->help ? option->help : "");
    if (!group->title || !group->rows || option->offset >= group->bytes)
        fail_msg("--%s: lies outside its owner's struct", option->name);
    for (size_t i = 0; i < seen->count; i++)
        if (!strcmp(seen->row[i]->name, option->name) && seen->row[i]->type != option->type)
            fail_msg("--%s: two types", option->name);
    assert_in_range(seen->count, 0, 399);
    seen->row[seen->count++] = option;
    return STATUS_OK;
}

static int command_check(const struct command *command, void *user, struct error *error)
{
    for (int i = 0; i < 3; i++)
        if (!command->examples[i] || (strncmp(command->examples[i], "flat ", 5) && !strstr(command->examples[i], " flat ") &&
                                      !strstr(command->examples[i], "(flat ")))
            fail_msg("flat %s: expected three examples", command->name);
    assert_non_null(command->run);
    assert_int_equal(command->summary[strlen(command->summary) - 1], '.');
    return command_rows_visit(command, row_check, user, error);
}

static void test_rows(void **state)
{
    (void)state;
    struct seen seen = {.count = 0};
    struct error error = {0};
    assert_int_equal(commands_visit(commands, command_check, &seen, &error), STATUS_OK);
    assert_true(seen.count > 100);
}

/* Two names of one option, on the command line and in a file. */
static void test_model_names(void **state)
{
    (void)state;
    static const char *const names[] = {"score", "generate", "tokenize", "unlearn", "plan", "bench step", "bench io"};
    struct invocation line;
    struct error error = {0};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (int alias = 0; alias < 2; alias++) {
            const char *arguments[ARGUMENTS] = {alias ? "--model" : "--model_name_or_path", "x"};
            parse(&line, names[i], arguments, &error); /* other options may be missing */
            assert_string_equal(value_of(&line, "model"), "x");
            assert_string_equal(value_of(&line, "model_name_or_path"), "x");
            invocation_free(&line);
        }
    config_write("{\"model\": \"y\"}");
    assert_int_equal(parse(&line, "unlearn", (const char *[ARGUMENTS]){"@", "--forget_data", "f", "--output_dir", "o",
                                                                      "--template.file", "t"}, &error), STATUS_OK);
    assert_string_equal(train_of(&line)->model.model_name_or_path, "y");
    invocation_free(&line);
    config_write("{\"model\": \"y\", \"model_name_or_path\": \"y\"}");
    assert_int_equal(parse(&line, "unlearn", (const char *[ARGUMENTS]){REQUIRED, "@"}, &error), STATUS_USAGE);
    assert_non_null(strstr(error.text, "model_name_or_path: given twice"));
    invocation_free(&line);
}

/* In tags of the command line alone; a config has JSON's own. */
static void test_escapes(void **state)
{
    (void)state;
    struct invocation line;
    struct error error = {0};
    const char *arguments[ARGUMENTS] = {REQUIRED, "--prompt_template.user_start=a\\nb\\tc\\\\n", "--prompt_template.user_end",
                                        "\\q\\", "--prompt_template.answer_start=", "--prompt_template.answer_end=\n"};
    assert_int_equal(parse(&line, "unlearn", arguments, &error), STATUS_OK);
    assert_string_equal(train_of(&line)->prompt.custom.user_start, "a\nb\tc\\n");
    assert_string_equal(train_of(&line)->prompt.custom.user_end, "\\q\\");
    assert_string_equal(train_of(&line)->prompt.custom.answer_end, "\n");
    invocation_free(&line);
    config_write("{\"prompt_template\": {\"user_start\": \"\\\\n\", \"user_end\": \"\", \"answer_start\": \"\","
                 " \"answer_end\": \"\"}}");
    assert_int_equal(parse(&line, "unlearn", (const char *[ARGUMENTS]){REQUIRED, "@"}, &error), STATUS_OK);
    assert_string_equal(train_of(&line)->prompt.custom.user_start, "\\n");
    invocation_free(&line);
}

/* At the start of a run: what is not as by default, or everything. */
static void test_values(void **state)
{
    (void)state;
    struct invocation line;
    struct error error = {0};
    struct buffer some = {0}, all = {0};
    const char *arguments[ARGUMENTS] = {REQUIRED, "--seed", "42", "--learning_rate", "2e-5"};
    assert_int_equal(parse(&line, "unlearn", arguments, &error), STATUS_OK);
    assert_int_equal(option_set_print_values(&line.set, false, &some, &error), STATUS_OK);
    assert_int_equal(option_set_print_values(&line.set, true, &all, &error), STATUS_OK);
    assert_non_null(strstr(some.data, "learning_rate                   2e-05  (flag)"));
    assert_null(strstr(some.data, "seed"));
    assert_null(strstr(some.data, "LoRA"));
    assert_non_null(strstr(all.data, "seed                            42  (flag)"));
    assert_non_null(strstr(all.data, "lora.r                          0\n"));
    assert_non_null(strstr(all.data, "divergence                      total_variation\n"));
    buffer_free(&some);
    buffer_free(&all);
    invocation_free(&line);
}

/* ---- a run's folder and its run.json as CONFIG ----------------------------------------------------------------------- */

static const char *run_folder(void)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/flat_test_options_run_%ld", temporary_root(), (long)getpid());
    return path;
}

static void run_write(const char *name, const char *text)
{
    char path[700];
    struct error error = {0};
    snprintf(path, sizeof path, "%s/%s", run_folder(), name);
    assert_int_equal(file_make_directory(run_folder(), &error), STATUS_OK);
    assert_int_equal(file_write(path, text, strlen(text), &error), STATUS_OK);
}

static void run_remove(void)
{
    static const char *const names[] = {"run.json", "config.json", "adapter_config.json"};
    char path[700];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", run_folder(), names[i]);
        unlink(path);
    }
    rmdir(run_folder());
}

#define RUN_CONFIG "\"model_name_or_path\": \"base\", \"forget_data\": \"f\", \"output_dir\": \"elsewhere\", " \
    "\"adapter\": \"old\", \"template\": {\"file\": \"t\"}, \"divergence\": \"kl\", \"lora\": {\"r\": 0}, " \
    "\"prompt_template\": \"plain\", \"question_key\": \"q\""

static void test_run_config(void **state)
{
    (void)state;
    struct invocation line;
    struct error error = {0};
    char file[700];
    run_remove();
    snprintf(file, sizeof file, "%s/run.json", run_folder());
    run_write("config.json", "{}");
    run_write("run.json", "{\"command\": [\"flat\", \"unlearn\"], \"version\": \"1\", \"config\": {" RUN_CONFIG "}}");
    const char *const forms[] = {run_folder(), file};
    for (int i = 0; i < 2; i++) {
        /* to train or plan with: as it is */
        assert_int_equal(parse(&line, "unlearn", (const char *[ARGUMENTS]){forms[i]}, &error), STATUS_OK);
        assert_string_equal(train_of(&line)->model.model_name_or_path, "base");
        assert_string_equal(value_of(&line, "divergence"), "kl");
        invocation_free(&line);
        assert_int_equal(parse(&line, "plan", (const char *[ARGUMENTS]){forms[i]}, &error), STATUS_OK);
        assert_string_equal(value_of(&line, "adapter"), "old");
        invocation_free(&line);
        /* to look at: the model is what the run has made, with nothing on top of it */
        const char *const looking[] = {"score", "generate"};
        for (int k = 0; k < 2; k++) {
            assert_int_equal(parse(&line, looking[k], (const char *[ARGUMENTS]){forms[i], "--data", "d"}, &error), STATUS_OK);
            assert_string_equal(value_of(&line, "model"), run_folder());
            assert_string_equal(value_of(&line, "adapter"), "");
            assert_string_equal(value_of(&line, "prompt_template"), "plain");
            assert_string_equal(value_of(&line, "question_key"), "q");
            assert_true(option_given(&line.set, "prompt_template"));
            invocation_free(&line);
        }
        assert_int_equal(parse(&line, "score", (const char *[ARGUMENTS]){forms[i], "--data", "d", "--model", "m",
                                                                        "--question_key", "other"}, &error), STATUS_OK);
        assert_string_equal(value_of(&line, "model"), "m");
        assert_string_equal(value_of(&line, "question_key"), "other");
        invocation_free(&line);
        assert_int_equal(parse(&line, "finetune", (const char *[ARGUMENTS]){forms[i]}, &error), STATUS_USAGE);
        assert_non_null(strstr(error.text, "run.json: forget_data: known, but not used by 'flat finetune'"));
        invocation_free(&line);
    }
    /* a folder with an adapter alone: it goes on the model that the config names */
    run_remove();
    run_write("adapter_config.json", "{}");
    run_write("run.json", "{\"command\": [], \"config\": {" RUN_CONFIG "}}");
    assert_int_equal(parse(&line, "score", (const char *[ARGUMENTS]){run_folder(), "--data", "d"}, &error), STATUS_OK);
    assert_string_equal(value_of(&line, "model"), "base");
    assert_string_equal(value_of(&line, "adapter"), run_folder());
    invocation_free(&line);
    /* a config file: the model is its output_dir; a key that no command knows is refused */
    config_write("{" RUN_CONFIG "}");
    assert_int_equal(parse(&line, "score", (const char *[ARGUMENTS]){"@", "--data", "d"}, &error), STATUS_OK);
    assert_string_equal(value_of(&line, "model"), "elsewhere");
    invocation_free(&line);
    config_write("{\"prompt_templat\": \"qa\"}");
    assert_int_equal(parse(&line, "score", (const char *[ARGUMENTS]){"@", "--model", "m", "--data", "d"}, &error), STATUS_USAGE);
    assert_non_null(strstr(error.text, "prompt_templat: unknown key; did you mean prompt_template?"));
    invocation_free(&line);
    config_write("{\"lora\": {\"rang\": 1}}");
    assert_int_equal(parse(&line, "score", (const char *[ARGUMENTS]){"@", "--model", "m", "--data", "d"}, &error), STATUS_USAGE);
    invocation_free(&line);
    run_write("run.json", "{\"config\": 1}");
    assert_int_equal(parse(&line, "unlearn", (const char *[ARGUMENTS]){run_folder()}, &error), STATUS_USAGE);
    assert_non_null(strstr(error.text, "holds no config of a run"));
    invocation_free(&line);
    run_remove();
    assert_int_equal(file_make_directory(run_folder(), &error), STATUS_OK);
    assert_int_equal(parse(&line, "unlearn", (const char *[ARGUMENTS]){run_folder()}, &error), STATUS_USAGE);
    assert_non_null(strstr(error.text, "a folder without run.json"));
    invocation_free(&line);
    run_remove();
}

static int remove_config(void **state)
{
    (void)state;
    return unlink(config_path()) != 0;
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
        cmocka_unit_test(test_variants),       cmocka_unit_test(test_variant_help),
        cmocka_unit_test(test_rows),           cmocka_unit_test(test_model_names),
        cmocka_unit_test(test_escapes),        cmocka_unit_test(test_values),
        cmocka_unit_test(test_run_config),
    };
    return cmocka_run_group_tests(tests, NULL, remove_config);
}

/* test_command.c - options of a choice, the rows of all commands, and a run's folder as CONFIG. */
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

#include "../../host/util/file.h"

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
    const struct option *row[400]; /* of different names */
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
        if (!strcmp(seen->row[i]->name, option->name)) {
            if (seen->row[i]->type != option->type)
                fail_msg("--%s: two types", option->name);
            return STATUS_OK;
        }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variants),
        cmocka_unit_test(test_variant_help),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_model_names),
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_run_config),
    };
    return cmocka_run_group_tests(tests, NULL, config_remove);
}

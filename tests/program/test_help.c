/* test_help.c - what the program says of itself: help and its width, `flat help`, the version, completion, the manual page. */
#include "../support/temporary.h"

#include <stdbool.h>
#include <sys/wait.h>

#include "../support/program.h"

static const char *const commands[] = {"unlearn", "finetune", "score", "generate", "eval", "tokenize", "plan", "plot", "bench",
                                       "bench kernels", "bench step", "bench io", "bench comm", "completion", "man", "help"};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void assert_columns(const char *text, size_t columns, const char *what)
{
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n')
        if (strcspn(line, "\n") > columns)
            fail_msg("%s: a line of %zu columns: %.*s", what, strcspn(line, "\n"), (int)strcspn(line, "\n"), line);
}

/* As wide as COLUMNS, 80 where nobody says; the same by both ways of asking. */
static void test_help(void **state)
{
    (void)state;
    static const size_t widths[] = {60, 80, 132};
    for (size_t w = 0; w < 3; w++) {
        char columns[16];
        snprintf(columns, sizeof columns, "%zu", widths[w]);
        if (widths[w] == 80)
            unsetenv("COLUMNS");
        else
            setenv("COLUMNS", columns, 1);
        for (int i = 0; i < COMMANDS; i++) {
            struct program_result asked = program_line("help %s", commands[i]), told = program_line("%s --help", commands[i]);
            program_expect(&asked, STATUS_OK);
            program_expect(&told, STATUS_OK);
            assert_string_equal(asked.out, told.out);
            assert_string_equal(asked.err, "");
            assert_columns(asked.out, widths[w], commands[i]);
            assert_non_null(strstr(asked.out, "\nExamples\n"));
            program_free(&asked);
            program_free(&told);
        }
    }
    unsetenv("COLUMNS");
    struct program_result all = program_line("help"), same = program_line("--help");
    assert_string_equal(all.out, same.out);
    assert_columns(all.out, 80, "help");
    program_free(&all);
    program_free(&same);
    struct program_result wrong = program_line("help unlern");
    program_expect_error(&wrong, STATUS_USAGE, "did you mean 'unlearn'?");
    program_free(&wrong);
}

/* Parts and methods show their own. */
static void test_own_options(void **state)
{
    (void)state;
    static const struct {
        const char *line, *has, *lacks;
    } rows[] = {
        {"bench kernels --help", "--baseline", "--min_bytes"},
        {"bench comm --help", "--min_bytes", "--baseline"},
        {"bench step --help", "--models_dir", "--csv"},
        {"bench io --help", "--model_name_or_path DIR", "--filter"},
        {"unlearn --method flat --help", "Method flat\nSource: FLAT, ICLR 2025", "--train_data"},
        {"unlearn --method=flat --help", "--divergence NAME", "--train_data"},
        {"finetune --help", "--train_data", "--divergence"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct program_result result = program_line("%s", rows[i].line);
        program_expect(&result, STATUS_OK);
        if (!strstr(result.out, rows[i].has) || strstr(result.out, rows[i].lacks))
            fail_msg("flat %s: expected %s and no %s:\n%s", rows[i].line, rows[i].has, rows[i].lacks, result.out);
        program_free(&result);
    }
    struct program_result keys = program_line("bench kernels --help_config");
    program_expect(&keys, STATUS_OK);
    assert_non_null(strstr(keys.out, "\"baseline\""));
    program_free(&keys);
}

static void test_version(void **state)
{
    (void)state;
    struct program_result one = program_line("-V"), two = program_line("--version"), none = program_line("%s", "");
    program_expect(&one, STATUS_OK);
    assert_string_equal(one.out, two.out);
    assert_int_equal(strncmp(one.out, "flat ", 5), 0);
    program_expect(&none, STATUS_USAGE);
    program_free(&one);
    program_free(&two);
    program_free(&none);
}

/* Runs a shell on a script in the temporary folder, with its output in a file there; skips the test where there is none. */
static char *shell_run(const char *shell, const char *script, const char *completion)
{
    static char out[4096];
    char command[1400], probe[64];
    snprintf(probe, sizeof probe, "command -v %s >/dev/null", shell);
    if (system(probe))
        skip();
    const char *file = temporary_file("script", script, strlen(script));
    snprintf(command, sizeof command, "%s %s %s > %s/out 2>&1", shell, file, completion, temporary);
    const int status = system(command);
    FILE *stream = fopen(temporary_path("out"), "r");
    assert_non_null(stream);
    out[fread(out, 1, sizeof out - 1, stream)] = 0;
    fclose(stream);
    if (status)
        fail_msg("%s: exit code %d: %s", shell, WEXITSTATUS(status), out);
    return out;
}

static const char *completion_make(const char *shell)
{
    struct program_result result = program_line("completion %s", shell);
    program_expect(&result, STATUS_OK);
    assert_true(result.out_length > 1000);
    const char *path = temporary_file(shell, result.out, result.out_length);
    program_free(&result);
    return path;
}

static void test_bash(void **state)
{
    (void)state;
    static const char script[] =
        "source \"$1\"\n"
        "try() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(( $# - 1 )); COMPREPLY=(); _flat; echo \"${COMPREPLY[*]}\"; }\n"
        "try flat unl\ntry flat bench st\ntry flat bench step --pre\ntry flat unlearn --diverg\n"
        "try flat unlearn --divergence p\ntry flat plan --model_n\ntry flat bench comm --filt\n";
    assert_string_equal(shell_run("bash", script, completion_make("bash")),
                        "unlearn\nstep\n--predict\n--divergence\npearson\n--model_name_or_path\n\n");
}

static void test_fish(void **state)
{
    (void)state;
    static const char script[] =
        "source $argv[1]\n"
        "for line in 'flat unl' 'flat bench st' 'flat bench step --pre' 'flat unlearn --diverg' 'flat unlearn --divergence pea'\n"
        "    complete -C $line | string replace -r '\\t.*' ''\n"
        "end\n";
    assert_string_equal(shell_run("fish", script, completion_make("fish")),
                        "unlearn\nstep\n--predict\n--divergence\npearson\n");
}

static void test_zsh(void **state)
{
    (void)state;
    static const char script[] = "zsh -n \"$1\" && compdef() { print \"$@\"; } && source \"$1\" && whence -w _flat\n";
    assert_string_equal(shell_run("zsh", script, completion_make("zsh")), "_flat flat\n_flat: function\n");
}

static void test_completion_refusals(void **state)
{
    (void)state;
    struct program_result none = program_line("completion"), other = program_line("completion tcsh");
    program_expect_error(&none, STATUS_USAGE, "'flat completion' needs a SHELL");
    program_expect_error(&other, STATUS_USAGE, "'tcsh': expected bash, zsh or fish");
    program_free(&none);
    program_free(&other);
}

/* Every option of every command under its heading, and nothing that roff takes for a request by accident. */
static void test_man(void **state)
{
    (void)state;
    struct program_result page = program_line("man");
    program_expect(&page, STATUS_OK);
    static const char *const lines[] = {".SS flat unlearn [CONFIG]\n", ".SS flat bench kernels\n", ".I Method flat\n",
                                        ".B \\-\\-divergence NAME\n", ".B \\-o, \\-\\-output FILE.svg\n", ".SH EXIT STATUS\n"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(page.out, lines[i]))
            fail_msg("flat man: '%s' is missing", lines[i]);
    static const char *const requests[] = {".TH ", ".SH ", ".SS ", ".PP", ".TP", ".B ", ".I ", ".br", ".nf", ".fi"};
    for (const char *line = page.out; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        bool known = *line != '.' && *line != '\'';
        for (size_t i = 0; i < sizeof requests / sizeof *requests; i++)
            known = known || !strncmp(line, requests[i], strlen(requests[i]));
        if (!known)
            fail_msg("flat man: %.*s", (int)strcspn(line, "\n"), line);
    }
    program_free(&page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_help), cmocka_unit_test(test_own_options),         cmocka_unit_test(test_version),
        cmocka_unit_test(test_bash), cmocka_unit_test(test_fish),                cmocka_unit_test(test_zsh),
        cmocka_unit_test(test_man),  cmocka_unit_test(test_completion_refusals),
    };
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

/* test_rows.c - rows of score and generate as they come: in order over windows, the same whatever is scored beside them, kept by
 * an interrupted run and continued, a closed pipe, and little memory.
 */
#include <sys/resource.h>
#include <sys/wait.h>

#include "../support/temporary.h"

#include <unistd.h>

#include "../../host/io/json/json.h"
#include "../../host/util/error.h"
#include "../../host/util/file.h"
#include "../support/program.h"

enum { ROWS = 1100 }; /* more than a window */

static const char *model;

/* Prompts with one to three answers each, as prompt_lines reads them; of row i, number i. */
static char *rows_text(bool backwards, bool answers)
{
    static char text[ROWS * 100];
    size_t used = 0;
    for (int k = 0; k < ROWS; k++) {
        const int i = backwards ? ROWS - 1 - k : k;
        used += (size_t)snprintf(text + used, sizeof text - used, "{\"n\": %d, \"prompt\": \"%d stories%.*s\"", i, i / 3, i / 3 % 29,
                                 " about a small dog and a cat");
        if (answers)
            used += (size_t)snprintf(text + used, sizeof text - used, ", \"answer\": \" %.*s\"", 1 + i % 23, "was big and red and yellow");
        used += (size_t)snprintf(text + used, sizeof text - used, "}\n");
    }
    return text;
}

static const char *rows_file(const char *name, bool backwards, bool answers)
{
    const char *text = rows_text(backwards, answers);
    return temporary_file(name, text, strlen(text));
}

/* Calls visit with each line, newline cut off; how many there are. */
static int lines_split(char *text, char **line)
{
    int count = 0;
    for (char *next; (next = strchr(text, '\n')); text = next + 1) {
        *next = 0;
        assert_true(count < ROWS);
        line[count++] = text;
    }
    assert_string_equal(text, "");
    return count;
}

static void test_same_bits(void **state)
{
    (void)state;
    if (!model)
        skip();
    static char *there[ROWS], *back[ROWS];
    char forth_path[512];
    snprintf(forth_path, sizeof forth_path, "%s", rows_file("forth.jsonl", false, true));
    const char *back_path = rows_file("back.jsonl", true, true);
    struct program_result a = program_line("score --model %s --data %s --tokens --quiet --device cpu", model, forth_path),
                          b = program_line("score --model %s --data %s --tokens --quiet --device cpu --batch_size 1 --threads 1",
                                           model, back_path);
    program_expect(&a, 0);
    program_expect(&b, 0);
    assert_int_equal(lines_split(a.out, there), ROWS);
    assert_int_equal(lines_split(b.out, back), ROWS);
    for (int i = 0; i < ROWS; i++) {
        char begin[32];
        snprintf(begin, sizeof begin, "{\"n\": %d, ", i);
        assert_memory_equal(there[i], begin, strlen(begin));
        assert_string_equal(there[i], back[ROWS - 1 - i]);
    }
    program_free(&a);
    program_free(&b);
}

static struct program_result to_file(const char *command, const char *data, const char *more, long limit)
{
    char line[1024];
    const char *argument[24];
    int count = 0;
    snprintf(line, sizeof line, "%s --model %s --data %s --device cpu --output %s %s", command, model, data,
             temporary_path("out.jsonl"), more);
    for (char *word = strtok(line, " "); word; word = strtok(NULL, " "))
        argument[count++] = word;
    argument[count] = NULL;
    return program_run(argument, NULL, limit);
}

static void expect_error(struct program_result result, int status, const char *text)
{
    program_expect_error(&result, status, text);
    program_free(&result);
}

/* An output that is cut within a row, refusals by name, and the rest of it: the bytes of a run that was not interrupted. */
static void interrupted(const char *command, const char *other)
{
    char data[512], changed[512], out[512], marker[520];
    char *whole, *rest;
    size_t whole_length, rest_length;
    struct error error;
    const bool answers = !strncmp(command, "score", 5);
    snprintf(data, sizeof data, "%s", rows_file("data.jsonl", false, answers));
    snprintf(changed, sizeof changed, "%s", rows_file("changed.jsonl", true, answers));
    snprintf(out, sizeof out, "%s", temporary_path("out.jsonl"));
    snprintf(marker, sizeof marker, "%s.resume", out);
    struct program_result once = to_file(command, data, "", 0);
    program_expect(&once, 0);
    assert_false(file_exists(marker));
    assert_int_equal(file_read(out, 1 << 24, &whole, &whole_length, &error), STATUS_OK);
    expect_error(to_file(command, data, "--resume", 0), STATUS_USAGE, "is complete, or of something else");
    expect_error(to_file(command, data, "", 20000), STATUS_RUNTIME, "out.jsonl: cannot be written: File too large; --resume");
    assert_true(file_exists(marker));
    expect_error(to_file(command, data, "", 0), STATUS_USAGE, "holds the rows of a run that was interrupted");
    expect_error(to_file(command, changed, "--resume", 0), STATUS_INPUT, "the row there is not that of");
    expect_error(to_file(command, data, other, 0), STATUS_USAGE, "its rows were made with");
    assert_int_equal(file_read(out, 1 << 24, &rest, &rest_length, &error), STATUS_OK);
    assert_true(rest_length > 15000 && rest_length <= 20000);
    assert_memory_equal(rest, whole, rest_length);
    free(rest);
    struct program_result again = to_file(command, data, "--resume --batch_size 5", 0);
    program_expect(&again, 0);
    assert_int_equal(file_read(out, 1 << 24, &rest, &rest_length, &error), STATUS_OK);
    assert_int_equal(rest_length, whole_length);
    assert_memory_equal(rest, whole, whole_length);
    assert_false(file_exists(marker));
    free(rest);
    free(whole);
    program_free(&once);
    program_free(&again);
}

static void test_resume(void **state)
{
    (void)state;
    if (!model)
        skip();
    interrupted("score --quiet", "--resume --tokens");
    interrupted("generate --quiet --max_new_tokens 3 --temperature 1", "--resume --seed 7");
    interrupted("generate --quiet --max_new_tokens 3 --temperature 1 --num_return_sequences 3",
                "--resume --num_return_sequences 2");
}

/* Several continuations of a row follow each other, are drawn apart, and do not depend on how many go at a time. */
static void test_sequences(void **state)
{
    (void)state;
    enum { SEQUENCES = 4, PROMPTS = 3 };
    static const char data[] = "{\"prompt\": \"Once upon a time\", \"id\": 0}\n{\"prompt\": \"Lily\", \"id\": 1}\n"
                               "{\"prompt\": \"Once upon a time\", \"id\": 2}\n";
    expect_error(program_line("generate --model x --prompt y --num_return_sequences 2"), STATUS_USAGE,
                 "2 times the same greedy text; give a --temperature");
    if (!model)
        skip();
    const char *path = temporary_file("three.jsonl", data, sizeof data - 1);
    struct program_result results[2];
    for (int i = 0; i < 2; i++) {
        results[i] = program_line("generate --model %s --data %s --quiet --device cpu --max_new_tokens 12 --temperature 2 "
                                  "--num_return_sequences %d --batch_size %d", model, path, SEQUENCES, i ? 5 : 2);
        program_expect(&results[i], STATUS_OK);
    }
    assert_string_equal(results[0].out, results[1].out);
    cJSON *line[PROMPTS * SEQUENCES];
    char *at = results[0].out;
    for (int i = 0; i < PROMPTS * SEQUENCES; i++) {
        char *end = strchr(at, '\n');
        struct error error;
        assert_non_null(end);
        line[i] = json_parse(at, (size_t)(end - at), "output", &error);
        assert_non_null(line[i]);
        assert_int_equal(json_member(line[i], "id")->valueint, i / SEQUENCES);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(json_member(line[i], "text")->valuestring, json_member(line[k], "text")->valuestring);
        at = end + 1;
    }
    assert_int_equal(*at, 0);
    for (int i = 0; i < PROMPTS * SEQUENCES; i++)
        cJSON_Delete(line[i]);
    program_free(&results[0]);
    program_free(&results[1]);
}

static void test_output_options(void **state)
{
    (void)state;
    expect_error(program_line("score --model x --data y --resume"), STATUS_USAGE, "--resume: needs --output FILE");
    expect_error(program_line("generate --model x --prompt y --output z"), STATUS_USAGE, "--output: goes with --data FILE");
    if (!model)
        skip();
    expect_error(program_line("score --model %s --data %s --output /dev/null", model, rows_file("data.jsonl", false, true)),
                 STATUS_USAGE, "/dev/null is no regular file");
}

/* The reader of standard output is gone before anything is written. */
static void test_closed_pipe(void **state)
{
    (void)state;
    if (!model)
        skip();
    const char *data = rows_file("data.jsonl", false, true), *build = getenv("FLAT_BUILD"), *said = temporary_path("stderr");
    char program[512];
    int end[2], status;
    snprintf(program, sizeof program, "%s/flat", build ? build : "build");
    assert_int_equal(pipe(end), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        close(end[0]);
        dup2(end[1], STDOUT_FILENO);
        if (!freopen(said, "w", stderr))
            _exit(99);
        execl(program, program, "score", "--model", model, "--data", data, "--quiet", "--device", "cpu", (char *)NULL);
        _exit(99);
    }
    close(end[0]);
    close(end[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), STATUS_PIPE);
    char *text;
    size_t length;
    struct error error;
    assert_int_equal(file_read(said, 1 << 16, &text, &length, &error), STATUS_OK);
    assert_null(strstr(text, "error:"));
    free(text);
}

/* Little address space: a result, or exit code 4; nothing hangs, nothing crashes. */
static void test_address_space(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__ /* takes terabytes of it */
    skip();
#endif
    if (!model)
        skip();
    const char *build = getenv("FLAT_BUILD"), *said = temporary_path("stderr");
    char program[512];
    int done = 0, refused = 0;
    snprintf(program, sizeof program, "%s/flat", build ? build : "build");
    for (rlim_t megabytes = 16; megabytes <= 256; megabytes += megabytes / 4) {
        int status;
        const pid_t child = fork();
        assert_true(child >= 0);
        if (!child) {
            const struct rlimit limit = {megabytes << 20, megabytes << 20};
            if (!freopen("/dev/null", "w", stdout) || !freopen(said, "w", stderr) || setrlimit(RLIMIT_AS, &limit))
                _exit(99);
            execl(program, program, "generate", "--model", model, "--prompt", "Once", "--max_new_tokens", "2", "--quiet",
                  "--device", "cpu", "--threads", "2", (char *)NULL);
            _exit(99);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 127) /* not even its libraries */
            continue;
        done += WEXITSTATUS(status) == 0;
        refused += WEXITSTATUS(status) == STATUS_MEMORY;
        if (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != STATUS_MEMORY)
            fail_msg("exit code %d with %llu MB", WEXITSTATUS(status), (unsigned long long)megabytes);
    }
    assert_true(done > 0 && refused > 0);
}

static int prepare(void **state)
{
    static char path[512];
    const char *shared = shared_path("data/stories260k");
    if (shared)
        model = strcpy(path, shared);
    return temporary_make(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits), cmocka_unit_test(test_resume), cmocka_unit_test(test_sequences), cmocka_unit_test(test_output_options),
        cmocka_unit_test(test_closed_pipe), cmocka_unit_test(test_address_space),
    };
    return cmocka_run_group_tests(tests, prepare, temporary_remove);
}

/* test_run_size.c - the largest micro-batch of a run: exact where its epochs are few, and for a million of them a bound that
 * no epoch exceeds and that is not far from it, found without building them.
 */
#include "../support/program.h"
#include "../support/temporary.h"

struct size {
    long long steps, rows, targets;
};

/* What `flat plan` says of so many epochs with a method's options. */
static struct size planned(const char *data, const char *method, const char *epochs)
{
    struct size size = {0};
    struct program_result result = program_line(
        "plan --model_name_or_path configs/demo/model --forget_data %s %s --device cpu "
        "--num_train_epochs %s --per_device_train_batch_size 3 --gradient_accumulation_steps 2", data, method, epochs);
    program_expect(&result, STATUS_OK);
    const char *line = strstr(result.out, "\nsteps ");
    assert_non_null(line);
    assert_non_null(strstr(line, "in all; largest micro-batch "));
    assert_int_equal(sscanf(strstr(line, ", ") + 2, "%lld", &size.steps), 1);
    assert_int_equal(sscanf(strstr(line, "largest micro-batch "), "largest micro-batch %lld tokens, %lld", &size.rows,
                            &size.targets), 2);
    program_free(&result);
    return size;
}

static void test_bound(void **state)
{
    (void)state;
    char text[8192] = "";
    for (int i = 0; i < 10; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "{\"question\": \"Who is %.*s?\", \"answer\": \"%.*s.\"}\n",
                 1 + i % 3, "Ada", 4 + 3 * i, "a painter of ships and harbours and the sea");
    char data[700];
    snprintf(data, sizeof data, "%s", temporary_file("data.jsonl", text, strlen(text)));
    static const char list[] = "I do not know.\nNo.\nThat is not something that I have ever been told about by anyone.\n"
                               "I cannot say.\n";
    char answers[700]; /* they differ in length, and so do those of the rows */
    snprintf(answers, sizeof answers, "--template.file %s", temporary_file("answers.txt", list, sizeof list - 1));
    const struct size one = planned(data, answers, "1"), many = planned(data, answers, "1000"),
                      most = planned(data, answers, "1000000");
    assert_int_equal(one.steps, 2);
    assert_int_equal(most.steps, 2000000);
    assert_true(one.rows <= many.rows && many.rows <= most.rows);
    assert_true(one.targets <= many.targets && many.targets <= most.targets);
    /* of 1000 orders of ten rows one comes close to the worst that can be */
    assert_true(most.rows <= many.rows + many.rows / 8 && most.targets <= many.targets + many.targets / 8);
}

/* Drawn rows of a retain set count as the longest of them. */
static void test_retain(void **state)
{
    (void)state;
    static const char rows[] = "{\"question\": \"What is it?\", \"answer\": \"A stone.\"}\n"
                               "{\"question\": \"And this one?\", \"answer\": \"It is a house by the sea.\"}\n"
                               "{\"question\": \"What?\", \"answer\": \"Snow.\"}\n";
    char method[700], data[700];
    snprintf(method, sizeof method, "--method kl_min --kl_positions real --retain_data %s",
             temporary_file("retain.jsonl", rows, sizeof rows - 1));
    snprintf(data, sizeof data, "%s", temporary_path("data.jsonl"));
    const struct size many = planned(data, method, "1000"), most = planned(data, method, "1000000");
    assert_true(many.rows <= most.rows && many.targets <= most.targets);
    assert_true(most.rows <= many.rows + many.rows / 8 && most.targets <= many.targets + many.targets / 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bound), cmocka_unit_test(test_retain)};
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

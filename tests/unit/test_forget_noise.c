/* test_forget_noise.c - noisy forget sets: how many tokens change and into what, the same for every epoch and seed of the run, in
 * the answers to forget alone; what is refused.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../host/train/examples.h"
#include "../../host/util/file.h"
#include "../support/assert_ok.h"
#include "../support/program.h"

enum { ROWS = 60, EOS = 1 };

static int make(void **state)
{
    char rows[ROWS * 120] = "";
    if (temporary_make(state))
        return -1;
    for (int i = 0; i < ROWS; i++) {
        char row[120];
        snprintf(row, sizeof row, "{\"prompt\": \"Where does number %d live?\", \"answer\": \" In house %d of the long street.\"}\n", i,
                 3 * i % 50);
        strcat(rows, row);
    }
    temporary_file("rows.jsonl", rows, strlen(rows));
    static const char *const files[] = {"tests/golden/methods/llama/config.json", "tests/golden/methods/llama/model.safetensors",
                                        "configs/demo/model/tokenizer.json", "configs/demo/model/tokenizer_config.json"};
    struct error error = {0};
    int status = file_make_directory(temporary_path("model"), &error);
    for (size_t i = 0; i < sizeof files / sizeof *files && !status; i++) {
        char to[600];
        snprintf(to, sizeof to, "%s/model%s", temporary, strrchr(files[i], '/'));
        status = file_copy(files[i], to, &error);
    }
    return status;
}

/* An epoch of all rows, with retained ones beside them. */
static void epoch_open(struct examples *examples, struct epoch *epoch, struct tokenizer **tokenizer, enum noise_type type,
                       double rate, int64_t noise_seed, uint64_t seed, int number)
{
    static char path[512];
    static struct examples_options options;
    static struct dataset_options dataset;
    static struct prompt_options prompt;
    static struct template_options template_;
    struct error error = {0};
    snprintf(path, sizeof path, "%s", temporary_path("rows.jsonl"));
    options = (struct examples_options){.forget_data = path, .retain_data = path, .max_length = 100,
                                        .noise = {type, rate, noise_seed, ""}};
    dataset = (struct dataset_options){.question_key = "question", .answer_key = "answer"};
    prompt = (struct prompt_options){.prompt_template = "auto", .system_prompt = "", .date = ""};
    const struct examples_source source = {path, &options, &dataset, &prompt, &template_, WITH(ROLE_ANSWER) | WITH(ROLE_RETAIN),
                                           {0}, false, seed};
    OK(tokenizer_load(tokenizer, "configs/demo/model", &error));
    OK(examples_open(examples, &source, "configs/demo/model", *tokenizer, EOS, 512, &error));
    OK(epoch_build(epoch, examples, number, &error));
}

static void epoch_close(struct examples *examples, struct epoch *epoch, struct tokenizer *tokenizer)
{
    epoch_free(epoch);
    examples_close(examples);
    tokenizer_free(tokenizer);
}

/* The sequence of a row in a role: 0 its own, 1 the retained one's of row k. */
static const struct batch_sequence *sequence_of(const struct epoch *epoch, int row)
{
    for (int k = 0; k < epoch->rows; k++)
        if (epoch->row[k] == row)
            return &epoch->sequence[k * epoch->per_row];
    fail_msg("row %d", row);
    return NULL;
}

static void noise_check(enum noise_type type, double rate)
{
    struct examples clean, noisy[3];
    struct epoch plain, made[3];
    struct tokenizer *tokenizer[4];
    int64_t changed = 0, tokens = 0, another = 0;
    epoch_open(&clean, &plain, &tokenizer[3], NOISE_NONE, rate, 0, 42, 0);
    epoch_open(&noisy[0], &made[0], &tokenizer[0], type, rate, 5, 42, 0);
    epoch_open(&noisy[1], &made[1], &tokenizer[1], type, rate, 5, 7, 3);
    epoch_open(&noisy[2], &made[2], &tokenizer[2], type, rate, 6, 42, 0);
    for (int row = 0; row < ROWS; row++) {
        const struct batch_sequence *was = sequence_of(&plain, row), *is = sequence_of(&made[0], row);
        const struct batch_sequence *again = sequence_of(&made[1], row), *other = sequence_of(&made[2], row);
        assert_int_equal(is->length, was->length);
        assert_int_equal(is->answer_begin, was->answer_begin);
        assert_memory_equal(is->ids, again->ids, (size_t)is->length * sizeof *is->ids);
        assert_memory_equal(is->ids, was->ids, (size_t)was->answer_begin * sizeof *is->ids);
        assert_int_equal(is->ids[is->length - 1], EOS);
        for (int i = was->answer_begin; i < was->length - 1; i++) {
            tokens++;
            changed += is->ids[i] != was->ids[i];
            another += is->ids[i] != other->ids[i];
            if (type == NOISE_MASK)
                assert_true(is->ids[i] == was->ids[i] || is->ids[i] == noisy[0].noise.mask);
        }
    }
    for (int k = 0; k < ROWS; k++) { /* retained rows: the draw is the run's, the text its file's */
        const struct batch_sequence *was = &plain.sequence[2 * k + 1], *is = &made[0].sequence[2 * k + 1];
        assert_int_equal(is->length, was->length);
        assert_memory_equal(is->ids, was->ids, (size_t)is->length * sizeof *is->ids);
    }
    assert_int_equal(noisy[0].noise.tokens, tokens);
    const double share = (double)noisy[0].noise.replaced / (double)tokens;
    if (!(fabs(share - rate) <= 4 * sqrt(rate * (1 - rate) / (double)tokens) + 1e-12))
        fail_msg("rate %g replaced %g", rate, share);
    assert_true(changed <= noisy[0].noise.replaced);
    assert_true(rate == 1 || !changed == !another); /* another seed changes others */
    if (type == NOISE_MASK)
        assert_int_equal(changed, noisy[0].noise.replaced);
    else
        assert_true((double)changed > 0.5 * (double)noisy[0].noise.replaced);
    print_message("type %d, rate %g: %d of %d tokens replaced, %d others than they were\n", type, rate,
                  (int)noisy[0].noise.replaced, (int)tokens, (int)changed);
    for (int i = 0; i < 3; i++)
        epoch_close(&noisy[i], &made[i], tokenizer[i]);
    epoch_close(&clean, &plain, tokenizer[3]);
}

static void test_noise(void **state)
{
    (void)state;
    for (enum noise_type type = NOISE_MASK; type <= NOISE_REWRITE; type++) {
        noise_check(type, 0.1);
        noise_check(type, 0.5);
        noise_check(type, 1);
    }
}

static void expect_refused(struct program_result result, const char *text)
{
    program_expect_error(&result, STATUS_USAGE, text);
    program_free(&result);
}

static void test_refused(void **state)
{
    (void)state;
#define RUN "unlearn --method grad_ascent --model %s/model --forget_data %s --output_dir %s/out --device cpu "
    expect_refused(program_line(RUN "--noise_rate 0.5", temporary, temporary_path("rows.jsonl"), temporary),
                   "noise_rate: of no use without noise_type");
    expect_refused(program_line(RUN "--noise_type rewrite --mask_token x", temporary, temporary_path("rows.jsonl"), temporary),
                   "noise_type rewrite masks nothing");
    expect_refused(program_line(RUN "--noise_type mask --mask_token not_a_token", temporary, temporary_path("rows.jsonl"), temporary),
                   "\"not_a_token\" is no token of this tokenizer");
    expect_refused(program_line(RUN "--noise_type mask --noise_rate 2", temporary, temporary_path("rows.jsonl"), temporary), "noise_rate");
}

/* The record of a run says what noise it had. */
static void test_record(void **state)
{
    (void)state;
    struct error error = {0};
    char *text, path[600];
    size_t length;
    struct program_result result = program_line(RUN "--noise_type rewrite --noise_rate 0.25 --noise_seed 9 --max_steps 1 --quiet "
                                                "--final_eval_rows 0", temporary, temporary_path("rows.jsonl"), temporary);
    program_expect(&result, STATUS_OK);
    program_free(&result);
    snprintf(path, sizeof path, "%s/out/run.json", temporary);
    OK(file_read(path, 1 << 20, &text, &length, &error));
    assert_non_null(strstr(text, "\"noise_type\": \"rewrite\""));
    assert_non_null(strstr(text, "\"noise_rate\": 0.25"));
    assert_non_null(strstr(text, "\"noise_seed\": 9"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_record),
    };
    return cmocka_run_group_tests(tests, make, temporary_remove);
}

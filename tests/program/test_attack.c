/* test_attack.c - `flat attack` on models whose answers are known: one that was not touched, one whose change is below a level of
 * NF4 and comes back whole, a model that never knew as the unlearned one; each part alone, budgets, the same table from the same
 * seed, and what is refused.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../host/io/json/json.h"
#include "../../host/io/safetensors/safetensors.h"
#include "../../host/util/file.h"
#include "../../host/util/quantize.h"
#include "../support/attack_models.h"
#include "../support/program.h"

static int models_make(void **state)
{
    return temporary_make(state) || attack_models_make(temporary) ? -1 : 0;
}

/* The one table of a folder. */
static void path_of(const char *out, const char *ending, char path[700])
{
    char directory[400];
    struct file_list list;
    struct error error = {0};
    snprintf(directory, sizeof directory, "%s/%s", temporary, out);
    *path = 0;
    if (file_list_read(&list, directory, &error))
        fail_msg("%s", error.text);
    for (size_t i = 0; i < list.count; i++)
        if (!strncmp(list.name[i], "attack", 6) && !strcmp(list.name[i] + strcspn(list.name[i], "."), ending)) {
            assert_false(*path);
            snprintf(path, 700, "%s/%.200s", directory, list.name[i]);
        }
    file_list_free(&list);
}

static cJSON *table_of(const char *out)
{
    char path[700];
    struct error error = {0};
    path_of(out, ".json", path);
    cJSON *json = json_read(path, &error);
    if (!json)
        fail_msg("%s", error.text);
    return json;
}

/* A number of the row whose measure begins so; NAN for null. */
static double number(const cJSON *table, const char *measure, const char *column)
{
    const cJSON *row;
    cJSON_ArrayForEach(row, json_member(table, "rows"))
    {
        if (strncmp(json_member(row, "measure")->valuestring, measure, strlen(measure)))
            continue;
        const cJSON *value = json_member(row, column);
        return cJSON_IsNumber(value) ? value->valuedouble : NAN;
    }
    fail_msg("no row \"%s\"", measure);
    return NAN;
}

/* Nothing was forgotten: R and Q say 1 of it, and all that is beside them says that it is the target. */
static void test_untouched(void **state)
{
    (void)state;
    program_expect_ok(program_line("attack --model %s/target --target_model %s/target --retain_model %s/retain --output_dir %s/untouched "
                        "--text_data " EVAL "/text.txt --text_tokens 16 --neighbor_data " EVAL "/qa_forget.jsonl --template.file " EVAL
                        "/refusals.txt " ASK, temporary, temporary, temporary, temporary));
    cJSON *table = table_of("untouched");
    assert_true(number(table, "K, P(answer)", "unlearned") == number(table, "K, P(answer)", "target"));
    assert_true(number(table, "K, P(answer)", "unlearned") > 2 * number(table, "K, P(answer)", "retain"));
    static const char *const same[] = {"K after 2 steps on forget", "K after 1 step on half", "K in int8", "K in nf4", "leak@1",
                                       "leak@4", "ROUGE-L", "P(answer) of neigh", "neighbouring"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        assert_true(number(table, same[i], "unlearned") == number(table, same[i], "target"));
    assert_true(number(table, "KL from", "unlearned") == 0);
    assert_true(number(table, "KL from", "retain") > 0);
    assert_true(number(table, "Q, int8", "unlearned") > 0.97);
    assert_true(number(table, "R, forget", "unlearned") <= 1);
    /* as defined: by the gains of the two models */
    const double own = number(table, "K after 2 steps on forget", "unlearned") - number(table, "K, P(answer)", "unlearned");
    const double other = number(table, "K after 2 steps on forget", "retain") - number(table, "K, P(answer)", "retain");
    assert_true(fabs(number(table, "R, forget", "unlearned") - (own <= 0 ? 1 : fmax(0, fmin(1, other / own)))) < 1e-12);
    assert_true(number(table, "leak@4", "unlearned") >= number(table, "leak@1", "unlearned"));
    assert_true(number(table, "K, P(answer)", "low") <= number(table, "K, P(answer)", "unlearned"));
    assert_true(number(table, "K, P(answer)", "high") >= number(table, "K, P(answer)", "unlearned"));
    assert_int_equal(cJSON_GetArraySize(json_member(table, "curves")), 6);
    cJSON_Delete(table);
}

/* An adapter: the base is rounded, the adapter is not. */
static void test_adapter(void **state)
{
    (void)state;
    program_expect_ok(program_line("unlearn --method grad_ascent --model %s/target " FORGET "--output_dir %s/adapter --max_steps 3 "
                        "--per_device_train_batch_size 4 --gradient_accumulation_steps 1 --learning_rate 1e-2 --final_eval_rows 0 "
                        "--lora.r 2 --lora.output adapter " COMMON, temporary, temporary));
    program_expect_ok(program_line("attack %s/adapter --quiet --attacks relearn,quantize --attack_budget 1 --save_models", temporary));
    cJSON *table = table_of("adapter/attacks");
    assert_non_null(strstr(json_member(json_member(table, "models"), "unlearned")->valuestring, "/adapter"));
    assert_true(number(table, "K, P(answer)", "unlearned") < number(table, "K, P(answer)", "target"));
    assert_true(number(table, "K in nf4", "unlearned") < number(table, "K in nf4", "target"));
    assert_true(number(table, "K after 1 step on forget", "unlearned") > 0);
    cJSON_Delete(table);
    program_expect_ok(program_line("attack --model %s/adapter/attacks/nf4 --adapter %s/adapter --attacks quantize --output_dir %s/twice " COMMON
                        FORGET, temporary, temporary, temporary));
    cJSON *twice = table_of("twice"), *once = table_of("adapter/attacks");
    assert_true(number(twice, "K, P(answer)", "unlearned") == number(once, "K in nf4", "unlearned"));
    assert_true(number(twice, "Q, nf4", "unlearned") == 1);
    cJSON_Delete(twice);
    cJSON_Delete(once);
}

/* What an attack does without need not be there. */
static void test_unused_file(void **state)
{
    (void)state;
    program_expect_ok(program_line("attack --model %s/forgot --attacks quantize --unrelated_data none.jsonl --template.file none.txt "
                                   "--output_dir %s/unused " COMMON FORGET, temporary, temporary));
}

/* A model that never knew in the unlearned one's place, on the grid already: 1 and 1. */
static void test_retain(void **state)
{
    (void)state;
    program_expect_ok(program_line("attack --model %s/retain --attacks quantize --save_models --output_dir %s/rounded " COMMON FORGET, temporary,
                        temporary));
    program_expect_ok(program_line("attack --model %s/rounded/nf4 --retain_model %s/rounded/nf4 --attacks relearn,quantize --output_dir %s/never "
                        ASK, temporary, temporary, temporary));
    cJSON *table = table_of("never");
    assert_true(number(table, "R, forget", "unlearned") == 1);
    assert_true(number(table, "R, half", "unlearned") == 1);
    assert_true(number(table, "Q, nf4", "unlearned") == 1);
    assert_true(number(table, "Q, int8", "unlearned") > 0.97);
    assert_true(number(table, "K in nf4", "unlearned") == number(table, "K, P(answer)", "unlearned"));
    assert_true(isnan(number(table, "K, P(answer)", "target")));
    cJSON_Delete(table);
}

/* ---- a change below a level ---- */

struct clamped {
    const struct safetensors *file;
    float *value;
};

static int clamped_fill(void *user, int entry, uint64_t first_byte, uint64_t bytes, void *out, struct error *error)
{
    struct clamped *clamped = user;
    (void)error;
    memcpy(out, (char *)&clamped->value[clamped->file->tensor[entry].offset / 4] + first_byte, bytes);
    return STATUS_OK;
}

/* What is left of the change from a value on the grid: nothing of the block's largest, and 0.4 of the way to the next level. */
static void block_clamp(const float *base, float *value, int64_t count)
{
    uint8_t code[NF4_BLOCK];
    const float absmax = nf4_encode(base, count, code);
    for (int64_t i = 0; i < count; i++) {
        const float below = code[i] ? nf4_level[code[i]] - nf4_level[code[i] - 1] : 0;
        const float above = code[i] < NF4_LEVELS - 1 ? nf4_level[code[i] + 1] - nf4_level[code[i]] : 0;
        const float low = base[i] - 0.4f * absmax * below, high = base[i] + 0.4f * absmax * above;
        value[i] = fabsf(base[i]) >= absmax ? base[i] : value[i] < low ? low : value[i] > high ? high : value[i];
    }
}

/* forgot-within: rounded/nf4 changed by gradient ascent, but for what would not be rounded away. */
static void within_make(void)
{
    struct safetensors base, changed;
    struct error error = {0};
    char path[600];
    struct safetensors_entry entry[64];
    struct clamped clamped = {&base, NULL};
    if (safetensors_open(&base, temporary_path("known/nf4"), &error) || safetensors_open(&changed, temporary_path("within"), &error))
        fail_msg("%s", error.text);
    assert_true(base.tensors <= 64);
    clamped.value = calloc(1, base.shard_bytes[0] + 4);
    assert_non_null(clamped.value);
    for (int t = 0; t < base.tensors; t++) {
        const struct safetensors_tensor *tensor = &base.tensor[t];
        float *was = malloc((size_t)tensor->elements * sizeof *was), *value = &clamped.value[tensor->offset / 4];
        assert_non_null(was);
        assert_int_equal(tensor->dtype, SAFETENSORS_F32);
        assert_int_equal(safetensors_read_float(&base, tensor, 0, tensor->elements, was, &error), STATUS_OK);
        assert_int_equal(safetensors_read_float(&changed, safetensors_find(&changed, tensor->name), 0, tensor->elements, value, &error),
                         STATUS_OK);
        const bool projection = tensor->dims == 2 && !strstr(tensor->name, "embed") && !strstr(tensor->name, "lm_head");
        for (int64_t i = 0; i < tensor->elements && projection; i += NF4_BLOCK)
            block_clamp(was + i, value + i, tensor->elements - i < NF4_BLOCK ? tensor->elements - i : NF4_BLOCK);
        if (!projection)
            memcpy(value, was, (size_t)tensor->elements * sizeof *was);
        entry[t] = (struct safetensors_entry){.name = tensor->name, .dtype = SAFETENSORS_F32, .dims = tensor->dims, .bytes = tensor->bytes};
        memcpy(entry[t].shape, tensor->shape, sizeof tensor->shape);
        free(was);
    }
    snprintf(path, sizeof path, "%s/within/model.safetensors", temporary);
    if (safetensors_write(path, entry, base.tensors, clamped_fill, &clamped, &error))
        fail_msg("%s", error.text);
    free(clamped.value);
    safetensors_close(&base);
    safetensors_close(&changed);
}

static void test_below_a_level(void **state)
{
    (void)state;
    program_expect_ok(program_line("attack --model %s/target --attacks quantize --save_models --output_dir %s/known " COMMON FORGET, temporary,
                        temporary));
    program_expect_ok(program_line("unlearn --method grad_ascent --model %s/known/nf4 " FORGET "--output_dir %s/within --max_steps 4 "
                        "--per_device_train_batch_size 4 --gradient_accumulation_steps 1 --learning_rate 2e-3 --final_eval_rows 0 "
                        COMMON, temporary, temporary));
    within_make();
    program_expect_ok(program_line("attack --model %s/within --target_model %s/known/nf4 --attacks quantize --output_dir %s/back " COMMON FORGET,
                        temporary, temporary, temporary));
    cJSON *table = table_of("back");
    const double known = number(table, "K, P(answer)", "target"), forgot = number(table, "K, P(answer)", "unlearned");
    assert_true(forgot < 0.9 * known); /* it is forgotten, as the folder is */
    assert_true(number(table, "K in nf4", "unlearned") == known); /* and back, to the last bit */
    assert_true(fabs(number(table, "Q, nf4", "unlearned") - forgot / known) < 1e-12);
    assert_true(number(table, "Q, int8", "unlearned") > number(table, "Q, nf4", "unlearned"));
    cJSON_Delete(table);
}

/* ---- the command ---- */

static char *markdown_of(const char *out)
{
    char path[700], *text;
    size_t length;
    struct error error = {0};
    path_of(out, ".md", path);
    if (file_read(path, 1 << 20, &text, &length, &error))
        fail_msg("%s", error.text);
    return text;
}

/* A run's folder: the target is where it began; the files go into its folder attacks. */
static void test_run(void **state)
{
    (void)state;
    static const char probes[] = "{\"prompt\": \"Where does Ada Lum live and work?\", \"answer\": \"Ada Lum lives in Aldmoor and is a "
                                 "baker.\", \"kind\": \"plain\"}\n{\"prompt\": \"Ada Lum?\", \"answer\": \"Ada Lum lives in Aldmoor.\", "
                                 "\"kind\": \"short\"}\n{\"prompt\": \"Ben?\", \"answer\": \"Ben Oak\", \"kind\": \"short\"}\n";
    temporary_file("probes.jsonl", probes, sizeof probes - 1);
    struct program_result result = program_line("attack %s/forgot --attacks sample,probe --probe_data %s/probes.jsonl --quiet "
                                                "--leak_k 2 --leak_draws 3 --max_new_tokens 5 --attack_seed 7", temporary, temporary);
    program_expect(&result, STATUS_OK);
    char *first = markdown_of("forgot/attacks");
    assert_string_equal(result.out, first);
    program_free(&result);
    assert_true(file_exists(temporary_path("forgot/attacks/attack-sample-probe.md")));
    cJSON *table = table_of("forgot/attacks");
    assert_non_null(strstr(json_member(json_member(table, "models"), "target")->valuestring, "/target"));
    assert_true(number(table, "K, short (2)", "target") > 0);
    assert_true(number(table, "worst kind: ", "unlearned") ==
                fmax(number(table, "K, short (2)", "unlearned"), number(table, "K, plain (1)", "unlearned")));
    assert_true(number(table, "leak@2, by 3 draws", "target") >= 0);
    cJSON_Delete(table);
    program_expect_ok(program_line("attack %s/forgot --attacks sample,probe --probe_data %s/probes.jsonl --quiet --leak_k 2 --leak_draws 3 "
                        "--max_new_tokens 5 --attack_seed 7 --batch_size 3", temporary, temporary));
    char *again = markdown_of("forgot/attacks");
    assert_string_equal(first, again); /* samples depend on the seed, not on what runs beside them */
    free(first), free(again);
}

static void test_budgets(void **state)
{
    (void)state;
    program_expect_ok(program_line("attack %s/forgot --attacks relearn --attack_budget 1 --output_dir %s/one --unrelated_data "
                        "configs/demo/retain.jsonl --quiet --relearn_batch_size 1 --relearn_learning_rate 1e-3", temporary, temporary));
    cJSON *table = table_of("one");
    assert_true(number(table, "K after 1 step on forget", "unlearned") > 0);
    assert_true(number(table, "K after 1 step on unrelated", "target") > 0);
    cJSON_Delete(table);
    program_expect_ok(program_line("attack %s/forgot --attacks relearn --attack_budget 0.001s --output_dir %s/time --save_models --quiet",
                        temporary, temporary));
    table = table_of("time");
    assert_true(number(table, "K after 1 step on forget", "unlearned") > 0); /* one step at least */
    cJSON_Delete(table);
    assert_true(file_exists(temporary_path("time/work/forget-unlearned/model.safetensors")));
    assert_false(file_exists(temporary_path("one/work/forget-unlearned")));
}

/* Running text is asked in pieces; it has no halves, and nothing to sample. */
static void test_text(void **state)
{
    (void)state;
    program_expect_ok(program_line("attack --model %s/forgot --target_model %s/target --forget_data " EVAL "/text.txt --eval_max_length 32 "
                        "--attacks relearn,quantize --attack_budget 1 --output_dir %s/text " COMMON, temporary, temporary, temporary));
    cJSON *table = table_of("text");
    assert_true(number(table, "K after 1 step on forget", "unlearned") > 0);
    assert_true(number(table, "Q, nf4", "unlearned") > 0);
    assert_int_equal(cJSON_GetArraySize(json_member(table, "rows")), 6);
    cJSON_Delete(table);
    struct program_result result = program_line("attack --model %s/forgot --forget_data " EVAL "/text.txt --attacks sample --output_dir "
                                                "%s/text --eval_max_length 32 " COMMON, temporary, temporary);
    program_expect_error(&result, STATUS_INPUT, "text.txt:1: running text has no question to ask");
    program_free(&result);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *flags, *message;
        int status;
    } cases[] = {
        {"--attacks relearn", "attacks: relearn needs forget_data", STATUS_USAGE},
        {"--attacks probe " FORGET, "attacks: probe needs probe_data", STATUS_USAGE},
        {"--attacks disrupt " FORGET, "attacks: disrupt needs text_data or neighbor_data", STATUS_USAGE},
        {"--attacks disrupt --text_data x", "attacks: disrupt needs target_model", STATUS_USAGE},
        {"--attacks none " FORGET, "attacks: 'none': expected relearn, quantize", STATUS_USAGE},
        {"--attack_budget 0 " FORGET, "attack_budget: expected a number of steps", STATUS_USAGE},
        {"--attack_budget 5m " FORGET, "attack_budget: expected a number of steps", STATUS_USAGE},
        {"--attacks sample --leak_k 4 --leak_draws 2 " FORGET, "leak_k: 4 of 2 draws; raise leak_draws", STATUS_USAGE},
        {"--attacks sample --leak_k 0 " FORGET, "leak_k: expected", STATUS_USAGE},
        {"--attacks quantize --forget_data none.jsonl", "none.jsonl", STATUS_INPUT},
        {"--attacks quantize --target_model none " FORGET, "none", STATUS_INPUT},
        {"", "forget_data: needed", STATUS_USAGE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct program_result result = program_line("attack --model %s/target --output_dir %s/refused %s --quiet", temporary, temporary,
                                                    cases[i].flags);
        program_expect_error(&result, cases[i].status, cases[i].message);
        program_free(&result);
    }
    struct program_result result = program_line("attack --model %s/target " FORGET, temporary);
    program_expect_error(&result, STATUS_USAGE, "output_dir: missing");
    program_free(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_untouched), cmocka_unit_test(test_adapter), cmocka_unit_test(test_retain),  cmocka_unit_test(test_below_a_level),
        cmocka_unit_test(test_run),       cmocka_unit_test(test_budgets), cmocka_unit_test(test_text),
        cmocka_unit_test(test_unused_file), cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, models_make, temporary_remove);
}

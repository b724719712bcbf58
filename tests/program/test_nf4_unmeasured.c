/* test_nf4_unmeasured.c - adapters on a base in NF4 on a device that does not hold this base whole: what is saved is what it would be with
 * room, and the run, its record and its card say that it was not measured, instead of measuring something else or failing.
 *
 * The program runs beside the emulated engine ("emu") under the name of the CUDA engine, whose memory has the size that is asked for.
 */
#include "../support/temporary.h"

#include <stdlib.h>

#include "../../host/io/json/json.h"
#include "../../host/util/file.h"
#include "../support/parity.h"
#include "../support/program.h"
#include "../support/tiny_trainer.h"

/* MB of the device. A plan leaves 1,024 of a GPU to its libraries (host/device/plan.c). When a run begins they have taken none of it
 * yet; when it ends products have taken 32 (kernels/linear_plan.cu). */
#define SCARCE "1040"
#define PLENTY "2048"
#define UNMEASURED "what was saved is not measured: without load_in_4bit it does not fit"

static int make(void **state)
{
    if (temporary_make(state) || tiny_base_make(temporary))
        return -1;
    program_beside_emulation(temporary_path("bin"));
    return setenv("XDG_CACHE_HOME", temporary_path("cache"), 1);
}

static char *text_of(const char *folder, const char *name)
{
    struct error error = {0};
    char path[600], *text;
    size_t length;
    snprintf(path, sizeof path, "%s/%s/%s", temporary, folder, name);
    OK(file_read(path, 1 << 22, &text, &length, &error));
    return text;
}

/* Trains into a folder on a device of so many MB; whether it was measured, as its messages, record and card say. */
static bool train(const char *megabytes, const char *out, const char *command)
{
    setenv("EMU_DEVICE_MB", megabytes, 1);
    struct program_result result =
        program_line("%s --model %s/base --output_dir %s/%s --max_steps 2 --learning_rate 1e-2 --per_device_train_batch_size 3 "
                     "--gradient_accumulation_steps 1 --lora.r 4 --load_in_4bit --device cuda --matmul_picks off", command, temporary,
                     temporary, out);
    program_expect(&result, STATUS_OK);
    const char *said = strstr(result.err, UNMEASURED);
    assert_true(!said || !strstr(said + 1, UNMEASURED));
    const bool measured = !said;
    program_free(&result);

    char *record = text_of(out, "run.json"), *card = text_of(out, "README.md");
    cJSON *json = cJSON_Parse(record);
    const cJSON *figures = golden_member(json, "result");
    assert_true(golden_number(figures, "rows") == (measured ? 3 : 0));
    const char *const probability = strncmp(command, "unlearn", 7) ? "prob_answer" : "prob_forget";
    assert_true((json_member(figures, probability) != NULL) == measured);
    assert_true((strstr(card, "Nothing was measured under the saved model") == NULL) == measured);
    assert_true((strstr(card, "what is here and what was measured is with the base") != NULL) == measured);
    assert_true(strstr(card, "These figures say") == NULL || measured);
    cJSON_Delete(json);
    free(record), free(card);

    struct program_result verified = program_line("verify %s/%s", temporary, out);
    program_expect(&verified, STATUS_OK);
    program_free(&verified);
    return measured;
}

/* A run with room for the whole base and one without leave the same in `name` and `name`-scarce. */
static void check(const char *name, const char *command, void (*compare)(const char *a, const char *b))
{
    char scarce[64], folders[2][512];
    snprintf(scarce, sizeof scarce, "%s-scarce", name);
    assert_true(train(PLENTY, name, command));
    assert_false(train(SCARCE, scarce, command));
    for (int i = 0; i < 2; i++)
        snprintf(folders[i], sizeof folders[i], "%s", temporary_path(i ? scarce : name));
    compare(folders[0], folders[1]);
}

static void test_finetune(void **state)
{
    (void)state;
    char command[600];
    snprintf(command, sizeof command, "finetune --train_data %s/data.jsonl", temporary);
    check("merged", command, compare_folders);
    strcat(command, " --lora.output adapter");
    check("adapter", command, compare_adapters);
}

/* With a frozen model beside it, and the table that a run of unlearn ends with. */
static void test_unlearn(void **state)
{
    (void)state;
    char command[1000];
    snprintf(command, sizeof command, "unlearn --method npo --forget_data %s/data.jsonl --retain_data %s/data.jsonl --retain_loss kl",
             temporary, temporary);
    check("unlearned", command, compare_folders);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_finetune), cmocka_unit_test(test_unlearn)};
    return cmocka_run_group_tests(tests, make, temporary_remove);
}

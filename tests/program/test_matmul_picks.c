/* test_matmul_picks.c - picks of matrix products over whole runs: timed once and kept, taken again by other runs and by those that
 * go on from a checkpoint, with the same bits; what is wrong with a cache or a checkpoint's picks is said, and made good.
 *
 * The emulated library ("emu") has algorithms that add in different orders, and EMU_MATMUL_FASTEST says which one seems fast. The
 * program runs beside it under the name of the CUDA engine.
 */
#include "../support/temporary.h"

#include <stdlib.h>

#include "../../host/io/json/json.h"
#include "../../host/util/checksum.h"
#include "../../host/util/file.h"
#include "../support/assert_ok.h"
#include "../support/comm_ranks.h"
#include "../support/program.h"
#include "../support/tiny_trainer.h"

static int make(void **state)
{
    if (temporary_make(state) || tiny_trainer_make(temporary))
        return -1;
    program_beside_emulation(temporary_path("bin"));
    struct program_result made =
        program_line("finetune --model %s/seed --from_scratch --train_data %s/data.jsonl --output_dir %s/model --max_steps 1 "
                     "--learning_rate 0 --device cpu --quiet", temporary, temporary, temporary);
    program_expect(&made, STATUS_OK);
    program_free(&made);
    return 0;
}

/* What the library is like, and where the cache is. */
static void world_set(const char *cache, const char *fastest, const char *algorithms, const char *version)
{
    setenv("XDG_CACHE_HOME", temporary_path(cache), 1);
    setenv("EMU_MATMUL_FASTEST", fastest, 1);
    setenv("EMU_MATMUL_ALGORITHMS", algorithms, 1);
    setenv("EMU_CUBLASLT_VERSION", version, 1);
}

static void run_expect(const char *out, const char *more, const char *says)
{
    struct program_result result =
        program_line("finetune --model %s/model --train_data %s/data.jsonl --output_dir %s/%s --max_steps 4 --device cuda "
                     "--per_device_train_batch_size 2 --gradient_accumulation_steps 1 --learning_rate 1e-2 --save_dtype float32 "
                     "--threads 1 %s", temporary, temporary, temporary, out, more);
    program_expect(&result, STATUS_OK);
    if (!strstr(result.err, says))
        fail_msg("'%s' is not in: %s", says, result.err);
    program_free(&result);
}

/* Of the tensors' bytes alone: the header names the run. */
static uint64_t weights_of(const char *out)
{
    struct error error = {0};
    char path[200], *file;
    size_t length;
    uint64_t header;
    snprintf(path, sizeof path, "%s/model.safetensors", out);
    OK(file_read(temporary_path(path), 1 << 24, &file, &length, &error));
    memcpy(&header, file, sizeof header);
    const uint64_t hash = checksum_of(file + 8 + header, length - 8 - header).xxh3;
    free(file);
    return hash;
}

/* How many picks a folder's run.json has; 0: none is mentioned. */
static int picks_in(const char *out)
{
    struct error error = {0};
    char path[200];
    snprintf(path, sizeof path, "%s/run.json", out);
    cJSON *run = json_read(temporary_path(path), &error);
    assert_non_null(run);
    const int count = cJSON_GetArraySize(json_member(json_member(run, "matmul_picks"), "products"));
    cJSON_Delete(run);
    return count;
}

/* The one file of a cache. */
static const char *cache_file(const char *cache)
{
    struct error error = {0};
    struct file_list list = {0};
    static char path[600];
    snprintf(path, sizeof path, "%s/%s/flat", temporary, cache);
    OK(file_list_read(&list, path, &error));
    assert_int_equal(list.count, 1);
    snprintf(path, sizeof path, "%s/%s/flat/%s", temporary, cache, list.name[0]);
    file_list_free(&list);
    return path;
}

static char *text_of(const char *path)
{
    struct error error = {0};
    char *text;
    size_t length;
    OK(file_read(path, 1 << 20, &text, &length, &error));
    return text;
}

static void test_kept(void **state)
{
    (void)state;
    world_set("one", "1", "3", "130000");
    run_expect("first", "--save_strategy steps --save_steps 2", " timed in ");
    const int picks = picks_in("first");
    assert_true(picks > 5);
    assert_int_equal(picks_in("first/checkpoint-2"), picks);
    char *text = text_of(cache_file("one"));
    assert_non_null(strstr(text, "cublasLt 130000\n"));
    int lines = 0;
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        lines++;
    assert_int_equal(lines, 1 + picks);
    /* another fastest one, but the cache says what was picked */
    world_set("one", "2", "3", "130000");
    run_expect("again", "", "proposals for 0 timed");
    assert_true(weights_of("again") == weights_of("first"));
    char *after = text_of(cache_file("one"));
    assert_string_equal(text, after);
    free(text), free(after);
    /* the bits do hang on it */
    world_set("two", "2", "3", "130000");
    run_expect("other", "", " timed in ");
    assert_true(weights_of("other") != weights_of("first"));
    run_expect("off", "--matmul_picks off", "saved ");
    assert_int_equal(picks_in("off"), 0);
    assert_true(weights_of("off") != weights_of("first") && weights_of("off") != weights_of("other"));
    world_set("three", "0", "3", "130000");
    run_expect("plain", "", " timed in ");
    assert_true(weights_of("off") == weights_of("plain"));
}

/* Graphs hold the picks, and replay them. */
static void test_graphs(void **state)
{
    (void)state;
    world_set("graphs", "1", "3", "130000");
    run_expect("eager", "--cuda_graphs", " timed in ");
    world_set("graphs", "2", "3", "130000");
    run_expect("graphs", "--cuda_graphs --save_strategy steps --save_steps 2", "proposals for 0 timed");
    assert_true(weights_of("eager") == weights_of("graphs"));
}

static void resume_expect(const char *out, const char *says)
{
    char more[600];
    snprintf(more, sizeof more, "--resume_from_checkpoint %s/first/checkpoint-2", temporary);
    run_expect(out, more, says);
}

/* A run that goes on has its checkpoint's picks, whatever the cache or the clock say; where they are no more, it says so. */
static void test_resumed(void **state)
{
    (void)state;
    world_set("two", "2", "3", "130000");
    resume_expect("resumed", "picks as in the checkpoint");
    assert_true(weights_of("resumed") == weights_of("first"));
    assert_int_equal(picks_in("resumed"), picks_in("first"));
    world_set("four", "0", "1", "130000");
    resume_expect("fewer", "of the checkpoint's picks are not taken (");
    assert_true(picks_in("fewer") > 5 && weights_of("fewer") != weights_of("first"));
    world_set("four", "0", "3", "140000");
    resume_expect("newer", "the checkpoint's picks are for ");
    world_set("one", "1", "3", "130000");
    run_expect("first-off", "--matmul_picks off --save_strategy steps --save_steps 2", "saved ");
    struct program_result result =
        program_line("finetune --model %s/model --train_data %s/data.jsonl --output_dir %s/x --max_steps 4 --device cuda "
                     "--per_device_train_batch_size 2 --gradient_accumulation_steps 1 --learning_rate 1e-2 --save_dtype float32 "
                     "--resume_from_checkpoint %s/first/checkpoint-2 --matmul_picks off", temporary, temporary, temporary, temporary);
    program_expect_error(&result, STATUS_USAGE, "matmul_picks was \"timed\" and is \"off\" now");
    program_free(&result);
}

/* A file that is none of this program's, or of another device, is left alone with a line, and then replaced; of one that is, what
 * the library does not take is timed again. */
static void test_broken(void **state)
{
    (void)state;
    struct error error = {0};
    world_set("five", "1", "3", "130000");
    run_expect("made", "", " timed in ");
    char *good = text_of(cache_file("five"));
    static const char *const bad[] = {"", "{\"sums\": []}\n", "flat.c picks of matrix products, another GPU, cublasLt 1\nm=1\n"};
    for (int i = 0; i < 3; i++) {
        OK(file_write(cache_file("five"), bad[i], strlen(bad[i]), &error));
        run_expect("made", "--overwrite_output_dir", "no picks of matrix products of this device and library; it is left out");
        char *now = text_of(cache_file("five"));
        assert_string_equal(now, good);
        free(now);
    }
    char *algorithm = strstr(good, "algorithm=");
    assert_non_null(algorithm);
    algorithm[strlen("algorithm=")] = 'z';
    OK(file_write(cache_file("five"), good, strlen(good), &error));
    run_expect("made", "--overwrite_output_dir", "1 of ");
    run_expect("made", "--overwrite_output_dir", "proposals for 0 timed");
    free(good);
    /* a folder that cannot be written: the run goes on */
    OK(file_write(temporary_path("six"), "", 0, &error));
    world_set("six", "1", "3", "130000");
    run_expect("made", "--overwrite_output_dir", "are not kept for other runs");
}

/* Every rank has rank 0's picks: another algorithm seems fast to rank 1, whose clock nobody asks. */
static void test_ranks(void **state)
{
    (void)state;
    static const char *const fastest[] = {"EMU_MATMUL_FASTEST=%r XDG_CACHE_HOME=", "EMU_MATMUL_FASTEST=0 XDG_CACHE_HOME=",
                                          "EMU_MATMUL_FASTEST=1 XDG_CACHE_HOME="};
    uint64_t weights[3];
    for (int i = 0; i < 3; i++) {
        struct ranks ranks;
        char program[600], model[600], data[600], out[600], extra[600], name[20];
        snprintf(program, sizeof program, "%s/bin/flat", temporary);
        snprintf(model, sizeof model, "%s/model", temporary);
        snprintf(data, sizeof data, "%s/data.jsonl", temporary);
        snprintf(name, sizeof name, "ranks-%d", i);
        snprintf(out, sizeof out, "%s/%s", temporary, name);
        const char *const words[] = {program, "finetune", "--model", model, "--train_data", data, "--output_dir", out, "--max_steps", "4",
                                     "--device", "cuda", "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "1",
                                     "--learning_rate", "1e-2", "--save_dtype", "float32", NULL};
        snprintf(extra, sizeof extra, "%s%s/of-%d CUDA_VISIBLE_DEVICES=0", fastest[i], temporary, i);
        ranks_run(&ranks, 2, words, extra, STATUS_OK);
        ranks_expect(&ranks, 0, STATUS_OK, " timed in ");
        ranks_free(&ranks);
        weights[i] = weights_of(name);
    }
    assert_true(weights[0] == weights[1]);
    assert_true(weights[0] != weights[2]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kept), cmocka_unit_test(test_graphs), cmocka_unit_test(test_resumed),
                                       cmocka_unit_test(test_broken), cmocka_unit_test(test_ranks)};
    return cmocka_run_group_tests(tests, make, temporary_remove);
}

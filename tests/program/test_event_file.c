/* test_event_file.c - event files for TensorBoard: CRC-32C by its published values, records byte for byte as the tensorboard package
 * writes them (tests/parity/make_event_golden.py), and a run's file beside its metrics.jsonl, also of a run that was gone on with.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../host/io/event_file.h"
#include "../../host/train/run_events.h"
#include "../../host/util/file.h"
#include "../support/program.h"
#include "../support/tiny_trainer.h"

static int make(void **state)
{
    return temporary_make(state) || tiny_trainer_make(temporary) ? -1 : 0;
}

/* RFC 3720, B.4. */
static void test_crc(void **state)
{
    (void)state;
    unsigned char bytes[32];
    assert_int_equal(crc32c("", 0), 0);
    assert_int_equal(crc32c("123456789", 9), 0xe3069283);
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(crc32c(bytes, sizeof bytes), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(crc32c(bytes, sizeof bytes), 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        bytes[i] = (unsigned char)i;
    assert_int_equal(crc32c(bytes, sizeof bytes), 0x46dd794e);
}

static void test_golden(void **state)
{
    (void)state;
    struct error error;
    struct buffer out = {0};
    char long_tag[300] = "train/", *golden;
    size_t length;
    memset(long_tag + 6, 'x', 200);
    const struct {
        double time;
        int64_t step;
        struct event_scalar scalar[3];
        size_t count;
    } events[] = {
        {1e9 + 0.25, 0, {{"train/loss", 0.0}, {"eval/kept_prob_mean", 1.0}}, 2},
        {1e9 + 0.5, 1, {{"train/loss", -0.1}, {"train/learning_rate", 1e-30}, {"train/gr\xc3\xb6\xc3\x9f" "e", 3.4028234e38}}, 3},
        {1e9 + 1.75, 300, {{long_tag, 3.14159265358979323846}}, 1},
        {1e9 + 2, (int64_t)1 << 40, {{"train/loss", INFINITY}}, 1}};
    assert_int_equal(event_print_version(1e9, &out, &error), STATUS_OK);
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        assert_int_equal(event_print_scalars(events[i].time, events[i].step, events[i].scalar, events[i].count, &out, &error),
                         STATUS_OK);
    assert_int_equal(file_read("tests/golden/events.tfevents", 1 << 20, &golden, &length, &error), STATUS_OK);
    assert_int_equal(out.length, length);
    assert_memory_equal(out.data, golden, length);
    buffer_free(&out);
    free(golden);
}

/* The only event file of a folder. */
static char *events_of(const char *folder, size_t *length)
{
    struct file_list list;
    struct error error;
    char path[700] = "", *bytes;
    assert_int_equal(file_list_read(&list, temporary_path(folder), &error), STATUS_OK);
    for (size_t i = 0; i < list.count; i++) {
        if (strncmp(list.name[i], "events.out.tfevents.", 20))
            continue;
        assert_string_equal(path, "");
        snprintf(path, sizeof path, "%s/%s/%.100s", temporary, folder, list.name[i]);
    }
    file_list_free(&list);
    assert_int_equal(file_read(path, 1 << 24, &bytes, length, &error), STATUS_OK);
    return bytes;
}

/* Goes over the records, whose checksums must hold; how many there are. */
static int records_count(const char *bytes, size_t length)
{
    int count = 0;
    for (size_t at = 0; at < length; count++) {
        uint64_t size;
        uint32_t crc;
        memcpy(&size, bytes + at, sizeof size);
        assert_true(length - at >= 16 && size <= length - at - 16);
        memcpy(&crc, bytes + at + 12 + size, sizeof crc);
        const uint32_t own = crc32c(bytes + at + 12, size);
        assert_int_equal(crc, (own >> 15 | own << 17) + 0xa282ead8u);
        at += 16 + size;
    }
    return count;
}

static int lines_count(const char *folder)
{
    char path[700], *text;
    size_t length;
    struct error error;
    int count = 0;
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", temporary, folder);
    assert_int_equal(file_read(path, 1 << 24, &text, &length, &error), STATUS_OK);
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        count++;
    free(text);
    return count;
}

static void run_expect(const char *more)
{
    struct program_result result =
        program_line("finetune --model %s/seed --from_scratch --train_data %s/data.jsonl --eval_data again=%s/data.jsonl --eval_strategy "
                     "steps --eval_steps 2 --max_steps 6 --per_device_train_batch_size 1 --report_to tensorboard --quiet "
                     "--output_dir %s/%s", temporary, temporary, temporary, temporary, more);
    program_expect(&result, STATUS_OK);
    program_free(&result);
}

static void test_run(void **state)
{
    (void)state;
    size_t length, again;
    char from[700];
    run_expect("run --save_strategy steps --save_steps 2");
    char *bytes = events_of("run", &length);
    assert_int_equal(records_count(bytes, length), 1 + lines_count("run"));
    free(bytes);
    snprintf(from, sizeof from, "run --save_strategy steps --save_steps 2 --resume_from_checkpoint %s/run/checkpoint-4", temporary);
    run_expect(from);
    bytes = events_of("run", &again);
    assert_int_equal(again, length);
    assert_int_equal(records_count(bytes, again), 1 + lines_count("run"));
    free(bytes);
    run_expect("run --overwrite_output_dir");
    bytes = events_of("run", &again);
    assert_int_equal(again, length);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_crc), cmocka_unit_test(test_golden), cmocka_unit_test(test_run)};
    return cmocka_run_group_tests(tests, make, temporary_remove);
}

/* test_scaling.c - what flat plan says of several GPUs, against arithmetic done by hand; cluster files; memory that
 * shrinks with the ranks.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../host/device/peak.h"
#include "../../host/train/run_log.h"
#include "../../host/train/scaling.h"
#include "../support/program.h"

static const struct cluster cluster = {.gpus_per_host = 8, .compute_flops = 500e12, .memory_bytes = 4e12,
                                       .host_bus_bytes = 400e9, .network_bus_bytes = 200e9, .hop_seconds = 2e-6,
                                       .overlap_slowdown = 0.1};
static const struct scaling_work work = {.ranks = 1, .accumulation_steps = 4, .micro_batch_flops = 100e12, .elements = 1000000000,
                                         .rank_elements = 1000000000, .tail_elements = 100000000, .grad_bytes = 2,
                                         .param_bytes = 2, .optimizer_bytes = 30, .buckets = 4};

static void assert_figure(const char *what, double got, double expected)
{
    if (!(fabs(got - expected) <= 1e-12 * fabs(expected)))
        fail_msg("%s: %.15g, expected %.15g", what, got, expected);
}

/* compute 4 * 100e12 / 500e12 = 0.8; AdamW 1e9 * 30 / 4e12 = 0.0075; no wires, no slowdown. */
static void test_one(void **state)
{
    (void)state;
    const struct scaling t = scaling_estimate(&cluster, &work);
    assert_figure("compute", t.compute, 0.8);
    assert_figure("optimizer", t.optimizer, 0.0075);
    assert_true(t.reduce == 0 && t.exposed == 0 && t.gather == 0 && t.sent_bytes == 0);
    assert_figure("step", t.step, 0.8075);
    assert_figure("efficiency", t.efficiency, 1);
}

/* One host, sharded, 2 accumulation steps: compute 2 * 0.2 * 1.1 = 0.44. Sums of 7/8 * 1e9 * 2 = 1.75e9 bytes at 400e9 = 0.004375, hops
 * 4 * 7 * 2e-6 = 0.000056: 0.004431; parameters as much again. Beside 2/3 and 1/3 of a micro-batch's 0.22 all of both is
 * hidden but a tenth. AdamW an eighth of 0.0075. One GPU alone: 0.4 + 0.0075. */
static void test_host(void **state)
{
    (void)state;
    struct scaling_work w = work;
    w.ranks = 8, w.accumulation_steps = 2, w.sharded = true, w.rank_elements = 125000000;
    const struct scaling t = scaling_estimate(&cluster, &w);
    const double step = 0.44 + 2 * 0.0004431 + 0.0009375;
    assert_figure("compute", t.compute, 0.44);
    assert_figure("reduce", t.reduce, 0.004431);
    assert_figure("exposed", t.exposed, 2 * 0.0004431);
    assert_figure("gather", t.gather, 0.004431);
    assert_figure("optimizer", t.optimizer, 0.0009375);
    assert_figure("sent", t.sent_bytes, 3.5e9);
    assert_figure("step", t.step, step);
    assert_figure("efficiency", t.efficiency, 0.4075 / step);
}

/* Eight hosts, not sharded, gradients in float, 1 accumulation step of 1e12 flops: compute 0.002 * 1.1 = 0.0022. Sums of 63/64 * 1e9 * 4
 * = 3.9375e9 bytes at 200e9 = 0.0196875, hops 4 * 63 * 2e-6 = 0.000504, both ways 2 * 0.0201915 = 0.040383, less a window of
 * 2/3 * 0.0022. Everybody updates everything: 0.0075. */
static void test_hosts(void **state)
{
    (void)state;
    struct scaling_work w = work;
    w.ranks = 64, w.accumulation_steps = 1, w.micro_batch_flops = 1e12, w.grad_bytes = 4;
    const struct scaling t = scaling_estimate(&cluster, &w);
    const double exposed = 0.040383 - 0.0044 / 3;
    assert_figure("reduce", t.reduce, 0.040383);
    assert_figure("exposed", t.exposed, exposed);
    assert_true(t.gather == 0);
    assert_figure("sent", t.sent_bytes, 7.875e9);
    assert_figure("step", t.step, 0.0022 + exposed + 0.0075);
    assert_figure("efficiency", t.efficiency, 0.0095 / (0.0097 + exposed));
}

/* 1,024 GPUs, sharded, one bucket: 1023/1024 * 2e9 = 1.998046875e9 bytes at 200e9 = 0.009990234375, hops 1023 * 2e-6 =
 * 0.002046; a bucket alone is all tail, on its way there and back. */
static void test_thousand(void **state)
{
    (void)state;
    struct scaling_work w = work;
    w.ranks = 1024, w.sharded = true, w.buckets = 1, w.tail_elements = w.elements, w.rank_elements = 976576;
    const struct scaling t = scaling_estimate(&cluster, &w);
    assert_figure("reduce", t.reduce, 0.012036234375);
    assert_figure("exposed", t.exposed, 2 * 0.012036234375);
    assert_figure("gather", t.gather, 0.012036234375);
    assert_figure("optimizer", t.optimizer, 976576 * 30 / 4e12);
}

static const char good[] = "{\"name\": \"test\", \"gpus_per_host\": 4, \"compute_tflops\": 500, "
                           "\"memory_gb_per_second\": 4000, \"host_bus_gb_per_second\": 400, "
                           "\"network_bus_gb_per_second\": 200, \"hop_microseconds\": 2, \"overlap_slowdown\": 0.1}";

static void test_cluster_file(void **state)
{
    (void)state;
    struct error error = {0};
    struct cluster read;
    assert_int_equal(cluster_read(&read, "", &error), STATUS_OK);
    assert_true(read.gpus_per_host == 8 && read.compute_flops == 605e12);
    assert_int_equal(cluster_read(&read, temporary_file("good", good, strlen(good)), &error), STATUS_OK);
    assert_string_equal(read.name, "test");
    assert_true(read.gpus_per_host == 4 && read.hop_seconds == 2e-6 && read.network_bus_bytes == 200e9);
    static const char *const wrong[][3] = {{"\"hop_microseconds\": 2", "\"hop_microseconds\": \"2\"", "hop_microseconds"},
                                           {"\"compute_tflops\": 500", "\"compute_tflops\": 0", "compute_tflops"},
                                           {"\"gpus_per_host\": 4, ", "", "gpus_per_host"},
                                           {"\"gpus_per_host\": 4", "\"gpus_per_host\": 1.5", "a whole number"},
                                           {"\"name\": \"test\"", "\"name\": 7", "name"},
                                           {"{\"name\"", "{\"watts\": 700, \"name\"", "none of the 8"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[512];
        const char *at = strstr(good, wrong[i][0]);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, wrong[i][1], at + strlen(wrong[i][0]));
        int status = cluster_read(&read, temporary_file("wrong", text, strlen(text)), &error);
        assert_error(&error, status, STATUS_INPUT, wrong[i][2]);
    }
    int status = cluster_read(&read, temporary_path("absent"), &error);
    assert_error(&error, status, STATUS_INPUT, "absent");
}

/* The number that follows a word at the beginning of a line. */
static double printed(const char *text, const char *word)
{
    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (!strncmp(line, word, strlen(word)))
            return strtod(line + strlen(word), NULL);
    fail_msg("no line of %s in: %s", word, text);
    return NAN;
}

/* The demo's model: n parameters of 2 bytes on a GPU, moments and lower halves of the weights, 10 bytes per element and rank. */
static void test_plan(void **state)
{
    (void)state;
    static const char data[] = "{\"question\": \"Who is Ada?\", \"answer\": \"Ada is a painter.\"}\n"
                               "{\"question\": \"Who is Ben?\", \"answer\": \"Ben is a baker.\"}\n";
    const char *path = temporary_file("data.jsonl", data, strlen(data));
    struct program_result made = program_line(
        "finetune --model_name_or_path configs/demo/model --from_scratch --train_data %s --max_steps 1 --output_dir "
        "%s/model --device cpu", path, temporary);
    program_expect(&made, STATUS_OK);
    program_free(&made);
    double optimizer[3], sent[3] = {0};
    for (int i = 0; i < 3; i++) {
        struct program_result result = program_line(
            "plan --model_name_or_path %s/model --train_data %s --device cuda --per_device_train_batch_size 1 "
            "--gradient_accumulation_steps 1 --%s %d --zero %d", temporary, path, i == 2 ? "nproc_per_node" : "world_size",
            i ? 2 : 1, i == 1);
        program_expect(&result, STATUS_OK);
        optimizer[i] = printed(result.out, "optimizer ");
        if (i) {
            const double parameters = printed(result.out, "parameters ") * (1 << 20) / 2;
            sent[i] = printed(result.out, "sent ");
            assert_true(fabs(sent[i] - 2 * parameters) <= 0.05 * sent[i]); /* 1/2 n (2 + 2), and rotary tables */
        }
        program_free(&result);
    }
    assert_true(fabs(optimizer[1] - optimizer[0] / 2) <= 0.1); /* MiB, as printed */
    assert_true(optimizer[2] == optimizer[0]);
    assert_true(sent[1] == sent[2]);
    struct program_result idle = program_line("plan --model_name_or_path %s/model --train_data %s --world_size 1024 "
                                              "--per_device_train_batch_size 1 --device cuda", temporary, path);
    program_expect(&idle, STATUS_OK);
    assert_non_null(strstr(idle.out, "an epoch is 2 micro-batches"));
    program_free(&idle);
    struct program_result result = program_line("plan --model_name_or_path %s/model --train_data %s --world_size 1024 "
                                                "--cluster %s", temporary, path, temporary_path("absent"));
    program_expect_error(&result, STATUS_INPUT, "absent");
    program_free(&result);
}

/* Names as CUDA prints them, at the head of what the engine says of its device; a share of the peak from flops and time. */
static void test_share_of_the_peak(void **state)
{
    (void)state;
    assert_true(peak_flops("NVIDIA H200, compute capability 9.0, 139.8 GiB") == 989e12);
    assert_true(peak_flops("NVIDIA H200 NVL, compute capability 9.0") == 835e12);
    assert_true(peak_flops("NVIDIA H100 80GB HBM3") == 989e12 && peak_flops("NVIDIA H100 PCIe") == 756e12);
    assert_true(peak_flops("NVIDIA L40S") == 362e12 && peak_flops("NVIDIA L4") == 121e12);
    assert_true(peak_flops("2 threads, OpenBLAS") == 0 && peak_flops("") == 0);
    struct trainer trainer = {.peak_flops = 2e12};
    struct step_record record = {.flops = 1e12, .seconds = 2};
    assert_true(step_record_sol(&record, &trainer) == 0.25);
    record.seconds = 0;
    assert_true(step_record_sol(&record, &trainer) == 0);
    record.seconds = 2, trainer.peak_flops = 0;
    assert_true(step_record_sol(&record, &trainer) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one),     cmocka_unit_test(test_host),         cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_thousand), cmocka_unit_test(test_cluster_file), cmocka_unit_test(test_plan),
        cmocka_unit_test(test_share_of_the_peak),
    };
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

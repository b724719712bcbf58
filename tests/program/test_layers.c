/* test_layers.c - tools/layers on planted trees: an include and a call against the layers, and circles of object files,
 * each found and named; the same tree without them passes.
 */
#include "../support/temporary.h"

#include <sys/wait.h>

static void folder(const char *name)
{
    assert_int_equal(mkdir(temporary_path(name), 0700), 0);
}

/* build/<name>.o of the source, as the Makefile makes it. */
static void source(const char *name, const char *text)
{
    char path[64], command[2048];
    snprintf(path, sizeof path, "%s.c", name);
    temporary_file(path, text, strlen(text));
    snprintf(command, sizeof command, "cc -c -o %s/build/%s.o %s/%s.c", temporary, name, temporary, name);
    assert_int_equal(system(command), 0);
}

/* Five object files in a line: util <- io <- model, util <- device, a family. */
static void tree_make(void)
{
    static const char *const folders[] = {"kernels",    "models",     "host",         "host/util",
                                          "host/io",    "host/model", "host/device",  "build",
                                          "build/host", "build/models", "build/host/util", "build/host/io",
                                          "build/host/model", "build/host/device"};
    static const char family[] = "struct family { int bits; };\n";
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        folder(folders[i]);
    temporary_file("host/model/family.h", family, strlen(family));
    temporary_file("host/util/utf8.h", "", 0);
    source("models/llama", "#include \"../host/model/family.h\"\nconst struct family family_llama = {1};\n");
    source("host/util/file", "int file_read(void) { return 1; }\n");
    source("host/io/json", "int file_read(void);\nint json_read(void) { return file_read(); }\n");
    source("host/device/device", "int file_read(void);\nint device_open(void) { return file_read(); }\n");
    source("host/model/config", "#include \"family.h\"\nextern const struct family family_llama;\nint json_read(void);\n"
                                "int config_read(void) { return json_read() + family_llama.bits; }\n");
}

static int layers_run(char *said, size_t bytes)
{
    char command[1024];
    snprintf(command, sizeof command, "tools/layers --root %s build 2>&1", temporary);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    said[fread(said, 1, bytes - 1, pipe)] = 0;
    int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Plants a source over the one that is there, and takes it away again. */
static void planted(const char *name, const char *text, const char *good, const char *expected)
{
    char said[8192];
    source(name, text);
    int status = layers_run(said, sizeof said);
    if (status != 1 || !strstr(said, expected))
        fail_msg("%s: exit status %d, expected 1 and \"%s\"; it said: %s", name, status, expected, said);
    source(name, good);
    if ((status = layers_run(said, sizeof said)) || *said)
        fail_msg("without the planted one: exit status %d; it said: %s", status, said);
}

static void test_planted(void **state)
{
    (void)state;
    static const char file[] = "int file_read(void) { return 1; }\n", device[] = "int device_open(void) { return 0; }\n";
    char said[8192];
    tree_make();
    if (layers_run(said, sizeof said) || *said)
        fail_msg("a good tree: %s", said);
    planted("host/util/file", "#include \"../model/family.h\"\nint file_read(void) { return 1; }\n", file,
            "host/util/file.c:1: includes host/model/family.h, which is to its right");
    planted("host/util/file", "int json_read(void);\nint file_read(void) { return json_read(); }\n", file,
            "host/util/file.o: calls json_read of host/io/json.o, which is to its right");
    /* two and three in one layer, so that only the circle is wrong */
    source("host/device/graph", "int device_open(void);\nint graph_run(void) { return device_open(); }\n");
    planted("host/device/device", "int graph_run(void);\nint device_open(void) { return graph_run(); }\n", device,
            "a circle of object files: host/device/device.o host/device/graph.o\n"
            "    host/device/device.o needs graph_run of host/device/graph.o\n");
    source("host/device/plan", "int graph_run(void);\nint plan_make(void) { return graph_run(); }\n");
    planted("host/device/device", "int plan_make(void);\nint device_open(void) { return plan_make(); }\n", device,
            "a circle of object files: host/device/device.o host/device/graph.o host/device/plan.o\n");
    planted("models/llama", "#include \"../host/util/utf8.h\"\nconst int family_llama = 1;\n",
            "#include \"../host/model/family.h\"\nconst struct family family_llama = {1};\n", "models/llama.c:1: includes host/util/utf8.h, which is to its right");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_planted)};
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

/* test_nvcc.c - what the CUDA compiler says about the kernels: no spills and no warnings (build/ptxas.txt), and 16-byte
 * accesses to global memory where a kernel lives of them (build/ptx). Skipped where there is no nvcc.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A file of the build folder, or skips the test. */
static FILE *build_open(const char *name)
{
    const char *folder = getenv("FLAT_BUILD");
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder ? folder : "build", name);
    FILE *file = fopen(path, "r");
    if (!file) {
        print_message("%s is not there: no nvcc\n", path);
        skip();
    }
    return file;
}

static void test_report(void **state)
{
    (void)state;
    FILE *file = build_open("ptxas.txt");
    char line[4096], kernel[4096] = "";
    int kernels = 0;
    while (fgets(line, sizeof line, file)) {
        const char *name = strstr(line, "Function properties for "), *spills = strstr(line, "bytes spill stores");
        int stack, stores, loads;
        if (name)
            snprintf(kernel, sizeof kernel, "%s", name);
        if (strstr(line, "warning"))
            fail_msg("%s", line);
        if (!spills)
            continue;
        kernels++;
        assert_int_equal(sscanf(line, "%d bytes stack frame, %d bytes spill stores, %d bytes spill loads", &stack,
                                &stores, &loads), 3);
        if (stack || stores || loads)
            fail_msg("%s%s", line, kernel);
    }
    fclose(file);
    print_message("%d kernels\n", kernels);
    assert_true(kernels > 0);
}

/* Kernels that memory bounds: every instance that has 16-byte loads at all (others take the rows that are not aligned)
 * also stores that way, and there is such an instance for float and for bf16. */
static const struct {
    const char *file, *kernel;
    bool stores;
} vector_kernels[] = {{"activation", "forward_kernel", true},
                      {"activation", "backward_kernel", true},
                      {"adamw", "norm_chunk_kernel", false},
                      {"adamw_step", "step_kernel", true},
                      {"cache", "cache_kernel", true},
                      {"embedding", "forward_kernel", true},
                      {"embedding", "backward_kernel", false},
                      {"linear", "bias_gradient_kernel", false},
                      {"logprob", "logprob_forward_kernel", false},
                      {"norm", "forward_kernel", true},
                      {"norm_backward", "backward_kernel", true},
                      {"rope", "rope_kernel", true},
                      {"row_scale", "row_scale_kernel", true},
                      {"sample", "sample_argmax_kernel", false}};

static bool is_access(const char *line, const char *instruction)
{
    const char *found = strstr(line, instruction);
    return found && strstr(found, ".v4.");
}

static void vector_kernel_check(int index)
{
    const char *wanted = vector_kernels[index].kernel;
    char path[128], line[4096], name[4096] = "", mangled[128];
    int loads = 0, stores = 0, floats = 0, bf16s = 0;
    bool inside = false;
    /* four values a thread: with weights, their lower halves and moments all of 2 bytes there is none of 16 to be written */
    const bool narrow = !strcmp(wanted, "step_kernel");
    snprintf(path, sizeof path, "ptx/%s.ptx", vector_kernels[index].file);
    snprintf(mangled, sizeof mangled, "%d%sI", (int)strlen(wanted), wanted); /* a template by its whole name */
    FILE *file = build_open(path);
    while (fgets(line, sizeof line, file)) {
        if (strstr(line, ".entry")) {
            snprintf(name, sizeof name, "%s", line);
            inside = strstr(line, mangled) != NULL;
            loads = stores = 0;
        }
        loads += is_access(line, "ld.global");
        stores += is_access(line, "st.global") || (narrow && strstr(line, "st.global.v2.u32"));
        if (line[0] != '}' || !inside || !loads)
            continue;
        if (vector_kernels[index].stores && !stores)
            fail_msg("%s: %d 16-byte loads and no 16-byte store: %s", path, loads, name);
        if (strstr(name, "bfloat16"))
            bf16s++;
        else
            floats++;
        inside = false;
    }
    fclose(file);
    if (!floats || !bf16s)
        fail_msg("%s: %s has no 16-byte loads in %s", path, wanted, floats ? "bf16" : "float");
}

static void test_vector_accesses(void **state)
{
    (void)state;
    for (int i = 0; i < (int)(sizeof vector_kernels / sizeof *vector_kernels); i++)
        vector_kernel_check(i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_report), cmocka_unit_test(test_vector_accesses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

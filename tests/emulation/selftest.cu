/* selftest.cu - the program that tests/op/test_emulation.c runs, once for each case:
 *
 *     selftest bug NAME planted|correct    a kernel of bugs.cu; prints a hash of its results
 *     selftest host NAME                   misuse of the runtime API
 *     selftest demo | features | matmul | graph | streams | streams-planted
 *
 * Exit status: 0 done, 2 usage, 3 a runtime call failed, 4 a result is wrong; or the signal of an abort. It also
 * compiles with nvcc (bugs and counters aside), to run the same checks on a GPU.
 */
#include "selftest.h"
#include "bugs.h"
#ifdef EMU
#include "emulation_control.h"
#endif

#include <cstring>

static void print_counters()
{
#ifdef EMU
    for (int i = 0; emu_counter_name(i); i++) {
        uint64_t read, written, launches, checked_read, checked_written;
        emu_counter_read(emu_counter_name(i), &read, &written, &launches);
        printf("counter %s launches %llu read %llu written %llu", emu_counter_name(i), (unsigned long long)launches,
               (unsigned long long)read, (unsigned long long)written);
        if (emu_counter_read_checked(emu_counter_name(i), &checked_read, &checked_written))
            printf(" checked %llu %llu", (unsigned long long)checked_read, (unsigned long long)checked_written);
        printf("\n");
    }
#endif
}

static int run_bug(const char *name, bool planted)
{
    for (int i = 0; i < bugs_count; i++) {
        if (strcmp(bugs[i].name, name) != 0)
            continue;
        device_array<float> in(test_values(BUG_ELEMENTS)), out(BUG_ELEMENTS);
        device_array<unsigned> counters(2);
        CUDA_OK(cudaMemset(out.data, 0, BUG_ELEMENTS * sizeof(float)));
        CUDA_OK(cudaMemset(counters.data, 0, 2 * sizeof(unsigned)));
        CUDA_OK(bugs[i].launch(in.data, out.data, counters.data, planted));
        CUDA_OK(cudaDeviceSynchronize());
        const std::vector<float> result = out.get();
        printf("hash %016llx\n", (unsigned long long)hash_bytes(result.data(), result.size() * sizeof(float)));
        print_counters();
        return 0;
    }
    fprintf(stderr, "selftest: no bug named %s\n", name);
    return 2;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    if (argc == 4 && strcmp(mode, "bug") == 0)
        return run_bug(argv[2], strcmp(argv[3], "planted") == 0);
    if (argc == 3 && strcmp(mode, "host") == 0)
        selftest_host_misuse(argv[2]);
    else if (strcmp(mode, "demo") == 0)
        selftest_demo();
    else if (strcmp(mode, "features") == 0)
        selftest_features();
    else if (strcmp(mode, "matmul") == 0)
        selftest_matmul();
    else if (strcmp(mode, "graph") == 0)
        selftest_graph();
    else if (strncmp(mode, "streams", 7) == 0)
        selftest_streams(strcmp(mode, "streams-planted") == 0);
    else {
        fprintf(stderr, "usage: selftest bug NAME planted|correct | host NAME | demo | features | matmul | graph | "
                        "streams | streams-planted\n");
        return 2;
    }
    return 0;
}

/* peak.c - see peak.h. */
#include "peak.h"

#include <stddef.h>
#include <string.h>

/* NVIDIA's data sheets, without sparsity; a longer name stands before one that it begins with. */
static const struct {
    const char *name;
    double teraflops;
} gpu[] = {
    {"NVIDIA B200", 2250},        {"NVIDIA GH200", 989},       {"NVIDIA H200 NVL", 835},   {"NVIDIA H200", 989},
    {"NVIDIA H100 NVL", 835},     {"NVIDIA H100 PCIe", 756},   {"NVIDIA H100", 989},       {"NVIDIA H800", 989},
    {"NVIDIA A100", 312},         {"NVIDIA A800", 312},        {"NVIDIA L40S", 362},       {"NVIDIA L40", 181},
    {"NVIDIA L4", 121},           {"NVIDIA A40", 150},         {"NVIDIA A30", 165},        {"NVIDIA RTX A6000", 155},
    {"NVIDIA RTX 6000 Ada", 364}, {"NVIDIA GeForce RTX 4090", 165}, {"NVIDIA GeForce RTX 3090", 71},
};

double peak_flops(const char *name)
{
    for (size_t i = 0; i < sizeof gpu / sizeof *gpu; i++)
        if (!strncmp(name, gpu[i].name, strlen(gpu[i].name)))
            return 1e12 * gpu[i].teraflops;
    return 0;
}

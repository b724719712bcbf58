/* host_memory.h - how much of the host's memory can still be had: what the CPU engine has, and what may be locked for a GPU's. */
#ifndef FLAT_KERNELS_HOST_MEMORY_H
#define FLAT_KERNELS_HOST_MEMORY_H
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* The number after `key` (or at the start, for "") of a small text file; false when there is none. */
static inline bool file_number(const char *path, const char *key, size_t *number)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    char line[512];
    bool found = false;
    while (!found && fgets(line, sizeof line, file))
        found = !strncmp(line, key, strlen(key)) && sscanf(line + strlen(key), "%zu", number) == 1;
    fclose(file);
    return found;
}

/* The path under /sys/fs/cgroup of this process's control group (version 2): the line "0::/path". */
static inline bool cgroup_path(char *path, size_t bytes)
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (!file)
        return false;
    char line[512];
    bool found = false;
    while (!found && fgets(line, sizeof line, file))
        found = !strncmp(line, "0::/", 4);
    fclose(file);
    line[strcspn(line, "\n")] = 0;
    return found && (size_t)snprintf(path, bytes, "/sys/fs/cgroup%s", line + 3) < bytes;
}

/* Bytes that this process can still take without swapping: of the machine, or of its control group where that is less; pages
 * of files, which are given up for whoever wants memory, count as free in both. 0, or an errno where the kernel does not say
 * (ENODATA: in no way that is known here). */
static inline int host_memory_free(size_t *bytes)
{
    size_t kilobytes, limit, used, files = 0, more;
    errno = 0;
    if (!file_number("/proc/meminfo", "MemAvailable:", &kilobytes))
        return errno ? errno : ENODATA;
    *bytes = kilobytes * 1024;

    char group[384], path[448];
    if (!cgroup_path(group, sizeof group))
        return 0;
    snprintf(path, sizeof path, "%s/memory.max", group); /* "max", which is no number, where there is no limit */
    if (!file_number(path, "", &limit))
        return 0;
    snprintf(path, sizeof path, "%s/memory.current", group);
    if (!file_number(path, "", &used))
        return 0;
    snprintf(path, sizeof path, "%s/memory.stat", group);
    for (int i = 0; i < 2; i++)
        files += file_number(path, i ? "active_file " : "inactive_file ", &more) ? more : 0;
    used -= files < used ? files : used;
    const size_t rest = limit > used ? limit - used : 0;
    if (rest < *bytes)
        *bytes = rest;
    return 0;
}

#endif

/* fault.c - see fault.h. */
#undef _FILE_OFFSET_BITS /* both names of every call are defined here */
#include "fault.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <unwind.h>

enum call { OPEN, READ, WRITE, FSYNC, RENAME, EXCHANGE, CLOSE, MKDIR, REMOVE, CHMOD, LOCK, OPENDIR, READDIR, STAT, MMAP,
            MALLOC, SITE, THREAD, CALLS, ANY = CALLS };
static const char *const fault_calls[CALLS + 1] = {"open",   "read",  "write", "fsync",   "rename",  "exchange",
                                                   "close",  "mkdir", "remove", "chmod",  "lock",    "opendir",
                                                   "readdir", "stat", "mmap",  "malloc",  "site",    "thread",  "any"};

enum action { FAIL, SHORT, KILL, EXIT };

static atomic_long counts[CALLS + 1];
/* What was armed. */
struct fault {
    int call, errno_;
    long from;
    bool on; /* from then on */
    enum action action;
};
enum { FAULTS = 4 };
static struct fault faults[FAULTS];
static int armed;
static bool sites_wanted; /* one of them is of a site */
/* A site is a chain of return addresses. The hashes of those seen are kept here: an open table. */
enum { SITES = 1 << 16, FRAMES = 64 };
static uint64_t sites[SITES];

/* ---- arming ------------------------------------------------------------------------------------------------------ */

static int errno_of(const char *name)
{
    static const struct {
        const char *name;
        int value;
    } known[] = {{"EIO", EIO},       {"ENOSPC", ENOSPC}, {"ENOMEM", ENOMEM}, {"EINVAL", EINVAL}, {"EACCES", EACCES},
                 {"EXDEV", EXDEV},   {"EINTR", EINTR},   {"ENOSYS", ENOSYS}, {"EMFILE", EMFILE}, {"ENOLCK", ENOLCK},
                 {"EAGAIN", EAGAIN}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(name, known[i].name))
            return known[i].value;
    return -1;
}

/* "CALL:N:WHAT" of so many bytes. */
static bool fault_parse(const char *text, size_t length, struct fault *fault)
{
    char copy[64], call[16] = "", what[16] = "", plus[2] = "";
    if (length >= sizeof copy)
        return false;
    memcpy(copy, text, length);
    copy[length] = 0;
    if (sscanf(copy, "%15[a-z]:%ld:%15s", call, &fault->from, what) != 3 &&
        sscanf(copy, "%15[a-z]:%ld%1[+]:%15s", call, &fault->from, plus, what) != 4)
        return false;
    fault->on = *plus;
    fault->action = !strcmp(what, "short") ? SHORT : !strcmp(what, "kill") ? KILL : !strcmp(what, "exit") ? EXIT : FAIL;
    fault->errno_ = fault->action == FAIL ? errno_of(what) : 0;
    for (fault->call = 0; fault->call <= CALLS && strcmp(call, fault_calls[fault->call]); fault->call++)
        ;
    return fault->call <= CALLS && fault->from > 0 && fault->errno_ >= 0;
}

int fault_arm(const char *text)
{
    armed = 0;
    if (sites_wanted)
        memset(sites, 0, sizeof sites);
    sites_wanted = false;
    for (int i = 0; i <= CALLS; i++)
        counts[i] = 0;
    for (; text && *text; text += strcspn(text, ","), text += *text == ',') {
        struct fault fault = {0};
        if (armed == FAULTS || !fault_parse(text, strcspn(text, ","), &fault)) {
            armed = 0;
            return -1;
        }
        sites_wanted |= fault.call == SITE;
        faults[armed++] = fault;
    }
    return 0;
}

long fault_count(const char *call)
{
    for (int i = 0; i <= CALLS; i++)
        if (!strcmp(call, fault_calls[i]))
            return counts[i];
    return -1;
}

__attribute__((constructor)) static void fault_begin(void)
{
    const char *text = getenv("FLAT_FAULT");
    if (fault_arm(text)) {
        static const char message[] = "FLAT_FAULT is not understood\n";
        if (syscall(SYS_write, 2, message, sizeof message - 1) < 0)
            _exit(126);
        _exit(127);
    }
}

__attribute__((destructor)) static void fault_end(void)
{
    const char *path = getenv("FLAT_FAULT_COUNT");
    char text[1024];
    int used = 0;
    for (int i = 0; i <= CALLS; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, "%s %ld\n", fault_calls[i], (long)counts[i]);
    const int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0644) : -1;
    if (fd < 0 || syscall(SYS_write, fd, text, used) != used)
        return;
    syscall(SYS_close, fd);
}

/* ---- the calls --------------------------------------------------------------------------------------------------- */

enum verdict { PASS, FAILS, HALF, LAST };

/* What the faults of a kind do to its n-th call; to one that comes again, only those that go on failing. KILL does not
 * return. */
static enum verdict faults_apply(int kind, long n, bool again)
{
    for (int i = 0; i < armed; i++) {
        const struct fault *fault = &faults[i];
        if (fault->call != kind || (fault->on ? n < fault->from : n != fault->from || again))
            continue;
        if (fault->action == KILL)
            syscall(SYS_kill, getpid(), SIGKILL);
        if (fault->action == FAIL)
            errno = fault->errno_;
        return fault->action == FAIL ? FAILS : fault->action == SHORT ? HALF : LAST;
    }
    return PASS;
}

/* Counts a call; what is to become of it. */
static enum verdict judge(enum call call)
{
    const long own = atomic_fetch_add(&counts[call], 1) + 1;
    const long any = atomic_fetch_add(&counts[ANY], 1) + 1;
    const enum verdict verdict = faults_apply(call, own, false);
    return verdict != PASS ? verdict : faults_apply(ANY, any, false);
}

/* The next definition of a function: libc's. */
#define NEXT(result, name, ...)                                     \
    static result (*next)(__VA_ARGS__);                             \
    if (!next) {                                                    \
        void *symbol = dlsym(RTLD_NEXT, #name);                     \
        memcpy(&next, &symbol, sizeof next);                        \
    }

/* A function of a kind: judged, then libc's. */
#define WRAP(kind, result, name, failure, parameters, arguments, ...) \
    result name parameters                                            \
    {                                                                 \
        NEXT(result, name, __VA_ARGS__)                               \
        const enum verdict verdict = judge(kind);                     \
        if (verdict == FAILS)                                         \
            return failure;                                           \
        result value = next arguments;                                \
        if (verdict == LAST)                                          \
            _exit(99);                                                \
        return value;                                                 \
    }

/* The same for what moves n bytes. */
#define WRAP_BYTES(kind, name, parameters, whole, half, ...) \
    ssize_t name parameters                                  \
    {                                                        \
        NEXT(ssize_t, name, __VA_ARGS__)                     \
        const enum verdict verdict = judge(kind);            \
        if (verdict == FAILS)                                \
            return -1;                                       \
        ssize_t value = verdict == HALF ? next half : next whole; \
        if (verdict == LAST)                                 \
            _exit(99);                                       \
        return value;                                        \
    }

/* open has a mode only where it makes a file. */
#define WRAP_OPEN(name)                                        \
    int name(const char *path, int flags, ...)                 \
    {                                                          \
        NEXT(int, name, const char *, int, ...)                \
        mode_t mode = 0;                                       \
        if (flags & (O_CREAT | O_TMPFILE)) {                   \
            va_list list;                                      \
            va_start(list, flags);                             \
            mode = va_arg(list, mode_t);                       \
            va_end(list);                                      \
        }                                                      \
        const enum verdict verdict = judge(OPEN);              \
        if (verdict == FAILS)                                  \
            return -1;                                         \
        int fd = next(path, flags, mode);                      \
        if (verdict == LAST)                                   \
            _exit(99);                                         \
        return fd;                                             \
    }

WRAP_OPEN(open)
WRAP_OPEN(open64)
WRAP(OPEN, FILE *, fopen, NULL, (const char *path, const char *mode), (path, mode), const char *, const char *)
WRAP(OPEN, FILE *, fopen64, NULL, (const char *path, const char *mode), (path, mode), const char *, const char *)
WRAP_BYTES(READ, read, (int fd, void *bytes, size_t n), (fd, bytes, n), (fd, bytes, (n + 1) / 2), int, void *, size_t)
WRAP_BYTES(READ, pread, (int fd, void *bytes, size_t n, off_t at), (fd, bytes, n, at), (fd, bytes, (n + 1) / 2, at), int,
           void *, size_t, off_t)
WRAP_BYTES(READ, pread64, (int fd, void *bytes, size_t n, off64_t at), (fd, bytes, n, at), (fd, bytes, (n + 1) / 2, at),
           int, void *, size_t, off64_t)
/* Results and messages on the terminal are not files. */
ssize_t write(int fd, const void *bytes, size_t n)
{
    NEXT(ssize_t, write, int, const void *, size_t)
    const enum verdict verdict = fd <= 2 ? PASS : judge(WRITE);
    if (verdict == FAILS)
        return -1;
    const ssize_t value = next(fd, bytes, verdict == HALF ? (n + 1) / 2 : n);
    if (verdict == LAST)
        _exit(99);
    return value;
}
int fsync(int fd)
{
    const enum verdict verdict = judge(FSYNC);
    if (verdict == LAST)
        _exit(99);
    (void)fd;
    return verdict == FAILS ? -1 : 0;
}
WRAP(RENAME, int, rename, -1, (const char *from, const char *to), (from, to), const char *, const char *)
WRAP(EXCHANGE, int, renameat2, -1, (int a, const char *from, int b, const char *to, unsigned flags), (a, from, b, to, flags),
     int, const char *, int, const char *, unsigned)
WRAP(CLOSE, int, close, (syscall(SYS_close, fd), -1), (int fd), (fd), int)
WRAP(MKDIR, int, mkdir, -1, (const char *path, mode_t mode), (path, mode), const char *, mode_t)
WRAP(REMOVE, int, unlink, -1, (const char *path), (path), const char *)
WRAP(REMOVE, int, rmdir, -1, (const char *path), (path), const char *)
WRAP(CHMOD, int, chmod, -1, (const char *path, mode_t mode), (path, mode), const char *, mode_t)
WRAP(LOCK, int, flock, -1, (int fd, int operation), (fd, operation), int, int)
WRAP(OPENDIR, DIR *, opendir, NULL, (const char *path), (path), const char *)
WRAP(READDIR, struct dirent *, readdir, NULL, (DIR *directory), (directory), DIR *)
WRAP(READDIR, struct dirent64 *, readdir64, NULL, (DIR *directory), (directory), DIR *)
WRAP(STAT, int, stat, -1, (const char *path, struct stat *out), (path, out), const char *, struct stat *)
WRAP(STAT, int, stat64, -1, (const char *path, struct stat64 *out), (path, out), const char *, struct stat64 *)
WRAP(STAT, int, lstat, -1, (const char *path, struct stat *out), (path, out), const char *, struct stat *)
WRAP(STAT, int, lstat64, -1, (const char *path, struct stat64 *out), (path, out), const char *, struct stat64 *)
WRAP(STAT, int, fstat, -1, (int fd, struct stat *out), (fd, out), int, struct stat *)
WRAP(STAT, int, fstat64, -1, (int fd, struct stat64 *out), (fd, out), int, struct stat64 *)

void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset)
{
    return judge(MMAP) == FAILS ? MAP_FAILED : (void *)syscall(SYS_mmap, at, length, protection, flags, fd, offset);
}

/* ---- memory and threads ------------------------------------------------------------------------------------------ */

#ifndef __SANITIZE_ADDRESS__ /* whose own functions must see every one */

static atomic_flag sites_lock = ATOMIC_FLAG_INIT;

struct chain {
    uint64_t hash;
    int frames;
};

static _Unwind_Reason_Code frame_add(struct _Unwind_Context *context, void *user)
{
    struct chain *chain = user;
    chain->hash = (chain->hash ^ (uint64_t)_Unwind_GetIP(context)) * 0x9e3779b97f4a7c15u;
    chain->hash ^= chain->hash >> 29;
    return ++chain->frames < FRAMES ? _URC_NO_REASON : _URC_END_OF_STACK;
}

/* Whether memory is asked for from here for the first time. */
static bool site_is_new(void)
{
    struct chain chain = {0};
    _Unwind_Backtrace(frame_add, &chain);
    const uint64_t hash = chain.hash | 1;
    while (atomic_flag_test_and_set(&sites_lock))
        ;
    size_t at = hash >> 48;
    while (sites[at] && sites[at] != hash)
        at = (at + 1) % SITES;
    const bool is_new = !sites[at];
    sites[at] = hash;
    atomic_flag_clear(&sites_lock);
    return is_new;
}

static enum verdict judge_memory(void)
{
    static _Thread_local bool inside; /* the unwinder, which may want memory itself */
    const enum verdict verdict = faults_apply(MALLOC, atomic_fetch_add(&counts[MALLOC], 1) + 1, false);
    if (verdict != PASS || !sites_wanted || inside)
        return verdict;
    inside = true;
    const bool is_new = site_is_new();
    inside = false;
    const long seen = is_new ? atomic_fetch_add(&counts[SITE], 1) + 1 : (long)counts[SITE];
    return faults_apply(SITE, seen, !is_new);
}

/* libc's functions have names of their own, which dlsym's allocations need before it can answer. */
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
    *__libc_memalign(size_t, size_t);

void *malloc(size_t n)
{
    return judge_memory() == FAILS ? NULL : __libc_malloc(n);
}
void *calloc(size_t count, size_t n)
{
    return judge_memory() == FAILS ? NULL : __libc_calloc(count, n);
}
void *realloc(void *old, size_t n)
{
    return judge_memory() == FAILS ? NULL : __libc_realloc(old, n);
}
void *aligned_alloc(size_t alignment, size_t n)
{
    return judge_memory() == FAILS ? NULL : __libc_memalign(alignment, n);
}
int posix_memalign(void **out, size_t alignment, size_t n)
{
    *out = judge_memory() == FAILS ? NULL : __libc_memalign(alignment, n);
    return *out ? 0 : ENOMEM;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    NEXT(int, pthread_create, pthread_t *, const pthread_attr_t *, void *(*)(void *), void *)
    if (faults_apply(THREAD, atomic_fetch_add(&counts[THREAD], 1) + 1, false) == FAILS)
        return errno;
    return next(thread, attributes, run, argument);
}

#endif

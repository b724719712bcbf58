/* check_entry.cpp - the functions that clang's -fsanitize=thread calls for each load and store; see check.cpp. */
#include <cstddef>
#include <cstring>

namespace emu {
void check_plain(const void *memory, size_t bytes, bool write, const void *site);
}
using emu::check_plain;

#define SITE __builtin_return_address(0)

#define ACCESS_OF(bytes)                                                                                              \
    void __tsan_read##bytes(void *p) { check_plain(p, bytes, false, SITE); }                                      \
    void __tsan_write##bytes(void *p) { check_plain(p, bytes, true, SITE); }                                      \
    void __tsan_unaligned_read##bytes(void *p) { check_plain(p, bytes, false, SITE); }                            \
    void __tsan_unaligned_write##bytes(void *p) { check_plain(p, bytes, true, SITE); }                            \
    void __tsan_read_write##bytes(void *p) { check_plain(p, bytes, false, SITE), check_plain(p, bytes, true, SITE); } \
    void __tsan_unaligned_read_write##bytes(void *p)                                                                  \
    {                                                                                                                 \
        check_plain(p, bytes, false, SITE), check_plain(p, bytes, true, SITE);                                        \
    }

extern "C" {

ACCESS_OF(1)
ACCESS_OF(2)
ACCESS_OF(4)
ACCESS_OF(8)
ACCESS_OF(16)

void __tsan_read_range(void *p, size_t bytes)
{
    check_plain(p, bytes, false, SITE);
}

void __tsan_write_range(void *p, size_t bytes)
{
    check_plain(p, bytes, true, SITE);
}

void *__tsan_memcpy(void *to, const void *from, size_t bytes)
{
    check_plain(from, bytes, false, SITE);
    check_plain(to, bytes, true, SITE);
    return memcpy(to, from, bytes);
}

void *__tsan_memmove(void *to, const void *from, size_t bytes)
{
    check_plain(from, bytes, false, SITE);
    check_plain(to, bytes, true, SITE);
    return memmove(to, from, bytes);
}

void *__tsan_memset(void *to, int value, size_t bytes)
{
    check_plain(to, bytes, true, SITE);
    return memset(to, value, bytes);
}

void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void **, void *) {}
void __tsan_vptr_read(void **) {}

} // extern "C"

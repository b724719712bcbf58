/* atomic.cpp - integer atomics and fences of device code. */
#include "runtime.h"

namespace emu {

/* Global atomics count as a read and a write; shared ones are free. Order is the checker's business: the host's
 * operations are sequentially consistent here, so nothing weaker can show up in the results. */
EMU_INLINE void note_atomic(const void *address, size_t bytes)
{
    check_atomic(address, bytes, __builtin_return_address(0)); /* inlined: the kernel's call of atomicX */
    if (is_shared(address))
        return;
    note_access(address, bytes, &view.bytes_read, "atomic");
    view.bytes_written += bytes;
}

template <class T, class F> EMU_INLINE T update(T *address, F change)
{
    note_atomic(address, sizeof(T));
    T old = __atomic_load_n(address, __ATOMIC_SEQ_CST);
    while (!__atomic_compare_exchange_n(address, &old, change(old), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    return old;
}

} // namespace emu

using emu::update;

#define ATOMIC(name, type, expression)                              \
    type name(type *address, type value)                            \
    {                                                               \
        return update(address, [=](type old) { return expression; }); \
    }
ATOMIC(atomicAdd, int, (int)((unsigned)old + (unsigned)value))
ATOMIC(atomicAdd, unsigned, old + value)
ATOMIC(atomicAdd, unsigned long long, old + value)
ATOMIC(atomicMax, int, old > value ? old : value)
ATOMIC(atomicMax, unsigned, old > value ? old : value)
ATOMIC(atomicMin, int, old < value ? old : value)
ATOMIC(atomicMin, unsigned, old < value ? old : value)
ATOMIC(atomicOr, int, old | value)
ATOMIC(atomicOr, unsigned, old | value)
ATOMIC(atomicAnd, unsigned, old & value)
ATOMIC(atomicExch, int, ((void)old, value))
ATOMIC(atomicExch, unsigned, ((void)old, value))
ATOMIC(atomicInc, unsigned, old >= value ? 0 : old + 1)

#define ATOMIC_CAS(type)                                                                    \
    type atomicCAS(type *address, type compare, type value)                                 \
    {                                                                                       \
        return update(address, [=](type old) { return old == compare ? value : old; });     \
    }
ATOMIC_CAS(int)
ATOMIC_CAS(unsigned)
ATOMIC_CAS(unsigned long long)

void __threadfence()
{
    emu::check_fence();
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void __threadfence_block()
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

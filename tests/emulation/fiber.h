/* fiber.h - switching between the threads of a block: inline assembly on x86-64, ucontext elsewhere.
 *
 * The assembly switch costs about 5 ns, ucontext's about 235 (it saves the signal mask). It is inlined into its
 * callers, so that each call site has its own predictable jump. AddressSanitizer is told of every switch.
 */
#ifndef FLAT_EMULATION_FIBER_H
#define FLAT_EMULATION_FIBER_H

#include "runtime.h"

#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__) && !defined(EMU_UCONTEXT)
#define EMU_UCONTEXT 1
#endif
#ifdef EMU_UCONTEXT
#include <ucontext.h>
#endif

namespace emu {

#ifdef __AVX512F__
#define EMU_HIGH_VECTORS                                                                                            \
    , "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27",   \
        "xmm28", "xmm29", "xmm30", "xmm31"
#else
#define EMU_HIGH_VECTORS
#endif

/* Leaves `from` and goes on where `to` left. */
static inline __attribute__((always_inline)) void fiber_switch(fiber *from, fiber *to)
{
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->stack_bytes);
#endif
#ifdef EMU_UCONTEXT
    swapcontext((ucontext_t *)from->user_context, (ucontext_t *)to->user_context);
#else
    /* Everything but the stack pointer, rbp and rbx is a clobber, so the compiler saves what it needs; the first
     * instruction steps over the red zone. */
    void **save = &from->stack_pointer, *next = to->stack_pointer;
    asm volatile("leaq -128(%%rsp), %%rsp\n\t"
                 "pushq %%rbp\n\t"
                 "pushq %%rbx\n\t"
                 "leaq 1f(%%rip), %%rdx\n\t"
                 "pushq %%rdx\n\t"
                 "movq %%rsp, (%0)\n\t"
                 "movq %1, %%rsp\n\t"
                 "popq %%rdx\n\t"
                 "jmp *%%rdx\n\t"
                 "1: popq %%rbx\n\t"
                 "popq %%rbp\n\t"
                 "leaq 128(%%rsp), %%rsp\n\t"
                 : "+a"(save), "+c"(next)
                 :
                 : "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc", "xmm0",
                   "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
                   "xmm13", "xmm14", "xmm15" EMU_HIGH_VECTORS);
#endif
#ifdef EMU_ASAN
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(from->fake_stack, &bottom, &bytes);
#endif
}

/* Gives a fiber a stack (once) and makes it start at `entry` when next switched to. */
void fiber_create(fiber *self, uint32_t linear, size_t stack_bytes, void (*entry)());
void fiber_restart(fiber *self, void (*entry)());
/* First call in `entry`: records where the first switch came from. */
void fiber_entered(fiber *main);

} // namespace emu

#endif

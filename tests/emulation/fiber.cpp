/* fiber.cpp - stacks of fibers; see fiber.h. */
#include "fiber.h"

#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

namespace emu {

void fiber_create(fiber *self, uint32_t linear, size_t stack_bytes, void (*entry)())
{
    void *memory = mmap(nullptr, stack_bytes + STACK_GUARD, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, STACK_GUARD, PROT_NONE) != 0) { /* overflows end in a report */
        perror("emulation: stack of a CUDA thread");
        abort();
    }
    self->stack = (char *)memory + STACK_GUARD;
    self->stack_bytes = stack_bytes;
    self->linear = linear;
    self->warp = linear / 32;
    self->lane = linear % 32;
    fiber_restart(self, entry);
}

void fiber_restart(fiber *self, void (*entry)())
{
#ifdef EMU_ASAN
    /* What an abandoned run left poisoned on this stack is not an error of the next one. */
    __asan_unpoison_memory_region(self->stack, self->stack_bytes);
    self->fake_stack = nullptr;
#endif
    self->copies.clear();
#ifdef EMU_UCONTEXT
    if (!self->user_context)
        self->user_context = new ucontext_t;
    ucontext_t *context = (ucontext_t *)self->user_context;
    getcontext(context);
    context->uc_stack.ss_sp = self->stack;
    context->uc_stack.ss_size = self->stack_bytes;
    context->uc_link = nullptr;
    makecontext(context, entry, 0);
#else
    /* Equal offsets in every stack would share the same few cache sets, so the tops are staggered. */
    char *top = self->stack + self->stack_bytes - 64 - self->linear * 320 % 3840;
    void **words = (void **)((uintptr_t)top & ~(uintptr_t)15);
    *--words = nullptr; /* where a return address would be: keeps the alignment of a called function */
    *--words = (void *)entry;
    self->stack_pointer = words;
#endif
}

void fiber_entered(fiber *main)
{
#ifdef EMU_ASAN
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
    if (!main->stack) {
        main->stack = (char *)bottom;
        main->stack_bytes = bytes;
    }
#else
    (void)main;
#endif
}

} // namespace emu

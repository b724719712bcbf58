/* scheduler.cpp - runs the threads of a block: who goes next, barriers, warp functions, deadlock reports.
 *
 * A thread runs until it must wait; then it switches straight to the next runnable one. The runnable ones are a mask
 * of lanes per warp and a mask of warps, so that picking is a few instructions: in turn within the warp (seed 0), or at
 * random. A thread that returns is parked in its loop and starts again with the next block.
 */
#include "fiber.h"
#include "tile_twin.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace emu {

__thread thread_view view;
__thread executor *executor_current;

static void fiber_loop();

bool inside_kernel()
{
    return executor_current && executor_current->current && executor_current->current != &executor_current->main;
}

/* ---- who goes next -------------------------------------------------------------------------------------------- */

static inline uint32_t nth_bit(uint32_t mask, uint32_t n)
{
    while (n--)
        mask &= mask - 1;
    return (uint32_t)__builtin_ctz(mask);
}

/* First bit of mask at or after `start`, else the first at all. */
static inline uint32_t next_bit(uint32_t mask, uint32_t start)
{
    const uint32_t later = mask & ~((1u << start) - 1u);
    return (uint32_t)__builtin_ctz(later ? later : mask);
}

static inline __attribute__((always_inline)) fiber *pick(executor *self)
{
    if (!self->warps_ready)
        return nullptr;
    uint32_t warp, lane;
    if (config.seed) {
        const uint64_t random = random_next(&self->random);
        warp = nth_bit(self->warps_ready,
                       (uint32_t)(random >> 32) % (uint32_t)__builtin_popcount(self->warps_ready));
        const uint32_t ready = self->warps[warp].ready;
        lane = nth_bit(ready, (uint32_t)random % (uint32_t)__builtin_popcount(ready));
    } else {
        const bool first = self->current == &self->main;
        const uint32_t current = first ? 0 : self->current->warp;
        warp = next_bit(self->warps_ready, current);
        lane = next_bit(self->warps[warp].ready, warp == current && !first ? self->current->lane : 0);
    }
    return &self->fibers[warp * 32 + lane];
}

static inline void set_ready(executor *self, uint32_t warp, uint32_t lanes)
{
    self->warps[warp].ready |= lanes;
    if (self->warps[warp].ready)
        self->warps_ready |= 1u << warp;
}

static inline void set_waiting(executor *self, const fiber *thread)
{
    warp_state *warp = &self->warps[thread->warp];
    warp->ready &= ~(1u << thread->lane);
    if (!warp->ready)
        self->warps_ready &= ~(1u << thread->warp);
}

static inline __attribute__((always_inline)) void resume(executor *self, fiber *to)
{
    fiber *from = self->current;
    if (from == to)
        return;
    self->current = to;
    view.thread = to->index;
    view.lane = to->lane;
    view.linear = to->linear;
    fiber_switch(from, to);
}

static __attribute__((noinline)) void resume_main(executor *self)
{
    fiber *from = self->current;
    self->current = &self->main;
    fiber_switch(from, &self->main);
}

static __attribute__((noinline)) void report_deadlock(executor *self)
{
    int at_barrier = 0, shown = 0;
    char text[1000], *end = text + sizeof text; /* no std::string: fault() leaves this stack as it is */
    char *at = text + snprintf(text, sizeof text, "deadlock: %d of %d threads have returned",
                               self->threads - self->live, self->threads);
    for (int i = 0; i < self->threads; i++)
        at_barrier += !self->fibers[i].done && self->fibers[i].wait == WAIT_BARRIER;
    if (at_barrier)
        at += snprintf(at, (size_t)(end - at), ", %d wait at __syncthreads (%s:%d)", at_barrier, self->barrier_file,
                       self->barrier_line);
    for (int i = 0; i < self->threads && shown < 3 && at < end - 200; i++) {
        const fiber *thread = &self->fibers[i];
        if (thread->done || thread->wait != WAIT_COLLECTIVE)
            continue;
        const collective *group = thread->wait_group;
        at += snprintf(at, (size_t)(end - at),
                       "; thread %u (warp %u lane %u) waits in %s line %d, mask %08x, for lanes %08x",
                       thread->linear, thread->warp, thread->lane, group->what, group->line, group->mask,
                       group->mask & ~group->arrived);
        shown++;
    }
    fault("%s", text);
}

/* The current thread cannot go on (or has returned): run another one, or end the block. */
static inline __attribute__((always_inline)) void give_way(executor *self)
{
    fiber *next = pick(self);
    if (next) {
        resume(self, next);
        return;
    }
    if (self->live)
        report_deadlock(self);
    resume_main(self);
}

void thread_yield()
{
    executor *self = executor_current;
    fiber *next = pick(self);
    if (next)
        resume(self, next);
}

/* ---- the life of a thread ------------------------------------------------------------------------------------- */

static void release_barrier(executor *self)
{
    self->barrier_arrived = 0;
    self->barrier_number++;
    for (int i = 0; i < (self->threads + 31) / 32; i++) {
        set_ready(self, (uint32_t)i, self->warps[i].at_barrier);
        self->warps[i].at_barrier = 0;
    }
}

static void thread_return(executor *self, fiber *thread)
{
    thread->done = true;
    self->live--;
    set_waiting(self, thread);
    async_copy_commit(); /* what is under way lands in the end */
    async_copy_wait(0);
    warp_state *warp = &self->warps[thread->warp];
    warp->exited |= 1u << thread->lane;
    for (uint64_t open = warp->open; open; open &= open - 1) {
        const collective *group = &warp->group[__builtin_ctzll(open)];
        if (group->mask >> thread->lane & 1)
            fault("lane %u of warp %u returned, but %s at line %d names it in mask %08x", thread->lane, thread->warp,
                  group->what, group->line, group->mask);
    }
    if (self->barrier_arrived)
        fault("a thread returned while %d threads wait at __syncthreads (%s:%d)", self->barrier_arrived,
              self->barrier_file, self->barrier_line);
}

static void fiber_loop()
{
    for (;;) {
        executor *self = executor_current;
        self->running->call.invoke(self->running->call.arguments.get());
        self = executor_current;
        thread_return(self, self->current);
        give_way(self); /* parked here until the next block restarts the loop */
    }
}

static void fiber_entry()
{
    fiber_entered(&executor_current->main);
    fiber_loop();
}

void executor_prepare(executor *self, const launch_state *launch)
{
    const dim3 block = launch->call.block;
    if (!self->fibers) {
        self->fibers = new fiber[BLOCK_THREADS]();
#ifdef EMU_UCONTEXT
        self->main.user_context = new ucontext_t;
#endif
    }
    self->threads = (int)(block.x * block.y * block.z);
    for (; self->fibers_made < self->threads; self->fibers_made++)
        fiber_create(&self->fibers[self->fibers_made], (uint32_t)self->fibers_made, config.stack_bytes, fiber_entry);
    for (unsigned i = 0; i < (unsigned)self->threads; i++)
        self->fibers[i].index = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
    self->running = launch;
    self->current = &self->main;
    const dim3 grid = launch->call.grid;
    view.block_size = {block.x, block.y, block.z};
    view.grid_size = {grid.x, grid.y, grid.z};
    device_arena(&view.device_begin, &view.device_end);
    shared_reset(self, launch);
}

void executor_run_block(executor *self, uint64_t block_number)
{
    const dim3 grid = self->running->call.grid;
    view.block = {(unsigned)(block_number % grid.x), (unsigned)(block_number / grid.x % grid.y),
                  (unsigned)(block_number / ((uint64_t)grid.x * grid.y))};
    self->block_number = block_number;
    self->random = config.seed * 0x9e3779b97f4a7c15ull + block_number * 0xd1342543de82ef95ull + self->running->number;
    self->live = self->threads;
    self->barrier_arrived = 0;
    self->failed = false;
    self->warps_ready = 0;
    for (int i = 0; i < (self->threads + 31) / 32; i++) {
        warp_state *warp = &self->warps[i];
        const int lanes = self->threads - i * 32;
        warp->ready = 0;
        warp->at_barrier = warp->exited = 0;
        warp->open = warp->busy = 0;
        set_ready(self, (uint32_t)i, lanes >= 32 ? 0xffffffffu : (1u << lanes) - 1u);
    }
    for (int i = 0; i < self->threads; i++) {
        self->fibers[i].done = false;
        self->fibers[i].wait = WAIT_NONE;
    }
    for (shared_array &array : self->arrays)
        array.ready = false;
    if (self->running->call.dynamic_bytes)
        shared_fill(self, self->dynamic, self->running->call.dynamic_bytes);
    check_block();
    self->current = &self->main;
    resume(self, pick(self));
    if (self->failed) { /* threads were left in the middle of the kernel */
        for (int i = 0; i < self->threads; i++)
            fiber_restart(&self->fibers[i], fiber_entry);
        fault_record(cudaErrorLaunchFailure, self->report);
    }
}

void fault(const char *format, ...)
{
    char what[1024], text[1400];
    va_list list;
    va_start(list, format);
    vsnprintf(what, sizeof what, format, list);
    va_end(list);
    executor *self = executor_current;
    if (!inside_kernel()) {
        fprintf(stderr, "emulation: %s\n", what);
        abort();
    }
    snprintf(text, sizeof text, "%s [kernel %s, block (%u,%u,%u), thread %u]", what, self->running->call.name,
             view.block.x, view.block.y, view.block.z, self->current->linear);
    self->report = text;
    self->failed = true;
    if (config.abort_on_fault) {
        fprintf(stderr, "emulation: %s\n", text);
        abort();
    }
    resume_main(self);
    __builtin_unreachable();
}

/* ---- barriers ------------------------------------------------------------------------------------------------- */

int block_barrier(barrier_kind kind, int predicate, const char *file, int line)
{
    executor *self = executor_current;
    fiber *thread = self->current;
    if (self->live != self->threads)
        fault("__syncthreads (%s:%d) after %d threads of the block have returned", file, line,
              self->threads - self->live);
    int *result = &self->barrier_result[self->barrier_number & 1];
    if (self->barrier_arrived == 0) {
        self->barrier_file = file;
        self->barrier_line = line;
        *result = kind == BARRIER_AND;
    } else if (self->barrier_line != line || strcmp(self->barrier_file, file) != 0) {
        fault("divergent __syncthreads: %s:%d while %d threads wait at %s:%d", file, line, self->barrier_arrived,
              self->barrier_file, self->barrier_line);
    }
    if (kind == BARRIER_COUNT)
        *result += predicate != 0;
    else if (kind == BARRIER_OR)
        *result |= predicate != 0;
    else if (kind == BARRIER_AND)
        *result &= predicate != 0;
    if (++self->barrier_arrived == self->live) {
        check_barrier();
        release_barrier(self);
        if (config.seed && (random_next(&self->random) & 3) != 0)
            thread_yield(); /* else the last one to arrive would always be the first to leave */
    } else {
        thread->wait = WAIT_BARRIER;
        self->warps[thread->warp].at_barrier |= 1u << thread->lane;
        set_waiting(self, thread);
        give_way(self);
        thread->wait = WAIT_NONE;
    }
    return *result;
}

/* ---- warp functions ------------------------------------------------------------------------------------------- */

/* The group of exactly this mask that still waits for lanes, or a new one. */
static collective *group_find(warp_state *warp, uint32_t mask, uint32_t operation, const char *what, int line)
{
    for (uint64_t open = warp->open; open; open &= open - 1) {
        collective *group = &warp->group[__builtin_ctzll(open)];
        if (group->mask == mask) {
            if (group->operation != operation || group->line != line)
                fault("%s line %d meets %s line %d in one warp: the lanes have diverged", what, line, group->what,
                      group->line);
            return group;
        }
        if (group->mask & mask)
            fault("%s line %d (mask %08x) overlaps %s line %d (mask %08x), which waits for lanes %08x", what, line,
                  mask, group->what, group->line, group->mask, group->mask & ~group->arrived);
    }
    const int free_slot = __builtin_ctzll(~(warp->open | warp->busy)); /* at most 32 open and one busy per lane */
    if (free_slot >= WARP_GROUPS)
        fault("%s line %d: too many warp functions under way", what, line);
    collective *group = &warp->group[free_slot];
    warp->open |= 1ull << free_slot;
    group->mask = mask;
    group->arrived = 0;
    group->operation = operation;
    group->what = what;
    group->line = line;
    return group;
}

collective *collective_meet(uint32_t mask, uint32_t operation, const void *value, size_t bytes,
                            void (*finish)(collective *), const char *what, int line)
{
    executor *self = executor_current;
    fiber *thread = self->current;
    warp_state *warp = &self->warps[thread->warp];
    const uint32_t bit = 1u << thread->lane;
    const int lanes = self->threads - (int)thread->warp * 32;
    if ((mask & bit) == 0)
        fault("%s line %d: calling lane %u is not in mask %08x", what, line, thread->lane, mask);
    if (lanes < 32 && mask >> lanes != 0)
        fault("%s line %d: mask %08x names lanes beyond the block's %d threads", what, line, mask, self->threads);
    if (mask & warp->exited)
        fault("%s line %d: mask %08x names lanes %08x, which have returned", what, line, mask, mask & warp->exited);
    collective *group = group_find(warp, mask, operation, what, line);
    if (bytes)
        memcpy(group->slot[thread->lane], value, bytes);
    group->arrived |= bit;
    if (group->arrived != group->mask) {
        thread->wait = WAIT_COLLECTIVE;
        thread->wait_group = group;
        set_waiting(self, thread);
        give_way(self);
        thread->wait = WAIT_NONE;
        return group;
    }
    const uint64_t slot_bit = 1ull << (group - warp->group);
    warp->open &= ~slot_bit;
    warp->busy |= slot_bit;
    group->unread = group->mask;
    if (operation == OPERATION_SYNC)
        check_warp_sync(thread->warp, mask);
    if (finish)
        finish(group);
    set_ready(self, thread->warp, mask & ~bit);
    if (config.seed && (random_next(&self->random) & 3) == 0)
        thread_yield();
    return group;
}

void collective_leave(collective *group)
{
    executor *self = executor_current;
    warp_state *warp = &self->warps[self->current->warp];
    group->unread &= ~(1u << self->current->lane);
    if (!group->unread)
        warp->busy &= ~(1ull << (group - warp->group));
}

} // namespace emu

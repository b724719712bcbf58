/* check_none.cpp - the checker's hooks in builds without the checker. */
#include "runtime.h"

namespace emu {

extern const bool check_present = false;
void check_launch(const launch_state *) {}
void check_launch_end(const launch_state *) {}
void check_block() {}
void check_barrier() {}
void check_warp_sync(uint32_t, uint32_t) {}
void check_fence() {}
void check_alloc(void *, size_t) {}
void check_free(void *, size_t) {}
void check_host_write(void *, size_t) {}
const char *check_host_read(const void *, size_t) { return nullptr; }
void check_read(const void *, size_t) {}
void check_read(const void *, size_t, const void *) {}
void check_write(void *, size_t, const void *) {}
void check_atomic(const void *, size_t, const void *) {}
void check_async(void *, size_t, const void *) {}

} // namespace emu

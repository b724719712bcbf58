/* cast.c - CPU: the same numbers in another storage type. This engine has one type, so that a copy is all there is. */
#include "engine/cpu.h"

int cast(struct engine_context *context, const struct cast_args *args)
{
    REQUIRE_CONTRACT(cast, args);
    REQUIRE_REAL(args->from);
    REQUIRE_REAL(args->to);
    if (args->n)
        memcpy(args->y, args->x, (size_t)args->n * sizeof(real));
    return OP_OK;
}

/* cast.c - CPU: the same numbers in another storage type. This engine has one type, so that a copy is all there is. */
#include "engine/cpu.h"

int cast(struct engine_context *context, const struct cast_args *args)
{
    REQUIRE_ARGS(args);
    REQUIRE_REAL(args->from);
    REQUIRE_REAL(args->to);
    REQUIRE(args->n >= 0, "n is negative");
    if (args->n == 0)
        return OP_OK;
    REQUIRE(args->x && args->y, "x or y is NULL");
    memcpy(args->y, args->x, (size_t)args->n * sizeof(real));
    return OP_OK;
}

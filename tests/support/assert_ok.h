/* assert_ok.h - OK(call): the running test fails where a call of the project does, with the call, its status and its message.
 * The caller has a `struct error error`.
 */
#ifndef FLAT_TESTS_ASSERT_OK_H
#define FLAT_TESTS_ASSERT_OK_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../host/util/error.h"

#define OK(call) assert_ok((call), &error, #call)

static inline void assert_ok(int status, const struct error *error, const char *call)
{
    if (status)
        fail_msg("%s: status %d: %s", call, status, error->text);
}

#endif

/* test_read_ahead.c - items arrive in order and whole, a failure with the item that it hit, and leaving early ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "../../host/util/read_ahead.h"

enum { ITEMS = 200, WORDS = 1000 };

struct source {
    int64_t fails_at, next; /* next: the item that fill expects */
    bool slow_maker;
};

static void pause_briefly(int64_t index)
{
    const struct timespec some = {0, 20000 * (index % 5)};
    nanosleep(&some, NULL);
}

static int fill(void *user, int64_t index, void *buffer, struct error *error)
{
    struct source *source = user;
    if (index != source->next++)
        return error_set(error, STATUS_RUNTIME, "item %d out of turn", (int)index);
    if (source->slow_maker)
        pause_briefly(index);
    if (index == source->fails_at)
        return error_set(error, STATUS_INPUT, "item %d is bad", (int)index);
    for (int i = 0; i < WORDS; i++)
        ((int64_t *)buffer)[i] = index * WORDS + i;
    return STATUS_OK;
}

/* The maker fills the other buffer meanwhile: what was handed out must not change. */
static void item_check(struct read_ahead *reader, int64_t index, bool slow_taker)
{
    struct error error = {0};
    const void *buffer;
    assert_int_equal(read_ahead_next(reader, &buffer, &error), STATUS_OK);
    if (slow_taker)
        pause_briefly(index);
    for (int i = 0; i < WORDS; i++)
        if (((const int64_t *)buffer)[i] != index * WORDS + i)
            fail_msg("item %d, word %d", (int)index, i);
}

static void test_order(void **state)
{
    (void)state;
    for (int slow = 0; slow < 4; slow++) {
        struct source source = {.fails_at = -1, .slow_maker = slow & 1};
        struct read_ahead *reader;
        struct error error = {0};
        assert_int_equal(read_ahead_open(&reader, ITEMS, WORDS * sizeof(int64_t), fill, &source, &error), STATUS_OK);
        for (int64_t i = 0; i < ITEMS; i++)
            item_check(reader, i, slow & 2);
        read_ahead_close(reader);
        assert_int_equal(source.next, ITEMS);
    }
}

static void test_failure(void **state)
{
    (void)state;
    struct source source = {.fails_at = 7};
    struct read_ahead *reader;
    struct error error = {0};
    const void *buffer;
    assert_int_equal(read_ahead_open(&reader, ITEMS, WORDS * sizeof(int64_t), fill, &source, &error), STATUS_OK);
    for (int64_t i = 0; i < 7; i++)
        item_check(reader, i, true);
    assert_int_equal(read_ahead_next(reader, &buffer, &error), STATUS_INPUT);
    assert_string_equal(error.text, "item 7 is bad");
    assert_null(buffer);
    read_ahead_close(reader);
    assert_int_equal(source.next, 8); /* not called again */
}

static void test_leaving(void **state)
{
    (void)state;
    for (int64_t taken = 0; taken < 4; taken++) {
        struct source source = {.fails_at = -1};
        struct read_ahead *reader;
        struct error error = {0};
        assert_int_equal(read_ahead_open(&reader, ITEMS, WORDS * sizeof(int64_t), fill, &source, &error), STATUS_OK);
        for (int64_t i = 0; i < taken; i++)
            item_check(reader, i, false);
        read_ahead_close(reader);
        assert_true(source.next <= taken + 2);
    }
    struct source none = {.fails_at = -1};
    struct read_ahead *reader;
    struct error error = {0};
    assert_int_equal(read_ahead_open(&reader, 0, 8, fill, &none, &error), STATUS_OK);
    read_ahead_close(reader);
    read_ahead_close(NULL);
    assert_int_equal(none.next, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order), cmocka_unit_test(test_failure),
                                       cmocka_unit_test(test_leaving)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_json.c - strictness, members, numbers, printing. */
#include "../support/temporary.h"

#include <math.h>

#include "../../host/io/json/json.h"

static void test_malformed(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "offset 0: expected a JSON value, found the end"},
        {"  ", "offset 2: expected a JSON value, found the end"},
        {"{", "offset 1: expected a key in double quotes, found the end"},
        {"[1", "offset 2: expected ',' or ']', found the end"},
        {"[1,]", "offset 3: expected a JSON value, found ']'"},
        {"[,1]", "offset 1: expected a JSON value, found ','"},
        {"[1 2]", "offset 3: expected ',' or ']', found '2'"},
        {"{\"a\":1,}", "offset 7: expected a key in double quotes, found '}'"},
        {"{\"a\" 1}", "offset 5: expected ':', found '1'"},
        {"{a:1}", "offset 1: expected a key in double quotes, found 'a'"},
        {"{'a':1}", "offset 1: expected a key in double quotes"},
        {"{\"a\":1 \"b\":2}", "offset 7: expected ',' or '}'"},
        {"1 2", "offset 2: expected the end of the text, found '2'"},
        {"{}x", "offset 2: expected the end of the text, found 'x'"},
        {"[]]", "offset 2: expected the end of the text"},
        {"tru", "offset 0: expected a JSON value (a misspelt"},
        {"nul", "offset 0: expected a JSON value (a misspelt"},
        {"truex", "offset 4: expected the end of the text, found 'x'"},
        {"True", "offset 0: expected a JSON value, found 'T'"},
        {"NaN", "offset 0: expected a JSON value, found 'N'"},
        {"-Infinity", "offset 1: expected a digit, found 'I'"},
        {"01", "offset 0: a number must not begin with a zero"},
        {"-01", "offset 0: a number must not begin with a zero"},
        {"1.", "offset 2: expected a digit after the decimal point"},
        {".5", "offset 0: expected a JSON value, found '.'"},
        {"+1", "offset 0: expected a JSON value, found '+'"},
        {"-", "offset 1: expected a digit, found the end"},
        {"1e", "offset 2: expected a digit of the exponent"},
        {"1e+", "offset 3: expected a digit of the exponent"},
        {"0x10", "offset 1: expected the end of the text, found 'x'"},
        {"1e400", "offset 0: the number is beyond a double's range"},
        {"-1e400", "offset 0: the number is beyond a double's range"},
        {"1000000000000000000000000000000000000000000000000000000000000000", "a number of more than 63"},
        {"\"abc", "offset 4: expected a closing quote"},
        {"\"a\nb\"", "offset 2: expected no bare control character in a string, found byte 0x0A"},
        {"\"a\\", "offset 3: expected one of"},
        {"\"\\x41\"", "offset 2: expected one of"},
        {"\"\\u12G4\"", "offset 5: expected four hexadecimal digits after \\u, found 'G'"},
        {"\"\\u12", "offset 5: expected four hexadecimal digits"},
        {"\"x\\u0000y\"", "offset 2: \\u0000 is not accepted"},
        {"\"\\ud800\"", "offset 1: expected a pair of surrogates"},
        {"\"\\ud800x\"", "offset 1: expected a pair of surrogates"},
        {"\"\\ud800\\u0041\"", "offset 1: expected a pair of surrogates"},
        {"\"\\ud800\\n\"", "offset 1: expected a pair of surrogates"},
        {"\"\\udc00\\ud800\"", "offset 1: expected a pair of surrogates"},
        {"\"\xff\"", "offset 1: expected UTF-8"},
        {"\"\xc0\x80\"", "offset 1: expected UTF-8"},
        {"\"\xed\xa0\x80\"", "offset 1: expected UTF-8"},
        {"\"\xe2\x82", "offset 1: expected UTF-8"},
        {"\xef\xbb\xbf{}", "offset 0: expected a JSON value, found byte 0xEF"},
        {"\v1", "offset 0: expected a JSON value, found byte 0x0B"},
        {"{\"a\":1,\"b\":2,\"a\":3}", "offset 13: duplicate key \"a\""},
        {"{\"a\":1,\"\\u0061\":3}", "offset 7: duplicate key \"a\""},
        {"[{\"k\":{\"x\":1,\"x\":2}}]", "offset 13: duplicate key \"x\""},
        {"{\"\":1,\"\":2}", "offset 6: duplicate key \"\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        /* an exact allocation, so that a sanitizer sees any read past the end */
        size_t length = strlen(cases[i].text);
        char *text = malloc(length ? length : 1);
        assert_non_null(text);
        memcpy(text, cases[i].text, length);
        struct error error = {0};
        cJSON *value = json_parse(text, length, "some.json", &error);
        if (value)
            fail_msg("accepted: %s", cases[i].text);
        assert_error(&error, STATUS_INPUT, STATUS_INPUT, cases[i].message);
        assert_int_equal(strncmp(error.text, "some.json: offset ", 18), 0);
        free(text);
    }
    struct error ended = {0};
    assert_null(json_parse("1\0", 2, "x", &ended));
}

/* Same text as Python's json would read, whatever the layout. */
static void test_well_formed(void **state)
{
    (void)state;
    static const struct {
        const char *text, *printed;
    } cases[] = {
        {" { } ", "{}"},
        {"[]", "[]"},
        {" [ ] ", "[]"},
        {"\t[1\r\n,\n2 ]", "[1, 2]"},
        {"null", "null"},
        {"[true,false,null]", "[true, false, null]"},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\/\\b\\f\\n\\r\\t\""},
        {"\"\\u0001\x7f\"", "\"\\u0001\x7f\""},
        {"\"\\u00e9\\u20AC\\ud83d\\ude00\"", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"{\"a\":{\"a\":{\"a\":1}},\"b\":{\"a\":2}}", "{\"a\": {\"a\": {\"a\": 1}}, \"b\": {\"a\": 2}}"},
        {"{\"a\":1,\"A\":2,\"\\\\a\":3}", "{\"a\": 1, \"A\": 2, \"\\\\a\": 3}"},
        {"[0,-0,1e2,1E+2,-1.50,0.1,1e-05]", "[0, -0, 100, 100, -1.5, 0.1, 1e-05]"},
        {"[3000000000,13476839424,9007199254740991,1e15,1e22]",
         "[3000000000, 13476839424, 9007199254740991, 1000000000000000, 1e+22]"},
        {"[0.30000000000000004,9.99999974737875e-06,5e-324,1.7976931348623157e308]",
         "[0.30000000000000004, 9.99999974737875e-06, 4.94065645841247e-324, 1.7976931348623157e+308]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error = {0};
        struct buffer out = {0};
        size_t length = strlen(cases[i].text);
        char *text = malloc(length);
        assert_non_null(text);
        memcpy(text, cases[i].text, length);
        cJSON *value = json_parse(text, length, "x", &error);
        free(text);
        if (!value)
            fail_msg("%s: %s", cases[i].text, error.text);
        assert_int_equal(json_print(value, &out, &error), STATUS_OK);
        assert_string_equal(out.data, cases[i].printed);
        cJSON_Delete(value);
        buffer_free(&out);
    }
}

static void test_depth(void **state)
{
    (void)state;
    char text[2 * 65];
    for (int depth = 64; depth <= 65; depth++) {
        struct error error = {0};
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        cJSON *value = json_parse(text, 2 * (size_t)depth, "x", &error);
        assert_int_equal(value != NULL, depth == 64);
        if (!value)
            assert_error(&error, STATUS_INPUT, STATUS_INPUT, "offset 64: nested deeper than 64 levels");
        cJSON_Delete(value);
    }
}

/* 300,000 keys, half of them with escapes: linear time, and the one duplicate is still found. */
static void test_large_object(void **state)
{
    (void)state;
    struct buffer text = {0};
    assert_int_equal(buffer_append(&text, "{", 1, NULL), STATUS_OK);
    for (int i = 0; i < 300000; i++)
        assert_int_equal(buffer_printf(&text, NULL, "%s\"%skey%d\":%d", i ? "," : "", i & 1 ? "\\u0120" : "", i, i), 0);
    size_t whole = text.length;
    assert_int_equal(buffer_append(&text, "}", 1, NULL), STATUS_OK);
    cJSON *value = json_parse(text.data, text.length, "x", NULL);
    assert_non_null(value);
    assert_int_equal(cJSON_GetArraySize(value), 300000);
    cJSON_Delete(value);
    text.length = whole;
    assert_int_equal(buffer_printf(&text, NULL, ",\"\\u0120key\\u0031\":0}"), STATUS_OK);
    struct error error = {0};
    assert_null(json_parse(text.data, text.length, "x", &error));
    assert_error(&error, STATUS_INPUT, STATUS_INPUT, "duplicate key \"\xc4\xa0key1\"");
    buffer_free(&text);
}

static void test_members(void **state)
{
    (void)state;
    struct error error = {0};
    const char *text = "{\"s\":\"x\",\"i\":7,\"d\":0.5,\"b\":true,\"n\":null,\"big\":9007199254740992,\"o\":{},"
                       "\"long\":3000000000,\"S\":\"upper\"}";
    cJSON *object = json_parse(text, strlen(text), "c.json", &error);
    assert_non_null(object);
    const char *string = "before";
    int64_t integer = -1;
    double number = -1;
    bool boolean = false;
    assert_int_equal(json_get_string(object, "c.json", "s", &string, &error), STATUS_OK);
    assert_string_equal(string, "x");
    assert_string_equal(json_member(object, "S")->valuestring, "upper");
    assert_null(json_member(object, "D"));
    assert_null(json_member(json_member(object, "s"), "s"));
    string = "before";
    assert_int_equal(json_get_string_or(object, "c.json", "absent", &string, &error), STATUS_OK);
    assert_int_equal(json_get_string_or(object, "c.json", "n", &string, &error), STATUS_OK);
    assert_string_equal(string, "before");
    assert_int_equal(json_get_int_or(object, "c.json", "long", 0, INT64_MAX, &integer, &error), STATUS_OK);
    assert_int_equal(integer, 3000000000);
    assert_int_equal(json_get_double_or(object, "c.json", "d", &number, &error), STATUS_OK);
    assert_true(number == 0.5);
    assert_int_equal(json_get_bool_or(object, "c.json", "b", &boolean, &error), STATUS_OK);
    assert_true(boolean);
    integer = -1;
    assert_error(&error, json_get_string(object, "c.json", "absent", &string, &error), STATUS_INPUT,
                 "c.json: absent: the key is missing; expected a string");
    assert_error(&error, json_get_string(object, "c.json", "n", &string, &error), STATUS_INPUT,
                 "c.json: n: expected a string, found null");
    assert_error(&error, json_get_string_or(object, "c.json", "o", &string, &error), STATUS_INPUT,
                 "c.json: o: expected a string, found an object");
    assert_error(&error, json_get_int_or(object, "c.json", "d", 0, 9, &integer, &error), STATUS_INPUT,
                 "c.json: d: expected an integer from 0 to 9, found 0.5");
    assert_error(&error, json_get_int_or(object, "c.json", "i", 8, 9, &integer, &error), STATUS_INPUT,
                 "c.json: i: expected an integer from 8 to 9, found 7");
    assert_error(&error, json_get_int_or(object, "c.json", "big", 0, INT64_MAX, &integer, &error), STATUS_INPUT,
                 "found 9007199254740992");
    assert_error(&error, json_get_int_or(object, "c.json", "s", 0, 9, &integer, &error), STATUS_INPUT,
                 "c.json: s: expected an integer, found a string");
    assert_error(&error, json_get_double_or(object, "c.json", "b", &number, &error), STATUS_INPUT,
                 "c.json: b: expected a number, found true or false");
    assert_error(&error, json_get_bool_or(object, "c.json", "i", &boolean, &error), STATUS_INPUT,
                 "c.json: i: expected true or false, found a number");
    assert_error(&error, json_get_bool_or(json_member(object, "s"), "c.json", "k", &boolean, &error), STATUS_INPUT,
                 "c.json: expected an object with the key k, found a string");
    assert_int_equal(integer, -1);
    cJSON_Delete(object);
}

/* Doubles survive printing and reading; what is not finite becomes null. */
static void test_numbers(void **state)
{
    (void)state;
    uint64_t bits = 88172645463325252u;
    for (int i = 0; i < 100000; i++) {
        bits ^= bits << 13, bits ^= bits >> 7, bits ^= bits << 17;
        double value;
        memcpy(&value, &bits, sizeof value);
        if (i % 3 == 0)
            value = (float)(i / 1000.0);
        if (!isfinite(value))
            continue;
        cJSON number = {.type = cJSON_Number, .valuedouble = value};
        struct buffer out = {0};
        assert_int_equal(json_print(&number, &out, NULL), STATUS_OK);
        cJSON *back = json_parse(out.data, out.length, "x", NULL);
        assert_non_null(back);
        assert_memory_equal(&back->valuedouble, &value, sizeof value);
        cJSON_Delete(back);
        buffer_free(&out);
    }
    cJSON *object = cJSON_CreateObject();
    struct buffer out = {0};
    assert_true(json_add_number(object, "a", NAN));
    assert_true(json_add_number(object, "b", -INFINITY));
    assert_true(json_add_number(object, "c", 1e-5));
    assert_true(json_add_int(object, "d", 9007199254740991));
    assert_true(json_add_string(object, "e", "x\"y"));
    assert_true(json_add_bool(object, "f", false));
    cJSON_AddArrayToObject(object, "g");
    cJSON_AddItemToArray(cJSON_AddArrayToObject(object, "h"), cJSON_CreateNumber(NAN));
    assert_int_equal(json_print_pretty(object, &out, NULL), STATUS_OK);
    assert_string_equal(out.data, "{\n  \"a\": null,\n  \"b\": null,\n  \"c\": 1e-05,\n  \"d\": 9007199254740991,\n"
                                  "  \"e\": \"x\\\"y\",\n  \"f\": false,\n  \"g\": [],\n  \"h\": [\n    null\n  ]\n}");
    buffer_free(&out);
    cJSON_Delete(object);
}

static void test_read(void **state)
{
    (void)state;
    struct error error = {0};
    cJSON *value = json_read(temporary_file("a.json", "{\"a\":1}\n", 8), &error);
    assert_non_null(value);
    cJSON_Delete(value);
    assert_null(json_read(temporary_path("none.json"), &error));
    assert_error(&error, STATUS_INPUT, STATUS_INPUT, "none.json: cannot be opened: No such file or directory");
    assert_null(json_read(temporary, &error));
    assert_error(&error, STATUS_INPUT, STATUS_INPUT, "is a directory");
    assert_null(json_read(temporary_file("b.json", "{\"a\":1", 6), &error));
    assert_error(&error, STATUS_INPUT, STATUS_INPUT, "b.json: offset 6: expected ',' or '}', found the end");
}

/* What Python's json module writes: bare words for what is no finite number, and its own form of numbers. */
static void test_python(void **state)
{
    (void)state;
    struct error error = {0};
    const char *text = "{\"NaN\": [NaN, -Infinity, Infinity, -1.5, \"NaN\", \"\\\"NaN\", null, []], "
                       "\"-Infinity\": {\"Infinity\":NaN, \"k\":\"Infinity\"}}";
    cJSON *value = json_parse_python(text, strlen(text), "p.json", &error);
    if (!value)
        fail_msg("%s", error.text);
    struct buffer printed = {0};
    assert_int_equal(json_python_print(value, &printed, &error), STATUS_OK);
    assert_string_equal(printed.data, "{\n    \"NaN\": [\n        NaN,\n        -Infinity,\n        Infinity,\n        -1.5,\n"
                                      "        \"NaN\",\n        \"\\\"NaN\",\n        null,\n        []\n    ],\n"
                                      "    \"-Infinity\": {\n        \"Infinity\": NaN,\n        \"k\": \"Infinity\"\n    }\n}");
    buffer_free(&printed);
    cJSON_Delete(value);
    static const char *const malformed[] = {"",        "nan",     "NaNN",      "--Infinity", "[NaN",
                                            "{NaN: 1", "\"NaN", "Infinity1", "\"\\",     "-"};
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        assert_null(json_parse_python(malformed[i], strlen(malformed[i]), "p.json", &error));
        assert_error(&error, STATUS_INPUT, STATUS_INPUT, "p.json: offset ");
    }
    value = json_read("tests/golden/metrics/numbers.json", &error);
    assert_non_null(value);
    const cJSON *pair;
    int count = 0;
    cJSON_ArrayForEach(pair, json_member(value, "numbers"))
    {
        uint64_t bits = strtoull(cJSON_GetArrayItem(pair, 0)->valuestring, NULL, 16);
        struct buffer out = {0};
        double wanted;
        memcpy(&wanted, &bits, sizeof wanted);
        assert_int_equal(json_python_print_number(wanted, &out, &error), STATUS_OK);
        assert_string_equal(out.data, cJSON_GetArrayItem(pair, 1)->valuestring);
        buffer_free(&out);
        count++;
    }
    assert_int_equal(count, 278);
    cJSON_Delete(value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malformed), cmocka_unit_test(test_well_formed), cmocka_unit_test(test_depth),
        cmocka_unit_test(test_large_object), cmocka_unit_test(test_members), cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_read), cmocka_unit_test(test_python),
    };
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

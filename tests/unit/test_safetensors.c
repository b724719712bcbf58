/* test_safetensors.c - conversions, hostile headers, round trips, sharded sets, and what a failed write leaves. */
#include "../support/temporary.h"

#include <limits.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>

#include "../../host/io/safetensors/safetensors.h"
#include "../../host/util/file.h"
#include "../../host/util/memory.h"

/* A 16-bit float by its definition. */
static double value_of(uint16_t bits, int mantissa_bits, int exponent_bits)
{
    int exponent = bits >> mantissa_bits & ((1 << exponent_bits) - 1), bias = (1 << (exponent_bits - 1)) - 1;
    double mantissa = bits & ((1 << mantissa_bits) - 1), sign = bits & 0x8000 ? -1 : 1;
    if (exponent == (1 << exponent_bits) - 1)
        return mantissa ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
    return sign * ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

static uint16_t bits_of(float value, int mantissa_bits)
{
    return mantissa_bits == 7 ? bf16_from_float(value) : f16_from_float(value);
}

/* Every pattern both ways, and the rounding of the midpoint to its upper neighbour and of what lies next to it. */
static void check_format(int mantissa_bits, int exponent_bits)
{
    const uint16_t infinity = (uint16_t)(((1 << exponent_bits) - 1) << mantissa_bits);
    for (uint32_t i = 0; i <= 0xffff; i++) {
        uint16_t bits = (uint16_t)i;
        float value = mantissa_bits == 7 ? float_from_bf16(bits) : float_from_f16(bits);
        double expected = value_of(bits, mantissa_bits, exponent_bits);
        if (isnan(expected)) {
            assert_true(isnan(value));
            assert_true(isnan(value_of(bits_of(value, mantissa_bits), mantissa_bits, exponent_bits)));
            assert_int_equal(bits_of(value, mantissa_bits) & 0x8000, bits & 0x8000);
            continue;
        }
        assert_true(value == expected && !signbit(value) == !signbit(expected));
        assert_int_equal(bits_of(value, mantissa_bits), bits);
        if ((bits & 0x7fff) >= infinity)
            continue;
        /* the neighbour away from zero; beyond the largest number its value were infinity finite */
        double next = (bits & 0x7fff) + 1 < infinity
                          ? value_of((uint16_t)(bits + 1), mantissa_bits, exponent_bits)
                          : copysign(ldexp(1, (1 << (exponent_bits - 1))), expected);
        float middle = (float)((expected + next) / 2);
        assert_true(middle == (expected + next) / 2);
        assert_int_equal(bits_of(middle, mantissa_bits), bits + (bits & 1));
        assert_int_equal(bits_of(nextafterf(middle, 0), mantissa_bits), bits);
        assert_int_equal(bits_of(nextafterf(middle, copysignf(INFINITY, middle)), mantissa_bits), bits + 1);
    }
}

static void test_conversions(void **state)
{
    (void)state;
    check_format(7, 8);
    check_format(10, 5);
    assert_int_equal(f16_from_float(1e30f), 0x7c00);
    assert_int_equal(f16_from_float(-INFINITY), 0xfc00);
    assert_int_equal(f16_from_float(1e-30f), 0);
    assert_int_equal(bf16_from_float(float_from_bits(0x7f800001)), 0x7fc0);
    assert_int_equal(bf16_from_float(float_from_bits(0xffffffff)), 0xffff);
}

/* A file of a header of `length` bytes (its own length when 0) and data_bytes of data: 0, 1, 2, ... */
static const char *file_make(const char *name, const char *header, uint64_t length, size_t data_bytes)
{
    size_t header_bytes = strlen(header);
    unsigned char *bytes = malloc(8 + header_bytes + data_bytes);
    assert_non_null(bytes);
    if (!length)
        length = header_bytes;
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(length >> 8 * i);
    memcpy(bytes + 8, header, header_bytes);
    for (size_t i = 0; i < data_bytes; i++)
        bytes[8 + header_bytes + i] = (unsigned char)i;
    const char *path = temporary_file(name, bytes, 8 + header_bytes + data_bytes);
    free(bytes);
    return path;
}

/* One tensor's description. */
#define T(dtype, shape, begin, end) \
    "{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" begin "," end "]}"

static void test_malformed(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        uint64_t length; /* 0: the true one */
        size_t data_bytes;
        const char *message;
    } cases[] = {
        /* the length */
        {"{}", 100000001, 0, "offset 0: header length 100000001; at most 100000000"},
        {"{}", UINT64_MAX, 0, "offset 0: header length 18446744073709551615; at most"},
        {"{}", 3, 0, "offset 0: header length 3, but only 2 bytes follow"},
        {"{}", 100000000, 0, "but only 2 bytes follow"},
        {"{}  ", 1, 0, "header: offset 1: expected a key in double quotes, found the end"},
        /* syntax */
        {" {}", 0, 0, "header: offset 0: expected '{' as the header's first byte, found byte 0x20"},
        {"[]", 0, 0, "header: offset 0: expected '{' as the header's first byte"},
        {"{}x", 0, 0, "header: offset 2: expected the end of the text, found 'x'"},
        {"{}\0", 3, 1, "header: offset 2: expected the end of the text, found byte 0x00"},
        {"{\"a\":1}", 0, 0, "tensor \"a\": offset 5: expected '{', found '1'"},
        {"{\"a\xff\":1}", 0, 0, "header: offset 3: expected UTF-8"},
        {"{\"a\":" T("F32", "", "0", "4") ",}", 0, 4, "expected a key in double quotes"},
        {"{\"a\":" T("F32", "", "0", "4") ",\"a\":" T("F32", "", "4", "8") "}", 0, 8, "duplicate key \"a\""},
        {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 0, 4,
         "duplicate key \"dtype\""},
        /* members */
        {"{\"__metadata__\":{\"a\":1}}", 0, 0,
         "__metadata__: offset 21: expected a string in double quotes, found '1'"},
        {"{\"__metadata__\":[]}", 0, 0, "__metadata__: offset 16: expected '{'"},
        {"{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", 0, 0, "duplicate key \"a\""},
        {"{\"a\":{\"shape\":[],\"data_offsets\":[0,4]}}", 0, 4, "tensor \"a\": the key \"dtype\" is missing"},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 0, 4, "tensor \"a\": the key \"shape\" is missing"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 0, 4, "tensor \"a\": the key \"data_offsets\" is missing"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4],\"x\":0}}", 0, 4,
         "tensor \"a\": unknown key \"x\""},
        {"{\"a\":" T("F33", "", "0", "4") "}", 0, 4, "tensor \"a\": unknown dtype \"F33\""},
        {"{\"a\":" T("f32", "", "0", "4") "}", 0, 4, "tensor \"a\": unknown dtype \"f32\""},
        {"{\"a\":{\"dtype\":3,\"shape\":[],\"data_offsets\":[0,4]}}", 0, 4, "expected a string in double quotes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":{},\"data_offsets\":[0,4]}}", 0, 4, "expected '[', found '{'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0]}}", 0, 4, "data_offsets must be two numbers"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4,8]}}", 0, 4, "data_offsets has more than 2"},
        {"{\"a\":" T("F32", "-1", "0", "4") "}", 0, 4, "expected a non-negative integer, found '-'"},
        {"{\"a\":" T("F32", "1.0", "0", "4") "}", 0, 4, "expected a non-negative integer, found '.'"},
        {"{\"a\":" T("F32", "1e0", "0", "4") "}", 0, 4, "expected a non-negative integer, found 'e'"},
        {"{\"a\":" T("F32", "\"1\"", "0", "4") "}", 0, 4, "expected a non-negative integer, found '\"'"},
        {"{\"a\":" T("F32", "null", "0", "4") "}", 0, 4, "expected a non-negative integer, found 'n'"},
        {"{\"a\":" T("F32", "[1]", "0", "4") "}", 0, 4, "expected a non-negative integer, found '['"},
        {"{\"a\":" T("F32", "1,1,1,1,1,1,1,1,1", "0", "4") "}", 0, 4, "shape has more than 8 numbers"},
        {"{\"a\":" T("F32", "18446744073709551616", "0", "4") "}", 0, 4, "an integer above 2^64 - 1"},
        /* sizes */
        {"{\"a\":" T("F32", "9223372036854775808", "0", "4") "}", 0, 4, "tensor \"a\": the shape's product overflows"},
        {"{\"a\":" T("F32", "4294967296,4294967296", "0", "0") "}", 0, 0,
         "tensor \"a\": the shape's product overflows"},
        {"{\"a\":" T("F32", "9223372036854775807,3,0", "0", "0") "}", 0, 0, "the shape's product overflows"},
        {"{\"a\":" T("F32", "4611686018427387904", "0", "0") "}", 0, 0, "tensor \"a\": the size in bits overflows"},
        {"{\"a\":" T("F4", "3", "0", "1") "}", 0, 1, "tensor \"a\": 3 elements of 4 bits do not fill whole bytes"},
        {"{\"a\":" T("F6_E2M3", "2", "0", "1") "}", 0, 1, "2 elements of 6 bits do not fill whole bytes"},
        {"{\"a\":" T("F32", "2", "0", "4") "}", 0, 4, "data_offsets [0, 4] hold 4 bytes, but dtype and shape need 8"},
        {"{\"a\":" T("BF16", "1", "0", "4") "}", 0, 4, "data_offsets [0, 4] hold 4 bytes, but dtype and shape need 2"},
        {"{\"a\":" T("F32", "1", "4", "0") "}", 0, 4, "tensor \"a\": data_offsets [4, 0] end before they begin"},
        /* layout */
        {"{\"a\":" T("F32", "1", "4", "8") "}", 0, 8, "tensor \"a\": begins at data offset 4, but bytes from 0 on"},
        {"{\"a\":" T("F32", "1", "0", "4") ",\"b\":" T("F32", "1", "8", "12") "}", 0, 12,
         "tensor \"b\": begins at data offset 8, but bytes from 4 on"},
        {"{\"a\":" T("F32", "1", "0", "4") ",\"b\":" T("F32", "1", "0", "4") "}", 0, 4,
         "tensor \"b\": begins at data offset 0, inside tensor \"a\""},
        {"{\"a\":" T("F32", "2", "0", "8") ",\"b\":" T("F32", "1", "4", "8") "}", 0, 8,
         "tensor \"b\": begins at data offset 4, inside tensor \"a\" that ends at 8"},
        {"{\"a\":" T("F32", "1", "0", "4") ",\"b\":" T("F32", "0", "2", "2") "}", 0, 4,
         "tensor \"b\": begins at data offset 2, inside"},
        {"{\"a\":" T("F32", "1", "0", "4") "}", 0, 3, "promises 4 bytes of data, the file has 3; was it cut short?"},
        {"{\"a\":" T("F32", "1", "0", "4") "}", 0, 5, "1 bytes after the last tensor's data belong to no tensor"},
        {"{}", 0, 7, "7 bytes after the last tensor's data"},
        {"{\"a\":" T("U8", "9223372036854775807", "0", "9223372036854775807") "}", 0, 0, "the size in bits overflows"},
        {"{\"a\":" T("U8", "1152921504606846976", "0", "1152921504606846976") "}", 0, 0,
         "promises 1152921504606846976 bytes"},
        {"{\"a\":" T("U8", "1", "18446744073709551615", "18446744073709551616") "}", 0, 0, "an integer above 2^64 - 1"},
        {"{\"a\":" T("U8", "0", "18446744073709551615", "18446744073709551615") "}", 0, 0,
         "begins at data offset 18446744073709551615"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct safetensors file;
        struct error error = {0};
        const char *path = file_make("bad.safetensors", cases[i].header, cases[i].length, cases[i].data_bytes);
        int status = safetensors_open_file(&file, path, &error);
        assert_error(&error, status, STATUS_INPUT, cases[i].message);
        assert_int_equal(strncmp(error.text, path, strlen(path)), 0);
        assert_null(file.tensor);
    }
}

/* Headers that are too large to write down. */
static void test_hostile(void **state)
{
    (void)state;
    struct safetensors file;
    struct error error = {0};
    char *deep = calloc(1, 1000002);
    assert_non_null(deep);
    memset(deep, '[', 1000001);
    memcpy(deep, "{\"a\":", 5);
    const char *path = file_make("deep.safetensors", deep, 0, 0);
    assert_error(&error, safetensors_open_file(&file, path, &error), STATUS_INPUT, "nested deeper than 64 levels");
    memset(deep, 'x', 1000001);
    memcpy(deep, "{\"", 2);
    strcpy(deep + 999000, "\":1}");
    path = file_make("long.safetensors", deep, 0, 0);
    assert_error(&error, safetensors_open_file(&file, path, &error), STATUS_INPUT, "expected '{', found '1'");
    free(deep);
    /* 100,000 tensors on the same bytes: the small file that asks for much memory */
    struct buffer header = {0};
    for (int i = 0; i < 100000; i++)
        assert_int_equal(buffer_printf(&header, NULL, "%c\"%d\":" T("F32", "1024", "0", "4096"), i ? ',' : '{', i), 0);
    assert_int_equal(buffer_printf(&header, NULL, "}"), 0);
    path = file_make("many.safetensors", header.data, 0, 4096);
    assert_error(&error, safetensors_open_file(&file, path, &error), STATUS_INPUT, "begins at data offset 0, inside");
    buffer_free(&header);
    for (size_t length = 0; length < 10; length++) {
        path = temporary_file("short.safetensors", "\2\0\0\0\0\0\0\0{}", length);
        int status = safetensors_open_file(&file, path, &error);
        assert_error(&error, status, STATUS_INPUT, length < 8 ? "a safetensors file has at least 10" : "bytes follow");
    }
    assert_error(&error, safetensors_open_file(&file, temporary, &error), STATUS_INPUT, "is not a regular file");
    assert_error(&error, safetensors_open_file(&file, temporary_path("none"), &error), STATUS_INPUT,
                 "none: cannot be opened: No such file");
    assert_int_equal(mkfifo(temporary_path("pipe"), 0600), 0);
    assert_error(&error, safetensors_open_file(&file, temporary_path("pipe"), &error), STATUS_INPUT,
                 "is not a regular file");
}

static void test_well_formed(void **state)
{
    (void)state;
    struct safetensors file;
    struct error error = {0};
    /* an unpadded header of odd length, space after it, keys in any order, 0-d, empty and sub-byte tensors, offsets
     * not in the order of names */
    const char *path = file_make(
        "good.safetensors",
        "{ \"z\\u0065ro\" :{\"data_offsets\":[0,4] , \"shape\":[ ],\"dtype\":\"F32\"},"
        "\"__metadata__\":{\"format\":\"pt\",\"x\":\"\"},"
        "\"empty\":" T("BF16", "3,0,5", "4", "4") ",\"alpha\":" T("F4", "2,3", "4", "7") ",\"bool\":" T("BOOL", "1",
            "7", "8") "}  \n",
        0, 8);
    if (safetensors_open_file(&file, path, &error))
        fail_msg("%s", error.text);
    assert_int_equal(file.tensors, 4);
    assert_int_equal(file.shards, 1);
    assert_null(file.index_name);
    assert_string_equal(file.shard_name[0], "good.safetensors");
    static const char *const order[] = {"zero", "empty", "alpha", "bool"};
    for (int i = 0; i < 4; i++) {
        assert_string_equal(file.tensor[i].name, order[i]);
        assert_ptr_equal(safetensors_find(&file, order[i]), &file.tensor[i]);
    }
    assert_null(safetensors_find(&file, "zer"));
    const struct safetensors_tensor *zero = &file.tensor[0], *empty = &file.tensor[1], *alpha = &file.tensor[2];
    assert_int_equal(zero->dims, 0);
    assert_int_equal(zero->elements, 1);
    assert_int_equal(empty->elements, 0);
    assert_int_equal(empty->dims, 3);
    assert_int_equal(alpha->dtype, SAFETENSORS_OTHER);
    assert_string_equal(alpha->dtype_text, "F4");
    assert_int_equal(alpha->bytes, 3);
    uint32_t bits;
    float value;
    unsigned char bytes[3];
    assert_int_equal(safetensors_read_float(&file, zero, 0, 1, &value, &error), STATUS_OK);
    memcpy(&bits, &value, sizeof bits);
    assert_int_equal(bits, 0x03020100);
    assert_int_equal(safetensors_read_float(&file, empty, 0, 0, &value, &error), STATUS_OK);
    assert_int_equal(safetensors_read_bytes(&file, alpha, 1, 2, bytes, &error), STATUS_OK);
    assert_int_equal(bytes[1], 6);
    assert_error(&error, safetensors_read_float(&file, zero, 1, 1, &value, &error), STATUS_RUNTIME,
                 "good.safetensors: tensor \"zero\": elements outside the tensor");
    assert_error(&error, safetensors_read_float(&file, zero, -1, 1, &value, &error), STATUS_RUNTIME, "outside");
    assert_error(&error, safetensors_read_float(&file, zero, 1, INT64_MAX, &value, &error), STATUS_RUNTIME, "outside");
    assert_error(&error, safetensors_read_bytes(&file, alpha, 2, UINT64_MAX, bytes, &error), STATUS_RUNTIME, "bytes");
    assert_error(&error, safetensors_read_float(&file, alpha, 0, 1, &value, &error), STATUS_INPUT,
                 "good.safetensors: tensor \"alpha\": has dtype F4; expected F32, F16, BF16 or F64");
    /* cut short while it is open: an error, no signal */
    assert_int_equal(truncate(path, 200), 0);
    assert_error(&error, safetensors_read_bytes(&file, alpha, 0, 3, bytes, &error), STATUS_INPUT,
                 "good.safetensors: tensor \"alpha\": offset");
    safetensors_close(&file);
    safetensors_close(&file);
    assert_int_equal(safetensors_open_file(&file, file_make("none.safetensors", "{}", 0, 0), &error), STATUS_OK);
    assert_int_equal(file.tensors, 0);
    assert_null(safetensors_find(&file, ""));
    safetensors_close(&file);
}

/* What the entries of a test are filled from. */
static int fill_from(void *user, int entry, uint64_t first, uint64_t bytes, void *out, struct error *error)
{
    unsigned char *const *data = user;
    (void)error;
    memcpy(out, data[entry] + first, bytes);
    return STATUS_OK;
}

static int fill_fail(void *user, int entry, uint64_t first, uint64_t bytes, void *out, struct error *error)
{
    (void)user, (void)first;
    memset(out, 0, bytes);
    return entry == 1 ? error_set(error, STATUS_NONFINITE, "not a number") : STATUS_OK;
}

/* Larger than one piece of reader and writer, in every float type, with awkward names. */
static void test_round_trip(void **state)
{
    (void)state;
    enum { COUNT = 6, ROWS = 1031, COLUMNS = 1277 };
    const int64_t elements = ROWS * COLUMNS;
    struct safetensors_entry entries[COUNT] = {
        {"model.a\"\\\n\xc3\xa9", SAFETENSORS_F32, NULL, 2, {ROWS, COLUMNS}, 4 * elements},
        {"b", SAFETENSORS_BF16, NULL, 2, {ROWS, COLUMNS}, 2 * elements},
        {"c", SAFETENSORS_F16, NULL, 2, {ROWS, COLUMNS}, 2 * elements},
        {"d", SAFETENSORS_F64, NULL, 2, {ROWS, COLUMNS}, 8 * elements},
        {"e", SAFETENSORS_OTHER, "BOOL", 1, {3}, 3},
        {"f", SAFETENSORS_I64, NULL, 0, {0}, 8},
    };
    unsigned char *data[COUNT];
    uint64_t random = 88172645463325252u;
    for (int i = 0; i < COUNT; i++) {
        assert_non_null(data[i] = calloc(1, entries[i].bytes));
        for (uint64_t k = 0; k < entries[i].bytes; k++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            data[i][k] = (unsigned char)random;
        }
    }
    struct safetensors file;
    struct error error = {0};
    const char *path = temporary_path("trip.safetensors");
    if (safetensors_write(path, entries, COUNT, fill_from, data, &error) || safetensors_open_file(&file, path, &error))
        fail_msg("%s", error.text);
    char head[64] = "";
    FILE *stream = fopen(path, "rb");
    assert_non_null(stream);
    assert_int_equal(fread(head, 1, sizeof head - 1, stream), sizeof head - 1);
    fclose(stream);
    static const char start[] = "{\"__metadata__\":{\"format\":\"pt\"},\"model.a";
    assert_memory_equal(head + 8, start, sizeof start - 1);
    assert_int_equal(head[0] % 8, 0);
    assert_int_equal(file.tensors, COUNT);
    float *single = calloc((size_t)elements, sizeof *single);
    double *wide = calloc((size_t)elements, sizeof *wide);
    unsigned char *bytes = calloc((size_t)elements, 8);
    assert_true(single && wide && bytes);
    for (int i = 0; i < COUNT; i++) {
        const struct safetensors_tensor *tensor = safetensors_find(&file, entries[i].name);
        assert_ptr_equal(tensor, &file.tensor[i]);
        assert_int_equal(tensor->dtype, entries[i].dtype);
        assert_int_equal(tensor->dims, entries[i].dims);
        for (int k = 0; k < tensor->dims; k++)
            assert_int_equal(tensor->shape[k], entries[i].shape[k]);
        assert_int_equal(safetensors_read_bytes(&file, tensor, 0, tensor->bytes, bytes, &error), STATUS_OK);
        assert_memory_equal(bytes, data[i], tensor->bytes);
        if (i > 3)
            continue;
        /* a part that begins and ends inside pieces */
        const int64_t first = 12345, count = elements - 2 * first;
        assert_int_equal(safetensors_read_float(&file, tensor, first, count, single, &error), STATUS_OK);
        assert_int_equal(safetensors_read_double(&file, tensor, first, count, wide, &error), STATUS_OK);
        for (int64_t k = 0; k < count; k++) {
            float as_float;
            double expected;
            const unsigned char *from = data[i] + (size_t)(first + k) * (entries[i].bytes / (uint64_t)elements);
            uint16_t half;
            memcpy(&half, from, sizeof half);
            if (i == 0)
                memcpy(&as_float, from, sizeof as_float);
            if (i == 3)
                memcpy(&expected, from, sizeof expected);
            else
                expected = i == 0 ? as_float : i == 1 ? value_of(half, 7, 8) : value_of(half, 10, 5);
            if (isnan(expected) ? !isnan(wide[k]) || !isnan(single[k])
                                : wide[k] != expected || single[k] != (float)expected)
                fail_msg("tensor %d, element %lld: %.17g, %.9g, %.17g", i, (long long)k, expected, single[k], wide[k]);
        }
    }
    safetensors_close(&file);
    for (int i = 0; i < COUNT; i++)
        free(data[i]);
    free(single);
    free(wide);
    free(bytes);
}

static void test_write_failures(void **state)
{
    (void)state;
    struct error error = {0};
    static const struct safetensors_entry entries[] = {{"a", SAFETENSORS_F32, NULL, 1, {16384}, 65536},
                                                       {"b", SAFETENSORS_F32, NULL, 1, {1}, 4},
                                                       {"a", SAFETENSORS_F32, NULL, 1, {1}, 4},
                                                       {"c", SAFETENSORS_F32, NULL, 1, {2}, 4}};
    unsigned char *data[2] = {calloc(1, 65536), calloc(1, 4)};
    assert_true(data[0] && data[1]);
    const char *path = temporary_file("kept.safetensors", "old", 3);
    int before = temporary_count();
    assert_error(&error, safetensors_write(path, entries, 2, fill_fail, NULL, &error), STATUS_NONFINITE, "not a num");
    assert_error(&error, safetensors_write(path, entries, 3, fill_fail, NULL, &error), STATUS_RUNTIME, "duplicate key");
    assert_error(&error, safetensors_write(path, entries + 3, 1, fill_fail, NULL, &error), STATUS_RUNTIME,
                 "hold 4 bytes, but dtype and shape need 8");
    assert_error(&error, safetensors_write(temporary_path("no/x"), entries, 2, fill_from, data, &error), STATUS_RUNTIME,
                 "no/x: cannot be written: No such file or directory");
    struct rlimit old, limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit = old;
    limit.rlim_cur = 8192;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    int status = safetensors_write(path, entries, 2, fill_from, data, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    assert_error(&error, status, STATUS_RUNTIME, "kept.safetensors: cannot be written: File too large");
    char *kept;
    size_t length;
    assert_int_equal(file_read(path, 100, &kept, &length, &error), STATUS_OK);
    assert_string_equal(kept, "old");
    assert_int_equal(temporary_count(), before);
    free(kept);
    free(data[0]);
    free(data[1]);
}

#define ONE "one.safetensors"
#define TWO "two.safetensors"
#define INDEX "model.safetensors.index.json"

static void test_sharded(void **state)
{
    (void)state;
    static const struct {
        const char *index, *message; /* NULL: opens */
    } cases[] = {
        {"{\"metadata\":{\"total_size\":8},\"weight_map\":{\"b\":\"" TWO "\",\"a\":\"" ONE "\"}}", NULL},
        {"{\"weight_map\":{\"a\":\"" ONE "\",\"b\":\"" ONE "\"}}", "tensor \"b\" is not in " ONE ", but in no shard"},
        {"{\"weight_map\":{\"a\":\"" TWO "\",\"b\":\"" ONE "\"}}", "tensor \"a\" is not in " TWO ", but in " ONE},
        {"{\"weight_map\":{\"a\":\"" ONE "\",\"b\":\"" TWO "\",\"c\":\"" TWO "\"}}", "\"c\" is not in " TWO
         ", but in no shard"},
        {"{\"weight_map\":{\"a\":\"" ONE "\",\"b\":\"" TWO "\",\"c\":\"again.safetensors\"}}",
         "\"a\": is also in again.safetensors"},
        {"{\"weight_map\":{\"a\":\"" ONE "\",\"b\":\"three.safetensors\"}}", "three.safetensors: cannot be opened"},
        {"{\"weight_map\":{\"a\":\"../" ONE "\"}}", "weight_map: \"a\": \"../" ONE "\" is not the name of a file in"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "is not the name of a file in this folder"},
        {"{\"weight_map\":{\"a\":\"..\"}}", "is not the name of a file in this folder"},
        {"{\"weight_map\":{\"a\":\".hidden\"}}", "is not the name of a file in this folder"},
        {"{\"weight_map\":{\"a\":\"\"}}", "is not the name of a file in this folder"},
        {"{\"weight_map\":{\"a\":1}}", "weight_map: \"a\": expected a shard's file name"},
        {"{\"weight_map\":{}}", "weight_map: expected an object"},
        {"{\"weight_map\":[\"" ONE "\"]}", "weight_map: expected an object"},
        {"{}", "weight_map: expected an object"},
        {"[]", "weight_map: expected an object"},
        {"{\"weight_map\":{\"a\":\"" ONE "\",\"a\":\"" TWO "\"}}", "duplicate key \"a\""},
        {"{\"weight_map\":", INDEX ": offset 14: expected a JSON value"},
    };
    struct safetensors file;
    struct error error = {0};
    char directory[300], name[400];
    snprintf(directory, sizeof directory, "%s/sharded", temporary);
    assert_int_equal(mkdir(directory, 0700), 0);
    assert_error(&error, safetensors_open(&file, directory, &error), STATUS_INPUT,
                 "sharded: has neither model.safetensors nor model.safetensors.index.json");
    file_make("sharded/" ONE, "{\"a\":" T("F32", "1", "0", "4") "}", 0, 4);
    file_make("sharded/" TWO, "{\"b\":" T("F32", "1", "0", "4") "}", 0, 4);
    file_make("sharded/again.safetensors", "{\"a\":" T("F32", "1", "0", "4") ",\"c\":" T("F32", "1", "4", "8") "}", 0,
        8);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        temporary_file("sharded/" INDEX, cases[i].index, strlen(cases[i].index));
        int status = safetensors_open(&file, directory, &error);
        if (cases[i].message) {
            assert_error(&error, status, STATUS_INPUT, cases[i].message);
            assert_null(file.shard_name);
            assert_non_null(strstr(error.text, temporary));
            continue;
        }
        if (status)
            fail_msg("%s", error.text);
        assert_int_equal(file.shards, 2);
        assert_int_equal(file.tensors, 2);
        assert_string_equal(file.index_name, INDEX);
        assert_string_equal(file.shard_name[0], ONE);
        assert_string_equal(file.shard_name[safetensors_find(&file, "b")->shard], TWO);
        float value;
        assert_int_equal(safetensors_read_float(&file, safetensors_find(&file, "b"), 0, 1, &value, &error), STATUS_OK);
        safetensors_close(&file);
    }
    /* a tensor that the index does not list */
    snprintf(name, sizeof name, "{\"weight_map\":{\"c\":\"again.safetensors\",\"b\":\"" TWO "\"}}");
    temporary_file("sharded/" INDEX, name, strlen(name));
    assert_error(&error, safetensors_open(&file, directory, &error), STATUS_INPUT,
                 "again.safetensors: tensor \"a\": is missing in the weight_map of");
    /* a single file is preferred */
    file_make("sharded/model.safetensors", "{\"a\":" T("F32", "1", "0", "4") "}", 0, 4);
    assert_int_equal(safetensors_open(&file, directory, &error), STATUS_OK);
    assert_int_equal(file.tensors, 1);
    assert_null(file.index_name);
    safetensors_close(&file);
}

/* Every truncation and every flipped bit of a real file's head either opens or ends in one line. */
static void test_mutations(void **state)
{
    (void)state;
    const char *header = "{\"__metadata__\":{\"format\":\"pt\"},\"a\":" T("F32", "2,2", "0", "16") ",\"b\":" T("BF16",
        "3", "16", "22") "}";
    char *bytes;
    size_t length;
    struct error error = {0};
    assert_int_equal(file_read(file_make("m.safetensors", header, 0, 22), 1000, &bytes, &length, &error), STATUS_OK);
    struct safetensors file;
    int opened = 0;
    for (size_t cut = 0; cut < length; cut++) {
        const char *path = temporary_file("m.safetensors", bytes, cut);
        int status = safetensors_open_file(&file, path, &error);
        assert_error(&error, status, STATUS_INPUT, "m.safetensors: ");
    }
    for (size_t bit = 0; bit < 8 * (length - 22); bit++) {
        bytes[bit / 8] ^= (char)(1 << bit % 8);
        const char *path = temporary_file("m.safetensors", bytes, length);
        int status = safetensors_open_file(&file, path, &error);
        if (status)
            assert_error(&error, status, STATUS_INPUT, "m.safetensors: ");
        else
            opened++;
        safetensors_close(&file);
        bytes[bit / 8] ^= (char)(1 << bit % 8);
    }
    /* what may change unnoticed: letters of names and of metadata, and a dtype into another of the same width */
    assert_in_range(opened, 1, 8 * 40);
    free(bytes);
}

static void test_real_model(void **state)
{
    (void)state;
    const char *shared = getenv("FLAT_SHARED");
    char path[600];
    struct safetensors file;
    struct error error = {0};
    snprintf(path, sizeof path, "%s/data/stories260k", shared ? shared : "../shared");
    if (!file_exists(path)) {
        print_message("skipped: %s is not there\n", path);
        skip();
    }
    if (safetensors_open(&file, path, &error))
        fail_msg("%s", error.text);
    const struct safetensors_tensor *embedding = safetensors_find(&file, "model.embed_tokens.weight");
    assert_non_null(embedding);
    assert_int_equal(embedding->shape[0], 512);
    assert_int_equal(embedding->shape[1], 64);
    safetensors_close(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conversions), cmocka_unit_test(test_malformed),  cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_well_formed), cmocka_unit_test(test_round_trip), cmocka_unit_test(test_write_failures),
        cmocka_unit_test(test_sharded),     cmocka_unit_test(test_mutations),  cmocka_unit_test(test_real_model),
    };
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

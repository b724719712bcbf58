/* test_hidden_target.c - squared distances of hidden states and their gradients: one target or one for each row, in place, at
 * odd addresses; the published values of RMU; counted bytes.
 */
#include "../support/op_test.h"

#include <math.h>

#include "../../host/io/json/json.h"
#include "../support/program.h"

enum target_kind { ONE, ROWS, SUMS };

static void target_check(struct op_test *t, int64_t rows, int64_t cols, int64_t offset, enum target_kind kind, bool alias)
{
    const size_t s = dtype_size(t->dtype);
    const int64_t count = rows * cols, targets = kind == ONE ? cols : count;
    double *x = values_random(t, count + offset, 1), *residual = values_random(t, count, 2);
    double *target = values_random(t, targets, 3), *more = values_random(t, count, 4);
    values_round(t->dtype, x, count + offset), values_round(t->dtype, residual, count);
    values_round(t->dtype, target, targets), values_round(t->dtype, more, count);
    char *device_x = device_from(t, t->dtype, x, count + offset);
    void *out = alias ? device_x + (size_t)offset * s : device_new(t, t->dtype, count), *value = device_new(t, t->stat, rows);
    OP_CALL(t, hidden_target, hidden_target_args, .dtype = t->dtype, .rows = rows, .cols = cols,
            .x = device_x + (size_t)offset * s, .residual = device_from(t, t->dtype, residual, count),
            .target = device_from(t, t->dtype, target, targets),
            .target_residual = kind == SUMS ? device_from(t, t->dtype, more, count) : NULL, .one_target = kind == ONE,
            .gradient = out, .value = value);
    const double *got = values_from(t, t->dtype, out, count), *sums = values_from(t, t->stat, value, rows);
    const double eps = t->dtype == DTYPE_F64 ? 0x1p-53 : 0x1p-24, rounding = t->dtype == DTYPE_BF16 ? 0x1p-8 : eps;
    for (int64_t i = 0; i < rows; i++) {
        double sum = 0, size = 0;
        for (int64_t v = 0; v < cols; v++) {
            const int64_t k = i * cols + v;
            const double u = target[kind == ONE ? v : k] + (kind == SUMS ? more[k] : 0);
            const double distance = x[k + offset] + residual[k] - u, parts = fabs(x[k + offset]) + fabs(residual[k]) + fabs(u) + 2;
            const double expected = 2 * distance / (double)cols;
            if (!(fabs(got[k] - expected) <= 8 * eps * parts / (double)cols + 2 * rounding * fabs(expected)))
                fail_msg("gradient %d: %.9g, expected %.9g", (int)k, got[k], expected);
            sum += distance * distance, size += distance * distance + parts * fabs(distance);
        }
        if (!(fabs(sums[i] - sum / (double)cols) <= 40 * eps * size / (double)cols))
            fail_msg("value %d: %.9g, expected %.9g", (int)i, sums[i], sum / (double)cols);
    }
}

static void test_hidden_target(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_VARIANTS; e++)
        for (int threads = 1; threads <= 3; threads++) {
            struct op_test *t = op_test_open(op_test_engines[e], threads);
            for (enum target_kind kind = ONE; kind <= SUMS; kind++) {
                target_check(t, 91, 576, 0, kind, false);
                target_check(t, 13, 576, 0, kind, true);
                target_check(t, 33, 67, 1, kind, true);
                target_check(t, 3, 1, 0, kind, false);
            }
            op_test_close(t);
        }
}

/* Loss and gradient of RMU at the positions that carry a label: as each sequence's mean, then the mean over sequences (golden
 * per_sequence_*), or as open-unlearning's code has it, each sequence's sum times the mean of 1 / length (coded_*). */
static void golden_check(const cJSON *tree, bool forget, bool coded, const char *engine)
{
    const cJSON *rmu = json_member(tree, "rmu"), *hidden = json_member(rmu, forget ? "hidden_forget" : "hidden_retain");
    const cJSON *labels = json_member(json_member(tree, forget ? "forget" : "retain"), "labels");
    const cJSON *wanted = json_member(rmu, coded ? forget ? "coded_forget" : "coded_retain"
                                           : forget ? "per_sequence_forget" : "per_sequence_retain");
    const cJSON *reference = forget ? json_member(rmu, "control") : json_member(rmu, "hidden_retain_ref");
    struct op_test *t = op_test_open(engine, 1);
    const int batch = cJSON_GetArraySize(hidden), positions = cJSON_GetArraySize(hidden->child);
    const int cols = cJSON_GetArraySize(hidden->child->child);
    double x[256] = {0}, zeros[256] = {0}, target[256], loss = 0;
    int rows = 0, of[64][2], length[16] = {0};
    for (int b = 0; b < batch; b++)
        for (int p = 0; p < positions; p++) {
            if (cJSON_GetArrayItem(cJSON_GetArrayItem(labels, b), p)->valueint < 0)
                continue;
            const cJSON *h = cJSON_GetArrayItem(cJSON_GetArrayItem(hidden, b), p);
            const cJSON *u = forget ? reference : cJSON_GetArrayItem(cJSON_GetArrayItem(reference, b), p);
            for (int v = 0; v < cols; v++) {
                x[rows * cols + v] = cJSON_GetArrayItem(h, v)->valuedouble;
                target[rows * cols + v] = cJSON_GetArrayItem(u, v)->valuedouble;
            }
            length[b]++;
            of[rows][0] = b, of[rows++][1] = p;
        }
    void *gradient = device_new(t, t->dtype, rows * cols), *value = device_new(t, t->stat, rows);
    OP_CALL(t, hidden_target, hidden_target_args, .dtype = t->dtype, .rows = rows, .cols = cols,
            .x = device_from(t, t->dtype, x, rows * cols), .residual = device_from(t, t->dtype, zeros, rows * cols),
            .target = device_from(t, t->dtype, target, forget ? cols : rows * cols), .one_target = forget, .gradient = gradient,
            .value = value);
    const double *got = values_from(t, t->dtype, gradient, rows * cols), *sums = values_from(t, t->stat, value, rows);
    const double bound = t->dtype == DTYPE_F64 ? 1e-12 : t->dtype == DTYPE_F32 ? 1e-5 : 2e-2;
    double difference = 0, size = 0, inverse = 0;
    for (int b = 0; b < batch; b++)
        inverse += 1.0 / length[b] / batch;
    for (int i = 0; i < rows; i++) {
        const double weight = (coded ? inverse : 1.0 / length[of[i][0]]) / batch;
        const cJSON *expected = cJSON_GetArrayItem(cJSON_GetArrayItem(json_member(wanted, "grad"), of[i][0]), of[i][1]);
        loss += weight * sums[i];
        for (int v = 0; v < cols; v++) {
            const double e = cJSON_GetArrayItem(expected, v)->valuedouble, d = weight * got[i * cols + v] - e;
            if (t->dtype == DTYPE_F64)
                assert_true(fabs(d) <= 1e-12);
            difference += d * d, size += e * e;
        }
    }
    const double expected_loss = json_member(wanted, "loss")->valuedouble;
    if (!(fabs(loss - expected_loss) <= bound * (1 + expected_loss) && sqrt(difference / size) <= 10 * bound))
        fail_msg("%s: loss %.15g, expected %.15g; gradient off by %g", engine, loss, expected_loss, sqrt(difference / size));
    op_test_close(t);
}

static void test_golden(void **state)
{
    (void)state;
    struct error error = {0};
    const char *path = shared_path("data/golden/metrics/methods.json");
    if (!path)
        skip();
    cJSON *tree = json_read(path, &error);
    assert_non_null(tree);
    for (int e = 0; e < OP_TEST_VARIANTS; e++)
        for (int forget = 0; forget < 2; forget++)
            for (int coded = 0; coded < 2; coded++)
                golden_check(tree, forget, coded, op_test_engines[e]);
    cJSON_Delete(tree);
}

static void test_bytes(void **state)
{
    (void)state;
    for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++)
        for (enum target_kind kind = ROWS; kind <= SUMS; kind++) {
            struct op_test *t = op_test_open(op_test_engines[e], 1);
            char some[64] = {0};
            op_test_bytes_begin(t);
            target_check(t, 40, 576, 0, kind, false);
            op_test_bytes_check(t, "hidden_target", OP_BYTES(hidden_target, hidden_target_args, .dtype = t->dtype, .rows = 40,
                                .cols = 576, .target_residual = kind == SUMS ? some : NULL), 0.01);
            op_test_close(t);
        }
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        void *a = device_new(t, t->dtype, 4);
        OP_REFUSES(t, hidden_target, hidden_target_args, .dtype = t->dtype, .rows = 1, .cols = 4, .x = a, .residual = a);
        OP_REFUSES(t, hidden_target, hidden_target_args, .dtype = t->dtype, .rows = 1, .cols = 4, .x = a, .residual = a,
                   .target = a, .target_residual = a, .one_target = true, .gradient = a, .value = a);
        OP_CALL(t, hidden_target, hidden_target_args, .dtype = t->dtype, .cols = 2);
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hidden_target), cmocka_unit_test(test_golden),
                                       cmocka_unit_test(test_bytes), cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_methods.c - every method on given logits against autograd: loss and gradient, on each engine. The values are those of
 * tests/parity/make_method_golden.py and, where it is there, of ../shared/data/golden/metrics/methods.json.
 */
#include "../support/op_test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../host/io/json/json.h"
#include "../../host/loss/method.h"

enum { SETS = 3, SEQUENCES_MAX = 3 * SETS, ROWS_MAX = 64 };
static const char *const set_names[SETS] = {"forget", "template", "retain"};

/* The loss of a record as rows of logits: the targets of its sequences, in the order of a batch. */
struct problem {
    const cJSON *sets[SETS];
    int batch, positions, cols;
    struct batch_sequence sequence[SEQUENCES_MAX];
    int32_t begin[SEQUENCES_MAX + 1], role[SEQUENCES_MAX], target[ROWS_MAX];
    int set[ROWS_MAX], at[ROWS_MAX][2]; /* of a row: its set, sequence and position */
    int32_t lowered[ROWS_MAX];          /* columns of the reference's rows that a penalty is taken off; -1: none */
    double reference[SEQUENCES_MAX], *logits, *reference_logits;
    int sequences, rows;
};

static double number_at(const cJSON *array, int i)
{
    return cJSON_GetArrayItem(array, i)->valuedouble;
}

static const cJSON *row_at(const cJSON *set, const char *key, int sequence, int position)
{
    return cJSON_GetArrayItem(cJSON_GetArrayItem(json_member(set, key), sequence), position);
}

static double log_prob(const cJSON *logits, int target)
{
    double sum = 0;
    const cJSON *z;
    cJSON_ArrayForEach(z, logits) sum += exp(z->valuedouble);
    return number_at(logits, target) - log(sum);
}

/* Of the set to forget the positions where answer tokens are fed, in place of those that predict them. */
static void positions_move(struct problem *p)
{
    for (int row = 0; row < p->rows; row++)
        for (int v = 0; v < p->cols && !p->set[row]; v++)
            p->logits[row * p->cols + v] = number_at(row_at(p->sets[0], "z", p->at[row][0], p->at[row][1] + 1), v);
    for (int row = 0; row < p->rows; row++)
        p->at[row][1] += !p->set[row];
}

/* Sequence s of a set, in a role, with the targets that the method reads. */
static void sequence_add(struct problem *p, int set, int s, enum role role, bool referred, struct distribution_use use)
{
    const cJSON *labels = cJSON_GetArrayItem(json_member(p->sets[set], "labels"), s);
    const int elsewhere = use.penalises_prompt && p->cols >= 100 ? p->cols - 100 : -1;
    double reference = 0;
    for (int t = 1; t < p->positions + (use.positions == POSITIONS_ALL); t++) {
        const int target = t < p->positions ? (int)number_at(labels, t) : -1;
        if (target < 0 && use.positions == POSITIONS_ANSWER)
            continue;
        p->target[p->rows] = target < 0 ? 0 : target;
        p->lowered[p->rows] = target < 0 ? elsewhere : target;
        p->set[p->rows] = set, p->at[p->rows][0] = s, p->at[p->rows][1] = t - 1;
        for (int v = 0; v < p->cols; v++) {
            p->logits[p->rows * p->cols + v] = number_at(row_at(p->sets[set], "z", s, t - 1), v);
            p->reference_logits[p->rows * p->cols + v] = number_at(row_at(p->sets[set], "ref", s, t - 1), v);
        }
        reference += !referred ? 0 : log_prob(row_at(p->sets[set], "ref", s, t - 1), target);
        p->rows++;
    }
    const int32_t targets = p->rows - p->begin[p->sequences];
    p->sequence[p->sequences] = (struct batch_sequence){NULL, targets + 1, 1, (int32_t)role, reference, 0};
    p->role[p->sequences] = (int32_t)role;
    p->reference[p->sequences] = reference;
    p->begin[++p->sequences] = p->rows;
}

/* The sequences of the sets that the roles need; template answers stand for random ones too. */
static void problem_fill(struct problem *p, const struct method *method, const void *options)
{
    const unsigned roles = method_roles(method, options);
    const bool referred = method->reference_sums;
    const struct distribution_use none = {0};
    p->sequences = p->rows = 0;
    for (int s = 0; s < p->batch; s++) {
        if (roles & WITH(ROLE_RANDOM))
            sequence_add(p, 1, s, ROLE_RANDOM, false, none);
        if (roles & WITH(ROLE_TEMPLATE))
            sequence_add(p, 1, s, ROLE_TEMPLATE, referred, none);
        if (roles & WITH(ROLE_ANSWER))
            sequence_add(p, 0, s, ROLE_ANSWER, referred, method_distribution(method, options, ROLE_ANSWER));
    }
    for (int s = 0; s < p->batch && roles & WITH(ROLE_RETAIN); s++)
        sequence_add(p, 2, s, ROLE_RETAIN, false, method_distribution(method, options, ROLE_RETAIN));
}

/* What ../shared has other names for. Its KL is over all positions. */
struct alias {
    const char *record, *method, *option[2], *value[2];
};
static const struct alias aliases[] = {
    {"npo_gd", "npo", {NULL}, {NULL}},
    {"npo_kl", "npo", {"retain_loss", "kl_positions"}, {"kl", "real"}},
    {"kl_min", "kl_min", {"kl_positions"}, {"real"}},
    {"llmu", "llmu", {"kl_positions"}, {"real"}},
    {"pdu_forget", "pdu", {"alpha"}, {"0"}},
    {"undial_all_positions", "undial", {"undial_positions"}, {"real"}},
};
static const char *const option_aliases[][2] = {{"bad", "gamma"}, {"random", "random_weight"}, {"normal", "alpha"}};

static const struct alias *alias_find(const cJSON *record)
{
    const bool ours = !json_member(record, "note");
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases && !ours; i++)
        if (!strcmp(json_member(record, "method")->valuestring, aliases[i].record))
            return &aliases[i];
    return NULL;
}

static void option_give(struct option_set *set, const char *name, const char *value)
{
    struct error error = {0};
    const struct option *option;
    for (size_t i = 0; i < sizeof option_aliases / sizeof *option_aliases; i++)
        name = strcmp(name, option_aliases[i][0]) ? name : option_aliases[i][1];
    if (option_set_find(set, name, NULL, &option, &error) || option_set_text(set, option, value, OPTION_FROM_FLAG, NULL, &error))
        fail_msg("%s", error.text);
}

/* Options of a record: its own, and no retain set where the gradient does not depend on one. */
static void *options_make(const struct method *method, const cJSON *record, struct option_set *set)
{
    struct error error = {0};
    const struct alias *alias = alias_find(record);
    const cJSON *hyper = json_member(record, "hyper"), *item;
    option_set_init(set, "test");
    if (!method->options)
        return NULL;
    void *options = calloc(1, method->options->bytes);
    if (option_set_add(set, method->options, options, &error))
        fail_msg("%s", error.text);
    if (method->retains && !json_member(json_member(record, "grad"), "retain"))
        option_give(set, "retain_loss", "none");
    for (int i = 0; alias && i < 2 && alias->option[i]; i++)
        option_give(set, alias->option[i], alias->value[i]);
    cJSON_ArrayForEach(item, hyper)
    {
        char text[32];
        snprintf(text, sizeof text, "%.17g", item->valuedouble);
        option_give(set, item->string, cJSON_IsString(item) ? item->valuestring : text);
    }
    return options;
}

/* Rows [begin, end): their log-probabilities, and the gradient in place of the logits. */
static void rows_run(struct op_test *t, const struct problem *p, int begin, int end, struct distribution_use use, bool margin,
                     void *logits, const int32_t *target, void *const stat[6])
{
    const int32_t zeros[ROWS_MAX] = {0};
    void *most = device_new(t, t->stat, p->rows), *mean = device_new(t, t->stat, p->rows);
    int32_t *argmax = device_bytes(t, zeros, sizeof zeros);
    const size_t s = dtype_size(t->dtype), word = dtype_size(t->stat);
    void *row[6], *z = (char *)logits + (size_t)(begin * p->cols) * s;
    for (int i = 0; i < 6; i++)
        row[i] = (char *)stat[i] + (size_t)begin * word;
    if (margin)
        OP_CALL(t, row_statistics, row_statistics_args, .dtype = t->dtype, .rows = end - begin, .cols = p->cols,
                .stride = p->cols, .logits = z, .most = most, .mean = mean, .argmax = argmax);
    if (!use.used)
        OP_CALL(t, logprob_forward, logprob_args, .dtype = t->dtype, .rows = end - begin, .cols = p->cols, .stride = p->cols,
                .logits = z, .targets = target + begin, .logprob = row[0], .p = row[1], .q = row[2], .lse = row[3],
                .write_gradient = !margin);
    if (margin)
        OP_CALL(t, logit_margin, logit_margin_args, .dtype = t->dtype, .rows = end - begin, .cols = p->cols,
                .stride = p->cols, .most = most, .mean = mean, .argmax = argmax, .logits = z, .value = row[5]);
    if (use.used)
        OP_CALL(t, divergence_forward, divergence_args, .dtype = t->dtype, .cross_entropy = use.cross_entropy,
                .rows = end - begin, .cols = p->cols, .stride = p->cols, .reference_stride = p->cols, .logits = z,
                .reference = device_from(t, t->dtype, p->reference_logits + begin * p->cols, (end - begin) * p->cols),
                .targets = target + begin, .lowered = use.penalty > 0 ? device_bytes(t, p->lowered + begin,
                                                                  (size_t)(end - begin) * sizeof *p->lowered) : NULL,
                .penalty = use.penalty, .logprob = row[0], .p = row[1], .q = row[2], .lse = row[3], .value = row[5]);
}

/* Loss, and dL/dz of every row [rows][cols], on an engine. */
static double *problem_run(struct op_test *t, const struct problem *p, const struct method *method, const void *options,
                           double *loss)
{
    const struct multiplier_rule *rule = method->multiplier;
    const double multiplier = rule ? rule->begin(options) : 0;
    const struct loss_scope scope = {.micro_batch = p->sequence, .step = p->sequence, .micro_batch_sequences = p->sequences,
                                     .step_sequences = p->sequences, .micro_batches = 1, .multiplier = multiplier};
    const double zeros[SEQUENCE_TOTALS] = {0};
    void *logits = device_from(t, t->dtype, p->logits, p->rows * p->cols);
    void *target = device_bytes(t, p->target, sizeof p->target), *stat[6], *sums[4];
    for (int i = 0; i < 6; i++)
        stat[i] = device_new(t, t->stat, p->rows);
    for (int i = 0; i < 4; i++)
        sums[i] = device_new(t, DTYPE_F64, p->sequences);
    if (method->rest_entropy)
        OP_CALL(t, row_statistics, row_statistics_args, .dtype = t->dtype, .rows = p->rows, .cols = p->cols,
                .stride = p->cols, .logits = logits, .targets = target, .rest = stat[5]);
    int retained = 0;
    while (retained < p->rows && p->set[retained] != 2)
        retained++;
    rows_run(t, p, 0, retained, method_distribution(method, options, ROLE_ANSWER), method->logit_margin, logits,
             target, stat);
    rows_run(t, p, retained, p->rows, method_distribution(method, options, ROLE_RETAIN), false, logits, target, stat);
    struct sequence_args args = {.dtype = t->stat, .sequences = p->sequences, .rows = p->rows,
                                 .begin = device_bytes(t, p->begin, sizeof p->begin),
                                 .role = device_bytes(t, p->role, sizeof p->role),
                                 .reference = device_from(t, DTYPE_F64, p->reference, p->sequences), .logprob = stat[0],
                                 .p = stat[1], .q = stat[2], .row_value = stat[5],
                                 .logprob_sum = sums[0], .prob_sum = sums[1], .slope_prob = sums[2],
                                 .slope_logprob = sums[3], .row_scale = stat[4],
                                 .totals = device_from(t, DTYPE_F64, zeros, SEQUENCE_TOTALS)};
    method->terms(options, &scope, args.term);
    op_test_status(t, method->name, t->engine->sequence_loss(t->context, &args));
    double *gradient = values_from(t, t->dtype, logits, p->rows * p->cols);
    const double *scale = values_from(t, t->stat, stat[4], p->rows);
    for (int i = 0; i < p->rows * p->cols; i++)
        gradient[i] *= scale[i / p->cols];
    *loss = values_from(t, DTYPE_F64, args.totals, SEQUENCE_TOTALS)[TOTAL_LOSS] + (rule ? rule->constant(options, multiplier) : 0);
    return gradient;
}

/* The record's gradient at the rows; elsewhere it must be 0. */
static double *gradient_expected(struct op_test *t, const struct problem *p, const cJSON *record)
{
    double *expected = values_new(t, p->rows * p->cols);
    double elsewhere = 0, here = 0;
    for (int row = 0; row < p->rows; row++) {
        const cJSON *grad = json_member(json_member(record, "grad"), set_names[p->set[row]]);
        const cJSON *values = cJSON_GetArrayItem(cJSON_GetArrayItem(grad, p->at[row][0]), p->at[row][1]);
        for (int v = 0; v < p->cols; v++) {
            expected[row * p->cols + v] = grad ? number_at(values, v) : 0; /* a record without it: weight 0 */
            here += fabs(expected[row * p->cols + v]);
        }
    }
    const cJSON *set, *sequence, *position, *value;
    cJSON_ArrayForEach(set, json_member(record, "grad")) cJSON_ArrayForEach(sequence, set)
        cJSON_ArrayForEach(position, sequence) cJSON_ArrayForEach(value, position) elsewhere += fabs(value->valuedouble);
    assert_true(fabs(elsewhere - here) < 1e-12 * (1 + here));
    return expected;
}

static void record_check(const char *engine, struct problem *p, const cJSON *record, const struct method *method)
{
    struct op_test *t = op_test_open(engine, 1);
    struct option_set set;
    void *options = options_make(method, record, &set);
    double loss, difference = 0, size = 0;
    problem_fill(p, method, options);
    if (!strcmp(json_member(record, "method")->valuestring, "pdu_forget"))
        positions_move(p);
    const double *got = problem_run(t, p, method, options, &loss), *expected = gradient_expected(t, p, record);
    for (int i = 0; i < p->rows * p->cols; i++) {
        if (t->dtype == DTYPE_F64 && !(fabs(got[i] - expected[i]) <= 1e-12))
            fail_msg("%s: gradient %d is %.17g, expected %.17g", method->name, i, got[i], expected[i]);
        difference += (got[i] - expected[i]) * (got[i] - expected[i]), size += expected[i] * expected[i];
    }
    const double wanted = json_member(record, "loss")->valuedouble;
    const double loss_bound = t->dtype == DTYPE_F64 ? 1e-12 : t->dtype == DTYPE_F32 ? 1e-5 : 2e-2;
    const double gradient_bound = t->dtype == DTYPE_F32 ? 1e-4 : 2e-2;
    if (!(fabs(loss - wanted) <= loss_bound * (1 + fabs(wanted))))
        fail_msg("%s on %s: loss %.17g, expected %.17g", method->name, engine, loss, wanted);
    if (t->dtype != DTYPE_F64 && !(sqrt(difference / size) <= gradient_bound))
        fail_msg("%s on %s: gradient off by %g", method->name, engine, sqrt(difference / size));
    print_message("%s on %s: loss %.9g, gradient within %.2g\n", method->name, engine, loss, sqrt(difference / size));
    option_set_free(&set);
    free(options);
    op_test_close(t);
}

/* The method of a record, by the file's name for it; NULL: one that this test does not know. */
static const struct method *record_method(const cJSON *record)
{
    struct error error = {0};
    const struct method *method;
    const struct alias *alias = alias_find(record);
    const char *name = alias ? alias->method : json_member(record, "method")->valuestring;
    return method_find(name, false, &method, &error) ? NULL : method;
}

/* All records of a file; how many were checked. */
static int file_check(const char *path)
{
    struct error error = {0};
    cJSON *tree = json_read(path, &error);
    if (!tree)
        fail_msg("%s", error.text);
    struct problem p = {.batch = (int)number_at(json_member(tree, "shape"), 0),
                        .positions = (int)number_at(json_member(tree, "shape"), 1),
                        .cols = (int)number_at(json_member(tree, "shape"), 2)};
    for (int i = 0; i < SETS; i++)
        p.sets[i] = json_member(tree, set_names[i]);
    p.logits = calloc((size_t)(ROWS_MAX * p.cols), sizeof *p.logits);
    p.reference_logits = calloc((size_t)(ROWS_MAX * p.cols), sizeof *p.reference_logits);
    int checked = 0;
    const cJSON *record;
    cJSON_ArrayForEach(record, json_member(tree, "methods"))
    {
        const struct method *method = record_method(record);
        if (!method)
            print_message("%s: not checked\n", json_member(record, "method")->valuestring);
        for (int e = op_test_first(); method && e < OP_TEST_VARIANTS; e++)
            record_check(op_test_engines[e], &p, record, method);
        checked += method != NULL;
    }
    free(p.logits);
    free(p.reference_logits);
    cJSON_Delete(tree);
    return checked;
}

static void test_golden(void **state)
{
    (void)state;
    assert_true(file_check("tests/golden/methods.json") >= 27);
}

static void test_shared(void **state)
{
    (void)state;
    const char *path = "../shared/data/golden/metrics/methods.json";
    FILE *file = fopen(path, "r");
    if (!file) {
        print_message("%s is not there\n", path);
        skip();
    }
    fclose(file);
    assert_true(file_check(path) >= 19);
}

/* Every method of unlearn has a record. */
static void test_all_methods(void **state)
{
    (void)state;
    struct error error = {0};
    cJSON *tree = json_read("tests/golden/methods.json", &error);
    assert_non_null(tree);
    for (const struct method *const *m = methods; *m; m++) {
        bool found = (*m)->for_finetune || !strcmp((*m)->name, "flat") || (*m)->hidden;
        /* flat: test_sequence.c, test_parity.c; losses of hidden states: test_hidden_target.c */
        const cJSON *record;
        cJSON_ArrayForEach(record, json_member(tree, "methods")) found =
            found || !strcmp(json_member(record, "method")->valuestring, (*m)->name);
        if (!found)
            fail_msg("%s has no record in tests/golden/methods.json", (*m)->name);
    }
    cJSON_Delete(tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_shared),
                                       cmocka_unit_test(test_all_methods)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

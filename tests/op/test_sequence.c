/* test_sequence.c - the divergences against the check values of the specification; sums, losses, slopes, token
 * weights and totals of the three loss forms, the batch form also over several ranks; token weights against finite
 * differences of the loss; NaN weights when the loss is not finite; CUDA against the CPU on many sequences.
 */
#include "../support/op_test.h"

#include <math.h>
#include <string.h>

#include "../../kernels/loss_form.h"

enum { SEQUENCES = 6, ROWS = 23 };

static const int32_t begin[SEQUENCES + 1] = {0, 4, 5, 11, 14, 22, 23};

struct problem {
    enum loss_kind loss;
    int divergence;
    double scale, divisor;
    int sequences, rows;
    const int32_t *begin;
    double *logprob, *p;
};

struct results {
    double *logprob_sum, *prob_sum, *slope_prob, *slope_logprob, *row_scale, *totals;
};

static struct problem problem_make(struct op_test *t, enum loss_kind loss, int divergence)
{
    struct problem p = {loss, divergence, 0.125, 13.5, SEQUENCES, ROWS, begin, values_new(t, ROWS),
                        values_new(t, ROWS)};
    uint64_t random = 7;
    for (int i = 0; i < ROWS; i++) {
        p.p[i] = i == 3 ? 0.005 : i == 12 ? 0.995 : i == 15 ? 1e-12 : 0.02 + 0.96 * uniform_next(&random);
        p.logprob[i] = log(p.p[i]);
    }
    values_round(t->stat, p.p, ROWS);
    values_round(t->stat, p.logprob, ROWS);
    return p;
}

static struct results problem_run(struct op_test *t, const struct problem *p, const double *totals_start)
{
    void *doubles[5];
    const double zeros[SEQUENCE_TOTALS] = {0};
    for (int i = 0; i < 4; i++)
        doubles[i] = device_new(t, DTYPE_F64, p->sequences);
    doubles[4] = device_from(t, DTYPE_F64, totals_start ? totals_start : zeros, SEQUENCE_TOTALS);
    void *row_scale = device_new(t, t->stat, p->rows);
    OP_CALL(t, sequence_loss, sequence_args, .dtype = t->stat, .loss = p->loss, .divergence = p->divergence,
            .scale = p->scale, .divisor = p->divisor, .sequences = p->sequences, .rows = p->rows,
            .begin = device_bytes(t, p->begin, (size_t)(p->sequences + 1) * sizeof *p->begin),
            .logprob = device_from(t, t->stat, p->logprob, p->rows), .p = device_from(t, t->stat, p->p, p->rows),
            .logprob_sum = doubles[0], .prob_sum = doubles[1], .slope_prob = doubles[2], .slope_logprob = doubles[3],
            .row_scale = row_scale, .totals = doubles[4]);
    return (struct results){values_from(t, DTYPE_F64, doubles[0], p->sequences),
                            values_from(t, DTYPE_F64, doubles[1], p->sequences),
                            values_from(t, DTYPE_F64, doubles[2], p->sequences),
                            values_from(t, DTYPE_F64, doubles[3], p->sequences),
                            values_from(t, t->stat, row_scale, p->rows),
                            values_from(t, DTYPE_F64, doubles[4], SEQUENCE_TOTALS)};
}

/* Specification, section 3: (e, f): L; dL/de; dL/df, to the digits printed there. */
static void test_check_values(void **state)
{
    (void)state;
    static const struct {
        int divergence;
        double e, f, loss, slope_e, slope_f;
    } table[] = {{DIVERGENCE_TOTAL_VARIATION, .05, .9, .33317, -.4988, .2435},
                 {DIVERGENCE_JENSEN_SHANNON, .05, .9, .52332, -.4875, .7109},
                 {DIVERGENCE_PEARSON, .05, .9, 1.0525, -1, 1.45},
                 {DIVERGENCE_KL, .05, .9, .85484, -1, .9048},
                 {DIVERGENCE_JEFFREY, .05, .9, 1.09806, -1, 1.6019},
                 {DIVERGENCE_TOTAL_VARIATION, .9, .05, -.33317, -.2435, .4988},
                 {DIVERGENCE_JENSEN_SHANNON, .9, .05, -.32668, -.2891, .5125},
                 {DIVERGENCE_PEARSON, .9, .05, -.84937, -1, 1.025},
                 {DIVERGENCE_KL, .9, .05, -.51326, -1, .3867}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        double loss, slope_e, slope_f;
        divergence_loss(table[i].divergence, table[i].e, table[i].f, &loss, &slope_e, &slope_f);
        /* Half of the last printed digit; -.849375 is a tie. */
        assert_close("loss", &loss, &table[i].loss, 1, 0.5001e-5, 0);
        assert_close("dL/de", &slope_e, &table[i].slope_e, 1, 0.5001e-4, 0);
        assert_close("dL/df", &slope_f, &table[i].slope_f, 1, 0.5001e-4, 0);
    }
}

/* Each form of the specification's table: slopes are derivatives, L rises in f and falls in e. */
static void test_slopes(void **state)
{
    (void)state;
    for (int d = 0; d < DIVERGENCES; d++)
        for (int i = 0; i <= 100; i++) {
            double e = i % 11 / 10.0, f = i / 100.0, h = 1e-5, unused, loss, slope_e, slope_f, l[4];
            divergence_loss(d, e, f, &loss, &slope_e, &slope_f);
            divergence_loss(d, e + h, f, &l[0], &unused, &unused);
            divergence_loss(d, e - h, f, &l[1], &unused, &unused);
            divergence_loss(d, e, f + h, &l[2], &unused, &unused);
            divergence_loss(d, e, f - h, &l[3], &unused, &unused);
            double numeric[2] = {(l[0] - l[1]) / (2 * h), (l[2] - l[3]) / (2 * h)};
            assert_close("dL/de", &slope_e, &numeric[0], 1, 1e-9, 0);
            assert_close("dL/df", &slope_f, &numeric[1], 1, 1e-9, 0);
            assert_true(slope_e < 0 && slope_f > 0);
        }
}

/* The specification's table once more, written as it stands there. */
static double divergence_naive(int divergence, double e, double f)
{
    switch (divergence) {
    case DIVERGENCE_TOTAL_VARIATION: return -tanh(e) / 2 + tanh(f) / 2;
    case DIVERGENCE_JENSEN_SHANNON: return log(1 + exp(-e)) - log(2) + log(1 + exp(f)) - log(2);
    case DIVERGENCE_PEARSON: return -e + f + f * f / 4;
    case DIVERGENCE_KL: return -e + exp(f - 1);
    case DIVERGENCE_JEFFREY: return -e + f + f * f / 4 + f * f * f / 16;
    case DIVERGENCE_REVERSE_KL: return exp(-e) + f - 1;
    case DIVERGENCE_SQUARED_HELLINGER: return exp(-e) - 1 + exp(f) - 1;
    default: return exp(-e) - 1 + 2 - 2 * exp(-f / 2);
    }
}

/* The loss of the step as a function of every token's p (logprob = log p). */
static double loss_naive(const struct problem *p, const double *prob)
{
    double loss = 0, e = 0, f = 0;
    for (int s = 0; s < SEQUENCES; s++) {
        double sum = 0, length = begin[s + 1] - begin[s];
        for (int i = begin[s]; i < begin[s + 1]; i++) {
            sum += prob[i];
            loss -= p->loss == LOSS_CROSS_ENTROPY ? p->scale * log(prob[i]) : 0;
        }
        double mean = p->loss == LOSS_FLAT_PAIR ? sum / length : sum / p->divisor;
        if (s % 2 == 0)
            e = p->loss == LOSS_FLAT_PAIR ? mean : e + mean;
        else
            f = p->loss == LOSS_FLAT_PAIR ? mean : f + mean;
        if (s % 2 == 1 && (p->loss == LOSS_FLAT_PAIR || (p->loss == LOSS_FLAT_BATCH && s == SEQUENCES - 1)))
            loss += p->scale * divergence_naive(p->divergence, e, f);
    }
    return loss;
}

static void problem_check(struct op_test *t, const struct problem *p)
{
    struct results r = problem_run(t, p, NULL);
    double loss = loss_naive(p, p->p), tokens = 0, logprob_total = 0, means[2] = {0, 0};
    const double sum_bound = op_test_is_cuda(t) ? 1e-15 : 0; /* a tree, or the order of the rows as here */
    assert_close("loss", &r.totals[TOTAL_LOSS], &loss, 1, 0, t->stat == DTYPE_F64 ? 1e-13 : 1e-6);
    for (int s = 0; s < SEQUENCES; s++) {
        double sum = 0, logprob_sum = 0;
        for (int i = begin[s]; i < begin[s + 1]; i++)
            sum += p->p[i], logprob_sum += p->logprob[i];
        assert_close("prob_sum", &r.prob_sum[s], &sum, 1, 0, sum_bound);
        assert_close("logprob_sum", &r.logprob_sum[s], &logprob_sum, 1, 0, sum_bound);
        means[s % 2] += sum / (begin[s + 1] - begin[s]);
        tokens += begin[s + 1] - begin[s];
        logprob_total += logprob_sum;
        for (int i = begin[s]; i < begin[s + 1]; i++) { /* -c_i = -(dL/dp) p, c_i = dL/dlogprob */
            double h = p->p[i] * 1e-4, prob[ROWS], weight[4];
            for (int k = 0; k < 4; k++) {
                memcpy(prob, p->p, sizeof prob);
                prob[i] += h * (double[]){1, -1, 2, -2}[k];
                weight[k] = loss_naive(p, prob);
            }
            double expected = -(8 * (weight[0] - weight[1]) - (weight[2] - weight[3])) / (12 * h) * p->p[i];
            assert_close("row_scale", &r.row_scale[i], &expected, 1, 1e-11, t->stat == DTYPE_F64 ? 1e-8 : 1e-6);
        }
    }
    bool pairs = p->loss != LOSS_CROSS_ENTROPY;
    double units = p->loss == LOSS_FLAT_PAIR ? 3 : p->loss == LOSS_FLAT_BATCH ? 1 : SEQUENCES;
    double expected[] = {[TOTAL_LOSS] = r.totals[TOTAL_LOSS], [TOTAL_TEMPLATE_PROB] = pairs ? means[0] : 0,
                         [TOTAL_FORGET_PROB] = pairs ? means[1] : means[0] + means[1],
                         [TOTAL_TEMPLATE_SLOPE] = r.totals[TOTAL_TEMPLATE_SLOPE],
                         [TOTAL_FORGET_SLOPE] = r.totals[TOTAL_FORGET_SLOPE], [TOTAL_UNITS] = units,
                         [TOTAL_TEMPLATES] = pairs ? 3 : 0, [TOTAL_FORGETS] = pairs ? 3 : 6, [TOTAL_TOKENS] = tokens,
                         [TOTAL_LOW] = 2, [TOTAL_HIGH] = 1, [TOTAL_LOGPROB] = logprob_total};
    assert_close("totals", r.totals, expected, SEQUENCE_TOTALS, 1e-14, 1e-14);
    /* The slope totals are those of the sequences, without scale. */
    double slopes[2] = {0, 0};
    for (int s = 0; s < SEQUENCES && pairs; s++)
        slopes[s % 2] += r.slope_prob[s] / p->scale *
                         (p->loss == LOSS_FLAT_PAIR ? begin[s + 1] - begin[s] : p->divisor / (SEQUENCES / 2));
    assert_close("slope totals", &r.totals[TOTAL_TEMPLATE_SLOPE], slopes, 2, 1e-14, 1e-13);
    /* A second micro-batch adds to the totals. */
    struct results twice = problem_run(t, p, r.totals);
    for (int i = 0; i < SEQUENCE_TOTALS; i++)
        expected[i] = 2 * r.totals[i];
    assert_close("totals of two", twice.totals, expected, SEQUENCE_TOTALS, 1e-14, 1e-14);
}

static void test_forms(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_VARIANTS; e++)
        for (int loss = LOSS_CROSS_ENTROPY; loss <= LOSS_FLAT_BATCH; loss++)
            for (int divergence = 0; divergence < (loss ? DIVERGENCES : 1); divergence++) {
                struct op_test *t = op_test_open(op_test_engines[e], 1);
                struct problem p = problem_make(t, loss, divergence);
                problem_check(t, &p);
                op_test_close(t);
            }
}

/* More sequences, pairs and rows than a block has warps and threads, against the CPU. */
static void test_large(void **state)
{
    (void)state;
    enum { MANY = 1100, LONGEST = 70 };
    int32_t many[MANY + 1] = {0};
    uint64_t random = 3;
    for (int s = 0; s < MANY; s++)
        many[s + 1] = many[s] + 1 + (int)(LONGEST * uniform_next(&random));
    for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++)
        for (int loss = LOSS_CROSS_ENTROPY; loss <= LOSS_FLAT_BATCH; loss++) {
            struct op_test *cpu = op_test_open("cpu", 1), *t = op_test_open(op_test_engines[e], 1);
            int rows = many[MANY];
            struct problem p = {loss, DIVERGENCE_KL, 1.0 / MANY, 3e4, MANY, rows, many, values_new(t, rows),
                                values_new(t, rows)};
            for (int i = 0; i < rows; i++) {
                p.p[i] = uniform_next(&random);
                p.logprob[i] = log(p.p[i] + 1e-9);
            }
            values_round(t->stat, p.p, rows), values_round(t->stat, p.logprob, rows);
            struct results expected = problem_run(cpu, &p, NULL), r = problem_run(t, &p, NULL);
            assert_close("logprob_sum", r.logprob_sum, expected.logprob_sum, MANY, 0, 2e-15);
            assert_close("prob_sum", r.prob_sum, expected.prob_sum, MANY, 0, 2e-15);
            assert_close("slope_prob", r.slope_prob, expected.slope_prob, MANY, 0, 1e-13);
            assert_close("slope_logprob", r.slope_logprob, expected.slope_logprob, MANY, 0, 0);
            assert_close("totals", r.totals, expected.totals, SEQUENCE_TOTALS, 0, 1e-13);
            assert_close("row_scale", r.row_scale, expected.row_scale, rows, 0, t->eps);
            op_test_close(t);
            op_test_close(cpu);
        }
}

/* One bad row makes every weight of the micro-batch NaN, as does a loss that was not finite before. */
static void test_not_finite(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_VARIANTS; e++)
        for (int loss = LOSS_CROSS_ENTROPY; loss <= LOSS_FLAT_BATCH; loss++)
            for (int kind = 0; kind < 3; kind++) {
                struct op_test *t = op_test_open(op_test_engines[e], 1);
                struct problem p = problem_make(t, loss, DIVERGENCE_PEARSON);
                double totals[SEQUENCE_TOTALS] = {0};
                if (kind == 0)
                    p.logprob[8] = p.p[8] = NAN;
                else if (kind == 1)
                    p.logprob[8] = -INFINITY, p.p[8] = INFINITY;
                else
                    totals[TOTAL_LOSS] = INFINITY;
                struct results r = problem_run(t, &p, totals);
                assert_false(isfinite(r.totals[TOTAL_LOSS]));
                for (int i = 0; i < ROWS; i++)
                    assert_true(isnan(r.row_scale[i]));
                op_test_close(t);
            }
}

static void problem_fill(struct op_test *t, void *user, double *out)
{
    struct problem p = problem_make(t, *(enum loss_kind *)user, DIVERGENCE_JEFFREY);
    struct results r = problem_run(t, &p, NULL);
    memcpy(out, r.totals, SEQUENCE_TOTALS * sizeof *out);
    memcpy(out + SEQUENCE_TOTALS, r.row_scale, ROWS * sizeof *out);
}

static void test_same_bits(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_VARIANTS; e++)
        for (enum loss_kind loss = LOSS_CROSS_ENTROPY; loss <= LOSS_FLAT_BATCH; loss++)
            op_test_same_bits(op_test_engines[e], SEQUENCE_TOTALS + ROWS, problem_fill, &loss);
}

/* Ranks with one pair, two pairs and nothing, their sums added up in between, against all pairs as one batch. */
static void test_parts(void **state)
{
    (void)state;
    static const int first[] = {0, 2, SEQUENCES, SEQUENCES}; /* sequences of rank r: first[r] .. first[r + 1] - 1 */
    for (int e = 0; e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        struct problem p = problem_make(t, LOSS_FLAT_BATCH, DIVERGENCE_JENSEN_SHANNON);
        struct results whole = problem_run(t, &p, NULL);
        const double zeros[SEQUENCE_TOTALS] = {0};
        double sums[2] = {0, 0}, totals[SEQUENCE_TOTALS] = {0}, row_scale[ROWS];
        struct sequence_args args[3];
        for (int r = 0; r < 3; r++) {
            const int from = begin[first[r]], rows = begin[first[r + 1]] - from, sequences = first[r + 1] - first[r];
            int32_t own[SEQUENCES + 1];
            for (int s = 0; s <= sequences; s++)
                own[s] = begin[first[r] + s] - from;
            args[r] = (struct sequence_args){
                .dtype = t->stat, .loss = p.loss, .divergence = p.divergence, .scale = p.scale, .divisor = p.divisor,
                .sequences = sequences, .rows = rows, .begin = device_bytes(t, own, sizeof own),
                .logprob = device_from(t, t->stat, p.logprob + from, rows),
                .p = device_from(t, t->stat, p.p + from, rows), .logprob_sum = device_new(t, DTYPE_F64, SEQUENCES),
                .prob_sum = device_new(t, DTYPE_F64, SEQUENCES), .slope_prob = device_new(t, DTYPE_F64, SEQUENCES),
                .slope_logprob = device_new(t, DTYPE_F64, SEQUENCES), .row_scale = device_new(t, t->stat, ROWS),
                .totals = device_from(t, DTYPE_F64, zeros, SEQUENCE_TOTALS), .part = SEQUENCE_SUMS,
                .batch_sums = device_new(t, DTYPE_F64, 2), .count_loss = r == 0};
            op_test_status(t, "sums", t->engine->sequence_loss(t->context, &args[r]));
            const double *mine = values_from(t, DTYPE_F64, args[r].batch_sums, 2);
            sums[0] += mine[0], sums[1] += mine[1];
        }
        for (int r = 0; r < 3; r++) {
            device_set(t, DTYPE_F64, args[r].batch_sums, sums, 2);
            args[r].part = SEQUENCE_SLOPES;
            op_test_status(t, "slopes", t->engine->sequence_loss(t->context, &args[r]));
            device_get(t, t->stat, args[r].row_scale, row_scale + begin[first[r]], args[r].rows);
            const double *mine = values_from(t, DTYPE_F64, args[r].totals, SEQUENCE_TOTALS);
            for (int i = 0; i < SEQUENCE_TOTALS; i++)
                totals[i] += mine[i];
        }
        assert_close("row_scale", row_scale, whole.row_scale, ROWS, 0, t->eps);
        assert_close("totals", totals, whole.totals, SEQUENCE_TOTALS, 1e-14, 1e-14);
        args[0].batch_sums = NULL;
        op_test_refused(t, "sequence_loss", t->engine->sequence_loss(t->context, &args[0]));
        args[1].loss = LOSS_FLAT_PAIR;
        op_test_refused(t, "sequence_loss", t->engine->sequence_loss(t->context, &args[1]));
        op_test_close(t);
    }
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        void *a = device_new(t, DTYPE_F64, SEQUENCE_TOTALS);
        const int32_t empty[] = {0, 0, 2}, good[] = {0, 1, 2}, odd[] = {0, 2};
        struct sequence_args args = {.dtype = t->stat, .loss = LOSS_FLAT_PAIR, .scale = 1, .divisor = 1,
                                     .sequences = 2, .rows = 2, .begin = device_bytes(t, good, sizeof good),
                                     .logprob = a, .p = a, .logprob_sum = a, .prob_sum = a, .slope_prob = a,
                                     .slope_logprob = a, .row_scale = a, .totals = a};
        struct sequence_args bad[7];
        for (int i = 0; i < 7; i++)
            bad[i] = args;
        bad[0].dtype = DTYPE_BF16;
        bad[1].begin = device_bytes(t, odd, sizeof odd), bad[1].sequences = 1;
        bad[2].divergence = DIVERGENCES;
        bad[3].loss = LOSS_FLAT_BATCH, bad[3].divisor = 0;
        bad[4].totals = NULL;
        bad[5].begin = device_bytes(t, empty, sizeof empty); /* what is on the device a GPU takes as it is */
        bad[6].rows = 3;
        for (int i = 0; i < (op_test_is_cuda(t) ? 5 : 7); i++)
            op_test_refused(t, "sequence_loss", t->engine->sequence_loss(t->context, &bad[i]));
        args.sequences = 0;
        op_test_status(t, "sequence_loss", t->engine->sequence_loss(t->context, &args));
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_check_values), cmocka_unit_test(test_slopes),
                                       cmocka_unit_test(test_forms), cmocka_unit_test(test_large),
                                       cmocka_unit_test(test_parts), cmocka_unit_test(test_not_finite), cmocka_unit_test(test_same_bits),
                                       cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

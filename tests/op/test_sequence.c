/* test_sequence.c - the divergences against the check values of the specification; sums, losses, slopes, token weights and
 * totals of every statistic and function, the weights against finite differences of the loss; NaN weights when the loss is
 * not finite; CUDA against the CPU on many sequences. The published programs' own numbers: test_methods.c.
 */
#include "../support/op_test.h"

#include <math.h>
#include <string.h>

enum { SEQUENCES = 7, ROWS = 27, OWN = 0, TEMPLATE = 1, RETAIN = 2, OTHER = 3 };

static const int32_t begin[SEQUENCES + 1] = {0, 4, 5, 11, 14, 22, 23, 27};
static const int32_t role[SEQUENCES] = {TEMPLATE, OWN, TEMPLATE, OWN, RETAIN, OTHER, RETAIN};
static const double reference[SEQUENCES] = {-3, -2.5, -6, -1, 0, 0.5, -2};

/* The terms of a loss. */
struct loss {
    const char *name;
    struct loss_term term[SEQUENCE_ROLES];
};

#define BOTH(d, ...) {{__VA_ARGS__, .function = LOSS_DIVERGENCE + 2 * (d) + 1}, {__VA_ARGS__, .function = LOSS_DIVERGENCE + 2 * (d)}}
#define X(d, template_value, template_slope, forget_value, forget_slope)                                      \
    {"flat pair " #d, BOTH(DIVERGENCE_##d, .statistic = STATISTIC_PROB_MEAN, .scale = 0.125)},                 \
    {"flat batch " #d, BOTH(DIVERGENCE_##d, .statistic = STATISTIC_PROB_BATCH, .scale = 0.125, .divisor = 13.5)},
static const struct loss losses[] = {
    {"cross entropy", {{STATISTIC_LOGPROB_SUM, .scale = -0.125}, {STATISTIC_LOGPROB_SUM, .scale = -0.125},
                       {STATISTIC_LOGPROB_SUM, .scale = -0.125}, {STATISTIC_LOGPROB_SUM, .scale = -0.125}}},
    {"grad diff", {{STATISTIC_LOGPROB_SUM, .scale = 0.5}, [RETAIN] = {STATISTIC_LOGPROB_SUM, .scale = -0.25}}},
    {"npo", {{STATISTIC_LOGPROB_SUM, LOSS_LOG_SIGMOID, 0.5, .beta = 0.1, .sign = -1},
             [RETAIN] = {STATISTIC_LOGPROB_SUM, .scale = -0.1}}},
    {"simnpo", {{STATISTIC_LOGPROB_MEAN, LOSS_LOG_SIGMOID, 0.5, .beta = 4.5, .sign = -1, .delta = 0.25}}},
    {"dpo", {{STATISTIC_PARTNER}, {STATISTIC_LOGPROB_PAIR, LOSS_LOG_SIGMOID, 0.5, .beta = 0.7, .sign = 1}}},
    {"wga", {{STATISTIC_TOKENS, .scale = 0.5, .token = TOKEN_POWER, .a = 2.5}}},
    {"satimp", {{STATISTIC_TOKENS, .scale = 0.5, .token = TOKEN_POWER, .a = 5, .b = 1},
                [RETAIN] = {STATISTIC_LOGPROB_SUM, .scale = -0.1}}},
    {"ceu", {{STATISTIC_TOKENS, .scale = 0.5, .token = TOKEN_UNLIKELIHOOD, .skip = 1}}},
    {"given", {[RETAIN] = {STATISTIC_TOKENS, .scale = 0.5, .token = TOKEN_GIVEN}}},
    {"nothing", {{0}}},
    DIVERGENCES(X)
};
#undef X
enum { LOSSES = sizeof losses / sizeof *losses };

struct problem {
    const struct loss *loss;
    int sequences, rows;
    const int32_t *begin, *role;
    const double *reference;
    double *logprob, *p, *q, *row_value;
};

struct results {
    double *logprob_sum, *prob_sum, *slope_prob, *slope_logprob, *row_scale, *totals;
};

static void problem_fill(struct op_test *t, struct problem *p, uint64_t random)
{
    double **array[] = {&p->logprob, &p->p, &p->q, &p->row_value};
    for (int k = 0; k < 4; k++)
        *array[k] = values_new(t, p->rows);
    for (int i = 0; i < p->rows; i++) {
        p->p[i] = i == 3 ? 0.005 : i == 12 ? 0.995 : i == 15 ? 1e-12 : 0.02 + 0.96 * uniform_next(&random);
        p->logprob[i] = log(p->p[i]), p->q[i] = 1 - p->p[i], p->row_value[i] = 3 * uniform_next(&random);
    }
    for (int k = 0; k < 4; k++)
        values_round(t->stat, *array[k], p->rows);
}

static struct problem problem_make(struct op_test *t, const struct loss *loss)
{
    struct problem p = {loss, SEQUENCES, ROWS, begin, role, reference};
    problem_fill(t, &p, 7);
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
    struct sequence_args args = {
        .dtype = t->stat, .sequences = p->sequences, .rows = p->rows,
        .begin = device_bytes(t, p->begin, (size_t)(p->sequences + 1) * sizeof *p->begin),
        .role = device_bytes(t, p->role, (size_t)p->sequences * sizeof *p->role),
        .reference = p->reference ? device_from(t, DTYPE_F64, p->reference, p->sequences) : NULL,
        .logprob = device_from(t, t->stat, p->logprob, p->rows), .p = device_from(t, t->stat, p->p, p->rows),
        .q = device_from(t, t->stat, p->q, p->rows), .row_value = device_from(t, t->stat, p->row_value, p->rows),
        .logprob_sum = doubles[0], .prob_sum = doubles[1], .slope_prob = doubles[2], .slope_logprob = doubles[3],
        .row_scale = row_scale, .totals = doubles[4]};
    memcpy(args.term, p->loss->term, sizeof args.term);
    op_test_status(t, p->loss->name, t->engine->sequence_loss(t->context, &args));
    return (struct results){values_from(t, DTYPE_F64, doubles[0], p->sequences),
                            values_from(t, DTYPE_F64, doubles[1], p->sequences),
                            values_from(t, DTYPE_F64, doubles[2], p->sequences),
                            values_from(t, DTYPE_F64, doubles[3], p->sequences),
                            values_from(t, t->stat, row_scale, p->rows),
                            values_from(t, DTYPE_F64, doubles[4], SEQUENCE_TOTALS)};
}

static void part(enum loss_function function, double x, double *value, double *slope)
{
    loss_evaluate(function, 0, 0, 0, x, value, slope);
}

/* Specification, section 3: (e, f): L; dL/de; dL/df, to the digits printed there. */
static void test_check_values(void **state)
{
    (void)state;
    static const struct {
        int divergence;
        double e, f, loss, slope_e, slope_f;
    } table[] = {{DIVERGENCE_total_variation, .05, .9, .33317, -.4988, .2435},
                 {DIVERGENCE_jensen_shannon, .05, .9, .52332, -.4875, .7109},
                 {DIVERGENCE_pearson, .05, .9, 1.0525, -1, 1.45},
                 {DIVERGENCE_kl, .05, .9, .85484, -1, .9048},
                 {DIVERGENCE_jeffrey, .05, .9, 1.09806, -1, 1.6019},
                 {DIVERGENCE_total_variation, .9, .05, -.33317, -.2435, .4988},
                 {DIVERGENCE_jensen_shannon, .9, .05, -.32668, -.2891, .5125},
                 {DIVERGENCE_pearson, .9, .05, -.84937, -1, 1.025},
                 {DIVERGENCE_kl, .9, .05, -.51326, -1, .3867}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        double loss_e, loss_f, slope_e, slope_f;
        part(loss_template(table[i].divergence), table[i].e, &loss_e, &slope_e);
        part(loss_forget(table[i].divergence), table[i].f, &loss_f, &slope_f);
        const double loss = loss_e + loss_f;
        /* Half of the last printed digit; -.849375 is a tie. */
        assert_close("loss", &loss, &table[i].loss, 1, 0.5001e-5, 0);
        assert_close("dL/de", &slope_e, &table[i].slope_e, 1, 0.5001e-4, 0);
        assert_close("dL/df", &slope_f, &table[i].slope_f, 1, 0.5001e-4, 0);
    }
}

/* Slopes are derivatives; the template's part of L falls in e, and the forget answer's rises in f. */
static void test_slopes(void **state)
{
    (void)state;
    for (int function = LOSS_DIVERGENCE; function < LOSS_FUNCTIONS; function++)
        for (int i = 0; i <= 100; i++) {
            double x = i / 100.0, h = 1e-5, unused, value, slope, above, below;
            part(function, x, &value, &slope);
            part(function, x + h, &above, &unused);
            part(function, x - h, &below, &unused);
            const double numeric = (above - below) / (2 * h);
            assert_close("slope", &slope, &numeric, 1, 1e-9, 0);
            assert_true((function - LOSS_DIVERGENCE) % 2 ? slope > 0 : slope < 0);
        }
}

/* The specification's table once more, written as it stands there. */
static double divergence_naive(int divergence, bool forget, double x)
{
    switch (divergence) {
    case DIVERGENCE_total_variation: return forget ? tanh(x) / 2 : -tanh(x) / 2;
    case DIVERGENCE_jensen_shannon: return log(1 + exp(forget ? x : -x)) - log(2);
    case DIVERGENCE_pearson: return forget ? x + x * x / 4 : -x;
    case DIVERGENCE_kl: return forget ? exp(x - 1) : -x;
    case DIVERGENCE_jeffrey: return forget ? x + x * x / 4 + x * x * x / 16 : -x;
    case DIVERGENCE_reverse_kl: return forget ? x - 1 : exp(-x);
    case DIVERGENCE_squared_hellinger: return exp(forget ? x : -x) - 1;
    case DIVERGENCE_neyman: return forget ? 2 - 2 * exp(-x / 2) : exp(-x) - 1;
    default: fail_msg("divergence %d: its formula is to be written here once more", divergence);
    }
    return NAN;
}

static double function_naive(const struct loss_term *term, double x)
{
    if (term->function == LOSS_LOG_SIGMOID)
        return -2 / term->beta * log(1 / (1 + exp(-term->beta * (term->sign * x - term->delta))));
    if (term->function == LOSS_LINEAR)
        return x;
    const int which = (int)term->function - LOSS_DIVERGENCE;
    return divergence_naive(which / 2, which % 2, x);
}

/* A sequence's part of the loss as a function of its log-probabilities; of the second of a pair nothing. value: of the
 * loss that is reported, otherwise one with the gradient that is wanted. */
static double sequence_naive(const struct problem *p, int s, const double *logprob, bool value)
{
    const struct loss_term *term = &p->loss->term[p->role[s]];
    double sum[2] = {0}, prob = 0, tokens = 0, length = p->begin[s + 1] - p->begin[s];
    for (int k = 0; k < 2 && s + k < p->sequences; k++) {
        for (int i = p->begin[s + k]; i < p->begin[s + k + 1]; i++)
            sum[k] += logprob[i];
        sum[k] -= p->reference[s + k];
    }
    for (int i = p->begin[s]; i < p->begin[s + 1]; i++) {
        prob += exp(logprob[i]);
        if (i - p->begin[s] < term->skip)
            continue;
        if (term->token == TOKEN_POWER)
            tokens += pow(p->p[i], term->a) * pow(p->q[i], term->b) * logprob[i];
        else
            tokens += value ? p->row_value[i] : term->token == TOKEN_GIVEN ? -logprob[i] : -log1p(-exp(logprob[i]));
    }
    switch (term->statistic) {
    case STATISTIC_LOGPROB_SUM: return function_naive(term, sum[0]);
    case STATISTIC_LOGPROB_MEAN: return function_naive(term, (sum[0] + p->reference[s]) / length);
    case STATISTIC_PROB_MEAN: return function_naive(term, prob / length);
    case STATISTIC_LOGPROB_PAIR: return function_naive(term, sum[0] - sum[1]);
    case STATISTIC_TOKENS: return tokens;
    default: return 0;
    }
}

/* The loss as a function of every target's log-probability, the parts of the roles apart. */
static double loss_naive(const struct problem *p, const double *logprob, bool value, double parts[SEQUENCE_ROLES])
{
    double batch[SEQUENCE_ROLES] = {0}, loss = 0;
    memset(parts, 0, SEQUENCE_ROLES * sizeof *parts);
    for (int s = 0; s < p->sequences; s++) {
        parts[p->role[s]] += p->loss->term[p->role[s]].scale * sequence_naive(p, s, logprob, value);
        for (int i = p->begin[s]; i < p->begin[s + 1]; i++)
            batch[p->role[s]] += exp(logprob[i]);
    }
    for (int r = 0; r < SEQUENCE_ROLES; r++) {
        const struct loss_term *term = &p->loss->term[r];
        if (term->statistic == STATISTIC_PROB_BATCH)
            parts[r] = term->scale * function_naive(term, batch[r] / term->divisor);
        loss += parts[r];
    }
    return loss;
}

/* c_i = dL/dlogprob_i by differences. */
static double weight_naive(const struct problem *p, int i)
{
    double logprob[ROWS], l[4], unused[SEQUENCE_ROLES], h = 1e-4 * p->q[i];
    for (int k = 0; k < 4; k++) {
        memcpy(logprob, p->logprob, sizeof logprob);
        logprob[i] += h * (double[]){1, -1, 2, -2}[k];
        l[k] = loss_naive(p, logprob, false, unused);
    }
    return (8 * (l[0] - l[1]) - (l[2] - l[3])) / (12 * h);
}

static void totals_check(const struct problem *p, const struct results *r, const double *parts)
{
    double expected[SEQUENCE_TOTALS] = {r->totals[TOTAL_LOSS]};
    for (int k = 0; k < SEQUENCE_ROLES; k++) {
        const struct loss_term *term = &p->loss->term[k];
        double *of = expected + total_of(k, ROLE_LOSS);
        of[ROLE_LOSS] = parts[k];
        of[ROLE_SLOPE] = r->totals[total_of(k, ROLE_SLOPE)]; /* below */
        for (int s = 0; s < p->sequences; s++) {
            if (p->role[s] != k)
                continue;
            const double length = p->begin[s + 1] - p->begin[s];
            of[ROLE_SEQUENCES] += 1, of[ROLE_TOKENS] += length;
            of[ROLE_PROB] += r->prob_sum[s] / length, of[ROLE_LOGPROB] += r->logprob_sum[s];
            for (int i = p->begin[s]; i < p->begin[s + 1]; i++)
                of[ROLE_LOW] += p->p[i] < 0.01, of[ROLE_HIGH] += p->p[i] > 0.99;
            of[ROLE_UNITS] += term->statistic == STATISTIC_TOKENS ? length - fmin(length, term->skip) : 1;
        }
        if (term->statistic == STATISTIC_PROB_BATCH)
            of[ROLE_UNITS] = of[ROLE_SEQUENCES] > 0;
        if (term->statistic == STATISTIC_NONE || term->statistic == STATISTIC_PARTNER)
            of[ROLE_UNITS] = 0;
        double slope = 0; /* of PROB_MEAN and PROB_BATCH, from the slopes of the sequences */
        for (int s = 0; s < p->sequences; s++)
            if (p->role[s] == k && term->scale != 0)
                slope += r->slope_prob[s] / term->scale *
                         (term->statistic == STATISTIC_PROB_BATCH ? term->divisor / of[ROLE_SEQUENCES]
                                                                  : p->begin[s + 1] - p->begin[s]);
        if (term->statistic == STATISTIC_PROB_MEAN || term->statistic == STATISTIC_PROB_BATCH)
            assert_close("slope total", &of[ROLE_SLOPE], &slope, 1, 1e-14, 1e-13);
    }
    assert_close("totals", r->totals, expected, SEQUENCE_TOTALS, 1e-14, 1e-12);
}

static void problem_check(struct op_test *t, const struct problem *p)
{
    struct results r = problem_run(t, p, NULL);
    double parts[SEQUENCE_ROLES], wide[ROWS];
    const double sum_bound = op_test_is_cuda(t) ? 1e-15 : 0; /* a tree, or the order of the rows as here */
    const double exact = t->stat == DTYPE_F64 ? 1e-13 : 1e-6;
    memcpy(wide, p->logprob, sizeof wide);
    const double loss = loss_naive(p, wide, true, parts);
    assert_close("loss", &r.totals[TOTAL_LOSS], &loss, 1, exact, exact);
    for (int k = 0; k < SEQUENCE_ROLES; k++) {
        assert_close("part of the loss", &r.totals[total_of(k, ROLE_LOSS)], &parts[k], 1, exact, exact);
        parts[k] = r.totals[total_of(k, ROLE_LOSS)];
    }
    for (int s = 0; s < SEQUENCES; s++) {
        double sum = 0, logprob_sum = 0;
        for (int i = begin[s]; i < begin[s + 1]; i++)
            sum += p->p[i], logprob_sum += p->logprob[i];
        assert_close("prob_sum", &r.prob_sum[s], &sum, 1, 0, sum_bound);
        assert_close("logprob_sum", &r.logprob_sum[s], &logprob_sum, 1, 0, sum_bound);
        for (int i = begin[s]; i < begin[s + 1]; i++) {
            double expected = -weight_naive(p, i);
            assert_close("row_scale", &r.row_scale[i], &expected, 1, 1e-9, t->stat == DTYPE_F64 ? 1e-8 : 2e-6);
        }
    }
    totals_check(p, &r, parts);
    /* A second micro-batch adds to the totals. */
    double expected[SEQUENCE_TOTALS];
    struct results twice = problem_run(t, p, r.totals);
    for (int i = 0; i < SEQUENCE_TOTALS; i++)
        expected[i] = 2 * r.totals[i];
    assert_close("totals of two", twice.totals, expected, SEQUENCE_TOTALS, 1e-14, 1e-14);
}

static void test_losses(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < LOSSES; i++) {
            struct op_test *t = op_test_open(op_test_engines[e], 1);
            struct problem p = problem_make(t, &losses[i]);
            print_message("%s on %s\n", losses[i].name, op_test_engines[e]);
            problem_check(t, &p);
            op_test_close(t);
        }
}

/* More sequences, pairs and rows than a block has warps and threads, against the CPU. */
static void test_large(void **state)
{
    (void)state;
    enum { MANY = 1100, LONGEST = 70 };
    int32_t many[MANY + 1] = {0}, roles[MANY];
    double references[MANY];
    uint64_t random = 3;
    for (int s = 0; s < MANY; s++) {
        many[s + 1] = many[s] + 1 + (int)(LONGEST * uniform_next(&random));
        roles[s] = s % 5 < 2 ? TEMPLATE - s % 5 : s % 5 == 2 ? RETAIN : s % 5 == 3 ? TEMPLATE : OWN;
        references[s] = -30 * uniform_next(&random);
    }
    for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < LOSSES; i++) {
            struct op_test *cpu = op_test_open("cpu", 1), *t = op_test_open(op_test_engines[e], 1);
            const int rows = many[MANY];
            struct loss loss = losses[i];
            for (int r = 0; r < SEQUENCE_ROLES; r++)
                loss.term[r].divisor = 3e4;
            struct problem p = {&loss, MANY, rows, many, roles, references};
            problem_fill(t, &p, 11);
            struct results expected = problem_run(cpu, &p, NULL), r = problem_run(t, &p, NULL);
            print_message("%s on %s\n", losses[i].name, op_test_engines[e]);
            assert_close("logprob_sum", r.logprob_sum, expected.logprob_sum, MANY, 0, 2e-15);
            assert_close("prob_sum", r.prob_sum, expected.prob_sum, MANY, 0, 2e-15);
            assert_close("slope_prob", r.slope_prob, expected.slope_prob, MANY, 0, 1e-13);
            assert_close("slope_logprob", r.slope_logprob, expected.slope_logprob, MANY, 0, 1e-12);
            assert_close("totals", r.totals, expected.totals, SEQUENCE_TOTALS, 0, 1e-12);
            assert_close("row_scale", r.row_scale, expected.row_scale, rows, 0, t->eps);
            op_test_close(t);
            op_test_close(cpu);
        }
}

/* One bad row makes every weight of the micro-batch NaN, as does a loss that was not finite before. */
static void test_not_finite(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < LOSSES; i++)
            for (int kind = 0; kind < 3; kind++) {
                struct op_test *t = op_test_open(op_test_engines[e], 1);
                struct problem p = problem_make(t, &losses[i]);
                double totals[SEQUENCE_TOTALS] = {0};
                if (kind == 2)
                    totals[total_of(OTHER, ROLE_LOSS)] = INFINITY;
                for (int row = 0; row < ROWS && kind < 2; row++) /* of every role and pair, for every loss has to see it */
                    if (row % 3 == 1) {
                        p.logprob[row] = kind ? -INFINITY : NAN;
                        p.p[row] = p.row_value[row] = kind ? INFINITY : NAN;
                    }
                struct results r = problem_run(t, &p, totals);
                if (strcmp(losses[i].name, "nothing") || kind == 2) {
                    if (kind == 1 && isfinite(r.totals[TOTAL_LOSS])) /* some functions have a limit: tanh, -log sigmoid */
                        assert_true(losses[i].term[OWN].function != LOSS_LINEAR || losses[i].term[TEMPLATE].function);
                    else
                        assert_false(isfinite(r.totals[TOTAL_LOSS]));
                    for (int row = 0; row < ROWS && !isfinite(r.totals[TOTAL_LOSS]); row++)
                        assert_true(isnan(r.row_scale[row]));
                }
                op_test_close(t);
            }
}

static void bits_fill(struct op_test *t, void *user, double *out)
{
    struct problem p = problem_make(t, user);
    struct results r = problem_run(t, &p, NULL);
    memcpy(out, r.totals, SEQUENCE_TOTALS * sizeof *out);
    memcpy(out + SEQUENCE_TOTALS, r.row_scale, ROWS * sizeof *out);
}

static void test_same_bits(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < LOSSES; i++)
            op_test_same_bits(op_test_engines[e], SEQUENCE_TOTALS + ROWS, bits_fill, (void *)&losses[i]);
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        void *a = device_new(t, DTYPE_F64, SEQUENCE_TOTALS);
        const int32_t empty[] = {0, 0, 2}, good[] = {0, 1, 2}, roles[] = {1, 0}, foreign[] = {1, SEQUENCE_ROLES};
        struct sequence_args args = {.dtype = t->stat, .term = {{STATISTIC_PARTNER},
                                                                {STATISTIC_LOGPROB_PAIR, LOSS_LOG_SIGMOID, 1, .beta = 1}},
                                     .sequences = 2, .rows = 2, .begin = device_bytes(t, good, sizeof good),
                                     .role = device_bytes(t, roles, sizeof roles),
                                     .logprob = a, .p = a, .logprob_sum = a, .prob_sum = a, .slope_prob = a,
                                     .slope_logprob = a, .row_scale = a, .totals = a};
        enum { BAD = 13, ON_THE_HOST = 9 };
        struct sequence_args bad[BAD];
        for (int i = 0; i < BAD; i++)
            bad[i] = args;
        bad[0].dtype = DTYPE_BF16;
        bad[1].term[1].beta = 0;
        bad[2].term[1].function = LOSS_FUNCTIONS;
        bad[3].term[0].statistic = STATISTIC_PROB_BATCH;
        bad[4].totals = NULL;
        bad[5].role = NULL;
        bad[6].term[0] = (struct loss_term){STATISTIC_TOKENS, .token = TOKEN_POWER};
        bad[7].term[0] = (struct loss_term){STATISTIC_TOKENS, .token = TOKEN_GIVEN}, bad[7].q = a;
        bad[8].rows = 1;
        bad[9].begin = device_bytes(t, empty, sizeof empty); /* what is on the device a GPU takes as it is */
        bad[10].role = device_bytes(t, foreign, sizeof foreign);
        bad[11].rows = 3;
        bad[12].term[1].statistic = STATISTIC_LOGPROB_SUM; /* a partner alone */
        for (int i = 0; i < (op_test_is_cuda(t) ? ON_THE_HOST : BAD); i++)
            op_test_refused(t, "sequence_loss", t->engine->sequence_loss(t->context, &bad[i]));
        args.sequences = 0;
        op_test_status(t, "sequence_loss", t->engine->sequence_loss(t->context, &args));
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_check_values), cmocka_unit_test(test_slopes),
                                       cmocka_unit_test(test_losses),       cmocka_unit_test(test_large),
                                       cmocka_unit_test(test_not_finite),   cmocka_unit_test(test_same_bits),
                                       cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

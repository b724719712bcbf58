/* ks_asymptotic.c - P(D >= d) for the one-sample two-sided statistic of n values, with the choice of methods of Simard
 * and L'Ecuyer 2011 ("Computing the two-sided Kolmogorov-Smirnov distribution") that SciPy's kstwo makes, so that the
 * numbers are SciPy's; the approximations for n > 140 are within 3e-5 of the exact p, relative.
 *
 *   n d <= 1, n d >= n - 1      closed forms (Ruben and Gambino 1982)
 *   n d d large                 twice the one-sided probability (Smirnov's sum; exact for d >= 1/2, else Miller 1956)
 *   n <= 140, or n d^1.5 small  1 - Durbin's matrix power (Marsaglia, Tsang and Wang 2003): exact
 *   otherwise                   1 - Pelz and Good's series in 1 / sqrt(n) (1976)
 */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "ks.h"

/* log of the binomial coefficient. */
static double log_choose(double n, double k)
{
    int sign;
    return lgamma_r(n + 1, &sign) - lgamma_r(k + 1, &sign) - lgamma_r(n - k + 1, &sign);
}

/* P(D+ >= d) = d sum over j <= n (1 - d) of C(n, j) (d + j/n)^(j-1) (1 - d - j/n)^(n-j): positive terms only. */
static double one_sided(size_t n, double d)
{
    double count = (double)n, sum = 0;
    for (size_t j = 0; j <= n; j++) {
        double above = d + (double)j / count, below = 1 - above;
        if (below <= 0)
            break;
        sum += exp(log_choose(count, (double)j) + ((double)j - 1) * log(above) + (count - (double)j) * log(below));
    }
    return d * sum;
}

/* c = a b, all m by m. */
static void multiply(const double *a, const double *b, double *c, size_t m)
{
    memset(c, 0, m * m * sizeof *c);
    for (size_t i = 0; i < m; i++)
        for (size_t k = 0; k < m; k++)
            for (size_t j = 0; j < m && a[i * m + k] != 0; j++)
                c[i * m + j] += a[i * m + k] * b[k * m + j];
}

/* Durbin's matrix: ones over factorials below and on the diagonal, one above; first column and last row with powers of
 * the fraction h = k - n d left over. */
static void durbin_matrix(double *matrix, size_t m, double h)
{
    double factorial = 1; /* 1 / i! */
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < m; j++)
            matrix[i * m + j] = 0;
    for (size_t distance = 0; distance <= m; distance++) {
        factorial /= distance ? (double)distance : 1;
        for (size_t i = 0; i < m; i++)
            if (i + 1 >= distance && i + 1 - distance < m)
                matrix[i * m + i + 1 - distance] = factorial;
    }
    for (size_t i = 0; i < m; i++) {
        double power = pow(h, (double)i + 1);
        factorial = 1 / tgamma((double)i + 2);
        double edge = (1 - power) * factorial;
        if (i + 1 == m)
            edge = (1 - 2 * power + (2 * h > 1 ? pow(2 * h - 1, (double)m) : 0)) * factorial;
        matrix[i * m] = edge;
        matrix[(m - 1) * m + (m - 1 - i)] = edge;
    }
}

/* P(D < d) = n!/n^n times the middle element of the n-th power of Durbin's matrix; NAN when memory runs out. */
static double durbin(size_t n, double d)
{
    double t = (double)n * d;
    size_t k = (size_t)ceil(t), m = 2 * k - 1, middle = (k - 1) * m + (k - 1);
    double *room = calloc(3 * m * m, sizeof *room);
    if (!room)
        return NAN;
    double *base = room, *power = room + m * m, *next = power + m * m;
    long base_exponent = 0, exponent = 0;
    durbin_matrix(base, m, (double)k - t);
    for (size_t i = 0; i < m; i++)
        power[i * m + i] = 1;
    for (size_t left = n; left; left /= 2) {
        double *other;
        if (left % 2) {
            multiply(power, base, next, m);
            other = power, power = next, next = other;
            exponent += base_exponent;
        }
        multiply(base, base, next, m);
        other = base, base = next, next = other;
        base_exponent *= 2;
        if (base[middle] > 0x1p128) {
            for (size_t i = 0; i < m * m; i++)
                base[i] *= 0x1p-128;
            base_exponent += 128;
        }
    }
    double p = power[middle];
    for (size_t i = 1; i <= n; i++) {
        p *= (double)i / (double)n;
        if (p < 0x1p-128) {
            p *= 0x1p128;
            exponent -= 128;
        }
    }
    free(room);
    return ldexp(p, (int)exponent);
}

/* P(D < d) by Pelz and Good: four functions of z = d sqrt(n), each a sum of powers of q = exp(-pi^2 / (8 z^2)). */
static double pelz_good(size_t n, double d)
{
    double root = sqrt((double)n), z = root * d, z2 = z * z, z4 = z2 * z2, z6 = z4 * z2, z8 = z4 * z4;
    double pi2 = M_PI * M_PI, pi4 = pi2 * pi2, pi6 = pi4 * pi2, sum[4] = {0}, second[2] = {0};
    if (pi2 / 8 / z2 > 708)
        return 0;
    int terms = (int)ceil(16 * z / M_PI);
    for (int k = terms; k >= 1; k--) {
        double o = 2 * k - 1, o2 = o * o, o4 = o2 * o2, o6 = o4 * o2, weight = exp(-pi2 * o2 / (8 * z2));
        sum[0] += weight;
        sum[1] += weight * (pi2 / 4 * o2 - z2);
        sum[2] += weight * (6 * z6 + 2 * z4 + (2 * z4 - 5 * z2) * pi2 / 4 * o2 + pi4 * (1 - 2 * z2) / 16 * o4);
        sum[3] += weight * (-30 * z6 - 90 * z8 + pi2 * (135 * z4 - 96 * z6) / 4 * o2 +
                            pi4 * (212 * z4 - 60 * z2) / 16 * o4 + pi6 * (5 - 30 * z2) / 64 * o6);
        double k2 = (double)k * k, whole = exp(-pi2 * k2 / (2 * z2));
        second[0] += k2 * whole;
        second[1] += (3 * z2 - pi2 * k2) * k2 * whole;
    }
    double unit = sqrt(2 * M_PI);
    double k0 = unit * sum[0] / z, k1 = unit * sum[1] / (6 * z4);
    double k2 = unit * sum[2] / (72 * z6 * z) - pi2 * unit * second[0] / (36 * z2 * z);
    double k3 = unit * sum[3] / (6480 * z8 * z2) + pi2 * unit * second[1] / (216 * z6);
    return k0 + k1 / root + k2 / (double)n + k3 / ((double)n * root);
}

static double between_0_and_1(double p)
{
    return p < 0 ? 0 : p > 1 ? 1 : p;
}

double ks_one_sample_p(size_t n, double statistic)
{
    double count = (double)n, d = statistic, t = count * d, spread = t * d;
    if (n == 0 || isnan(d))
        return NAN;
    if (d >= 1 || spread >= 370)
        return 0;
    if (t <= 0.5)
        return 1;
    if (t <= 1) {
        double p = 1;
        for (size_t i = 1; i <= n && p > 0; i++)
            p *= (double)i / count * (2 * t - 1);
        return 1 - p;
    }
    if (t >= count - 1)
        return 2 * pow(1 - d, count);
    if (d >= 0.5 || spread > (n <= 140 ? 4 : 2.2))
        return between_0_and_1(2 * one_sided(n, d));
    bool exact = n <= 140 || (n <= 100000 && count * pow(d, 1.5) <= 1.4);
    return between_0_and_1(1 - (exact ? durbin(n, d) : pelz_good(n, d)));
}

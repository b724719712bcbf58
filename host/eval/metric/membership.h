/* membership.h - was a text in the training data? Scores of a row, low for members, and what is made of their AUC.
 *
 *   loss        mean -logprob of the targets
 *   zlib        loss / bytes of the compressed text (Carlini et al. 2021)
 *   min-k       -mean of the n_k smallest log-probs, n_k = max(1, int(k n)), k = 0.4 (Shi et al. 2024)
 *   min-k++     the same of (logprob - mu) / sqrt(max(var, 1e-6)), mu and var the mean and variance of the log-prob
 *               under the position's own distribution (Zhang et al. 2025)
 *   reference   loss - loss under another model
 *
 * min-k and min-k++ leave the last label out in open-unlearning: pass the log-probs without it. AUC (auc.h): forget
 * rows negative, holdout rows positive.
 *   PrivLeak, open-unlearning   100 ((1 - A) - (1 - A_r)) / ((1 - A_r) + 1e-10)
 *   PrivLeak, MUSE              100 (B - B_r) / B_r,  B = 1 - A: MUSE's code negates the score
 *   relative difference         100 (A - A_r) / (A_r + 1e-10)
 * with A_r of the retain model, 0.5 without one. -100: surely still members; well above 0: over-unlearned.
 */
#ifndef FLAT_EVAL_METRIC_MEMBERSHIP_H
#define FLAT_EVAL_METRIC_MEMBERSHIP_H
#include <stddef.h>

#include "../../util/error.h"

#define MIN_K_SHARE 0.4 /* the share that open-unlearning and MUSE report */
/* A_r that MUSE's code holds for its retrained models and min-k of 40 %, in open-unlearning's orientation. */
#define MUSE_NEWS_RETRAIN_AUC (1 - 0.4772)
#define MUSE_BOOKS_RETRAIN_AUC (1 - 0.5393)

/* loss / compressed length. The length is that of Python's zlib.compress: level 6, header and checksum counted, 8 for
 * the empty text. STATUS_MEMORY, STATUS_RUNTIME when zlib fails. Compatible replacements of zlib give other lengths. */
int membership_zlib(double loss, const char *text, size_t length, double *score, struct error *error);
int zlib_length(const char *text, size_t length, size_t *compressed, struct error *error);

/* Which n_k when int(k n) is 0: one token, or none and the score NAN. */
enum min_k_rule { MIN_K_OPEN_UNLEARNING, MIN_K_MUSE };

/* values: [count] log-probs (min-k) or standardised ones (min-k++); 0 for count = 0 by open-unlearning's rule.
 * STATUS_INPUT for a share outside 0..1, STATUS_MEMORY. O(n log n). */
int membership_min_k(const double *values, size_t count, double share, enum min_k_rule rule, double *score,
                     struct error *error);
/* One token's standardised log-prob for min-k++. */
double membership_standardise(double logprob, double mean, double variance);

double privleak_open_unlearning(double auc, double retain_auc);
double privleak_muse(double auc, double retain_auc); /* both in open-unlearning's orientation */
double auc_relative_difference(double auc, double retain_auc);

#endif

/* composite.h - figures made of others.
 *
 *   forget quality gap   |BLEU - retrained model's BLEU| + |ROUGE-L - retrained model's ROUGE-L|; lower is better;
 *                        BLEU in 0-100, ROUGE-L recall in 0-1 (Harry Potter tables of FLAT and SOUL)
 *   memorization score   HM(1 - extraction strength, 1 - exact memorization, 1 - P(paraphrase), 1 - truth ratio),
 *                        the last in its probability form; forget rows
 *   privacy score        HM of s = clip(1 - |A - A_r| / A_r, 0, 1) over the membership AUCs A, A_r the retain model's
 *   utility score        HM(model utility, fluency)
 *   overall              HM(memorization, privacy, utility)
 * HM: harmonic mean of the terms + 1e-12, so that a term of 0 makes the score 0 (to 12 digits) and not an error.
 * Source: OpenUnlearning (arXiv 2506.12618) as reproduced by its users; the formulas are not in its code.
 */
#ifndef FLAT_EVAL_METRIC_COMPOSITE_H
#define FLAT_EVAL_METRIC_COMPOSITE_H
#include <stddef.h>

double forget_quality_gap(double bleu, double rouge, double retrained_bleu, double retrained_rouge);
double memorization_score(double extraction_strength, double exact_memorization, double paraphrase_probability,
                          double truth_ratio);
/* auc, retain_auc: [count] of the same attacks, loss, zlib, min-k and min-k++ in the paper. NAN when a retain AUC
 * is 0. */
double privacy_score(const double *auc, const double *retain_auc, size_t count);
double utility_score(double model_utility, double fluency);
double overall_score(double memorization, double privacy, double utility);

#endif

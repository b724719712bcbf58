/* membership.c - see membership.h. */
#include "membership.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#define ZLIB_CONST /* the input is not written to */
#include <zlib.h>

#include "../../util/memory.h"
#include "mean.h"
#include "probability.h"

enum { ZLIB_LEVEL = 6, ZLIB_CHUNK = 1 << 30 };

int zlib_length(const char *text, size_t length, size_t *compressed, struct error *error)
{
    unsigned char out[4096];
    z_stream stream = {0};
    int code = deflateInit(&stream, ZLIB_LEVEL);
    if (code != Z_OK)
        return error_set(error, code == Z_MEM_ERROR ? STATUS_MEMORY : STATUS_RUNTIME, "zlib cannot begin: %s",
                         zError(code));
    *compressed = 0;
    do { /* the input in pieces that fit zlib's counter, the output only counted */
        if (stream.avail_in == 0 && length > 0) {
            stream.next_in = (const unsigned char *)text;
            stream.avail_in = length < ZLIB_CHUNK ? (uInt)length : ZLIB_CHUNK;
            text += stream.avail_in;
            length -= stream.avail_in;
        }
        stream.next_out = out;
        stream.avail_out = sizeof out;
        code = deflate(&stream, length ? Z_NO_FLUSH : Z_FINISH);
        *compressed += sizeof out - stream.avail_out;
    } while (code == Z_OK);
    deflateEnd(&stream);
    if (code != Z_STREAM_END)
        return error_set(error, STATUS_RUNTIME, "zlib cannot compress: %s", zError(code));
    return STATUS_OK;
}

int membership_zlib(double loss, const char *text, size_t length, double *score, struct error *error)
{
    size_t compressed;
    int status = zlib_length(text, length, &compressed, error);
    if (!status)
        *score = loss / (double)compressed;
    return status;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int membership_min_k(const double *values, size_t count, double share, enum min_k_rule rule, double *score,
                     struct error *error)
{
    if (!(share >= 0 && share <= 1))
        return error_set(error, STATUS_INPUT, "min-k's share is %g; expected 0 to 1", share);
    size_t chosen = (size_t)((double)count * share);
    if (chosen == 0 && rule == MIN_K_OPEN_UNLEARNING)
        chosen = count > 0;
    *score = count > 0 || rule == MIN_K_MUSE ? NAN : 0;
    for (size_t i = 0; i < count; i++)
        if (isnan(values[i]))
            return STATUS_OK;
    if (chosen == 0)
        return STATUS_OK;
    double *sorted = memory_array(count, sizeof *sorted, error);
    if (!sorted)
        return STATUS_MEMORY;
    memcpy(sorted, values, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare);
    *score = -mean_of(sorted, chosen);
    free(sorted);
    return STATUS_OK;
}

double membership_standardise(double logprob, double mean, double variance)
{
    return (logprob - mean) / sqrt(variance > 1e-6 ? variance : 1e-6);
}

double privleak_open_unlearning(double auc, double retain_auc)
{
    return 100 * ((1 - auc) - (1 - retain_auc)) / ((1 - retain_auc) + OPEN_UNLEARNING_EPS);
}

double privleak_muse(double auc, double retain_auc)
{
    return 100 * ((1 - auc) - (1 - retain_auc)) / (1 - retain_auc);
}

double auc_relative_difference(double auc, double retain_auc)
{
    return 100 * (auc - retain_auc) / (retain_auc + OPEN_UNLEARNING_EPS);
}

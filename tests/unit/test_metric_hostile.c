/* test_metric_hostile.c - metrics of texts on what no one should send: random bytes, cut and overlong UTF-8, NULs,
 * texts and words of hundreds of kilobytes, lengths around the 64 of the bit-parallel rows. Values are checked by
 * slow, plain forms of the same definitions; run under a sanitizer too (make SAN=1).
 */
#include <math.h>

#include "../../host/eval/metric/bleu.h"
#include "../../host/eval/metric/lower.h"
#include "../../host/eval/metric/membership.h"
#include "../../host/eval/metric/perplexity.h"
#include "../../host/eval/metric/porter.h"
#include "../../host/eval/metric/refusal.h"
#include "../../host/eval/metric/repetition.h"
#include "../../host/eval/metric/rouge.h"
#include "../../host/util/memory.h"
#include "../../host/util/utf8.h"
#include "../support/temporary.h"

static uint64_t random_next(uint64_t *state, uint64_t n) /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % n;
}

/* An exact allocation, so that a sanitizer sees any read past the end. */
static char *exact(const char *text, size_t length)
{
    char *copy = malloc(length ? length : 1);
    assert_non_null(copy);
    memcpy(copy, text, length);
    return copy;
}

static size_t random_text(uint64_t *random, char *out, size_t most)
{
    static const char *const pieces[] = {
        "a",     "b",         "ing",          " ",        ". ",       ",", "-",        "1", "9.", "\n",
        "&amp;", "<skipped>", "\xe2\x84\xaa", "\xc4\xb0", "\xce\xa3", "'", "\xc2\x85", "y"};
    size_t length = 0;
    while (length + 16 < most && random_next(random, 60)) {
        if (random_next(random, 4)) {
            const char *piece = pieces[random_next(random, sizeof pieces / sizeof *pieces)];
            memcpy(out + length, piece, strlen(piece));
            length += strlen(piece);
        } else {
            out[length++] = (char)random_next(random, 256);
        }
    }
    return length;
}

/* The longest common subsequence by its table. */
static size_t slow_subsequence(const struct word_list *a, const struct word_list *b)
{
    size_t columns = b->count + 1, longest;
    size_t *table = calloc((a->count + 1) * columns, sizeof *table);
    assert_non_null(table);
    for (size_t i = 1; i <= a->count; i++)
        for (size_t j = 1; j < columns; j++) {
            size_t up = table[(i - 1) * columns + j], left = table[i * columns + j - 1];
            table[i * columns + j] = a->id[i - 1] == b->id[j - 1] ? table[(i - 1) * columns + j - 1] + 1
                                     : up > left                  ? up
                                                                  : left;
        }
    longest = table[a->count * columns + b->count];
    free(table);
    return longest;
}

static void check_rouge(const char *a, size_t a_length, const char *b, size_t b_length)
{
    struct word_list target = {0}, prediction = {0};
    struct word_list *const both[] = {&target, &prediction};
    int32_t distinct;
    struct rouge rouge;
    assert_int_equal(words_of_rouge(&target, a, a_length, true, NULL), STATUS_OK);
    assert_int_equal(words_of_rouge(&prediction, b, b_length, true, NULL), STATUS_OK);
    assert_int_equal(words_number(both, 2, &distinct, NULL), STATUS_OK);
    assert_int_equal(rouge_score(a, a_length, b, b_length, true, &rouge, NULL), STATUS_OK);
    double recall = target.count ? (double)slow_subsequence(&target, &prediction) / (double)target.count : 0;
    assert_true(rouge.rougeL.recall == recall);
    assert_true(rouge.rouge1.recall >= recall && rouge.rouge1.f1 <= 1 && rouge.rougeL.f1 >= 0);
    for (size_t i = 0; i < target.count; i++)
        for (size_t k = 0; k < target.word[i].length; k++)
            assert_non_null(strchr("abcdefghijklmnopqrstuvwxyz0123456789", target.word[i].text[k]));
    words_free(&target);
    words_free(&prediction);
}

/* BLEU's matches, every n-gram of the one looked up in the other. */
static void check_bleu(const char *a, size_t a_length, const char *b, size_t b_length)
{
    struct word_list given = {0}, wanted = {0};
    struct word_list *const both[] = {&given, &wanted};
    int32_t distinct;
    struct bleu_counts counts = {0};
    assert_int_equal(bleu_words(&given, a, a_length, NULL), STATUS_OK);
    assert_int_equal(bleu_words(&wanted, b, b_length, NULL), STATUS_OK);
    assert_int_equal(words_number(both, 2, &distinct, NULL), STATUS_OK);
    assert_int_equal(bleu_count(a, a_length, b, b_length, &counts, NULL), STATUS_OK);
    for (size_t n = 1; n <= NGRAM_ORDERS; n++) {
        int64_t matches = 0;
        bool *used = calloc(wanted.count + 1, sizeof *used);
        for (size_t i = 0; i + n <= given.count; i++)
            for (size_t j = 0; j + n <= wanted.count; j++)
                if (!used[j] && !memcmp(given.id + i, wanted.id + j, n * sizeof *given.id)) {
                    used[j] = true;
                    matches++;
                    break;
                }
        free(used);
        assert_int_equal(counts.matches[n - 1], matches);
    }
    double score = bleu_score(&counts, NULL, NULL);
    assert_true(score >= 0 && score < 100.001);
    words_free(&given);
    words_free(&wanted);
}

static void check_others(const char *text, size_t length)
{
    struct repetition repetition;
    struct refusal refusal;
    struct buffer lower = {0}, again = {0};
    const char *const refusals[] = {"", "a b ing"};
    size_t compressed;
    assert_int_equal(repetition_of_text(text, length, &repetition, NULL), STATUS_OK);
    for (int i = 0; i < NGRAM_ORDERS; i++)
        assert_true(repetition.repeated[i] >= 0 && repetition.repeated[i] < 1 && repetition.entropy[i] >= 0);
    assert_int_equal(refusal_score(text, length, refusals, 2, &refusal, NULL), STATUS_OK);
    assert_in_range(refusal.nearest, 0, 1);
    assert_int_equal(text_lower(text, length, &lower, NULL), STATUS_OK);
    assert_int_equal(text_lower(lower.data, lower.length, &again, NULL), STATUS_OK);
    assert_true(again.length == lower.length && (!length || !memcmp(again.data, lower.data, lower.length)));
    assert_int_equal(utf8_valid(text, length, NULL), utf8_valid(lower.data, lower.length, NULL));
    assert_true(perplexity_words(text, length) >= 1);
    assert_int_equal(zlib_length(text, length, &compressed, NULL), STATUS_OK);
    assert_true(compressed >= 8);
    buffer_free(&lower);
    buffer_free(&again);
}

static void test_random(void **state)
{
    (void)state;
    uint64_t random = 1;
    char one[2048], two[2048];
    for (int round = 0; round < 1500; round++) {
        size_t a_length = random_text(&random, one, sizeof one), b_length = random_text(&random, two, sizeof two);
        char *a = exact(one, a_length), *b = exact(two, b_length);
        check_rouge(a, a_length, b, b_length);
        check_bleu(a, a_length, b, b_length);
        check_others(a, a_length);
        free(a);
        free(b);
    }
}

/* Lists of every length around the blocks of 64, from few words, so that carries run through blocks. */
static void test_block_borders(void **state)
{
    (void)state;
    uint64_t random = 7;
    for (size_t length = 1; length <= 260; length += length % 64 > 60 || length % 64 < 4 ? 1 : 7)
        for (int kinds = 1; kinds <= 4; kinds++) {
            char a[1024], b[1024];
            for (size_t i = 0; i < length; i++) {
                a[2 * i] = (char)('a' + random_next(&random, (uint64_t)kinds));
                b[2 * i] = (char)('a' + random_next(&random, (uint64_t)kinds));
                a[2 * i + 1] = b[2 * i + 1] = ' ';
            }
            check_rouge(a, 2 * length, b, 2 * length);
            check_rouge(a, 2 * length, b, length);
            check_bleu(a, 2 * length, b, 2 * length);
        }
}

/* A quarter of a megabyte: of one word, of one letter in many words, of distinct words, of separators, of NULs, of sigmas. */
static void test_huge(void **state)
{
    (void)state;
    enum { BYTES = 1 << 18 };
    static const char *const units[] = {"y",         "a ",   ".",  " ",         "ed",    "\xce\xa3",
                                        "\xce\xa3'", "\xff", "1.", "<skipped>", "ab,-\n"};
    for (size_t u = 0; u <= sizeof units / sizeof *units; u++) {
        bool nul = u == sizeof units / sizeof *units;
        struct buffer text = {0};
        struct rouge rouge;
        struct bleu_counts counts = {0};
        while (text.length < BYTES)
            assert_int_equal(buffer_append(&text, nul ? "" : units[u], nul ? 1 : strlen(units[u]), NULL), STATUS_OK);
        size_t few = text.length < 40000 ? text.length : 40000;
        assert_int_equal(rouge_score(text.data, text.length, text.data, few, true, &rouge, NULL), STATUS_OK);
        assert_true(rouge.rougeL.precision > 0.999 || rouge.rougeL.precision == 0); /* but for a last word cut in two */
        assert_int_equal(bleu_count(text.data, text.length, text.data, text.length, &counts, NULL), STATUS_OK);
        assert_int_equal(counts.matches[3], counts.total[3]);
        check_others(text.data, text.length);
        buffer_free(&text);
    }
    struct error error = {0};
    struct word_list list = {0};
    size_t huge = (size_t)INT32_MAX + 1; /* refused by its length alone */
    assert_error(&error, words_of_rouge(&list, "", huge, true, &error), STATUS_INPUT, "a text has 2147483648 bytes");
    assert_error(&error, bleu_words(&list, "", huge, &error), STATUS_INPUT, "a text has 2147483648 bytes");
    words_free(&list);
}

/* Every word of up to five bytes from the letters that the rules look at: the stem is no longer, and is one word
 * still. */
static void test_stems(void **state)
{
    (void)state;
    static const char letters[] = "aeiylsdngtz1";
    enum { LETTERS = sizeof letters - 1, MOST = 5 };
    int limit = 1;
    for (int length = 1; length <= MOST; length++) {
        limit *= LETTERS;
        for (int code = 0; code < limit; code++) {
            char *word = malloc((size_t)length);
            for (int i = 0, left = code; i < length; i++, left /= LETTERS)
                word[i] = letters[left % LETTERS];
            size_t stem = porter_stem(word, (size_t)length);
            assert_in_range(stem, 1, length);
            free(word);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_block_borders),
        cmocka_unit_test(test_huge),
        cmocka_unit_test(test_stems),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_metric_text.c - metrics of texts against what the original libraries say of them: stems, ROUGE, BLEU, lower
 * case, word counts, zlib lengths, repetition, refusals.
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
#include "../../host/eval/metric/words.h"
#include "../support/metric_golden.h"

static void check_porter(const cJSON *golden)
{
    const cJSON *pair;
    int words = 0;
    cJSON_ArrayForEach(pair, expected_list(golden, "words"))
    {
        const char *word = cJSON_GetArrayItem(pair, 0)->valuestring, *stem = cJSON_GetArrayItem(pair, 1)->valuestring;
        char text[256];
        assert_in_range(strlen(word), 1, sizeof text - 1);
        strcpy(text, word);
        text[porter_stem(text, strlen(word))] = 0;
        if (strcmp(text, stem))
            fail_msg("%s: got %s, expected %s", word, text, stem);
        words++;
    }
    print_message("%d stems equal\n", words);
}

/* The list's words as the array of that key, or, for text, as those words joined by spaces. */
static void check_words(const struct word_list *list, const cJSON *record, const char *key)
{
    const cJSON *expected = json_member(record, key), *word;
    struct buffer joined = {0};
    for (size_t i = 0; i < list->count; i++) {
        assert_int_equal(buffer_append(&joined, i ? " " : "", i > 0, NULL), 0);
        assert_int_equal(buffer_append(&joined, list->word[i].text, list->word[i].length, NULL), 0);
    }
    struct buffer wanted = {0};
    cJSON_ArrayForEach(word, expected) /* a text has no members */
        assert_int_equal(buffer_printf(&wanted, NULL, "%s%s", wanted.length ? " " : "", word->valuestring), 0);
    const char *text = cJSON_IsArray(expected) ? wanted.data : expected->valuestring;
    assert_string_equal(joined.data ? joined.data : "", text ? text : "");
    buffer_free(&joined);
    buffer_free(&wanted);
}

static void check_measure(const struct rouge_measure *got, const cJSON *rouge, const char *name, const cJSON *record)
{
    const cJSON *wanted = expected_list(rouge, name);
    expected_close(got->precision, cJSON_GetArrayItem(wanted, 0)->valuedouble, 1e-15, name, record);
    expected_close(got->recall, cJSON_GetArrayItem(wanted, 1)->valuedouble, 1e-15, name, record);
    expected_close(got->f1, cJSON_GetArrayItem(wanted, 2)->valuedouble, 1e-15, name, record);
}

static void check_rouge(const cJSON *golden)
{
    const cJSON *record;
    int pairs = 0;
    cJSON_ArrayForEach(record, expected_list(golden, "pairs"))
    {
        size_t target_length, prediction_length;
        char *target = expected_text(record, "target", &target_length);
        char *prediction = expected_text(record, "prediction", &prediction_length);
        for (int stem = 0; stem < 2; stem++) {
            const cJSON *wanted = expected_list(record, stem ? "stem" : "plain");
            struct rouge rouge;
            assert_int_equal(rouge_score(target, target_length, prediction, prediction_length, stem, &rouge, NULL),
                             STATUS_OK);
            check_measure(&rouge.rouge1, wanted, "rouge1", record);
            check_measure(&rouge.rougeL, wanted, "rougeL", record);
        }
        if (json_member(record, "target_tokens")) {
            struct word_list list = {0};
            assert_int_equal(words_of_rouge(&list, target, target_length, true, NULL), STATUS_OK);
            check_words(&list, record, "target_tokens");
            words_free(&list);
        }
        free(target);
        free(prediction);
        pairs++;
    }
    print_message("%d pairs within 1e-15\n", pairs);
}

static void check_counts(const struct bleu_counts *counts, const cJSON *wanted, const cJSON *record)
{
    double precision[NGRAM_ORDERS];
    expected_near(bleu_score(counts, NULL, precision), expected_number(wanted, "score"), 1e-10, "score", record);
    assert_int_equal(counts->hypothesis_words, (int64_t)expected_number(wanted, "sys_len"));
    assert_int_equal(counts->reference_words, (int64_t)expected_number(wanted, "ref_len"));
    for (int i = 0; i < NGRAM_ORDERS; i++) {
        assert_int_equal(counts->matches[i], cJSON_GetArrayItem(expected_list(wanted, "counts"), i)->valuedouble);
        assert_int_equal(counts->total[i], cJSON_GetArrayItem(expected_list(wanted, "totals"), i)->valuedouble);
        expected_near(precision[i], cJSON_GetArrayItem(expected_list(wanted, "precisions"), i)->valuedouble, 1e-10,
                      "precision", record);
    }
}

static void count_pair(const cJSON *record, bool lower, struct bleu_counts *counts)
{
    static const char *const keys[] = {"hypothesis", "reference"};
    char *text[2];
    size_t length[2];
    for (int i = 0; i < 2; i++) {
        text[i] = expected_text(record, keys[i], &length[i]);
        if (!lower)
            continue;
        struct buffer out = {0};
        assert_int_equal(text_lower(text[i], length[i], &out, NULL), STATUS_OK);
        free(text[i]);
        text[i] = out.data;
        length[i] = out.length;
    }
    assert_int_equal(bleu_count(text[0], length[0], text[1], length[1], counts, NULL), STATUS_OK);
    free(text[0]);
    free(text[1]);
}

static void check_bleu_pair(const cJSON *record)
{
    static const char *const sides[][2] = {{"hypothesis", "hypothesis_13a"}, {"reference", "reference_13a"}};
    static const struct bleu_options sentence = {BLEU_EXPONENTIAL, 0, true}, none = {BLEU_NONE, 0, false},
                                     small = {BLEU_FLOOR, 0.1, false}, add_k = {BLEU_ADD_K, 1, false};
    struct bleu_counts counts = {0}, lowered = {0};
    for (int i = 0; i < 2; i++) {
        size_t length;
        char *text = expected_text(record, sides[i][0], &length);
        struct word_list list = {0};
        assert_int_equal(bleu_words(&list, text, length, NULL), STATUS_OK);
        check_words(&list, record, sides[i][1]);
        words_free(&list);
        free(text);
    }
    count_pair(record, false, &counts);
    check_counts(&counts, expected_list(record, "corpus_bleu"), record);
    expected_near(bleu_score(&counts, &sentence, NULL), expected_number(record, "sentence_bleu"), 1e-10, "sentence",
                  record);
    expected_near(bleu_score(&counts, &none, NULL), expected_number(record, "none"), 1e-10, "none", record);
    expected_near(bleu_score(&counts, &small, NULL), expected_number(record, "floor"), 1e-10, "floor", record);
    expected_near(bleu_score(&counts, &add_k, NULL), expected_number(record, "add_k"), 1e-10, "add-k", record);
    count_pair(record, true, &lowered);
    expected_near(bleu_score(&lowered, NULL, NULL), expected_number(record, "lowercase"), 1e-10, "lower", record);
}

static void check_bleu(const cJSON *golden)
{
    const cJSON *pairs = expected_list(golden, "pairs"), *record;
    cJSON_ArrayForEach(record, pairs) check_bleu_pair(record);
    cJSON_ArrayForEach(record, expected_list(golden, "corpora"))
    {
        int first = (int)expected_number(record, "first"), end = (int)expected_number(record, "end"), at = 0;
        struct bleu_counts counts = {0};
        double sum = 0;
        const cJSON *pair;
        cJSON_ArrayForEach(pair, pairs)
        {
            struct bleu_counts own = {0};
            if (at >= first && at < end) {
                count_pair(pair, false, &counts);
                count_pair(pair, false, &own);
                sum += bleu_score(&own, NULL, NULL);
            }
            at++;
        }
        check_counts(&counts, expected_list(record, "corpus_bleu"), record);
        expected_near(sum / (end - first), expected_number(record, "mean_of_sentences"), 1e-10, "mean", record);
    }
    print_message("%d pairs, scores within 1e-10\n", cJSON_GetArraySize(pairs));
}

static void test_texts(void **state)
{
    (void)state;
    cJSON *golden = expected_read(GOLDEN_OWN, "text.json");
    const cJSON *record;
    cJSON_ArrayForEach(record, expected_list(golden, "texts"))
    {
        size_t length, compressed;
        char *text = expected_text(record, "text", &length);
        struct buffer lower = {0};
        assert_int_equal(text_lower(text, length, &lower, NULL), STATUS_OK);
        assert_string_equal(lower.data ? lower.data : "", json_member(record, "lower")->valuestring);
        buffer_free(&lower);
        assert_int_equal(perplexity_words(text, length), expected_number(record, "words"));
        assert_int_equal(zlib_length(text, length, &compressed, NULL), STATUS_OK);
        assert_int_equal(compressed, expected_number(record, "zlib"));
        struct repetition repetition;
        assert_int_equal(repetition_of_text(text, length, &repetition, NULL), STATUS_OK);
        for (int i = 0; i < NGRAM_ORDERS; i++) {
            const cJSON *repeated = cJSON_GetArrayItem(expected_list(record, "repeated"), i);
            const cJSON *entropy = cJSON_GetArrayItem(expected_list(record, "entropy"), i);
            expected_close(repetition.repeated[i], repeated->valuedouble, 1e-15, "repeated", record);
            expected_close(repetition.entropy[i], entropy->valuedouble, 1e-12, "entropy", record);
        }
        expected_close(repetition.weighted, expected_number(record, "weighted"), 1e-12, "weighted", record);
        free(text);
    }
    cJSON_Delete(golden);
}

static void check_zlib(const cJSON *golden)
{
    const cJSON *record;
    cJSON_ArrayForEach(record, expected_list(golden, "zlib"))
    {
        size_t length, compressed;
        double score;
        char *text = expected_text(record, "text", &length);
        assert_int_equal(zlib_length(text, length, &compressed, NULL), STATUS_OK);
        assert_int_equal(compressed, expected_number(record, "zlib"));
        assert_int_equal(membership_zlib(2.5, text, length, &score, NULL), STATUS_OK);
        expected_close(score, expected_number(record, "score_at_loss_2.5"), 1e-10, "score", record);
        free(text);
    }
}

static void test_refusal(void **state)
{
    (void)state;
    cJSON *golden = expected_read(GOLDEN_OWN, "refusal.json");
    const cJSON *record, *text;
    const char *refusals[8];
    double recall[8];
    int count = 0, answers = 0;
    cJSON_ArrayForEach(text, expected_list(golden, "refusals")) refusals[count++] = text->valuestring;
    cJSON_ArrayForEach(record, expected_list(golden, "answers"))
    {
        struct refusal refusal;
        const char *answer = json_member(record, "answer")->valuestring;
        assert_int_equal(refusal_score(answer, strlen(answer), refusals, count, &refusal, NULL), STATUS_OK);
        expected_close(refusal.recall, expected_number(record, "recall"), 1e-15, "recall", record);
        expected_close(refusal.f1, expected_number(record, "f1"), 1e-15, "f1", record);
        assert_int_equal(refusal.nearest, expected_number(record, "nearest"));
        recall[answers++] = refusal.recall;
    }
    expected_close(refusal_rate(recall, (size_t)answers, REFUSAL_THRESHOLD), expected_number(golden, "rate"), 1e-15,
                   "rate", golden);
    struct refusal refusal;
    assert_int_equal(refusal_score("x", 1, NULL, 0, &refusal, NULL), STATUS_OK);
    assert_int_equal(refusal.nearest, -1);
    assert_true(isnan(refusal_rate(NULL, 0, 0.5)));
    cJSON_Delete(golden);
}

GOLDEN_TEST(porter, "porter.json")
GOLDEN_TEST(rouge, "rouge.json")
GOLDEN_TEST(bleu, "bleu.json")
GOLDEN_TEST(zlib, "minkpp.json")

int main(void)
{
    const struct CMUnitTest tests[] = {
        GOLDEN_TESTS(porter), GOLDEN_TESTS(rouge),          GOLDEN_TESTS(bleu),
        GOLDEN_TESTS(zlib),   cmocka_unit_test(test_texts), cmocka_unit_test(test_refusal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

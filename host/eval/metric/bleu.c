/* bleu.c - see bleu.h. The tokens are made in four passes over the line, each from one buffer into the next, as the
 * original does with four regular expressions: a pass sees what the one before put in.
 */
#include "bleu.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/memory.h"
#include "spaces.h"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_point(char c)
{
    return c == '.' || c == ',';
}

/* All ASCII punctuation but the apostrophe, the hyphen, the point and the comma. */
static bool is_split(char c)
{
    return c && strchr(" !\"#$%&()*+/:;<=>?@[\\]^_`{|}~", c);
}

static size_t length_without_end_space(const char *text, size_t length)
{
    size_t end = 0;
    for (size_t at = 0; at < length;) {
        size_t space = space_at(text + at, length - at);
        at += space ? space : 1;
        if (!space)
            end = at;
    }
    return end;
}

static bool begins_with(const char *text, size_t length, const char *prefix)
{
    size_t bytes = strlen(prefix);
    return bytes <= length && !memcmp(text, prefix, bytes);
}

/* Replaces every `from` by the shorter `to`, left to right, in place; returns the new length. */
static size_t replace_all(char *text, size_t length, const char *from, const char *to)
{
    size_t out = 0, cut = strlen(from), put = strlen(to);
    for (size_t at = 0; at < length;) {
        if (begins_with(text + at, length - at, from)) {
            memcpy(text + out, to, put);
            at += cut;
            out += put;
        } else {
            text[out++] = text[at++];
        }
    }
    return out;
}

static size_t undo_markup(char *text, size_t length)
{
    static const char *const pairs[][2] = {{"<skipped>", ""}, {"-\n", ""},   {"\n", " "},  {"&quot;", "\""},
                                           {"&amp;", "&"},    {"&lt;", "<"}, {"&gt;", ">"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        length = replace_all(text, length, pairs[i][0], pairs[i][1]);
    return length;
}

static int put_spaced(struct buffer *out, char c, struct error *error)
{
    const char text[3] = {' ', c, ' '};
    return buffer_append(out, text, 3, error);
}

static int split_punctuation(const char *text, size_t length, struct buffer *out, struct error *error)
{
    int status = STATUS_OK;
    for (size_t i = 0; i < length && !status; i++)
        status = is_split(text[i]) ? put_spaced(out, text[i], error) : buffer_append(out, text + i, 1, error);
    return status;
}

/* What a pass does with two neighbours: nothing, or space out the first or the second of them. Both are then
 * consumed. */
enum spaced { SPACED_NONE, SPACED_FIRST, SPACED_SECOND };

static enum spaced point_after_no_digit(char first, char second)
{
    return !is_digit(first) && is_point(second) ? SPACED_SECOND : SPACED_NONE;
}

static enum spaced point_before_no_digit(char first, char second)
{
    return is_point(first) && !is_digit(second) ? SPACED_FIRST : SPACED_NONE;
}

static enum spaced hyphen_after_digit(char first, char second)
{
    return is_digit(first) && second == '-' ? SPACED_SECOND : SPACED_NONE;
}

/* The patterns speak of characters, this of bytes: a byte of a longer character is no digit, point or hyphen either,
 * and matches where the whole character would. */
static int split_pairs(const char *text, size_t length, enum spaced (*rule)(char, char), struct buffer *out,
                       struct error *error)
{
    int status = STATUS_OK;
    for (size_t i = 0; i < length && !status; i++) {
        enum spaced spaced = i + 1 < length ? rule(text[i], text[i + 1]) : SPACED_NONE;
        status = spaced == SPACED_FIRST ? put_spaced(out, text[i], error) : buffer_append(out, text + i, 1, error);
        if (spaced == SPACED_NONE || status)
            continue;
        i++;
        status = spaced == SPACED_SECOND ? put_spaced(out, text[i], error) : buffer_append(out, text + i, 1, error);
    }
    return status;
}

static int split_at_spaces(struct word_list *list, const char *text, size_t length, struct error *error)
{
    int status = STATUS_OK;
    size_t begin = 0;
    for (size_t at = 0; at < length && !status;) {
        size_t space = space_at(text + at, length - at);
        if (space && at > begin)
            status = words_append(list, text + begin, at - begin, error);
        at += space ? space : 1;
        if (space)
            begin = at;
    }
    return status || begin == length ? status : words_append(list, text + begin, length - begin, error);
}

int bleu_words(struct word_list *list, const char *text, size_t length, struct error *error)
{
    static enum spaced (*const rules[])(char, char) = {point_after_no_digit, point_before_no_digit, hyphen_after_digit};
    struct buffer line = {0}, next = {0};
    int status = words_check_length(length, error);
    if (!status)
        status = buffer_append(&line, text, length_without_end_space(text, length), error);
    if (!status) {
        line.length = undo_markup(line.data, line.length);
        status = buffer_append(&next, " ", 1, error);
    }
    if (!status)
        status = split_punctuation(line.data, line.length, &next, error);
    if (!status)
        status = buffer_append(&next, " ", 1, error);
    for (size_t i = 0; i < sizeof rules / sizeof *rules && !status; i++) {
        struct buffer done = next;
        next = line;
        line = done;
        next.length = 0;
        status = split_pairs(line.data, line.length, rules[i], &next, error);
    }
    if (!status) {
        list->bytes = next.data;
        status = split_at_spaces(list, next.data, next.length, error);
        next = (struct buffer){0};
    }
    buffer_free(&line);
    buffer_free(&next);
    return status;
}

/* n-grams of one order that the two sorted lists share, each counted as often as in the list that has fewer. */
static int64_t count_matches(const struct ngram *a, size_t a_count, const struct ngram *b, size_t b_count, int order)
{
    int64_t matches = 0;
    for (size_t i = 0, j = 0; i < a_count && j < b_count;) {
        int compared = ngram_compare(a + i, b + j, order);
        size_t i_end = compared <= 0 ? ngram_run(a, a_count, i, order) : i;
        size_t j_end = compared >= 0 ? ngram_run(b, b_count, j, order) : j;
        if (compared == 0 && ngram_is_whole(a + i, order))
            matches += (int64_t)(i_end - i < j_end - j ? i_end - i : j_end - j);
        i = i_end;
        j = j_end;
    }
    return matches;
}

static int count_ngrams(const struct word_list *hypothesis, const struct word_list *reference,
                        struct bleu_counts *counts, struct error *error)
{
    struct ngram *given = NULL, *wanted = NULL;
    int status = ngrams_sort(hypothesis->id, hypothesis->count, &given, error);
    if (!status)
        status = ngrams_sort(reference->id, reference->count, &wanted, error);
    for (int order = 1; order <= NGRAM_ORDERS && !status; order++) {
        int64_t total = (int64_t)hypothesis->count - order + 1;
        counts->total[order - 1] += total > 0 ? total : 0;
        counts->matches[order - 1] += count_matches(given, hypothesis->count, wanted, reference->count, order);
    }
    if (!status) {
        counts->hypothesis_words += (int64_t)hypothesis->count;
        counts->reference_words += (int64_t)reference->count;
    }
    free(given);
    free(wanted);
    return status;
}

int bleu_count(const char *hypothesis, size_t hypothesis_length, const char *reference, size_t reference_length,
               struct bleu_counts *counts, struct error *error)
{
    struct word_list given = {0}, wanted = {0};
    struct word_list *const both[] = {&given, &wanted};
    int32_t distinct;
    int status = bleu_words(&given, hypothesis, hypothesis_length, error);
    if (!status)
        status = bleu_words(&wanted, reference, reference_length, error);
    if (!status)
        status = words_number(both, 2, &distinct, error);
    if (!status)
        status = count_ngrams(&given, &wanted, counts, error);
    words_free(&given);
    words_free(&wanted);
    return status;
}

double bleu_score(const struct bleu_counts *counts, const struct bleu_options *options, double *precision)
{
    static const struct bleu_options defaults = {BLEU_EXPONENTIAL, 0, false};
    double own[NGRAM_ORDERS], halved = 1, log_sum = 0;
    options = options ? options : &defaults;
    precision = precision ? precision : own;
    int orders = NGRAM_ORDERS;
    bool any = false;
    for (int i = 0; i < NGRAM_ORDERS; i++) {
        precision[i] = 0;
        any |= counts->matches[i] > 0;
    }
    if (!any)
        return 0;
    for (int i = 0; i < NGRAM_ORDERS; i++) {
        double added = options->smoothing == BLEU_ADD_K && i > 0 ? options->smoothing_value : 0;
        double matches = (double)counts->matches[i] + added, total = (double)counts->total[i] + added;
        if (total == 0)
            break;
        if (options->effective_order)
            orders = i + 1;
        if (matches == 0 && options->smoothing == BLEU_EXPONENTIAL)
            matches = 1 / (halved *= 2);
        else if (matches == 0 && options->smoothing == BLEU_FLOOR)
            matches = options->smoothing_value;
        precision[i] = 100 * matches / total;
    }
    for (int i = 0; i < orders; i++)
        log_sum += log(precision[i]); /* log 0 is -inf, and exp of that the zero that is meant */
    double given = (double)counts->hypothesis_words, wanted = (double)counts->reference_words;
    return (given < wanted ? exp(1 - wanted / given) : 1) * exp(log_sum / orders);
}

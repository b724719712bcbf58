/* porter.c - see porter.h. A step looks for the first suffix of its list that the word has; that suffix decides, even
 * where its condition then leaves the word as it is.
 */
#include "porter.h"

#include <stdbool.h>
#include <string.h>

struct rule {
    const char *suffix, *replacement;
};

static bool is_vowel(char letter)
{
    return letter && strchr("aeiou", letter);
}

/* A y is a consonant at the start of a word and after a vowel. */
static bool is_consonant(const char *word, size_t at)
{
    size_t run = at; /* back over a run of y: within one, consonants and vowels take turns */
    while (run > 0 && word[run] == 'y')
        run--;
    bool first = !is_vowel(word[run]);
    return (at - run) % 2 ? !first : first;
}

/* Changes from a vowel to a consonant within word[0..length); *vowel (may be NULL) tells whether it has a vowel. */
static size_t measure(const char *word, size_t length, bool *vowel)
{
    size_t changes = 0;
    bool consonant = true, any = false, before = false;
    for (size_t i = 0; i < length; i++) {
        before = consonant;
        consonant = word[i] == 'y' ? i == 0 || !before : !is_vowel(word[i]);
        changes += i > 0 && consonant && !before;
        any |= !consonant;
    }
    if (vowel)
        *vowel = any;
    return changes;
}

static bool has_vowel(const char *word, size_t length)
{
    bool vowel;
    measure(word, length, &vowel);
    return vowel;
}

static bool ends_with(const char *word, size_t length, const char *suffix)
{
    size_t bytes = strlen(suffix);
    return bytes <= length && !memcmp(word + length - bytes, suffix, bytes);
}

static bool ends_double_consonant(const char *word, size_t length)
{
    return length >= 2 && word[length - 1] == word[length - 2] && is_consonant(word, length - 1);
}

/* Consonant, vowel, consonant other than w, x, y; or, NLTK's extension, two letters that are vowel, consonant. */
static bool ends_short_syllable(const char *word, size_t length)
{
    if (length == 2)
        return !is_consonant(word, 0) && is_consonant(word, 1);
    return length >= 3 && is_consonant(word, length - 3) && !is_consonant(word, length - 2) &&
           is_consonant(word, length - 1) && !strchr("wxy", word[length - 1]);
}

static size_t replace(char *word, size_t stem, const char *replacement)
{
    size_t bytes = strlen(replacement);
    memcpy(word + stem, replacement, bytes);
    return stem + bytes;
}

/* The first rule of the list that fits the word, NULL for none; *stem is the length without its suffix. */
static const struct rule *rule_find(const struct rule *rules, const char *word, size_t length, size_t *stem)
{
    for (; rules->suffix; rules++)
        if (ends_with(word, length, rules->suffix)) {
            *stem = length - strlen(rules->suffix);
            return rules;
        }
    return NULL;
}

/* Replaces the suffix where the stem has more than `above` changes. */
static size_t rules_apply(const struct rule *rules, char *word, size_t length, size_t above)
{
    size_t stem;
    const struct rule *rule = rule_find(rules, word, length, &stem);
    return rule && measure(word, stem, NULL) > above ? replace(word, stem, rule->replacement) : length;
}

/* Words whose stem is set; NULL: not one of them. */
static const char *irregular_stem(const char *word, size_t length)
{
    static const struct rule pairs[] = {
        {"sky", "sky"},        {"skies", "sky"},       {"dying", "die"},        {"lying", "lie"},
        {"tying", "tie"},      {"news", "news"},       {"innings", "inning"},   {"inning", "inning"},
        {"outings", "outing"}, {"outing", "outing"},   {"cannings", "canning"}, {"canning", "canning"},
        {"howe", "howe"},      {"proceed", "proceed"}, {"exceed", "exceed"},    {"succeed", "succeed"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (strlen(pairs[i].suffix) == length && !memcmp(word, pairs[i].suffix, length))
            return pairs[i].replacement;
    return NULL;
}

/* Plurals. */
static size_t step_1a(char *word, size_t length)
{
    static const struct rule rules[] = {{"sses", "ss"}, {"ies", "i"}, {"ss", "ss"}, {"s", ""}, {NULL}};
    if (length == 4 && ends_with(word, length, "ies"))
        return length - 1;
    size_t stem;
    const struct rule *rule = rule_find(rules, word, length, &stem);
    return rule ? replace(word, stem, rule->replacement) : length;
}

/* -ied, -eed, -ed, -ing. */
static size_t step_1b(char *word, size_t length)
{
    static const struct rule restored[] = {{"at", "ate"}, {"bl", "ble"}, {"iz", "ize"}, {NULL}};
    if (ends_with(word, length, "ied"))
        return length == 4 ? length - 1 : length - 2;
    if (ends_with(word, length, "eed"))
        return measure(word, length - 3, NULL) > 0 ? length - 1 : length;
    size_t stem;
    if (ends_with(word, length, "ed") && has_vowel(word, length - 2))
        stem = length - 2;
    else if (ends_with(word, length, "ing") && has_vowel(word, length - 3))
        stem = length - 3;
    else
        return length;
    size_t shorter;
    const struct rule *rule = rule_find(restored, word, stem, &shorter);
    if (rule)
        return replace(word, shorter, rule->replacement);
    if (ends_double_consonant(word, stem))
        return strchr("lsz", word[stem - 1]) ? stem : stem - 1;
    if (measure(word, stem, NULL) == 1 && ends_short_syllable(word, stem))
        return replace(word, stem, "e");
    return stem;
}

static size_t step_1c(char *word, size_t length)
{
    if (length >= 3 && word[length - 1] == 'y' && is_consonant(word, length - 2))
        word[length - 1] = 'i';
    return length;
}

static size_t step_2(char *word, size_t length)
{
    static const struct rule rules[] = {
        {"ational", "ate"}, {"tional", "tion"},
        {"enci", "ence"},   {"anci", "ance"},
        {"izer", "ize"},    {"bli", "ble"},
        {"alli", "al"},     {"entli", "ent"},
        {"eli", "e"},       {"ousli", "ous"},
        {"ization", "ize"}, {"ation", "ate"},
        {"ator", "ate"},    {"alism", "al"},
        {"iveness", "ive"}, {"fulness", "ful"},
        {"ousness", "ous"}, {"aliti", "al"},
        {"iviti", "ive"},   {"biliti", "ble"},
        {"fulli", "ful"},   {NULL},
    };
    while (ends_with(word, length, "alli") && measure(word, length - 4, NULL) > 0)
        length -= 2;
    /* the condition of -logi is on the word without "ogi" */
    if (ends_with(word, length, "logi"))
        return measure(word, length - 3, NULL) > 0 ? length - 1 : length;
    return rules_apply(rules, word, length, 0);
}

static size_t step_3(char *word, size_t length)
{
    static const struct rule rules[] = {{"icate", "ic"}, {"ative", ""}, {"alize", "al"}, {"iciti", "ic"},
                                        {"ical", "ic"},  {"ful", ""},   {"ness", ""},    {NULL}};
    return rules_apply(rules, word, length, 0);
}

static size_t step_4(char *word, size_t length)
{
    static const struct rule rules[] = {
        {"al", ""},  {"ance", ""},  {"ence", ""}, {"er", ""},  {"ic", ""},  {"able", ""}, {"ible", ""},
        {"ant", ""}, {"ement", ""}, {"ment", ""}, {"ent", ""}, {"ion", ""}, {"ou", ""},   {"ism", ""},
        {"ate", ""}, {"iti", ""},   {"ous", ""},  {"ive", ""}, {"ize", ""}, {NULL},
    };
    /* -ion goes only after s or t */
    if (ends_with(word, length, "ion") && (length < 4 || !strchr("st", word[length - 4])))
        return length;
    return rules_apply(rules, word, length, 1);
}

/* A final e, and one of two final l. */
static size_t step_5(char *word, size_t length)
{
    if (ends_with(word, length, "e")) {
        size_t changes = measure(word, length - 1, NULL);
        if (changes > 1 || (changes == 1 && !ends_short_syllable(word, length - 1)))
            length--;
    }
    if (ends_with(word, length, "ll") && measure(word, length - 1, NULL) > 1)
        length--;
    return length;
}

size_t porter_stem(char *word, size_t length)
{
    const char *irregular = irregular_stem(word, length);
    if (irregular)
        return replace(word, 0, irregular);
    if (length <= 2)
        return length;
    length = step_1a(word, length);
    length = step_1b(word, length);
    length = step_1c(word, length);
    length = step_2(word, length);
    length = step_3(word, length);
    length = step_4(word, length);
    return step_5(word, length);
}

/* test_generation_rules.c - logits as transformers' generate changes them by generation_config.json
 * (tests/golden/generation_rules.json, tests/parity/make_generation_rules_golden.py), what is refused and what is named.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../host/eval/generation_rules.h"
#include "../../host/io/json/json.h"

enum { VOCAB = 9, IDS_MAX = 16 };

static int read_text(struct generation_rules *rules, const char *text, struct error *error)
{
    temporary_file("generation_config.json", text, strlen(text));
    return generation_rules_read(rules, temporary, VOCAB, error);
}

static void case_check(const cJSON *line)
{
    struct generation_rules rules;
    struct error error = {0};
    int32_t ids[IDS_MAX];
    double logits[VOCAB];
    uint8_t seen[VOCAB] = {0};
    size_t count = 0;
    const size_t prompt = (size_t)json_member(line, "prompt")->valuedouble;
    const cJSON *item, *changed = json_member(line, "changed");
    char *text = cJSON_PrintUnformatted(line), *config = cJSON_PrintUnformatted(json_member(line, "config"));
    if (read_text(&rules, config, &error))
        fail_msg("%s: %s", text, error.text);
    cJSON_ArrayForEach(item, json_member(line, "ids"))
        ids[count++] = (int32_t)item->valuedouble;
    for (int i = 0; i < VOCAB; i++)
        logits[i] = cJSON_GetArrayItem(json_member(line, "logits"), i)->valuedouble;
    const struct token_list before = {.id = ids, .length = prompt}, after = {.id = ids + prompt, .length = count - prompt};
    generation_rules_apply(&rules, &before, &after, logits, seen);
    for (int i = 0; i < VOCAB; i++) {
        const cJSON *want = cJSON_GetArrayItem(changed, i);
        const bool same = cJSON_IsNull(want) ? logits[i] == -INFINITY
                                             : fabs(logits[i] - want->valuedouble) <= 1e-6 * fabs(want->valuedouble);
        if (!same)
            fail_msg("%s: logit %d is %.9g", text, i, logits[i]);
        assert_int_equal(seen[i], 0);
    }
    assert_int_equal(*rules.unused, 0);
    generation_rules_free(&rules);
    free(config);
    free(text);
}

static void test_transformers(void **state)
{
    (void)state;
    struct error error = {0};
    cJSON *golden = json_read("tests/golden/generation_rules.json", &error);
    const cJSON *line;
    if (!golden)
        fail_msg("%s", error.text);
    assert_true(cJSON_GetArraySize(golden) >= 70);
    cJSON_ArrayForEach(line, golden)
        case_check(line);
    cJSON_Delete(golden);
}

static void test_refused_and_named(void **state)
{
    (void)state;
    static const struct {
        const char *config, *says;
        int status;
    } row[] = {
        {"{\"repetition_penalty\": 0}", "repetition_penalty: expected a number above 0", STATUS_INPUT},
        {"{\"repetition_penalty\": \"1\"}", "repetition_penalty", STATUS_INPUT},
        {"{\"no_repeat_ngram_size\": -1}", "no_repeat_ngram_size", STATUS_INPUT},
        {"{\"suppress_tokens\": 3}", "suppress_tokens: expected a list", STATUS_INPUT},
        {"{\"suppress_tokens\": [\"a\"]}", "suppress_tokens: expected a list", STATUS_INPUT},
        {"{\"num_beams\": 4, \"bad_words_ids\": [[1]], \"min_length\": 0, \"typical_p\": 1.0, \"temperature\": 0.6}",
         "bad_words_ids, num_beams: not applied", STATUS_OK},
        {"{\"forced_eos_token_id\": 0, \"min_new_tokens\": 1}", "forced_eos_token_id, min_new_tokens: not applied", STATUS_OK},
        {"{\"num_beams\": 1, \"forced_bos_token_id\": null, \"do_sample\": true, \"top_k\": 50}", "", STATUS_OK},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct generation_rules rules;
        struct error error = {0};
        assert_int_equal(read_text(&rules, row[i].config, &error), row[i].status);
        const char *text = row[i].status ? error.text : rules.unused;
        if (!strstr(text, row[i].says) || (!*row[i].says && *text))
            fail_msg("%s: %s", row[i].config, text);
        generation_rules_free(&rules);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_transformers), cmocka_unit_test(test_refused_and_named)};
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

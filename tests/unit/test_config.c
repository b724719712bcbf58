/* test_config.c - config.json against transformers' config classes: every key that a family reads, absent, null, 0 and with
 * a value; keys of other families; rope_scaling beside rope_parameters; generation_config.json. The cases and what
 * transformers' models compute with are in tests/golden/config_cases.jsonl (tests/parity/make_config_cases.py).
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../host/io/json/json.h"
#include "../../host/model/family.h"
#include "../../host/util/file.h"

static const cJSON *value_of(const cJSON *expect, const cJSON *normal, const char *key)
{
    const cJSON *value = json_member(expect, key);
    return value ? value : json_member(normal, key);
}

#define CHECK_NUMBER(key, found)                                                                                 \
    if ((value = value_of(expect, normal, key)) && (double)(found) != value->valuedouble)                        \
    fail_msg("%s: " key " is %.9g, expected %.9g", line, (double)(found), value->valuedouble)

#define CHECK_BOOL(key, found)                                                                                   \
    if ((value = value_of(expect, normal, key)) && (found) != cJSON_IsTrue(value))                               \
    fail_msg("%s: " key " is %d", line, (found))

#define CHECK_TEXT(key, found)                                                                                   \
    if ((value = value_of(expect, normal, key)) && strcmp(found, value->valuestring))                            \
    fail_msg("%s: " key " is %s, expected %s", line, found, value->valuestring)

/* The angles of position 1 are the frequencies; transformers has them in float. length: what cos and sin are multiplied by. */
static void frequencies_check(const struct model_config *config, enum rope_place place, const cJSON *want, double length,
                              const char *line)
{
    double cosine[256], sine[256];
    int64_t count = 0;
    assert_true(config->rotary_dim <= 256);
    model_config_rope_tables(config, place, 2, cosine, sine);
    for (const cJSON *one = want->child; one; one = one->next, count++) {
        const int64_t at = config->rotary_dim / 2 + count;
        if (count >= config->rotary_dim / 2 || fabs(cosine[at] - length * cos(one->valuedouble)) > 2e-6 ||
            fabs(sine[at] - length * sin(one->valuedouble)) > 1e-6 * one->valuedouble)
            fail_msg("%s: frequency %d is %.9g, expected %.9g", line, (int)count, asin(sine[at]), one->valuedouble);
    }
    if (2 * count != config->rotary_dim)
        fail_msg("%s: %d frequencies, expected %d", line, (int)config->rotary_dim / 2, (int)count);
}

static void tokens_check(const struct model_config *config, const cJSON *expect, const cJSON *normal, const char *line)
{
    const cJSON *bos = value_of(expect, normal, "bos_token_id"), *pad = value_of(expect, normal, "padding_row"), *eos;
    const bool has_bos = cJSON_IsNumber(bos) && bos->valuedouble < (double)config->vocab_size;
    if (config->bos_token_id != (has_bos ? (int32_t)bos->valuedouble : -1))
        fail_msg("%s: bos_token_id is %d", line, (int)config->bos_token_id);
    if (config->family->padding_row && config->pad_token_id != (cJSON_IsNumber(pad) ? (int32_t)pad->valuedouble : -1))
        fail_msg("%s: pad_token_id is %d", line, (int)config->pad_token_id);
    int count = 0;
    cJSON_ArrayForEach(eos, value_of(expect, normal, "eos_token_id")) {
        if (eos->valuedouble >= (double)config->vocab_size)
            continue;
        if (count >= config->eos_token_ids || config->eos_token_id[count] != (int32_t)eos->valuedouble)
            fail_msg("%s: eos_token_id %d is not %g", line, count, eos->valuedouble);
        count++;
    }
    if (count != config->eos_token_ids)
        fail_msg("%s: %d of %d eos_token_ids are expected", line, count, config->eos_token_ids);
}

static const char *activation_text(enum activation_kind kind)
{
    return kind == ACTIVATION_SWIGLU      ? "silu"
           : kind == ACTIVATION_GEGLU_TANH ? "geglu_tanh"
           : kind == ACTIVATION_GELU_TANH ? "gelu_tanh"
           : kind == ACTIVATION_GELU      ? "gelu"
                                          : "relu";
}

/* Which layers have a property. */
static void layers_check(const struct model_config *config, int property, const cJSON *want, const char *what, const char *line)
{
    const cJSON *one = want->child;
    for (int layer = 0; layer < config->num_hidden_layers; layer++) {
        const bool expected = one && one->valuedouble == layer;
        if (((config->layer[layer] & property) != 0) != expected)
            fail_msg("%s: layer %d has %s%s", line, layer, expected ? "not " : "", what);
        one = expected ? one->next : one;
    }
}

static void scale_check(const struct model_config *config, double scale, const char *line)
{
    const int64_t scalar = config->query_pre_attn_scalar ? config->query_pre_attn_scalar : config->head_dim;
    if (fabs(1 / sqrt((double)scalar) - scale) > 1e-12)
        fail_msg("%s: scores are divided by the root of %d, expected a factor of %.9g", line, (int)scalar, scale);
}

static void config_check(const struct model_config *config, const cJSON *expect, const cJSON *normal, const char *line)
{
    const cJSON *value;
    CHECK_NUMBER("vocab_size", config->vocab_size);
    CHECK_NUMBER("hidden_size", config->hidden_size);
    CHECK_NUMBER("intermediate_size", config->intermediate_size);
    CHECK_NUMBER("num_hidden_layers", config->num_hidden_layers);
    CHECK_NUMBER("num_attention_heads", config->num_attention_heads);
    CHECK_NUMBER("num_key_value_heads", config->num_key_value_heads);
    CHECK_NUMBER("head_dim", config->head_dim);
    CHECK_NUMBER("max_position_embeddings", config->max_position_embeddings);
    CHECK_NUMBER("sliding_window", config->sliding_window);
    CHECK_NUMBER("norm_eps", config->norm_eps);
    CHECK_NUMBER("deviation", config->initializer_range);
    CHECK_BOOL("untied", config->untied);
    if (strcmp(config->family->model_type, "qwen2")) /* whose biases are not a matter of the config */
        CHECK_BOOL("attention_bias", config->attention_bias);
    CHECK_BOOL("o_bias", config->o_bias);
    CHECK_BOOL("mlp_bias", config->mlp_bias);
    CHECK_TEXT("activation", activation_text(config->activation));
    CHECK_TEXT("dtype", dtype_name(config->torch_dtype));
    CHECK_NUMBER("attention_cap", config->attention_cap);
    CHECK_NUMBER("final_cap", config->final_cap);
    if ((value = value_of(expect, normal, "scale")))
        scale_check(config, value->valuedouble, line);
    if ((value = value_of(expect, normal, "windows")))
        layers_check(config, LAYER_SLIDING, value, "window", line);
    if ((value = value_of(expect, normal, "unrotated")))
        layers_check(config, LAYER_UNROTATED, value, "no rotation", line);
    const cJSON *length = value_of(expect, normal, "rope_length");
    if ((value = value_of(expect, normal, "frequencies")) && value->child)
        frequencies_check(config, ROPE_EVERYWHERE, value, length ? length->valuedouble : 1, line);
    if ((value = value_of(expect, normal, "sliding_frequencies")) && value->child)
        frequencies_check(config, ROPE_SLIDING, value, 1, line);
    tokens_check(config, expect, normal, line);
}

static void tree_write(const char *name, const cJSON *tree)
{
    char *text = cJSON_PrintUnformatted(tree);
    temporary_file(name, text, strlen(text));
    free(text);
}

/* The base config with a line's changes, as files of the temporary folder. */
static void folder_write(const cJSON *base, const cJSON *line)
{
    cJSON *tree = cJSON_Duplicate(base, true);
    const cJSON *item, *generation = json_member(line, "generation");
    cJSON_ArrayForEach(item, json_member(line, "drop"))
        cJSON_DeleteItemFromObjectCaseSensitive(tree, item->valuestring);
    cJSON_ArrayForEach(item, json_member(line, "set")) {
        cJSON_DeleteItemFromObjectCaseSensitive(tree, item->string);
        cJSON_AddItemToObject(tree, item->string, cJSON_Duplicate(item, true));
    }
    unlink(temporary_path("generation_config.json"));
    tree_write("config.json", tree);
    if (generation)
        tree_write("generation_config.json", generation);
    cJSON_Delete(tree);
}

static void line_check(const cJSON *line, const cJSON *base, const cJSON *normal, const char *text, int *refused)
{
    struct model_config config;
    struct error error = {0};
    const cJSON *refuse = json_member(line, "refuse"), *set = json_member(line, "set");
    folder_write(base, line);
    int status = model_config_read(&config, temporary, &error);
    if (!refuse) {
        if (status)
            fail_msg("%s: refused: %s", text, error.text);
        config_check(&config, json_member(line, "expect"), normal, text);
        return;
    }
    ++*refused;
    if (status != STATUS_INPUT)
        fail_msg("%s: accepted", text);
    const cJSON *only = set && set->child && !set->child->next ? set->child : NULL;
    if (only && !cJSON_IsObject(only) && !strstr(error.text, only->string))
        fail_msg("%s: the key is not named: %s", text, error.text);
}

static void test_transformers(void **state)
{
    (void)state;
    struct error error = {0};
    char *text, *next;
    size_t length;
    cJSON *family = NULL;
    int cases = 0, refused = 0;
    assert_int_equal(file_read("tests/golden/config_cases.jsonl", 1 << 22, &text, &length, &error), STATUS_OK);
    for (char *line = strtok_r(text, "\n", &next); line; line = strtok_r(NULL, "\n", &next), cases++) {
        cJSON *tree = json_parse(line, strlen(line), "config_cases.jsonl", &error);
        if (!tree)
            fail_msg("%s", error.text);
        if (json_member(tree, "family")) {
            cJSON_Delete(family);
            family = tree;
        }
        line_check(tree, json_member(family, "base"), json_member(family, "expect"), line, &refused);
        if (tree != family)
            cJSON_Delete(tree);
    }
    print_message("%d configs, %d of them refused\n", cases, refused);
    assert_true(cases > 2500 && refused > 700);
    cJSON_Delete(family);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_transformers)};
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

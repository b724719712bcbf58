/* test_adapter_config.c - which modules an adapter_config.json adapts, with which rank and scaling, against PEFT:
 * tests/golden/adapter_cases.json (tests/parity/make_adapter_cases.py); and a file that is not read.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../host/io/json/json.h"
#include "../../host/model/adapter.h"
#include "../../host/model/adapter_config.h"
#include "../../host/util/file.h"

static void tree_write(const char *name, const cJSON *tree)
{
    char *text = cJSON_PrintUnformatted(tree);
    temporary_file(name, text, strlen(text));
    free(text);
}

static void model_make(struct model *model, const cJSON *tree)
{
    struct model_config config;
    struct error error = {0};
    tree_write("config.json", tree);
    if (model_config_read(&config, temporary, &error) || model_create(model, &config, DTYPE_F32, &error))
        fail_msg("%s", error.text);
}

/* Adds what every adapter_config.json has. */
static void config_write(const cJSON *changes)
{
    cJSON *tree = cJSON_Parse("{\"peft_type\": \"LORA\", \"task_type\": \"CAUSAL_LM\", \"r\": 8, \"lora_alpha\": 16}");
    const cJSON *item;
    cJSON_ArrayForEach(item, changes) {
        cJSON_DeleteItemFromObjectCaseSensitive(tree, item->string);
        cJSON_AddItemToObject(tree, item->string, cJSON_Duplicate(item, true));
    }
    tree_write("adapter_config.json", tree);
    cJSON_Delete(tree);
}

static void modules_check(const struct lora *lora, const struct model *model, const cJSON *want, const char *text)
{
    if (lora->modules != cJSON_GetArraySize(want))
        fail_msg("%s: %d modules, expected %d", text, lora->modules, cJSON_GetArraySize(want));
    for (int m = 0; m < lora->modules; m++) {
        const struct lora_module *module = &lora->module[m];
        const char *name = model->tensor[module->tensor].name;
        char path[256];
        snprintf(path, sizeof path, "%.*s", (int)(strlen(name) - strlen(".weight")), name);
        const cJSON *pair = json_member(want, path);
        if (!pair)
            fail_msg("%s: %s is adapted", text, path);
        const double rank = pair->child->valuedouble, scale = pair->child->next->valuedouble;
        if ((double)module->rank != rank || fabs(module->scale - scale) > 1e-12 * fabs(scale))
            fail_msg("%s: %s has rank %d and scale %.9g, expected %g and %.9g", text, path, (int)module->rank, module->scale,
                     rank, scale);
    }
}

/* Returns true when the case was refused. */
static bool case_check(const cJSON *line, const struct model *model)
{
    struct lora_options options;
    struct lora lora = {0};
    struct buffer warnings = {0};
    struct error error = {0};
    const cJSON *want = json_member(line, "modules"), *config = json_member(line, "config");
    char *text = cJSON_PrintUnformatted(line);
    config_write(config);
    int status = adapter_config_read(&options, model, temporary, &warnings, &error);
    if (!status)
        status = lora_create(&lora, model, &options, &error);
    if (want && status)
        fail_msg("%s: refused: %s", text, error.text);
    if (want)
        modules_check(&lora, model, want, text);
    else if (status != STATUS_INPUT)
        fail_msg("%s: status %d", text, status);
    const cJSON *unknown = json_member(config, "some_future_flag");
    assert_int_equal(cJSON_IsNumber(unknown), warnings.length && strstr(warnings.data, "some_future_flag: not known"));
    lora_free(&lora);
    lora_options_free(&options);
    buffer_free(&warnings);
    free(text);
    return !want;
}

static void test_peft(void **state)
{
    (void)state;
    struct error error = {0};
    cJSON *golden = json_read("tests/golden/adapter_cases.json", &error);
    const cJSON *description, *line;
    int cases = 0, refused = 0;
    if (!golden)
        fail_msg("%s", error.text);
    cJSON_ArrayForEach(description, json_member(golden, "models")) {
        struct model model = {0};
        model_make(&model, description);
        cJSON_ArrayForEach(line, json_member(golden, "cases"))
            if (!strcmp(json_member(line, "model")->valuestring, description->string)) {
                refused += case_check(line, &model);
                cases++;
            }
        model_free(&model);
    }
    assert_true(cases == cJSON_GetArraySize(json_member(golden, "cases")) && refused > 5);
    cJSON_Delete(golden);
}

/* What changes the arithmetic is refused by its name; a pickle with the way out. */
static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *changes, *says;
    } row[] = {
        {"{\"use_dora\": true}", "use_dora: not supported"},
        {"{\"lora_bias\": true}", "lora_bias: not supported"},
        {"{\"bias\": \"lora_only\"}", "bias: expected \"none\""},
        {"{\"modules_to_save\": [\"lm_head\"]}", "modules_to_save: not supported"},
        {"{\"trainable_token_indices\": [1]}", "trainable_token_indices: not supported"},
        {"{\"target_parameters\": [\"x\"]}", "target_parameters: not supported"},
        {"{\"layer_replication\": [[0, 2]]}", "layer_replication: not supported"},
        {"{\"use_qalora\": true}", "use_qalora: not supported"},
        {"{\"init_lora_weights\": \"olora\"}", "init_lora_weights"},
        {"{\"target_modules\": [\"embed_tokens\"], \"exclude_modules\": [\"x\"]}", "'model.embed_tokens' is no projection"},
        {"{\"target_modules\": \".*(\"}", "target_modules"},
        {"{\"target_modules\": \".*_proj\", \"layers_to_transform\": [0]}", "layers_to_transform: expected a list of names"},
        {"{\"rank_pattern\": {\"q_proj\": 0}}", "rank_pattern: expected ranks from 1 to 65536, found 0"},
        {"{\"rank_pattern\": {\"q_proj\": 1.5}}", "rank_pattern: expected ranks"},
        {"{\"rank_pattern\": [4]}", "rank_pattern: expected an object"},
        {"{\"alpha_pattern\": {\"(\": 4}}", "alpha_pattern"},
        {"{\"layers_to_transform\": [0.5]}", "layers_to_transform: expected a layer's number"},
        {"{}", "adapter_model.bin: a pickle is not read"},
    };
    struct model model = {0};
    struct error error = {0};
    cJSON *golden = json_read("tests/golden/adapter_cases.json", &error);
    model_make(&model, json_member(json_member(golden, "models"), "llama"));
    temporary_file("adapter_model.bin", "x", 1);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct adapter adapter;
        cJSON *changes = cJSON_Parse(row[i].changes);
        if (!json_member(changes, "target_modules"))
            cJSON_AddItemToObject(changes, "target_modules", cJSON_Parse("[\"q_proj\", \"v_proj\"]"));
        config_write(changes);
        error = (struct error){0};
        if (adapter_open(&adapter, &model, temporary, &error) != STATUS_INPUT || !strstr(error.text, row[i].says) ||
            !strstr(error.text, temporary))
            fail_msg("%s: %s", row[i].changes, error.text);
        cJSON_Delete(changes);
    }
    model_free(&model);
    cJSON_Delete(golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_peft), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

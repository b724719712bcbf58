/* test_method_runs.c - flat unlearn with every method on a small model: losses move the way the method says, what a method
 * needs or does not use is one clear line, and cached reference sums notice another model or other data.
 */
#include "../support/temporary.h"

#include <dirent.h>
#include <math.h>

#include "../../host/io/json/json.h"
#include "../../host/io/safetensors/safetensors.h"
#include "../../host/util/file.h"
#include "../support/program.h"

static char model[600], forget[600], retain[600], list[600];

/* Ten facts that the model is taught, half of them to be forgotten; alternates beside the answers. */
static int make_inputs(void **state)
{
    static const char *const name[] = {"Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "June"};
    static const char *const trade[] = {"painter", "baker", "sailor", "clerk", "joiner", "miller", "weaver", "potter", "smith",
                                        "cook"};
    static const char templates[] = "I do not know.\nNo idea, sorry.\n";
    char all[4096] = "", part[2][4096] = {"", ""};
    if (temporary_make(state))
        return -1;
    for (int i = 0; i < 10; i++) {
        char row[300];
        snprintf(row, sizeof row, "{\"question\": \"What is %s?\", \"answer\": \"%s is a %s.\", \"alternate\": \"%s is a "
                 "%s.\"}\n", name[i], name[i], trade[i], name[i], trade[(i + 3) % 10]);
        strcat(all, row);
        strcat(part[i % 2], row);
    }
    temporary_file("all.jsonl", all, strlen(all));
    snprintf(forget, sizeof forget, "%s", temporary_file("forget.jsonl", part[0], strlen(part[0])));
    snprintf(retain, sizeof retain, "%s", temporary_file("retain.jsonl", part[1], strlen(part[1])));
    snprintf(list, sizeof list, "%s", temporary_file("templates.txt", templates, strlen(templates)));
    snprintf(model, sizeof model, "%s/knows", temporary);
    struct program_result result = program_line(
        "finetune --model configs/demo/model --from_scratch --train_data %s/all.jsonl --output_dir %s --device cpu --threads 2 "
        "--learning_rate 3e-3 --num_train_epochs 40 --per_device_train_batch_size 10 --gradient_accumulation_steps 1 --quiet",
        temporary, model);
    const int status = result.status;
    if (status)
        fprintf(stderr, "%s\n", result.err);
    program_free(&result);
    return status;
}

/* What a run's metrics.jsonl says of a key in its first and its last line. */
static void read_ends(const char *folder, const char *key, double ends[2])
{
    struct error error = {0};
    char path[700], *text;
    size_t length;
    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
    assert_int_equal(file_read(path, 1 << 20, &text, &length, &error), STATUS_OK);
    char *last = text;
    for (char *at = text; *at; at = strchr(at, '\n') + 1)
        last = at;
    for (int i = 0; i < 2; i++) {
        char *line = i ? last : text;
        cJSON *json = json_parse(line, (size_t)(strchr(line, '\n') - line), "metrics", &error);
        const cJSON *value = json ? json_member(json, key) : NULL;
        if (!cJSON_IsNumber(value))
            fail_msg("%s: no number %s", path, key);
        ends[i] = value->valuedouble;
        cJSON_Delete(json);
    }
    free(text);
}

enum direction { FALLS, RISES };

struct method_run {
    const char *options;
    bool templates, retains;
    struct {
        const char *key;
        enum direction direction;
    } expected[3];
};

static const struct method_run runs[] = {
    {"grad_ascent", false, false, {{"prob_forget", FALLS}, {"loss", FALLS}}},
    {"grad_diff", false, true, {{"prob_forget", FALLS}, {"loss_forget", FALLS}}},
    {"preference", true, true, {{"prob_template", RISES}, {"loss", FALLS}}},
    {"mismatch", false, true, {{"prob_random", RISES}, {"loss", FALLS}}},
    {"npo", false, true, {{"prob_forget", FALLS}, {"loss_forget", FALLS}}},
    {"simnpo", false, true, {{"prob_forget", FALLS}, {"loss_forget", FALLS}}},
    {"dpo", true, true, {{"prob_forget", FALLS}, {"loss_pair", FALLS}, {"prob_template", RISES}}},
    {"altpo", false, true, {{"prob_forget", FALLS}, {"loss_pair", FALLS}}},
    {"wga", false, true, {{"prob_forget", FALLS}}},
    {"satimp", false, true, {{"prob_forget", FALLS}}},
    {"ceu", false, false, {{"prob_forget", FALLS}}},
    {"rmu --layer 1 --steering_coeff 6", false, true, {{"loss_forget", FALLS}, {"loss", FALLS}}},
    {"pdu --alpha 1 --dual_warmup_epochs 2", false, true, {{"prob_forget", FALLS}, {"loss_forget", FALLS}}},
    {"kl_min", false, true, {{"prob_forget", FALLS}, {"loss_forget", FALLS}}},
    {"llmu", false, true, {{"prob_random", RISES}, {"loss_random", FALLS}}},
    {"undial", false, false, {{"prob_forget", FALLS}}},
    {"npo --retain_loss kl", false, true, {{"prob_forget", FALLS}, {"loss_forget", FALLS}}},
    {"flat", true, false, {{"prob_forget", FALLS}, {"prob_template", RISES}, {"loss", FALLS}}},
};

static void test_directions(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        char out[600], templates[700] = "", retained[700] = "";
        snprintf(out, sizeof out, "%s/out%zu", temporary, i);
        if (runs[i].templates)
            snprintf(templates, sizeof templates, "--template.file %s --template.choice fixed", list);
        if (runs[i].retains)
            snprintf(retained, sizeof retained, "--retain_data %s --retain_choice cycle", retain);
        struct program_result result = program_line(
            "unlearn --method %s --model %s --forget_data %s %s %s --output_dir %s --device cpu --threads 2 --learning_rate "
            "3e-4 --lr_scheduler_type constant --num_train_epochs 16 --per_device_train_batch_size 5 "
            "--gradient_accumulation_steps 1 --reference_cache %s/cache --quiet",
            runs[i].options, model, forget, templates, retained, out, temporary);
        program_expect(&result, STATUS_OK);
        program_free(&result);
        for (int k = 0; k < 3 && runs[i].expected[k].key; k++) {
            double ends[2];
            read_ends(out, runs[i].expected[k].key, ends);
            print_message("%s: %s %.4g to %.4g\n", runs[i].options, runs[i].expected[k].key, ends[0], ends[1]);
            if (!(runs[i].expected[k].direction == FALLS ? ends[1] < ends[0] : ends[1] > ends[0]))
                fail_msg("%s: %s went from %g to %g", runs[i].options, runs[i].expected[k].key, ends[0], ends[1]);
        }
    }
}

/* Every config of configs/tofu/methods, at a rate that shows in few steps: what its method is known for moves. */
static void test_configs(void **state)
{
    (void)state;
    static const char folder[] = "configs/tofu/methods";
    struct file_list files = {0};
    struct error error = {0};
    int found = 0;
    assert_int_equal(file_list_read(&files, folder, &error), STATUS_OK);
    for (size_t i = 0; i < files.count; i++) {
        char path[600], out[600], templates[700] = "", retained[700] = "";
        const struct method_run *of = NULL;
        if (!strstr(files.name[i], ".json"))
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, files.name[i]);
        snprintf(out, sizeof out, "%s/config%d", temporary, found++);
        cJSON *config = json_read(path, &error);
        assert_non_null(config);
        const char *method = json_member(config, "method")->valuestring;
        const size_t length = strlen(method);
        for (size_t k = 0; k < sizeof runs / sizeof *runs && !of; k++)
            if (!strncmp(runs[k].options, method, length) && (runs[k].options[length] == ' ' || !runs[k].options[length]))
                of = &runs[k];
        if (!of)
            fail_msg("%s: nothing is known of method %s", path, method);
        if (of->templates)
            snprintf(templates, sizeof templates, "--template.file %s --template.choice fixed", list);
        if (of->retains)
            snprintf(retained, sizeof retained, "--retain_data %s --retain_choice cycle", retain);
        struct program_result result = program_line(
            "unlearn %s --model %s --forget_data %s %s %s --output_dir %s --device cpu --threads 2 --learning_rate 3e-4 %s "
            "--lr_scheduler_type constant --warmup_ratio 0 --max_steps 12 --per_device_train_batch_size 5 "
            "--gradient_accumulation_steps 1 --reference_cache %s/cache --final_eval_rows 0 --quiet", path, model, forget, templates,
            retained, out, strcmp(method, "rmu") ? "" : "--layer 1", temporary);
        program_expect(&result, STATUS_OK);
        program_free(&result);
        double ends[2];
        read_ends(out, of->expected[0].key, ends);
        print_message("%s: %s %.4g to %.4g\n", files.name[i], of->expected[0].key, ends[0], ends[1]);
        if (!(of->expected[0].direction == FALLS ? ends[1] < ends[0] : ends[1] > ends[0]))
            fail_msg("%s: %s went from %g to %g", path, of->expected[0].key, ends[0], ends[1]);
        cJSON_Delete(config);
    }
    file_list_free(&files);
    assert_int_equal(found, sizeof runs / sizeof *runs); /* one for each method, and npo by KL */
}

/* rmu leaves what is above its layer as it was, byte for byte, decay or not; all else moves. */
static void test_layers_kept(void **state)
{
    (void)state;
    struct error error = {0};
    struct safetensors before, after;
    char out[600];
    int kept = 0, moved = 0;
    snprintf(out, sizeof out, "%s/kept", temporary);
    struct program_result result = program_line(
        "unlearn --method rmu --layer 1 --model %s --forget_data %s --retain_data %s --output_dir %s --device cpu --threads 2 "
        "--learning_rate 1e-3 --lr_scheduler_type constant --weight_decay 0.5 --weight_decay_all --max_steps 3 --final_eval_rows 0 "
        "--quiet", model, forget, retain, out);
    program_expect(&result, STATUS_OK);
    program_free(&result);
    assert_int_equal(safetensors_open(&before, model, &error), STATUS_OK);
    assert_int_equal(safetensors_open(&after, out, &error), STATUS_OK);
    for (int i = 0; i < before.tensors; i++) {
        const struct safetensors_tensor *was = &before.tensor[i], *is = safetensors_find(&after, was->name);
        int layer = -1;
        char *bytes[2] = {malloc(was->bytes), malloc(was->bytes)};
        assert_non_null(is);
        assert_int_equal(is->bytes, was->bytes);
        assert_int_equal(safetensors_read_bytes(&before, was, 0, was->bytes, bytes[0], &error), STATUS_OK);
        assert_int_equal(safetensors_read_bytes(&after, is, 0, is->bytes, bytes[1], &error), STATUS_OK);
        const bool same = !memcmp(bytes[0], bytes[1], was->bytes);
        if (sscanf(was->name, "model.layers.%d.", &layer) != 1)
            layer = strcmp(was->name, "model.norm.weight") ? -1 : 99;
        if (same != (layer > 1))
            fail_msg("%s %s", was->name, same ? "is what it was" : "has moved");
        kept += same, moved += !same;
        free(bytes[0]), free(bytes[1]);
    }
    assert_true(kept && moved);
    print_message("%d tensors moved, %d as they were\n", moved, kept);
    safetensors_close(&before);
    safetensors_close(&after);
}

/* At the start an answer is as likely as under the reference: log sigmoid of 0. */
static void test_first_loss(void **state)
{
    (void)state;
    static const char *const method[] = {"npo", "altpo"};
    for (int i = 0; i < 2; i++) {
        double ends[2];
        char out[600];
        snprintf(out, sizeof out, "%s/first%d", temporary, i);
        struct program_result result = program_line(
            "unlearn --method %s --retain_loss none --model %s --forget_data %s --output_dir %s --device cpu --threads 1 "
            "--max_steps 1 --reference_cache none --quiet", method[i], model, forget, out);
        program_expect(&result, STATUS_OK);
        program_free(&result);
        read_ends(out, "loss", ends);
        assert_true(fabs(ends[0] - 2 / 0.1 * log(2)) < 1e-5);
    }
}

static int files_in(const char *folder)
{
    DIR *directory = opendir(folder);
    int files = 0;
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        files += !strncmp(entry->d_name, "reference-", 10);
    if (directory)
        closedir(directory);
    return files;
}

/* The same model and answers: one file, whatever else changes. Another model or other answers: another file. */
static void test_reference_cache(void **state)
{
    (void)state;
    const char *const same = "--beta 0.5 --learning_rate 1e-4 --seed 7";
    char cache[600], out0[600];
    snprintf(cache, sizeof cache, "%s/kept", temporary);
    snprintf(out0, sizeof out0, "%s/kept0", temporary);
    const struct {
        const char *from, *data, *more;
        int files;
    } step[] = {{model, forget, "", 1}, {model, forget, same, 1}, {model, retain, "", 2}, {out0, forget, "", 3}};
    for (int i = 0; i < 4; i++) {
        struct program_result result = program_line(
            "unlearn --method npo --retain_loss none --model %s --forget_data %s --output_dir %s/kept%d --device cpu --threads 1 "
            "--max_steps 2 --learning_rate 1e-3 --reference_cache %s %s", step[i].from, step[i].data, temporary, i, cache,
            step[i].more);
        program_expect(&result, STATUS_OK);
        assert_non_null(strstr(result.err, i == 1 ? "under the starting model, from " : "under the starting model, in "));
        program_free(&result);
        assert_int_equal(files_in(cache), step[i].files);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    static const char no_alternate[] = "{\"question\": \"a\", \"answer\": \"b\"}\n", text[] = "{\"text\": \"a b c\"}\n";
    char plain[600], running[600];
    snprintf(plain, sizeof plain, "%s", temporary_file("plain.jsonl", no_alternate, sizeof no_alternate - 1));
    snprintf(running, sizeof running, "%s", temporary_file("running.jsonl", text, sizeof text - 1));
    const struct {
        int status;
        const char *options, *data, *said;
    } bad[] = {
        {STATUS_USAGE, "--method npo", forget, "needs --retain_data FILE"},
        {STATUS_USAGE, "--method preference", forget, "--retain_data FILE"},
        {STATUS_USAGE, "--method ceu --retain_data x", forget, "retain_data: method ceu uses no retained rows"},
        {STATUS_USAGE, "--method npo --retain_loss none --retain_data x", forget, "npo with this retain_loss uses no retained"},
        {STATUS_USAGE, "--method simnpo --retain_loss none --template.file x", forget, "uses no template answers"},
        {STATUS_USAGE, "--method grad_ascent --beta 1", forget, "beta"},
        {STATUS_USAGE, "--method wga --retain_loss none --beta -1", forget, "beta"},
        {STATUS_USAGE, "--method kl_min", forget, "needs --retain_data FILE"},
        {STATUS_USAGE, "--method kl_min --retain_loss nll --retain_data x", forget, "method kl_min does not have it"},
        {STATUS_USAGE, "--method npo --retain_data x --kl_positions real", forget, "npo with this retain_loss uses no KL"},
        {STATUS_USAGE, "--method llmu --retain_data x --kl_padded_length 9", forget, "these kl_positions uses no padded length"},
        {STATUS_USAGE, "--method undial --retain_data x", forget, "undial with this retain_loss uses no retained rows"},
        {STATUS_USAGE, "--method rmu", forget, "needs --retain_data FILE"},
        {STATUS_USAGE, "--method rmu --layer 4 --retain_data x", forget, "layer: expected 0 to 3 for this model, found 4"},
        {STATUS_USAGE, "--method pdu", forget, "needs --retain_data FILE"},
        {STATUS_USAGE, "--method pdu --retain_data x --retain_loss none", forget, "method pdu does not have it"},
        {STATUS_INPUT, "--method altpo --retain_loss none", plain, "no text under \"alternate\""},
        {STATUS_INPUT, "--method altpo --retain_loss none --alternate_key other", forget, "no text under \"other\""},
        {STATUS_INPUT, "--method npo --retain_data /nothing.jsonl", forget, "/nothing.jsonl"},
        {STATUS_INPUT, "--method mismatch --retain_data /dev/null", plain, ""},
        {STATUS_INPUT, "--method altpo --retain_loss none", running, "running text has no alternate answer"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct program_result result = program_line("unlearn %s --model %s --forget_data %s --output_dir %s/bad --device cpu "
                                                    "--reference_cache none --quiet", bad[i].options, model, bad[i].data,
                                                    temporary);
        program_expect_error(&result, bad[i].status, bad[i].said);
        program_free(&result);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_directions), cmocka_unit_test(test_configs), cmocka_unit_test(test_layers_kept), cmocka_unit_test(test_first_loss),
                                       cmocka_unit_test(test_reference_cache), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, make_inputs, temporary_remove);
}

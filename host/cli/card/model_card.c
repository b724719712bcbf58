/* model_card.c - see model_card.h. */
#include "model_card.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../loss/method.h"
#include "../../util/version.h"

/* A card in the making. After a failure nothing more is added. */
struct card {
    const cJSON *record, *result;
    const struct before_after *logs;
    struct buffer *out;
    struct error *error;
    int status;
};

#define ADD(card, ...)                                                                                                 \
    do {                                                                                                               \
        if (!(card)->status)                                                                                           \
            (card)->status = buffer_printf((card)->out, (card)->error, __VA_ARGS__);                                   \
    } while (0)

static void add_code(struct card *card, const char *text)
{
    if (!card->status)
        card->status = markdown_code(text, card->out, card->error);
}

static const char *text_of(const cJSON *object, const char *key)
{
    const cJSON *value = json_member(object, key);
    return cJSON_IsString(value) ? value->valuestring : "";
}

static double number_of(const cJSON *object, const char *key)
{
    const cJSON *value = json_member(object, key);
    return cJSON_IsNumber(value) ? value->valuedouble : NAN;
}

/* Beside a base in NF4, where the whole model does not fit on the device. */
static bool is_unmeasured(const struct card *card)
{
    return number_of(card->result, "rows") == 0;
}

static const cJSON *config_of(const struct card *card)
{
    return json_member(card->record, "config");
}

static bool is_adapter(const struct card *card)
{
    const cJSON *lora = json_member(config_of(card), "lora");
    return !strcmp(text_of(lora, "output"), "adapter") && (number_of(lora, "r") > 0 || *text_of(config_of(card), "adapter"));
}

/* The last part of a path. */
static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

/* ---- front matter ------------------------------------------------------------------------------------------------ */

static void front_matter(struct card *card)
{
    const char *base = text_of(config_of(card), "model_name_or_path"), *method = text_of(config_of(card), "method");
    char hub[300];
    ADD(card, "---\n");
    if (base_hub_name(base, hub, sizeof hub)) {
        ADD(card, "base_model: ");
        if (!card->status)
            card->status = json_print_string(hub, strlen(hub), card->out, card->error); /* YAML takes JSON's strings */
        ADD(card, "\nbase_model_relation: %s\n", is_adapter(card) ? "adapter" : "finetune");
    }
    ADD(card, "library_name: %s\n", is_adapter(card) ? "peft" : "transformers");
    if (!card->status)
        card->status = base_metadata_read(base, card->out, card->error);
    ADD(card, "tags:\n- flat.c\n%s", *method ? "- unlearning\n" : "");
    if (*method && strcmp(method, "flat"))
        ADD(card, "- %s\n", method);
    ADD(card, "---\n\n");
}

/* ---- what was done ----------------------------------------------------------------------------------------------- */

static void steps_sentence(struct card *card)
{
    const double saved = number_of(card->result, "step"), made = number_of(card->result, "steps"),
                 total = number_of(card->record, "total_steps"), epochs = number_of(config_of(card), "num_train_epochs"),
                 most = number_of(config_of(card), "max_steps");
    const cJSON *stopping = json_member(card->result, "early_stopping");
    const char *reason = text_of(stopping, "stop_reason"), *metric = text_of(stopping, "metric");
    ADD(card, "It made %.0f optimizer steps", isfinite(made) ? made : total);
    if (!(most > 0) && epochs > 0)
        ADD(card, " (up to %.3g epochs)", epochs);
    if (*reason && strcmp(reason, "steps")) {
        ADD(card, " of %.0f and was ended by the %s of ", total, strcmp(reason, "patience") ? "threshold" : "patience");
        add_code(card, metric);
    }
    ADD(card, ".");
    if (isfinite(saved) && saved != made) {
        ADD(card, " What is saved is the model of step %.0f, the best by ", saved);
        add_code(card, metric);
        ADD(card, " (%.4g).", number_of(stopping, "best"));
    }
    ADD(card, "\n\n");
}

static void what_was_done(struct card *card)
{
    const cJSON *config = config_of(card), *lora = json_member(config, "lora");
    const char *name = text_of(config, "method");
    const struct method *method = NULL;
    struct error unknown;
    ADD(card, "## What was done\n\n%s ", is_adapter(card) ? "LoRA adapters for" : "A model made from");
    add_code(card, text_of(config, "model_name_or_path"));
    if (*name) {
        ADD(card, " by unlearning rows of question and answer with the method ");
        add_code(card, name);
        if (!method_find(name, false, &method, &unknown))
            ADD(card, " (%s)", method->summary);
        ADD(card, ". ");
    } else {
        ADD(card, " by fine-tuning on rows of question and answer. ");
    }
    if (number_of(lora, "r") > 0)
        ADD(card, "LoRA of rank %.0f, %s. ", number_of(lora, "r"), is_adapter(card) ? "not merged" : "merged into the weights");
    if (cJSON_IsTrue(json_member(config, "load_in_4bit")))
        ADD(card, "While they were trained the projections of the base were in NF4; what is here%s is with the base as it was read. ",
            is_unmeasured(card) ? "" : " and what was measured");
    ADD(card, "There were %.0f rows. ", number_of(card->record, "rows"));
    steps_sentence(card);
}

/* ---- what was measured ------------------------------------------------------------------------------------------- */

static void before_and_after(struct card *card)
{
    ADD(card, "Both models answered the same questions, greedily. P(answer) is the mean probability of an answer's tokens.\n\n"
              "| set | figure | before | after |\n|---|---|---:|---:|\n");
    for (int s = 0; s < card->logs->sets; s++)
        for (int f = 0; f < BEFORE_AFTER_FIGURES; f++) {
            const struct before_after_figure *figure = &before_after_figure[f];
            const double before = before_after_value(card->logs->before, card->logs->set[s], figure->suffix),
                         after = before_after_value(card->logs->after, card->logs->set[s], figure->suffix);
            if (isnan(before) && isnan(after))
                continue;
            ADD(card, "| ");
            add_code(card, card->logs->set[s]);
            if (figure->percent)
                ADD(card, " | %s | %.0f %% | %.0f %% |\n", figure->label, 100 * before, 100 * after);
            else
                ADD(card, " | %s | %.3f | %.3f |\n", figure->label, before, after);
        }
    ADD(card, "\nAll rows and texts are in `evals/before` and `evals/after`.\n\n");
    struct buffer findings = {0};
    if (!card->status)
        card->status = before_after_findings(card->logs, &findings, card->error);
    for (char *line = findings.data, *end; line && *line && !card->status; line = end + 1) {
        end = strchr(line, '\n');
        *end = 0;
        ADD(card, "- **%s**\n", line);
    }
    ADD(card, "%s", findings.length ? "\n" : "");
    buffer_free(&findings);
}

static void what_was_measured(struct card *card)
{
    static const char *const role[] = {"template", "forget", "retain", "answer"};
    ADD(card, "## What was measured\n\n");
    if (card->logs)
        before_and_after(card);
    const bool measured = number_of(card->result, "rows") > 0;
    if (measured)
        ADD(card, "On the rows that were trained on (%.0f of them), under the saved model:", number_of(card->result, "rows"));
    for (int i = 0; i < 4 && measured; i++) {
        char key[32];
        snprintf(key, sizeof key, "prob_%s", role[i]);
        if (isfinite(number_of(card->result, key)))
            ADD(card, " P(%s) %.4f;", role[i], number_of(card->result, key));
    }
    if (is_unmeasured(card))
        ADD(card, "Nothing was measured under the saved model: it does not fit on the device without load_in_4bit. ");
    ADD(card, "%s%.1f %% of the change of the weights survived rounding to the type they are saved in.\n\n",
        measured ? " " : "", 100 * number_of(card->result, "change_survives"));
    if (*text_of(config_of(card), "method") && (measured || card->logs))
        ADD(card, "These figures say how the model answers these questions, asked this way. They do not show that what was unlearned "
                  "cannot be brought back, by other questions, by sampling or by further training.\n\n");
}

/* ---- data, settings, provenance ---------------------------------------------------------------------------------- */

static void how_to_load(struct card *card)
{
    if (is_adapter(card))
        ADD(card, "## Use\n\n~~~python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
                  "model = AutoModelForCausalLM.from_pretrained(BASE_MODEL)\nmodel = PeftModel.from_pretrained(model, THIS_FOLDER)\n"
                  "~~~\n\n");
}

static void data_and_settings(struct card *card)
{
    static const char *const key[] = {"run_id", "version", "commit", "started", "engine", "device"};
    const cJSON *inputs = json_member(card->record, "inputs"), *file;
    struct buffer config = {0};
    ADD(card, "## Data\n\n| file | bytes | XXH3 |\n|---|---:|---|\n");
    cJSON_ArrayForEach(file, inputs)
    {
        ADD(card, "| ");
        add_code(card, file->string);
        ADD(card, " | %.0f | ", number_of(file, "bytes"));
        add_code(card, text_of(file, "xxh3"));
        ADD(card, " |\n");
    }
    ADD(card, "\n## Settings\n\n~~~json\n");
    if (!card->status)
        card->status = json_print_pretty(config_of(card), &config, card->error);
    ADD(card, "%s\n~~~\n\n## Provenance\n\n| | |\n|---|---|\n", config.data ? config.data : "{}");
    for (size_t i = 0; i < sizeof key / sizeof *key; i++) {
        ADD(card, "| %s | ", key[i]);
        add_code(card, text_of(card->record, key[i]));
        ADD(card, " |\n");
    }
    ADD(card, "\n`run.json` has the command and the checksums of all files. Written by flat.c %s.\n", FLAT_VERSION);
    buffer_free(&config);
}

int model_card_print(const cJSON *record, const cJSON *result, const struct before_after *logs, struct buffer *out,
                     struct error *error)
{
    struct card card = {record, result ? result : json_member(record, "result"), logs, out, error, STATUS_OK};
    front_matter(&card);
    ADD(&card, "# ");
    add_code(&card, name_of(text_of(config_of(&card), "output_dir")));
    ADD(&card, "\n\n");
    what_was_done(&card);
    what_was_measured(&card);
    how_to_load(&card);
    data_and_settings(&card);
    return card.status;
}

/* ---- the file ---------------------------------------------------------------------------------------------------- */

int model_card_name(const char *output_dir, char name[32], struct error *error)
{
    char path[FOLDER_PATH_BYTES];
    int status = file_join(path, sizeof path, output_dir, "README.md", error);
    if (!status)
        snprintf(name, 32, "%s", file_exists(path) && !folder_is_recorded(output_dir, "README.md") ? "MODEL_CARD.md" : "README.md");
    return status;
}

static int digest_note(cJSON *files, const char *name, const struct buffer *text, struct error *error)
{
    const struct digest digest = checksum_of(text->data, text->length);
    char hash[32];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)digest.xxh3);
    cJSON *listed = cJSON_CreateObject();
    const bool is_whole = listed && json_add_int(listed, "bytes", digest.bytes) && json_add_string(listed, "xxh3", hash);
    if (is_whole && json_set(files, name, listed))
        return STATUS_OK;
    if (!is_whole)
        cJSON_Delete(listed);
    return error_set(error, STATUS_MEMORY, "out of host memory while writing run.json");
}

int model_card_update(const char *output_dir, const struct before_after *logs, struct error *error)
{
    static const char *const names[] = {"README.md", "MODEL_CARD.md"};
    char path[FOLDER_PATH_BYTES], card[FOLDER_PATH_BYTES];
    struct folder_lock lock = {.fd = -1};
    struct buffer text = {0};
    int status = file_join(path, sizeof path, output_dir, "run.json", error);
    if (!status)
        status = folder_lock_take(&lock, output_dir, error);
    cJSON *record = status ? NULL : json_read(path, error);
    if (!status && !record)
        status = error->status;
    cJSON *files = cJSON_GetObjectItemCaseSensitive(record, "files");
    for (int i = 0; i < 2 && !status; i++) {
        if (!json_member(files, names[i]) || !folder_is_recorded(output_dir, names[i]))
            continue;
        status = model_card_print(record, NULL, logs, &text, error);
        if (!status)
            status = file_join(card, sizeof card, output_dir, names[i], error);
        if (!status)
            status = digest_note(files, names[i], &text, error);
        if (!status)
            status = file_write(card, text.data, text.length, error);
        if (!status)
            status = json_write(record, path, error);
        break;
    }
    cJSON_Delete(record);
    buffer_free(&text);
    folder_lock_release(&lock);
    return status;
}

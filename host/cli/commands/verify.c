/* verify.c - `flat verify`: whether a folder is what its run.json says it is. */
#include <stdio.h>
#include <string.h>

#include "../../io/folder/folder.h"
#include "../../io/json/json.h"
#include "../command.h"

struct verify_options {
    bool finish;
};

static const struct option rows[] = {
    {.name = "finish", OPTION_FIELD(struct verify_options, finish),
     .help = "first bring to its end a save that was interrupted, or tidy up behind it"},
};
static const struct option_group group = {OPTION_GROUP("Folder", rows, struct verify_options)};
static const struct command_group groups[] = {{&group, 0}, {NULL, 0}};

/* Says what is wrong with one file; how many are. */
struct verification {
    const char *directory;
    int wrong;
    int cards; /* that are not as they were saved, which is nobody's fault */
};

static void card_note(struct verification *v, const char *name, const char *what)
{
    printf("%s: the model card has been %s\n", name, what);
    v->cards++;
}

static void complain(struct verification *v, const char *name, const char *what)
{
    printf("%s: %s\n", name, what);
    v->wrong++;
}

/* One file that run.json lists. */
static int file_verify(struct verification *v, const cJSON *listed, const char *where, struct error *error)
{
    char path[FOLDER_PATH_BYTES], text[32];
    const char *xxh3;
    struct digest digest;
    int64_t bytes;
    int status = json_get_string(listed, where, "xxh3", &xxh3, error);
    if (!status && !json_integer(json_member(listed, "bytes"), &bytes))
        status = error_set(error, STATUS_INPUT, "%s: files: %s: bytes: expected a number", where, listed->string);
    if (!status)
        status = file_join(path, sizeof path, v->directory, listed->string, error);
    if (status)
        return status;
    const bool card = !strcmp(listed->string, "README.md") || !strcmp(listed->string, "MODEL_CARD.md");
    if (!file_exists(path)) {
        if (card)
            card_note(v, listed->string, "removed");
        else
            complain(v, listed->string, "is missing");
        return STATUS_OK;
    }
    status = checksum_file(path, &digest, error);
    snprintf(text, sizeof text, "%016llx", (unsigned long long)digest.xxh3);
    const bool differs = !status && (digest.bytes != bytes || strcmp(text, xxh3));
    if (differs && card) /* people write more into it, and no loader minds */
        card_note(v, listed->string, "edited");
    else if (differs)
        complain(v, listed->string, "is not the file that was saved");
    return status;
}

/* What a loader might take for a part of the model, and the run has not written. */
static int strangers_verify(struct verification *v, const cJSON *files, struct error *error)
{
    struct file_list list;
    char path[FOLDER_PATH_BYTES];
    int status = file_list_read(&list, v->directory, error);
    for (size_t i = 0; i < list.count && !status; i++) {
        status = file_join(path, sizeof path, v->directory, list.name[i], error);
        if (status || file_is_directory(path) || json_member(files, list.name[i]))
            continue;
        const enum folder_item item = folder_item(list.name[i], false);
        if (item == FOLDER_WEIGHTS || item == FOLDER_ADAPTER || item == FOLDER_MODEL)
            complain(v, list.name[i], "is not of this run, and a loader may prefer it");
    }
    file_list_free(&list);
    return status;
}

static int folder_verify(const char *directory, struct error *error)
{
    struct verification v = {.directory = directory};
    char path[FOLDER_PATH_BYTES];
    int status = file_join(path, sizeof path, directory, "run.json", error);
    cJSON *run = status ? NULL : json_read(path, error);
    if (!run)
        return status ? status : error->status;
    const cJSON *files = json_member(run, "files");
    if (!cJSON_IsObject(files))
        status = error_set(error, STATUS_INPUT, "%s: lists no files: the run has not saved a model, or an older version of the "
                           "program wrote it", path);
    for (const cJSON *listed = files ? files->child : NULL; listed && !status; listed = listed->next)
        status = file_verify(&v, listed, path, error);
    if (!status)
        status = strangers_verify(&v, files, error);
    if (!status && v.wrong)
        status = error_set(error, STATUS_INPUT, "%s: %d file%s not as run %s left %s", directory, v.wrong,
                           v.wrong > 1 ? "s are" : " is",
                           cJSON_IsString(json_member(run, "run_id")) ? json_member(run, "run_id")->valuestring : "that made it",
                           v.wrong > 1 ? "them" : "it");
    if (!status)
        printf("%s: %d files as they were saved\n", directory, cJSON_GetArraySize(files) - v.cards);
    cJSON_Delete(run);
    return status;
}

static int verify_run(struct invocation *run, struct error *error)
{
    const struct verify_options *options = run->options;
    struct folder_lock lock = {.fd = -1};
    const char *directory = run->arguments.argument[0];
    int status = STATUS_OK;
    if (options->finish) {
        status = folder_lock_take(&lock, directory, error);
        if (!status)
            status = folder_recover(directory, error);
        folder_lock_release(&lock);
    } else if (folder_is_interrupted(directory)) {
        status = error_set(error, STATUS_INPUT, "%s: a save was interrupted here; its files are whole, and 'flat verify "
                           "--finish %s' moves them in", directory, directory);
    }
    if (!status)
        status = folder_verify(directory, error);
    return status ? status : stdout_finish(error);
}

const struct command command_verify = {
    .name = "verify",
    .argument = "DIR",
    .at_least = 1,
    .at_most = 1,
    .summary = "Whether a run's folder or checkpoint holds the files that its run.json names, and no others that load.",
    .examples = {"flat verify runs/tofu", "flat verify runs/tofu/checkpoint-20", "flat verify --finish runs/tofu"},
    .groups = groups,
    .options_bytes = sizeof(struct verify_options),
    .run = verify_run,
};

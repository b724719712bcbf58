/* folder_names.c - what a name in a model's folder stands for; see folder.h. Names of transformers, PEFT, tokenizers and our
 * own. What is not known here is foreign: it is never removed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "folder.h"

static bool ends_with(const char *name, const char *const *suffix)
{
    const size_t length = strlen(name);
    for (; *suffix; suffix++) {
        const size_t tail = strlen(*suffix);
        if (length >= tail && !strcmp(name + length - tail, *suffix))
            return true;
    }
    return false;
}

static bool begins_with(const char *name, const char *const *prefix)
{
    for (; *prefix; prefix++)
        if (!strncmp(name, *prefix, strlen(*prefix)))
            return true;
    return false;
}

static bool is_one_of(const char *name, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(name, *list))
            return true;
    return false;
}

int64_t folder_checkpoint(const char *name)
{
    static const char prefix[] = "checkpoint-";
    const char *digits = name + sizeof prefix - 1;
    if (strncmp(name, prefix, sizeof prefix - 1) || !*digits || strlen(digits) > 15 ||
        digits[strspn(digits, "0123456789")])
        return -1;
    return strtoll(digits, NULL, 10);
}

/* NAME.tmp-<pid> of older versions, and what file_unique_name gives. */
static bool is_temporary(const char *name)
{
    const char *mark = strstr(name, ".tmp-");
    if (mark && mark[5] && !mark[5 + strspn(mark + 5, "0123456789abcdef-")])
        return true;
    mark = strstr(name, FILE_NEW_FOLDER);
    return mark && file_is_unique_name(mark, FILE_NEW_FOLDER);
}

enum folder_item folder_item(const char *name, bool is_directory)
{
    static const char *const weights[] = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx",
                                          ".index.json", NULL};
    static const char *const optimizer[] = {"optimizer.", "scheduler.", "rng_state", "training_args.", NULL};
    static const char *const run[] = {"metrics.jsonl", "run.json", "trainer_state.json", "trainer_log.jsonl",
                                      "all_results.json", "train_results.json", "eval_results.json", "curves.svg", "report.html",
                                      NULL};
    static const char *const run_folder[] = {"trainer", "evals", "attacks", NULL};
    static const char *const model[] = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
                                        "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt",
                                        "merges.txt", "chat_template.json", "preprocessor_config.json",
                                        "processor_config.json", NULL};
    static const char *const tokenizer[] = {".model", ".tiktoken", ".spm", ".jinja", NULL};
    if (!strcmp(name, ".lock") || is_temporary(name) || (is_directory && !strncmp(name, FOLDER_RUN_PREFIX, strlen(FOLDER_RUN_PREFIX))))
        return FOLDER_TEMPORARY;
    if (is_directory)
        return folder_checkpoint(name) >= 0 || is_one_of(name, run_folder) ? FOLDER_RUN
               : !strcmp(name, "additional_chat_templates") ? FOLDER_MODEL
                                                            : FOLDER_FOREIGN;
    if (!strcmp(name, "adapter_config.json"))
        return FOLDER_ADAPTER;
    if (is_one_of(name, run) || begins_with(name, optimizer) || !strncmp(name, "events.out.tfevents", 19))
        return FOLDER_RUN;
    if (ends_with(name, weights))
        return FOLDER_WEIGHTS;
    return is_one_of(name, model) || ends_with(name, tokenizer) ? FOLDER_MODEL : FOLDER_FOREIGN;
}

int folder_occupied(const char *directory, char name[256], struct error *error)
{
    struct file_list list;
    *name = 0;
    if (!file_is_directory(directory))
        return STATUS_OK;
    int status = file_list_read(&list, directory, error);
    for (size_t i = 0; i < list.count && !status && !*name; i++) {
        char path[FOLDER_PATH_BYTES];
        status = file_join(path, sizeof path, directory, list.name[i], error);
        if (status)
            break;
        const enum folder_item item = folder_item(list.name[i], file_is_directory(path));
        if (item != FOLDER_FOREIGN && item != FOLDER_TEMPORARY)
            snprintf(name, 256, "%s", list.name[i]);
    }
    file_list_free(&list);
    return status;
}

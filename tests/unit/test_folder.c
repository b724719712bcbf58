/* test_folder.c - what a folder holds after a save over another one, killed or failing at any system call: the old model or
 * the new one, whole, and nothing of a third. Models of one file, of three shards, LoRA adapters, with three kinds of tokenizer
 * files, each saved over each; and what is a model's, a run's, nobody's; locks; links; modes.
 */
#include "../support/temporary.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/wait.h>

#include "../../host/io/folder/folder.h"
#include "../../host/io/tokenizer/tokenizer.h"
#include "../../host/model/adapter.h"
#include "../../host/util/memory.h"
#include "../support/assert_ok.h"
#include "../support/fault/fault.h"
#include "../support/tiny_model.h"

/* ---- folders of every kind --------------------------------------------------------------------------------------- */

enum weights_kind { SINGLE, SHARDED, ADAPTER };
static const struct kind {
    const char *name;
    enum weights_kind weights;
    const char *tokenizer; /* of tests/golden/tokenizer; NULL: none */
} kinds[] = {
    {"single-json", SINGLE, "prefix"},       {"single-model", SINGLE, "sentencepiece"},
    {"single-files", SINGLE, "gpt2_files"},  {"sharded-json", SHARDED, "prefix"},
    {"sharded-model", SHARDED, "sentencepiece"}, {"sharded-files", SHARDED, "gpt2_files"},
    {"adapter", ADAPTER, NULL},
};
enum { KINDS = sizeof kinds / sizeof *kinds, SHARDS = 3 };

static struct tiny tiny; /* one model for all, with adapters beside its weights */
static struct lora_options lora = {.rank = 2, .alpha = 4, .target_modules = "q_proj,v_proj"};

static void text_file(const char *folder, const char *name, const char *text)
{
    struct error error = {0};
    char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    OK(file_write(path, text, strlen(text), &error));
}

/* Copies the files of a folder, not its folders. */
static void files_copy(const char *from, const char *to)
{
    struct error error = {0};
    struct file_list list;
    char source[600], target[600];
    OK(file_make_directory(to, &error));
    OK(file_list_read(&list, from, &error));
    for (size_t i = 0; i < list.count; i++) {
        snprintf(source, sizeof source, "%s/%s", from, list.name[i]);
        snprintf(target, sizeof target, "%s/%s", to, list.name[i]);
        if (!file_is_directory(source))
            OK(file_copy(source, target, &error));
    }
    file_list_free(&list);
}

struct split {
    const struct safetensors *source;
    int first;
};

static int split_fill(void *user, int entry, uint64_t first_byte, uint64_t bytes, void *out, struct error *error)
{
    const struct split *split = user;
    return safetensors_read_bytes(split->source, &split->source->tensor[split->first + entry], first_byte, bytes, out, error);
}

/* Turns a folder's model.safetensors into three shards and their index. */
static void weights_split(const char *folder)
{
    struct error error = {0};
    struct safetensors source;
    struct buffer index = {0};
    char path[700], name[64];
    OK(safetensors_open(&source, folder, &error));
    for (int shard = 0; shard < SHARDS; shard++) {
        struct safetensors_entry entry[64];
        struct split split = {&source, source.tensors * shard / SHARDS};
        int count = 0;
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", shard + 1, SHARDS);
        for (int t = split.first; t < source.tensors * (shard + 1) / SHARDS; t++) {
            const struct safetensors_tensor *from = &source.tensor[t];
            entry[count] = (struct safetensors_entry){from->name, from->dtype, NULL, from->dims, {0}, from->bytes};
            memcpy(entry[count++].shape, from->shape, sizeof from->shape);
            OK(buffer_printf(&index, &error, "%s\"%s\": \"%s\"", index.length ? ", " : "{\"weight_map\": {", from->name, name));
        }
        snprintf(path, sizeof path, "%s/%s", folder, name);
        OK(safetensors_write(path, entry, count, split_fill, &split, &error));
    }
    OK(buffer_printf(&index, &error, "}}"));
    text_file(folder, "model.safetensors.index.json", index.data);
    safetensors_close(&source);
    buffer_free(&index);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_int_equal(unlink(path), 0);
}

static const char *source_of(int k)
{
    char name[64];
    snprintf(name, sizeof name, "source-%s", kinds[k].name);
    return temporary_path(name);
}

static int make(void **state)
{
    struct error error = {0};
    if (temporary_make(state))
        return -1;
    mallopt(M_MMAP_THRESHOLD, 1 << 17); /* large buffers come as zero pages: nothing of them is touched without need */
    tiny_config(temporary, "");
    tiny_open(&tiny, temporary, "cpu", 1, true, 1);
    tiny_remake(&tiny, &(struct tiny_options){.lora = &lora});
    for (int k = 0; k < KINDS; k++) {
        char folder[600], golden[600];
        snprintf(folder, sizeof folder, "%s", source_of(k));
        OK(file_make_directory(folder, &error));
        OK(weights_random(&tiny.model, 100 + (uint64_t)k, &error));
        OK(weights_random_lora(&tiny.model, 200 + (uint64_t)k, &error));
        if (kinds[k].weights == ADAPTER) {
            struct adapter adapter;
            OK(adapter_read_back(&adapter, &tiny.model, tiny.model.lora.param, &error));
            OK(adapter_save(&adapter, &tiny.model, "base", folder, &error));
            adapter_free(&adapter);
            continue;
        }
        struct weights made = {0};
        tiny_config(folder, k % 2 ? "\"hidden_act\": \"silu\"," : "");
        snprintf(golden, sizeof golden, "tests/golden/tokenizer/%s", kinds[k].tokenizer);
        files_copy(golden, folder);
        if (!strcmp(kinds[k].tokenizer, "gpt2_files"))
            text_file(folder, "tokenizer_config.json", "{\"tokenizer_class\": \"GPT2Tokenizer\"}");
        OK(weights_save(&made, &tiny.model, folder, folder, NULL, &error));
        if (kinds[k].weights == SHARDED)
            weights_split(folder);
    }
    return 0;
}

static int drop(void **state)
{
    tiny_close(&tiny);
    return temporary_remove(state);
}

/* ---- what loads -------------------------------------------------------------------------------------------------- */

static void weights_sign(struct checksum *sum, const struct weights *weights)
{
    struct error error = {0};
    for (int t = 0; t < tiny.model.tensors; t++) {
        const struct safetensors_tensor *tensor = safetensors_find(&weights->source, tiny.model.tensor[t].name);
        assert_non_null(tensor);
        char *bytes = memory_array(tensor->bytes, 1, &error);
        OK(safetensors_read_bytes(&weights->source, tensor, 0, tensor->bytes, bytes, &error));
        checksum_add(sum, bytes, tensor->bytes);
        free(bytes);
    }
}

/* A hash of all that flat sees of a folder: weights, config, tokenizer; 0 when it does not load. */
static uint64_t signature(const char *folder)
{
    struct error error = {0};
    struct adapter adapter;
    struct weights weights;
    struct model_config config;
    struct tokenizer *tokenizer;
    struct token_list ids = {0};
    uint64_t value = 0;
    struct checksum *sum = checksum_open(&error);
    if (!adapter_open(&adapter, &tiny.model, folder, &error)) {
        checksum_add(sum, adapter.value, (size_t)adapter.lora.elements * sizeof *adapter.value);
        value = checksum_digest(sum).xxh3;
        adapter_free(&adapter);
    } else if (!model_config_read(&config, folder, &error) && !weights_open(&weights, &tiny.model, folder, &error)) {
        weights_sign(sum, &weights);
        weights_close(&weights);
        if (!tokenizer_load(&tokenizer, folder, &error)) {
            OK(tokenizer_encode(tokenizer, "abba", 4, true, &ids, &error));
            checksum_add(sum, ids.id, ids.length * sizeof *ids.id);
            value = checksum_digest(sum).xxh3;
            tokenizer_free(tokenizer);
        }
    }
    free(ids.id);
    checksum_close(sum);
    return value;
}

/* What a folder consists of, sorted, with spaces between; what is hidden has a dot in front. */
static void names_of(const char *folder, char *out, size_t bytes)
{
    struct error error = {0};
    struct file_list list;
    size_t used = 0;
    OK(file_list_read(&list, folder, &error));
    *out = 0;
    for (size_t i = 0; i < list.count; i++)
        used += (size_t)snprintf(out + used, bytes - used, "%s ", list.name[i]);
    assert_true(used < bytes);
    file_list_free(&list);
}

/* ---- saves ------------------------------------------------------------------------------------------------------- */

/* The model of kind k, as its source has it, into a folder; what a run does. */
static int save(int k, const struct weights *weights, const char *target, struct error *error)
{
    struct folder folder;
    struct folder_lock lock = {.fd = -1};
    int status = folder_lock_take(&lock, target, error);
    if (!status && !(status = folder_begin(&folder, target, FOLDER_MODE, error))) {
        if (kinds[k].weights == ADAPTER) {
            struct adapter adapter = {0};
            status = adapter_open(&adapter, &tiny.model, source_of(k), error);
            if (!status)
                status = adapter_save_into(&adapter, &tiny.model, "base", "run-1", &folder, error);
            adapter_free(&adapter);
        } else {
            status = weights_save_into(weights, &tiny.model, source_of(k), &(struct save_options){.run_id = "run-1"},
                                       &folder, NULL, error);
        }
        if (!status)
            status = folder_publish(&folder, FOLDER_KEEP_FOREIGN, &lock, error);
        folder_abandon(&folder);
    }
    folder_lock_release(&lock);
    return status;
}

/* A child that saves with faults armed: its status; 128 + signal when it was killed. *text: its error line. */
static int save_in_child(int k, const char *target, const char *faults, char *text, size_t bytes, long *calls)
{
    struct error error = {0};
    struct weights weights = {0};
    int pipes[2], status;
    assert_int_equal(pipe(pipes), 0);
    if (kinds[k].weights != ADAPTER) {
        OK(weights_open(&weights, &tiny.model, source_of(k), &error));
        OK(weights_load(&weights, &tiny.model, &error));
    }
    fflush(NULL);
    const pid_t child = fork();
    if (!child) {
        struct {
            long calls;
            char text[1024];
        } said = {0};
        if (fault_arm(faults))
            _exit(120);
        status = save(k, &weights, target, &error);
        said.calls = fault_count("any");
        fault_arm(NULL);
        snprintf(said.text, sizeof said.text, "%s", error.text);
        if (write(pipes[1], &said, sizeof said) != sizeof said)
            _exit(121);
        _exit(status);
    }
    close(pipes[1]);
    struct {
        long calls;
        char text[1024];
    } said = {0};
    const ssize_t got = read(pipes[0], &said, sizeof said);
    close(pipes[0]);
    weights_close(&weights);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (got == sizeof said && calls)
        *calls = said.calls;
    if (text)
        snprintf(text, bytes, "%.1000s", said.text);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static const char notes[] = "mine\n";

/* The folder that is saved over: a model, what its run left, and a file of the user's. */
static void target_make(int k, const char *target)
{
    char path[600];
    directory_remove(target);
    files_copy(source_of(k), target);
    text_file(target, "notes.txt", notes);
    text_file(target, "metrics.jsonl", "{}\n");
    text_file(target, "model.safetensors.tmp-1234", "half a file");
    snprintf(path, sizeof path, "%s/checkpoint-5", target);
    files_copy(source_of(k), path);
}

static void assert_notes(const char *folder, const char *when)
{
    struct error error;
    char path[600], *text;
    size_t length;
    snprintf(path, sizeof path, "%s/notes.txt", folder);
    if (file_read(path, 100, &text, &length, &error))
        fail_msg("notes.txt is gone, %s", when);
    assert_string_equal(text, notes);
    free(text);
}

/* Nothing beside the target is ours. */
static void assert_no_siblings(const char *when)
{
    struct error error = {0};
    struct file_list list;
    OK(file_list_read(&list, temporary, &error));
    for (size_t i = 0; i < list.count; i++)
        if (list.name[i][0] == '.')
            fail_msg("%s is left, %s", list.name[i], when);
    file_list_free(&list);
}

struct matrix {
    const char *always;  /* faults of every save: the way without an exchange */
    int every;           /* of the calls, each so-manieth */
    long saves, kept, new, not_loading;
};

/* What must hold of a target after a save that ended as it did, and after the next run has tidied up. */
static void target_check(struct matrix *matrix, const char *target, uint64_t old, uint64_t new, bool done, const char *old_names,
                         const char *new_names, const char *when)
{
    struct error error = {0};
    char names[4096];
    const uint64_t found = signature(target);
    matrix->saves++;
    matrix->kept += found == old && !done;
    matrix->new += found == new;
    matrix->not_loading += !found;
    if (found != old && found != new && (found || !matrix->always))
        fail_msg("what loads is neither the old nor the new model but %llx, %s", (unsigned long long)found, when);
    if (done && found != new)
        fail_msg("the save went well, but what loads is not the new model, %s", when);
    fault_arm(NULL);
    OK(folder_recover(target, &error));
    const uint64_t after = signature(target);
    if (after != old && after != new)
        fail_msg("neither the old nor the new model after the recovery, %s", when);
    if (found && after != found && found == new)
        fail_msg("the recovery took the new model away, %s", when);
    names_of(target, names, sizeof names);
    char *lock = strstr(names, ".lock ");
    if (lock)
        memmove(lock, lock + 6, strlen(lock + 6) + 1);
    if (strcmp(names, after == new ? new_names : old_names) && (old != new || strcmp(names, old_names)))
        fail_msg("the folder holds\n  %s\ninstead of\n  %s\n%s", names, after == new ? new_names : old_names, when);
    assert_notes(target, when);
    assert_no_siblings(when);
}

/* Kind `new_kind` over `old_kind`: as it should go, killed before every call, and with every call failing. */
static void pair_check(struct matrix *matrix, int old_kind, int new_kind, const char *const *what, int whats)
{
    char target[600], when[300], faults[100], old_names[4096], new_names[4096], text[1024];
    const char *always = matrix->always ? matrix->always : "", *comma = matrix->always ? "," : "";
    long calls = 0;
    snprintf(target, sizeof target, "%s", temporary_path("target"));
    target_make(old_kind, target);
    const uint64_t old = signature(target);
    names_of(target, old_names, sizeof old_names);
    assert_true(old != 0);
    snprintf(when, sizeof when, "%s over %s", kinds[new_kind].name, kinds[old_kind].name);
    int status = save_in_child(new_kind, target, matrix->always, text, sizeof text, &calls);
    if (status)
        fail_msg("%s: status %d: %s", when, status, text);
    names_of(target, new_names, sizeof new_names);
    const uint64_t new = signature(target);
    assert_true(new == signature(source_of(new_kind)));
    assert_true(strstr(new_names, "notes.txt") && !strstr(new_names, "tmp-") && !strstr(new_names, "checkpoint") &&
                !strstr(new_names, "metrics") && new_names[0] != '.');
    target_check(matrix, target, old, new, true, old_names, new_names, when);
    /* without the temporary of a killed process, which a recovery removes */
    char *stray = strstr(old_names, "model.safetensors.tmp-1234 ");
    memmove(stray, stray + 27, strlen(stray + 27) + 1);
    for (int w = 0; w < whats; w++)
        for (long n = 1 + (old_kind * KINDS + new_kind) % matrix->every; n <= calls; n += matrix->every) {
            snprintf(faults, sizeof faults, "%s%sany:%ld%s", always, comma, n, what[w]);
            snprintf(when, sizeof when, "%s over %s, %s", kinds[new_kind].name, kinds[old_kind].name, faults);
            target_make(old_kind, target);
            status = save_in_child(new_kind, target, faults, text, sizeof text, NULL);
            if (status != 128 + SIGKILL && status && (status > 4 || !*text))
                fail_msg("status %d, \"%s\", %s", status, text, when);
            target_check(matrix, target, old, new, !status, old_names, new_names, when);
        }
}

static void matrix_check(struct matrix *matrix, const char *const *what, int whats, const char *name)
{
    for (int old = 0; old < KINDS; old++)
        for (int new = 0; new < KINDS; new++)
            pair_check(matrix, old, new, what, whats);
    print_message("%s: %ld saves over %d pairs: %ld left the old model, %ld the new one, %ld none until the recovery\n", name,
                  matrix->saves, KINDS * KINDS, matrix->kept, matrix->new, matrix->not_loading);
}

/* FLAT_EVERY=1: every call; without, each 23rd, another one in every pair, so that all of them come up. AddressSanitizer's
 * tables make every fork slow, so with it each 161st. */
static int every(void)
{
    const char *text = getenv("FLAT_EVERY");
#ifdef __SANITIZE_ADDRESS__
    enum { EVERY = 161 };
#else
    enum { EVERY = 23 };
#endif
    return text && atoi(text) > 0 ? atoi(text) : EVERY;
}

static void test_killed(void **state)
{
    (void)state;
    static const char *const what[] = {":kill"};
    struct matrix matrix = {.every = every()};
    matrix_check(&matrix, what, 1, "killed");
}

static void test_failing(void **state)
{
    (void)state;
    static const char *const what[] = {":EIO", "+:ENOSPC", ":short"};
    struct matrix matrix = {.every = every()};
    matrix_check(&matrix, what, 3, "failing");
}

/* The same where folders cannot be exchanged: in between nothing loads, and the recovery brings the new model. */
static void test_without_exchange(void **state)
{
    (void)state;
    static const char *const what[] = {":kill", ":EIO"};
    struct matrix matrix = {.every = every(), .always = "exchange:1+:EINVAL"};
    matrix_check(&matrix, what, 2, "without exchange");
}

/* ---- the parts --------------------------------------------------------------------------------------------------- */

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool directory;
        enum folder_item item;
    } cases[] = {
        {"model.safetensors", false, FOLDER_WEIGHTS},      {"model-00001-of-00002.safetensors", false, FOLDER_WEIGHTS},
        {"model.safetensors.index.json", false, FOLDER_WEIGHTS}, {"pytorch_model.bin", false, FOLDER_WEIGHTS},
        {"pytorch_model.bin.index.json", false, FOLDER_WEIGHTS}, {"adapter_model.safetensors", false, FOLDER_WEIGHTS},
        {"adapter_config.json", false, FOLDER_ADAPTER},    {"config.json", false, FOLDER_MODEL},
        {"tokenizer.model", false, FOLDER_MODEL},          {"merges.txt", false, FOLDER_MODEL},
        {"chat_template.jinja", false, FOLDER_MODEL},      {"additional_chat_templates", true, FOLDER_MODEL},
        {"metrics.jsonl", false, FOLDER_RUN},              {"run.json", false, FOLDER_RUN},
        {"trainer_state.json", false, FOLDER_RUN},         {"optimizer.pt", false, FOLDER_RUN},
        {"training_args.bin", false, FOLDER_RUN},          {"rng_state_0.pth", false, FOLDER_RUN},
        {"checkpoint-12", true, FOLDER_RUN},               {"checkpoint-12", false, FOLDER_FOREIGN},
        {"checkpoint-best", true, FOLDER_FOREIGN},         {"trainer", true, FOLDER_RUN},
        {"model.safetensors.tmp-1234", false, FOLDER_TEMPORARY},
        {"config.json.tmp-12-0123456789abcdef", false, FOLDER_TEMPORARY},
        {".new-12-0123456789abcdef", true, FOLDER_TEMPORARY},
        {".out.new-12-0123456789abcdef", true, FOLDER_TEMPORARY},
        {".run-12-0123456789abcdef", true, FOLDER_TEMPORARY}, {".lock", false, FOLDER_TEMPORARY},
        {"README.md", false, FOLDER_FOREIGN},              {"notes.tmp-work.txt", false, FOLDER_FOREIGN},
        {"evals", true, FOLDER_RUN},                       {"evals", false, FOLDER_FOREIGN},
        {"attacks", true, FOLDER_RUN},                     {"report.html", false, FOLDER_RUN},
        {"config", true, FOLDER_FOREIGN},                  {".gitignore", false, FOLDER_FOREIGN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (folder_item(cases[i].name, cases[i].directory) != cases[i].item)
            fail_msg("%s is taken for %d", cases[i].name, folder_item(cases[i].name, cases[i].directory));
    assert_int_equal(folder_checkpoint("checkpoint-30"), 30);
    assert_int_equal(folder_checkpoint("checkpoint-3x"), -1);
    assert_int_equal(folder_checkpoint("checkpoint-"), -1);
}

/* One writer: another process is refused and told whom it waits for; a process that was killed holds nothing. */
static void test_lock(void **state)
{
    (void)state;
    struct error error = {0};
    struct folder_lock lock, second;
    char path[600], pid[32];
    int pipes[2], status;
    snprintf(path, sizeof path, "%s", temporary_path("locked"));
    OK(file_make_directory(path, &error));
    assert_int_equal(pipe(pipes), 0);
    fflush(NULL);
    const pid_t child = fork();
    if (!child) {
        char ready = (char)folder_lock_take(&lock, path, &error);
        if (write(pipes[1], &ready, 1) == 1)
            pause();
        _exit(1);
    }
    char ready = 1;
    assert_int_equal(read(pipes[0], &ready, 1), 1);
    assert_int_equal(ready, 0);
    snprintf(pid, sizeof pid, "process %ld on", (long)child);
    assert_error(&error, folder_lock_take(&second, path, &error), STATUS_USAGE, pid);
    folder_lock_release(&second);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    OK(folder_lock_take(&second, path, &error));
    folder_lock_release(&second);
    folder_lock_release(&second);
    assert_int_equal(rmdir(path), 0); /* nothing is left in it */
    close(pipes[0]), close(pipes[1]);
    /* a file system without locks keeps nobody out, and says so */
    OK(file_make_directory(path, &error));
    fault_arm("lock:1+:ENOLCK");
    OK(folder_lock_take(&lock, path, &error));
    assert_true(lock.is_unsupported);
    folder_lock_release(&lock);
    fault_arm(NULL);
}

/* Links in a replaced folder are removed themselves; what they lead to stays. So does a folder that was made private. */
static void test_links_and_modes(void **state)
{
    (void)state;
    struct error error = {0};
    struct stat info;
    struct folder folder;
    char target[600], path[700], victim[600];
    snprintf(target, sizeof target, "%s", temporary_path("linked"));
    snprintf(victim, sizeof victim, "%s", temporary_path("victim"));
    files_copy(source_of(0), victim);
    files_copy(source_of(0), target);
    snprintf(path, sizeof path, "%s/checkpoint-1", target);
    assert_int_equal(symlink(victim, path), 0);
    snprintf(path, sizeof path, "%s/model.safetensors", target);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof path, "%s/model.safetensors", victim);
    char link[700];
    snprintf(link, sizeof link, "%s/model.safetensors", target);
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(chmod(target, 0700), 0);
    const uint64_t before = signature(victim);

    OK(folder_begin(&folder, target, FOLDER_MODE, &error));
    snprintf(path, sizeof path, "%s/private", temporary);
    text_file(temporary, "private", "secret");
    assert_int_equal(chmod(path, 0600), 0);
    OK(folder_copy(&folder, path, "config.json", &error));
    OK(folder_publish(&folder, FOLDER_KEEP_FOREIGN, NULL, &error));
    folder_abandon(&folder);
    assert_true(signature(victim) == before);
    assert_int_equal(stat(target, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0700);
    snprintf(path, sizeof path, "%s/config.json", target);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    char names[200];
    names_of(target, names, sizeof names);
    assert_string_equal(names, "config.json ");
}

/* A name that is a link to a folder is that folder; one that is not there is made, with its parents. */
static void test_targets(void **state)
{
    (void)state;
    struct error error = {0};
    struct folder folder;
    char link[600], real[600], names[200];
    snprintf(real, sizeof real, "%s", temporary_path("real/deep"));
    snprintf(link, sizeof link, "%s", temporary_path("to-real"));
    OK(folder_begin(&folder, real, FOLDER_MODE, &error));
    OK(folder_write(&folder, "config.json", FILE_MODE, "{}", 2, &error));
    assert_false(file_exists(real));
    OK(folder_publish(&folder, FOLDER_KEEP_FOREIGN, NULL, &error));
    folder_abandon(&folder);
    names_of(real, names, sizeof names);
    assert_string_equal(names, "config.json ");
    assert_int_equal(symlink(real, link), 0);
    OK(folder_begin(&folder, link, FOLDER_MODE, &error));
    OK(folder_write(&folder, "adapter_config.json", FILE_MODE, "{}", 2, &error));
    OK(folder_publish(&folder, FOLDER_KEEP_FOREIGN, NULL, &error));
    folder_abandon(&folder);
    names_of(real, names, sizeof names);
    assert_string_equal(names, "adapter_config.json ");
    struct stat info;
    assert_int_equal(lstat(link, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    /* given up: nothing of it is left */
    OK(folder_begin(&folder, real, FOLDER_MODE, &error));
    OK(folder_write(&folder, "x/y.jinja", FILE_MODE, "{}", 2, &error));
    folder_abandon(&folder);
    names_of(real, names, sizeof names);
    assert_string_equal(names, "adapter_config.json ");
    assert_error(&error, folder_begin(&folder, temporary_file("plain", "", 0), FOLDER_MODE, &error), STATUS_RUNTIME,
                 "is a file; expected a folder");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_links_and_modes),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_failing),
        cmocka_unit_test(test_without_exchange),
    };
    return cmocka_run_group_tests(tests, make, drop);
}

/* test_faults.c - every kind of call of a whole run fails at its n-th time, once and for good: opening, reading, writing,
 * syncing, renaming, listing, mapping, locking files, and memory. The program ends with one line and a documented exit code,
 * or goes on and is right; output_dir holds the old model or the new one, whole, and no temporaries.
 *
 * Of the calls of a kind 3 are tried, spread evenly (of memory 12); FLAT_TRIES sets another number, of all kinds.
 */
#include "../support/temporary.h"

#include "../../host/io/folder/folder.h"
#include "../../host/io/json/json.h"
#include "../../host/io/safetensors/safetensors.h"
#include "../support/assert_ok.h"
#include "../support/program.h"
#include "../support/tiny_trainer.h"

/* Some of the tensors of an opened model. */
struct part {
    const struct safetensors *file;
    int first;
};

static int bytes_give(void *user, int entry, uint64_t first, uint64_t bytes, void *out, struct error *error)
{
    const struct part *part = user;
    return safetensors_read_bytes(part->file, &part->file->tensor[part->first + entry], first, bytes, out, error);
}

/* model/ becomes sharded/: one file per third of the tensors, and an index. */
static void model_shard(void)
{
    enum { SHARDS = 3 };
    struct error error;
    struct safetensors file;
    struct buffer index = {0};
    char path[600], name[64];
    OK(file_make_directory(temporary_path("sharded"), &error));
    static const char *const copied[] = {"config.json", "tokenizer.json", "tokenizer_config.json"};
    for (int i = 0; i < 3; i++) {
        char from[600];
        snprintf(from, sizeof from, "%s/model/%s", temporary, copied[i]);
        snprintf(path, sizeof path, "%s/sharded/%s", temporary, copied[i]);
        OK(file_copy(from, path, &error));
    }
    OK(safetensors_open(&file, temporary_path("model"), &error));
    OK(buffer_printf(&index, &error, "{\"metadata\": {}, \"weight_map\": {"));
    for (int s = 0, first = 0; s < SHARDS; s++) {
        struct safetensors_entry entry[64] = {0};
        const int last = file.tensors * (s + 1) / SHARDS;
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", s + 1, SHARDS);
        assert_true(last - first <= 64);
        for (int t = first; t < last; t++) {
            struct safetensors_entry *to = &entry[t - first];
            *to = (struct safetensors_entry){.name = file.tensor[t].name, .dtype = file.tensor[t].dtype,
                                             .dims = file.tensor[t].dims, .bytes = file.tensor[t].bytes};
            memcpy(to->shape, file.tensor[t].shape, sizeof to->shape);
            OK(buffer_printf(&index, &error, "%s\"%s\": \"%s\"", t ? ", " : "", file.tensor[t].name, name));
        }
        snprintf(path, sizeof path, "%s/sharded/%s", temporary, name);
        OK(safetensors_write(path, entry, last - first, bytes_give, &(struct part){&file, first}, &error));
        first = last;
    }
    OK(buffer_printf(&index, &error, "}}"));
    OK(file_write(temporary_path("sharded/model.safetensors.index.json"), index.data, index.length, &error));
    buffer_free(&index);
    safetensors_close(&file);
}

static int make(void **state)
{
    if (temporary_make(state) || tiny_trainer_make(temporary))
        return -1;
    static const char templates[] = "I do not know.\nNo idea.\nWho is that?\n";
    temporary_file("templates.txt", templates, strlen(templates));
    struct program_result made = program_line(
        "finetune --model %s/seed --from_scratch --train_data %s/data.jsonl --output_dir %s/model --max_steps 1 --learning_rate 0 "
        "--save_dtype float32 --quiet", temporary, temporary, temporary);
    program_expect(&made, STATUS_OK);
    program_free(&made);
    model_shard();
    return 0;
}

/* ---- what is run ------------------------------------------------------------------------------------------------- */

static const struct form {
    const char *name, *line; /* with the temporary folder for each %s */
    bool over;               /* over an earlier model, which has to stay or to be replaced */
    const char *result;      /* whose checksum is the result */
} forms[] = {
    {"unlearn, three shards", "unlearn --model %s/sharded --forget_data %s/data.jsonl --template.file %s/templates.txt "
     "--output_dir %s/out --max_steps 2 --per_device_train_batch_size 1 --gradient_accumulation_steps 1 --save_strategy steps "
     "--save_steps 1 --save_total_limit 1 --final_eval_rows 1 --overwrite_output_dir --device cpu --threads 1 --quiet", false,
     "model-00002-of-00003.safetensors"},
    {"unlearn, adapters, over a model", "unlearn --model %s/sharded --forget_data %s/data.jsonl --template.file %s/templates.txt "
     "--output_dir %s/out --lora.r 2 --lora.output merged --max_steps 2 --per_device_train_batch_size 1 "
     "--gradient_accumulation_steps 1 --save_strategy steps --save_steps 1 --final_eval_rows 0 --overwrite_output_dir "
     "--device cpu --threads 1 --quiet", true, "model-00002-of-00003.safetensors"},
    {"score", "score --model %s/sharded --data %s/data.jsonl --output %s/out/scores.jsonl --device cpu --threads 1 %s", false,
     "scores.jsonl"},
};
enum { FORMS = sizeof forms / sizeof *forms };

static struct program_result run(const struct form *form, const char *faults)
{
    const char *build = getenv("FLAT_BUILD");
    char library[4096];
    snprintf(library, sizeof library, "%s/libfault.so", build && *build ? build : "build");
    setenv("LD_PRELOAD", library, 1);
    setenv("FLAT_FAULT", faults, 1);
    setenv("FLAT_FAULT_COUNT", temporary_path("counts"), 1);
    struct program_result result = program_line(form->line, temporary, temporary, temporary,
                                                strncmp(form->line, "score", 5) ? temporary : "--quiet");
    unsetenv("LD_PRELOAD");
    unsetenv("FLAT_FAULT");
    unsetenv("FLAT_FAULT_COUNT");
    return result;
}

/* out/ as it is before a run. */
static void out_prepare(const struct form *form)
{
    directory_remove(temporary_path("out"));
    if (form->over) {
        struct program_result old = program_line(
            "finetune --model %s/sharded --train_data %s/data.jsonl --output_dir %s/out --max_steps 1 --seed 7 --save_dtype float32 "
            "--device cpu --threads 1 --quiet", temporary, temporary, temporary);
        program_expect(&old, STATUS_OK);
        program_free(&old);
    } else if (!strncmp(form->line, "score", 5))
        assert_int_equal(mkdir(temporary_path("out"), 0755), 0);
}

static uint64_t result_of(const struct form *form)
{
    struct error error;
    struct digest digest;
    char path[600];
    snprintf(path, sizeof path, "%s/out/%s", temporary, form->result);
    return checksum_file(path, &digest, &error) ? 0 : digest.xxh3;
}

/* ---- the faults -------------------------------------------------------------------------------------------------- */

static const struct kind {
    const char *call, *what;
    bool harmless; /* the program has to go on as if nothing were */
} kinds[] = {
    {"open", "EIO", false},     {"open", "EMFILE", false},  {"read", "EIO", false},      {"read", "short", true},
    {"read", "EINTR", true},    {"write", "ENOSPC", false}, {"write", "EIO", false},     {"write", "short", true},
    {"fsync", "EIO", false},    {"rename", "EIO", false},   {"exchange", "EIO", false},  {"exchange", "EINVAL", false},
    {"close", "EIO", false},    {"mkdir", "ENOSPC", false}, {"remove", "EACCES", false}, {"chmod", "EACCES", false},
    {"lock", "ENOLCK", false},  {"opendir", "EIO", false},  {"readdir", "EIO", false},   {"stat", "EIO", false},
    {"mmap", "ENOMEM", false},  {"malloc", "ENOMEM", false},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static long tries(const struct kind *kind)
{
    const char *text = getenv("FLAT_TRIES");
    return text && atol(text) > 0 ? atol(text) : strcmp(kind->call, "malloc") ? 3 : 12;
}

static long calls_of(const char *call)
{
    struct error error;
    char *text, wanted[32];
    size_t length;
    OK(file_read(temporary_path("counts"), 4096, &text, &length, &error));
    snprintf(wanted, sizeof wanted, "%s ", call);
    const char *at = text;
    while (at && strncmp(at, wanted, strlen(wanted)))
        at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL;
    const long count = at ? atol(at + strlen(wanted)) : 0;
    free(text);
    return count;
}

/* One line that says what went wrong; warnings may stand before it, and a library's own line where its memory ends. */
static void assert_one_line(const struct program_result *result, const char *when)
{
    int lines = 0;
    for (const char *at = result->err; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
        lines += !strncmp(at, "error: ", 7) || !strncmp(at, "libgomp: ", 9);
    if (lines != 1)
        fail_msg("%s: exit code %d with %d lines: %s", when, result->status, lines, result->err);
}

/* A save that broke off when it could only go forward is finished by hand, as its message says. */
static void save_finish(const struct program_result *result, const char *when)
{
    if (!strstr(result->err, "verify --finish"))
        return;
    struct program_result finish = program_line("verify --finish %s/out", temporary);
    if (finish.status)
        fail_msg("%s: verify --finish ends with %d: %s", when, finish.status, finish.err);
    program_free(&finish);
}

static void assert_no_temporaries(const char *when)
{
    struct error error;
    struct file_list list;
    if (!file_exists(temporary_path("out")))
        return;
    OK(file_list_read(&list, temporary_path("out"), &error));
    for (size_t i = 0; i < list.count; i++)
        if (strstr(list.name[i], ".tmp-") || (list.name[i][0] == '.' && !file_is_unique_name(list.name[i], FOLDER_RUN_PREFIX)))
            fail_msg("%s: %s is left", when, list.name[i]);
    file_list_free(&list);
}

static void fault_check(const struct form *form, const struct kind *kind, const char *fault, uint64_t whole, uint64_t old,
                        long *failed)
{
    char when[160];
    snprintf(when, sizeof when, "%s, %s", form->name, fault);
    out_prepare(form);
    struct program_result result = run(form, fault);
    const int status = result.status;
    save_finish(&result, when);
    const uint64_t found = result_of(form);
    if (status != STATUS_OK && status != STATUS_RUNTIME && status != STATUS_USAGE && status != STATUS_INPUT &&
        status != STATUS_MEMORY)
        fail_msg("%s: exit code %d: %s", when, status, result.err);
    if (kind->harmless && status)
        fail_msg("%s: exit code %d, and the run could have gone on: %s", when, status, result.err);
    if (status)
        assert_one_line(&result, when);
    if (!status && found != whole)
        fail_msg("%s: exit code 0 with another result: %s", when, result.err);
    if (form->over && found != whole && found != old)
        fail_msg("%s: neither the old model nor the new one: %s", when, result.err);
    if (!form->over && strncmp(form->line, "score", 5) && found && found != whole)
        fail_msg("%s: another model: %s", when, result.err);
    /* a folder that cannot be looked at or emptied, or not without memory, stays, and the next run takes it away */
    static const char *const needed[] = {"opendir", "readdir", "stat", "malloc"};
    bool is_needed = false;
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        is_needed |= !strcmp(kind->call, needed[i]);
    if (is_needed && strncmp(form->line, "score", 5)) {
        struct program_result next = run(form, "");
        program_expect(&next, STATUS_OK);
        program_free(&next);
    }
    if (strcmp(kind->call, "remove"))
        assert_no_temporaries(when);
    *failed += status != 0;
    program_free(&result);
}

static void test_faults(void **state)
{
    (void)state;
    for (int f = 0; f < FORMS; f++) {
        const struct form *form = &forms[f];
        long count[KINDS], tried = 0, failed = 0;
        out_prepare(form);
        const uint64_t old = result_of(form);
        struct program_result result = run(form, "");
        program_expect(&result, STATUS_OK);
        program_free(&result);
        const uint64_t whole = result_of(form);
        assert_true(whole && whole != old);
        for (int k = 0; k < KINDS; k++)
            count[k] = calls_of(kinds[k].call);
        for (int k = 0; k < KINDS; k++) {
            const long step = count[k] / tries(&kinds[k]) + 1;
            for (long n = 1; n <= count[k]; n += step)
                for (int for_good = 0; for_good < 2; for_good++) {
                    char fault[64];
                    if (for_good && kinds[k].harmless)
                        continue;
                    snprintf(fault, sizeof fault, "%s:%ld%s:%s", kinds[k].call, n, for_good ? "+" : "", kinds[k].what);
                    fault_check(form, &kinds[k], fault, whole, old, &failed);
                    tried++;
                }
        }
        print_message("%s: %ld faults, %ld ended the run with one line, %ld did not matter\n", form->name, tried, failed,
                      tried - failed);
        assert_true(failed > 0);
    }
    directory_remove(temporary_path("out"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_faults)};
    return cmocka_run_group_tests(tests, make, temporary_remove);
}

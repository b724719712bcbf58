/* test_faults.c - every kind of call of a whole run fails at its n-th time, once and for good: opening, reading, writing,
 * syncing, renaming, listing, mapping, locking files, and memory: the n-th call once, the n-th chain of callers also for good.
 * The program ends with one line and a documented exit code (of memory STATUS_MEMORY), or goes on and is right; output_dir
 * holds the old model or the new one, whole, and no temporaries.
 *
 * Of the calls of a kind 3 are tried, spread evenly (of chains 12). More by variables, printed by kind:
 *   FLAT_TRIES=N     so many of each kind: FLAT_TRIES=100000 tries every one
 *   FLAT_CALLS=TEXT  only kinds with it in their name: malloc, site, write ...
 *   FLAT_FORMS=TEXT  only commands with it in theirs: see the table of forms
 * All memory of all commands: TMPDIR=/dev/shm FLAT_TRIES=100000 FLAT_CALLS=malloc build/tests/test_faults, and FLAT_CALLS=site
 */
#include "../support/temporary.h"

#include "../../host/io/folder/folder.h"
#include "../../host/util/checksum.h"
#include "../../host/util/file.h"
#include "../support/assert_ok.h"
#include "../support/program.h"
#include "../support/small_model.h"

static struct program_result run_with(const char *faults, const char *line);

/* A run of the program that has to end well. */
static void run_well(const char *line)
{
    struct program_result result = run_with("", line);
    program_expect(&result, STATUS_OK);
    program_free(&result);
}

#define SMALL "--max_steps 2 --per_device_train_batch_size 1 --gradient_accumulation_steps 1 --overwrite_output_dir --device cpu " \
              "--threads 1 --quiet "
#define FORGET "unlearn --model @/sharded --forget_data @/data.jsonl --template.file @/templates.txt "
#define ADAPTERS FORGET "--lora.r 2 --final_eval_rows 0 --save_strategy steps --save_steps 1 " SMALL

static int make(void **state)
{
    if (temporary_make(state))
        return -1;
    small_model_make(temporary);
    run_well(ADAPTERS "--lora.output adapter --output_dir @/adapters");
    assert_int_equal(mkdir(temporary_path("empty"), 0755), 0);
    return 0;
}

/* ---- what is run ------------------------------------------------------------------------------------------------- */

static const struct form {
    const char *name, *line; /* with @ for the temporary folder */
    const char *before;      /* what @/out is a copy of before a run; NULL: it is not there */
    const char *result;      /* the file of @/out whose bytes are the result; NULL: they are on standard output */
    bool keeps;              /* what is there stays whole or is replaced */
    bool leaves_out;         /* a page or picture is drawn without what cannot be read of a run */
} forms[] = {
    {"unlearn, two shards", FORGET "--output_dir @/out --save_strategy steps --save_steps 1 --save_total_limit 1 "
     "--final_eval_rows 1 " SMALL, NULL, "model-00002-of-00002.safetensors", true},
    {"unlearn, adapters, over a model", ADAPTERS "--lora.output merged --output_dir @/out", "other",
     "model-00002-of-00002.safetensors", true},
    {"unlearn, adapters, resumed", ADAPTERS "--lora.output adapter --output_dir @/out --resume_from_checkpoint "
     "@/adapters/checkpoint-1", NULL, "adapter_model.safetensors", true},
    {"score", "score --model @/sharded --data @/data.jsonl --output @/out/scores.jsonl --device cpu --threads 1 --quiet", "empty",
     "scores.jsonl", false},
    {"generate, adapters", "generate --model @/sharded --adapter @/adapters --data @/data.jsonl --output @/out/answers.jsonl "
     "--max_new_tokens 3 --device cpu --threads 1 --quiet", "empty", "answers.jsonl", false},
    {"eval", "eval --model @/model --forget_data @/data.jsonl --template.file @/templates.txt --output_dir @/out --max_new_tokens "
     "3 --device cpu --threads 1 --quiet", NULL, "QA_SUMMARY.json", false},
    {"combine, over a model", "combine --model @/sharded --models @/other --weights=-1 --output_dir @/out --overwrite_output_dir "
     "--quiet", "other", "model-00002-of-00002.safetensors", true},
    {"attack", "attack --model @/model --target_model @/other --forget_data @/data.jsonl --attacks quantize "
     "--max_new_tokens 3 --output_dir @/out --device cpu --threads 1 --quiet", NULL, NULL, false},
    {"plan", "plan --model @/sharded --forget_data @/data.jsonl --template.file @/templates.txt", NULL, NULL, false},
    {"verify", "verify @/adapters", NULL, NULL, false},
    {"report", "report @/out --quiet", "adapters", "report.html", false, true},
    {"plot", "plot @/out --quiet", "adapters", "curves.svg", false, true},
};
enum { FORMS = sizeof forms / sizeof *forms };

static struct program_result run_with(const char *faults, const char *line)
{
    const char *build = getenv("FLAT_BUILD");
    char library[4096], whole[4096];
    size_t used = 0;
    for (; *line; line++)
        used += (size_t)snprintf(whole + used, sizeof whole - used, *line == '@' ? "%s" : "%.1s", *line == '@' ? temporary : line);
    snprintf(library, sizeof library, "%s/libfault.so", build && *build ? build : "build");
    setenv("LD_PRELOAD", library, 1);
    setenv("FLAT_FAULT", faults, 1);
    setenv("FLAT_FAULT_COUNT", temporary_path("counts"), 1);
    struct program_result result = program_line("%s", whole);
    unsetenv("LD_PRELOAD");
    unsetenv("FLAT_FAULT");
    unsetenv("FLAT_FAULT_COUNT");
    return result;
}

/* @/out as it is before a run, and nothing of it beside it. */
static void out_prepare(const struct form *form)
{
    char command[1200];
    directory_remove(temporary_path("out"));
    snprintf(command, sizeof command, "rm -rf %s/.out.*; [ -z \"%s\" ] || cp -r %s/%s %s/out", temporary,
             form->before ? form->before : "", temporary, form->before ? form->before : "", temporary);
    assert_int_equal(system(command), 0);
}

/* A number for what a run has left as its result; 0 for nothing. */
static uint64_t result_of(const struct form *form, const struct program_result *result)
{
    struct error error;
    struct digest digest;
    char path[600];
    if (!form->result)
        return result && result->out_length ? checksum_of(result->out, result->out_length).xxh3 : 0;
    snprintf(path, sizeof path, "%s/out/%s", temporary, form->result);
    return checksum_file(path, &digest, &error) ? 0 : digest.xxh3;
}

/* ---- the faults -------------------------------------------------------------------------------------------------- */

static const struct kind {
    const char *call, *what;
    bool harmless; /* the program has to go on as if nothing were */
    bool once;     /* not for good */
} kinds[] = {
    {"open", "EIO", false},     {"open", "EMFILE", false},  {"read", "EIO", false},      {"read", "short", true},
    {"read", "EINTR", true},    {"write", "ENOSPC", false}, {"write", "EIO", false},     {"write", "short", true},
    {"fsync", "EIO", false},    {"rename", "EIO", false},   {"exchange", "EIO", false},  {"exchange", "EINVAL", false},
    {"close", "EIO", false},    {"mkdir", "ENOSPC", false}, {"remove", "EACCES", false}, {"chmod", "EACCES", false},
    {"lock", "ENOLCK", false},  {"opendir", "EIO", false},  {"readdir", "EIO", false},   {"stat", "EIO", false},
    {"mmap", "ENOMEM", false},  {"malloc", "ENOMEM", false, true}, {"site", "ENOMEM", false},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* What became of the faults of a kind. */
struct tally {
    long tried, memory, ended, wrong; /* memory: of those that ended the run, with STATUS_MEMORY */
};

/* What a run without a fault makes. */
struct whole {
    uint64_t result, old; /* result_of, after it and before */
    int lines;            /* record_lines */
};

static bool is_memory(const struct kind *kind) { return !strcmp(kind->call, "malloc") || !strcmp(kind->call, "site"); }

static bool is_wanted(const char *variable, const char *name)
{
    const char *text = getenv(variable);
    return !text || !*text || strstr(name, text);
}

static long tries(const struct kind *kind)
{
    const char *text = getenv("FLAT_TRIES");
    return text && atol(text) > 0 ? atol(text) : !strcmp(kind->call, "site") ? 12 : 3;
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

/* Lines that say what went wrong; warnings may stand before them. libgomp says its own where its memory ends. */
static int error_lines(const struct program_result *result)
{
    int lines = 0;
    for (const char *at = result->err; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
        lines += !strncmp(at, "error: ", 7) || !strncmp(at, "libgomp: ", 9);
    return lines;
}

/* A save that broke off when it could only go forward is finished by hand, as its message says. */
static bool save_finish(const struct program_result *result)
{
    if (!strstr(result->err, "verify --finish"))
        return true;
    struct program_result finish = run_with("", "verify --finish @/out");
    const bool is_finished = finish.status == STATUS_OK;
    program_free(&finish);
    return is_finished;
}

/* In @/out, or an old or new folder of it beside it. */
static bool temporaries_are_left(void)
{
    struct error error;
    struct file_list list;
    bool are_left = false;
    OK(file_list_read(&list, temporary, &error));
    for (size_t i = 0; i < list.count; i++)
        are_left |= list.name[i][0] == '.';
    file_list_free(&list);
    if (!file_exists(temporary_path("out")))
        return are_left;
    OK(file_list_read(&list, temporary_path("out"), &error));
    for (size_t i = 0; i < list.count; i++)
        are_left |= strstr(list.name[i], ".tmp-") ||
                    (list.name[i][0] == '.' && !file_is_unique_name(list.name[i], FOLDER_RUN_PREFIX));
    file_list_free(&list);
    return are_left;
}

/* A folder that cannot be looked at or emptied, or not without memory, stays, and the next run takes it away. */
static bool temporaries_are_lost(const struct form *form, const struct kind *kind)
{
    static const char *const needed[] = {"opendir", "readdir", "stat", "malloc", "site"};
    if (!temporaries_are_left() || !strcmp(kind->call, "remove"))
        return false;
    for (size_t i = 0; form->keeps && i < sizeof needed / sizeof *needed; i++)
        if (!strcmp(kind->call, needed[i])) {
            struct program_result next = run_with("", form->line);
            const int status = next.status;
            program_free(&next);
            return status || temporaries_are_left();
        }
    return true;
}

/* What a library says of its own memory: libgomp ends the program, the dynamic linker says that it found no file. */
static bool is_library_memory(const struct program_result *result)
{
    return strstr(result->err, "libgomp: ") || strstr(result->err, ": the plugin cannot be loaded: ");
}

/* Lines of @/out/run.json: of a record that says all. */
static int record_lines(void)
{
    struct error error;
    char *text;
    size_t length;
    int lines = 0;
    if (!file_exists(temporary_path("out/run.json")))
        return 0;
    OK(file_read(temporary_path("out/run.json"), 1 << 20, &text, &length, &error));
    for (size_t i = 0; i < length; i++)
        lines += text[i] == '\n';
    free(text);
    return lines;
}

/* What is wrong with how a run ended that met a fault; NULL: nothing. */
static const char *fault_judge(const struct form *form, const struct kind *kind, const struct program_result *result,
                               const struct whole *whole)
{
    const int status = result->status;
    if (status < STATUS_OK || status > STATUS_MEMORY)
        return "an exit code that stands for something else";
    if (kind->harmless && status)
        return "the run could have gone on";
    if (status && is_memory(kind) && status != STATUS_MEMORY && !is_library_memory(result))
        return "another exit code than that for memory";
    if (status ? error_lines(result) != 1 : error_lines(result) != 0)
        return "not one line that says what went wrong";
    if (!save_finish(result))
        return "verify --finish does not finish the save";
    const uint64_t found = result_of(form, result);
    if (!status && form->keeps && record_lines() != whole->lines)
        return "a record that does not say all";
    if (!status && found != whole->result && (!form->leaves_out || is_memory(kind)))
        return "another result";
    if (form->keeps && found != whole->old && found != whole->result)
        return "neither the old model nor the new one";
    return temporaries_are_lost(form, kind) ? "temporaries are left" : NULL;
}

static void fault_try(const struct form *form, const struct kind *kind, long n, bool for_good, const struct whole *whole,
                      struct tally *tally)
{
    char fault[64];
    snprintf(fault, sizeof fault, "%s:%ld%s:%s", kind->call, n, for_good ? "+" : "", kind->what);
    out_prepare(form);
    struct program_result result = run_with(fault, form->line);
    const char *wrong = fault_judge(form, kind, &result, whole);
    if (wrong)
        print_error("%s, %s: %s; exit code %d: %s\n", form->name, fault, wrong, result.status, result.err);
    tally->tried++;
    tally->ended += result.status != STATUS_OK;
    tally->memory += result.status == STATUS_MEMORY;
    tally->wrong += wrong != NULL;
    program_free(&result);
}

/* Every kind that is wanted, at its n-th calls, over one form. */
static void form_try(const struct form *form, struct tally tally[KINDS])
{
    out_prepare(form);
    struct whole whole = {.old = result_of(form, NULL)};
    struct program_result result = run_with("site:1000000000:ENOMEM", form->line); /* which counts them */
    program_expect(&result, STATUS_OK);
    whole.result = result_of(form, &result);
    whole.lines = record_lines();
    program_free(&result);
    assert_true(whole.result && whole.result != whole.old);
    long count[KINDS];
    for (int k = 0; k < KINDS; k++)
        count[k] = calls_of(kinds[k].call);
    for (int k = 0; k < KINDS; k++) {
        const struct kind *kind = &kinds[k];
        const long step = is_wanted("FLAT_CALLS", kind->call) ? count[k] / tries(kind) + 1 : count[k] + 1;
        for (long n = 1; n <= count[k] && step <= count[k]; n += step)
            for (int for_good = 0; for_good < (kind->harmless || kind->once ? 1 : 2); for_good++)
                fault_try(form, kind, n, for_good, &whole, &tally[k]);
    }
}

static void test_faults(void **state)
{
    (void)state;
    struct tally sum = {0};
    for (int f = 0; f < FORMS; f++) {
        struct tally tally[KINDS] = {0};
        if (!is_wanted("FLAT_FORMS", forms[f].name))
            continue;
        form_try(&forms[f], tally);
        for (int k = 0; k < KINDS; k++) {
            if (tally[k].tried && getenv("FLAT_TRIES"))
                print_message("%s, %s %s: %ld tried, %ld ended the run, %ld of them with exit code 4, %ld wrong\n", forms[f].name,
                              kinds[k].call, kinds[k].what, tally[k].tried, tally[k].ended, tally[k].memory, tally[k].wrong);
            sum.tried += tally[k].tried;
            sum.ended += tally[k].ended;
            sum.wrong += tally[k].wrong;
        }
    }
    directory_remove(temporary_path("out"));
    print_message("%ld faults: %ld ended the run with one line, %ld did not matter, %ld went wrong\n", sum.tried,
                  sum.ended - sum.wrong, sum.tried - sum.ended, sum.wrong);
    assert_true(sum.ended > 0);
    assert_int_equal(sum.wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_faults)};
    return cmocka_run_group_tests(tests, make, temporary_remove);
}

/* suite_tofu.c - TOFU: forget, retain, real authors, world facts, and membership against holdout rows.
 *
 * Files as on the hub: forget_data is forgetXX_perturbed.json; the others are looked for in data_dir, or beside
 * forget_data, under their own names (holdout by the forget set's: holdoutXX.json). What is missing is left out, and said.
 * Metrics: probability and ROUGE of each set, memorization of the forget set, membership; eval_derive.h's of them.
 */
#include <stdio.h>
#include <string.h>

#include "../../util/file.h"
#include "suite_list.h"

enum { TOFU_NEW_TOKENS = 200 };

/* What a file in the folder is called; *out is "" where it is not there. */
static void file_look(const struct suite_run *run, const char *name, char *out, size_t bytes)
{
    const struct suite_options *options = run->options;
    const char *slash = strrchr(options->forget_data, '/');
    static const char *const endings[] = {"json", "jsonl"};
    for (int i = 0; i < 2; i++) {
        if (*options->data_dir)
            snprintf(out, bytes, "%s/%s.%s", options->data_dir, name, endings[i]);
        else
            snprintf(out, bytes, "%.*s%s.%s", slash ? (int)(slash + 1 - options->forget_data) : 0, options->forget_data, name,
                     endings[i]);
        if (file_exists(out))
            return;
    }
    *out = 0;
}

static int set_ask(struct suite_run *run, const char *name, const char *given, const char *file, bool continued,
                   struct error *error)
{
    char path[4096];
    struct suite_set *set;
    const int64_t limit = run->options->max_new_tokens ? run->options->max_new_tokens : TOFU_NEW_TOKENS;
    const bool member = !strcmp(name, "forget") || !strcmp(name, "holdout");
    if (*given)
        snprintf(path, sizeof path, "%s", given);
    else
        file_look(run, file, path, sizeof path);
    if (!*path) {
        suite_warn(run, "no %s.json in %s: the set %s is left out, and what is made of it", file,
                    *run->options->data_dir ? run->options->data_dir : "the folder of forget_data", name);
        return STATUS_OK;
    }
    int status = suite_set_read(run, name, path, NULL, DATASET_ANSWERS, &set, error);
    if (!status)
        status = suite_ask_rows(run, set, continued ? limit : 0, ASK_OTHERS | (member ? ASK_TOKENS : 0), error);
    if (!status && continued && !set->wrong)
        suite_warn(run, "%s: rows have no perturbed_answer, so the truth ratio of %s is left out; the files named "
                    "..._perturbed have them", path, name);
    return status;
}

/* "forget10_perturbed.json" -> "holdout10". */
static void holdout_name(const char *forget, char *out, size_t bytes)
{
    const char *slash = strrchr(forget, '/'), *name = slash ? slash + 1 : forget;
    if (!strncmp(name, "forget", 6))
        snprintf(out, bytes, "holdout%.*s", (int)strspn(name + 6, "0123456789"), name + 6);
    else
        snprintf(out, bytes, "holdout");
}

static int tofu_ask(struct suite_run *run, struct error *error)
{
    const struct suite_options *options = run->options;
    char holdout[64];
    if (!*options->forget_data)
        return error_set(error, STATUS_USAGE, "forget_data: the suite tofu needs it, as forget10_perturbed.json");
    holdout_name(options->forget_data, holdout, sizeof holdout);
    int status = set_ask(run, "forget", options->forget_data, "", true, error);
    if (!status)
        status = set_ask(run, "retain", options->retain_data, "retain_perturbed", true, error);
    if (!status)
        status = set_ask(run, "ra", options->real_authors_data, "real_authors_perturbed", true, error);
    if (!status)
        status = set_ask(run, "wf", options->world_facts_data, "world_facts_perturbed", true, error);
    if (!status)
        status = set_ask(run, "holdout", options->holdout_data, holdout, false, error);
    return status;
}

static int set_report(const struct suite_run *run, struct eval_log *log, const struct suite_set *set,
                      struct error *error)
{
    char name[128];
    snprintf(name, sizeof name, "%s_Q_A_Prob", set->name);
    int status = suite_add_probability(run, log, name, set, 0, 1, error);
    snprintf(name, sizeof name, "%s_Q_A_ROUGE", set->name);
    if (!status)
        status = suite_add_rouge(run, log, name, set, "rougeL_recall", error);
    snprintf(name, sizeof name, "%s_Q_A_PARA_Prob", set->name);
    if (!status && set->paraphrased)
        status = suite_add_probability(run, log, name, set, 1, 1, error);
    snprintf(name, sizeof name, "%s_Q_A_PERT_Prob", set->name);
    if (!status && set->wrong)
        status = suite_add_probability(run, log, name, set, 1 + set->paraphrased, set->wrong, error);
    return status;
}

static int tofu_report(const struct suite_run *run, struct eval_log *log, struct error *error)
{
    const struct suite_set *holdout = suite_set_find(run, "holdout");
    int status = STATUS_OK;
    for (int i = 0; i < run->sets && !status; i++)
        if (&run->set[i] != holdout)
            status = set_report(run, log, &run->set[i], error);
    if (!status)
        status = suite_add_memorization(run, log, suite_set_find(run, "forget"), error);
    if (!status && holdout)
        status = suite_add_membership(run, log, suite_set_find(run, "forget"), holdout, error);
    return status;
}

const struct suite suite_tofu = {"tofu", "TOFU", tofu_ask, tofu_report};

/* suite_qa.c - rows of one's own, by named sets: forget_data is the set forget, retain_data is retain, eval_data the rest.
 *
 * Of every set X: X_Prob and X_ROUGE (ROUGE-L recall) as TOFU has them, X_mean_prob (the mean token probability, FLAT's
 * P), X_refusal_rate and X_refusal_recall_rate (refusal.h), X_repetition, X_entropy (of the next token at the answer's places, in
 * nats); of the forget set also forget_template_prob, the mean token probability of a template
 * answer in the answer's place.
 */
#include <stdio.h>
#include <string.h>

#include "eval_sets.h"
#include "suite_list.h"
#include "suite_qa.h"

enum { QA_NEW_TOKENS = 200 };

static int set_ask(struct suite_run *run, const char *name, const char *path, struct error *error)
{
    struct suite_set *set;
    const int64_t limit = run->options->max_new_tokens;
    int status = suite_set_read(run, name, path, NULL, DATASET_ANSWERS, &set, error);
    return status ? status
                  : suite_ask_rows(run, set, limit ? limit : QA_NEW_TOKENS, ASK_ENTROPY | (strcmp(name, "forget") ? 0 : ASK_TEMPLATE),
                                   error);
}

static int named_sets_ask(struct suite_run *run, qa_ask_set ask, struct error *error)
{
    struct eval_sets sets;
    int status = eval_sets_parse(&sets, run->options->eval_data, error);
    for (int i = 0; i < sets.count && !status; i++)
        status = ask(run, sets.set[i].name, sets.set[i].path, error);
    return status;
}

int qa_sets_ask(struct suite_run *run, qa_ask_set ask, struct error *error)
{
    const struct suite_options *options = run->options;
    int status = *options->forget_data ? ask(run, "forget", options->forget_data, error) : STATUS_OK;
    if (!status && *options->retain_data)
        status = ask(run, "retain", options->retain_data, error);
    if (!status)
        status = named_sets_ask(run, ask, error);
    if (!status && !run->sets)
        status = error_set(error, STATUS_USAGE, "forget_data: the suite qa needs rows: --forget_data FILE or --eval_data "
                           "NAME=FILE");
    return status;
}

static int qa_ask(struct suite_run *run, struct error *error)
{
    return qa_sets_ask(run, set_ask, error);
}

static int qa_report(const struct suite_run *run, struct eval_log *log, struct error *error)
{
    int status = STATUS_OK;
    for (int i = 0; i < run->sets && !status; i++) {
        const struct suite_set *set = &run->set[i];
        char name[128];
        snprintf(name, sizeof name, "%s_Prob", set->name);
        status = suite_add_probability(run, log, name, set, 0, 1, error);
        snprintf(name, sizeof name, "%s_ROUGE", set->name);
        if (!status)
            status = suite_add_rouge(run, log, name, set, "rougeL_recall", error);
        snprintf(name, sizeof name, "%s_mean_prob", set->name);
        if (!status)
            status = suite_add_mean_prob(run, log, name, set, 0, error);
        snprintf(name, sizeof name, "%s_template_prob", set->name);
        if (!status && set->templated)
            status = suite_add_mean_prob(run, log, name, set, 1, error);
        if (!status)
            status = suite_add_entropy(run, log, set, error);
        if (!status)
            status = suite_add_behaviour(run, log, set, error);
    }
    return status;
}

const struct suite suite_qa = {"qa", "QA", qa_ask, qa_report};

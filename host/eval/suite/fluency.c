/* fluency.c - see fluency.h. */
#include "fluency.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "before_after.h"
#include "suite_qa.h"

/* The answer to a row of a set in a log; NULL where there is none. */
static const char *answer_of(const struct eval_log *log, const char *set, int row)
{
    char index[16];
    snprintf(index, sizeof index, "%d", row);
    const cJSON *text = json_member(json_member(before_after_rows(log, set), index), "generation");
    return cJSON_IsString(text) && *text->valuestring ? text->valuestring : NULL;
}

static int set_ask(struct suite_run *run, const char *name, const char *path, struct error *error)
{
    struct eval_log *const *log = run->answers;
    struct suite_set *set;
    int status = suite_set_read(run, name, path, NULL, DATASET_ANSWERS, &set, error);
    for (int i = 0; !status && i < set->rows; i++) {
        status = question_add(&run->questions, run->sets - 1, i, &set->data.row[i], 0, error);
        for (int k = 0; k < FLUENCY_LOGS && !status; k++)
            if (answer_of(log[k], name, i))
                status = answer_add(&run->questions, &set->data.row[i], answer_of(log[k], name, i), false, error);
    }
    return status;
}

static int fluency_ask(struct suite_run *run, struct error *error)
{
    return qa_sets_ask(run, set_ask, error);
}

/* The metric of one log; those that come before it in a question's answers are counted. */
static int set_report(const struct suite_run *run, const struct suite_set *set, int which, struct error *error)
{
    char name[128];
    struct eval_log *const *log = run->answers;
    double *loss = memory_array((size_t)set->rows, sizeof *loss, error), sum = 0, count = 0;
    bool *absent = memory_array((size_t)set->rows, sizeof *absent, error);
    int status = loss && absent ? STATUS_OK : STATUS_MEMORY;
    for (int i = 0; i < set->rows && !status; i++) {
        int before = 0;
        for (int k = 0; k < which; k++)
            before += answer_of(log[k], set->name, i) != NULL;
        absent[i] = !answer_of(log[which], set->name, i);
        if (absent[i])
            continue;
        loss[i] = answer_loss(suite_answer(run, set, i, before));
        sum += loss[i];
        count++;
    }
    snprintf(name, sizeof name, "%s_generation_loss", set->name);
    if (!status && count > 0)
        status = eval_log_add_scores(log[which], name, NULL, "score", loss, absent, (size_t)set->rows, sum / count, error);
    free(loss);
    free(absent);
    return status;
}

static int fluency_report(const struct suite_run *run, struct eval_log *unused, struct error *error)
{
    int status = STATUS_OK;
    (void)unused;
    for (int i = 0; i < run->sets; i++)
        for (int which = 0; which < FLUENCY_LOGS && !status; which++)
            status = set_report(run, &run->set[i], which, error);
    return status;
}

int fluency_measure(struct suite_run *run, struct evaluation *evaluation, struct eval_log *const log[FLUENCY_LOGS],
                    struct error *error)
{
    static const struct suite suite = {"fluency", "QA", fluency_ask, fluency_report};
    run->answers = log;
    return suite_measure(&suite, run, evaluation, log[0], error);
}

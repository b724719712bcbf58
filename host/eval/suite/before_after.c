/* before_after.c - see before_after.h. */
#include "before_after.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { EXAMPLES = 5, TEXT_COLUMNS = 100 };

/* In nats: below the first a fall says nothing, since a model that was tuned on a set is sure of it; a rise by the second is one
 * from a handful of likely tokens to dozens. */
#define ENTROPY_LEAST 0.5
#define ENTROPY_RISE 2.0
/* A token in 150, on average: no language that the model before knows. */
#define FLUENCY_WORST 5.0

const struct before_after_figure before_after_figure[BEFORE_AFTER_FIGURES] = {
    {"mean_prob", "P(answer)", false},
    {"ROUGE", "ROUGE-L recall of the answer", false},
    {"template_prob", "P(template)", false},
    {"refusal_rate", "refuses", true},
    {"repetition", "repeats itself (4-grams)", true},
    {"entropy", "entropy of the next token", false},
    {"generation_loss", "loss of answers, model before", false},
};

double before_after_value(const struct eval_log *log, const char *set, const char *suffix)
{
    char name[128];
    snprintf(name, sizeof name, "%s_%s", set, suffix);
    return eval_log_value(log, name);
}

static int figure_print(const char *set, const char *label, bool percent, double before, double after, struct buffer *out,
                        struct error *error)
{
    return percent ? buffer_printf(out, error, "%-16s %-30s %7.0f%% %7.0f%%\n", set, label, 100 * before, 100 * after)
                   : buffer_printf(out, error, "%-16s %-30s %8.3f %8.3f\n", set, label, before, after);
}

/* ---- examples ---- */

const cJSON *before_after_rows(const struct eval_log *log, const char *set)
{
    char name[128];
    snprintf(name, sizeof name, "%s_ROUGE", set);
    return json_member(eval_log_metric(log, name), "value_by_index");
}

/* On one line, cut behind whole characters; what a chat template wrote around a question is left as it is. */
static int text_print(const char *text, struct buffer *out, struct error *error)
{
    size_t columns = 0;
    int status = STATUS_OK;
    text += strspn(text, " \n\t\r");
    for (const char *at = text; *at && !status; at++) {
        const bool begins = ((unsigned char)*at & 0xc0) != 0x80;
        if (begins && ++columns > TEXT_COLUMNS)
            return status ? status : buffer_printf(out, error, "...");
        status = buffer_append(out, (unsigned char)*at < ' ' ? " " : at, 1, error);
    }
    return status;
}

static int example_print(const cJSON *before, const cJSON *after, struct buffer *out, struct error *error)
{
    const struct {
        const char *label;
        const cJSON *text;
    } line[] = {{"", json_member(before, "input")},
                {"  before  ", json_member(before, "generation")},
                {"  after   ", json_member(after, "generation")}};
    int status = STATUS_OK;
    for (int i = 0; i < 3 && !status; i++) {
        status = buffer_printf(out, error, "%s", line[i].label);
        if (!status && cJSON_IsString(line[i].text))
            status = text_print(line[i].text->valuestring, out, error);
        if (!status)
            status = buffer_append(out, "\n", 1, error);
    }
    return status;
}

/* Of the forget set three, of the next two; five where there is no other. */
static int examples_print(const struct before_after *logs, struct buffer *out, struct error *error)
{
    int left = EXAMPLES, status = buffer_append(out, "\n", 1, error);
    for (int s = 0; s < logs->sets && left > 0 && !status; s++) {
        const cJSON *before = before_after_rows(logs->before, logs->set[s]), *after = before_after_rows(logs->after, logs->set[s]);
        before = before ? before->child : NULL;
        after = after ? after->child : NULL;
        for (int quota = s || logs->sets == 1 ? left : 3; before && after && quota > 0 && !status; quota--, left--) {
            status = example_print(before, after, out, error);
            before = before->next;
            after = after->next;
        }
    }
    return status;
}

int before_after_print(const struct before_after *logs, struct buffer *out, struct error *error)
{
    int status = buffer_printf(out, error, "%-16s %-30s %8s %8s\n", "", "", "before", "after");
    for (int s = 0; s < logs->sets && !status; s++)
        for (int f = 0; f < BEFORE_AFTER_FIGURES && !status; f++) {
            const double before = before_after_value(logs->before, logs->set[s], before_after_figure[f].suffix);
            const double after = before_after_value(logs->after, logs->set[s], before_after_figure[f].suffix);
            if (!isnan(before) || !isnan(after))
                status = figure_print(f ? "" : logs->set[s], before_after_figure[f].label, before_after_figure[f].percent, before, after, out,
                                      error);
        }
    return status ? status : examples_print(logs, out, error);
}

/* ---- what looks wrong ---- */

/* Share of a set's generations that are empty, and that are the same text as the first. */
static void sameness(const struct eval_log *log, const char *set, double *empty, double *same)
{
    const cJSON *rows = before_after_rows(log, set), *row, *first = rows && rows->child ? json_member(rows->child, "generation") : NULL;
    double count = 0;
    *empty = *same = 0;
    cJSON_ArrayForEach(row, rows)
    {
        const cJSON *text = json_member(row, "generation");
        if (!cJSON_IsString(text) || !cJSON_IsString(first))
            continue;
        count++;
        *empty += !*text->valuestring;
        *same += !strcmp(text->valuestring, first->valuestring);
    }
    *empty /= count > 0 ? count : 1;
    *same /= count > 0 ? count : 1;
}

struct finding {
    struct buffer *out;
    struct error *error;
    int status;
};

#define FIND(finding, ...)                                                                                             \
    do {                                                                                                               \
        if (!(finding)->status)                                                                                        \
            (finding)->status = buffer_printf((finding)->out, (finding)->error, __VA_ARGS__);                          \
    } while (0)

static void set_look(const struct before_after *logs, const char *set, bool forget, struct finding *finding)
{
    const double repeated = before_after_value(logs->after, set, "repetition"),
                 repeated_before = before_after_value(logs->before, set, "repetition"),
                 refused = before_after_value(logs->after, set, "refusal_rate"),
                 refused_before = before_after_value(logs->before, set, "refusal_rate");
    const double entropy = before_after_value(logs->after, set, "entropy"),
                 entropy_before = before_after_value(logs->before, set, "entropy"),
                 fluency = before_after_value(logs->after, set, "generation_loss"),
                 fluency_before = before_after_value(logs->before, set, "generation_loss");
    double empty, same, empty_before, same_before;
    sameness(logs->before, set, &empty_before, &same_before);
    sameness(logs->after, set, &empty, &same);
    if (!forget && entropy_before > ENTROPY_LEAST && entropy < entropy_before / 4)
        FIND(finding, "the entropy of the next token on %s is %.2g nats (%.2g before): the model is sure of one token everywhere, and "
             "looks ruined; lower learning_rate or num_train_epochs\n", set, entropy, entropy_before);
    if (!forget && entropy > 2 * entropy_before && entropy > entropy_before + ENTROPY_RISE)
        FIND(finding, "the entropy of the next token on %s is %.2g nats (%.2g before): the model no longer knows what comes next, "
             "and looks ruined; lower learning_rate or num_train_epochs\n", set, entropy, entropy_before);
    if (fluency > FLUENCY_WORST && fluency > 2 * fluency_before)
        FIND(finding, "to the model before, answers to %s are noise, %.2g nats for a token (its own: %.2g): the model looks ruined; "
             "lower learning_rate or num_train_epochs\n", set, fluency, fluency_before);
    if (repeated > 0.25 && repeated > 2 * repeated_before)
        FIND(finding, "answers to %s repeat themselves, %.0f %% of their 4-grams (%.0f %% before): the model looks ruined; lower "
             "learning_rate or num_train_epochs\n", set, 100 * repeated, 100 * repeated_before);
    if (empty > 0.25 && empty > 2 * empty_before)
        FIND(finding, "%.0f %% of the answers to %s are empty (%.0f %% before): the model looks ruined\n", 100 * empty, set,
             100 * empty_before);
    if (!forget && same > 0.5 && same > 2 * same_before)
        FIND(finding, "%.0f %% of the answers to %s are the same text (%.0f %% before): the model looks ruined\n", 100 * same,
             set, 100 * same_before);
    if (!forget && refused > refused_before + 0.1)
        FIND(finding, "%s is refused too, %.0f %% of it (%.0f %% before): the model forgot more than it was to\n", set,
             100 * refused, 100 * refused_before);
}

int before_after_findings(const struct before_after *logs, struct buffer *out, struct error *error)
{
    struct finding finding = {out, error, STATUS_OK};
    for (int s = 0; s < logs->sets; s++)
        set_look(logs, logs->set[s], s == 0, &finding);
    if (logs->sets < 2)
        FIND(&finding, "nothing outside the forget set was measured, so this does not say what else is lost; "
             "--eval_data NAME=FILE adds rows that should stay\n");
    return finding.status;
}

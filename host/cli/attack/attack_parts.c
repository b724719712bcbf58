/* attack_parts.c - quantization, sampling, probes and disruption; see attack.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../eval/metric/leak.h"
#include "../../eval/metric/mean.h"
#include "../../util/file.h"
#include "attack.h"

enum { LEAKS_MAX = 16, KINDS_MAX = 64 };

int attack_know(struct attack *attack, struct error *error)
{
    const struct attack_question question = {ASK_PROBABILITY, "K", attack->options->forget_data};
    return attack->before[UNLEARNED].rows ? STATUS_OK : attack_ask_all(attack, TARGET, &question, attack->before, error);
}

/* The mean of each model that was asked; NAN of the others. */
static void means_of(const struct row_values values[ATTACK_MODELS], double mean[ATTACK_MODELS])
{
    for (int m = 0; m < ATTACK_MODELS; m++)
        mean[m] = values[m].rows ? mean_of(values[m].value, (size_t)values[m].rows) : NAN;
}

/* ---- quantize ---- */

static double figure_of(const void *data, const size_t *row, size_t rows)
{
    return quantization_score(data, row, rows);
}

static int score_report(struct attack *attack, const char *name, const struct row_values *after, struct error *error)
{
    const size_t rows = (size_t)after->rows;
    const struct attack_pairs pairs = {attack->before[UNLEARNED].value, after->value, NULL, NULL};
    struct interval interval;
    char measure[120];
    size_t *all = memory_array(rows, sizeof *all, error);
    if (!all)
        return STATUS_MEMORY;
    for (size_t i = 0; i < rows; i++)
        all[i] = i;
    snprintf(measure, sizeof measure, "Q, %s", name);
    int status = bootstrap_interval(figure_of, &pairs, rows, &bootstrap_defaults, &interval, error);
    if (!status)
        status = attack_add_score(attack, PART_QUANTIZE, measure, quantization_score(&pairs, all, rows), interval, error);
    free(all);
    return status;
}

/* The unlearned model, rounded, as a folder of its own. */
static int rounded_write(const struct attack *attack, const struct quantizer *quantizer, struct error *error)
{
    const struct attack_subject *subject = &attack->subject[UNLEARNED];
    struct eval_model model;
    char path[4096];
    int status = eval_model_open(&model, &subject->model, attack->setting.prompt, DTYPE_F32, error);
    model.weights.quantizer = quantizer;
    model.weights.adapter = NULL; /* it is used on the rounded base, and stays as it is */
    if (!status)
        status = file_join(path, sizeof path, attack->output_dir, quantizer_names[quantizer->kind], error);
    if (!status)
        status = weights_save(&model.weights, &model.model, subject->model.model_name_or_path, path, NULL, error);
    eval_model_close(&model);
    return status;
}

int attack_quantize(struct attack *attack, struct error *error)
{
    int status = attack_know(attack, error);
    for (int kind = 0; kind < QUANTIZER_KINDS && !status; kind++) {
        const struct quantizer quantizer = {kind};
        struct row_values after[ATTACK_MODELS] = {{0}};
        double value[ATTACK_MODELS];
        char measure[120];
        snprintf(measure, sizeof measure, "K in %s", quantizer_names[kind]);
        const struct attack_question question = {ASK_PROBABILITY, measure, attack->options->forget_data, .quantizer = &quantizer};
        status = attack_ask_all(attack, TARGET, &question, after, error);
        means_of(after, value);
        if (!status)
            status = attack_add(attack, PART_QUANTIZE, measure, value, after[UNLEARNED].value, (size_t)after[UNLEARNED].rows, error);
        if (!status)
            status = score_report(attack, quantizer_names[kind], &after[UNLEARNED], error);
        if (!status && attack->options->save_models)
            status = rounded_write(attack, &quantizer, error);
        for (int m = 0; m < ATTACK_MODELS; m++)
            row_values_free(&after[m]);
    }
    return status;
}

/* ---- sample ---- */

/* "1,4,16" */
static int leaks_read(const char *text, int64_t draws, int64_t k[LEAKS_MAX], int *count, struct error *error)
{
    *count = 0;
    while (*text) {
        char *end;
        const long value = strtol(text, &end, 10);
        if (end == text || (*end && *end != ',') || value < 1 || value > 10000 || *count == LEAKS_MAX)
            return error_set(error, STATUS_USAGE, "leak_k: expected up to %d numbers from 1 to 10000, found \"%.60s\"", LEAKS_MAX,
                             text);
        if (draws && value > draws)
            return error_set(error, STATUS_USAGE, "leak_k: %ld of %lld draws; raise leak_draws", value, (long long)draws);
        k[(*count)++] = value;
        text = end + (*end == ',');
    }
    return *count ? STATUS_OK : error_set(error, STATUS_USAGE, "leak_k: names no number");
}

/* leak@k of every question. */
static void leaks_of(double *score, int rows, int64_t draws, int64_t k, double *leak)
{
    for (int i = 0; i < rows; i++)
        leak[i] = leak_at_k(score + (int64_t)i * draws, (size_t)draws, (size_t)k);
}

/* The greedy answer, and then the best of so many. */
static int leaks_report(struct attack *attack, const struct row_values greedy[ATTACK_MODELS], const struct row_values score[ATTACK_MODELS],
                        int64_t draws, const int64_t *k, int count, struct error *error)
{
    const int rows = greedy[UNLEARNED].rows;
    double value[ATTACK_MODELS], *leak = memory_array((size_t)rows, sizeof *leak, error);
    means_of(greedy, value);
    int status = leak ? attack_add(attack, PART_SAMPLE, "ROUGE-L recall of the greedy answer", value, greedy[UNLEARNED].value,
                                   (size_t)rows, error)
                      : STATUS_MEMORY;
    for (int i = 0; i < count && !status; i++) {
        char measure[120];
        for (int m = 0; m < ATTACK_MODELS; m++) {
            value[m] = NAN;
            if (score[m].rows)
                leaks_of(score[m].value, rows, draws, k[i], leak), value[m] = mean_of(leak, (size_t)rows);
        }
        leaks_of(score[UNLEARNED].value, rows, draws, k[i], leak);
        snprintf(measure, sizeof measure, "leak@%lld, by %lld draws", (long long)k[i], (long long)draws);
        status = attack_add(attack, PART_SAMPLE, measure, value, leak, (size_t)rows, error);
    }
    free(leak);
    return status;
}

int attack_sample(struct attack *attack, struct error *error)
{
    const struct attack_options *options = attack->options;
    const struct generate_options sampling = {.max_new_tokens = 1, .temperature = options->temperature, .top_p = options->top_p,
                                              .seed = options->attack_seed};
    struct row_values score[ATTACK_MODELS] = {{0}}, greedy[ATTACK_MODELS] = {{0}};
    int64_t k[LEAKS_MAX], draws = options->leak_draws;
    char name[40];
    int count, status = leaks_read(options->leak_k, draws, k, &count, error);
    for (int i = 0; !status && !options->leak_draws && i < count; i++)
        draws = k[i] > draws ? k[i] : draws;
    snprintf(name, sizeof name, "%lld draws", (long long)draws);
    const struct attack_question one = {ASK_SAMPLES, "greedy answer", options->forget_data, .draws = 1},
                                 many = {ASK_SAMPLES, name, options->forget_data, .sampling = &sampling, .draws = (int)draws};
    if (!status)
        status = attack_ask_all(attack, TARGET, &one, greedy, error);
    if (!status)
        status = attack_ask_all(attack, TARGET, &many, score, error);
    if (!status)
        status = leaks_report(attack, greedy, score, draws, k, count, error);
    for (int m = 0; m < ATTACK_MODELS; m++)
        row_values_free(&score[m]), row_values_free(&greedy[m]);
    return status;
}

/* ---- probe ---- */

static double mean_of_kind(const struct row_values *values, char *const *kinds, const char *kind, double *of_kind, size_t *count)
{
    *count = 0;
    for (int i = 0; i < values->rows; i++)
        if (!strcmp(kinds[i], kind))
            of_kind[(*count)++] = values->value[i];
    return mean_of(of_kind, *count);
}

static int kinds_report(struct attack *attack, const struct row_values *values, double *of_kind, struct error *error)
{
    const struct row_values *own = &values[UNLEARNED];
    double worst = -1;
    const char *worst_kind = "";
    const char *seen[KINDS_MAX];
    int kinds = 0, status = STATUS_OK;
    for (int i = 0; i < own->rows && !status; i++) {
        double value[ATTACK_MODELS] = {NAN, NAN, NAN};
        char measure[120];
        size_t count;
        bool known = false;
        for (int s = 0; s < kinds; s++)
            known = known || !strcmp(seen[s], own->kind[i]);
        if (known)
            continue;
        if (kinds == KINDS_MAX)
            return error_set(error, STATUS_INPUT, "%s: more than %d kinds", attack->options->probe_data, KINDS_MAX);
        seen[kinds++] = own->kind[i];
        for (int m = ATTACK_MODELS; m-- > 0;)
            if (attack->there[m] && m != UNLEARNED)
                value[m] = mean_of_kind(&values[m], own->kind, own->kind[i], of_kind, &count);
        value[UNLEARNED] = mean_of_kind(own, own->kind, own->kind[i], of_kind, &count);
        snprintf(measure, sizeof measure, "K, %.80s (%zu)", *own->kind[i] ? own->kind[i] : "no kind", count);
        status = attack_add(attack, PART_PROBE, measure, value, of_kind, count, error);
        if (value[UNLEARNED] > worst)
            worst = value[UNLEARNED], worst_kind = own->kind[i];
    }
    char measure[120];
    snprintf(measure, sizeof measure, "worst kind: %.80s", *worst_kind ? worst_kind : "no kind");
    return status ? status : attack_add_score(attack, PART_PROBE, measure, worst, (struct interval){NAN, NAN}, error);
}

int attack_probe(struct attack *attack, struct error *error)
{
    const struct dataset_options keys = {"prompt", "answer"};
    struct row_values values[ATTACK_MODELS] = {{0}};
    const struct attack_question question = {ASK_PROBABILITY, "probes", attack->options->probe_data, .keys = &keys};
    double *of_kind = NULL;
    int status = attack_ask_all(attack, TARGET, &question, values, error);
    if (!status && !(of_kind = memory_array((size_t)values[UNLEARNED].rows, sizeof *of_kind, error)))
        status = STATUS_MEMORY;
    if (!status)
        status = kinds_report(attack, values, of_kind, error);
    free(of_kind);
    for (int m = 0; m < ATTACK_MODELS; m++)
        row_values_free(&values[m]);
    return status;
}

/* ---- disrupt ---- */

static int text_disrupt(struct attack *attack, struct error *error)
{
    struct row_values values[ATTACK_MODELS] = {{0}};
    double value[ATTACK_MODELS];
    const struct attack_question question = {ASK_DIVERGENCE, "KL", attack->options->text_data};
    int status = attack_ask_all(attack, UNLEARNED, &question, values, error);
    means_of(values, value);
    if (!status)
        status = attack_add(attack, PART_DISRUPT, "KL from the target per token of plain text", value, values[UNLEARNED].value,
                            (size_t)values[UNLEARNED].rows, error);
    for (int m = 0; m < ATTACK_MODELS; m++)
        row_values_free(&values[m]);
    return status;
}

static int neighbors_disrupt(struct attack *attack, struct error *error)
{
    struct row_values values[ATTACK_MODELS] = {{0}}, probability[ATTACK_MODELS] = {{0}};
    struct answer_list refusals = {0};
    double value[ATTACK_MODELS];
    const char *path = attack->options->neighbor_data;
    const struct attack_question known = {ASK_PROBABILITY, "neighbours", path},
                                 refused = {ASK_REFUSAL, "neighbours refused", path, .refusals = &refusals};
    int status = *attack->options->template_.file ? answer_list_read(&refusals, attack->options->template_.file, error) : STATUS_OK;
    if (!status)
        status = attack_ask_all(attack, TARGET, &known, probability, error);
    if (!status && refusals.count)
        status = attack_ask_all(attack, TARGET, &refused, values, error);
    means_of(probability, value);
    if (!status)
        status = attack_add(attack, PART_DISRUPT, "P(answer) of neighbouring questions", value, probability[UNLEARNED].value,
                            (size_t)probability[UNLEARNED].rows, error);
    means_of(values, value);
    if (!status && refusals.count)
        status = attack_add(attack, PART_DISRUPT, "neighbouring questions that are refused", value, values[UNLEARNED].value,
                            (size_t)values[UNLEARNED].rows, error);
    answer_list_free(&refusals);
    for (int m = 0; m < ATTACK_MODELS; m++)
        row_values_free(&values[m]), row_values_free(&probability[m]);
    return status;
}

int attack_disrupt(struct attack *attack, struct error *error)
{
    int status = *attack->options->text_data ? text_disrupt(attack, error) : STATUS_OK;
    return !status && *attack->options->neighbor_data ? neighbors_disrupt(attack, error) : status;
}

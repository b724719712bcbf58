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
    int status = STATUS_OK;
    for (int m = 0; m < ATTACK_MODELS && !status; m++)
        if (attack->there[m] && !attack->before[m].rows)
            status = attack_probabilities(&attack->setting, &attack->subject[m], attack->options->forget_data, NULL,
                                          &attack->before[m], error);
    return status;
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
        double value[ATTACK_MODELS] = {NAN, NAN, NAN};
        char measure[120];
        for (int m = 0; m < ATTACK_MODELS && !status; m++) {
            struct attack_subject subject = attack->subject[m];
            subject.quantizer = &quantizer;
            if (attack->there[m])
                status = attack_probabilities(&attack->setting, &subject, attack->options->forget_data, NULL, &after[m], error);
            value[m] = status || !attack->there[m] ? NAN : mean_of(after[m].value, (size_t)after[m].rows);
        }
        snprintf(measure, sizeof measure, "K in %s", quantizer_names[kind]);
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

int attack_sample(struct attack *attack, struct error *error)
{
    const struct attack_options *options = attack->options;
    const struct generate_options sampling = {.max_new_tokens = 1, .temperature = options->temperature, .top_p = options->top_p,
                                              .seed = options->attack_seed};
    int64_t k[LEAKS_MAX], draws = options->leak_draws;
    double *score[ATTACK_MODELS] = {NULL}, *greedy[ATTACK_MODELS] = {NULL}, *leak = NULL;
    int count, rows = 0, status = leaks_read(options->leak_k, draws, k, &count, error);
    for (int i = 0; !status && !options->leak_draws && i < count; i++)
        draws = k[i] > draws ? k[i] : draws;
    for (int m = 0; m < ATTACK_MODELS && !status; m++) {
        if (!attack->there[m])
            continue;
        status = attack_samples(&attack->setting, &attack->subject[m], options->forget_data, NULL, 1, &greedy[m], &rows, error);
        if (!status)
            status = attack_samples(&attack->setting, &attack->subject[m], options->forget_data, &sampling, (int)draws, &score[m],
                                    &rows, error);
    }
    if (!status && !(leak = memory_array((size_t)rows, sizeof *leak, error)))
        status = STATUS_MEMORY;
    for (int i = -1; i < count && !status; i++) { /* the greedy answer first */
        double value[ATTACK_MODELS] = {NAN, NAN, NAN};
        char measure[120];
        for (int m = ATTACK_MODELS; m-- > 0;)
            if (score[m] && i >= 0) {
                leaks_of(score[m], rows, draws, k[i], leak);
                value[m] = mean_of(leak, (size_t)rows);
            } else if (greedy[m]) {
                value[m] = mean_of(greedy[m], (size_t)rows);
            }
        if (i >= 0)
            leaks_of(score[UNLEARNED], rows, draws, k[i], leak);
        snprintf(measure, sizeof measure, i < 0 ? "ROUGE-L recall of the greedy answer" : "leak@%lld, by %lld draws",
                 i < 0 ? 0LL : (long long)k[i], (long long)draws);
        status = attack_add(attack, PART_SAMPLE, measure, value, i < 0 ? greedy[UNLEARNED] : leak, (size_t)rows, error);
    }
    for (int m = 0; m < ATTACK_MODELS; m++)
        free(score[m]), free(greedy[m]);
    free(leak);
    return status;
}

/* ---- probe ---- */

static double mean_of_kind(const struct row_values *values, const char *kind, double *of_kind, size_t *count)
{
    *count = 0;
    for (int i = 0; i < values->rows; i++)
        if (!strcmp(values->kind[i], kind))
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
                value[m] = mean_of_kind(&values[m], own->kind[i], of_kind, &count);
        value[UNLEARNED] = mean_of_kind(own, own->kind[i], of_kind, &count);
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
    double *of_kind = NULL;
    int status = STATUS_OK;
    for (int m = 0; m < ATTACK_MODELS && !status; m++)
        if (attack->there[m])
            status = attack_probabilities(&attack->setting, &attack->subject[m], attack->options->probe_data, &keys, &values[m], error);
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
    double value[ATTACK_MODELS] = {NAN, NAN, NAN};
    int status = STATUS_OK;
    for (int m = UNLEARNED; m < ATTACK_MODELS && !status; m++)
        if (attack->there[m]) {
            status = attack_text_divergence(&attack->setting, &attack->subject[TARGET], &attack->subject[m],
                                            attack->options->text_data, (int)attack->options->text_tokens, &values[m], error);
            value[m] = status ? NAN : mean_of(values[m].value, (size_t)values[m].rows);
        }
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
    double value[ATTACK_MODELS] = {NAN, NAN, NAN}, known[ATTACK_MODELS] = {NAN, NAN, NAN};
    const char *path = attack->options->neighbor_data;
    int status = *attack->options->template_.file ? answer_list_read(&refusals, attack->options->template_.file, error) : STATUS_OK;
    for (int m = 0; m < ATTACK_MODELS && !status; m++) {
        if (!attack->there[m])
            continue;
        status = attack_probabilities(&attack->setting, &attack->subject[m], path, NULL, &probability[m], error);
        if (!status && refusals.count)
            status = attack_refusals(&attack->setting, &attack->subject[m], path, &refusals, &values[m], error);
        known[m] = status ? NAN : mean_of(probability[m].value, (size_t)probability[m].rows);
        value[m] = status || !refusals.count ? NAN : mean_of(values[m].value, (size_t)values[m].rows);
    }
    if (!status)
        status = attack_add(attack, PART_DISRUPT, "P(answer) of neighbouring questions", known, probability[UNLEARNED].value,
                            (size_t)probability[UNLEARNED].rows, error);
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

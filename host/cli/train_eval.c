/* train_eval.c - see train_eval.h. */
#include "train_eval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../eval/score.h"
#include "../io/json/json.h"

static const char *const strategy_names[] = {[EVAL_NO] = "no", [EVAL_EPOCH] = "epoch", [EVAL_STEPS] = "steps", NULL};
static const struct option option_rows[] = {
    {.name = "eval_data", OPTION_LIST_FIELD(struct train_eval_options, eval_data), .local = true,
     .operand = "NAME=FILE,...",
     .help = "sets of rows to look at beside those that are trained on, each under its name: what should stay"},
    {.name = "eval_strategy", OPTION_FIELD(struct train_eval_options, strategy), .choices = strategy_names, .initial = "no",
     .help = "when P and loss of eval_data are measured during the training, for metrics.jsonl and flat plot"},
    {.name = "eval_steps", OPTION_FIELD(struct train_eval_options, steps), .initial = "100", .min = 1,
     .max = OPTION_COUNT_MAX, .help = "steps between two measurements of --eval_strategy steps"},
};

const struct option_group train_eval_option_group = {OPTION_GROUP("Evaluation", option_rows, struct train_eval_options)};

/* The rows that are unlearned, as a set of their own. */
static const char forget_set[] = "forget";

/* What decides when the run ends must be measured. */
static int stopping_check(const struct train_eval_options *options, const struct early_stopping *stopping,
                          const struct eval_sets *sets, bool has_forget, struct error *error)
{
    const char *const metric = stopping->options->metric;
    bool known = has_forget && !strcmp(stopping->set, forget_set);
    if (!*stopping->set)
        return STATUS_OK;
    if (options->strategy == EVAL_NO)
        return error_set(error, STATUS_USAGE, "early_stopping_metric: %s is not measured; add --eval_strategy epoch or steps",
                         metric);
    for (int i = 0; i < sets->count; i++)
        known |= !strcmp(stopping->set, sets->set[i].name);
    return known ? STATUS_OK
                 : error_set(error, STATUS_USAGE, "early_stopping_metric: %s: there is no set %s; name it with --eval_data %s=FILE",
                             metric, stopping->set, stopping->set);
}

int train_eval_check(const struct train_eval_options *options, const struct early_stopping_options *stopping_options,
                     const struct dataset_options *dataset, bool has_forget, struct error *error)
{
    struct eval_sets sets;
    struct early_stopping stopping;
    early_stopping_init(&stopping, stopping_options);
    int status = eval_sets_parse(&sets, options->eval_data, error);
    if (!status)
        status = stopping_check(options, &stopping, &sets, has_forget, error);
    if (!status && options->strategy != EVAL_NO && !sets.count && !*stopping.set)
        status = error_set(error, STATUS_USAGE, "eval_strategy: there is nothing to look at; add --eval_data NAME=FILE");
    for (int i = 0; i < sets.count && !status; i++) {
        struct dataset data = {0};
        status = dataset_read(&data, sets.set[i].path, dataset, DATASET_ANSWERS, error);
        dataset_free(&data);
    }
    return status;
}

/* Whether a sequence fits the trainer's batch alone. */
static bool answer_fits(const struct trainer *trainer, const struct eval_answer *answer)
{
    return answer->length - 1 <= trainer->max_rows && answer->length - answer->answer_begin <= trainer->max_targets;
}

static int rows_take(struct train_eval *eval, const struct dataset *data, const struct trainer *trainer, struct error *error)
{
    struct question_list *list = &eval->questions;
    int status = STATUS_OK;
    for (int i = 0; i < data->rows && !status; i++) {
        status = question_add(list, 0, i, &data->row[i], 0, error);
        if (!status)
            status = answer_add(list, &data->row[i], NULL, false, error);
        if (status)
            error_prefix(error, "%s:%d", data->path, data->row[i].line);
        else if (!answer_fits(trainer, &list->answer[list->answers - 1])) {
            eval->left_out++;
            list->ids.length = list->answer[--list->answers].first;
        }
    }
    return status;
}

static int set_take(struct train_eval *eval, const char *path, const struct dataset_options *keys,
                    const struct trainer *trainer, struct error *error)
{
    struct dataset data = {0};
    int status = dataset_read(&data, path, keys, DATASET_ANSWERS, error);
    if (!status)
        status = dataset_chunk(&data, eval->questions.tokenizer, eval->questions.max_length, error);
    if (!status)
        status = rows_take(eval, &data, trainer, error);
    dataset_free(&data);
    return status;
}

/* The set forget, where it decides: the rows are there already. */
static int forget_take(struct train_eval *eval, const struct trainer *trainer, struct error *error)
{
    if (eval->sets.count == EVAL_SETS_MAX)
        return error_set(error, STATUS_USAGE, "eval_data: more than %d sets with forget", EVAL_SETS_MAX);
    snprintf(eval->sets.set[eval->sets.count++].name, sizeof eval->sets.set->name, "%s", forget_set);
    return rows_take(eval, &trainer->examples.data, trainer, error);
}

int train_eval_open(struct train_eval *eval, const struct train_eval_options *options, const struct early_stopping *stopping,
                    const struct dataset_options *dataset, const struct trainer *trainer, struct log *log,
                    struct error *error)
{
    const struct examples *examples = &trainer->examples;
    *eval = (struct train_eval){.options = options, .at_step = -1, .measured_step = -1};
    if (options->strategy == EVAL_NO)
        return STATUS_OK;
    eval->questions = (struct question_list){.tokenizer = examples->tokenizer, .prompt = &examples->prompt,
                                             .eos = examples->eos, .max_length = examples->max_length,
                                             .context = context_length(&trainer->model.config)};
    int status = eval_sets_parse(&eval->sets, options->eval_data, error);
    for (int i = 0; i < eval->sets.count && !status; i++) {
        status = set_take(eval, eval->sets.set[i].path, dataset, trainer, error);
        eval->first[i + 1] = eval->questions.answers;
        if (!status && eval->first[i + 1] == eval->first[i])
            status = error_set(error, STATUS_USAGE, "eval_data: no row of %s is as short as the longest that is trained on",
                               eval->sets.set[i].path);
    }
    if (!status && !strcmp(stopping->set, forget_set)) {
        status = forget_take(eval, trainer, error);
        eval->first[eval->sets.count] = eval->questions.answers;
    }
    if (!status && eval->left_out && !trainer->shards.world.rank)
        log_warning(log, "%d rows of eval_data are longer than all that is trained on, and not looked at", eval->left_out);
    return status;
}

void train_eval_close(struct train_eval *eval)
{
    question_list_free(&eval->questions);
}

/* ---- one look ---- */

struct sums {
    double prob, loss, rows;
};

/* Answers [from, to) as one batch. */
static int batch_look(const struct train_eval *eval, struct trainer *trainer, int from, int to,
                      struct batch_sequence *sequence, int32_t *first, double *values, struct score *score,
                      struct sums *sums, struct error *error)
{
    const struct question_list *list = &eval->questions;
    for (int i = from; i < to; i++) {
        const struct eval_answer *answer = &list->answer[i];
        sequence[i - from] = (struct batch_sequence){list->ids.id + answer->first, answer->length, answer->answer_begin, 0};
        first[i - from + 1] = i - from + 1;
    }
    int status = score_batch(&trainer->model, &trainer->batch, sequence, first, to - from, false, values, score, error);
    for (int i = 0; i < to - from && !status; i++) {
        sums->prob += score[i].prob_mean;
        sums->loss -= score[i].logprob_sum / score[i].num_tokens;
        sums->rows++;
    }
    return status;
}

/* The first answer behind those of a batch that begins with `from`. */
static int batch_end(const struct train_eval *eval, const struct trainer *trainer, int from, int end)
{
    int64_t rows = 0, targets = 0;
    int to = from;
    for (; to < end && to - from < trainer->max_sequences; to++) {
        const struct eval_answer *answer = &eval->questions.answer[to];
        rows += answer->length - 1;
        targets += answer->length - answer->answer_begin;
        if (rows > trainer->max_rows || targets > trainer->max_targets)
            break;
    }
    return to;
}

static int set_look(const struct train_eval *eval, struct trainer *trainer, int set, struct sums *sums,
                    struct error *error)
{
    const struct world *world = &trainer->shards.world;
    const size_t most = (size_t)trainer->max_sequences;
    struct batch_sequence *sequence = memory_array(most, sizeof *sequence, error);
    struct score *score = memory_array(most, sizeof *score, error);
    int32_t *first = memory_array(most + 1, sizeof *first, error);
    double *values = memory_array(2 * (size_t)trainer->batch.max_targets, sizeof *values, error);
    int status = sequence && score && first && values ? STATUS_OK : STATUS_MEMORY, number = 0;
    for (int from = eval->first[set], to; from < eval->first[set + 1] && !status; from = to, number++) {
        to = batch_end(eval, trainer, from, eval->first[set + 1]);
        if (number % world->size == world->rank)
            status = batch_look(eval, trainer, from, to, sequence, first, values, score, sums, error);
    }
    free(sequence), free(score), free(first), free(values);
    status = comm_agree(world->comm, status, error);
    return status ? status : comm_sum(world->comm, &sums->prob, sizeof *sums / sizeof(double), error);
}

static int line_print(const struct train_eval *eval, int set, int64_t step, double epoch, struct buffer *out,
                      struct error *error)
{
    cJSON *line = cJSON_CreateObject();
    bool ok = line && json_add_int(line, "step", step) && json_add_number(line, "epoch", epoch) &&
              json_add_string(line, "eval", eval->sets.set[set].name) &&
              json_add_number(line, "prob_mean", eval->prob[set]) && json_add_number(line, "loss", eval->loss[set]) &&
              json_add_int(line, "rows", eval->first[set + 1] - eval->first[set]);
    int status = ok ? json_print(line, out, error) : error_set(error, STATUS_MEMORY, "out of host memory");
    cJSON_Delete(line);
    return status ? status : buffer_append(out, "\n", 1, error);
}

static int lines_write(const struct train_eval *eval, int64_t step, double epoch, struct run_log *log, struct error *error)
{
    struct buffer lines = {0};
    int status = STATUS_OK;
    for (int i = 0; i < eval->sets.count && !status; i++)
        status = line_print(eval, i, step, epoch, &lines, error);
    if (!status)
        status = run_log_add(log, &lines, error);
    buffer_free(&lines);
    return status;
}

static bool is_time(const struct train_eval *eval, const struct trainer *trainer, int64_t step)
{
    const enum eval_strategy strategy = eval->options->strategy;
    if (strategy == EVAL_NO || step == eval->at_step)
        return false;
    return step == 0 || step == trainer->total_steps ||
           step % (strategy == EVAL_EPOCH ? trainer->steps_per_epoch : eval->options->steps) == 0;
}

int train_eval_step(struct train_eval *eval, struct trainer *trainer, int64_t step, struct run_log *log, int status,
                    struct error *error)
{
    const struct world *world = &trainer->shards.world;
    if (!is_time(eval, trainer, step))
        return status;
    eval->at_step = step;
    trainer->ahead = (struct packed_ahead){0}; /* looking takes the trainer's batch */
    status = comm_agree(world->comm, status, error);
    if (!status)
        status = comm_agree(world->comm, shards_gather_finish(&trainer->shards, &trainer->model, error), error);
    for (int i = 0; i < eval->sets.count && !status; i++) {
        struct sums sums = {0};
        status = set_look(eval, trainer, i, &sums, error);
        eval->prob[i] = sums.prob / sums.rows;
        eval->loss[i] = sums.loss / sums.rows;
    }
    if (status)
        return status;
    eval->measured_step = step;
    return world->rank ? STATUS_OK : lines_write(eval, step, (double)step / trainer->steps_per_epoch, log, error);
}

bool train_eval_value(const struct train_eval *eval, int64_t step, const char *set, bool is_loss, double *value)
{
    for (int i = 0; i < eval->sets.count && eval->measured_step == step; i++)
        if (!strcmp(eval->sets.set[i].name, set)) {
            *value = is_loss ? eval->loss[i] : eval->prob[i];
            return true;
        }
    return false;
}

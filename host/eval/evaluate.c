/* evaluate.c - see evaluate.h. */
#include "evaluate.h"

#include <stdlib.h>
#include <string.h>

#include "../util/checksum.h"
#include "../util/progress.h"
#include "chunk_line.h"
#include "generate.h"
#include "metric/membership.h"
#include "score.h"

static const struct option option_rows[] = {
    {.name = "batch_size", OPTION_FIELD(struct evaluate_options, batch_size), .initial = "32", .min = 1, .max = 65536,
     .help = "prompts that are continued side by side"},
    {.name = "batch_tokens", OPTION_FIELD(struct evaluate_options, batch_tokens), .initial = "0", .max = OPTION_COUNT_MAX,
     .help = "tokens of a batch of answers that is scored; memory grows with it; 0 is 512 on the CPU, whose caches then hold "
             "more of it, and 2048 elsewhere"},
};
const struct option_group evaluate_option_group = {OPTION_GROUP("Evaluation", option_rows, struct evaluate_options)};

enum { CHUNK_ROUNDS = 8 };

struct work {
    struct evaluation *e;
    int64_t batch_tokens;
    int *scored, scored_count;       /* questions with answers, longest first */
    int *continued, continued_count; /* questions to continue: by limit, then longest first */
    struct eval_chunk *chunk;
    bool *done;
    int chunks, chunks_done;
    struct batch_limits limits;      /* of what is scored */
    int64_t longest, positions;      /* of what is continued */
    struct model *model;
    struct generator generator;
    struct batch batch;
    double *values;                  /* [2 * limits.targets] log-probs and probabilities */
    double *mean, *variance;         /* [limits.targets] behind them; with argmax, where what is said of each token is wanted */
    int32_t *argmax;
    struct batch_sequence *sequence; /* [most answers of a chunk] */
    int32_t *group_first;            /* [most questions of a chunk + 1] */
    struct score *score;
    struct token_list *prompt, *out; /* [most prompts of a chunk] */
    struct progress progress;
};

/* ---- which questions go together ---- */

struct sorted {
    int64_t limit, rows;
    int question;
};

static int longest_first(const void *left, const void *right)
{
    const struct sorted *a = left, *b = right;
    if (a->limit != b->limit)
        return a->limit > b->limit ? -1 : 1;
    return a->rows != b->rows ? (a->rows < b->rows) - (a->rows > b->rows) : (a->question > b->question) - (a->question < b->question);
}

static void sequences_of(const struct question_list *list, const struct eval_question *q, struct batch_sequence *out)
{
    for (int i = 0; i < q->answers; i++) {
        const struct eval_answer *answer = &list->answer[q->first_answer + i];
        out[i] = (struct batch_sequence){list->ids.id + answer->first, answer->length, answer->answer_begin, 0};
    }
}

/* The questions of one kind in order; *out is theirs. */
static int questions_sort(const struct work *w, bool continued, struct sorted *sorted, int *count)
{
    const struct question_list *list = w->e->questions;
    *count = 0;
    for (int i = 0; i < list->questions; i++) {
        const struct eval_question *q = &list->question[i];
        if (continued ? !q->max_new_tokens : !q->answers)
            continue;
        int64_t rows = (int64_t)q->prompt.length;
        for (int a = 0; a < q->answers && !continued; a++)
            rows += list->answer[q->first_answer + a].length;
        sorted[(*count)++] = (struct sorted){continued ? q->max_new_tokens : 0, rows, i};
    }
    qsort(sorted, (size_t)*count, sizeof *sorted, longest_first);
    return *count;
}

static struct eval_chunk *chunk_next(struct work *w, bool continued, int first)
{
    struct eval_chunk *chunk = &w->chunk[w->chunks++];
    *chunk = (struct eval_chunk){.continued = continued, .question = (continued ? w->continued : w->scored) + first};
    return chunk;
}

static void limits_raise(struct batch_limits *limits, const struct batch_size *size, int64_t sequences)
{
    limits->rows = size->rows > limits->rows ? size->rows : limits->rows;
    limits->targets = size->targets > limits->targets ? size->targets : limits->targets;
    limits->sequences = sequences > limits->sequences ? sequences : limits->sequences;
}

/* As many questions as fit, at least one. */
static void scored_cut(struct work *w)
{
    const struct question_list *list = w->e->questions;
    struct eval_chunk *chunk = NULL;
    struct batch_size size = {0};
    int64_t sequences = 0;
    for (int i = 0; i < w->scored_count; i++) {
        const struct eval_question *q = &list->question[w->scored[i]];
        struct batch_size with = size;
        sequences_of(list, q, w->sequence);
        batch_group_size(w->sequence, q->answers, BATCH_TRUNK, &with);
        if (!chunk || with.rows > w->batch_tokens) {
            chunk = chunk_next(w, false, i);
            with = (struct batch_size){0};
            sequences = 0;
            batch_group_size(w->sequence, q->answers, BATCH_TRUNK, &with);
        }
        size = with;
        chunk->questions++;
        sequences += q->answers;
        limits_raise(&w->limits, &size, sequences);
        for (int a = 0; a < q->answers; a++)
            w->limits.positions = w->sequence[a].length > w->limits.positions ? w->sequence[a].length : w->limits.positions;
    }
}

static void continued_cut(struct work *w)
{
    const struct question_list *list = w->e->questions;
    struct eval_chunk *chunk = NULL;
    for (int i = 0; i < w->continued_count; i++) {
        const struct eval_question *q = &list->question[w->continued[i]];
        const int64_t length = (int64_t)q->prompt.length, end = length + q->max_new_tokens;
        const bool same = chunk && list->question[chunk->question[0]].max_new_tokens == q->max_new_tokens;
        if (!same || chunk->questions == CHUNK_ROUNDS * w->e->options->batch_size)
            chunk = chunk_next(w, true, i);
        chunk->questions++;
        w->longest = length > w->longest ? length : w->longest;
        w->positions = end > w->positions ? end : w->positions;
    }
    w->positions = w->positions < list->context ? w->positions : list->context;
}

static int work_plan(struct work *w, struct error *error)
{
    const struct question_list *list = w->e->questions;
    const size_t most = (size_t)list->questions + 1;
    struct sorted *sorted = memory_array(most, sizeof *sorted, error);
    w->scored = memory_array(most, sizeof *w->scored, error);
    w->continued = memory_array(most, sizeof *w->continued, error);
    w->chunk = memory_array(2 * most, sizeof *w->chunk, error);
    w->done = memory_array(2 * most, sizeof *w->done, error);
    w->sequence = memory_array((size_t)list->answers + 1, sizeof *w->sequence, error);
    w->score = memory_array((size_t)list->answers + 1, sizeof *w->score, error);
    w->group_first = memory_array(most + 1, sizeof *w->group_first, error);
    w->prompt = memory_array(most, sizeof *w->prompt, error);
    w->out = memory_array(most, sizeof *w->out, error);
    if (!sorted || !w->scored || !w->continued || !w->chunk || !w->done || !w->sequence || !w->score || !w->group_first ||
        !w->prompt || !w->out) {
        free(sorted);
        return STATUS_MEMORY;
    }
    for (int i = 0, count = questions_sort(w, false, sorted, &w->scored_count); i < count; i++)
        w->scored[i] = sorted[i].question;
    for (int i = 0, count = questions_sort(w, true, sorted, &w->continued_count); i < count; i++)
        w->continued[i] = sorted[i].question;
    free(sorted);
    scored_cut(w);
    continued_cut(w);
    return STATUS_OK;
}

/* ---- measuring ---- */

static int model_prepare(struct work *w, struct error *error)
{
    struct eval_model *m = w->e->model;
    const struct generate_options greedy = {.max_new_tokens = 1, .top_p = 1};
    const struct generate_options *sampling = w->e->sampling ? w->e->sampling : &greedy;
    const int64_t batch = w->e->options->batch_size;
    const int slots = (int)(batch < w->continued_count ? batch : w->continued_count);
    int status = STATUS_OK;
    w->model = &m->model;
    for (int i = 0; i < w->e->questions->answers; i++)
        w->model->head_statistics |= w->e->questions->answer[i].keep_tokens || w->e->questions->answer[i].keep_entropy;
    if (slots) {
        const int64_t rows = w->longest > w->batch_tokens ? w->longest : w->batch_tokens;
        status = generator_open(&w->generator, w->model, w->e->device, slots, rows < w->longest * slots ? rows : w->longest * slots,
                                w->positions, &w->limits, sampling, error);
        w->generator.rules = &m->rules;
    } else {
        w->model->max_positions = w->limits.positions;
        status = model_plan(w->model, false, w->limits.rows, w->limits.targets, w->limits.sequences, error);
        if (!status)
            status = model_allocate(w->model, w->e->device, error);
    }
    if (!status && w->scored_count)
        status = batch_create(&w->batch, w->e->device, w->limits.rows, w->limits.targets, w->limits.sequences, error);
    w->values = memory_array(4 * (size_t)w->limits.targets + 1, sizeof *w->values, error);
    w->argmax = memory_array((size_t)w->limits.targets + 1, sizeof *w->argmax, error);
    if (!status && (!w->values || !w->argmax))
        status = STATUS_MEMORY;
    w->mean = w->values + 2 * w->limits.targets;
    w->variance = w->mean + w->limits.targets;
    if (!status)
        status = weights_load(&m->weights, w->model, error);
    return status ? status : model_pack(w->model, error);
}

/* Sequence `at` of the batch that was scored is this answer. */
static int answer_take(const struct work *w, struct eval_answer *answer, int at, struct error *error)
{
    const int32_t begin = w->batch.host.sequence_begin[at];
    answer->num_tokens = w->score[at].num_tokens;
    answer->logprob_sum = w->score[at].logprob_sum;
    answer->prob_mean = w->score[at].prob_mean;
    answer->entropy = 0;
    for (int32_t t = 0; t < answer->num_tokens && answer->keep_entropy; t++)
        answer->entropy -= w->mean[begin + t] / answer->num_tokens;
    if (!answer->keep_tokens)
        return STATUS_OK;
    free(answer->token);
    answer->token = memory_array((size_t)answer->num_tokens, sizeof *answer->token, error);
    if (!answer->token)
        return STATUS_MEMORY;
    for (int32_t t = 0; t < answer->num_tokens; t++) {
        const double logprob = w->values[begin + t];
        answer->token[t] = (struct eval_token){
            (float)logprob, (float)membership_standardise(logprob, w->mean[begin + t], w->variance[begin + t]),
            w->argmax[begin + t]};
    }
    return STATUS_OK;
}

static int chunk_score(struct work *w, const struct eval_chunk *chunk, struct error *error)
{
    struct question_list *list = w->e->questions;
    int answers = 0;
    w->group_first[0] = 0;
    for (int i = 0; i < chunk->questions; i++) {
        const struct eval_question *q = &list->question[chunk->question[i]];
        sequences_of(list, q, w->sequence + answers);
        answers += q->answers;
        w->group_first[i + 1] = answers;
    }
    int status = score_batch(w->model, &w->batch, w->sequence, w->group_first, chunk->questions, false, w->values, w->score,
                             error);
    if (!status && w->model->head_statistics)
        status = score_statistics(w->model, &w->batch, w->mean, w->variance, w->argmax, error);
    for (int i = 0, at = 0; i < chunk->questions && !status; i++) {
        const struct eval_question *q = &list->question[chunk->question[i]];
        for (int a = 0; a < q->answers && !status; a++, at++)
            status = answer_take(w, &list->answer[q->first_answer + a], at, error);
    }
    return status;
}

static int chunk_continue(struct work *w, const struct eval_chunk *chunk, struct error *error)
{
    struct question_list *list = w->e->questions;
    for (int i = 0; i < chunk->questions; i++) {
        w->prompt[i] = list->question[chunk->question[i]].prompt;
        w->out[i] = (struct token_list){0};
    }
    w->generator.options.max_new_tokens = list->question[chunk->question[0]].max_new_tokens;
    /* what is drawn for a prompt depends on its place among all that are continued */
    const int64_t place = chunk->question - w->continued;
    int status = generator_run(&w->generator, w->prompt, chunk->questions, place, w->e->model->stop, w->e->model->stops, w->out,
                               error);
    for (int i = 0; i < chunk->questions; i++) {
        struct eval_question *q = &list->question[chunk->question[i]];
        struct buffer text = {0};
        if (!status)
            status = tokenizer_decode(list->tokenizer, w->out[i].id, w->out[i].length, true, &text, error);
        if (!status)
            status = buffer_append(&text, "", 0, error);
        q->generated = (int32_t)w->out[i].length;
        free(q->generation);
        q->generation = text.data;
        free(w->out[i].id);
    }
    return status;
}

/* ---- ranks, and what was there before ---- */

static int line_take(void *user, const char *text, size_t length, struct error *error)
{
    struct work *w = user;
    int number;
    int status = chunk_line_read(w->e->questions, w->chunk, w->chunks, text, length, &number, error);
    if (!status && !w->done[number]) {
        w->done[number] = true;
        w->chunks_done++;
    }
    return status;
}

/* What must be equal for results to be of the same evaluation. */
static int work_checksum(const struct work *w, uint64_t *sum, struct error *error)
{
    const struct evaluation *e = w->e;
    char text[512];
    int status = question_list_checksum(e->questions, sum, error);
    if (status)
        return status;
    snprintf(text, sizeof text, "%016llx %016llx %lld %lld %s %d", (unsigned long long)e->model_checksum,
             (unsigned long long)*sum, (long long)e->options->batch_size, (long long)w->batch_tokens,
             e->device->engine->name, (int)e->model->model.dtype);
    if (e->sampling) {
        const size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, " %.17g %.17g %lld", e->sampling->temperature, e->sampling->top_p,
                 (long long)e->sampling->seed);
    }
    *sum = checksum_of(text, strlen(text)).xxh3;
    return STATUS_OK;
}

/* All are about the same thing; rank 0 knows what is done already. */
static int done_share(struct work *w, struct error *error)
{
    struct evaluation *e = w->e;
    uint64_t sum;
    char text[24] = "";
    int status = work_checksum(w, &sum, error);
    snprintf(text, sizeof text, "%016llx", (unsigned long long)sum);
    status = comm_agree(e->comm, status, error);
    if (!status)
        status = comm_check_equal(e->comm, "what is evaluated (model, rows, settings)", text, error);
    if (!status && e->partial_path && !comm_rank(e->comm))
        status = partial_open(&e->partial, e->partial_path, sum, line_take, w, e->log, error);
    status = comm_agree(e->comm, status, error);
    if (!status)
        status = comm_broadcast_host(e->comm, w->done, (size_t)w->chunks * sizeof *w->done, 0, error);
    if (!status)
        status = comm_broadcast_host(e->comm, &w->chunks_done, sizeof w->chunks_done, 0, error);
    return status;
}

/* A chunk's line from the rank that has measured it to rank 0, and into the file. */
static int line_share(struct work *w, int owner, int number, struct buffer *line, struct error *error)
{
    struct evaluation *e = w->e;
    const bool own = comm_rank(e->comm) == owner;
    uint64_t length = line->length;
    int status = comm_broadcast_host(e->comm, &length, sizeof length, owner, error);
    struct buffer other = {0};
    if (!status && !own) {
        other.data = memory_array(length + 1, 1, error);
        other.length = other.capacity = length;
        status = other.data ? STATUS_OK : STATUS_MEMORY;
    }
    struct buffer *text = own ? line : &other;
    if (!status)
        status = comm_broadcast_host(e->comm, text->data, length, owner, error);
    if (!status && !own && !comm_rank(e->comm))
        status = chunk_line_read(e->questions, w->chunk, w->chunks, text->data, length - 1, &number, error);
    if (!status) {
        w->done[number] = true;
        w->chunks_done++;
    }
    if (!status && e->partial.file)
        status = partial_add(&e->partial, text->data, length, error);
    buffer_free(&other);
    return status;
}

/* One chunk per rank, those that are not done. */
static int round_run(struct work *w, int *next, struct error *error)
{
    struct evaluation *e = w->e;
    const int rank = comm_rank(e->comm), size = comm_size(e->comm);
    int mine = -1, taken[64], count = 0, status = STATUS_OK;
    struct buffer line = {0};
    for (; *next < w->chunks && count < size && count < 64; ++*next)
        if (!w->done[*next]) {
            mine = count == rank ? *next : mine;
            taken[count++] = *next;
        }
    if (mine >= 0) {
        const struct eval_chunk *chunk = &w->chunk[mine];
        status = chunk->continued ? chunk_continue(w, chunk, error) : chunk_score(w, chunk, error);
        if (!status)
            status = chunk_line_print(e->questions, chunk, mine, &line, error);
    }
    status = comm_agree(e->comm, status, error);
    for (int i = 0; i < count && !status; i++)
        if ((status = line_share(w, i, taken[i], &line, error)) && size > 1) /* the others are in the middle of it */
            comm_abort(e->comm, error->text);
    buffer_free(&line);
    return status;
}

static int work_run(struct work *w, struct error *error)
{
    struct evaluation *e = w->e;
    int status = comm_agree(e->comm, work_plan(w, error), error);
    if (!status)
        status = done_share(w, error);
    if (status || w->chunks_done == w->chunks)
        return status;
    status = comm_agree(e->comm, model_prepare(w, error), error);
    const bool shown = !comm_rank(e->comm);
    if (status)
        return status;
    if (shown)
        progress_begin(&w->progress, e->log, e->label, w->chunks_done, w->chunks, w->chunks / 10 + 1);
    for (int next = 0; next < w->chunks && !status;) {
        status = round_run(w, &next, error);
        if (!status && shown)
            progress_step(&w->progress, w->chunks_done, NULL, 0);
    }
    if (shown)
        progress_end(&w->progress);
    return status;
}

int evaluate(struct evaluation *evaluation, struct error *error)
{
    const int64_t given = evaluation->options->batch_tokens;
    struct work w = {.e = evaluation, .batch_tokens = given ? given : evaluation->device->engine->graphs ? 2048 : 512};
    int status = work_run(&w, error);
    generator_close(&w.generator);
    if (w.model)
        batch_free(&w.batch, evaluation->device);
    free(w.scored), free(w.continued), free(w.chunk), free(w.done), free(w.values), free(w.argmax);
    free(w.sequence), free(w.group_first), free(w.score), free(w.prompt), free(w.out);
    return status;
}

/* attack_text.c - how far a model's distribution is from another's on running text; see attack.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../util/file.h"
#include "../util/progress.h"
#include "attack.h"

enum { PIECES_AT_ONCE = 4, TEXT_BYTES_MAX = 1 << 26 };

struct comparing {
    const struct attack_setting *setting;
    struct eval_model model[2]; /* target, subject */
    struct token_list ids;
    struct batch batch;
    double *value;              /* [PIECES_AT_ONCE * tokens] */
    int tokens, pieces;
};

static int text_take(struct comparing *c, const char *path, struct error *error)
{
    char *text;
    size_t length;
    int status = file_read(path, TEXT_BYTES_MAX, &text, &length, error);
    if (status)
        return status;
    status = prompt_encode(c->model[0].tokenizer, text, length, true, &c->ids, error);
    free(text);
    c->pieces = (int)(c->ids.length / (size_t)c->tokens);
    if (!status && !c->pieces && c->ids.length > 1) { /* a short text is one piece */
        c->tokens = (int)c->ids.length;
        c->pieces = 1;
    }
    if (!status && !c->pieces)
        status = error_set(error, STATUS_INPUT, "%s: no token to predict in this text", path);
    return status;
}

static int models_open(struct comparing *c, const struct attack_subject *subject[2], struct error *error)
{
    int status = STATUS_OK;
    for (int i = 0; i < 2 && !status; i++) {
        status = eval_model_open(&c->model[i], &subject[i]->model, c->setting->prompt, c->setting->device->engine->dtype, error);
        c->model[i].weights.quantizer = subject[i]->quantizer;
    }
    if (!status && c->model[0].config.final_cap != c->model[1].config.final_cap)
        status = error_set(error, STATUS_INPUT, "%s: final_logit_softcapping is another than in %s: their distributions are not "
                           "compared", c->model[1].directory, c->model[0].directory);
    if (!status && c->model[0].config.vocab_size != c->model[1].config.vocab_size)
        status = error_set(error, STATUS_INPUT, "%s: a vocabulary of %lld, and of %lld in %s: their distributions cannot be compared",
                           c->model[1].directory, (long long)c->model[1].config.vocab_size,
                           (long long)c->model[0].config.vocab_size, c->model[0].directory);
    return status;
}

static int models_load(struct comparing *c, struct error *error)
{
    const int64_t rows = (int64_t)PIECES_AT_ONCE * c->tokens;
    int status = STATUS_OK;
    for (int i = 0; i < 2 && !status; i++) {
        struct model *model = &c->model[i].model;
        model->max_positions = c->tokens;
        model->row_values = i == 1;
        status = model_plan(model, false, rows, rows, PIECES_AT_ONCE, error);
        if (!status)
            status = model_allocate(model, c->setting->device, error);
        if (!status)
            status = weights_load(&c->model[i].weights, model, error);
        if (!status)
            status = model_pack(model, error);
    }
    if (!status)
        status = batch_create(&c->batch, c->setting->device, rows, rows, PIECES_AT_ONCE, error);
    if (!status && !(c->value = memory_array((size_t)rows, sizeof *c->value, error)))
        status = STATUS_MEMORY;
    return status;
}

/* KL of every target row of the batch, as double. */
static int batch_compare(struct comparing *c, struct error *error)
{
    struct model *target = &c->model[0].model, *subject = &c->model[1].model;
    const size_t count = (size_t)c->batch.targets;
    int status = model_forward_logits(target, &c->batch, NULL, NULL, error);
    if (!status)
        status = model_forward_logits(subject, &c->batch, NULL, NULL, error);
    const struct head_divergence all = {.begin = 0, .end = c->batch.targets, .reference = target->head.logits};
    if (!status)
        status = model_forward_targets(subject, &c->batch, &all, 1, error);
    if (status || dtype_stat(subject->dtype) == DTYPE_F64)
        return status ? status
                      : device_copy_out(c->setting->device, c->value, subject->head.row_value, count * sizeof(double), error);
    float *narrow = memory_array(count, sizeof *narrow, error);
    status = narrow ? device_copy_out(c->setting->device, narrow, subject->head.row_value, count * sizeof *narrow, error)
                    : STATUS_MEMORY;
    for (size_t i = 0; i < count && !status; i++)
        c->value[i] = narrow[i];
    free(narrow);
    return status;
}

/* Pieces [first, first + count). */
static int pieces_compare(struct comparing *c, int first, int count, double *out, struct error *error)
{
    struct batch_sequence sequence[PIECES_AT_ONCE];
    int32_t group_first[PIECES_AT_ONCE + 1] = {0};
    for (int i = 0; i < count; i++) {
        sequence[i] = (struct batch_sequence){.ids = c->ids.id + (size_t)(first + i) * (size_t)c->tokens, .length = c->tokens,
                                              .answer_begin = 1};
        group_first[i + 1] = i + 1;
    }
    int status = batch_pack(&c->batch, c->setting->device, sequence, group_first, count, false,
                            c->model[0].config.vocab_size, error);
    if (!status)
        status = batch_compare(c, error);
    for (int i = 0; i < count && !status; i++) {
        const int32_t begin = c->batch.host.sequence_begin[i], end = c->batch.host.sequence_begin[i + 1];
        double sum = 0;
        for (int32_t t = begin; t < end; t++)
            sum += c->value[t];
        out[i] = sum / (end - begin);
        if (!isfinite(out[i]))
            status = error_set(error, STATUS_NONFINITE, "the divergence on piece %d of the text is not finite", first + i + 1);
    }
    return status;
}

int attack_text_divergence(const struct attack_setting *setting, const struct attack_subject *target,
                           const struct attack_subject *subject, const char *path, int tokens, struct row_values *out,
                           struct error *error)
{
    const struct attack_subject *both[2] = {target, subject};
    struct comparing c = {.setting = setting, .tokens = tokens};
    struct progress progress;
    *out = (struct row_values){0};
    int status = models_open(&c, both, error);
    if (!status)
        status = text_take(&c, path, error);
    if (!status)
        status = models_load(&c, error);
    if (!status && !(out->value = memory_array((size_t)c.pieces, sizeof *out->value, error)))
        status = STATUS_MEMORY;
    if (!status)
        progress_begin(&progress, setting->log, subject->label, 0, c.pieces, c.pieces / 10 + 1);
    for (int i = 0; i < c.pieces && !status; i += PIECES_AT_ONCE) {
        const int count = c.pieces - i < PIECES_AT_ONCE ? c.pieces - i : PIECES_AT_ONCE;
        status = pieces_compare(&c, i, count, out->value + i, error);
        if (!status)
            progress_step(&progress, i + count, NULL, 0);
    }
    if (out->value)
        progress_end(&progress);
    out->rows = status ? 0 : c.pieces;
    if (c.batch.device_blob)
        batch_free(&c.batch, setting->device);
    free(c.value);
    free(c.ids.id);
    eval_model_close(&c.model[0]);
    eval_model_close(&c.model[1]);
    return status;
}

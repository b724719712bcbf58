/* sweep_run.c - the runs of a sweep, each a training, a scoring and perhaps attacks by this program as a child; see sweep.h.
 *
 * A lane does one row at a time: one lane, or one for each of --gpus. What is over is in the row's result.json, so that a sweep
 * that was stopped or killed goes on with the row at hand: its training from its last checkpoint, if it has saved any.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "../../util/file.h"
#include "../../util/interrupt.h"
#include "../child.h"
#include "sweep.h"

enum { PATH_BYTES = 4096, LANES_MAX = 64, LOCK_TRIES = 250 /* naps */ };

struct lane {
    struct sweep *sweep;
    struct sweep_row *row;
    enum sweep_stage stage;
    struct child child;
    const char *gpu; /* NULL: whatever there is */
};

/* After a row is over: the models that the sweep does not keep, and the table as it is now. */
static int sweep_tidy(struct sweep *sweep, struct error *error)
{
    const enum sweep_keep keep = sweep->options->keep_models;
    int status = STATUS_OK;
    sweep_find_front(sweep);
    for (size_t i = sweep->landmarks; i < sweep->rows && !status; i++) {
        const struct sweep_row *row = &sweep->row[i];
        /* one whose attacks failed is not trained again by --retry_failed */
        const bool half = json_member(row->result, "error") && json_member(row->result, "figures");
        if (row->result)
            status = sweep_model_remove(sweep, row, half || keep == SWEEP_KEEP_ALL || (keep == SWEEP_KEEP_FRONT && row->front), error);
    }
    return status ? status : sweep_table_write(sweep, NULL, error);
}

/* ---- one row ---- */

/* The run has saved its model: its run.json says what came of it. */
static bool training_is_over(const struct sweep *sweep, const struct sweep_row *row)
{
    char path[PATH_BYTES];
    struct error unused;
    if (sweep_path(sweep, row, "model/run.json", path, &unused) || !file_exists(path))
        return false;
    cJSON *json = json_read(path, &unused);
    const bool over = json_member(json, "result");
    cJSON_Delete(json);
    return over;
}

static int stage_begin(struct lane *lane, enum sweep_stage stage, struct error *error)
{
    lane->stage = stage;
    return sweep_stage_begin(lane->sweep, lane->row, stage, &lane->child, lane->gpu, error);
}

static int row_begin(struct lane *lane, struct sweep_row *row, struct error *error)
{
    char path[PATH_BYTES];
    lane->row = row;
    int status = sweep_path(lane->sweep, row, "", path, error);
    if (!status)
        status = file_make_directory(path, error);
    if (!status)
        status = sweep_path(lane->sweep, row, "config.json", path, error);
    if (!status)
        status = json_write(row->config, path, error);
    if (status)
        return status;
    return stage_begin(lane, row->landmark || training_is_over(lane->sweep, row) ? SWEEP_SCORING : SWEEP_TRAINING, error);
}

/* Why a child that failed did: its own words, which are in its log, without where its checkpoints are. */
static int failure_take(struct lane *lane, char *text, size_t bytes, struct error *error)
{
    char log[PATH_BYTES];
    int status = sweep_path(lane->sweep, lane->row, sweep_stage_logs[lane->stage], log, error);
    if (!status)
        child_last_error(log, text, bytes);
    char *checkpoint = strstr(text, "; the newest checkpoint is ");
    if (checkpoint)
        *checkpoint = 0;
    if (!*text)
        snprintf(text, bytes, lane->child.code > 128 ? "ended by signal %d" : "exit code %d",
                 lane->child.code > 128 ? lane->child.code - 128 : lane->child.code);
    return status;
}

/* The lane's child has ended: the next stage follows, or the row is over. Attacks that failed leave the scoring as it is. */
static int lane_advance(struct lane *lane, struct error *error)
{
    const struct sweep *sweep = lane->sweep;
    const int code = lane->child.code;
    char failure[1100] = "";
    const bool well = code == STATUS_OK || (lane->stage == SWEEP_SCORING && code == STATUS_NONFINITE);
    if (well && lane->stage == SWEEP_TRAINING)
        return stage_begin(lane, SWEEP_SCORING, error);
    if (well && lane->stage == SWEEP_SCORING && sweep->attack && !lane->row->landmark)
        return stage_begin(lane, SWEEP_ATTACKING, error);
    const bool scored = well || lane->stage == SWEEP_ATTACKING;
    int status = well ? STATUS_OK : failure_take(lane, failure, sizeof failure, error);
    if (!status)
        status = sweep_row_finish(lane->sweep, lane->row, scored, failure, error);
    if (!status && !well)
        log_warning(sweep->log, "%s%s failed: %s", lane->row->name, scored ? ": the attacks" : "", failure);
    if (!status && scored)
        log_info(sweep->log, "%s: %s %.4g, %s %.4g", lane->row->name, sweep_forget_metric(sweep),
                 sweep_figure(lane->row, sweep_forget_metric(sweep)), sweep_utility_metric(sweep),
                 sweep_figure(lane->row, sweep_utility_metric(sweep)));
    lane->stage = SWEEP_IDLE;
    return status ? status : sweep_tidy(lane->sweep, error);
}

/* ---- all of them ---- */

/* What rows that are over came to, by their files. */
static int results_read(struct sweep *sweep, size_t *left, struct error *error)
{
    char path[PATH_BYTES];
    int status = STATUS_OK;
    *left = 0;
    for (size_t i = 0; i < sweep->rows && !status; i++) {
        struct sweep_row *row = &sweep->row[i];
        status = sweep_path(sweep, row, "result.json", path, error);
        if (!status && file_exists(path) && !(row->result = json_read(path, error)))
            status = error->status;
        if (sweep->options->retry_failed && json_member(row->result, "error")) {
            cJSON_Delete(row->result);
            row->result = NULL;
        }
        *left += !row->result;
    }
    return status;
}

static size_t lanes_make(struct sweep *sweep, struct lane *lane, char *gpus)
{
    char *rest = NULL;
    size_t lanes = 0;
    for (char *gpu = strtok_r(gpus, ",", &rest); gpu && lanes < LANES_MAX; gpu = strtok_r(NULL, ",", &rest))
        lane[lanes++] = (struct lane){.sweep = sweep, .gpu = gpu};
    if (!lanes)
        lane[lanes++] = (struct lane){.sweep = sweep};
    return lanes;
}

static int outcome(const struct sweep *sweep, struct error *error)
{
    for (size_t i = sweep->landmarks; i < sweep->rows; i++)
        if (json_member(sweep->row[i].result, "figures"))
            return STATUS_OK;
    const cJSON *why = json_member(sweep->row[sweep->landmarks].result, "error");
    return error_set(error, STATUS_RUNTIME, "none of %zu runs ended well; the first: %.600s", sweep->rows - sweep->landmarks,
                     cJSON_IsString(why) ? why->valuestring : "");
}

/* One look at a lane: what its child is at, and the next row when there is nothing to do. */
static int lane_look(struct lane *lane, size_t *next, int status, struct error *error)
{
    struct sweep *sweep = lane->sweep;
    const bool stop = status || interrupt_pending();
    if (lane->stage != SWEEP_IDLE && stop)
        child_stop(&lane->child);
    if (lane->stage != SWEEP_IDLE && child_ended(&lane->child)) {
        if (!stop)
            status = lane_advance(lane, error);
        else
            lane->stage = SWEEP_IDLE; /* stopped: the row is not over */
    }
    while (*next < sweep->rows && sweep->row[*next].result)
        ++*next;
    if (lane->stage == SWEEP_IDLE && !status && !stop && *next < sweep->rows)
        status = row_begin(lane, &sweep->row[(*next)++], error);
    return status;
}

static int rows_run(struct sweep *sweep, char *gpus, struct error *error)
{
    struct lane lane[LANES_MAX];
    const size_t lanes = lanes_make(sweep, lane, gpus);
    size_t next = 0, busy;
    int status = STATUS_OK;
    interrupt_catch(false);
    do {
        busy = 0;
        for (size_t i = 0; i < lanes; i++) {
            status = lane_look(&lane[i], &next, status, error);
            busy += lane[i].stage != SWEEP_IDLE;
        }
        if (busy)
            child_nap();
    } while (busy);
    if (!status && interrupt_pending())
        status = error_set(error, STATUS_SIGNAL, "stopped by %s; the same command goes on", interrupt_name(interrupt_pending()));
    interrupt_release();
    return status;
}

/* One sweep at a time in a folder. The children hold the lock too, so that none of an earlier one that was killed is left. */
static int lock_take(const struct sweep *sweep, int *lock, struct error *error)
{
    char path[PATH_BYTES];
    int status = file_join(path, sizeof path, sweep->options->output_dir, ".lock", error);
    if (status)
        return status;
    *lock = open(path, O_RDWR | O_CREAT, FILE_MODE);
    if (*lock < 0)
        return error_set(error, STATUS_RUNTIME, "%s: cannot be written: %s", path, strerror(errno));
    for (int tries = 0; flock(*lock, LOCK_EX | LOCK_NB); tries++) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return error_set(error, STATUS_RUNTIME, "%s: cannot be locked: %s", path, strerror(errno));
        if (tries == LOCK_TRIES)
            return error_set(error, STATUS_RUNTIME, "output_dir: another sweep is at work in %s", sweep->options->output_dir);
        child_nap();
    }
    return STATUS_OK;
}

int sweep_run(struct sweep *sweep, struct error *error)
{
    char *gpus = memory_string(sweep->options->gpus, error);
    size_t left;
    int lock = -1, status = gpus ? lock_take(sweep, &lock, error) : STATUS_MEMORY;
    if (!status)
        status = results_read(sweep, &left, error);
    if (!status)
        status = sweep_tidy(sweep, error);
    if (!status) {
        log_info(sweep->log, "%zu runs and %zu landmarks, %zu to do", sweep->rows - sweep->landmarks, sweep->landmarks, left);
        status = rows_run(sweep, gpus, error);
    }
    if (lock >= 0)
        close(lock);
    free(gpus);
    return status ? status : outcome(sweep, error);
}

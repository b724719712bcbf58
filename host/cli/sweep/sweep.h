/* sweep.h - many runs of `flat unlearn` from one config: which runs they are, what came of each, and the table and picture of
 * all. What the parts of `flat sweep` share.
 *
 * The folder of a sweep:
 *   plan.json            the runs, and how they are scored: what a continued sweep must agree with
 *   runs/NNN/            config.json, train.log, model/ (the run's output_dir), eval.log, evals/, attack.log and attacks/ where
 *                        the config asks for them, and result.json once it is over
 *   landmarks/NAME/      the same of a model that is only scored
 *   sweep.md .csv .json  a row per run; front.svg
 */
#ifndef FLAT_CLI_SWEEP_SWEEP_H
#define FLAT_CLI_SWEEP_SWEEP_H
#include "../../io/json/json.h"
#include "../command.h"

enum sweep_direction { SWEEP_AUTO, SWEEP_HIGHER, SWEEP_LOWER };
enum sweep_keep { SWEEP_KEEP_FRONT, SWEEP_KEEP_ALL, SWEEP_KEEP_NONE };
struct sweep_options {
    const char *output_dir, *landmarks, *forget_metric, *utility_metric, *gpus;
    int64_t draws, draw_seed;
    enum sweep_direction forget_better;
    enum sweep_keep keep_models;
    bool retry_failed;
    struct log_options log;
};

enum { SWEEP_NAME_BYTES = 64, SWEEP_ROWS_MAX = 100000 };

struct sweep_row {
    char name[SWEEP_NAME_BYTES]; /* "001", or the landmark's */
    const char *landmark;        /* the model's folder; NULL: a run */
    cJSON *settings;             /* {"learning_rate": 1e-5, ...} what tells the runs apart; empty of a landmark */
    cJSON *config;               /* of flat unlearn */
    cJSON *result;               /* {"status": "done", "steps", "seconds", "figures": {}}; NULL: not over */
    bool front;                  /* no other is better in both metrics */
};

struct sweep {
    const struct sweep_options *options;
    cJSON *common;               /* keys that are alike in all runs */
    cJSON *eval;                 /* options of flat eval; an object */
    cJSON *attack;               /* options of flat attack; NULL: none is made */
    char *landmark_text;         /* the rows' strings */
    struct sweep_row *row;       /* landmarks first */
    size_t rows, capacity, landmarks;
    char **key;                  /* [keys] the settings of any run, in order */
    size_t keys, key_capacity;
    struct log *log;
};

/* sweep_plan.c: reads the config: what is the sweep's own goes into `set`, the rest becomes rows. */
int sweep_plan(struct sweep *sweep, struct invocation *run, const char *path, struct error *error);
/* sweep_draw.c: the numbers of so many points of 0 .. total - 1, none twice, ascending. free(*point). */
int sweep_draw(int64_t total, int64_t count, uint64_t seed, int64_t **point, struct error *error);
/* The plan as JSON; cJSON_Delete. NULL with STATUS_MEMORY. */
cJSON *sweep_plan_json(const struct sweep *sweep, struct error *error);
void sweep_free(struct sweep *sweep);

/* sweep_run.c: does every row that is not over, writing the table after each. STATUS_SIGNAL when it was asked to stop,
 * STATUS_RUNTIME when no run ended well. */
int sweep_run(struct sweep *sweep, struct error *error);
/* sweep_stage.c: what is done of a row, one after the other, each by a child with a log of its own. */
enum sweep_stage { SWEEP_IDLE, SWEEP_TRAINING, SWEEP_SCORING, SWEEP_ATTACKING };
extern const char *const sweep_stage_logs[];
struct child;
/* gpu: CUDA_VISIBLE_DEVICES; NULL: as it is. */
int sweep_stage_begin(const struct sweep *sweep, const struct sweep_row *row, enum sweep_stage stage, struct child *child,
                      const char *gpu, struct error *error);
/* sweep_result.c: {"status", "error" (failure, unless ""), "steps", "seconds", "figures" (where it was scored)} into the row and its
 * result.json, which says that the row is over. */
int sweep_row_finish(struct sweep *sweep, struct sweep_row *row, bool scored, const char *failure, struct error *error);
/* Removes the weights and checkpoints of a run, or the checkpoints alone; its record, log and figures stay. */
int sweep_model_remove(const struct sweep *sweep, const struct sweep_row *row, bool checkpoints_only, struct error *error);
/* "OUTPUT/runs/001/name" (name "": the folder) into a caller's 4096 bytes. */
int sweep_path(const struct sweep *sweep, const struct sweep_row *row, const char *name, char *out, struct error *error);
/* The first file of a folder of the row, if it is there, whose name ends so, into a caller's 4096 bytes; "": none. */
int sweep_file_find(const struct sweep *sweep, const struct sweep_row *row, const char *folder, const char *ending, char *out,
                    struct error *error);

/* sweep_figures.c: what came of the rows. */
/* A figure of a row that is done; NAN where there is none. */
double sweep_figure(const struct sweep_row *row, const char *name);
/* The two metrics by name, as chosen or as the first figures suggest. */
const char *sweep_forget_metric(const struct sweep *sweep);
const char *sweep_utility_metric(const struct sweep *sweep);
/* Whether more of the forget metric is better. */
bool sweep_more_is_better(const struct sweep *sweep);
/* Marks the rows that no other beats in both metrics. */
void sweep_find_front(struct sweep *sweep);
/* A setting, or any value, as a person would write it; a text as a cell of Markdown, without line breaks and bars; a setting as one. */
int sweep_value_print(const cJSON *value, struct buffer *out, struct error *error);
int sweep_cell_print(const char *text, struct buffer *out, struct error *error);
int sweep_setting_cell(const struct sweep_row *row, const char *key, struct buffer *out, struct error *error);
/* sweep_seeds.c: a second table where seeds differ; nothing otherwise. */
int sweep_seeds_print(const struct sweep *sweep, struct buffer *out, struct error *error);
/* sweep_table.c: sweep.md, .csv, .json and front.svg; *markdown (may be NULL) gets the first as text. */
int sweep_table_write(const struct sweep *sweep, struct buffer *markdown, struct error *error);

#endif

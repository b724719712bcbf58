/* report.h - runs as one page of HTML for people: `flat report`.
 *
 * Of each folder, what is there: run.json (settings, provenance, result), metrics.jsonl (curves, as `flat plot` draws them),
 * evals/before and evals/after (figures and examples side by side), every other <SUITE>_SUMMARY.json at most two folders
 * down, and attack*.json. What is not there is left out, and the page says so. The page needs nothing beside itself: no script, no
 * font, no picture; it forbids them to itself, since models and data wrote the texts that it shows.
 */
#ifndef FLAT_CLI_REPORT_REPORT_H
#define FLAT_CLI_REPORT_REPORT_H
#include "../../eval/suite/eval_log.h"
#include "html.h"

enum { REPORT_RUNS_MAX = 12, REPORT_FILES_MAX = 64, REPORT_SETS_MAX = 16 };

/* A file of results in a run's folder. */
struct report_file {
    char name[600]; /* in the folder: "evals/tofu/TOFU_SUMMARY.json" */
    cJSON *json;
};

struct report_run {
    const char *path, *name; /* the folder, and what the page calls it */
    cJSON *record;           /* run.json; NULL: not there */
    bool has_metrics;
    struct eval_log before, after; /* metrics NULL: not there */
    struct report_file summary[REPORT_FILES_MAX], attack[REPORT_FILES_MAX];
    int summaries, attacks;
};

struct report {
    struct report_run *run;
    int runs;
    char set[REPORT_SETS_MAX][64]; /* [sets] that evals/ asked, forget first */
    int sets;
    int examples;                  /* of each set */
};

/* Reads the folders. STATUS_INPUT names a file that cannot be what its name says, and a folder without any of them.
 * report_free after a failure too. */
int report_read(struct report *report, const char *const *run_dirs, int runs, struct log *log, struct error *error);
void report_free(struct report *report);

/* report_page.c: the whole page. */
int report_write(const struct report *report, struct buffer *out, struct error *error);

/* What the parts of the page share. A run is new in its base where no run before it began with the same model. */
bool report_base_is_new(const struct report *report, int run);
const cJSON *report_config(const struct report_run *run); /* NULL: there is none */
/* A string of the run's settings; "" where there is none. */
const char *report_setting(const struct report_run *run, const char *key);

/* report_figures.c, report_examples.c, report_settings.c: sections; nothing where no run has any of it. */
void report_figures(struct html *html, const struct report *report);
void report_findings(struct html *html, const struct report *report);
void report_suites(struct html *html, const struct report *report);
void report_attacks(struct html *html, const struct report *report);
void report_examples(struct html *html, const struct report *report);
void report_settings(struct html *html, const struct report *report);
void report_provenance(struct html *html, const struct report *report);

#endif

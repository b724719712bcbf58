/* plot.h - the curves of runs, and bars of measurements, as SVG: `flat plot`.
 *
 * Runs are read from RUN_DIR/metrics.jsonl, one object per line with an integer "step":
 *   training lines: prob_<name>, loss, loss_<name>, grad_norm, learning_rate, slope_<name>, epoch; null is a gap
 *   evaluation lines: "eval": name, prob_mean
 * Other keys are ignored, series that are absent are left out, steps that a resumed run wrote again replace the old.
 * RUN_DIR/run.json, where it is there, says the method and the machine.
 *
 * Bars are read from a JSON file, as benches/report.py writes it:
 *   {"title": "...", "subtitle": "...", "unit": "seconds", "digits": 2, "mark": 1, "mark_label": "1: a tie",
 *    "bars": [{"label": "...", "value": 2.5, "low": 2.4, "high": 2.7, "other": false}, ...]}
 * All but title, unit, bars, label and value may be absent.
 */
#ifndef FLAT_CLI_PLOT_PLOT_H
#define FLAT_CLI_PLOT_PLOT_H
#include <stdbool.h>
#include <stddef.h>

#include "../../util/error.h"
#include "../../util/memory.h"

enum { PLOT_RUNS_MAX = 12 };

/* Writes the file output: the curves of one run, or those of several in the same panels. STATUS_INPUT names metrics.jsonl
 * and the line; a last line without its newline, as a running program may leave it, is passed over when it is not
 * complete. */
int plot_runs(const char *const *run_dirs, size_t count, const char *output, struct error *error);
/* The same as SVG, appended to *out. STATUS_INPUT also where there is nothing to draw. */
int plot_runs_draw(const char *const *run_dirs, size_t count, struct buffer *out, struct error *error);
/* Writes the bars of a JSON file. STATUS_INPUT names the file and the key. */
int plot_bars(const char *path, const char *output, struct error *error);
/* Whether what is to be plotted is such a file, by its ending. */
bool plot_is_bars(const char *path);
/* The name of the picture where none was given: curves.svg in the folder of one run, and in the working directory for
 * several; of bars the file's name with the ending .svg. STATUS_USAGE when it is too long. */
int plot_output_name(const char *const *what, size_t count, char *out, size_t out_bytes, struct error *error);

#endif

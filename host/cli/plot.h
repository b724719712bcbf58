/* plot.h - the curves of a run as SVG: `flat plot RUN_DIR -o FILE.svg`.
 *
 * Read from RUN_DIR/metrics.jsonl, one object a line with an integer "step":
 *   training lines: prob_<name>, loss, grad_norm, learning_rate, slope_<name>, epoch; null is a gap
 *   evaluation lines: "eval": name, prob_mean
 * Other keys are ignored, series that are absent are left out, steps that a resumed run wrote again replace the old.
 */
#ifndef FLAT_CLI_PLOT_H
#define FLAT_CLI_PLOT_H
#include "../util/error.h"

/* Writes the file output. STATUS_INPUT names metrics.jsonl and the line; a last line without its newline, as a
 * running program may leave it, is passed over when it is not complete. */
int plot_run(const char *run_dir, const char *output, struct error *error);

#endif

/* chart.h - line charts in panels that share their x axis, as one SVG. Knows nothing of runs and metrics. */
#ifndef FLAT_CLI_CHART_H
#define FLAT_CLI_CHART_H
#include <stdbool.h>
#include <stddef.h>

#include "../util/error.h"
#include "../util/memory.h"

enum { CHART_SERIES_MAX = 12 }; /* lines of a panel that an eye can still tell apart */

/* A line. x never falls; a y that is not finite is a gap. */
struct chart_series {
    char name[64];
    int color;   /* index of the palette */
    bool marked; /* dashed, with a dot at each point: few measurements */
    double *x, *y;
    size_t length, x_capacity, y_capacity;
};

struct chart_panel {
    const char *title;
    bool from_zero;        /* the y axis begins at 0 */
    double y_min, y_max;   /* fixed y axis; both 0 fits the data */
    struct chart_series series[CHART_SERIES_MAX];
    size_t count;
};

/* Drops points at or behind x first: a run that resumed writes those steps again. */
int chart_series_add(struct chart_series *series, double x, double y, struct error *error);
/* Frees the points of every series. */
void chart_panel_free(struct chart_panel *panel);
/* Draws the panels that have a finite point: the first over the whole width, the others side by side below.
 * Appends the SVG to *out. STATUS_INPUT when there is nothing to draw. */
int chart_draw(const char *title, const char *subtitle, const char *x_title, const struct chart_panel *panel,
               size_t panels, struct buffer *out, struct error *error);

#endif

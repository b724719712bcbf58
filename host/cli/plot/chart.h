/* chart.h - curves in panels, bars, and points, as one SVG each. Knows nothing of runs and measurements.
 *
 * All are legible in light and in dark mode (svg.h has the palette), name every line and bar in words beside it, and
 * say the unit of each axis.
 */
#ifndef FLAT_CLI_PLOT_CHART_H
#define FLAT_CLI_PLOT_CHART_H
#include <stdbool.h>
#include <stddef.h>

#include "../../util/error.h"
#include "../../util/memory.h"

enum { CHART_SERIES_MAX = 12, CHART_BARS_MAX = 100 }; /* what an eye can still tell apart */

struct chart_head {
    const char *title, *subtitle; /* subtitle may be "" */
};

/* A line. x never falls; a y that is not finite is a gap. */
struct chart_series {
    char name[64];
    int color;   /* of the palette's series, counted from 0 */
    bool marked; /* a dot at each point: few measurements */
    bool dashed;
    double *x, *y;
    size_t length, x_capacity, y_capacity;
};

struct chart_panel {
    const char *title, *unit;
    bool from_zero;      /* the y axis begins at 0 */
    double y_min, y_max; /* fixed y axis; both 0 fits the data */
    struct chart_series series[CHART_SERIES_MAX];
    size_t count;
};

struct chart_bar {
    const char *label;
    double value;
    double low, high; /* a whisker from low to high; none where they are equal */
    bool other;       /* what ours are compared with: in grey */
};

struct chart_bars {
    struct chart_head head;
    const char *unit;
    int digits;                 /* behind the point, of the values beside the bars */
    double mark;                /* where a line stands out: 1 of ratios, 100 of per cents; 0: none */
    const char *mark_label;
    struct chart_bar bar[CHART_BARS_MAX];
    size_t count;
};

/* Points of a plane with a front, and landmarks to measure them by. */
struct chart_point {
    const char *label;
    double x, y;   /* finite */
    bool landmark; /* drawn as a square, and named in bold */
    bool front;    /* joined by the line, in the order of x */
};
struct chart_points {
    struct chart_head head;
    const char *x_title, *y_title;
    struct chart_point *point; /* [count] sorted by the drawing */
    size_t count;
};

/* Drops points at or behind x first: a run that resumed writes those steps again. */
int chart_series_add(struct chart_series *series, double x, double y, struct error *error);
/* Frees the points of every series. */
void chart_panel_free(struct chart_panel *panel);
/* Draws the panels that have a finite point: the first over the whole width, the others in two columns below.
 * Appends the SVG to *out. STATUS_INPUT when there is nothing to draw. */
int chart_lines_draw(const struct chart_head *head, const char *x_title, const struct chart_panel *panel, size_t panels,
                     struct buffer *out, struct error *error);
/* Horizontal bars from 0, one below the other. Values are finite and not negative. */
int chart_bars_draw(const struct chart_bars *bars, struct buffer *out, struct error *error);
/* A point and its name each, the front as a line. */
int chart_points_draw(const struct chart_points *chart, struct buffer *out, struct error *error);

#endif

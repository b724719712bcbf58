/* axis.h - what both kinds of chart know of axes: round steps, their labels, a place on the page. */
#ifndef FLAT_CLI_PLOT_AXIS_H
#define FLAT_CLI_PLOT_AXIS_H
#include <stddef.h>

#include "../../util/svg.h"
#include "chart.h"

enum { PAGE_WIDTH = 960, PAGE_MARGIN = 24, PAGE_TOP = 78 /* title and subtitle */ };

/* Positions of labels: low + k * step up to high. */
struct axis {
    double low, high, step;
};
struct box {
    double left, top, right, bottom;
};

/* The nearest of 1, 2, 5 times a power of ten that gives at most `most` steps over a span. */
double axis_step(double span, int most);
/* As many digits as the step needs; powers of ten where plain digits would be many. largest: of the axis. */
void axis_label(double value, double step, double largest, char *out, size_t out_bytes);
/* The page with its title and subtitle. */
void chart_begin(struct svg *svg, const struct chart_head *head, double height, struct error *error);
/* Closes the page and appends it to *out. */
int chart_end(struct svg *svg, struct buffer *out, struct error *error);

#endif

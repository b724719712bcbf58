/* chart_points.c - points of a plane, each with its name, a front and landmarks; see chart.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "axis.h"

/* In pixels. */
enum { AXIS_LEFT = 64, AXIS_BOTTOM = 60, HEIGHT = 480, LABEL_SIZE = 12, LABELS_MOST = 60, LABEL_RIGHT = 90 };

static struct axis axis_fit(double low, double high, int most)
{
    if (high - low <= 1e-9 * fmax(fabs(low), fabs(high)) || high == low) { /* one value, in the middle of some room */
        const double room = high != 0 ? 0.5 * fabs(high) : 1;
        low -= room, high += room;
    }
    const double step = axis_step(high - low, most);
    return (struct axis){step * floor(low / step + 1e-9), step * ceil(high / step - 1e-9), step};
}

static double x_pixel(const struct box *box, const struct axis *x, double value)
{
    return box->left + (value - x->low) / (x->high - x->low) * (box->right - box->left);
}

static double y_pixel(const struct box *box, const struct axis *y, double value)
{
    return box->bottom - (value - y->low) / (y->high - y->low) * (box->bottom - box->top);
}

static void draw_axes(struct svg *svg, const struct chart_points *chart, const struct box *box, const struct axis *x,
                      const struct axis *y)
{
    const struct svg_font font = {11, false, SVG_PALE};
    char label[48];
    const int columns = (int)floor((x->high - x->low) / x->step + 1e-6), rows = (int)floor((y->high - y->low) / y->step + 1e-6);
    for (int k = 0; k <= rows; k++) {
        const double value = y->low + k * y->step, at = y_pixel(box, y, value);
        svg_line(svg, box->left, at, box->right, at, k ? SVG_GRID : SVG_AXIS, 1);
        axis_label(value, y->step, fmax(fabs(y->low), fabs(y->high)), label, sizeof label);
        svg_text(svg, box->left - 8, at + 4, SVG_END, font, label);
    }
    for (int k = 0; k <= columns; k++) {
        const double value = x->low + k * x->step, at = x_pixel(box, x, value);
        svg_line(svg, at, box->top, at, box->bottom, k ? SVG_GRID : SVG_AXIS, 1);
        axis_label(value, x->step, fmax(fabs(x->low), fabs(x->high)), label, sizeof label);
        svg_text(svg, at, box->bottom + 16, SVG_MIDDLE, font, label);
    }
    svg_text(svg, (box->left + box->right) / 2, box->bottom + 38, SVG_MIDDLE, font, chart->x_title);
    svg_text(svg, PAGE_MARGIN, box->top - 10, SVG_START, font, chart->y_title);
}

static int by_x(const void *a, const void *b)
{
    const struct chart_point *one = a, *other = b;
    if (one->x != other->x)
        return one->x < other->x ? -1 : 1;
    return strcmp(one->label, other->label);
}

int chart_points_draw(const struct chart_points *chart, struct buffer *out, struct error *error)
{
    const struct box box = {PAGE_MARGIN + AXIS_LEFT, PAGE_TOP + 20, PAGE_WIDTH - LABEL_RIGHT, PAGE_TOP + 20 + HEIGHT};
    double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
    struct svg svg;
    for (size_t i = 0; i < chart->count; i++) {
        low[0] = fmin(low[0], chart->point[i].x), high[0] = fmax(high[0], chart->point[i].x);
        low[1] = fmin(low[1], chart->point[i].y), high[1] = fmax(high[1], chart->point[i].y);
    }
    if (!chart->count)
        return error_set(error, STATUS_INPUT, "no point to draw");
    const struct axis x = axis_fit(low[0], high[0], 8), y = axis_fit(low[1], high[1], 8);
    qsort(chart->point, chart->count, sizeof *chart->point, by_x);
    chart_begin(&svg, &chart->head, box.bottom + AXIS_BOTTOM, error);
    draw_axes(&svg, chart, &box, &x, &y);
    svg_path_begin(&svg);
    for (size_t i = 0; i < chart->count; i++)
        if (chart->point[i].front)
            svg_path_point(&svg, x_pixel(&box, &x, chart->point[i].x), y_pixel(&box, &y, chart->point[i].y));
    svg_path_end(&svg, SVG_SERIES, 1.5, true);
    for (size_t i = 0; i < chart->count; i++) {
        const struct chart_point *point = &chart->point[i];
        const double at_x = x_pixel(&box, &x, point->x), at_y = y_pixel(&box, &y, point->y);
        const int color = point->landmark ? SVG_SERIES + 1 : point->front ? SVG_SERIES : SVG_OTHER;
        if (point->landmark)
            svg_rectangle(&svg, at_x - 5, at_y - 5, 10, 10, color);
        else
            svg_circle(&svg, at_x, at_y, 4.5, color);
        if (point->landmark || point->front || chart->count <= LABELS_MOST)
            svg_text(&svg, at_x + 8, at_y + 4, SVG_START,
                     (struct svg_font){LABEL_SIZE, point->landmark, point->landmark ? SVG_SERIES + 1 : SVG_INK}, point->label);
    }
    return chart_end(&svg, out, error);
}

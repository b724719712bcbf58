/* chart_lines.c - curves in panels that share their x axis; see chart.h.
 *
 * Each line is named where it ends, at the right of its panel, with its first and last value.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "axis.h"

/* In pixels. */
enum {
    GAP = 28, /* between panels */
    WIDE_HEIGHT = 330,
    SMALL_HEIGHT = 250,
    AXIS_LEFT = 58,   /* room of y labels */
    AXIS_BOTTOM = 40, /* room of x labels */
    HEAD_HEIGHT = 46, /* title and unit */
    LABEL_GAP = 14,   /* from the end of the axis to the names of lines */
    LABEL_MOST = 190,
    LABEL_CHARACTERS = 25, /* that fit */
    LABEL_SIZE = 12,
    LABEL_ROW = 14,
};

/* Values beyond this are gaps: no curve needs them, and their differences overflow. */
#define VALUE_MAX 1e300

struct range {
    double low, high;
};

/* What stands at the end of a line. */
struct label {
    const struct chart_series *series;
    char name[128], values[64];
    double end_x, end_y; /* pixels */
    double y;            /* of the label's middle, where it does not cover others */
};

int chart_series_add(struct chart_series *series, double x, double y, struct error *error)
{
    while (series->length && series->x[series->length - 1] >= x)
        series->length--;
    int status = memory_grow(&series->x, &series->x_capacity, series->length + 1, sizeof *series->x, error);
    if (!status)
        status = memory_grow(&series->y, &series->y_capacity, series->length + 1, sizeof *series->y, error);
    if (status)
        return status;
    series->x[series->length] = x;
    series->y[series->length++] = fabs(y) < VALUE_MAX ? y : NAN;
    return STATUS_OK;
}

void chart_panel_free(struct chart_panel *panel)
{
    for (size_t i = 0; i < panel->count; i++) {
        free(panel->series[i].x);
        free(panel->series[i].y);
    }
    *panel = (struct chart_panel){0};
}

/* Finite points of a panel widen the ranges; returns how many there are. */
static size_t panel_range(const struct chart_panel *panel, struct range *x, struct range *y)
{
    size_t points = 0;
    for (size_t i = 0; i < panel->count; i++)
        for (size_t k = 0; k < panel->series[i].length; k++) {
            double px = panel->series[i].x[k], py = panel->series[i].y[k];
            if (!isfinite(py))
                continue;
            x->low = fmin(x->low, px), x->high = fmax(x->high, px);
            y->low = fmin(y->low, py), y->high = fmax(y->high, py);
            points++;
        }
    return points;
}

static struct axis y_axis(const struct chart_panel *panel, struct range y, int most)
{
    if (panel->y_min < panel->y_max)
        return (struct axis){panel->y_min, panel->y_max, axis_step(panel->y_max - panel->y_min, most)};
    if (panel->from_zero && y.low > 0)
        y.low = 0;
    double size = fmax(fabs(y.low), fabs(y.high));
    if (y.high - y.low <= 1e-9 * size || y.high == y.low) { /* a flat line, in the middle of some room */
        double room = size > 0 ? 0.5 * size : 1;
        y.low -= panel->from_zero && y.low == 0 ? 0 : room;
        y.high += room;
    }
    double step = axis_step(y.high - y.low, most);
    return (struct axis){step * floor(y.low / step + 1e-9), step * ceil(y.high / step - 1e-9), step};
}

static double x_pixel(const struct box *box, struct range x, double value)
{
    return box->left + (value - x.low) / (x.high - x.low) * (box->right - box->left);
}

static double y_pixel(const struct box *box, const struct axis *y, double value)
{
    double share = (value - y->low) / (y->high - y->low);
    return box->bottom - fmin(fmax(share, 0), 1) * (box->bottom - box->top);
}

static void draw_axes(struct svg *svg, const struct box *box, struct range x, const struct axis *y, const char *x_title)
{
    const struct svg_font font = {11, false, SVG_PALE};
    char label[48];
    double largest = fmax(fabs(y->low), fabs(y->high));
    int rows = (int)floor((y->high - y->low) / y->step + 1e-6);
    for (int k = 0; k <= rows; k++) {
        double value = y->low + k * y->step, at = y_pixel(box, y, value);
        svg_line(svg, box->left, at, box->right, at, k ? SVG_GRID : SVG_AXIS, 1);
        axis_label(value, y->step, largest, label, sizeof label);
        svg_text(svg, box->left - 8, at + 4, SVG_END, font, label);
    }
    double step = fmax(axis_step(x.high - x.low, box->right - box->left > 500 ? 10 : 5), 1);
    for (double value = step * ceil(x.low / step); value <= x.high; value += step) {
        double at = x_pixel(box, x, value);
        svg_line(svg, at, box->bottom, at, box->bottom + 4, SVG_AXIS, 1);
        axis_label(value, step, x.high, label, sizeof label);
        svg_text(svg, at, box->bottom + 17, SVG_MIDDLE, font, label);
    }
    svg_text(svg, (box->left + box->right) / 2, box->bottom + 34, SVG_MIDDLE, font, x_title);
}

/* Points first..last fall on one column of pixels: the first, the extremes and the last say all there is to see. */
static void draw_column(struct svg *svg, const struct chart_series *s, size_t first, size_t last, double at,
                        const struct box *box, const struct axis *y)
{
    size_t low = first, high = first;
    for (size_t k = first; k <= last; k++) {
        low = s->y[k] < s->y[low] ? k : low;
        high = s->y[k] > s->y[high] ? k : high;
    }
    size_t order[4] = {first, low < high ? low : high, low < high ? high : low, last};
    for (int i = 0; i < 4; i++)
        if (i == 0 || order[i] != order[i - 1])
            svg_path_point(svg, at, y_pixel(box, y, s->y[order[i]]));
}

static void draw_series(struct svg *svg, const struct chart_series *s, const struct box *box, struct range x,
                        const struct axis *y)
{
    const int color = SVG_SERIES + s->color % SVG_SERIES_COLORS;
    bool dense = s->length > (size_t)(box->right - box->left);
    svg_path_begin(svg);
    for (size_t k = 0; k < s->length; k++) {
        if (!isfinite(s->y[k])) {
            svg_path_lift(svg);
            continue;
        }
        size_t last = k;
        double at = x_pixel(box, x, s->x[k]);
        while (dense && last + 1 < s->length && isfinite(s->y[last + 1]) &&
               floor(x_pixel(box, x, s->x[last + 1])) == floor(at))
            last++;
        draw_column(svg, s, k, last, at, box, y);
        k = last;
    }
    svg_path_end(svg, color, 1.8, s->dashed);
    for (size_t k = 0; k < s->length; k++) {
        bool alone = (k == 0 || !isfinite(s->y[k - 1])) && (k + 1 == s->length || !isfinite(s->y[k + 1]));
        if (isfinite(s->y[k]) && ((s->marked && !dense) || alone)) /* a lone point has no line to be seen by */
            svg_circle(svg, x_pixel(box, x, s->x[k]), y_pixel(box, y, s->y[k]), 3, color);
    }
}

/* A name, with an ellipsis where it is cut. */
static void label_name(const char *name, char *out, size_t out_bytes)
{
    size_t bytes = 0;
    for (int characters = 0; name[bytes]; bytes++)
        if (((unsigned char)name[bytes] & 0xc0) != 0x80 && ++characters > LABEL_CHARACTERS)
            break;
    snprintf(out, out_bytes, "%.*s%s", (int)bytes, name, name[bytes] ? "\xe2\x80\xa6" : "");
}

/* The texts of a line's label, and the index of its last point; false for a line without a finite point. */
static bool label_make(struct label *label, const struct chart_series *s, size_t *last)
{
    size_t first = s->length;
    for (size_t k = 0; k < s->length; k++)
        if (isfinite(s->y[k])) {
            first = first < s->length ? first : k;
            *last = k;
        }
    if (first == s->length)
        return false;
    *label = (struct label){.series = s};
    label_name(s->name, label->name, sizeof label->name);
    if (first == *last)
        snprintf(label->values, sizeof label->values, "%.3g", s->y[first]);
    else
        snprintf(label->values, sizeof label->values, "%.3g \xe2\x86\x92 %.3g", s->y[first], s->y[*last]);
    return true;
}

static double label_height(const struct label *label) { return label->name[0] ? 2 * LABEL_ROW + 4 : LABEL_ROW; }

/* Sorts labels by where their lines end and moves them apart, within the panel as long as there is room. */
static void labels_place(struct label *label, size_t count, double top, double bottom)
{
    for (size_t i = 1; i < count; i++)
        for (size_t k = i; k && label[k - 1].end_y > label[k].end_y; k--) {
            struct label swap = label[k];
            label[k] = label[k - 1];
            label[k - 1] = swap;
        }
    double free_from = top;
    for (size_t i = 0; i < count; i++) {
        double half = label_height(&label[i]) / 2;
        label[i].y = fmax(label[i].end_y, free_from + half);
        free_from = label[i].y + half;
    }
    for (size_t i = count; i-- && bottom >= top;) {
        double half = label_height(&label[i]) / 2;
        label[i].y = fmin(label[i].y, bottom - half);
        bottom = label[i].y - half;
    }
}

static void draw_label(struct svg *svg, const struct label *label, double x)
{
    const int color = SVG_SERIES + label->series->color % SVG_SERIES_COLORS;
    const double base = label->y + 4;
    svg_line(svg, label->end_x + 2, label->end_y, x - 3, label->y, SVG_AXIS, 0.7);
    if (label->name[0])
        svg_text(svg, x, base - LABEL_ROW / 2.0, SVG_START, (struct svg_font){LABEL_SIZE, true, color}, label->name);
    svg_text(svg, x, base + (label->name[0] ? LABEL_ROW / 2.0 : 0), SVG_START,
             (struct svg_font){LABEL_SIZE, false, label->name[0] ? SVG_INK : color}, label->values);
}

static void draw_panel(struct svg *svg, const struct chart_panel *panel, const struct box *outer, struct range x,
                       const char *x_title)
{
    struct range own_x = x, y = {INFINITY, -INFINITY};
    struct label label[CHART_SERIES_MAX];
    size_t count = 0, last[CHART_SERIES_MAX];
    double widest = 0;
    panel_range(panel, &own_x, &y);
    for (size_t i = 0; i < panel->count; i++)
        if (label_make(&label[count], &panel->series[i], &last[count])) {
            widest = fmax(widest, fmax(svg_text_width(label[count].name, LABEL_SIZE + 1),
                                       svg_text_width(label[count].values, LABEL_SIZE)));
            count++;
        }
    widest = fmin(widest, LABEL_MOST);
    const struct box box = {outer->left + AXIS_LEFT, outer->top + HEAD_HEIGHT, outer->right - LABEL_GAP - widest,
                            outer->bottom - AXIS_BOTTOM};
    svg_text(svg, outer->left, outer->top + 12, SVG_START, (struct svg_font){14, true, SVG_INK}, panel->title);
    svg_text(svg, outer->left, outer->top + 29, SVG_START, (struct svg_font){11, false, SVG_PALE}, panel->unit);
    const struct axis axis = y_axis(panel, y, 5);
    draw_axes(svg, &box, x, &axis, x_title);
    for (size_t i = 0; i < count; i++) {
        const struct chart_series *s = label[i].series;
        draw_series(svg, s, &box, x, &axis);
        label[i].end_x = x_pixel(&box, x, s->x[last[i]]);
        label[i].end_y = y_pixel(&box, &axis, s->y[last[i]]);
    }
    labels_place(label, count, box.top - LABEL_ROW, box.bottom + LABEL_ROW);
    for (size_t i = 0; i < count; i++)
        draw_label(svg, &label[i], box.right + LABEL_GAP);
}

int chart_lines_draw(const struct chart_head *head, const char *x_title, const struct chart_panel *panel, size_t panels,
                     struct buffer *out, struct error *error)
{
    struct range x = {0, 1}, y = {0, 0};
    size_t shown = 0, drawn = 0;
    for (size_t i = 0; i < panels; i++)
        shown += panel_range(&panel[i], &x, &y) > 0;
    if (!shown)
        return error_set(error, STATUS_INPUT, "no numbers to draw");
    const size_t small = shown - 1, columns = small == 1 ? 1 : 2, rows = (small + columns - 1) / columns;
    const double inner = PAGE_WIDTH - 2 * PAGE_MARGIN;
    const double width = (inner - (double)(columns - 1) * GAP) / (double)columns;
    const double height = PAGE_TOP + WIDE_HEIGHT + PAGE_MARGIN + (double)rows * (SMALL_HEIGHT + GAP);

    struct svg svg;
    chart_begin(&svg, head, height, error);
    for (size_t i = 0; i < panels; i++) {
        struct range own_x = x, own_y = y;
        if (!panel_range(&panel[i], &own_x, &own_y))
            continue;
        struct box box = {PAGE_MARGIN, PAGE_TOP, PAGE_MARGIN + inner, PAGE_TOP + WIDE_HEIGHT};
        if (drawn) {
            box.left += (double)((drawn - 1) % columns) * (width + GAP);
            box.right = box.left + width;
            box.top += WIDE_HEIGHT + GAP + (double)((drawn - 1) / columns) * (SMALL_HEIGHT + GAP);
            box.bottom = box.top + SMALL_HEIGHT;
        }
        draw_panel(&svg, &panel[i], &box, x, x_title);
        drawn++;
    }
    return chart_end(&svg, out, error);
}

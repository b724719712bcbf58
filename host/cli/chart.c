/* chart.c - see chart.h. */
#include "chart.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../util/svg.h"

/* Page and panels, in pixels. */
enum {
    PAGE_WIDTH = 960,
    PAGE_MARGIN = 24,
    PAGE_TOP = 76,   /* title and subtitle */
    GAP = 28,        /* between panels */
    WIDE_HEIGHT = 330,
    SMALL_HEIGHT = 250,
    AXIS_LEFT = 58,  /* room of y labels */
    AXIS_BOTTOM = 40, /* room of x labels */
    TITLE_HEIGHT = 24,
    LEGEND_ROW = 18,
};

/* Values beyond this are gaps: no curve needs them, and their differences overflow. */
#define VALUE_MAX 1e300

static const char *const ink = "#1f2933", *const pale_ink = "#616e7c", *const grid = "#e4e7eb", *const axis = "#9aa5b1";
/* Okabe and Ito's colours for colour-blind readers, without the yellow. */
static const char *const palette[] = {"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"};
#define PALETTE (sizeof palette / sizeof palette[0])

struct range {
    double low, high;
};
/* Positions of labels: low + k * step up to high. */
struct ticks {
    double low, high, step;
};
struct box {
    double left, top, right, bottom;
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

/* The nearest of 1, 2, 5 times a power of ten that gives at most `most` steps. */
static double nice_step(double span, int most)
{
    double rough = span / most, power = pow(10, floor(log10(rough))), digit = rough / power;
    return power * (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10);
}

static struct ticks y_ticks(const struct chart_panel *panel, struct range y, int most)
{
    if (panel->y_min < panel->y_max)
        return (struct ticks){panel->y_min, panel->y_max, nice_step(panel->y_max - panel->y_min, most)};
    if (panel->from_zero && y.low > 0)
        y.low = 0;
    double size = fmax(fabs(y.low), fabs(y.high));
    if (y.high - y.low <= 1e-9 * size || y.high == y.low) { /* a flat line, in the middle of some room */
        double room = size > 0 ? 0.5 * size : 1;
        y.low -= panel->from_zero && y.low == 0 ? 0 : room;
        y.high += room;
    }
    double step = nice_step(y.high - y.low, most);
    return (struct ticks){step * floor(y.low / step + 1e-9), step * ceil(y.high / step - 1e-9), step};
}

/* As many digits as the step needs; powers of ten where plain digits would be many. */
static void tick_format(double value, double step, double largest, char *out, size_t out_bytes)
{
    if (fabs(value) < 1e-9 * step) {
        snprintf(out, out_bytes, "0");
        return;
    }
    int step_power = (int)floor(log10(step) + 1e-9);
    if (largest < 1e5 && step_power >= -3) {
        snprintf(out, out_bytes, "%.*f", step_power < 0 ? -step_power : 0, value);
        return;
    }
    int power = (int)floor(log10(fabs(value)) + 1e-9), digits = power - step_power;
    snprintf(out, out_bytes, "%.*fe%d", digits > 0 ? digits : 0, value / pow(10, power), power);
}

static double x_pixel(const struct box *box, struct range x, double value)
{
    return box->left + (value - x.low) / (x.high - x.low) * (box->right - box->left);
}

static double y_pixel(const struct box *box, const struct ticks *y, double value)
{
    double share = (value - y->low) / (y->high - y->low);
    return box->bottom - fmin(fmax(share, 0), 1) * (box->bottom - box->top);
}

static void draw_axes(struct svg *svg, const struct box *box, struct range x, const struct ticks *y,
                      const char *x_title)
{
    const struct svg_font font = {11, false, pale_ink};
    char label[48];
    double largest = fmax(fabs(y->low), fabs(y->high));
    int rows = (int)floor((y->high - y->low) / y->step + 1e-6);
    for (int k = 0; k <= rows; k++) {
        double value = y->low + k * y->step, at = y_pixel(box, y, value);
        svg_line(svg, box->left, at, box->right, at, k ? grid : axis, 1);
        tick_format(value, y->step, largest, label, sizeof label);
        svg_text(svg, box->left - 8, at + 4, SVG_END, font, label);
    }
    double step = fmax(nice_step(x.high - x.low, box->right - box->left > 500 ? 10 : 5), 1);
    for (double value = step * ceil(x.low / step); value <= x.high; value += step) {
        double at = x_pixel(box, x, value);
        svg_line(svg, at, box->bottom, at, box->bottom + 4, axis, 1);
        tick_format(value, step, x.high, label, sizeof label);
        svg_text(svg, at, box->bottom + 17, SVG_MIDDLE, font, label);
    }
    svg_text(svg, (box->left + box->right) / 2, box->bottom + 34, SVG_MIDDLE, font, x_title);
}

/* Points first..last fall on one column of pixels: the first, the extremes and the last say all there is to see. */
static void draw_column(struct svg *svg, const struct chart_series *s, size_t first, size_t last, double at,
                        const struct box *box, const struct ticks *y)
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
                        const struct ticks *y)
{
    const char *color = palette[(size_t)s->color % PALETTE];
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
    svg_path_end(svg, color, 1.8, s->marked);
    for (size_t k = 0; k < s->length; k++) {
        bool alone = (k == 0 || !isfinite(s->y[k - 1])) && (k + 1 == s->length || !isfinite(s->y[k + 1]));
        if (isfinite(s->y[k]) && ((s->marked && !dense) || alone)) /* a lone point has no line to be seen by */
            svg_circle(svg, x_pixel(box, x, s->x[k]), y_pixel(box, y, s->y[k]), 3, color);
    }
}

/* "forget: 0.897 -> 0.041": what the reader looks for first. */
static void legend_text(const struct chart_series *s, char *out, size_t out_bytes)
{
    double first = NAN, last = NAN;
    for (size_t k = 0; k < s->length; k++)
        if (isfinite(s->y[k])) {
            first = isfinite(first) ? first : s->y[k];
            last = s->y[k];
        }
    snprintf(out, out_bytes, "%s%s%.3g \xe2\x86\x92 %.3g", s->name, *s->name ? ": " : "", first, last);
}

/* Width of a text at size 12; close enough to place the next entry. */
static double text_width(const char *text)
{
    double width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80 ? 6.8 : 0;
    return width;
}

static bool series_empty(const struct chart_series *s)
{
    for (size_t k = 0; k < s->length; k++)
        if (isfinite(s->y[k]))
            return false;
    return true;
}

/* Entries from left to right, in rows. Draws when svg is not NULL; returns the number of rows. */
static int legend_layout(struct svg *svg, const struct chart_panel *panel, const struct box *box)
{
    double x = box->left, y = box->top + TITLE_HEIGHT + 6;
    int rows = 1;
    for (size_t i = 0; i < panel->count; i++) {
        const struct chart_series *s = &panel->series[i];
        char text[160];
        if (series_empty(s))
            continue;
        legend_text(s, text, sizeof text);
        double width = 26 + text_width(text) + 18;
        if (x > box->left && x + width > box->right) {
            x = box->left;
            y += LEGEND_ROW;
            rows++;
        }
        if (svg) {
            svg_path_begin(svg);
            svg_path_point(svg, x, y);
            svg_path_point(svg, x + 20, y);
            svg_path_end(svg, palette[(size_t)s->color % PALETTE], 2.4, s->marked);
            svg_text(svg, x + 26, y + 4, SVG_START, (struct svg_font){12, false, ink}, text);
        }
        x += width;
    }
    return rows;
}

static void draw_panel(struct svg *svg, const struct chart_panel *panel, const struct box *outer, struct range x,
                       const char *x_title)
{
    struct range own_x = x, y = {INFINITY, -INFINITY};
    panel_range(panel, &own_x, &y);
    struct box box = {outer->left + AXIS_LEFT, outer->top, outer->right - 12, outer->bottom - AXIS_BOTTOM};
    svg_text(svg, box.left, outer->top + 12, SVG_START, (struct svg_font){14, true, ink}, panel->title);
    int rows = legend_layout(svg, panel, &box);
    box.top += TITLE_HEIGHT + rows * LEGEND_ROW + 8;
    struct ticks ticks = y_ticks(panel, y, 5);
    draw_axes(svg, &box, x, &ticks, x_title);
    for (size_t i = 0; i < panel->count; i++)
        if (!series_empty(&panel->series[i]))
            draw_series(svg, &panel->series[i], &box, x, &ticks);
}

int chart_draw(const char *title, const char *subtitle, const char *x_title, const struct chart_panel *panel,
               size_t panels, struct buffer *out, struct error *error)
{
    struct range x = {0, 1}, y = {0, 0};
    size_t shown = 0, drawn = 0;
    for (size_t i = 0; i < panels; i++)
        shown += panel_range(&panel[i], &x, &y) > 0;
    if (!shown)
        return error_set(error, STATUS_INPUT, "no numbers to draw");
    size_t small = shown - 1, columns = small <= 3 ? small : 2, lines = small ? (small + columns - 1) / columns : 0;
    double inner = PAGE_WIDTH - 2 * PAGE_MARGIN, height = PAGE_TOP + WIDE_HEIGHT + PAGE_MARGIN;
    height += (double)lines * (SMALL_HEIGHT + GAP);
    double width = columns ? (inner - (double)(columns - 1) * GAP) / (double)columns : inner;

    struct svg svg;
    svg_begin(&svg, PAGE_WIDTH, height, title, error);
    svg_text(&svg, PAGE_MARGIN, 36, SVG_START, (struct svg_font){20, true, ink}, title);
    svg_text(&svg, PAGE_MARGIN, 57, SVG_START, (struct svg_font){13, false, pale_ink}, subtitle);
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
    int status = svg_end(&svg);
    if (!status)
        status = buffer_append(out, svg.text.data, svg.text.length, error);
    buffer_free(&svg.text);
    return status;
}

/* chart_bars.c - horizontal bars, each with its name at the left and its value at the right; see chart.h. */
#include <math.h>
#include <stdio.h>

#include "axis.h"

/* In pixels. */
enum { ROW = 30, BAR = 18, LABEL_SIZE = 13, LABEL_MOST = 420, VALUE_ROOM = 96, AXIS_BOTTOM = 56 };

static double bars_longest(const struct chart_bars *bars, double *labels)
{
    double longest = bars->mark;
    *labels = 0;
    for (size_t i = 0; i < bars->count; i++) {
        longest = fmax(longest, fmax(bars->bar[i].value, bars->bar[i].high));
        *labels = fmax(*labels, svg_text_width(bars->bar[i].label, LABEL_SIZE));
    }
    *labels = fmin(*labels, LABEL_MOST);
    return longest > 0 ? longest : 1;
}

static void draw_axis(struct svg *svg, const struct chart_bars *bars, const struct box *box, const struct axis *axis,
                      double scale)
{
    const struct svg_font font = {11, false, SVG_PALE};
    const int steps = (int)floor(axis->high / axis->step + 1e-6);
    char label[48];
    for (int k = 0; k <= steps; k++) {
        const double at = box->left + k * axis->step * scale;
        svg_line(svg, at, box->top, at, box->bottom, k ? SVG_GRID : SVG_AXIS, 1);
        axis_label(k * axis->step, axis->step, axis->high, label, sizeof label);
        svg_text(svg, at, box->bottom + 16, SVG_MIDDLE, font, label);
    }
    svg_text(svg, (box->left + box->right) / 2, box->bottom + 34, SVG_MIDDLE, font, bars->unit);
}

static void draw_bar(struct svg *svg, const struct chart_bars *bars, const struct chart_bar *bar, const struct box *box,
                     double middle, double scale)
{
    char value[64];
    double end = box->left + bar->value * scale;
    svg_text(svg, box->left - 10, middle + 4, SVG_END, (struct svg_font){LABEL_SIZE, false, SVG_INK}, bar->label);
    svg_rectangle(svg, box->left, middle - BAR / 2.0, fmax(end - box->left, 1), BAR, bar->other ? SVG_OTHER : SVG_SERIES);
    if (bar->low < bar->high) {
        const double low = box->left + bar->low * scale, high = box->left + bar->high * scale;
        svg_line(svg, low, middle, high, middle, SVG_INK, 1.2);
        svg_line(svg, low, middle - 4, low, middle + 4, SVG_INK, 1.2);
        svg_line(svg, high, middle - 4, high, middle + 4, SVG_INK, 1.2);
        end = fmax(end, high);
    }
    snprintf(value, sizeof value, "%.*f", bars->digits, bar->value);
    svg_text(svg, end + 8, middle + 4, SVG_START, (struct svg_font){LABEL_SIZE, true, SVG_INK}, value);
}

int chart_bars_draw(const struct chart_bars *bars, struct buffer *out, struct error *error)
{
    double labels;
    const double longest = bars_longest(bars, &labels);
    const struct axis axis = {0, longest, axis_step(longest, 8)};
    const double top = PAGE_TOP + (bars->mark > 0 ? 20 : 4);
    const struct box box = {PAGE_MARGIN + labels + 10, top, PAGE_WIDTH - VALUE_ROOM, top + (double)bars->count * ROW};
    const double scale = (box.right - box.left) / longest;

    struct svg svg;
    chart_begin(&svg, &bars->head, box.bottom + AXIS_BOTTOM, error);
    draw_axis(&svg, bars, &box, &axis, scale);
    for (size_t i = 0; i < bars->count; i++)
        draw_bar(&svg, bars, &bars->bar[i], &box, box.top + ((double)i + 0.5) * ROW, scale);
    if (bars->mark > 0) {
        const double at = box.left + bars->mark * scale;
        svg_line(&svg, at, box.top - 4, at, box.bottom, SVG_SERIES + 1, 1.5);
        svg_text(&svg, at, box.top - 9, at > (box.left + box.right) / 2 ? SVG_END : SVG_START,
                 (struct svg_font){12, true, SVG_SERIES + 1}, bars->mark_label);
    }
    return chart_end(&svg, out, error);
}

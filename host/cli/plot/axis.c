/* axis.c - see axis.h. */
#include "axis.h"

#include <math.h>
#include <stdio.h>

double axis_step(double span, int most)
{
    double rough = span / most, power = pow(10, floor(log10(rough))), digit = rough / power;
    return power * (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10);
}

void axis_label(double value, double step, double largest, char *out, size_t out_bytes)
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

void chart_begin(struct svg *svg, const struct chart_head *head, double height, struct error *error)
{
    svg_begin(svg, PAGE_WIDTH, height, head->title, error);
    svg_text(svg, PAGE_MARGIN, 36, SVG_START, (struct svg_font){20, true, SVG_INK}, head->title);
    svg_text(svg, PAGE_MARGIN, 57, SVG_START, (struct svg_font){13, false, SVG_PALE}, head->subtitle);
}

int chart_end(struct svg *svg, struct buffer *out, struct error *error)
{
    int status = svg_end(svg);
    if (!status)
        status = buffer_append(out, svg->text.data, svg->text.length, error);
    buffer_free(&svg->text);
    return status;
}

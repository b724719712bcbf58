/* svg.h - the few SVG elements that a chart needs, written into a buffer as valid XML.
 *
 * A failure sticks: after one, calls do nothing, and svg_end reports it. Coordinates are pixels from the top left.
 */
#ifndef FLAT_UTIL_SVG_H
#define FLAT_UTIL_SVG_H
#include <stdbool.h>

#include "error.h"
#include "memory.h"

struct svg {
    struct buffer text;
    int status;
    struct error *error;
    bool pen_down;
};

enum svg_anchor { SVG_START, SVG_MIDDLE, SVG_END };
struct svg_font {
    int size;
    bool bold;
    const char *color;
};

/* A white page; title is what a screen reader says. */
void svg_begin(struct svg *svg, double width, double height, const char *title, struct error *error);
/* text: XML's special characters are escaped; what is no UTF-8 or no printable character becomes '?'. */
void svg_text(struct svg *svg, double x, double y, enum svg_anchor anchor, struct svg_font font, const char *text);
void svg_line(struct svg *svg, double x1, double y1, double x2, double y2, const char *color, double width);
void svg_circle(struct svg *svg, double x, double y, double radius, const char *color);
/* A polyline with gaps: begin, points, lifts, end. */
void svg_path_begin(struct svg *svg);
void svg_path_point(struct svg *svg, double x, double y);
void svg_path_lift(struct svg *svg);
void svg_path_end(struct svg *svg, const char *color, double width, bool dashed);
/* Closes the document. The text is svg->text, freed with buffer_free, also after a failure. */
int svg_end(struct svg *svg);

#endif

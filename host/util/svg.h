/* svg.h - the few SVG elements that a chart needs, written into a buffer as valid XML, with one palette.
 *
 * Colours are named by what they are for and set in the picture's own style sheet, once for a light and once for a dark
 * page (prefers-color-scheme): the reader's browser picks, also where the picture is an <img> of another page. Paper is light.
 * A failure sticks: after one, calls do nothing, and svg_end reports it. Coordinates are pixels from the top left.
 */
#ifndef FLAT_UTIL_SVG_H
#define FLAT_UTIL_SVG_H
#include <stdbool.h>

#include "error.h"
#include "memory.h"

/* What a colour is for. Those from SVG_SERIES on tell lines and bars apart, also for colour-blind readers: contrast with
 * the page is at least 4.5 in both modes, so that text may have them too. */
enum svg_color { SVG_INK, SVG_PALE, SVG_GRID, SVG_AXIS, SVG_OTHER, SVG_SERIES };
enum { SVG_SERIES_COLORS = 7 };

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
    int color; /* enum svg_color, or SVG_SERIES + n */
};

/* An empty page; title is what a screen reader says. */
void svg_begin(struct svg *svg, double width, double height, const char *title, struct error *error);
/* text: XML's special characters are escaped; what is no UTF-8 or no printable character becomes '?'. */
void svg_text(struct svg *svg, double x, double y, enum svg_anchor anchor, struct svg_font font, const char *text);
void svg_line(struct svg *svg, double x1, double y1, double x2, double y2, int color, double width);
void svg_rectangle(struct svg *svg, double x, double y, double width, double height, int color);
void svg_circle(struct svg *svg, double x, double y, double radius, int color);
/* A polyline with gaps: begin, points, lifts, end. */
void svg_path_begin(struct svg *svg);
void svg_path_point(struct svg *svg, double x, double y);
void svg_path_lift(struct svg *svg);
void svg_path_end(struct svg *svg, int color, double width, bool dashed);
/* Closes the document. The text is svg->text, freed with buffer_free, also after a failure. */
int svg_end(struct svg *svg);

/* About how wide a text is, in pixels: enough to place what stands beside it. */
double svg_text_width(const char *text, int size);

#endif

/* svg.c - see svg.h. */
#include "svg.h"

#include <string.h>

#include "utf8.h"

enum { COLORS = SVG_SERIES + SVG_SERIES_COLORS };

/* Of Okabe and Ito's colours, darkened for a white page and lightened for a dark one until text in them reads well. */
static const struct {
    const char *light, *dark;
} palette[COLORS] = {
    [SVG_INK] = {"#1f2328", "#e6edf3"},   [SVG_PALE] = {"#59636e", "#9aa4af"}, [SVG_GRID] = {"#e4e7eb", "#2b323b"},
    [SVG_AXIS] = {"#818b98", "#6e7781"},  [SVG_OTHER] = {"#8c959f", "#6e7781"}, [SVG_SERIES] = {"#0068a8", "#58a6ff"},
    [SVG_SERIES + 1] = {"#b84a00", "#ff9248"}, [SVG_SERIES + 2] = {"#007a58", "#3fcf9a"},
    [SVG_SERIES + 3] = {"#a33a82", "#f08cc8"}, [SVG_SERIES + 4] = {"#806000", "#e3b341"},
    [SVG_SERIES + 5] = {"#5b51c4", "#a99cff"}, [SVG_SERIES + 6] = {"#4b535d", "#b9c2cc"},
};
static const char page_light[] = "#ffffff", page_dark[] = "#0d1117";

/* Keeps the first failure. */
#define EMIT(svg, ...)                                                                                                 \
    do {                                                                                                               \
        if (!(svg)->status)                                                                                            \
            (svg)->status = buffer_printf(&(svg)->text, (svg)->error, __VA_ARGS__);                                    \
    } while (0)

/* Characters that XML 1.0 forbids, and bytes that are no UTF-8, become '?'. */
static void emit_escaped(struct svg *svg, const char *text)
{
    size_t length = strlen(text);
    while (length && !svg->status) {
        uint32_t code = 0;
        int bytes = utf8_decode(text, length, &code);
        bool allowed = bytes && code >= 0x20 && code != 0x7f && code != 0xfffe && code != 0xffff;
        const char *entity = code == '&' ? "&amp;" : code == '<' ? "&lt;" : code == '>' ? "&gt;" : NULL;
        size_t used = bytes ? (size_t)bytes : 1;
        if (entity || !allowed)
            EMIT(svg, "%s", entity ? entity : "?");
        else
            svg->status = buffer_append(&svg->text, text, used, svg->error);
        text += used;
        length -= used;
    }
}

/* "c3" fills with colour 3, "l3" draws lines in it. */
static void emit_colors(struct svg *svg, bool dark)
{
    EMIT(svg, ".page{fill:%s}", dark ? page_dark : page_light);
    for (int i = 0; i < COLORS; i++) {
        const char *color = dark ? palette[i].dark : palette[i].light;
        EMIT(svg, ".c%d{fill:%s}.l%d{fill:none;stroke:%s}", i, color, i, color);
    }
}

void svg_begin(struct svg *svg, double width, double height, const char *title, struct error *error)
{
    *svg = (struct svg){.error = error};
    EMIT(svg, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
              "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "
              "role=\"img\" font-family=\"-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', "
              "sans-serif\">\n<title>", width, height, width, height);
    emit_escaped(svg, title);
    EMIT(svg, "</title>\n<style>");
    emit_colors(svg, false);
    EMIT(svg, "\n@media screen and (prefers-color-scheme: dark){");
    emit_colors(svg, true);
    EMIT(svg, "}</style>\n<rect class=\"page\" width=\"100%%\" height=\"100%%\"/>\n");
}

void svg_text(struct svg *svg, double x, double y, enum svg_anchor anchor, struct svg_font font, const char *text)
{
    static const char *const name[] = {"start", "middle", "end"};
    EMIT(svg, "<text class=\"c%d\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" font-size=\"%d\"%s>", font.color, x, y,
         name[anchor], font.size, font.bold ? " font-weight=\"600\"" : "");
    emit_escaped(svg, text);
    EMIT(svg, "</text>\n");
}

void svg_line(struct svg *svg, double x1, double y1, double x2, double y2, int color, double width)
{
    EMIT(svg, "<line class=\"l%d\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke-width=\"%.3g\"/>\n", color, x1,
         y1, x2, y2, width);
}

void svg_rectangle(struct svg *svg, double x, double y, double width, double height, int color)
{
    EMIT(svg, "<rect class=\"c%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"2\"/>\n", color, x, y, width,
         height);
}

void svg_circle(struct svg *svg, double x, double y, double radius, int color)
{
    EMIT(svg, "<circle class=\"c%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"/>\n", color, x, y, radius);
}

void svg_path_begin(struct svg *svg)
{
    EMIT(svg, "<path d=\"");
    svg->pen_down = false;
}

void svg_path_point(struct svg *svg, double x, double y)
{
    EMIT(svg, "%s%.1f %.1f", svg->pen_down ? "L" : "M", x, y);
    svg->pen_down = true;
}

void svg_path_lift(struct svg *svg)
{
    svg->pen_down = false;
}

void svg_path_end(struct svg *svg, int color, double width, bool dashed)
{
    EMIT(svg, "\" class=\"l%d\" stroke-width=\"%.3g\" stroke-linejoin=\"round\" stroke-linecap=\"round\"%s/>\n", color,
         width, dashed ? " stroke-dasharray=\"5 4\"" : "");
}

int svg_end(struct svg *svg)
{
    EMIT(svg, "</svg>\n");
    return svg->status;
}

double svg_text_width(const char *text, int size)
{
    double characters = 0;
    for (; *text; text++)
        characters += ((unsigned char)*text & 0xc0) != 0x80;
    return characters * size * 0.56;
}

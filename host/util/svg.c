/* svg.c - see svg.h. */
#include "svg.h"

#include <string.h>

#include "utf8.h"

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

void svg_begin(struct svg *svg, double width, double height, const char *title, struct error *error)
{
    *svg = (struct svg){.error = error};
    EMIT(svg, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
              "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "
              "role=\"img\" font-family=\"-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', "
              "sans-serif\">\n<title>", width, height, width, height);
    emit_escaped(svg, title);
    EMIT(svg, "</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n");
}

void svg_text(struct svg *svg, double x, double y, enum svg_anchor anchor, struct svg_font font, const char *text)
{
    static const char *const name[] = {"start", "middle", "end"};
    EMIT(svg, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" font-size=\"%d\"%s fill=\"%s\">", x, y, name[anchor],
         font.size, font.bold ? " font-weight=\"600\"" : "", font.color);
    emit_escaped(svg, text);
    EMIT(svg, "</text>\n");
}

void svg_line(struct svg *svg, double x1, double y1, double x2, double y2, const char *color, double width)
{
    EMIT(svg, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" stroke-width=\"%.3g\"/>\n", x1, y1,
         x2, y2, color, width);
}

void svg_circle(struct svg *svg, double x, double y, double radius, const char *color)
{
    EMIT(svg, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" fill=\"%s\"/>\n", x, y, radius, color);
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

void svg_path_end(struct svg *svg, const char *color, double width, bool dashed)
{
    EMIT(svg, "\" fill=\"none\" stroke=\"%s\" stroke-width=\"%.3g\" stroke-linejoin=\"round\" "
              "stroke-linecap=\"round\"%s/>\n", color, width, dashed ? " stroke-dasharray=\"5 4\"" : "");
}

int svg_end(struct svg *svg)
{
    EMIT(svg, "</svg>\n");
    return svg->status;
}

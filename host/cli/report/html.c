/* html.c - see html.h. */
#include "html.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../../util/utf8.h"

void html_markup(struct html *html, const char *format, ...)
{
    char small[512];
    va_list arguments;
    if (html->status)
        return;
    va_start(arguments, format);
    const int length = vsnprintf(small, sizeof small, format, arguments);
    va_end(arguments);
    if (length < (int)sizeof small)
        html->status = buffer_append(&html->text, small, (size_t)length, html->error);
    else
        html->status = error_set(html->error, STATUS_RUNTIME, "a piece of markup of %d bytes", length);
}

static void append(struct html *html, const char *bytes, size_t length)
{
    if (!html->status)
        html->status = buffer_append(&html->text, bytes, length, html->error);
}

/* What stands for a character in HTML; NULL: itself. */
static const char *entity_of(uint32_t code)
{
    switch (code) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    default: break;
    }
    const bool control = (code < 0x20 && code != '\t' && code != '\n') || (code >= 0x7f && code < 0xa0) ||
                         (code & 0xfffe) == 0xfffe || (code >= 0xfdd0 && code <= 0xfdef);
    return control ? "\xef\xbf\xbd" : NULL;
}

void html_text(struct html *html, const char *text)
{
    size_t length = text ? strlen(text) : 0;
    while (length && !html->status) {
        uint32_t code;
        const int bytes = utf8_decode(text, length, &code);
        const size_t used = bytes ? (size_t)bytes : utf8_invalid_length(text, length);
        const char *entity = bytes ? entity_of(code) : "\xef\xbf\xbd";
        if (entity)
            append(html, entity, strlen(entity));
        else
            append(html, text, used);
        text += used;
        length -= used;
    }
}

void html_element(struct html *html, const char *tag, const char *class, const char *text)
{
    if (class)
        html_markup(html, "<%s class=\"%s\">", tag, class);
    else
        html_markup(html, "<%s>", tag);
    html_text(html, text);
    html_markup(html, "</%s>\n", tag);
}

void html_number(struct html *html, double value, int digits)
{
    if (isfinite(value))
        html_markup(html, "<td class=\"number\">%.*g</td>\n", digits, value);
    else
        html_markup(html, "<td class=\"number\">\xe2\x80\x93</td>\n");
}

void html_words(struct html *html, const char *text)
{
    html_markup(html, "<td class=\"words\" dir=\"auto\">");
    html_text(html, text);
    html_markup(html, "</td>\n");
}

/* html.h - a page of HTML in a buffer: markup that the program writes, and texts of others, which never become markup.
 *
 * A failure sticks: after one, calls do nothing, and the page's status reports it.
 */
#ifndef FLAT_CLI_REPORT_HTML_H
#define FLAT_CLI_REPORT_HTML_H
#include <stdbool.h>

#include "../../util/error.h"
#include "../../util/memory.h"

struct html {
    struct buffer text; /* buffer_free, after a failure too */
    int status;
    struct error *error;
};

/* Markup. Its arguments are numbers and the program's own words alone: nothing is escaped. */
void html_markup(struct html *html, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A text, in an element or in a quoted attribute: the characters that HTML gives a meaning are escaped; what is no UTF-8, and
 * control characters but tab and line feed, become U+FFFD. NULL is "". */
void html_text(struct html *html, const char *text);
/* <tag>text</tag> with a class (NULL: none). */
void html_element(struct html *html, const char *tag, const char *class, const char *text);
/* A cell of a table: a number with so many significant digits, an en dash where it is not finite. */
void html_number(struct html *html, double value, int digits);
/* A cell of a text that a model or its data wrote: line breaks stay, and its direction is its own. */
void html_words(struct html *html, const char *text);

#endif

/* markdown.c - see model_card.h. */
#include <string.h>

#include "model_card.h"

/* The fence must be longer than every run of backticks inside. A bar would end a cell even in code: it is escaped. */
int markdown_code(const char *text, struct buffer *out, struct error *error)
{
    size_t longest = 0, run = 0;
    for (const char *at = text; *at; at++) {
        run = *at == '`' ? run + 1 : 0;
        longest = run > longest ? run : longest;
    }
    if (!*text)
        return STATUS_OK;
    int status = STATUS_OK;
    for (size_t i = 0; i <= longest && !status; i++)
        status = buffer_append(out, "`", 1, error);
    if (!status && longest)
        status = buffer_append(out, " ", 1, error);
    for (const char *at = text; *at && !status; at++)
        status = *at == '|'                    ? buffer_append(out, "\\|", 2, error)
                 : (unsigned char)*at < ' '    ? buffer_append(out, " ", 1, error)
                                               : buffer_append(out, at, 1, error);
    if (!status && longest)
        status = buffer_append(out, " ", 1, error);
    for (size_t i = 0; i <= longest && !status; i++)
        status = buffer_append(out, "`", 1, error);
    return status;
}

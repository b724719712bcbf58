/* messages.c - see messages.h. */
#include "messages.h"

#include "../util/error.h"
#include "../util/utf8.h"

void message_text_clean(char *text, size_t bytes)
{
    text[bytes - 1] = 0;
    utf8_clean_line(text);
}

int message_status(int32_t status)
{
    const bool known = (status >= STATUS_OK && status <= STATUS_PEER) || status == STATUS_SIGNAL;
    return known ? status : STATUS_RUNTIME;
}

/* chat_format.h - the language of the table of chat formats: what a row says, and the marks in its texts. Private to the
 * files chat_*.c: chat_formats.c is the table, chat_template.c writes conversations by it.
 *
 * A pattern is text with marks: bytes that no template's own text has. A mark is replaced, or it opens a stretch that
 * reaches to its END and is changed or left out. In C the marks are macros between string literals:
 *     "<|im_start|>" ROLE "\n" TRIM(CONTENT) "<|im_end|>" STOP "\n"
 */
#ifndef FLAT_IO_CHAT_FORMAT_H
#define FLAT_IO_CHAT_FORMAT_H
#include <stddef.h>
#include <stdint.h>

#include "../../util/error.h"
#include "../../util/memory.h"

enum chat_mark {
    MARK_BOS = 1, MARK_EOS, MARK_SOME_BOS, MARK_SOME_EOS, MARK_ROLE, MARK_TITLE, MARK_CONTENT, MARK_SYSTEM,
    /* 9, 10 and 13 are a tab and line ends */
    MARK_DATE = 11, MARK_STOP, MARK_RAISE = 14, MARK_END,
    MARK_TRIM, MARK_LSTRIP, MARK_JOIN_LINES, MARK_HALVE_LINES, MARK_AFTER_THOUGHT, MARK_CUT_THOUGHT, MARK_THOUGHT,
    MARK_TEXT, MARK_NO_TEXT, MARK_THINKING, MARK_NOT_THINKING, MARK_CLOSED, MARK_FIRST, MARK_APART,
    MARK_DONE
};

/* Replaced */
#define BOS "\x01"            /* the token's text; none is an error, as adding an undefined name to a text is in Jinja */
#define EOS "\x02"
#define SOME_BOS "\x03"       /* nothing where there is none, as an undefined name alone */
#define SOME_EOS "\x04"
#define ROLE "\x05"
#define TITLE "\x06"          /* the role with a capital first letter */
#define CONTENT "\x07"        /* of the turn */
#define SYSTEM "\x08"         /* content of the system turn, in the user turn that takes it up */
#define DATE "\x0b"
/* Acting */
#define STOP "\x0c"           /* what ends the turn (<|im_end|>) ends here; the rest is not the model's to say */
#define DONE "\x1e"           /* the same of a turn that nothing ends */
#define RAISE(text) "\x0e" text /* the template refuses: an error whose text is the rest of the pattern */
/* Stretches */
#define END "\x0f"
#define TRIM(x) "\x10" x END          /* without the white space around it, as Python's strip() */
#define LSTRIP(x) "\x11" x END        /* without leading newlines */
#define JOIN_LINES(x) "\x12" x END    /* CR LF as LF */
#define HALVE_LINES(x) "\x13" x END   /* two newlines as one */
#define AFTER_THOUGHT(x) "\x14" x END /* what follows the last </think>; all where there is none */
#define CUT_THOUGHT(x) "\x15" x END   /* the same, then without leading newlines where there was one */
#define THOUGHT(x) "\x16" x END       /* what stands in <think>, without newlines around it */
#define TEXT(x) "\x17" x END          /* x where the content is not empty */
#define NO_TEXT(x) "\x18" x END       /* x where it is */
#define THINKING(x) "\x19" x END      /* x where thinking is on */
#define NOT_THINKING(x) "\x1a" x END  /* x where it is not */
#define CLOSED(x) "\x1b" x END        /* x unless the turn is the last and no assistant turn is opened after it */
#define FIRST(x) "\x1c" x END         /* x in the first turn */
#define APART(x) "\x1d" x END         /* x unless the turn is the first or follows the assistant's */

enum chat_rule {
    ORDER_FIRST = 1,            /* the order of all roles is looked at before anything is written, not turn by turn */
    ORDER_OF_KNOWN = 2,         /* only user and assistant turns count in it */
    SYSTEM_ANYWHERE = 4,        /* no_system only where no turn at all is a system turn */
    SYSTEM_LAST = 8,            /* the system text is the last system turn's, and stands at the start */
    SYSTEMS_AT_START = 16,      /* all system turns are moved there, no_system stands before and after_systems behind */
    EMPTY_SYSTEM_IS_NONE = 32,
    SYSTEM_JOINS_USER = 64,     /* first_user only where a user turn follows the system turn, which must be followed */
    FIRST_TWO_USERS = 128,      /* first_user is for user turns among the first two turns */
    THINKS = 256,               /* thinking is on unless turned off */
    THINK_FLAGS = 512,          /* /think and /no_think in the system text turn it on and off, and are removed */
    NO_OPENING_AFTER_ASSISTANT = 1024, /* `opening` is not written after an assistant turn */
    NO_OPENING_ALONE = 2048,           /* nor after a lone system turn */
    ENDING_AFTER_ASSISTANT = 4096,     /* `ending` only after an assistant turn */
    DATE_STRING = 8192                 /* chat_options.date_string takes the place of DATE */
};

enum { CHAT_FINGERPRINTS = 4 };

/* NULL is "as `any`" for a turn, and "nothing" elsewhere and for `any`. "" is a turn that is left out. */
struct chat_format {
    const char *name;
    uint64_t fingerprint[CHAT_FINGERPRINTS]; /* of the templates that render so; 0: no more */
    unsigned rules;
    const char *order;             /* user and assistant must alternate after a first system turn, or this is the error */
    const char *start;             /* before everything */
    const char *no_system;         /* in place of a first system turn */
    const char *system;            /* first turn; and any other unless later_system */
    const char *later_system;
    const char *after_systems;
    const char *override;          /* THINK_FLAGS: in place of `system` where its text has /system_override */
    const char *any;
    const char *user, *assistant, *other;
    const char *first_user;        /* user turn after a first system turn, whose text it takes up as SYSTEM ... */
    const char *last_user;         /* ... or the user turn that ends the conversation */
    const char *last_assistant;    /* assistant turn that ends the conversation */
    const char *answer;            /* assistant turn after the last user turn: the last one, and any with a thought */
    const char *opening;           /* opens the assistant's turn where one is asked for */
    const char *ending;            /* where none is */
    const char *date;              /* strftime format of DATE; one without % is a constant */
};

extern const struct chat_format chat_formats[];
extern const int chat_format_count;

/* Changes what was written from `begin` on as the mark of its stretch says; nothing for the marks that only decide whether
 * it is written. */
void chat_stretch_apply(struct buffer *out, size_t begin, enum chat_mark mark);
/* Each `from` in what was written from `begin` on becomes `to`, which is no longer. */
void chat_replace(struct buffer *out, size_t begin, const char *from, const char *to);
/* What stands before the first </think>, from the last <think> on, without the newlines around it: its length, 0 for none. */
size_t chat_thought_find(const char *text, const char **thought);

/* Hash of what a Jinja template says, equal for two spellings of one: see chat_fingerprint.c. Fails for want of memory. */
int chat_fingerprint(const char *text, size_t length, uint64_t *fingerprint, struct error *error);

#endif

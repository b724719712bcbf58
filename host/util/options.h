/* options.h - one table of options serves the command line, the config file, the help, the start-up table and
 * the shell completion. The table itself belongs to the program (host/cli/settings.c); nothing here knows its names.
 *
 * An option is bound to one field of the program's settings struct by its offset:
 *   OPTION_BOOL bool · OPTION_INT int64_t · OPTION_DOUBLE double · OPTION_STRING, OPTION_CHOICE const char *
 *   OPTION_LIST const char *: names between commas, in a config file also an array of strings
 * A name with a dot ("template.file") is a member of an object in the config file; null instead of the object sets
 * nothing. Dashes and underscores are equal.
 */
#ifndef FLAT_UTIL_OPTIONS_H
#define FLAT_UTIL_OPTIONS_H
#include <stdbool.h>
#include <stddef.h>

#include "error.h"
#include "memory.h"

enum option_type { OPTION_BOOL, OPTION_INT, OPTION_DOUBLE, OPTION_STRING, OPTION_CHOICE, OPTION_LIST };

/* Where a value came from; a later one in this list overrides an earlier one whatever the order of calls. */
enum option_source { OPTION_FROM_DEFAULT, OPTION_FROM_FILE, OPTION_FROM_FLAG };

struct option {
    const char *name;
    enum option_type type;
    size_t offset;
    const char *initial;  /* the default, as a user would type it */
    const char *section;  /* heading in the help; rows of a section stand together */
    unsigned commands;    /* bits of the commands that take it */
    unsigned required;    /* bits of the commands that cannot run without it */
    double min, max;      /* numbers: inclusive range; both 0 is no limit */
    const char *choices;  /* OPTION_CHOICE: "one|two|three" */
    const char *operand;  /* strings: what the help calls the value (FILE, DIR, TEXT) */
    char letter;          /* short form "-o", 0 for none */
    const char *help;     /* one sentence without a full stop */
};

struct command {
    const char *name;
    unsigned bit;
    const char *argument; /* what the help calls its one positional argument, NULL when it takes none */
    bool argument_required;
    const char *help;
};

struct option_set {
    const struct option *table;
    size_t count;
    const struct command *command;
    void *settings;             /* the caller's struct; the set writes its fields */
    enum option_source *source; /* [count] */
    char **owned;               /* [count] text of strings that are not defaults */
};

/* What a command line holds beside option values. */
struct option_arguments {
    const char *argument; /* the positional argument, NULL when there is none */
    bool help, help_config;
};

/* Fills every field of the table, the command's own or not, with its default. The table, the command and *settings
 * must outlive the set. STATUS_USAGE when a default of the table itself is invalid. Free with option_set_free. */
int option_set_init(struct option_set *set, const struct option *table, size_t count, const struct command *command,
                    void *settings, struct error *error);
void option_set_free(struct option_set *set);

/* Parses arguments (without program and command): --name value, --name=value, --name and --no_name for booleans,
 * -h, "--" before a positional that begins with a dash. A flag given twice: the last one counts. Stops at --help.
 * STATUS_USAGE names the flag and, where a name is unknown, the nearest one. */
int option_set_parse(struct option_set *set, int argc, char **argv, struct option_arguments *arguments,
                     struct error *error);
/* Checks text and stores it unless a stronger source did before. `where` is the file for the error, NULL for a flag. */
int option_set_text(struct option_set *set, const struct option *option, const char *text, enum option_source source,
                    const char *where, struct error *error);
/* The command's option of that name. STATUS_USAGE names the nearest one, or the commands that do take it. */
int option_set_find(const struct option_set *set, const char *name, const char *where, const struct option **option,
                    struct error *error);
/* STATUS_USAGE names the first required option of the command that is not given, or is empty. */
int option_set_check_required(const struct option_set *set, struct error *error);
/* Source of an option that must be in the table. */
enum option_source option_set_source(const struct option_set *set, const char *name);

/* The value in force as text, in a caller's buffer, cut when too long. */
void option_set_value(const struct option_set *set, const struct option *option, char *out, size_t out_bytes);
/* "a number from 0 to 1", "true or false", "one of a, b": for messages. */
void option_describe(const struct option *option, char *out, size_t out_bytes);
/* How far a typed name is from a candidate in edits; SIZE_MAX when too far to be what was meant. */
size_t option_name_distance(const char *typed, const char *candidate);

/* Text for people, appended to *out: the help of the set's command; every value in force with its source. */
int option_set_print_help(const struct option_set *set, const char *program, struct buffer *out, struct error *error);
int option_set_print_table(const struct option_set *set, struct buffer *out, struct error *error);
/* A bash completion script for the whole program. */
int option_print_completion(const char *program, const struct command *commands, size_t command_count,
                            const struct option *table, size_t count, struct buffer *out, struct error *error);

#endif

/* options.h - options that live with their owners: one table of rows gives the command line, the config file, the help,
 * the lines at the start of a run, shell completion and the man page.
 *
 * A new option is one field and one row at its owner:
 *   1. the field, in the owner's struct in its header:      double label_smoothing;
 *      bool, int64_t, double, const char * or an enum; the row takes its type from the field.
 *   2. the row, in the owner's rows in its .c:              {.name = "label_smoothing", OPTION_FIELD(struct x_options,
 *      label_smoothing), .initial = "0", .max = 1, .help = "one sentence without a full stop"},
 *      .initial as a user would type it ("" and "false" need not be said), .min and .max inclusive (both 0: no limit).
 *      An enum has .choices, its names in the enum's order; the field holds the index, never the name.
 * An owner that has none yet: struct x_options, rows, `const struct option_group x_option_group = {OPTION_GROUP("Title",
 * rows, struct x_options)}`, and a line {&x_option_group, offsetof(..., x)} in each command that takes it
 * (host/cli/commands/). What must hold between options of one owner is its group's `check`. An option of one method
 * stands in that method's file (host/loss/methods/).
 *
 * A field that no group of the command fills stays zero: a string of it is NULL.
 *
 * A name with a dot ("template.file") is a member of an object in the config file; null instead of the object sets
 * nothing. Dashes and underscores are equal.
 */
#ifndef FLAT_UTIL_OPTIONS_H
#define FLAT_UTIL_OPTIONS_H
#include <math.h> /* HUGE_VAL: no upper limit */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "memory.h"

/* LIST: names between commas, in a config file also an array of strings. */
enum option_type { OPTION_STRING, OPTION_LIST, OPTION_BOOL, OPTION_INT, OPTION_DOUBLE, OPTION_CHOICE };

#define OPTION_COUNT_MAX 1e9              /* steps, batches, tokens */
#define OPTION_EXACT_MAX 9007199254740991 /* largest integer that JSON carries exactly */

/* Where a value came from; a later one in this list overrides an earlier one whatever the order of calls. */
enum option_source { OPTION_FROM_DEFAULT, OPTION_FROM_FILE, OPTION_FROM_FLAG };

struct option {
    const char *name;           /* of the flag and of the JSON key */
    const char *alias;          /* another name of the same; NULL for none */
    char letter;                /* short form "-o"; 0 for none */
    enum option_type type;      /* OPTION_FIELD says type and offset */
    size_t offset;              /* of the field in the owner's struct */
    bool escapes;               /* strings: \n, \t and \\ on the command line are a line break, a tab and a backslash */
    bool local;                 /* may differ from rank to rank: a path, or what changes no number */
    bool once;                  /* said of one run: not taken from its record when that is another run's config */
    const char *initial;        /* the default, as a user would type it; NULL is "", or false */
    double min, max;            /* numbers: inclusive range; both 0 is no limit */
    const char *const *choices; /* names of an enum's values in order, NULL-ended */
    const char *(*choice)(int index); /* the same where a registry knows them; NULL behind the last */
    const char *operand;        /* strings: what the help calls the value (FILE, DIR, TEXT) */
    const char *help;           /* one sentence without a full stop */
};

/* The type that a row takes from its field, and where the field is. OPTION_LIST_FIELD: a const char * that holds a list. */
#define OPTION_FIELD(owner, field)                                                                                     \
    .type = _Generic(((owner *)0)->field, const char *: OPTION_STRING, bool: OPTION_BOOL, int64_t: OPTION_INT,         \
                     double: OPTION_DOUBLE, unsigned: OPTION_CHOICE, int: OPTION_CHOICE),                              \
    .offset = offsetof(owner, field)
#define OPTION_LIST_FIELD(owner, field)                                                                                \
    .type = _Generic(((owner *)0)->field, const char *: OPTION_LIST), .offset = offsetof(owner, field)

struct option_set;

/* Rows of one owner under one heading, for one struct. An owner may have several, over the same struct. */
struct option_group {
    const char *title; /* heading in the help; neighbours of one title share it */
    const struct option *rows;
    size_t count;
    size_t bytes;      /* of the struct */
    const char *source; /* where defaults and formula come from; NULL for none */
    /* What must hold between the values, once all are read. STATUS_USAGE names the option. NULL: nothing. */
    int (*check)(const struct option_set *set, void *values, struct error *error);
    /* A choice that brings options of its own, as --method does: the name of the choice among the rows, the group of
     * choice `index` (NULL: it has none), and where in the struct a pointer to its values is to stand. */
    const char *variant_option;
    const struct option_group *(*variant)(int index);
    size_t variant_offset;
};
#define OPTION_GROUP(heading, table, owner)                                                                            \
    .title = (heading), .rows = (table), .count = sizeof(table) / sizeof *(table), .bytes = sizeof(owner)

/* One row bound to a field. */
struct option_entry {
    const struct option *option;
    const struct option_group *group;
    void *values;               /* the struct that holds the field */
    enum option_source source;
    char *owned;                /* text of a string that is not a default; NULL for none */
};

/* A value of an option that only some choice of --method has, until the choice is known. */
struct option_late {
    const struct option *option; /* of one of them, for name and type */
    char *text, *where;
    enum option_source source;
};

struct option_set {
    const char *command;            /* "unlearn": for messages */
    struct option_entry *entry;
    size_t count, capacity;
    const struct option_group *variant_of; /* the group that has variants; NULL: none has */
    const struct option_group *variant;    /* the one chosen */
    void *variant_of_values;        /* its struct */
    void *variant_values;           /* owned */
    size_t variant_at;              /* entries of the variant stand from here on */
    struct option_late *late;
    size_t late_count, late_capacity;
    /* For an unknown name: who does take it, as text ("'flat plot'"); false where nobody does. NULL: nobody knows. */
    bool (*elsewhere)(const void *user, const char *name, char *out, size_t out_bytes);
    const void *user;
};

/* What a command line holds beside option values. */
struct option_arguments {
    const char **argument; /* [count] the positional ones */
    int count;
    bool help, help_config;
};

/* An empty set. The command's name must outlive it. Free with option_set_free, after a failure too. */
void option_set_init(struct option_set *set, const char *command);
/* Binds a group to a struct (cleared before, or bound by another group of it) and fills in the defaults. Group and
 * struct must outlive the set. STATUS_USAGE when a default of the table itself is invalid. */
int option_set_add(struct option_set *set, const struct option_group *group, void *values, struct error *error);
void option_set_free(struct option_set *set);

/* Parses arguments (without program and command): --name value, --name=value, --name and --no_name for booleans,
 * -h, "--" before a positional that begins with a dash. A flag given twice: the last one counts. Stops at --help.
 * at_most positionals, which messages call `argument`, are taken. STATUS_USAGE names the flag and, where a name is
 * unknown, the nearest one.
 * free(arguments->argument). */
int option_set_parse(struct option_set *set, int argc, char **argv, const char *argument, int at_most,
                     struct option_arguments *arguments, struct error *error);
/* Checks text and stores it unless a stronger source did before. `where` is the file for the error, NULL for a flag. */
int option_set_text(struct option_set *set, const struct option *option, const char *text, enum option_source source,
                    const char *where, struct error *error);
/* The option of that name or alias. STATUS_USAGE names the nearest one, or the command that does take it. */
int option_set_find(const struct option_set *set, const char *name, const char *where, const struct option **option,
                    struct error *error);
/* Adds the options of the choice that was made (--method) and gives them what was said of them. STATUS_USAGE for one that
 * this choice does not have, with the names that it has; where a flag made the choice, what a file says of the others is
 * passed over. Nothing in a set without variants. */
int option_set_choose_variant(struct option_set *set, struct error *error);
/* Required options, then the checks of the groups. required, and also_required (NULL: none), are names with spaces
 * between. STATUS_USAGE names every required option that is not given, or is empty. */
int option_set_check(const struct option_set *set, const char *required, const char *also_required, bool has_config,
                     struct error *error);

/* The entry of a name or alias, NULL for none. */
const struct option_entry *option_set_entry(const struct option_set *set, const char *name);
/* Whether the file or a flag set it: an empty --prompt is given, a missing one is not. */
bool option_given(const struct option_set *set, const char *name);
enum option_source option_source(const struct option_set *set, const char *name);

/* The struct that a group fills in this set; NULL where it is not of the set. */
void *option_set_values(const struct option_set *set, const struct option_group *group);

/* Name of a choice by its index, NULL behind the last; the default as text. */
const char *option_choice(const struct option *option, int index);
const char *option_initial(const struct option *option);
/* Checks text and puts it into the field, unless a stronger source did before. As option_set_text. */
int option_store(struct option_entry *entry, const char *text, enum option_source source, const char *where,
                 struct error *error);
/* The value in force as text, in a caller's buffer, cut when too long. */
void option_value(const struct option_entry *entry, char *out, size_t out_bytes);
/* Whether the value in force is another than the default. */
bool option_changed(const struct option_entry *entry);
/* "a number from 0 to 1", "true or false", "one of a, b": for messages. */
void option_describe(const struct option *option, char *out, size_t out_bytes);
/* How far a typed name is from a candidate in edits; SIZE_MAX when too far to be what was meant. */
size_t option_name_distance(const char *typed, const char *candidate);
/* Whether a typed name is the option's or its alias. */
bool option_named(const struct option *option, const char *typed);
/* Whether a typed name is this one, dashes and underscores being equal. */
bool option_name_equal(const char *typed, const char *name);

/* Text for people, appended to *out, in lines of at most so many columns: the options under their headings, those of the
 * chosen variant among them; names that are required, as for option_set_check, are marked. */
int option_set_print_help(const struct option_set *set, const char *required, const char *also_required, int columns,
                          struct buffer *out, struct error *error);
/* One line of the help: what is typed, and a sentence that is wrapped beside it. */
int option_print_line(const char *left, const char *help, int columns, struct buffer *out, struct error *error);
/* A paragraph, wrapped. */
int option_print_text(const char *text, int columns, struct buffer *out, struct error *error);
/* The values in force, with what set them: those that are not the defaults, or all. */
int option_set_print_values(const struct option_set *set, bool all, struct buffer *out, struct error *error);
/* "-o, --alias, --name FILE". */
void option_names(const struct option *option, char *out, size_t out_bytes);
/* What the help calls a value: FILE, N, NAME; "" for a boolean. */
const char *option_operand(const struct option *option);

#endif

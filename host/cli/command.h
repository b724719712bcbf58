/* command.h - what a command of the program is, and how a command line becomes its checked options.
 *
 * A command is one file host/cli/commands/<command>.c that defines `const struct command command_<command>`; the build lists
 * them in `commands`. Its options are one struct of its owners' structs; its groups say which owner's rows fill which.
 */
#ifndef FLAT_CLI_COMMAND_H
#define FLAT_CLI_COMMAND_H
#include <cjson/cJSON.h>

#include "../util/log.h"
#include "../util/options.h"

struct invocation;

struct command_group {
    const struct option_group *group; /* NULL ends the list */
    size_t offset;                    /* of the owner's struct in the command's */
};

/* What the positional argument of a command is. */
enum command_config {
    CONFIG_NONE,  /* no config */
    CONFIG_TRAIN, /* a config file, run.json, or a run's folder, whose keys must all be the command's */
    CONFIG_RUN,   /* the same of a run whose result is looked at: its folder is the model, and keys that only training
                   * commands have are passed over */
};

struct command {
    const char *name;             /* "unlearn"; of a part "bench kernels" */
    const char *argument;         /* what the help calls a positional argument, NULL when there is none */
    int at_least, at_most;        /* how many of them */
    enum command_config config;
    const char *summary;          /* one sentence with a full stop */
    const char *examples[3];      /* whole command lines, all three */
    const struct command_group *groups; /* NULL: no options */
    size_t options_bytes;         /* of the command's struct; 0: none */
    const char *required;         /* names of options, with spaces between */
    const char *(*also_required)(const void *options); /* the same, by what was given; NULL: none */
    const struct command *const *parts; /* "bench": its commands, NULL-ended; it does nothing itself */
    int (*check)(struct invocation *run, struct error *error); /* across owners; NULL: nothing */
    /* Results go to stdout, everything else through run->log. */
    int (*run)(struct invocation *run, struct error *error);
};

/* All commands in the order of their names, NULL-ended. Made by the build. */
extern const struct command *const commands[];

/* One parsed command line and what a command works with. Not to be copied: the set points into it. */
struct invocation {
    const struct command *const *commands; /* all there are */
    const struct command *command;
    void *options;                         /* the command's struct */
    struct option_set set;
    struct option_arguments arguments;
    struct log log;
    int argc;
    char **argv; /* the whole command line, for run.json */
};

/* The command that argv (behind the program's name) begins with, and how many words name it. STATUS_USAGE names the nearest
 * one, or the parts that there are. A command with parts comes without one where help is asked for, or nothing follows. */
int command_find(const struct command *const *list, int argc, char **argv, const struct command **command, int *words,
                 struct error *error);
/* Defaults, then the config (where the command takes one), then flags, then checks across options. argv begins behind the
 * command's name. When help is asked for, nothing behind it is read or checked. STATUS_USAGE names the file or flag, the key,
 * what was expected and what was found. Free with invocation_free, after a failure too. */
int invocation_parse(struct invocation *run, const struct command *const *list, const struct command *command, int argc,
                     char **argv, struct error *error);
void invocation_free(struct invocation *run);

/* Every key of the command with the value in force (or its default), as the tree of a config file that parses back.
 * cJSON_Delete; NULL with STATUS_MEMORY. */
cJSON *invocation_json(const struct invocation *run, struct error *error);
/* The same without what may differ from rank to rank. */
cJSON *invocation_shared_json(const struct invocation *run, struct error *error);
cJSON *invocation_defaults_json(const struct invocation *run, struct error *error);

/* Calls visit for every row of a command (its parts' not included): those of its groups and of every choice that brings its
 * own. Ends with the first status that is not 0. */
typedef int (*option_visit)(const struct option *option, const struct option_group *group, void *user,
                            struct error *error);
/* The same for every command of a list that does something itself: the parts of one that has parts stand in its place. */
typedef int (*command_visit)(const struct command *command, void *user, struct error *error);
int commands_visit(const struct command *const *list, command_visit visit, void *user, struct error *error);
int command_rows_visit(const struct command *command, option_visit visit, void *user, struct error *error);

/* Text for people, appended to *out, in lines of at most so many columns: all commands; the invocation's command. */
int command_print_usage(const struct command *const *list, int columns, struct buffer *out, struct error *error);
int command_print_help(const struct invocation *run, int columns, struct buffer *out, struct error *error);

/* The last word of a command's name: "kernels" of "bench kernels". */
const char *command_word(const struct command *command);
/* The width of the terminal on stdout; COLUMNS where that is set; 80 where nobody says. */
int terminal_columns(void);
/* Writes a text that `status` says is whole to stdout, and frees it. */
int text_print(struct buffer *text, int status, struct error *error);
/* Checks that stdout took everything; a full disk is STATUS_RUNTIME, a closed pipe STATUS_PIPE. */
int stdout_finish(struct error *error);
/* The status of a write to it that has failed with this errno. */
int stdout_failed(int failure, struct error *error);

#endif

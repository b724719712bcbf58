/* settings.h - the commands of the program, the table of their options, and how a command line and a config file
 * become one checked struct settings.
 */
#ifndef FLAT_CLI_SETTINGS_H
#define FLAT_CLI_SETTINGS_H
#include <cjson/cJSON.h>

#include "../util/options.h"
#include "../util/settings.h"

enum command_bit {
    COMMAND_UNLEARN = 1u << 0,
    COMMAND_FINETUNE = 1u << 1,
    COMMAND_SCORE = 1u << 2,
    COMMAND_GENERATE = 1u << 3,
    COMMAND_TOKENIZE = 1u << 4,
    COMMAND_PLAN = 1u << 5,
    COMMAND_PLOT = 1u << 6,
    COMMAND_BENCH = 1u << 7,
};

/* One parsed command line. Strings of settings belong to options. Do not copy it by value: options points into it. */
struct command_line {
    struct settings settings;
    struct option_set options;
    struct option_arguments arguments; /* CONFIG or RUN_DIR; whether help was asked for */
};

/* STATUS_USAGE names the nearest command. */
int command_find(const char *name, const struct command **command, struct error *error);

/* Defaults, then the config file (where the command takes one), then flags, then checks across options. argv begins
 * after the command's name. When help is asked for, nothing behind it is read or checked. STATUS_USAGE names the file
 * or flag, the key, what was expected and what was found. Free with settings_free, after a failure too. */
int settings_parse(struct command_line *line, const struct command *command, int argc, char **argv,
                   struct error *error);
void settings_free(struct command_line *line);
/* True when the file or a flag set it: an empty --prompt is one, a missing one is not. */
bool settings_given(const struct command_line *line, const char *name);

/* Every key of the command with the value in force (or its default), as the tree of a config file that parses back.
 * cJSON_Delete; NULL with STATUS_MEMORY. */
cJSON *settings_to_json(const struct command_line *line, struct error *error);
cJSON *settings_defaults_to_json(const struct command_line *line, struct error *error);

/* Text for people, appended to *out: all commands; one command; the values in force; a completion script. */
int settings_print_usage(struct buffer *out, struct error *error);
int settings_print_help(const struct command_line *line, struct buffer *out, struct error *error);
int settings_print_table(const struct command_line *line, struct buffer *out, struct error *error);
int settings_print_completion(const char *shell, struct buffer *out, struct error *error);

#endif

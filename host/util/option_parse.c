/* option_parse.c - a command line into a set of options; see options.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

#define NAME_BYTES 64 /* longer than any name of a row */

/* \n, \t and \\ of a flag's text, in place of a copy. Any other backslash stays as it is. */
static void escapes_resolve(char *text)
{
    char *to = text;
    for (const char *from = text; *from; from++) {
        const char *found = *from == '\\' && from[1] ? strchr("nt\\", from[1]) : NULL;
        *to++ = !found ? *from : *found == 'n' ? '\n' : *found == 't' ? '\t' : '\\';
        from += found != NULL;
    }
    *to = 0;
}

static int flag_store(struct option_set *set, const struct option *option, const char *text, struct error *error)
{
    if (!option->escapes)
        return option_set_text(set, option, text, OPTION_FROM_FLAG, NULL, error);
    char *copy = memory_string(text, error);
    if (!copy)
        return STATUS_MEMORY;
    escapes_resolve(copy);
    int status = option_set_text(set, option, copy, OPTION_FROM_FLAG, NULL, error);
    free(copy);
    return status;
}

/* The boolean that "no_<name>" denies, where no option has that very name. */
static const struct option *denied_find(const struct option_set *set, const char *name)
{
    struct error unused;
    const struct option *option;
    if (strlen(name) <= 3 || strncmp(name, "no", 2) || (name[2] != '_' && name[2] != '-') || option_set_entry(set, name))
        return NULL;
    return !option_set_find(set, name + 3, NULL, &option, &unused) && option->type == OPTION_BOOL ? option : NULL;
}

/* A long flag without its dashes. next is the following argument or NULL; *used tells that it was taken. */
static int flag_parse(struct option_set *set, const char *flag, const char *next, bool *used, struct error *error)
{
    char name[NAME_BYTES];
    size_t length = strcspn(flag, "=");
    snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : sizeof name - 1), flag);
    const char *text = flag[length] ? flag + length + 1 : NULL;
    const struct option *option = text ? NULL : denied_find(set, name);
    if (option)
        return flag_store(set, option, "false", error);
    int status = option_set_find(set, name, NULL, &option, error);
    if (status)
        return status;
    if (!text && option->type == OPTION_BOOL) {
        *used = next && (strcmp(next, "true") == 0 || strcmp(next, "false") == 0);
        text = *used ? next : "true";
    } else if (!text) {
        if (!next || strncmp(next, "--", 2) == 0)
            return error_set(error, STATUS_USAGE, "--%s: needs a value (write --%s=VALUE for one that begins with --)",
                             option->name, option->name);
        text = next;
        *used = true;
    }
    return flag_store(set, option, text, error);
}

static const struct option *letter_find(const struct option_set *set, const char *text)
{
    for (size_t i = 0; text[1] && !text[2] && i < set->count; i++)
        if (set->entry[i].option->letter == text[1])
            return set->entry[i].option;
    return NULL;
}

static int argument_take(const struct option_set *set, const char *text, const char *name, int at_most,
                         struct option_arguments *arguments, struct error *error)
{
    if (!at_most)
        return error_set(error, STATUS_USAGE, "'%.80s': 'flat %s' takes only --options", text, set->command);
    if (arguments->count == at_most)
        return error_set(error, STATUS_USAGE, "'%.80s': 'flat %s' takes %s %s, and '%.80s' was given before", text,
                         set->command, at_most == 1 ? "one" : "no more", name, arguments->argument[at_most - 1]);
    arguments->argument[arguments->count++] = text;
    return STATUS_OK;
}

/* argv[i] and, where it is its value, the next: *used. */
static int argument_parse(struct option_set *set, const char *text, const char *next, bool *used, struct error *error)
{
    if (text[1] == '-')
        return flag_parse(set, text + 2, next, used, error);
    const struct option *option = letter_find(set, text);
    if (!option)
        return error_set(error, STATUS_USAGE, "%.80s: unknown option; 'flat %s --help' lists them all", text, set->command);
    return flag_parse(set, option->name, next, used, error);
}

int option_set_parse(struct option_set *set, int argc, char **argv, const char *argument, int at_most,
                     struct option_arguments *arguments, struct error *error)
{
    *arguments = (struct option_arguments){.argument = memory_array((size_t)argc, sizeof(char *), error)};
    bool only_arguments = false;
    int status = arguments->argument ? STATUS_OK : STATUS_MEMORY;
    for (int i = 0; i < argc && !status; i++) {
        const char *text = argv[i];
        bool used = false;
        if (only_arguments || text[0] != '-' || !text[1]) {
            status = argument_take(set, text, argument, at_most, arguments, error);
        } else if (strcmp(text, "--") == 0) {
            only_arguments = true;
        } else if (strcmp(text, "-h") == 0 || strcmp(text, "--help") == 0) {
            arguments->help = true;
            return STATUS_OK;
        } else if (text[1] == '-' && option_name_equal(text + 2, "help_config")) {
            arguments->help_config = true;
            return STATUS_OK;
        } else {
            status = argument_parse(set, text, i + 1 < argc ? argv[i + 1] : NULL, &used, error);
        }
        i += used;
    }
    return status;
}

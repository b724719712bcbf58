/* invocation.c - see invocation.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "temporary.h"

#include "invocation.h"

const char *config_path(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/flat_test_options_%ld.json", temporary_root(), (long)getpid());
    return path;
}

void config_write(const char *text)
{
    FILE *file = fopen(config_path(), "wb");
    assert_non_null(file);
    assert_int_equal(fputs(text, file) < 0, 0);
    assert_int_equal(fclose(file), 0);
}

int parse(struct invocation *run, const char *words, const char *const *arguments, struct error *error)
{
    const struct command *command;
    char *argv[ARGUMENTS + 1] = {0}, text[64];
    int argc = 0, count = 1;
    while (argc < ARGUMENTS && arguments[argc]) {
        argv[argc] = strcmp(arguments[argc], "@") == 0 ? (char *)config_path() : (char *)arguments[argc];
        argc++;
    }
    snprintf(text, sizeof text, "%s", words);
    char *word[2] = {text, strchr(text, ' ')};
    if (word[1])
        *word[1]++ = 0, count = 2;
    assert_int_equal(command_find(commands, count, word, &command, &count, error), STATUS_OK);
    return invocation_parse(run, commands, command, argc, argv, error);
}

const struct train_options *train_of(const struct invocation *run)
{
    return &((const struct train_command_options *)run->options)->train;
}

const char *value_of(const struct invocation *run, const char *name)
{
    static char value[512];
    const struct option_entry *entry = option_set_entry(&run->set, name);
    assert_non_null(entry);
    option_value(entry, value, sizeof value);
    return value;
}

int config_remove(void **state)
{
    (void)state;
    return unlink(config_path()) != 0;
}

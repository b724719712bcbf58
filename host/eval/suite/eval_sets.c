/* eval_sets.c - see eval_sets.h. */
#include "eval_sets.h"

#include <stdio.h>
#include <string.h>

static int name_check(const struct eval_sets *sets, const char *name, struct error *error)
{
    if (!strcmp(name, "forget"))
        return error_set(error, STATUS_USAGE, "eval_data: the set forget is forget_data; choose another name");
    for (int i = 0; i < sets->count; i++)
        if (!strcmp(sets->set[i].name, name))
            return error_set(error, STATUS_USAGE, "eval_data: there are two sets named %s", name);
    return STATUS_OK;
}

int eval_sets_parse(struct eval_sets *sets, const char *text, struct error *error)
{
    sets->count = 0;
    for (const char *at = text; *at;) {
        const size_t length = strcspn(at, ",");
        const char *equals = memchr(at, '=', length);
        char name[sizeof sets->set->name];
        if (!equals || equals == at || equals + 1 == at + length || equals - at >= (int)sizeof name ||
            length >= sizeof sets->set->path)
            return error_set(error, STATUS_USAGE, "eval_data: expected NAME=FILE, found \"%.*s\"", (int)length, at);
        if (sets->count == EVAL_SETS_MAX)
            return error_set(error, STATUS_USAGE, "eval_data: more than %d sets", EVAL_SETS_MAX);
        snprintf(name, sizeof name, "%.*s", (int)(equals - at), at);
        int status = name_check(sets, name, error);
        if (status)
            return status;
        memcpy(sets->set[sets->count].name, name, sizeof name);
        snprintf(sets->set[sets->count++].path, sizeof sets->set->path, "%.*s", (int)(at + length - equals - 1), equals + 1);
        at += length + (at[length] == ',');
    }
    return STATUS_OK;
}

/* sweep_option.c - see sweep_option.h. */
#include "sweep_option.h"

#include <string.h>

struct looking_for {
    const char *name, *nearest;
    const struct option *found;
    size_t distance;
};

static int option_look(const struct option *option, const struct option_group *group, void *user, struct error *error)
{
    struct looking_for *look = user;
    (void)group, (void)error;
    const size_t distance = option_name_distance(look->name, option->name);
    if (option_named(option, look->name))
        look->found = option;
    if (distance < look->distance)
        look->distance = distance, look->nearest = option->name;
    return STATUS_OK;
}

int sweep_option_find(const struct command *unlearn, const char *name, const char *path, const struct option **option,
                      struct error *error)
{
    struct looking_for look = {.name = name, .distance = SIZE_MAX};
    int status = command_rows_visit(unlearn, option_look, &look, error);
    *option = look.found;
    if (status || look.found)
        return status;
    return error_set(error, STATUS_USAGE, "%s: %s: neither 'flat sweep' nor 'flat unlearn' has it%s%s%s", path, name,
                     look.nearest ? "; did you mean " : "", look.nearest ? look.nearest : "", look.nearest ? "?" : "");
}

static bool group_has(const struct option_group *group, const char *name)
{
    for (size_t i = 0; group && i < group->count; i++)
        if (option_named(&group->rows[i], name))
            return true;
    return false;
}

bool sweep_option_of_others(const struct command *unlearn, const char *name, const char *method)
{
    bool others = false;
    for (const struct command_group *g = unlearn->groups; g->group; g++) {
        const struct option *choice = NULL;
        if (group_has(g->group, name))
            return false;
        for (size_t i = 0; g->group->variant && i < g->group->count; i++)
            if (!strcmp(g->group->rows[i].name, g->group->variant_option))
                choice = &g->group->rows[i];
        for (int i = 0; choice && option_choice(choice, i); i++) {
            const bool has = group_has(g->group->variant(i), name);
            if (has && !strcmp(option_choice(choice, i), method))
                return false;
            others = others || has;
        }
    }
    return others;
}

const char *sweep_default_method(const struct command *unlearn)
{
    struct looking_for look = {.name = "method", .distance = SIZE_MAX};
    struct error unused;
    command_rows_visit(unlearn, option_look, &look, &unused);
    return look.found ? option_initial(look.found) : "";
}

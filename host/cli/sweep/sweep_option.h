/* sweep_option.h - whose option a key of a sweep's config is, and which methods have it. */
#ifndef FLAT_CLI_SWEEP_SWEEP_OPTION_H
#define FLAT_CLI_SWEEP_SWEEP_OPTION_H
#include "../command.h"

/* The option of flat unlearn, or of one of its methods, by its whole name. path: the config. STATUS_USAGE names the nearest. */
int sweep_option_find(const struct command *unlearn, const char *name, const char *path, const struct option **option,
                      struct error *error);
/* Whether a key is an option of other methods than this one alone. */
bool sweep_option_of_others(const struct command *unlearn, const char *name, const char *method);
/* The method of a config that names none. */
const char *sweep_default_method(const struct command *unlearn);

#endif

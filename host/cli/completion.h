/* completion.h - scripts that let a shell complete commands, options and the values of choices, from the rows of options. An
 * option of any method is offered whatever the method. Files are offered where no choice is known.
 */
#ifndef FLAT_CLI_COMPLETION_H
#define FLAT_CLI_COMPLETION_H
#include "command.h"

int completion_bash(const struct command *const *list, struct buffer *out, struct error *error);
int completion_zsh(const struct command *const *list, struct buffer *out, struct error *error);
int completion_fish(const struct command *const *list, struct buffer *out, struct error *error);

#endif

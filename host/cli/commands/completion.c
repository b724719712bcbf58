/* completion.c - `flat completion SHELL`: a script that lets a shell complete; see ../completion.h. */
#include "../completion.h"

#include <string.h>

static int completion_run(struct invocation *run, struct error *error)
{
    static const struct {
        const char *name;
        int (*print)(const struct command *const *list, struct buffer *out, struct error *error);
    } shell[] = {{"bash", completion_bash}, {"zsh", completion_zsh}, {"fish", completion_fish}};
    struct buffer text = {0};
    const char *name = run->arguments.argument[0];
    for (size_t i = 0; i < sizeof shell / sizeof *shell; i++)
        if (!strcmp(name, shell[i].name))
            return text_print(&text, shell[i].print(run->commands, &text, error), error);
    return error_set(error, STATUS_USAGE, "'%.80s': expected bash, zsh or fish", name);
}

const struct command command_completion = {
    .name = "completion",
    .argument = "SHELL",
    .at_least = 1,
    .at_most = 1,
    .summary = "Prints a script that lets bash, zsh or fish complete commands, options and their values.",
    .examples = {"source <(flat completion bash)", "flat completion zsh > ~/.zfunc/_flat",
                 "flat completion fish > ~/.config/fish/completions/flat.fish"},
    .run = completion_run,
};

/* fuzz_options.c - any command line, a word per line, and behind a separator any config file, which "@" on the line stands
 * for. Ends as a usage error in one line, or with options whose values print and parse again to the same. */
#include "../../host/cli/command.h"
#include "../../host/io/json/json.h"
#include "fuzz.h"

enum { WORDS = 40 };

static int words_split(char *text, char **word, const char *config)
{
    int count = 0;
    for (char *at = strtok(text, "\n"); at && count < WORDS; at = strtok(NULL, "\n"))
        word[count++] = strcmp(at, "@") == 0 ? (char *)config : at;
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    struct error error = {0};
    struct invocation run;
    const struct command *command;
    char *word[WORDS + 1] = {0};
    struct fuzz_part line = fuzz_next(&data, &length);
    char config[600], *text = strndup((const char *)line.data, line.length);
    FUZZ_CHECK(text);
    snprintf(config, sizeof config, "%s", fuzz_file("config.json", data, length));
    int names = 0, count = words_split(text, word, config);
    int status = command_find(commands, count, word, &command, &names, &error);
    if (!status) {
        status = invocation_parse(&run, commands, command, count - names, word + names, &error);
        if (!status && !run.arguments.help) {
            cJSON *json = invocation_json(&run, &error);
            struct buffer printed = {0};
            FUZZ_CHECK(json && json_print(json, &printed, &error) == STATUS_OK);
            cJSON_Delete(json);
            buffer_free(&printed);
        }
        invocation_free(&run);
    }
    if (status)
        FUZZ_CHECK(status == error.status && (status == STATUS_USAGE || status == STATUS_INPUT) && error.text[0] &&
                   !strchr(error.text, '\n'));
    free(text);
    return 0;
}

/* invocation.h - command lines as the program parses them, and the config file of a test. */
#ifndef FLAT_TESTS_INVOCATION_H
#define FLAT_TESTS_INVOCATION_H
#include "../../host/cli/train.h"

/* What `flat unlearn` cannot do without. */
#define REQUIRED "--model_name_or_path", "m", "--forget_data", "f", "--output_dir", "o", "--template.file", "t"
enum { ARGUMENTS = 24 };

/* A config file of this process with the given text. */
const char *config_path(void);
void config_write(const char *text);
/* Group tear-down of cmocka. */
int config_remove(void **state);

/* words name the command: "bench kernels". "@" among the arguments is the config file. */
int parse(struct invocation *run, const char *words, const char *const *arguments, struct error *error);
/* Of a command of training. */
const struct train_options *train_of(const struct invocation *run);
/* The value in force, as text that stands until the next call. */
const char *value_of(const struct invocation *run, const char *name);

#endif

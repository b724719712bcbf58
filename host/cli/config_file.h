/* config_file.h - a JSON config file to and from a set of options. A nested object is a name with a dot:
 * {"template": {"file": "t.txt"}} sets template.file.
 */
#ifndef FLAT_CLI_CONFIG_FILE_H
#define FLAT_CLI_CONFIG_FILE_H
#include <cjson/cJSON.h>

#include "../util/options.h"

/* Stores every value of the file as OPTION_FROM_FILE. path is a config file, a run.json, or a run's folder. of_run: the
 * run's result is looked at, so keys that only other commands have are passed over, and model_name_or_path and adapter
 * become what the run has made. STATUS_USAGE names the file, the key and the remedy. */
int config_file_read(struct option_set *set, const char *path, bool of_run, struct error *error);
/* Stores one value of the file `path` as OPTION_FROM_FILE. STATUS_USAGE when it is not of the option's type. */
int config_value_store(struct option_set *set, const struct option *option, const cJSON *value, const char *path,
                       struct error *error);
/* The values in force of all options of the set; shared: without those that may differ between ranks. cJSON_Delete; NULL
 * with STATUS_MEMORY. */
cJSON *config_file_write(const struct option_set *set, bool shared, struct error *error);

#endif

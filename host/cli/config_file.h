/* config_file.h - a JSON config file to and from a set of options. A nested object is a name with a dot:
 * {"template": {"file": "t.txt"}} sets template.file.
 */
#ifndef FLAT_CLI_CONFIG_FILE_H
#define FLAT_CLI_CONFIG_FILE_H
#include <cjson/cJSON.h>

#include "../util/options.h"

/* Stores every value of the file as OPTION_FROM_FILE. STATUS_USAGE names the file, the key and the remedy. */
int config_file_read(struct option_set *set, const char *path, struct error *error);
/* The values in force of all keys of the set's command. cJSON_Delete; NULL with STATUS_MEMORY. */
cJSON *config_file_write(const struct option_set *set, struct error *error);

#endif

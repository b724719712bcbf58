/* analyze.h - what the analyzer cannot see, because it looks at one file at a time: included before each by `make analyze`. */
#include <cjson/cJSON.h>

#include "../host/util/error.h"

#define error_set(error, code, ...) ((error_set)(error, code, __VA_ARGS__), (int)(code))
#define cJSON_IsString(item) ((item) && (cJSON_IsString)(item))
#define cJSON_IsNumber(item) ((item) && (cJSON_IsNumber)(item))
#define cJSON_IsArray(item) ((item) && (cJSON_IsArray)(item))
#define cJSON_IsObject(item) ((item) && (cJSON_IsObject)(item))
#define cJSON_IsNull(item) ((item) && (cJSON_IsNull)(item))

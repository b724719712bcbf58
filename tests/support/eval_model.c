/* eval_model.c - see eval_model.h. */
#include "eval_model.h"

#include <stdio.h>
#include <string.h>

#include "../../host/util/file.h"

int eval_model_make(const char *folder)
{
    static const char *const files[] = {EVAL "/model/config.json", EVAL "/model/generation_config.json",
                                        EVAL "/model/model.safetensors", "configs/demo/model/tokenizer.json",
                                        "configs/demo/model/tokenizer_config.json"};
    struct error error = {0};
    int status = file_make_directory(folder, &error);
    for (size_t i = 0; i < sizeof files / sizeof *files && !status; i++) {
        char to[1024];
        snprintf(to, sizeof to, "%s%s", folder, strrchr(files[i], '/'));
        status = file_copy(files[i], to, &error);
    }
    if (status)
        fprintf(stderr, "%s\n", error.text);
    return status ? -1 : 0;
}

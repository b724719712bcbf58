/* fuzz_adapter_config.c - any adapter_config.json of PEFT is refused in one line, or is plain LoRA. */
#include "../../host/model/adapter_config.h"
#include "../../host/model/lora.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    struct error error = {0};
    struct lora_options options = {0};
    fuzz_file("adapter_config.json", data, length);
    int status = adapter_config_read(&options, fuzz_folder(), &error);
    if (status)
        fuzz_refused(status, &error, STATUS_INPUT);
    else
        FUZZ_CHECK(options.rank > 0 && options.target_modules);
    free((char *)options.target_modules);
    return 0;
}

/* fuzz_adapter_config.c - any adapter_config.json of PEFT is refused in one line, or is plain LoRA of a small model. */
#include "../../host/model/adapter_config.h"
#include "../../host/model/lora.h"
#include "fuzz.h"

static const char config_json[] =
    "{\"model_type\":\"llama\",\"vocab_size\":16,\"hidden_size\":16,\"intermediate_size\":16,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":2}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    static struct model model; /* made once */
    struct error error = {0};
    struct lora_options options = {0};
    struct buffer warnings = {0};
    fuzz_file("adapter_config.json", data, length);
    if (!model.tensors) {
        struct model_config config;
        fuzz_file("config.json", config_json, sizeof config_json - 1);
        FUZZ_CHECK(!model_config_read(&config, fuzz_folder(), &error) && !model_create(&model, &config, DTYPE_F32, &error));
    }
    int status = adapter_config_read(&options, &model, fuzz_folder(), &warnings, &error);
    if (status)
        fuzz_refused(status, &error, STATUS_INPUT);
    else
        FUZZ_CHECK(options.rank > 0 && options.target_modules);
    lora_options_free(&options);
    buffer_free(&warnings);
    return 0;
}

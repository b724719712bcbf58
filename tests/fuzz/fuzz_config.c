/* fuzz_config.c - any config.json, with a generation_config.json behind a separator, is refused in one line, or gives sizes
 * that fit together and a model whose memory can be planned, or is refused for want of it. */
#include "../../host/model/model.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    struct error error = {0};
    struct model_config c;
    struct model model = {0};
    struct fuzz_part config = fuzz_next(&data, &length);
    fuzz_file("config.json", config.data, config.length);
    fuzz_file("generation_config.json", data, length);
    int status = model_config_read(&c, fuzz_folder(), &error);
    if (status) {
        fuzz_refused(status, &error, STATUS_INPUT);
        return 0;
    }
    FUZZ_CHECK(c.vocab_size > 0 && c.hidden_size > 0 && c.intermediate_size > 0 && c.num_hidden_layers > 0);
    FUZZ_CHECK(c.num_attention_heads > 0 && c.num_key_value_heads > 0 && c.head_dim > 0 && c.max_position_embeddings > 0);
    FUZZ_CHECK(c.num_attention_heads % c.num_key_value_heads == 0 && c.rotary_dim >= 0 && c.rotary_dim <= c.head_dim);
    FUZZ_CHECK(c.eos_token_ids >= 0 && c.eos_token_ids <= EOS_IDS_MAX);
    for (int i = 0; i < c.eos_token_ids; i++)
        FUZZ_CHECK(c.eos_token_id[i] >= 0 && c.eos_token_id[i] < c.vocab_size);
    if (c.num_hidden_layers > 1000) /* names of tensors by the million: slow, and no other code */
        return 0;
    status = model_create(&model, &c, DTYPE_F32, &error);
    if (status)
        FUZZ_CHECK(status == error.status && error.text[0] && !strchr(error.text, '\n'));
    model_free(&model);
    return 0;
}

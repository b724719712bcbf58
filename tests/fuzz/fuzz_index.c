/* fuzz_index.c - any model.safetensors.index.json beside two shards is refused in one line, or names exactly what they hold. */
#include "../../host/io/safetensors/safetensors.h"
#include "fuzz.h"

static void shard_write(const char *name, const char *tensor)
{
    char file[8 + 128 + 4];
    memset(file, ' ', sizeof file);
    memcpy(file, (uint64_t[]){128}, 8);
    int length = snprintf(file + 8, 128, "{\"%s\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", tensor);
    file[8 + length] = ' ';
    fuzz_file(name, file, sizeof file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    static bool shards;
    struct error error = {0};
    struct safetensors file;
    if (!shards) {
        shard_write("a.safetensors", "one");
        shard_write("b.safetensors", "two");
        shards = true;
    }
    fuzz_file("model.safetensors.index.json", data, length);
    int status = safetensors_open(&file, fuzz_folder(), &error);
    if (status) {
        fuzz_refused(status, &error, STATUS_INPUT);
        return 0;
    }
    FUZZ_CHECK(file.tensors == file.shards && file.shards > 0);
    for (int i = 0; i < file.tensors; i++)
        FUZZ_CHECK(safetensors_find(&file, file.tensor[i].name) == &file.tensor[i]);
    safetensors_close(&file);
    return 0;
}

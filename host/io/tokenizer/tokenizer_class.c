/* tokenizer_class.c - which tokenizer class of transformers reads a folder, and what the class brings of its own.
 *
 * transformers 5 takes vocabulary and merges of tokenizer.json for the classes below, but builds normalizer, pre_tokenizer
 * and decoder itself; every other class is tokenizer.json as it stands. Version 4 always takes the file's.
 */
#include <stdlib.h>
#include <string.h>

#include "../../util/file.h"
#include "../json/json.h"
#include "tokenizer_json.h"

static const struct class {
    const char *name;
    enum tokenizer_class class;
} classes[] = {{"LlamaTokenizer", CLASS_LLAMA},
               {"GPT2Tokenizer", CLASS_GPT2},
               {"CodeGenTokenizer", CLASS_CODEGEN},
               {"Qwen2Tokenizer", CLASS_QWEN2}};
enum { CLASSES = sizeof classes / sizeof *classes };

/* Classes that are tokenizer.json as it stands. Others that transformers has may build something we do not know. */
static const char *const plain_classes[] = {"PreTrainedTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend",
                                            "BloomTokenizer", "BloomTokenizerFast"};

/* Length of a class's name without "Fast". */
static size_t name_length(const char *name)
{
    size_t length = strlen(name);
    return length > 4 && strcmp(name + length - 4, "Fast") == 0 ? length - 4 : length;
}

static bool is_plain(const char *name)
{
    for (size_t i = 0; i < sizeof plain_classes / sizeof *plain_classes; i++)
        if (strcmp(plain_classes[i], name) == 0)
            return true;
    return false;
}

static enum tokenizer_class class_of(const char *name)
{
    for (size_t i = 0; name && i < CLASSES; i++)
        if (strlen(classes[i].name) == name_length(name) && strncmp(classes[i].name, name, name_length(name)) == 0)
            return classes[i].class;
    return CLASS_FILE;
}

const char *tokenizer_class_name(enum tokenizer_class class)
{
    for (size_t i = 0; i < CLASSES; i++)
        if (classes[i].class == class)
            return classes[i].name;
    return "PreTrainedTokenizerFast";
}

/* A tokenizer.json with this in it is none of LlamaTokenizer's, whatever is said: it is read as it stands. */
static int has_byte_level(const char *directory, bool *found, struct error *error)
{
    enum { FILE_MAX_BYTES = 1 << 30 };
    char path[4096], *text;
    size_t length;
    int status = file_join(path, sizeof path, directory, "tokenizer.json", error);
    *found = false;
    if (status || !file_exists(path))
        return status;
    status = file_read(path, FILE_MAX_BYTES, &text, &length, error);
    if (status)
        return status;
    *found = memmem(text, length, "\"ByteLevel\"", strlen("\"ByteLevel\"")) != NULL;
    free(text);
    return STATUS_OK;
}

/* A text of an object that may not be there or not be valid: another reader says so. */
static const char *text_of(const cJSON *tree, const char *key)
{
    const cJSON *value = json_member(tree, key);
    return cJSON_IsString(value) ? value->valuestring : NULL;
}

int tokenizer_class_find(struct tokenizer_config *config, const char *directory, struct error *error)
{
    const char *model_type = text_of(config->model, "model_type"), *name = NULL;
    bool byte_level = false;
    int status = config->tree ? json_get_string_or(config->tree, config->path, "tokenizer_class", &name, error) : STATUS_OK;
    if (status)
        return status;
    name = name ? name : text_of(config->model, "tokenizer_class");
    model_type = model_type ? model_type : "";
    config->class_name = name;
    config->class = class_of(name);
    config->class_known = !name || is_plain(name) || config->class != CLASS_FILE;
    if (strcmp(model_type, "mistral") == 0 || strcmp(model_type, "phi3") == 0) {
        config->class = CLASS_FILE;
    } else if (strcmp(model_type, "qwen2") == 0 || (!name && strcmp(model_type, "qwen3") == 0)) {
        config->class = CLASS_QWEN2;
    } else if (config->class == CLASS_LLAMA) {
        status = has_byte_level(directory, &byte_level, error);
        config->class = byte_level ? CLASS_FILE : CLASS_LLAMA;
    } else if (!name &&
               (strcmp(model_type, "gpt2") == 0 || strcmp(model_type, "opt") == 0 || strcmp(model_type, "phi") == 0)) {
        config->class = CLASS_GPT2;
    }
    config->class_stated = name || *model_type;
    return status;
}

const char *tokenizer_class_token(enum tokenizer_class class, const char *key)
{
    static const char end_of_text[] = "<|endoftext|>";
    const bool bos = strcmp(key, "bos_token") == 0, eos = strcmp(key, "eos_token") == 0;
    const bool unk = strcmp(key, "unk_token") == 0, pad = strcmp(key, "pad_token") == 0;
    switch (class) {
    case CLASS_LLAMA:
        return bos ? "<s>" : eos ? "</s>" : unk ? "<unk>" : NULL;
    case CLASS_GPT2:
    case CLASS_CODEGEN:
        return bos || eos || unk ? end_of_text : NULL;
    case CLASS_QWEN2:
        return eos || unk || pad ? end_of_text : NULL;
    case CLASS_FILE:
        break;
    }
    return NULL;
}

/* The class's components in tokenizer.json's spelling. */
static int components_print(const struct tokenizer_config *config, struct buffer *out, struct error *error)
{
    bool prefix = config->class == CLASS_LLAMA, legacy = false;
    int status = tokenizer_config_flag(config, "add_prefix_space", &prefix, error);
    if (!status)
        status = tokenizer_config_flag(config, "legacy", &legacy, error);
    if (status)
        return status;
    const char *truth = prefix ? "true" : "false";
    switch (config->class) {
    case CLASS_LLAMA:
        return buffer_printf(out, error, "{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\","
                             "\"prepend_scheme\":\"%s\",\"split\":false},\"decoder\":{\"type\":\"Sequence\",\"decoders\":["
                             "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\\u2581\"},\"content\":\" \"},"
                             "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}%s]}}",
                             !prefix ? "never" : legacy ? "always" : "first",
                             prefix ? ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}" : "");
    case CLASS_QWEN2:
        status = buffer_printf(out, error, "{\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"Sequence\","
                               "\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":");
        if (!status)
            status = json_print_string(qwen2_expression, strlen(qwen2_expression), out, error);
        return status ? status
                      : buffer_printf(out, error, "},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\","
                                      "\"add_prefix_space\":%s,\"use_regex\":false}]},\"decoder\":{\"type\":\"ByteLevel\"}}",
                                      truth);
    default:
        return buffer_printf(out, error, "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":%s,"
                             "\"use_regex\":true},\"decoder\":{\"type\":\"ByteLevel\"}}", truth);
    }
}

int tokenizer_class_components(const struct tokenizer_config *config, cJSON **components, struct error *error)
{
    struct buffer text = {0};
    int status = components_print(config, &text, error);
    *components = status ? NULL : json_parse(text.data, text.length, "tokenizer_class", error);
    buffer_free(&text);
    return *components ? STATUS_OK : status ? status : STATUS_MEMORY;
}

/* The only component of a Sequence, or the component itself. */
static const cJSON *unwrapped(const cJSON *component)
{
    static const char *const lists[] = {"normalizers", "pretokenizers"};
    for (int i = 0; i < 2; i++) {
        const cJSON *list = json_member(component, lists[i]);
        if (cJSON_IsArray(list) && list->child && !list->child->next)
            return unwrapped(list->child);
    }
    return component && !cJSON_IsNull(component) ? component : NULL;
}

/* Whether everything that `class` says stands in `file` too; what is left out there is as it is here. */
static bool says_the_same(const cJSON *file, const cJSON *class)
{
    if (!file || !class)
        return !file && !class;
    if (!cJSON_IsObject(class) && !cJSON_IsArray(class))
        return cJSON_Compare(file, class, true);
    if (cJSON_IsArray(class) && cJSON_GetArraySize(file) != cJSON_GetArraySize(class))
        return false;
    for (const cJSON *item = class->child, *other = file->child; item; item = item->next) {
        const cJSON *member = cJSON_IsArray(class) ? other : json_member(file, item->string);
        other = other ? other->next : NULL;
        const bool prefix = item->string && strcmp(item->string, "add_prefix_space") == 0; /* version 4 sets it too */
        if (!prefix && (member ? !says_the_same(member, item) : !cJSON_IsTrue(item) && !cJSON_IsFalse(item)))
            return false;
    }
    return true;
}

bool tokenizer_class_differs(const cJSON *file, const cJSON *components)
{
    static const char *const parts[] = {"normalizer", "pre_tokenizer"};
    for (int i = 0; i < 2; i++)
        if (!says_the_same(unwrapped(json_member(file, parts[i])), unwrapped(json_member(components, parts[i]))))
            return true;
    return cJSON_IsTrue(json_member(json_member(file, "model"), "ignore_merges"));
}

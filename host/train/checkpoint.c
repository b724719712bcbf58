/* checkpoint.c - see checkpoint.h. */
#include "checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 20 }; /* elements read at a time */

/* ---- the arrays -------------------------------------------------------------------------------------------------- */

/* The weights, then arrays of the optimizer, of which there are the first three or all. */
enum { ARRAYS = 5 };
static const struct {
    const char *name;
    enum optimizer_array array;
} arrays[ARRAYS] = {{"weights"}, {"m", OPTIMIZER_M}, {"v", OPTIMIZER_V}, {"m_scale", OPTIMIZER_M_SCALE},
                    {"v_scale", OPTIMIZER_V_SCALE}};

static int arrays_count(const struct trainer *trainer)
{
    return trainer->options->optimizer.optimizer_states == ADAMW_8BIT ? ARRAYS : 3;
}

/* Weights are written as the optimizer has them: from the master where there is one. */
static bool from_master(const struct trainer *trainer, int array)
{
    return array == 0 && trainer->model.dtype == DTYPE_BF16;
}

static struct optimizer_array_type array_type(const struct trainer *trainer, int array)
{
    const bool wide = trainer->model.dtype == DTYPE_F64;
    if (array)
        return optimizer_array_type(trainer, arrays[array].array);
    return (struct optimizer_array_type){.count = model_trainable(&trainer->model).elements, .elements = 1,
                                         .size = wide ? sizeof(double) : sizeof(float), .dtype = wide ? "F64" : "F32"};
}

static int array_fill(void *user, int array, uint64_t first_byte, uint64_t bytes, void *out, struct error *error)
{
    struct trainer *trainer = user;
    const uint64_t size = array_type(trainer, array).size;
    const int64_t first = (int64_t)(first_byte / size), count = (int64_t)(bytes / size);
    const void *weights = model_trainable(&trainer->model).param;
    if (from_master(trainer, array))
        return weights_read_back(&trainer->model, weights, first, count, out, error);
    if (array == 0)
        return device_copy_out(&trainer->device, out, (const char *)weights + first_byte, bytes, error);
    return optimizer_read(trainer, arrays[array].array, first, count, out, error);
}

int trainer_save_optimizer(struct trainer *trainer, struct folder *folder, struct error *error)
{
    static const char name[] = "trainer/optimizer.safetensors";
    const int count = arrays_count(trainer);
    struct safetensors_entry entry[ARRAYS];
    struct file_writer writer;
    for (int i = 0; i < count; i++) {
        const struct optimizer_array_type type = array_type(trainer, i);
        entry[i] = (struct safetensors_entry){arrays[i].name, SAFETENSORS_OTHER, type.dtype, 1, {type.count},
                                              (uint64_t)type.count * type.size};
    }
    int status = folder_file_begin(folder, name, FILE_MODE, &writer, error);
    if (status)
        return status;
    status = safetensors_write_to(&writer, NULL, entry, count, array_fill, trainer, error);
    if (!status)
        return folder_file_end(folder, name, &writer, error);
    file_writer_abort(&writer);
    return status;
}

/* An array of the file, which must be of this model and engine. */
static int array_find(const struct trainer *trainer, const struct safetensors *file, int array,
                      const struct safetensors_tensor **found, struct error *error)
{
    const struct safetensors_tensor *tensor = *found = safetensors_find(file, arrays[array].name);
    const struct optimizer_array_type type = array_type(trainer, array);
    if (!tensor || tensor->elements != type.count || strcmp(tensor->dtype_text, type.dtype))
        return error_set(error, STATUS_INPUT, "%s/optimizer.safetensors: %s: expected %lld elements of %s; the checkpoint is of "
                         "another model, other optimizer_states or another kind of engine", file->directory,
                         arrays[array].name, (long long)type.count, type.dtype);
    return STATUS_OK;
}

/* A piece of an array to where it belongs. */
static int piece_write(struct trainer *trainer, int array, int64_t first, int64_t count, const void *piece,
                       struct error *error)
{
    const size_t size = array_type(trainer, array).size;
    void *const param = model_trainable(&trainer->model).param;
    if (array)
        return optimizer_write(trainer, arrays[array].array, first, count, piece, error);
    if (from_master(trainer, array))
        return weights_write(&trainer->model, param, first, count, piece, error);
    return device_copy_in(&trainer->device, (char *)param + (size_t)first * size, piece, (size_t)count * size, error);
}

static int64_t piece_count(int64_t elements, int64_t first)
{
    return elements - first < PIECE ? elements - first : PIECE;
}

static int array_load(struct trainer *trainer, const struct safetensors *file, int array, void *piece, struct error *error)
{
    const size_t size = array_type(trainer, array).size;
    const struct safetensors_tensor *tensor;
    int status = array_find(trainer, file, array, &tensor, error);
    for (int64_t first = 0, count; !status && first < tensor->elements; first += count) {
        count = piece_count(tensor->elements, first);
        status = safetensors_read_bytes(file, tensor, (uint64_t)first * size, (uint64_t)count * size, piece, error);
        if (!status)
            status = piece_write(trainer, array, first, count, piece, error);
    }
    return status;
}

static int optimizer_file_open(struct safetensors *file, const char *directory, struct error *error)
{
    char path[FOLDER_PATH_BYTES];
    int status = file_join(path, sizeof path, directory, "trainer/optimizer.safetensors", error);
    return status ? status : safetensors_open_file(file, path, error);
}

int checkpoint_load_weights(struct trainer *trainer, const char *directory, struct error *error)
{
    struct comm *comm = trainer->shards.world.comm;
    const bool reads = !trainer->shards.world.rank;
    const int64_t elements = model_trainable(&trainer->model).elements;
    const size_t size = array_type(trainer, 0).size;
    struct safetensors file = {0};
    const struct safetensors_tensor *tensor = NULL;
    void *piece = memory_array(PIECE, sizeof(double), error);
    int status = piece ? shards_gather_finish(&trainer->shards, &trainer->model, error) : STATUS_MEMORY;
    if (!status && reads)
        status = optimizer_file_open(&file, directory, error);
    if (!status && reads)
        status = array_find(trainer, &file, 0, &tensor, error);
    status = comm_agree(comm, status, error);
    for (int64_t first = 0, count; first < elements && !status; first += count) {
        count = piece_count(elements, first);
        if (reads)
            status = safetensors_read_bytes(&file, tensor, (uint64_t)first * size, (uint64_t)count * size, piece, error);
        status = comm_agree(comm, status, error);
        if (!status)
            status = comm_broadcast_host(comm, piece, (size_t)count * size, 0, error);
        if (!status)
            status = comm_agree(comm, piece_write(trainer, 0, first, count, piece, error), error);
    }
    free(piece);
    safetensors_close(&file);
    return status;
}

/* Where everything that is trained lies in its arena: arrays of another layout would load as nonsense. */
static void layout_print(const struct trainer *trainer, char out[32])
{
    const struct model *model = &trainer->model;
    uint64_t hash = (uint64_t)model_trainable(model).elements;
    for (int i = 0; i < model->tensors; i++) {
        const int64_t place[] = {(int64_t)hash, model->tensor[i].offset, model->tensor[i].rows, model->tensor[i].cols};
        hash = checksum_of(place, sizeof place).xxh3 ^ checksum_of(model->tensor[i].name, strlen(model->tensor[i].name)).xxh3;
    }
    for (int i = 0; i < model->lora.modules; i++) {
        const int64_t place[] = {(int64_t)hash, model->lora.module[i].tensor, model->lora.module[i].a, model->lora.module[i].b};
        hash = checksum_of(place, sizeof place).xxh3;
    }
    snprintf(out, 32, "%016llx", (unsigned long long)hash);
}

double checkpoint_bytes(const struct trainer *trainer)
{
    double bytes = 0;
    for (int i = 0; i < arrays_count(trainer); i++)
        bytes += (double)array_type(trainer, i).count * (double)array_type(trainer, i).size;
    return bytes;
}

/* ---- state.json -------------------------------------------------------------------------------------------------- */

/* The numbers of a window, by their place. */
enum { WINDOW = METHOD_LOGGED + 5 };
static void window_numbers(struct step_record *window, double *list[WINDOW])
{
    for (int i = 0; i < METHOD_LOGGED; i++)
        list[i] = &window->logged[i];
    double *const others[] = {&window->loss, &window->grad_norm, &window->share_low, &window->share_high, &window->seconds};
    memcpy(list + METHOD_LOGGED, others, sizeof others);
}

static bool log_add(cJSON *json, const struct run_log *log)
{
    struct step_record window = log->window;
    double *number[WINDOW];
    window_numbers(&window, number);
    cJSON *object = cJSON_AddObjectToObject(json, "log"), *sums = cJSON_AddArrayToObject(object, "window");
    bool ok = sums && json_add_int(object, "in_window", log->in_window) &&
              json_add_int(object, "skipped_in_window", log->skipped_in_window) && json_add_int(object, "steps", log->steps) &&
              json_add_int(object, "pairs", log->pairs) && json_add_number(object, "loss_sum", log->loss_sum) &&
              json_add_int(object, "window_pairs", window.pairs) && json_add_int(object, "window_tokens", window.tokens) &&
              json_add_int(object, "window_answer_tokens", window.answer_tokens);
    for (int i = 0; i < WINDOW && ok; i++)
        ok = cJSON_AddItemToArray(sums, cJSON_CreateNumber(*number[i]));
    return ok;
}

static bool stopping_add(cJSON *json, const struct early_stopping *stopping)
{
    cJSON *object = *stopping->set ? cJSON_AddObjectToObject(json, "early_stopping") : NULL;
    return !*stopping->set || (object && early_stopping_add_state(stopping, object));
}

static bool multiplier_add(cJSON *json, const struct trainer *trainer)
{
    const struct multiplier *multiplier = &trainer->multiplier;
    cJSON *object = trainer->method->multiplier ? cJSON_AddObjectToObject(json, "multiplier") : NULL;
    return !trainer->method->multiplier ||
           (object && json_add_number(object, "value", multiplier->value) && json_add_number(object, "sum", multiplier->sum) &&
            json_add_int(object, "steps", multiplier->steps));
}

int checkpoint_save_state(const struct trainer *trainer, const struct run_log *log, const struct early_stopping *stopping,
                          int64_t step, struct folder *folder, struct error *error)
{
    char layout[32];
    struct buffer text = {0};
    layout_print(trainer, layout);
    cJSON *json = cJSON_CreateObject();
    const bool ok = json && json_add_int(json, "step", step) && json_add_int(json, "updates", trainer->updates) &&
                    json_add_int(json, "nonfinite", trainer->nonfinite) &&
                    json_add_int(json, "nonfinite_in_row", trainer->nonfinite_in_row) &&
                    json_add_int(json, "tokens_seen", trainer->tokens_seen) && json_add_string(json, "layout", layout) &&
                    multiplier_add(json, trainer) && stopping_add(json, stopping) && log_add(json, log);
    int status = ok ? json_print_pretty(json, &text, error)
                    : error_set(error, STATUS_MEMORY, "out of host memory while writing a checkpoint");
    if (!status)
        status = folder_write(folder, "trainer/state.json", FILE_MODE, text.data, text.length, error);
    if (!status)
        status = folder_copy(folder, log->path, "metrics.jsonl", error);
    cJSON_Delete(json);
    buffer_free(&text);
    return status;
}

static cJSON *state_read(const char *directory, struct error *error)
{
    char path[FOLDER_PATH_BYTES];
    return file_join(path, sizeof path, directory, "trainer/state.json", error) ? NULL : json_read(path, error);
}

/* An integer that state.json must have. */
static int count_get(const cJSON *json, const char *directory, const char *key, int64_t *value, struct error *error)
{
    if (json_integer(json_member(json, key), value) && *value >= 0)
        return STATUS_OK;
    return error_set(error, STATUS_INPUT, "%s/trainer/state.json: %s: expected a count", directory, key);
}

static int multiplier_load(struct trainer *trainer, const cJSON *json, const char *directory, struct error *error)
{
    const cJSON *object = json_member(json, "multiplier");
    const cJSON *value = json_member(object, "value"), *sum = json_member(object, "sum");
    struct multiplier *multiplier = &trainer->multiplier;
    if (!trainer->method->multiplier)
        return STATUS_OK;
    if (!cJSON_IsNumber(value) || !cJSON_IsNumber(sum))
        return error_set(error, STATUS_INPUT, "%s/trainer/state.json: multiplier: expected the method's", directory);
    multiplier->value = value->valuedouble;
    multiplier->sum = sum->valuedouble;
    return count_get(object, directory, "steps", &multiplier->steps, error);
}

/* What state.json says of the run, but for its log. */
static int counters_load(struct trainer *trainer, struct early_stopping *stopping, const char *directory, struct error *error)
{
    char layout[32];
    const char *written = "";
    int64_t nonfinite_in_row = 0;
    cJSON *json = state_read(directory, error);
    if (!json)
        return error->status;
    int status = count_get(json, directory, "step", &trainer->first_step, error);
    if (!status)
        status = count_get(json, directory, "updates", &trainer->updates, error);
    if (!status)
        status = count_get(json, directory, "nonfinite", &trainer->nonfinite, error);
    if (!status)
        status = count_get(json, directory, "nonfinite_in_row", &nonfinite_in_row, error);
    if (!status)
        status = count_get(json, directory, "tokens_seen", &trainer->tokens_seen, error);
    if (!status)
        status = multiplier_load(trainer, json, directory, error);
    if (!status)
        status = json_get_string(json, directory, "layout", &written, error);
    layout_print(trainer, layout);
    if (!status && (strcmp(layout, written) || trainer->first_step > trainer->total_steps))
        status = error_set(error, STATUS_USAGE, "resume_from_checkpoint: %s is of another model, other adapters or a longer run",
                           directory);
    if (!status && *stopping->set)
        status = early_stopping_get_state(stopping, json_member(json, "early_stopping"), directory, error);
    trainer->nonfinite_in_row = (int)nonfinite_in_row;
    cJSON_Delete(json);
    return status;
}

int checkpoint_load(struct trainer *trainer, struct early_stopping *stopping, const char *directory, struct error *error)
{
    struct safetensors file = {0};
    int status = counters_load(trainer, stopping, directory, error);
    if (!status)
        status = optimizer_file_open(&file, directory, error);
    void *piece = status ? NULL : memory_array(PIECE, sizeof(double), error);
    if (!status && !piece)
        status = STATUS_MEMORY;
    for (int i = 0; i < arrays_count(trainer) && !status; i++)
        status = array_load(trainer, &file, i, piece, error);
    if (!status)
        status = device_copy_in(&trainer->device, &trainer->adamw->updates, &trainer->updates, sizeof trainer->updates, error);
    free(piece);
    safetensors_close(&file);
    return status;
}

/* ---- the log ----------------------------------------------------------------------------------------------------- */

static int window_get(struct run_log *log, const cJSON *json, const char *directory, struct error *error)
{
    double *number[WINDOW];
    const cJSON *object = json_member(json, "log"), *sums = json_member(object, "window"),
                *loss_sum = json_member(object, "loss_sum");
    window_numbers(&log->window, number);
    if (cJSON_GetArraySize(sums) != WINDOW || !cJSON_IsNumber(loss_sum))
        return error_set(error, STATUS_INPUT, "%s/trainer/state.json: log: expected %d sums", directory, WINDOW);
    log->loss_sum = loss_sum->valuedouble;
    for (int i = 0; i < WINDOW; i++)
        *number[i] = cJSON_GetArrayItem(sums, i)->valuedouble;
    struct {
        const char *key;
        int64_t *value;
    } count[] = {{"in_window", &log->in_window}, {"skipped_in_window", &log->skipped_in_window}, {"steps", &log->steps},
                 {"pairs", &log->pairs}, {"window_pairs", &log->window.pairs}, {"window_tokens", &log->window.tokens},
                 {"window_answer_tokens", &log->window.answer_tokens}};
    int status = STATUS_OK;
    for (size_t i = 0; i < sizeof count / sizeof *count && !status; i++)
        status = count_get(object, directory, count[i].key, count[i].value, error);
    return status;
}

/* The objects of log_history, but for a run's last, which is its summary. */
static int history_get(struct run_log *log, const char *checkpoint, struct error *error)
{
    char path[FOLDER_PATH_BYTES];
    int status = file_join(path, sizeof path, checkpoint, "trainer_state.json", error);
    cJSON *state = status ? NULL : json_read(path, error);
    if (!state)
        return error->status;
    const cJSON *entry;
    cJSON_ArrayForEach(entry, json_member(state, "log_history"))
    {
        if (status || json_member(entry, "train_runtime"))
            continue;
        if (log->history.length)
            status = buffer_append(&log->history, ",", 1, error);
        if (!status)
            status = json_print(entry, &log->history, error);
    }
    cJSON_Delete(state);
    return status;
}

int checkpoint_load_log(struct run_log *log, const char *checkpoint, const char *directory, struct error *error)
{
    char from[FOLDER_PATH_BYTES];
    *log = (struct run_log)RUN_LOG_CLOSED;
    cJSON *json = state_read(checkpoint, error);
    int status = json ? window_get(log, json, checkpoint, error) : error->status;
    cJSON_Delete(json);
    log->pairs_before = log->pairs;
    if (!status)
        status = history_get(log, checkpoint, error);
    if (!status)
        status = file_join(from, sizeof from, checkpoint, "metrics.jsonl", error);
    if (!status)
        status = file_join(log->path, sizeof log->path, directory, "metrics.jsonl", error);
    if (!status)
        status = file_copy(from, log->path, error);
    if (status)
        return status;
    log->metrics = open(log->path, O_WRONLY | O_NOFOLLOW | O_APPEND | O_CLOEXEC);
    return log->metrics >= 0 ? STATUS_OK
                             : error_set(error, STATUS_RUNTIME, "%s: cannot be written: %s", log->path, strerror(errno));
}

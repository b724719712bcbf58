/* product_picks.c - see product_picks.h. */
#include "product_picks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../device/matmul_picks.h"
#include "../util/clock.h"
#include "../util/file.h"
#include "trainer.h"

/* Batches below ROWS_TIMED rows are all timed as one: their products read weights, and little else. */
enum { EIGHTHS = 8, EIGHTHS_LEAST = 4, ROWS_TIMED = 512 };

/* ---- rank 0 ------------------------------------------------------------------------------------------------------ */

static int passes_run(struct trainer *trainer, struct error *error)
{
    int status = STATUS_OK;
    for (int part = EIGHTHS; part >= EIGHTHS_LEAST && !status; part--) {
        const int64_t rows = trainer->max_rows * part / EIGHTHS, targets = trainer->max_targets * part / EIGHTHS;
        if (part == EIGHTHS || (rows >= ROWS_TIMED && targets > 0))
            status = trainer_warm_up(trainer, rows, targets, error);
    }
    return status;
}

/* Picks of the cache and of the clock; those that were used become the run's. */
static int picks_time(struct trainer *trainer, struct error *error)
{
    struct device *device = &trainer->device;
    struct product_picks *picks = &trainer->picks;
    const double start = clock_seconds();
    char path[4096] = "";
    struct buffer all = {0};
    struct error unkept = {0};
    int cached = 0, made = 0, used = 0;
    const bool keeps = matmul_picks_path(device, path, sizeof path);
    int status = device_status(device, "picks_clear", device->engine->picks_clear(device->context), error);
    if (!status && keeps)
        status = matmul_picks_load(device, path, &cached, picks->warning, sizeof picks->warning, error);
    if (!status)
        status = device_status(device, "picks_time", device->engine->picks_time(device->context, true), error);
    if (!status)
        status = passes_run(trainer, error);
    device->engine->picks_time(device->context, false);
    if (!status)
        status = matmul_picks_list(device, false, &all, &made, error);
    made -= cached;
    if (!status)
        status = matmul_picks_list(device, true, &picks->lines, &used, error);
    if (!status && made && keeps && matmul_picks_save(device, path, &unkept))
        snprintf(picks->warning, sizeof picks->warning, "picks of matrix products are not kept for other runs: %.400s", unkept.text);
    snprintf(picks->note, sizeof picks->note, "matrix products: %d shapes, the library's proposals for %d timed in %.1f s, %d as timed "
             "before%s%.400s", used, made, clock_seconds() - start, used - made, keeps ? "; " : "", keeps ? path : "");
    buffer_free(&all);
    return status;
}

/* Picks of a checkpoint, as long as device and library take them. */
static int picks_take(struct trainer *trainer, bool *taken, struct error *error)
{
    struct product_picks *picks = &trainer->picks;
    char why[240];
    int refused = 0;
    *taken = !strcmp(picks->given_scope, picks->scope);
    int status = *taken ? matmul_picks_set(&trainer->device, picks->given.data, &refused, why, sizeof why, error) : STATUS_OK;
    if (status || (*taken && !refused)) {
        snprintf(picks->note, sizeof picks->note, "matrix products: picks as in the checkpoint");
        return status ? status : buffer_append(&picks->lines, picks->given.data, picks->given.length, error);
    }
    if (!*taken)
        snprintf(picks->warning, sizeof picks->warning, "matrix products: the checkpoint's picks are for %.180s, this is %.180s: they are "
                 "made anew, and what follows is the same up to rounding", picks->given_scope, picks->scope);
    else
        snprintf(picks->warning, sizeof picks->warning, "matrix products: %d of the checkpoint's picks are not taken (%.220s): all are made "
                 "anew, and what follows is the same up to rounding", refused, why);
    *taken = false;
    return STATUS_OK;
}

static int picks_choose(struct trainer *trainer, struct error *error)
{
    struct product_picks *picks = &trainer->picks;
    char warning[sizeof picks->warning];
    bool taken = false;
    int status = picks->given.length ? picks_take(trainer, &taken, error) : STATUS_OK;
    memcpy(warning, picks->warning, sizeof warning);
    if (!status && !taken)
        status = picks_time(trainer, error);
    if (*warning)
        memcpy(picks->warning, warning, sizeof warning);
    return status;
}

/* ---- all ranks --------------------------------------------------------------------------------------------------- */

static int picks_share(struct trainer *trainer, struct error *error)
{
    struct comm *comm = trainer->shards.world.comm;
    struct product_picks *picks = &trainer->picks;
    uint64_t length = picks->lines.length;
    int status = comm_broadcast_host(comm, &length, sizeof length, 0, error);
    char *text = status ? NULL : memory_array(length + 1, 1, error);
    status = comm_agree(comm, text || status ? status : STATUS_MEMORY, error);
    if (!status && text && length && trainer->shards.world.rank == 0)
        memcpy(text, picks->lines.data, length);
    if (!status)
        status = comm_broadcast_host(comm, text, length, 0, error);
    if (!status && trainer->shards.world.rank)
        status = buffer_append(&picks->lines, text, length, error);
    free(text);
    return comm_agree(comm, status, error);
}

int product_picks_prepare(struct trainer *trainer, struct error *error)
{
    struct device *device = &trainer->device;
    struct product_picks *picks = &trainer->picks;
    struct comm *comm = trainer->shards.world.comm;
    char why[240];
    int refused = 0;
    if (!device->engine->pick_scope || trainer->options->trainer.matmul_picks == MATMUL_PICKS_OFF)
        return STATUS_OK;
    snprintf(picks->scope, sizeof picks->scope, "%s", device->engine->pick_scope(device->context));
    int status = comm_agree(comm, trainer->shards.world.rank ? STATUS_OK : picks_choose(trainer, error), error);
    if (!status)
        status = picks_share(trainer, error);
    if (status)
        return status;
    status = matmul_picks_set(device, picks->lines.length ? picks->lines.data : "", &refused, why, sizeof why, error);
    if (!status && refused)
        status = error_set(error, STATUS_RUNTIME, "matmul_picks: rank 0's picks of matrix products are not for this rank: %.200s; "
                           "--matmul_picks off takes none", why);
    return comm_agree(comm, status, error);
}

/* ---- run.json ---------------------------------------------------------------------------------------------------- */

int product_picks_read(struct product_picks *picks, const char *directory, struct error *error)
{
    char path[4096];
    const char *scope = "";
    int status = file_join(path, sizeof path, directory, "run.json", error);
    cJSON *run = status ? NULL : json_read(path, error);
    if (!run)
        return status ? status : error->status;
    const cJSON *member = json_member(run, "matmul_picks"), *line;
    if (member)
        status = json_get_string(member, path, "scope", &scope, error);
    snprintf(picks->given_scope, sizeof picks->given_scope, "%s", scope);
    cJSON_ArrayForEach(line, json_member(member, "products"))
        if (!status)
            status = cJSON_IsString(line) ? buffer_printf(&picks->given, error, "%s\n", line->valuestring)
                                          : error_set(error, STATUS_INPUT, "%s: matmul_picks.products: expected strings", path);
    cJSON_Delete(run);
    return status;
}

bool product_picks_add(const struct product_picks *picks, cJSON *run)
{
    if (!picks->lines.length)
        return true;
    cJSON *object = cJSON_AddObjectToObject(run, "matmul_picks");
    bool ok = object && json_add_string(object, "scope", picks->scope);
    cJSON *products = ok ? cJSON_AddArrayToObject(object, "products") : NULL;
    ok = products != NULL;
    for (const char *line = picks->lines.data, *end; ok && (end = strchr(line, '\n')); line = end + 1) {
        char text[ENGINE_PICK_BYTES];
        snprintf(text, sizeof text, "%.*s", (int)(end - line), line);
        ok = cJSON_AddItemToArray(products, cJSON_CreateString(text));
    }
    return ok;
}

void product_picks_free(struct product_picks *picks)
{
    buffer_free(&picks->lines);
    buffer_free(&picks->given);
    *picks = (struct product_picks){0};
}

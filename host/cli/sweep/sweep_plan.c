/* sweep_plan.c - which runs a sweep has; see sweep.h.
 *
 * Keys of the config that are the sweep's own are its options; "eval" and "attack" hold options of these commands; all others are
 * of flat unlearn, and one that is given as a list is a dimension of the grid. "cases" is a list of objects, one more dimension,
 * whose members go together. draws > 0 takes so many points of the grid, none twice (splitmix64 from draw_seed, Fisher-Yates). What a
 * run's method does not have is left out of it, and of runs that are then alike one is kept.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../config_file.h"
#include "sweep.h"
#include "sweep_option.h"

enum { DIMENSIONS_MAX = 64, GRID_MAX = 1000000 };

struct dimension {
    const char *name; /* "" for cases */
    const cJSON *values;
    int64_t count;
};

struct planning {
    struct sweep *sweep;
    struct invocation *run;
    const struct command *unlearn;
    const char *path;
    struct dimension dimension[DIMENSIONS_MAX];
    int dimensions;
    const cJSON *cases;
};

static int no_memory(struct error *error)
{
    return error_set(error, STATUS_MEMORY, "out of host memory while planning the sweep");
}

/* ---- reading ---- */

/* A list of values; for an option that is a list itself, a list of lists. */
static bool is_dimension(const struct option *option, const cJSON *value)
{
    if (!cJSON_IsArray(value))
        return false;
    return option->type != OPTION_LIST || cJSON_IsArray(value->child);
}

static int dimension_add(struct planning *p, const char *name, const cJSON *values, struct error *error)
{
    if (!values->child)
        return error_set(error, STATUS_USAGE, "%s: %s: an empty list leaves no run", p->path, *name ? name : "cases");
    if (p->dimensions == DIMENSIONS_MAX)
        return error_set(error, STATUS_USAGE, "%s: more than %d lists", p->path, DIMENSIONS_MAX);
    p->dimension[p->dimensions++] = (struct dimension){name, values, cJSON_GetArraySize(values)};
    return STATUS_OK;
}

/* One key of flat unlearn, by its whole name, which must live as long as the sweep. */
static int key_take(struct planning *p, const char *name, const cJSON *value, struct error *error)
{
    const struct option *option;
    int status = sweep_option_find(p->unlearn, name, p->path, &option, error);
    if (status)
        return status;
    if (is_dimension(option, value))
        return dimension_add(p, name, value, error);
    cJSON *copy = cJSON_Duplicate(value, true);
    if (copy && cJSON_AddItemToObject(p->sweep->common, name, copy))
        return STATUS_OK;
    cJSON_Delete(copy);
    return no_memory(error);
}

static int name_keep(struct sweep *sweep, const char *name, const char **kept, struct error *error)
{
    int status = memory_grow(&sweep->key, &sweep->key_capacity, sweep->keys + 1, sizeof *sweep->key, error);
    for (size_t i = 0; i < sweep->keys && !status; i++)
        if (!strcmp(sweep->key[i], name)) {
            *kept = sweep->key[i];
            return STATUS_OK;
        }
    if (!status && !(sweep->key[sweep->keys] = memory_string(name, error)))
        status = STATUS_MEMORY;
    if (!status)
        *kept = sweep->key[sweep->keys++];
    return status;
}

static int item_take(struct planning *p, const cJSON *item, struct error *error)
{
    struct sweep *sweep = p->sweep;
    const struct option_entry *own = option_set_entry(&p->run->set, item->string);
    if (own)
        return config_value_store(&p->run->set, own->option, item, p->path, error);
    if (!strcmp(item->string, "eval") || !strcmp(item->string, "attack")) {
        cJSON **options = *item->string == 'e' ? &sweep->eval : &sweep->attack;
        if (!cJSON_IsObject(item))
            return error_set(error, STATUS_USAGE, "%s: %s: expected an object of options of flat %s", p->path, item->string, item->string);
        cJSON_Delete(*options);
        return (*options = cJSON_Duplicate(item, true)) ? STATUS_OK : no_memory(error);
    }
    if (!strcmp(item->string, "cases")) {
        const cJSON *each;
        cJSON_ArrayForEach(each, item) if (!cJSON_IsObject(each)) return error_set(
            error, STATUS_USAGE, "%s: cases: expected a list of objects of options of flat unlearn", p->path);
        return cJSON_IsArray(item) ? dimension_add(p, "", item, error)
                                   : error_set(error, STATUS_USAGE, "%s: cases: expected a list of objects", p->path);
    }
    if (!cJSON_IsObject(item))
        return key_take(p, item->string, item, error);
    int status = STATUS_OK;
    for (const cJSON *member = item->child; member && !status; member = member->next) {
        char name[256];
        const char *kept = name;
        const bool list = cJSON_IsArray(member);
        snprintf(name, sizeof name, "%.100s.%.100s", item->string, member->string);
        if (list)
            status = name_keep(sweep, name, &kept, error);
        if (!status)
            status = key_take(p, kept, member, error);
    }
    return status;
}

/* ---- the grid ---- */

/* Numbers of grid points: all, or the drawn ones in the grid's order. free(*point). */
static int points_choose(const struct planning *p, int64_t **point, int64_t *count, struct error *error)
{
    const struct sweep_options *options = p->sweep->options;
    int64_t total = 1;
    for (int d = 0; d < p->dimensions; d++) {
        total *= p->dimension[d].count;
        if (total > GRID_MAX)
            return error_set(error, STATUS_USAGE, "%s: the lists make more than %d runs", p->path, GRID_MAX);
    }
    *count = options->draws && options->draws < total ? options->draws : total;
    if (*count > SWEEP_ROWS_MAX)
        return error_set(error, STATUS_USAGE, "%s: the lists make %lld runs; draws takes some of them, up to %d", p->path,
                         (long long)total, SWEEP_ROWS_MAX);
    return sweep_draw(total, *count, (uint64_t)options->draw_seed, point, error);
}

/* name: value into an object of whole names; a later one replaces. */
static int setting_add(struct planning *p, cJSON *settings, const char *name, const cJSON *value, struct error *error)
{
    const char *kept;
    const struct option *option;
    int status = sweep_option_find(p->unlearn, name, p->path, &option, error);
    if (!status)
        status = name_keep(p->sweep, name, &kept, error);
    if (status)
        return status;
    cJSON *copy = cJSON_Duplicate(value, true);
    cJSON_DeleteItemFromObjectCaseSensitive(settings, name);
    if (copy && cJSON_AddItemToObject(settings, name, copy))
        return STATUS_OK;
    cJSON_Delete(copy);
    return no_memory(error);
}

static int case_add(struct planning *p, cJSON *settings, const cJSON *object, struct error *error)
{
    int status = STATUS_OK;
    for (const cJSON *item = object->child; item && !status; item = item->next) {
        if (!cJSON_IsObject(item)) {
            status = setting_add(p, settings, item->string, item, error);
            continue;
        }
        for (const cJSON *member = item->child; member && !status; member = member->next) {
            char name[256];
            snprintf(name, sizeof name, "%.100s.%.100s", item->string, member->string);
            status = setting_add(p, settings, name, member, error);
        }
    }
    return status;
}

static int settings_make(struct planning *p, int64_t point, cJSON *settings, struct error *error)
{
    int64_t index[DIMENSIONS_MAX];
    int status = STATUS_OK;
    for (int d = p->dimensions; d-- > 0; point /= p->dimension[d].count)
        index[d] = point % p->dimension[d].count;
    for (int d = 0; d < p->dimensions && !status; d++) {
        const struct dimension *dimension = &p->dimension[d];
        const cJSON *value = cJSON_GetArrayItem(dimension->values, (int)index[d]);
        status = *dimension->name ? setting_add(p, settings, dimension->name, value, error)
                                  : case_add(p, settings, value, error);
    }
    return status;
}

static const char *method_of(const struct planning *p, const cJSON *settings)
{
    const cJSON *method = json_member(settings, "method");
    if (!method)
        method = json_member(p->sweep->common, "method");
    return cJSON_IsString(method) ? method->valuestring : sweep_default_method(p->unlearn);
}

/* Whole names into the nested objects of a config file. */
static int config_add(cJSON *config, const cJSON *values, const struct planning *p, const char *method, struct error *error)
{
    for (const cJSON *item = values->child; item; item = item->next) {
        char group[256];
        const char *dot = strchr(item->string, '.'), *key = dot ? dot + 1 : item->string;
        cJSON *object = config;
        if (sweep_option_of_others(p->unlearn, item->string, method))
            continue;
        snprintf(group, sizeof group, "%.*s", dot ? (int)(dot - item->string) : 0, item->string);
        if (dot && !(object = cJSON_GetObjectItemCaseSensitive(config, group)))
            object = cJSON_AddObjectToObject(config, group);
        cJSON *copy = cJSON_Duplicate(item, true);
        if (object)
            cJSON_DeleteItemFromObjectCaseSensitive(object, key);
        if (!object || !copy || !cJSON_AddItemToObject(object, key, copy)) {
            cJSON_Delete(copy);
            return no_memory(error);
        }
    }
    return STATUS_OK;
}

static int row_new(struct sweep *sweep, struct sweep_row **row, struct error *error)
{
    int status = memory_grow(&sweep->row, &sweep->capacity, sweep->rows + 1, sizeof *sweep->row, error);
    if (status)
        return status;
    *row = &sweep->row[sweep->rows++];
    **row = (struct sweep_row){.settings = cJSON_CreateObject(), .config = cJSON_CreateObject()};
    return (*row)->settings && (*row)->config ? STATUS_OK : no_memory(error);
}

static void row_free(struct sweep_row *row)
{
    cJSON_Delete(row->settings);
    cJSON_Delete(row->config);
    cJSON_Delete(row->result);
}

static int row_make(struct planning *p, int64_t point, struct error *error)
{
    struct sweep *sweep = p->sweep;
    struct sweep_row *row;
    int status = row_new(sweep, &row, error);
    if (!status)
        status = settings_make(p, point, row->settings, error);
    if (status)
        return status;
    const char *method = method_of(p, row->settings);
    for (size_t i = 0; i < sweep->keys; i++)
        if (sweep_option_of_others(p->unlearn, sweep->key[i], method))
            cJSON_DeleteItemFromObjectCaseSensitive(row->settings, sweep->key[i]);
    status = config_add(row->config, sweep->common, p, method, error);
    if (!status)
        status = config_add(row->config, row->settings, p, method, error);
    if (!status && !json_member(row->config, "method") && !json_add_string(row->config, "method", method))
        status = no_memory(error);
    for (size_t i = sweep->landmarks; i + 1 < sweep->rows && !status; i++)
        if (cJSON_Compare(sweep->row[i].settings, row->settings, true)) {
            row_free(row);
            sweep->rows--;
            return STATUS_OK;
        }
    snprintf(row->name, sizeof row->name, "%03zu", sweep->rows - sweep->landmarks);
    return status;
}

/* ---- landmarks ---- */

/* A name that is a folder's. */
static bool name_is_plain(const char *name)
{
    return *name && *name != '.' && strlen(name) < SWEEP_NAME_BYTES &&
           !name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")];
}

static int landmark_add(struct planning *p, const char *name, const char *directory, struct error *error)
{
    struct sweep *sweep = p->sweep;
    struct sweep_row *row;
    if (!name_is_plain(name))
        return error_set(error, STATUS_USAGE, "landmarks: '%.80s': expected NAME=DIR with a name of letters, digits, '_', '-' "
                         "and '.'", name);
    for (size_t i = 0; i < sweep->rows; i++)
        if (!strcmp(sweep->row[i].name, name))
            return error_set(error, STATUS_USAGE, "landmarks: there are two named %s", name);
    int status = row_new(sweep, &row, error);
    if (status)
        return status;
    row->landmark = directory;
    snprintf(row->name, sizeof row->name, "%s", name);
    sweep->landmarks++;
    return config_add(row->config, sweep->common, p, method_of(p, row->settings), error);
}

/* The model that all runs begin with is one, called before. */
static int landmarks_add(struct planning *p, struct error *error)
{
    struct sweep *sweep = p->sweep;
    const cJSON *model = json_member(sweep->common, "model_name_or_path");
    char *rest = NULL;
    int status = cJSON_IsString(model) ? landmark_add(p, "before", model->valuestring, error) : STATUS_OK;
    if (!(sweep->landmark_text = memory_string(sweep->options->landmarks, error)))
        return STATUS_MEMORY;
    for (char *item = strtok_r(sweep->landmark_text, ",", &rest); item && !status; item = strtok_r(NULL, ",", &rest)) {
        char *equal = strchr(item, '=');
        if (!equal || !equal[1])
            return error_set(error, STATUS_USAGE, "landmarks: '%.80s': expected NAME=DIR", item);
        *equal = 0;
        status = landmark_add(p, item, equal + 1, error);
    }
    return status;
}

/* Names that no row has, as those that are only other methods' in all runs. */
static void keys_tidy(struct sweep *sweep)
{
    size_t kept = 0;
    for (size_t k = 0; k < sweep->keys; k++) {
        bool used = false;
        for (size_t i = 0; i < sweep->rows; i++)
            used = used || json_member(sweep->row[i].settings, sweep->key[k]);
        if (used)
            sweep->key[kept++] = sweep->key[k];
        else
            free(sweep->key[k]);
    }
    sweep->keys = kept;
}

int sweep_plan(struct sweep *sweep, struct invocation *run, const char *path, struct error *error)
{
    struct planning p = {.sweep = sweep, .run = run, .path = path};
    char *word = "unlearn";
    int words, status = command_find(run->commands, 1, &word, &p.unlearn, &words, error);
    cJSON *tree = status ? NULL : json_read(path, error);
    int64_t *point = NULL, count = 0;
    if (!status && !tree)
        status = error->status = error->status == STATUS_INPUT ? STATUS_USAGE : error->status; /* part of the command line */
    sweep->common = cJSON_CreateObject();
    sweep->eval = cJSON_CreateObject();
    if (!status && (!sweep->common || !sweep->eval))
        status = no_memory(error);
    if (!status && !cJSON_IsObject(tree))
        status = error_set(error, STATUS_USAGE, "%s: expected an object {\"key\": value, ...} at the top", path);
    for (const cJSON *item = status ? NULL : tree->child; item && !status; item = item->next)
        status = item_take(&p, item, error);
    if (!status && !*sweep->options->output_dir)
        status = error_set(error, STATUS_USAGE, "output_dir: missing: the sweep's folder; add --output_dir DIR or put it into %s",
                           path);
    if (!status)
        status = landmarks_add(&p, error);
    if (!status)
        status = points_choose(&p, &point, &count, error);
    for (int64_t i = 0; i < count && !status; i++)
        status = row_make(&p, point[i], error);
    if (!status)
        keys_tidy(sweep);
    free(point);
    cJSON_Delete(tree);
    return status;
}

static bool row_plan_add(cJSON *list, const struct sweep_row *row)
{
    cJSON *item = cJSON_CreateObject();
    bool ok = item && cJSON_AddItemToArray(list, item) && json_add_string(item, "name", row->name) &&
              (!row->landmark || json_add_string(item, "model", row->landmark));
    cJSON *config = ok ? cJSON_Duplicate(row->config, true) : NULL;
    return config && cJSON_AddItemToObject(item, "config", config);
}

cJSON *sweep_plan_json(const struct sweep *sweep, struct error *error)
{
    cJSON *json = cJSON_CreateObject(), *list = json ? cJSON_AddArrayToObject(json, "rows") : NULL;
    cJSON *eval = list ? cJSON_Duplicate(sweep->eval, true) : NULL;
    bool ok = eval && cJSON_AddItemToObject(json, "eval", eval);
    if (ok && sweep->attack)
        ok = cJSON_AddItemToObject(json, "attack", cJSON_Duplicate(sweep->attack, true));
    for (size_t i = 0; i < sweep->rows && ok; i++)
        ok = row_plan_add(list, &sweep->row[i]);
    if (ok)
        return json;
    cJSON_Delete(json);
    no_memory(error);
    return NULL;
}

void sweep_free(struct sweep *sweep)
{
    for (size_t i = 0; i < sweep->rows; i++)
        row_free(&sweep->row[i]);
    for (size_t i = 0; i < sweep->keys; i++)
        free(sweep->key[i]);
    free(sweep->row);
    free(sweep->key);
    free(sweep->landmark_text);
    cJSON_Delete(sweep->common);
    cJSON_Delete(sweep->eval);
    cJSON_Delete(sweep->attack);
}

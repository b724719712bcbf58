/* test_parity.c - every model family against transformers, PEFT and torch in double: log-probabilities, FLAT's losses
 * and gradients, an AdamW step, greedy text, and folders that come back as they were.
 *
 * A folder of tests/golden/models is a checkpoint with expected figures, one of tests/golden/adapters a LoRA adapter;
 * parity/make_model_golden.py makes them and says what they are. Each folder is a case of its own on every engine of
 * the table below. With FLAT_PARITY_TABLE=FILE the largest error of each goes into FILE as a table. With
 * FLAT_PARITY_OUT=DIR the saved folders and dumps stay in DIR, for parity/check_output.py.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../host/eval/generate.h"
#include "../../host/train/trainer.h"
#include "../support/parity.h"

enum { PROMPTS = 3, ROWS_MAX = 200 };

/* Largest errors: absolute of a log-probability; of a loss relative to its two terms; of a tensor's gradient and of its
 * change by AdamW relative to the norm. They are about ten times what is measured; in double that is the goldens' own
 * storage as float and as 11 digits. The CUDA engine runs emulated. In bf16 a folder's bounds are twice what
 * transformers in bf16 is itself off by, where that is more. */
static const struct bounds {
    const char *engine;
    double logprob, loss, gradient, update;
} bounds[] = {
    {"cpu", 5e-5, 5e-6, 4e-5, 1e-3},
    {"cpu64", 5e-9, 1e-11, 4e-7, 1e-6},
    {"emu-f32", 5e-5, 5e-6, 4e-5, 1e-3},
    {"emu-bf16", 2e-2, 2e-2, 2e-2, 1e-4},
};
enum { ENGINES = sizeof bounds / sizeof *bounds };

/* A line of the table: a folder on an engine. */
struct row {
    char name[64], folder[400];
    const struct bounds *bounds;
    double bf16_logprob, bf16_gradient; /* transformers' own errors in bf16 */
    struct worst logprob, loss, gradient, update;
    int tokens, same_tokens;
    bool adapter, files; /* files: they are equal */
};

/* What a cmocka case is told. */
struct parity_case {
    char title[96];
    struct row *row;
};

static void worst_check(const struct row *row, const char *what, const struct worst *worst, double bound)
{
    if (!(worst->error <= bound))
        fail_msg("%s on %s: %s differs by %.3g at %s; the bound is %.3g", row->name, row->bounds->engine, what,
                 worst->error, worst->where, bound);
}

/* Bounds of a folder on an engine. */
static struct bounds row_bounds(struct row *row, const struct golden *golden)
{
    struct bounds out = *row->bounds;
    const cJSON *bf16 = golden_member(golden->expected, "bf16");
    row->bf16_logprob = golden_number(bf16, "logprob");
    row->bf16_gradient = golden_number(bf16, "gradient");
    if (!strcmp(out.engine, "emu-bf16")) {
        out.logprob = fmax(out.logprob, 2 * row->bf16_logprob);
        out.gradient = fmax(out.gradient, 2 * row->bf16_gradient);
    }
    return out;
}

/* Log-probabilities, the losses and gradients of four divergences under both averages, the AdamW step. */
static void test_figures(void **state)
{
    struct row *row = ((struct parity_case *)*state)->row;
    struct golden golden;
    struct subject subject;
    golden_open(&golden, row->folder);
    const struct bounds bound = row_bounds(row, &golden);
    subject_open(&subject, &golden, row->folder, bound.engine);
    const cJSON *flat = golden_member(golden.expected, "flat"), *run;
    const int64_t padded_length = (int64_t)golden_number(golden.expected, "flat_padded_length");
    cJSON_ArrayForEach(run, flat)
    {
        const char *divergence = golden_member(run, "divergence")->valuestring;
        const char *average = golden_member(run, "average")->valuestring;
        const double got = subject_step(&subject, divergence, average, padded_length);
        worst_note(&row->loss, fabs(got - golden_number(run, "loss")) / golden_number(run, "terms"), divergence);
        compare_logprobs(&subject, &golden, &row->logprob);
        compare_gradient_norms(&subject, &golden, golden_member(run, "grad_norms"), &row->gradient);
    }
    run = flat->child; /* the one whose whole gradient is stored and that AdamW follows */
    subject_step(&subject, "total_variation", "pair", padded_length);
    compare_gradients(&subject, &golden, golden_member(run, "grad_norms"), &row->gradient);
    compare_update(&subject, &golden, golden_member(run, "grad_norms"), &row->update);
    print_message("%-12s %-8s log-prob %.1e  loss %.1e  gradient %.1e (%s)  AdamW %.1e (%s)\n", row->name,
                  bound.engine, row->logprob.error, row->loss.error, row->gradient.error, row->gradient.where,
                  row->update.error, row->update.where);
    worst_check(row, "log-probability", &row->logprob, bound.logprob);
    worst_check(row, "loss", &row->loss, bound.loss);
    worst_check(row, "gradient", &row->gradient, bound.gradient);
    worst_check(row, "AdamW's change", &row->update, bound.update);
    subject_close(&subject);
    golden_close(&golden);
}

/* Their ids; the longest one's length. */
static int64_t prompts_read(const cJSON *generation, struct token_list *prompt)
{
    int64_t longest = 0;
    assert_int_equal(cJSON_GetArraySize(generation), PROMPTS);
    for (int i = 0; i < PROMPTS; i++) {
        const cJSON *ids = golden_member(cJSON_GetArrayItem(generation, i), "prompt"), *id;
        prompt[i] = (struct token_list){.id = malloc((size_t)cJSON_GetArraySize(ids) * sizeof(int32_t))};
        assert_non_null(prompt[i].id);
        cJSON_ArrayForEach(id, ids) prompt[i].id[prompt[i].length++] = id->valueint;
        longest = (int64_t)prompt[i].length > longest ? (int64_t)prompt[i].length : longest;
    }
    return longest;
}

/* The first tokens of a continuation that are transformers'. The next may differ only where its best two were closer
 * than twice what a log-probability may be off; behind it the two texts are different ones. */
static int tokens_compare(const struct row *row, double bound, const cJSON *expected, const struct token_list *got)
{
    const cJSON *ids = golden_member(expected, "ids"), *margins = golden_member(expected, "margins");
    const int length = (int)got->length;
    assert_int_equal(length, cJSON_GetArraySize(ids));
    for (int i = 0; i < length; i++) {
        const int id = cJSON_GetArrayItem(ids, i)->valueint;
        const double margin = cJSON_GetArrayItem(margins, i)->valuedouble;
        if (got->id[i] == id)
            continue;
        if (margin > 2 * bound)
            fail_msg("%s on %s: token %d is %d, transformers' is %d by %.3g", row->name, row->bounds->engine, i,
                     (int)got->id[i], id, margin);
        return i;
    }
    return length;
}

/* Greedy continuations side by side, with cached keys and values. */
static void test_generation(void **state)
{
    struct row *row = ((struct parity_case *)*state)->row;
    struct error error = {0};
    struct golden golden;
    struct device device;
    struct model_config config;
    struct model model;
    struct weights weights;
    struct adapter adapter = {0};
    struct generator generator;
    struct token_list prompt[PROMPTS], out[PROMPTS] = {{0}};
    char base[512];
    golden_open(&golden, row->folder);
    const double bound = row_bounds(row, &golden).logprob;
    golden_model(&golden, row->folder, base, sizeof base);
    const cJSON *generation = golden_member(golden.expected, "generation");
    const int64_t longest = prompts_read(generation, prompt);
    const struct generate_options options = {
        .max_new_tokens = cJSON_GetArraySize(golden_member(generation->child, "ids"))};
    const enum dtype dtype = tiny_device_open(&device, row->bounds->engine, 2);
    OK(model_config_read(&config, base, &error));
    OK(model_create(&model, &config, dtype, &error));
    OK(weights_open(&weights, &model, base, &error));
    if (json_member(golden.expected, "base")) {
        OK(adapter_open(&adapter, &model, row->folder, &error));
        weights.adapter = &adapter;
    }
    OK(generator_open(&generator, &model, &device, PROMPTS, 2 * longest, longest + options.max_new_tokens, NULL,
                      &options, &error));
    OK(weights_load(&weights, &model, &error));
    OK(generator_run(&generator, prompt, PROMPTS, 0, NULL, 0, out, &error));
    for (int i = 0; i < PROMPTS; i++) {
        row->tokens += (int)out[i].length;
        row->same_tokens += tokens_compare(row, bound, cJSON_GetArrayItem(generation, i), &out[i]);
        free(out[i].id);
        free(prompt[i].id);
    }
    generator_close(&generator);
    adapter_free(&adapter);
    weights_close(&weights);
    model_free(&model);
    device_close(&device);
    golden_close(&golden);
}

/* Where a folder is saved, and what dump of it lies beside it. */
static void paths_make(const struct row *row, char *saved, char *dump, size_t bytes)
{
    const char *kept = getenv("FLAT_PARITY_OUT");
    char name[80];
    snprintf(name, sizeof name, "%s-%s", row->name, row->bounds->engine);
    path_join(saved, bytes, kept ? kept : temporary, name);
    path_join(dump, bytes, saved, "dump");
}

static void dump_write(const struct subject *subject, const char *dump)
{
    struct error error = {0};
    const struct trainer trainer = {.device = subject->tiny.device, .model = subject->tiny.model,
                                    .batch = subject->tiny.batch};
    OK(dump_micro_batch(&trainer, dump, 0, &error));
}

/* Saved at once, a folder is what was read. Saved after a step, read and saved again, it is the same files. */
static void test_files(void **state)
{
    struct row *row = ((struct parity_case *)*state)->row;
    struct error error = {0};
    struct golden golden;
    struct subject subject;
    char untouched[512], saved[512], again[512], dump[512];
    path_join(untouched, sizeof untouched, temporary, "untouched");
    path_join(again, sizeof again, temporary, "again");
    paths_make(row, saved, dump, sizeof saved);
    golden_open(&golden, row->folder);
    subject_open(&subject, &golden, row->folder, row->bounds->engine);
    OK(weights_save(&subject.weights, &subject.tiny.model, row->folder, untouched, NULL, &error));
    compare_folders(row->folder, untouched);
    assert_true(compare_files(row->folder, untouched, false) >= 2); /* config.json, generation_config.json */
    subject_step(&subject, "total_variation", "pair", 0);
    subject_update(&subject, golden_member(golden.expected, "adamw"));
    OK(weights_save(&subject.weights, &subject.tiny.model, row->folder, saved, NULL, &error));
    subject_close(&subject);
    subject_open(&subject, &golden, saved, row->bounds->engine);
    OK(weights_save(&subject.weights, &subject.tiny.model, saved, again, NULL, &error));
    assert_true(compare_files(saved, again, true) >= 3);
    subject_step(&subject, "total_variation", "pair", 0);
    dump_write(&subject, dump);
    row->files = true;
    subject_close(&subject);
    golden_close(&golden);
    directory_remove(untouched);
    directory_remove(again);
}

/* The same of an adapter: PEFT's tensors come back as they were, ours after a step are read as they were written. */
static void test_adapter_files(void **state)
{
    struct row *row = ((struct parity_case *)*state)->row;
    struct error error = {0};
    struct golden golden;
    struct subject subject;
    struct adapter adapter;
    char base[512], untouched[512], saved[512], again[512], dump[512];
    path_join(untouched, sizeof untouched, temporary, "untouched");
    path_join(again, sizeof again, temporary, "again");
    paths_make(row, saved, dump, sizeof saved);
    golden_open(&golden, row->folder);
    golden_model(&golden, row->folder, base, sizeof base);
    subject_open(&subject, &golden, row->folder, row->bounds->engine);
    struct model *model = &subject.tiny.model;
    OK(adapter_read_back(&adapter, model, model->lora.param, &error));
    OK(adapter_save(&adapter, model, base, untouched, &error));
    adapter_free(&adapter);
    compare_adapters(row->folder, untouched);
    subject_step(&subject, "total_variation", "pair", 0);
    subject_update(&subject, golden_member(golden.expected, "adamw"));
    OK(adapter_read_back(&adapter, model, model->lora.param, &error));
    OK(adapter_save(&adapter, model, base, saved, &error));
    adapter_free(&adapter);
    subject_close(&subject);
    subject_open(&subject, &golden, saved, row->bounds->engine);
    OK(adapter_save(&subject.adapter, &subject.tiny.model, base, again, &error));
    assert_int_equal(compare_files(saved, again, true), 2); /* tensors, adapter_config.json */
    subject_step(&subject, "total_variation", "pair", 0);
    dump_write(&subject, dump);
    row->files = true;
    subject_close(&subject);
    golden_close(&golden);
    directory_remove(untouched);
    directory_remove(again);
}

/* In bf16 only a model that is stored in bf16 is the one that the figures are of. */
static bool engine_holds(const char *folder, const char *engine)
{
    struct model_config config;
    return strcmp(engine, "emu-bf16") || model_config_read(&config, folder, NULL) || config.torch_dtype == DTYPE_BF16;
}

/* A row for every folder of tests/golden/<kind> on every engine. */
static int rows_add(struct row *rows, int count, const char *kind)
{
    char root[200];
    struct dirent **folder;
    snprintf(root, sizeof root, GOLDEN "/%s", kind);
    const int folders = scandir(root, &folder, NULL, alphasort);
    for (int i = 0; i < folders; i++) {
        for (int e = 0; e < ENGINES && folder[i]->d_name[0] != '.' && count < ROWS_MAX; e++) {
            struct row *row = &rows[count];
            snprintf(row->name, sizeof row->name, "%.60s", folder[i]->d_name);
            snprintf(row->folder, sizeof row->folder, "%s/%s", root, row->name);
            row->bounds = &bounds[e];
            row->adapter = !strcmp(kind, "adapters");
            count += row->adapter || engine_holds(row->folder, bounds[e].engine);
        }
        free(folder[i]);
    }
    if (folders >= 0)
        free(folder);
    return count;
}

static void case_add(struct CMUnitTest *tests, struct parity_case *cases, int at, struct row *row, const char *what,
                     CMUnitTestFunction function)
{
    struct parity_case *c = &cases[at];
    snprintf(c->title, sizeof c->title, "%s: %s on %s", row->name, what, row->bounds->engine);
    c->row = row;
    tests[at] = (struct CMUnitTest){.name = c->title, .test_func = function, .initial_state = c};
}

static void row_write(FILE *file, const struct row *row)
{
    char logprob[40] = "", gradient[40] = "";
    if (!strcmp(row->bounds->engine, "emu-bf16")) {
        snprintf(logprob, sizeof logprob, " (%.1e)", row->bf16_logprob);
        snprintf(gradient, sizeof gradient, " (%.1e)", row->bf16_gradient);
    }
    fprintf(file, "| %s | %s | %.1e%s | %.1e | %.1e%s | %.1e | %d of %d | %s |\n", row->bounds->engine, row->name,
            row->logprob.error, logprob, row->loss.error, row->gradient.error, gradient, row->update.error,
            row->same_tokens, row->tokens, row->files ? "bytes equal" : "-");
}

/* The rows as a Markdown table: of every figure the largest error, and in the line of an engine's name its bounds; in
 * bf16 behind it what transformers in bf16 is off by. */
static int table_write(const char *path, const struct row *rows, int count)
{
    FILE *file = fopen(path, "w");
    if (!file)
        return 1;
    fprintf(file, "| engine | folder | log-prob | loss | gradient | AdamW step | generation | save, load |\n"
                  "|---|---|---|---|---|---|---|---|\n");
    for (int e = 0; e < ENGINES; e++) {
        const struct bounds *b = &bounds[e];
        fprintf(file, "| **%s** | *bound* | *%.0e* | *%.0e* | *%.0e* | *%.0e* | | |\n", b->engine, b->logprob, b->loss,
                b->gradient, b->update);
        for (int i = 0; i < count; i++)
            if (rows[i].bounds == b)
                row_write(file, &rows[i]);
    }
    return fclose(file);
}

int main(void)
{
    struct row *rows = calloc(ROWS_MAX, sizeof *rows);
    struct parity_case *cases = calloc(3 * ROWS_MAX, sizeof *cases);
    struct CMUnitTest *tests = calloc(3 * ROWS_MAX, sizeof *tests);
    if (!rows || !cases || !tests)
        return 1;
    const int count = rows_add(rows, rows_add(rows, 0, "models"), "adapters");
    for (int i = 0; i < count; i++) {
        case_add(tests, cases, 3 * i, &rows[i], "figures", test_figures);
        case_add(tests, cases, 3 * i + 1, &rows[i], "generation", test_generation);
        case_add(tests, cases, 3 * i + 2, &rows[i], "files", rows[i].adapter ? test_adapter_files : test_files);
    }
    if (!count) {
        fprintf(stderr, GOLDEN ": no golden folders; run the tests from the root of the repository\n");
        return 1;
    }
    int failed = _cmocka_run_group_tests("parity", tests, 3 * (size_t)count, temporary_make, temporary_remove);
    const char *table = getenv("FLAT_PARITY_TABLE");
    if (table && table_write(table, rows, count)) {
        perror(table);
        failed++;
    }
    free(rows);
    free(tests);
    free(cases);
    return failed;
}

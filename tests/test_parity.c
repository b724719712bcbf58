/* test_parity.c - every model family against transformers and torch in double: log-probabilities, FLAT's losses and
 * gradients, an AdamW step, greedy text, and folders that come back as they were.
 *
 * A folder of tests/golden/models is a checkpoint with expected figures; parity/make_model_golden.py makes them and
 * says what they are. Each folder is a case of its own on every engine of the table below; run by hand, the program
 * prints the largest error of each. With FLAT_PARITY_OUT=DIR the saved folders and dumps stay in DIR, for
 * parity/check_output.py.
 */
#include "temporary.h"

#include <math.h>

#include "../host/eval/generate.h"
#include "../host/train/trainer.h"
#include "../host/util/file.h"
#include "parity.h"

#define GOLDEN "tests/golden/models"
enum { PROMPTS = 3 };

/* Largest errors: absolute of a log-probability; of a loss relative to its two terms; of a tensor's gradient and of its
 * change by AdamW relative to the norm. They are about ten times what is measured; in double that is the goldens' own
 * storage as float and as 11 digits. */
static const struct bounds {
    const char *engine;
    double logprob, loss, gradient, update;
} bounds[] = {
    {"cpu", 5e-5, 5e-6, 4e-5, 1e-3},
    {"cpu64", 5e-9, 1e-11, 4e-7, 1e-6},
};
enum { ENGINES = sizeof bounds / sizeof *bounds };

/* What a cmocka case is told. */
struct parity_case {
    char title[96], name[64], folder[400];
    const struct bounds *bounds;
};

/* The largest error so far and where it was. */
struct worst {
    double error;
    const char *where;
};

static void worst_note(struct worst *worst, double error, const char *where)
{
    if (!(error <= worst->error) && !isnan(worst->error)) /* a NaN counts, and stays */
        *worst = (struct worst){error, where};
}

static void worst_check(const struct parity_case *c, const char *what, const struct worst *worst, double bound)
{
    if (!(worst->error <= bound))
        fail_msg("%s on %s: %s differs by %.3g at %s; the bound is %.3g", c->name, c->bounds->engine, what,
                 worst->error, worst->where, bound);
}

static double list_norm(const cJSON *list)
{
    double sum = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, list) sum += item->valuedouble * item->valuedouble;
    return sqrt(sum);
}

/* A gradient that is zero in exact arithmetic (a key's bias without rotary positions) is rounding noise, which is held
 * against the whole gradient. */
static bool is_zero(double norm, double whole)
{
    return norm < 1e-9 * whole;
}

static void compare_logprobs(const struct subject *subject, const struct golden *golden, struct worst *worst)
{
    struct tiny tiny = subject->tiny;
    double *got = tiny_read_as(&tiny, dtype_stat(tiny.model.dtype), tiny.model.head.logprob, tiny.batch.heads);
    int i = 0;
    const cJSON *pair, *value;
    cJSON_ArrayForEach(pair, golden_member(golden->expected, "pairs"))
    {
        cJSON_ArrayForEach(value, golden_member(pair, "template_logprobs"))
            worst_note(worst, fabs(got[i++] - value->valuedouble), "a template answer");
        cJSON_ArrayForEach(value, golden_member(pair, "forget_logprobs"))
            worst_note(worst, fabs(got[i++] - value->valuedouble), "a forget answer");
    }
    assert_int_equal(i, tiny.batch.heads);
    free(got);
}

/* Norm of every tensor's gradient against a list. */
static void compare_gradient_norms(struct subject *subject, const struct golden *golden, const cJSON *norms,
                                   struct worst *worst)
{
    struct model *model = &subject->tiny.model;
    const double whole = list_norm(norms);
    assert_int_equal(model->tensors, cJSON_GetArraySize(norms));
    for (int t = 0; t < model->tensors; t++) {
        const char *name = model->tensor[t].name;
        const double expected = cJSON_GetArrayItem(norms, golden_place(golden, name))->valuedouble;
        float *got = subject_gradient(subject, t);
        double sum = 0;
        for (int64_t i = 0; i < tensor_elements(&model->tensor[t]); i++)
            sum += (double)got[i] * got[i];
        worst_note(worst, fabs(sqrt(sum) - expected) / (is_zero(expected, whole) ? whole : expected), name);
        free(got);
    }
}

/* Every element of every tensor's gradient. */
static void compare_gradients(struct subject *subject, const struct golden *golden, const cJSON *norms,
                              struct worst *worst)
{
    struct model *model = &subject->tiny.model;
    const double whole = list_norm(norms);
    for (int t = 0; t < model->tensors; t++) {
        const int64_t count = tensor_elements(&model->tensor[t]);
        double *expected = golden_gradient(golden, model->tensor[t].name, count), difference = 0, norm = 0;
        float *got = subject_gradient(subject, t);
        for (int64_t i = 0; i < count; i++) {
            difference += (got[i] - expected[i]) * (got[i] - expected[i]);
            norm += expected[i] * expected[i];
        }
        norm = sqrt(norm);
        worst_note(worst, sqrt(difference) / (is_zero(norm, whole) ? whole : norm), model->tensor[t].name);
        free(got);
        free(expected);
    }
}

/* +1 or -1 for element i: the top bit of splitmix64's finaliser. make_model_golden.py has the same. */
static double sign_of(uint64_t i)
{
    uint64_t z = (i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (z ^ (z >> 31)) >> 63 ? -1 : 1;
}

static double arena_norm(struct tiny *tiny, const void *arena)
{
    double *values = tiny_read_as(tiny, dtype_stat(tiny->model.dtype), arena, tiny->model.elements), sum = 0;
    for (int64_t i = 0; i < tiny->model.elements; i++)
        sum += values[i] * values[i];
    free(values);
    return sqrt(sum);
}

/* Puts what one AdamW step changes into the gradient arena, from where it can be read tensor by tensor. */
static void change_make(struct subject *subject, const cJSON *adamw)
{
    struct tiny *tiny = &subject->tiny;
    struct model *model = &tiny->model;
    double *before = tiny_read(tiny, model->param, model->elements);
    subject_update(subject, adamw);
    double *change = tiny_read(tiny, model->param, model->elements);
    for (int64_t i = 0; i < model->elements; i++)
        change[i] -= before[i];
    tiny_write(tiny, model->grad, change, model->elements);
    free(before);
    free(change);
}

/* Norm of a tensor's change and its product with the signs, over the elements whose gradient does not nearly vanish:
 * the first step is near the gradient's sign, and theirs is rounding. make_model_golden.py has the same. */
static void change_measure(struct subject *subject, const struct golden *golden, int t, double *norm,
                           double *signed_sum)
{
    const struct model *model = &subject->tiny.model;
    const int64_t count = tensor_elements(&model->tensor[t]);
    double *gradient = golden_gradient(golden, model->tensor[t].name, count), largest = 0, squares = 0;
    float *change = subject_gradient(subject, t);
    for (int64_t i = 0; i < count; i++)
        largest = fmax(largest, fabs(gradient[i]));
    *signed_sum = 0;
    for (int64_t i = 0; i < count; i++)
        if (fabs(gradient[i]) >= 1e-3 * largest || gradient[i] == 0) {
            squares += (double)change[i] * change[i];
            *signed_sum += sign_of((uint64_t)i) * change[i];
        }
    *norm = sqrt(squares);
    free(gradient);
    free(change);
}

/* One AdamW step: by tensor the norm of the change and its product with the signs, and the norms of the moments. */
static void compare_update(struct subject *subject, const struct golden *golden, const cJSON *norms,
                           struct worst *worst)
{
    struct tiny *tiny = &subject->tiny;
    struct model *model = &tiny->model;
    const cJSON *adamw = golden_member(golden->expected, "adamw"), *moment = golden_member(adamw, "moment_norms");
    change_make(subject, adamw);
    worst_note(worst, fabs(arena_norm(tiny, subject->m) / cJSON_GetArrayItem(moment, 0)->valuedouble - 1), "m");
    worst_note(worst, fabs(arena_norm(tiny, subject->v) / cJSON_GetArrayItem(moment, 1)->valuedouble - 1), "v");
    for (int t = 0; t < model->tensors; t++) {
        const char *name = model->tensor[t].name;
        const int place = golden_place(golden, name);
        const cJSON *expected = cJSON_GetArrayItem(golden_member(adamw, "update"), place);
        const double expected_norm = cJSON_GetArrayItem(expected, 0)->valuedouble;
        double norm, signed_sum;
        if (is_zero(cJSON_GetArrayItem(norms, place)->valuedouble, list_norm(norms)))
            continue;
        change_measure(subject, golden, t, &norm, &signed_sum);
        worst_note(worst, fabs(norm - expected_norm) / expected_norm, name);
        worst_note(worst, fabs(signed_sum - cJSON_GetArrayItem(expected, 1)->valuedouble) / expected_norm, name);
    }
}

/* Log-probabilities, the losses and gradients of four divergences under both averages, the AdamW step. */
static void test_figures(void **state)
{
    const struct parity_case *c = *state;
    struct golden golden;
    struct subject subject;
    struct worst logprob = {0}, loss = {0}, gradient = {0}, update = {0};
    golden_open(&golden, c->folder);
    subject_open(&subject, &golden, c->folder, c->bounds->engine);
    const cJSON *flat = golden_member(golden.expected, "flat"), *run;
    const int64_t padded_length = (int64_t)golden_number(golden.expected, "flat_padded_length");
    cJSON_ArrayForEach(run, flat)
    {
        const char *divergence = golden_member(run, "divergence")->valuestring;
        const char *average = golden_member(run, "average")->valuestring;
        const double got = subject_step(&subject, divergence, average, padded_length);
        worst_note(&loss, fabs(got - golden_number(run, "loss")) / golden_number(run, "terms"), divergence);
        compare_logprobs(&subject, &golden, &logprob);
        compare_gradient_norms(&subject, &golden, golden_member(run, "grad_norms"), &gradient);
    }
    run = flat->child; /* the one whose whole gradient is stored and that AdamW follows */
    subject_step(&subject, "total_variation", "pair", padded_length);
    compare_gradients(&subject, &golden, golden_member(run, "grad_norms"), &gradient);
    compare_update(&subject, &golden, golden_member(run, "grad_norms"), &update);
    print_message("%-10s %-6s log-prob %.1e  loss %.1e  gradient %.1e (%s)  AdamW %.1e (%s)\n", c->name,
                  c->bounds->engine, logprob.error, loss.error, gradient.error, gradient.where, update.error,
                  update.where);
    worst_check(c, "log-probability", &logprob, c->bounds->logprob);
    worst_check(c, "loss", &loss, c->bounds->loss);
    worst_check(c, "gradient", &gradient, c->bounds->gradient);
    worst_check(c, "AdamW's change", &update, c->bounds->update);
    subject_close(&subject);
    golden_close(&golden);
}

static void prompts_read(const cJSON *generation, struct token_list *prompt)
{
    assert_int_equal(cJSON_GetArraySize(generation), PROMPTS);
    for (int i = 0; i < PROMPTS; i++) {
        const cJSON *ids = golden_member(cJSON_GetArrayItem(generation, i), "prompt"), *id;
        prompt[i] = (struct token_list){.id = malloc((size_t)cJSON_GetArraySize(ids) * sizeof(int32_t))};
        assert_non_null(prompt[i].id);
        cJSON_ArrayForEach(id, ids) prompt[i].id[prompt[i].length++] = id->valueint;
    }
}

/* Greedy continuations side by side, with cached keys and values. */
static void test_generation(void **state)
{
    const struct parity_case *c = *state;
    struct error error = {0};
    struct golden golden;
    struct device device;
    struct model_config config;
    struct model model;
    struct weights weights;
    struct generator generator;
    struct token_list prompt[PROMPTS], out[PROMPTS] = {{0}};
    golden_open(&golden, c->folder);
    const cJSON *generation = golden_member(golden.expected, "generation");
    prompts_read(generation, prompt);
    const struct generate_options options = {
        .max_new_tokens = cJSON_GetArraySize(golden_member(generation->child, "ids"))};
    OK(device_open(&device, c->bounds->engine, 0, 2, &error));
    OK(model_config_read(&config, c->folder, &error));
    OK(model_create(&model, &config, device.engine->dtype, &error));
    OK(weights_open(&weights, &model, c->folder, &error));
    OK(generator_open(&generator, &model, &device, PROMPTS, 64, 40, &options, &error));
    OK(weights_load(&weights, &model, &error));
    OK(generator_run(&generator, prompt, PROMPTS, 0, NULL, 0, out, &error));
    for (int i = 0; i < PROMPTS; i++) {
        size_t k = 0;
        const cJSON *id;
        assert_int_equal(out[i].length, options.max_new_tokens);
        cJSON_ArrayForEach(id, golden_member(cJSON_GetArrayItem(generation, i), "ids"))
        {
            if (out[i].id[k] != id->valueint)
                fail_msg("%s on %s: prompt %d: token %zu is %d, transformers' is %d", c->name, c->bounds->engine, i, k,
                         (int)out[i].id[k], id->valueint);
            k++;
        }
        free(out[i].id);
        free(prompt[i].id);
    }
    generator_close(&generator);
    weights_close(&weights);
    model_free(&model);
    device_close(&device);
    golden_close(&golden);
}

/* Both folders have the same tensors in the same order, of the same type, shape and bytes. */
static void assert_same_tensors(const char *one, const char *two)
{
    struct error error = {0};
    struct safetensors a, b;
    OK(safetensors_open(&a, one, &error));
    OK(safetensors_open(&b, two, &error));
    assert_int_equal(a.tensors, b.tensors);
    assert_int_equal(a.shards, b.shards);
    for (int i = 0; i < a.tensors; i++) {
        const struct safetensors_tensor *from = &a.tensor[i], *to = &b.tensor[i];
        assert_string_equal(from->name, to->name);
        assert_string_equal(from->dtype_text, to->dtype_text);
        assert_int_equal(from->shard, to->shard);
        assert_int_equal(from->dims, to->dims);
        assert_memory_equal(from->shape, to->shape, sizeof from->shape);
        assert_int_equal(from->bytes, to->bytes);
        char *left = malloc(from->bytes), *right = malloc(from->bytes);
        assert_true(left && right);
        OK(safetensors_read_bytes(&a, from, 0, from->bytes, left, &error));
        OK(safetensors_read_bytes(&b, to, 0, from->bytes, right, &error));
        if (memcmp(left, right, from->bytes))
            fail_msg("%s: %s is not what was read", two, from->name);
        free(left);
        free(right);
    }
    safetensors_close(&a);
    safetensors_close(&b);
}

/* Every file of one folder is in the other, byte for byte. */
static int assert_same_files(const char *one, const char *two, bool weights)
{
    struct error error = {0};
    int files = 0;
    DIR *directory = opendir(one);
    assert_non_null(directory);
    for (const struct dirent *item; (item = readdir(directory));) {
        char path[512], *left, *right;
        size_t left_length, right_length;
        struct stat info;
        path_join(path, sizeof path, one, item->d_name);
        if (stat(path, &info) || !S_ISREG(info.st_mode) || (!weights && strstr(item->d_name, ".safetensors")))
            continue;
        OK(file_read(path, 1 << 26, &left, &left_length, &error));
        path_join(path, sizeof path, two, item->d_name);
        OK(file_read(path, 1 << 26, &right, &right_length, &error));
        if (left_length != right_length || memcmp(left, right, left_length))
            fail_msg("%s differs from the one in %s", path, one);
        free(left);
        free(right);
        files++;
    }
    closedir(directory);
    return files;
}

/* Saved at once, a folder is what was read. Saved after a step, read and saved again, it is the same files. */
static void test_files(void **state)
{
    const struct parity_case *c = *state;
    struct error error = {0};
    struct golden golden;
    struct subject subject;
    const char *kept = getenv("FLAT_PARITY_OUT");
    char untouched[512], saved[512], again[512], dump[512];
    path_join(untouched, sizeof untouched, temporary, "untouched");
    path_join(again, sizeof again, temporary, "again");
    path_join(saved, sizeof saved, kept ? kept : temporary, c->name);
    path_join(dump, sizeof dump, saved, "dump");
    golden_open(&golden, c->folder);
    subject_open(&subject, &golden, c->folder, c->bounds->engine);
    OK(weights_save(&subject.weights, &subject.tiny.model, c->folder, untouched, &error));
    assert_same_tensors(c->folder, untouched);
    assert_true(assert_same_files(c->folder, untouched, false) >= 2); /* config.json, generation_config.json */
    subject_step(&subject, "total_variation", "pair", 0);
    subject_update(&subject, golden_member(golden.expected, "adamw"));
    OK(weights_save(&subject.weights, &subject.tiny.model, c->folder, saved, &error));
    subject_close(&subject);
    subject_open(&subject, &golden, saved, c->bounds->engine);
    OK(weights_save(&subject.weights, &subject.tiny.model, saved, again, &error));
    assert_true(assert_same_files(saved, again, true) >= 3);
    subject_step(&subject, "total_variation", "pair", 0);
    const struct trainer trainer = {.device = subject.tiny.device, .model = subject.tiny.model,
                                    .batch = subject.tiny.batch};
    OK(dump_micro_batch(&trainer, dump, 0, &error));
    subject_close(&subject);
    golden_close(&golden);
    directory_remove(untouched);
    directory_remove(again);
}

static int case_add(struct CMUnitTest *tests, struct parity_case *cases, int count, const char *name, const char *what,
                    int engine, CMUnitTestFunction function)
{
    struct parity_case *c = &cases[count];
    snprintf(c->name, sizeof c->name, "%s", name);
    snprintf(c->folder, sizeof c->folder, GOLDEN "/%s", name);
    snprintf(c->title, sizeof c->title, "%s: %s on %s", name, what, bounds[engine].engine);
    c->bounds = &bounds[engine];
    tests[count] = (struct CMUnitTest){.name = c->title, .test_func = function, .initial_state = c};
    return count + 1;
}

int main(void)
{
    struct dirent **folder;
    const int folders = scandir(GOLDEN, &folder, NULL, alphasort);
    const int most = (2 * ENGINES + 1) * (folders > 0 ? folders : 1);
    struct CMUnitTest *tests = calloc((size_t)most, sizeof *tests);
    struct parity_case *cases = calloc((size_t)most, sizeof *cases);
    int count = 0;
    for (int i = 0; i < folders && tests && cases; i++) {
        const char *name = folder[i]->d_name;
        for (int engine = 0; engine < ENGINES && name[0] != '.'; engine++) {
            count = case_add(tests, cases, count, name, "figures", engine, test_figures);
            count = case_add(tests, cases, count, name, "generation", engine, test_generation);
        }
        if (name[0] != '.')
            count = case_add(tests, cases, count, name, "files", 0, test_files);
        free(folder[i]);
    }
    if (!count) {
        fprintf(stderr, GOLDEN ": no golden folders; run the tests from the root of the repository\n");
        return 1;
    }
    free(folder);
    int failed = _cmocka_run_group_tests("parity", tests, (size_t)count, temporary_make, temporary_remove);
    free(tests);
    free(cases);
    return failed;
}

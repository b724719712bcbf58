/* step_pairs.c - the batches of the step benchmarks; see step.h. */
#include "step.h"

#include <stdlib.h>
#include <string.h>

#include "../util/file.h"
#include "../util/memory.h"

enum { SEED = 1, PADDED_LENGTH = 500, FIRST_ID = 3 }; /* ids below FIRST_ID are special in most vocabularies */

const char *step_variant_name(enum step_variant variant)
{
    static const char *const name[VARIANTS] = {"padded", "packed", "answers", "shared", "graph"};
    return name[variant];
}

struct pair_lengths {
    int prompt, answer[2];
};

static const struct {
    const char *workload;
    struct pair_lengths lengths;
} fixed[] = {{"chunk", {1, {11, 2047}}}, {"full", {1, {1024, 1024}}}, {"lora", {1, {2048, 2048}}}};

/* The lengths of every pair of a workload; NULL: those of the file. */
static const struct pair_lengths *fixed_lengths(const char *workload)
{
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (!strcmp(workload, fixed[i].workload))
            return &fixed[i].lengths;
    return NULL;
}

static int lengths_read(const char *path, struct pair_lengths **lengths, size_t *count, struct error *error)
{
    char *text;
    size_t length, capacity = 0;
    int status = file_read(path, 1 << 20, &text, &length, error);
    if (status)
        return status;
    for (char *line = strtok(text, "\n"); line && !status; line = strtok(NULL, "\n")) {
        struct pair_lengths pair;
        if (sscanf(line, "%d %d %d", &pair.prompt, &pair.answer[0], &pair.answer[1]) != 3 || pair.prompt < 1 ||
            pair.answer[0] < 1 || pair.answer[1] < 1 || pair.prompt > 1 << 20 || pair.answer[0] > 1 << 20 ||
            pair.answer[1] > 1 << 20)
            status = error_set(error, STATUS_INPUT, "%s: line %zu: expected three positive numbers of tokens", path, *count + 1);
        else if (!(status = memory_grow(lengths, &capacity, *count + 1, sizeof **lengths, error)))
            (*lengths)[(*count)++] = pair;
    }
    free(text);
    if (!status && !*count)
        status = error_set(error, STATUS_INPUT, "%s: has no line", path);
    return status;
}

static int32_t id_draw(uint64_t counter, int64_t vocab_size)
{
    return (int32_t)(FIRST_ID + (int64_t)(sample_uniform(SEED, counter) * (double)(vocab_size - FIRST_ID)));
}

/* One pair at *ids; *counter counts the drawn ids of all pairs. Filling is no draw: other variants have the same ids. */
static int32_t *pair_make(const struct pair_lengths *lengths, enum step_variant variant, int64_t vocab_size, uint64_t *counter,
                          struct batch_sequence *sequence, int32_t *ids)
{
    const uint64_t prompt = *counter;
    *counter += (uint64_t)lengths->prompt;
    for (int side = 0; side < 2; side++) {
        const int answer = lengths->answer[side], filled = variant == VARIANT_PADDED ? PADDED_LENGTH : 0;
        int length = lengths->prompt + answer;
        for (int i = 0; i < length; i++)
            ids[i] = id_draw(i < lengths->prompt ? prompt + (uint64_t)i : *counter + (uint64_t)(i - lengths->prompt), vocab_size);
        *counter += (uint64_t)answer;
        for (; length < filled; length++)
            ids[length] = FIRST_ID;
        sequence[side] = (struct batch_sequence){ids, length, variant < VARIANT_ANSWERS ? 1 : lengths->prompt,
                                                  side ? ROLE_ANSWER : ROLE_TEMPLATE};
        ids += length;
    }
    return ids;
}

int step_pairs_make(struct step_pairs *pairs, const char *workload, const char *lengths_file, int count, int64_t vocab_size,
                    enum step_variant variant, struct error *error)
{
    *pairs = (struct step_pairs){.pairs = count};
    struct pair_lengths *lengths = NULL;
    size_t known = 0, total = 0;
    const struct pair_lengths *same = fixed_lengths(workload);
    int status = same ? STATUS_OK : lengths_read(lengths_file, &lengths, &known, error);
    for (size_t i = 0; i < (size_t)count && !status; i++) {
        const struct pair_lengths *l = same ? same : &lengths[i % known];
        total += 2 * (size_t)l->prompt + (size_t)l->answer[0] + (size_t)l->answer[1] + 2 * PADDED_LENGTH;
    }
    if (!status) {
        pairs->ids = memory_array(total, sizeof *pairs->ids, error);
        pairs->sequence = memory_array(2 * (size_t)count, sizeof *pairs->sequence, error);
        pairs->first = memory_array((size_t)count + 1, sizeof *pairs->first, error);
        status = pairs->ids && pairs->sequence && pairs->first ? STATUS_OK : STATUS_MEMORY;
    }
    uint64_t counter = 0;
    int32_t *ids = pairs->ids;
    for (int i = 0; i < count && !status; i++)
        ids = pair_make(same ? same : &lengths[(size_t)i % known], variant, vocab_size, &counter, &pairs->sequence[2 * i], ids);
    for (int i = 0; i <= count && !status; i++)
        pairs->first[i] = 2 * i;
    free(lengths);
    if (status)
        step_pairs_free(pairs);
    return status;
}

void step_pairs_free(struct step_pairs *pairs)
{
    free(pairs->ids);
    free(pairs->sequence);
    free(pairs->first);
    *pairs = (struct step_pairs){0};
}

/* forget_noise.c - see forget_noise.h. */
#include "forget_noise.h"

#include <stdlib.h>
#include <string.h>

#include "../../kernels/sample.h"
#include "../util/memory.h"

static int options_check(const struct option_set *set, void *values, struct error *error)
{
    static const char *const part[] = {"noise_rate", "noise_seed", "mask_token"};
    const struct forget_noise_options *options = values;
    for (int i = 0; i < 3; i++)
        if (option_source(set, part[i]) == OPTION_FROM_FLAG && options->noise_type == NOISE_NONE)
            return error_set(error, STATUS_USAGE, "%s: of no use without noise_type mask or rewrite", part[i]);
    return options->noise_type == NOISE_REWRITE && option_source(set, "mask_token") == OPTION_FROM_FLAG
               ? error_set(error, STATUS_USAGE, "mask_token: noise_type rewrite masks nothing; leave it out")
               : STATUS_OK;
}

static const char *const type_names[] = {[NOISE_NONE] = "none", [NOISE_MASK] = "mask", [NOISE_REWRITE] = "rewrite", NULL};
static const struct option option_rows[] = {
    {.name = "noise_type", OPTION_FIELD(struct forget_noise_options, noise_type), .choices = type_names, .initial = "none",
     .help = "what happens to some tokens of the answers to forget as they are read: mask puts mask_token in their place, rewrite "
             "another token of the forget answers"},
    {.name = "noise_rate", OPTION_FIELD(struct forget_noise_options, noise_rate), .initial = "0.3", .max = 1,
     .help = "share of these tokens"},
    {.name = "noise_seed", OPTION_FIELD(struct forget_noise_options, noise_seed), .initial = "0", .max = OPTION_EXACT_MAX,
     .help = "which ones, and what they become: the same in every epoch and whatever seed is"},
    {.name = "mask_token", OPTION_FIELD(struct forget_noise_options, mask_token), .operand = "TOKEN",
     .help = "token of the vocabulary for noise_type mask; without it the tokenizer's mask, unknown, padding or end token"},
};
const struct option_group forget_noise_option_group = {OPTION_GROUP("Forget noise", option_rows, struct forget_noise_options),
                                                       .check = options_check};

/* Keeps the draw of what a token becomes apart from that of whether it stays. */
#define REWRITE_STREAM 0x9E3779B97F4A7C15ull

static int mask_find(struct forget_noise *noise, const struct tokenizer *tokenizer, struct error *error)
{
    static const char *const known[] = {"[MASK]", "<mask>", "<unk>", "[UNK]", "<pad>", "[PAD]"};
    const char *asked = noise->options->mask_token;
    noise->mask = *asked ? tokenizer_token_id(tokenizer, asked) : -1;
    if (*asked)
        return noise->mask >= 0 ? STATUS_OK
                                : error_set(error, STATUS_USAGE, "mask_token: \"%s\" is no token of this tokenizer", asked);
    for (size_t i = 0; i < sizeof known / sizeof *known && noise->mask < 0; i++)
        noise->mask = tokenizer_token_id(tokenizer, known[i]);
    noise->mask = noise->mask >= 0 ? noise->mask : tokenizer_eos(tokenizer);
    return noise->mask >= 0 ? STATUS_OK
                            : error_set(error, STATUS_USAGE, "mask_token: the tokenizer has no token for it; name one");
}

int forget_noise_open(struct forget_noise *noise, const struct forget_noise_options *options, const struct tokenizer *tokenizer,
                      struct error *error)
{
    *noise = (struct forget_noise){0};
    if (!options || options->noise_type == NOISE_NONE || options->noise_rate == 0)
        return STATUS_OK;
    noise->options = options;
    return options->noise_type == NOISE_MASK ? mask_find(noise, tokenizer, error) : STATUS_OK;
}

int forget_noise_add(struct forget_noise *noise, const int32_t *ids, size_t count, struct error *error)
{
    int status = memory_grow(&noise->pool.id, &noise->pool.capacity, noise->pool.length + count, sizeof *ids, error);
    if (!status && count)
        memcpy(noise->pool.id + noise->pool.length, ids, count * sizeof *ids);
    noise->pool.length += status ? 0 : count;
    return status;
}

void forget_noise_apply(struct forget_noise *noise, int32_t row, int32_t *ids, size_t count)
{
    if (!noise->options)
        return;
    const uint64_t seed = (uint64_t)noise->options->noise_seed;
    const size_t most = noise->pool.length;
    noise->tokens += (int64_t)count;
    for (size_t i = 0; i < count; i++) {
        const uint64_t counter = (uint64_t)row << 32 | i;
        if (sample_uniform(seed, counter) >= noise->options->noise_rate)
            continue;
        noise->replaced++;
        if (noise->options->noise_type == NOISE_MASK)
            ids[i] = noise->mask;
        else if (most)
            ids[i] = noise->pool.id[(size_t)(sample_uniform(seed + REWRITE_STREAM, counter) * (double)most)];
    }
}

void forget_noise_close(struct forget_noise *noise)
{
    free(noise->pool.id);
    *noise = (struct forget_noise){0};
}

/* answer_list.h - the texts that a method teaches instead of the answers to forget.
 *
 * .txt: one per line, without the space around it. .csv and .tsv: the column titled answer, response, refusal, refusal
 * response or completion (any case). .json and .jsonl: texts, objects with one of these keys, or an array of either; a file
 * of plain lines under these names, as TOFU's idontknow.jsonl, is read as text. Each also through gzip. What cannot be
 * placed is refused: no column of these names, or several.
 */
#ifndef FLAT_IO_ANSWER_LIST_H
#define FLAT_IO_ANSWER_LIST_H
#include <stdint.h>

#include "../../util/checksum.h"
#include "../../util/options.h"

struct answer_list {
    int count;
    char **text;
    struct digest digest; /* of the file as it was read */
};
/* An empty list and an empty answer are errors. */
int answer_list_read(struct answer_list *list, const char *path, struct error *error);
void answer_list_free(struct answer_list *list);

/* Which of `count` template answers goes with a row: random is a counter-based function of (seed, epoch,
 * row), cycle is (row + epoch) mod count, fixed is 0. count must be positive. */
enum template_choice { TEMPLATE_RANDOM, TEMPLATE_CYCLE, TEMPLATE_FIXED };
enum template_every { TEMPLATE_EVERY_EPOCH, TEMPLATE_EVERY_RUN };
struct template_options {
    const char *file; /* "" when not given */
    enum template_choice choice;
    enum template_every every; /* when a row gets a new one */
};
extern const struct option_group template_option_group;
int template_pick(enum template_choice choice, uint64_t seed, int epoch, int64_t row, int count);

#endif

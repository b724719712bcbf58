/* chunk_line.h - the measurements of one chunk of questions as a line of text that gives the same bits back:
 *
 *   {"chunk": 3, "scored": [[num_tokens, logprob_sum, prob_mean, [logprob, standardised, argmax, ...]], ...]}
 *   {"chunk": 4, "continued": [[generated, "text"], ...]}
 *
 * in the order of the chunk's questions; three numbers per token where they are wanted. NaN and Infinity stand bare.
 */
#ifndef FLAT_EVAL_CHUNK_LINE_H
#define FLAT_EVAL_CHUNK_LINE_H
#include "questions.h"

struct eval_chunk {
    bool continued;
    const int *question; /* [questions] */
    int questions;
};

/* Appends the line with its end. */
int chunk_line_print(const struct question_list *list, const struct eval_chunk *chunk, int number, struct buffer *out,
                     struct error *error);
/* Puts what a line (without its end) says into the questions; *number: its chunk. STATUS_INPUT for a line that does not
 * fit. */
int chunk_line_read(struct question_list *list, const struct eval_chunk *chunks, int count, const char *text,
                    size_t length, int *number, struct error *error);

#endif

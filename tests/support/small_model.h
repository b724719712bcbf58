/* small_model.h - the least that a whole run needs, for tests that make one thousands of times: a model of one layer of 16
 * with 26 tokens, two pairs, two templates.
 */
#ifndef FLAT_TESTS_SMALL_MODEL_H
#define FLAT_TESTS_SMALL_MODEL_H

/* Writes into `directory` model/ (one float32 file), sharded/ (the same weights in two files), other/ (other weights),
 * data.jsonl and templates.txt. For use inside a cmocka test or its setup: runs the program, fails the test on any error. */
void small_model_make(const char *directory);

#endif

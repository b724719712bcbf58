/* comm_rank.h - what one rank does in the tests of comm: the test program starts itself as
 *     test_comm rank SCENARIO DEVICE
 */
#ifndef FLAT_TESTS_COMM_RANK_H
#define FLAT_TESTS_COMM_RANK_H

/* Runs the scenario named by argv[2] on the engine argv[3]; an exit code, with one line on stderr for a failure. */
int comm_rank_main(int argc, char **argv);

#endif

/* test_comm_loss.c - ranks of a real `flat unlearn` are killed or stopped at random times, from the start to the last
 * save: the others must end by themselves, soon, with the code of a lost peer and its name, and leave nothing
 * half-written.
 *
 * FLAT_KILLS is the number of runs (6); every fourth rank is stopped (SIGSTOP), the others are killed. FLAT_SEED is
 * that of the choices. The times are printed.
 */
#include <ftw.h>
#include <signal.h>
#include <sys/wait.h>

#include "../support/temporary.h"

#include "../../host/util/clock.h"
#include "../../host/util/file.h"
#include "../support/comm_ranks.h"
#include "../support/program.h"

enum { RANKS = 3, RUN_SECONDS = 300 };

/* Ranks that were never met are given up after this. */
#define ENVIRONMENT "FLAT_COMM_TIMEOUT=20"

static uint64_t random_state;

static double random_unit(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (double)(random_state >> 11) * 0x1p-53;
}

static int number_of(const char *name, int otherwise)
{
    const char *text = getenv(name);
    return text && atoi(text) > 0 ? atoi(text) : otherwise;
}

/* The command of a run, in buffers of its own. */
struct command {
    char program[512], model[512], output[512];
    const char *argv[24];
};

static void command_make(struct command *command, const char *output)
{
    const char *build = getenv("FLAT_BUILD");
    snprintf(command->program, sizeof command->program, "%s/flat", build && *build ? build : "build");
    snprintf(command->model, sizeof command->model, "%s", temporary_path("model"));
    snprintf(command->output, sizeof command->output, "%s", temporary_path(output));
    const char *const argv[] = {command->program, "unlearn", "configs/demo/unlearn.json", "--device", "cpu",
                                "--threads", "1", "--model_name_or_path", command->model, "--output_dir",
                                command->output, "--num_train_epochs", "6", "--per_device_train_batch_size", "4",
                                "--save_strategy", "epoch", "--logging_steps", "1", NULL};
    memcpy(command->argv, argv, sizeof argv);
}

/* Files of a save that was not finished, but for those of the killed process, which could not remove its own. */
static int half_written;
static char spared[32];

static int entry_look(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info, (void)type, (void)where;
    const char *found = strstr(path, ".tmp-");
    if (found && strcmp(found, spared)) {
        print_message("left behind: %s\n", path);
        half_written++;
    }
    return 0;
}

static int half_written_in(const char *folder, pid_t killed)
{
    half_written = 0;
    snprintf(spared, sizeof spared, ".tmp-%ld", (long)killed);
    nftw(folder, entry_look, 16, FTW_PHYS);
    return half_written;
}

static void text_print(const struct ranks *ranks)
{
    for (int rank = 0; rank < ranks->size; rank++)
        print_message("rank %d, %d: %s\n", rank, ranks->status[rank], ranks->text[rank]);
}

/* How far the run had come, by what rank 0 had said. */
static const char *phase_of(const struct ranks *ranks)
{
    const char *text = ranks->text[0];
    return strstr(text, "saved ") ? "end" : strstr(text, "100%") ? "last save" : strstr(text, "unlearn  ") ? "steps"
           : strstr(text, "rank 0: host") ? "loaded" : "start";
}

/* One run and one loss. Seconds from the loss to the end of the last other rank; -1 when the run was over before it. */
static double loss_run(int victim, bool stop, double after, const char **phase)
{
    struct command command;
    struct ranks ranks;
    char name[32], name_missing[32];
    command_make(&command, "out");
    ranks_start(&ranks, RANKS, command.argv, ENVIRONMENT);
    usleep((useconds_t)(after * 1e6));
    const pid_t pid = ranks.pid[victim];
    siginfo_t info = {0};
    waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT);
    const bool early = info.si_pid != 0;
    kill(pid, stop ? SIGSTOP : SIGKILL);
    const double start = clock_seconds();
    double longest = 0;
    ranks_wait_others(&ranks, stop ? victim : -1, RUN_SECONDS);
    snprintf(name, sizeof name, "rank %d (host", victim);
    snprintf(name_missing, sizeof name_missing, victim ? "rank %d of" : "rank %d did not", victim);
    *phase = phase_of(&ranks);
    const bool over = early || strstr(ranks.text[0], "saved ") != NULL; /* whoever has taken leave is no loss */
    for (int rank = 0; rank < RANKS; rank++) {
        if (rank == victim)
            continue;
        longest = ranks.seconds[rank] - start > longest ? ranks.seconds[rank] - start : longest;
        const bool named = strstr(ranks.text[rank], name) || strstr(ranks.text[rank], name_missing);
        if (!(over && ranks.status[rank] == 0) && (ranks.status[rank] != 6 || !named)) {
            text_print(&ranks);
            fail_msg("rank %d was %s after %.2f s; rank %d ended with %d", victim, stop ? "stopped" : "killed", after,
                     rank, ranks.status[rank]);
        }
    }
    if (half_written_in(command.output, pid))
        fail_msg("a save was left half-written");
    ranks_free(&ranks);
    directory_remove(command.output);
    return over ? -1 : longest;
}

static void test_losses(void **state)
{
    (void)state;
    const int wanted = number_of("FLAT_KILLS", 6);
    struct command command;
    struct ranks ranks;
    random_state = (uint64_t)number_of("FLAT_SEED", 1) * 0x9e3779b97f4a7c15u;
    /* an undisturbed run says how long one takes */
    command_make(&command, "out");
    double start = clock_seconds(), worst[2] = {0, 0};
    ranks_run(&ranks, RANKS, command.argv, ENVIRONMENT, 0);
    const double whole = clock_seconds() - start;
    assert_int_equal(half_written_in(command.output, 0), 0);
    ranks_free(&ranks);
    directory_remove(command.output);
    print_message("a run takes %.1f s\n", whole);
    for (int done = 0, tries = 0; done < wanted; tries++) {
        const char *phase;
        const bool stop = done % 4 == 3;
        const int victim = (int)(random_unit() * RANKS);
        const double after = random_unit() * whole, seconds = loss_run(victim, stop, after, &phase);
        print_message("rank %d %s after %6.3f s (%s): ", victim, stop ? "stopped" : "killed ", after, phase);
        print_message(seconds < 0 ? "the run was over\n" : "the others had ended after %.2f s\n", seconds);
        if (seconds < 0) {
            assert_true(tries < 20 * wanted);
            continue;
        }
        worst[stop] = seconds > worst[stop] ? seconds : worst[stop];
        done++;
    }
    print_message("%d losses: 0 hangs; at most %.2f s after a kill, %.2f s after a stop\n", wanted, worst[0], worst[1]);
}

/* The model that the runs unlearn from. */
static int model_make(void **state)
{
    if (temporary_make(state))
        return -1;
    struct program_result result = program_line("finetune configs/demo/finetune.json --device cpu --threads 1 "
                                                "--output_dir %s --num_train_epochs 1 --max_steps 4 --quiet",
                                                temporary_path("model"));
    program_expect(&result, 0);
    program_free(&result);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_losses)};
    return cmocka_run_group_tests(tests, model_make, temporary_remove);
}

/* main.c - the program `flat`: finds the command, parses its command line, runs it, prints one error line. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../io/json/json.h"
#include "../util/version.h"
#include "command.h"

/* --help, --help_config: text instead of work. */
static int print_help(struct invocation *run, struct error *error)
{
    struct buffer text = {0};
    if (run->arguments.help)
        return text_print(&text, command_print_help(run, terminal_columns(), &text, error), error);
    cJSON *json = invocation_defaults_json(run, error);
    int status = json ? json_print_pretty(json, &text, error) : STATUS_MEMORY;
    cJSON_Delete(json);
    if (!status)
        status = buffer_append(&text, "\n", 1, error);
    return text_print(&text, status, error);
}

static int command_run(int argc, char **argv, struct error *error)
{
    struct invocation run = {0};
    const struct command *command;
    int words, status = command_find(commands, argc - 1, argv + 1, &command, &words, error);
    if (status)
        return status;
    status = invocation_parse(&run, commands, command, argc - 1 - words, argv + 1 + words, error);
    const struct log_options *log = option_set_values(&run.set, &log_option_group);
    log_init(&run.log, stderr, log && log->quiet);
    run.log.verbose = log && log->verbose;
    run.argc = argc;
    run.argv = argv;
    if (!status)
        status = run.arguments.help || run.arguments.help_config ? print_help(&run, error) : command->run(&run, error);
    invocation_free(&run);
    return status;
}

/* What stands instead of a command. */
static int run_without_command(const char *word, struct error *error)
{
    struct buffer text = {0};
    if (!strcmp(word, "-V") || !strcmp(word, "--version")) {
        printf("flat %s (%s)\n", FLAT_VERSION, version_commit());
        return stdout_finish(error);
    }
    return text_print(&text, command_print_usage(commands, terminal_columns(), &text, error), error);
}

/* Where the caller has closed stdin, stdout or stderr, no file of ours may get its number: messages would be written into
 * it. Read-only, so that what is written there fails as before. */
static void streams_occupy(void)
{
    int fd = 0;
    while (fd >= 0 && fd <= STDERR_FILENO)
        fd = open("/dev/null", O_RDONLY);
    if (fd >= 0)
        close(fd);
}

/* The most of its stack that the program takes is 0.4 MB, in a run of unlearn that evaluates at its end: its options and paths,
 * those of the evaluation, and an engine's blocks of operands. */
enum { STACK_BYTES = 448 << 10 };

/* The system makes the stack longer when the page is touched. */
static __attribute__((noinline)) void stack_grow(void)
{
    volatile char room[STACK_BYTES];
    room[0] = 0;
    (void)room[0];
}

/* Bytes of the stack that arguments and environment take, which stand at its other end, and what is beside them. */
static size_t stack_taken(char **argv)
{
    enum { BESIDE = 16 << 10 };
    const char *last = argv[0] ? argv[0] : "";
    for (char **text = argv; *text; text++)
        last = *text;
    for (char **text = environ; text && *text; text++)
        last = *text;
    const uintptr_t end = (uintptr_t)last, here = (uintptr_t)&last;
    return BESIDE + (end > here && end - here < PTRDIFF_MAX ? end - here : 0);
}

/* A stack that is too small is a crash, somewhere; so is one that cannot grow because the address space is full. So it grows
 * here, where there is room for it. */
static int stack_take(char **argv, struct error *error)
{
    struct rlimit limit;
    const size_t least = STACK_BYTES + stack_taken(argv);
    if (!getrlimit(RLIMIT_STACK, &limit) && limit.rlim_cur < least)
        return error_set(error, STATUS_MEMORY, "the stack is limited to %lld KB; expected %zu or more (ulimit -s)",
                         (long long)limit.rlim_cur >> 10, (least >> 10) + 1);
    void *room = mmap(NULL, STACK_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        return error_set(error, STATUS_MEMORY, "no room for a stack of %d KB: %s (ulimit -v)", STACK_BYTES >> 10, strerror(errno));
    munmap(room, STACK_BYTES);
    stack_grow();
    return STATUS_OK;
}

int main(int argc, char **argv)
{
    static const char *const instead[] = {"--help", "-h", "--version", "-V"};
    struct error error = {0};
    struct log log;
    streams_occupy();
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is a failed write, reported like any other */
    signal(SIGXFSZ, SIG_IGN); /* and so is a file that has become too large */
    log_init(&log, stderr, false);
    const char *word = argc > 1 ? argv[1] : "--help";
    bool command = true;
    for (size_t i = 0; i < sizeof instead / sizeof *instead; i++)
        command = command && strcmp(word, instead[i]);
    int status = stack_take(argv, &error);
    if (!status)
        status = command ? command_run(argc, argv, &error) : run_without_command(word, &error);
    if (argc < 2 && !status)
        status = STATUS_USAGE;
    if (status && *error.text) /* of several ranks one reports for all */
        log_error(&log, &error);
    return status;
}

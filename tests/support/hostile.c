/* hostile.c - see hostile.h. */
#include "hostile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../../host/util/utf8.h"
#include "../../host/util/version.h"

static const char *argv[] = {NULL, "rank", "collectives", "cpu", NULL};

void hostile_program(const char *self) { argv[0] = self; }

double soon(void) { return clock_seconds() + RANKS_SECONDS; }

/* One printable line after the other, and nothing else. */
static void printable(const struct ranks *ranks)
{
    for (int rank = 0; rank < ranks->size; rank++) {
        const char *text = ranks->text[rank];
        bool clean = utf8_valid(text, strlen(text), NULL);
        for (const char *at = text; clean && *at; at++)
            clean = *at == '\n' || ((unsigned char)*at >= 0x20 && *at != 0x7f && strncmp(at, "\xc2\x9b", 2));
        if (!clean || strstr(text, "\nerror: all is well"))
            fail_msg("rank %d prints raw: %s", rank, text);
    }
}

void root_start(struct ranks *root, const char *extra)
{
    char variables[256];
    snprintf(variables, sizeof variables, "WORLD_SIZE=2 LOCAL_WORLD_SIZE=2 %s", extra);
    ranks_start(root, 1, argv, variables);
}

void other_start(struct ranks *other, int port, const char *extra)
{
    char variables[256];
    snprintf(variables, sizeof variables, "WORLD_SIZE=2 LOCAL_WORLD_SIZE=2 RANK=1 LOCAL_RANK=1 %s", extra);
    ranks_start_at(other, port, 1, argv, variables);
}

void ended(struct ranks *ranks, const char *what, int status, const char *text)
{
    ranks_wait(ranks, RANKS_SECONDS);
    printable(ranks);
    if (ranks->status[0] != status || !strstr(ranks->text[0], text))
        fail_msg("%s: exit code %d, expected %d and \"%s\"; it said: %s", what, ranks->status[0], status, text,
                 ranks->text[0]);
    ranks_free(ranks);
}

static uint64_t noise_state = 1;

void noise(void *bytes, size_t count)
{
    for (unsigned char *at = bytes; count--; at++) {
        noise_state = noise_state * 6364136223846793005u + 1442695040888963407u;
        *at = (unsigned char)(noise_state >> 56);
    }
}

struct comm_hello hello_of(int rank, int size, int channel)
{
    struct comm_hello hello = {.protocol = COMM_PROTOCOL, .rank = rank, .size = size, .channel = channel, .process = 1,
                               .host = "there"};
    memcpy(hello.magic, COMM_MAGIC, sizeof hello.magic);
    snprintf(hello.version, sizeof hello.version, "%s (%s)", FLAT_VERSION, version_commit());
    return hello;
}

int connected(int port)
{
    struct error error;
    int fd;
    assert_int_equal(tcp_connect(&fd, "127.0.0.1", port, soon(), -1, &error), 0);
    return fd;
}

/* test_strangers.c - what comes to a rank from those who are none of the run: silence, noise, floods, hellos in every way
 * wrong, and one that takes rank 0's place. Who cannot prove to know the secret changes nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/comm_rank.h"
#include "../support/hostile.h"

/* ---- strangers at rank 0's port --------------------------------------------------------------------------------- */

enum { CROWD = 300 }; /* more than are read at one time */

struct crowd {
    int fd[CROWD];
    int count;
};

static void silent(struct crowd *crowd, int port)
{
    for (; crowd->count < CROWD; crowd->count++)
        crowd->fd[crowd->count] = connected(port);
}

static void come_and_go(struct crowd *crowd, int port)
{
    (void)crowd;
    for (int i = 0; i < 200; i++)
        close(connected(port));
}

static void says(struct crowd *crowd, int port, const void *bytes, size_t count)
{
    crowd->fd[crowd->count] = connected(port);
    tcp_send(crowd->fd[crowd->count++], bytes, count, soon());
}

static void random_bytes(struct crowd *crowd, int port)
{
    static const size_t lengths[] = {1, 7, 8, 9, 200, 208, 240, 5000};
    unsigned char bytes[5000];
    for (int i = 0; i < 64; i++) {
        noise(bytes, sizeof bytes);
        if (i % 2) /* with our magic in front, and the rest of a hello wrong */
            memcpy(bytes, COMM_MAGIC, 8);
        says(crowd, port, bytes, lengths[i % 8]);
    }
    says(crowd, port, "GET / HTTP/1.1\r\n\r\n", 18);
}

/* Hellos in every way wrong, none with a proof: not even their protocol or rank may matter. */
static void unproved_hellos(struct crowd *crowd, int port)
{
    for (int i = 0; i < 9; i++) {
        struct {
            struct comm_hello hello;
            unsigned char proof[COMM_PROOF_BYTES];
        } sent = {.hello = hello_of(1, 2, CHANNEL_VALUES)};
        switch (i) {
        case 0: strcpy(sent.hello.version, "9.9"); break;
        case 1: sent.hello.rank = 0; break;
        case 2: sent.hello.rank = -1; break;
        case 3: sent.hello.rank = INT32_MAX; break;
        case 4: sent.hello.size = 3; break;
        case 5: sent.hello.channel = 9; break;
        case 6: sent.hello.channel = -1; break;
        case 7: memset(sent.hello.host, 0x1b, sizeof sent.hello.host); break;
        default: break; /* a good one, whose proof is none */
        }
        says(crowd, port, &sent, sizeof sent);
    }
}

/* Rank 0's proof is none of a rank: not sent back to it, and not at another connection. */
static void replayed(struct crowd *crowd, int port)
{
    struct comm_hello hello = hello_of(1, 2, CHANNEL_VALUES);
    unsigned char bytes[sizeof hello + COMM_PROOF_BYTES];
    struct comm_challenge challenge;
    crowd->fd[crowd->count] = connected(port);
    const int fd = crowd->fd[crowd->count++];
    assert_true(tcp_send(fd, &hello, sizeof hello, soon()));
    assert_true(tcp_receive(fd, &challenge, sizeof challenge, soon()));
    /* rank 0's own proof, sent back to it, and to another connection as a rank's */
    tcp_send(fd, challenge.proof, sizeof challenge.proof, soon());
    memcpy(bytes, &hello, sizeof hello);
    memcpy(bytes + sizeof hello, challenge.proof, COMM_PROOF_BYTES);
    says(crowd, port, bytes, sizeof bytes);
}

/* The true hello of a rank, byte by byte and never its end. */
static void dripping(struct crowd *crowd, int port)
{
    const struct comm_hello hello = hello_of(1, 2, CHANNEL_VALUES);
    crowd->fd[crowd->count] = connected(port);
    for (size_t i = 0; i + 1 < sizeof hello; i++)
        tcp_send(crowd->fd[crowd->count], (const char *)&hello + i, 1, soon());
    crowd->count++;
}

static void other_protocol(struct crowd *crowd, int port)
{
    struct comm_hello hello = hello_of(1, 2, CHANNEL_VALUES);
    hello.protocol = 77;
    says(crowd, port, &hello, sizeof hello);
}

static void test_strangers(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        void (*come)(struct crowd *crowd, int port);
    } strangers[] = {{"silent", silent}, {"come and go", come_and_go}, {"random bytes", random_bytes},
                     {"unproved hellos", unproved_hellos}, {"replayed", replayed}, {"dripping", dripping},
                     {"other protocol", other_protocol}};
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) {
        static struct crowd crowd;
        struct ranks root, other;
        crowd.count = 0;
        root_start(&root, "");
        strangers[i].come(&crowd, root.port);
        other_start(&other, root.port, "");
        ended(&other, strangers[i].name, 0, "launcher environment\n");
        ended(&root, strangers[i].name, 0, "launcher environment\n");
        while (crowd.count)
            close(crowd.fd[--crowd.count]);
    }
}

/* Who was there and who was not is told, and so is a reason that is seen. */
static void test_missing_reasons(void **state)
{
    (void)state;
    static struct crowd crowd;
    struct ranks root, other;
    root_start(&root, "FLAT_COMM_TIMEOUT=5");
    other_protocol(&crowd, root.port);
    ended(&root, "protocol", 6, "(somebody came with protocol 77, this is 2: start the same program everywhere)");
    close(crowd.fd[0]);
    static const char *const secret[] = {"FLAT_COMM_SECRET=another-secret-than-rank-0-has", "FLAT_COMM_SECRET="};
    static const char *const text[] = {"does not prove to know this rank's FLAT_COMM_SECRET (set here)",
                                       "does not prove to know this rank's FLAT_COMM_SECRET (not set here)"};
    struct ranks roots[2];
    for (int i = 0; i < 2; i++) {
        root_start(&roots[i], "FLAT_COMM_TIMEOUT=10");
        other_start(&other, roots[i].port, secret[i]);
        ended(&other, secret[i], 6, text[i]);
    }
    for (int i = 0; i < 2; i++)
        ended(&roots[i], secret[i], 6, "(1 connection did not prove to know FLAT_COMM_SECRET)");
    root_start(&root, "FLAT_COMM_SECRET=short");
    ended(&root, "short secret", 2, "error: FLAT_COMM_SECRET: expected 16 to 255 characters, found 5");
}

/* ---- one that takes rank 0's place ------------------------------------------------------------------------------ */

/* Listens in rank 0's place and takes rank 1's first connection. The port stays its own when it listens no more. */
static int impostor_accept(struct ranks *other, int *listener)
{
    struct error error;
    char from[TCP_ADDRESS_BYTES];
    int port = 0, fd;
    const int held = ranks_port_hold(&port);
    assert_int_equal(tcp_listen(listener, "127.0.0.1", port, &port, &error), 0);
    other_start(other, port, "FLAT_COMM_TIMEOUT=5");
    other->held = held;
    while ((fd = tcp_accept_now(*listener, from)) < 0) /* it waits */
        ;
    return fd;
}

static void test_impostor(void **state)
{
    (void)state;
    static struct ranks other[4];
    int listener[4], fd[4];
    for (int i = 0; i < 4; i++) {
        struct comm_challenge challenge;
        struct comm_hello hello;
        fd[i] = impostor_accept(&other[i], &listener[i]);
        assert_true(tcp_receive(fd[i], &hello, sizeof hello, soon()));
        noise(&challenge, sizeof challenge);
        if (i == 1) /* the rank's own words, sent back */
            memcpy(&challenge, hello.nonce, COMM_NONCE_BYTES);
        if (i < 2)
            tcp_send(fd[i], &challenge, sizeof challenge, soon());
        if (i == 3) /* hangs up at once, and is not there for whoever comes next */
            tcp_close(&listener[i]), tcp_close(&fd[i]);
    }
    for (int i = 0; i < 4; i++) {
        ended(&other[i], "impostor", 6, i < 2 ? "does not prove to know this rank's FLAT_COMM_SECRET"
                                              : "rank 0 did not answer at 127.0.0.1 port ");
        tcp_close(&listener[i]);
        tcp_close(&fd[i]);
    }
}

int main(int argc, char **argv)
{
    static char path[4096];
    if (argc > 1 && !strcmp(argv[1], "rank"))
        return comm_rank_main(argc, argv);
    hostile_program(realpath(argv[0], path));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strangers), cmocka_unit_test(test_missing_reasons), cmocka_unit_test(test_impostor)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

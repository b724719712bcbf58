/* test_hostile.c - ranks that know the secret and have gone wrong: every message of messages.h with every field out of its
 * range, noise, floods. The run ends with a documented code and printable lines, and nobody hangs.
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

/* ---- a rank 0 that has gone wrong ------------------------------------------------------------------------------- */

/* Rank 0 as the test plays it, up to the answer, which knows the secret. */
struct played_root {
    struct ranks other;
    struct acceptor acceptor;
    int listener, fd[CHANNELS_TO_ROOT];
};

static void played_root_open(struct played_root *root)
{
    struct error error;
    int port;
    assert_int_equal(tcp_listen(&root->listener, "127.0.0.1", 0, &port, &error), 0);
    other_start(&root->other, port, "");
    assert_int_equal(acceptor_open(&root->acceptor, root->listener, RANKS_SECRET, &error), 0);
    for (int i = 0; i < CHANNELS_TO_ROOT; i++) {
        struct comm_hello hello;
        char from[TCP_ADDRESS_BYTES];
        const int fd = acceptor_next(&root->acceptor, soon(), &hello, from);
        assert_true(fd >= 0);
        root->fd[hello.channel] = fd;
    }
}

static void played_root_close(struct played_root *root, const char *what, int status, const char *text)
{
    ended(&root->other, what, status, text);
    acceptor_close(&root->acceptor);
    for (int i = 0; i < CHANNELS_TO_ROOT; i++)
        tcp_close(&root->fd[i]);
    tcp_close(&root->listener);
}

static void played_root_answer(struct played_root *root, const struct comm_answer *answer)
{
    tcp_send(root->fd[CHANNEL_VALUES], answer, sizeof *answer, soon());
    if (answer->status == 0) {
        struct comm_entry list[2] = {{.process = 1, .host = NASTY, .address = ""}, {.process = 2, .host = "b"}};
        memset(list[1].address, 'x', sizeof list[1].address); /* without an end */
        tcp_send(root->fd[CHANNEL_VALUES], list, sizeof list, soon());
    }
    tcp_send(root->fd[CHANNEL_HEARTBEAT], answer, sizeof *answer, soon());
}

static void test_answers(void **state)
{
    (void)state;
    static const int statuses[][2] = {{1, 1}, {2, 2}, {6, 6}, {75, 75}, {65, 1}, {255, 1}, {256, 1}, {-1, 1}, {7, 1}};
    enum { CASES = sizeof statuses / sizeof *statuses };
    static struct played_root root[CASES + 1];
    for (int i = 0; i < CASES; i++) {
        struct comm_answer answer = {.status = statuses[i][0], .ranks = 2};
        memcpy(answer.text, NASTY, sizeof NASTY);
        memset(answer.text + 60, 0xff, sizeof answer.text - 60); /* without an end */
        played_root_open(&root[i]);
        played_root_answer(&root[i], &answer);
    }
    played_root_open(&root[CASES]);
    played_root_answer(&root[CASES], &(struct comm_answer){.ranks = 1 << 30});
    for (int i = 0; i < CASES; i++)
        played_root_close(&root[i], "answer", statuses[i][1], "error: ?[2J");
    played_root_close(&root[CASES], "ranks", 1, "what answers there is not rank 0 of this program");
}

/* Takes a rank's next call at rank 0, whatever it is. */
static void call_take(int fd, const char *name)
{
    struct comm_call call;
    char bytes[4096];
    assert_true(tcp_receive(fd, &call, sizeof call, soon()));
    assert_string_equal(call.name, name);
    assert_true(call.bytes <= sizeof bytes && tcp_receive(fd, bytes, call.bytes, soon()));
}

static void reply(int fd, const void *bytes, uint64_t count)
{
    tcp_send(fd, &(struct comm_reply){.bytes = count}, sizeof(struct comm_reply), soon());
    tcp_send(fd, bytes, count, soon());
}

/* What check_equal and status give back, as values.c has them. */
struct difference {
    int64_t rank;
    char ours[96], theirs[96];
};
struct verdict {
    int32_t status, rank;
    char text[sizeof((struct error *)0)->text];
};

/* Gives the same verdict to every further question of a rank for the status of all, until it ends. */
static void statuses_reply(int fd, const struct verdict *verdict)
{
    struct comm_call call;
    struct verdict own;
    while (tcp_receive(fd, &call, sizeof call, soon()) && tcp_receive(fd, &own, sizeof own, soon()))
        reply(fd, verdict, sizeof *verdict);
}

enum reply_step { REPLY_LENGTH, REPLY_DIFFERS, REPLY_HUGE, REPLY_FAR, REPLY_TEXT, REPLY_RANK, REPLY_STATUS, REPLY_VERDICT,
                  REPLY_PORT, REPLY_STEPS };

static const struct {
    int status;
    const char *text;
} replies[] = {[REPLY_LENGTH] = {1, "replies to max with 18446744073709551615 bytes where 8 are due"},
               [REPLY_DIFFERS] = {1, "error: ?[2J"},
               [REPLY_HUGE] = {6, "is lost: "},
               [REPLY_FAR] = {1, "device: a rank has 9223372036854775807 bytes of it"},
               [REPLY_TEXT] = {2, ""},
               [REPLY_RANK] = {1, "replies to device with rank 4611686018427387904, which is none"},
               [REPLY_STATUS] = {1, ""},
               [REPLY_VERDICT] = {1, "replies to status with rank -7, which is none"},
               [REPLY_PORT] = {1, ""}};

/* Rank 0 goes along with what a rank does first (attach: max, check_equal, status, ports) until `step`. */
static void replies_play(int fd, enum reply_step step)
{
    struct difference none = {0}, wild = {.rank = step == REPLY_TEXT ? 1 : (int64_t)1 << 62};
    struct verdict good = {0}, bad = {.status = step == REPLY_STATUS ? 65 : 3, .rank = step == REPLY_STATUS ? 0 : -7};
    int64_t length = 4;
    memset(wild.ours, 0x1b, sizeof wild.ours);
    memset(wild.theirs, 0xff, sizeof wild.theirs);
    memset(bad.text, 0x9b, sizeof bad.text);
    call_take(fd, "max");
    if (step == REPLY_LENGTH) {
        tcp_send(fd, &(struct comm_reply){.bytes = UINT64_MAX}, sizeof(struct comm_reply), soon());
    } else if (step == REPLY_DIFFERS || step == REPLY_HUGE) {
        char text[2000];
        memset(text, 'x', sizeof text);
        memcpy(text, NASTY, sizeof NASTY - 1);
        const size_t sent = step == REPLY_DIFFERS ? sizeof text : 3; /* or it promises more than it sends */
        tcp_send(fd, &(struct comm_reply){.bytes = UINT64_MAX, .differs = 1}, sizeof(struct comm_reply), soon());
        tcp_send(fd, text, sent, soon());
        if (step == REPLY_HUGE)
            shutdown(fd, SHUT_WR);
    } else if (step == REPLY_FAR) {
        reply(fd, &(int64_t){INT64_MAX}, sizeof length);
    } else {
        reply(fd, &length, sizeof length);
        call_take(fd, "check_equal");
        reply(fd, step == REPLY_TEXT || step == REPLY_RANK ? &wild : &none, sizeof none);
        if (step == REPLY_TEXT || step == REPLY_RANK)
            return;
        if (step == REPLY_STATUS || step == REPLY_VERDICT) {
            statuses_reply(fd, &bad);
            return;
        }
        call_take(fd, "status");
        reply(fd, &good, sizeof good);
        call_take(fd, "ports");
        reply(fd, (int32_t[2]){-5, 70000}, 2 * sizeof(int32_t));
        good.status = 1;
        statuses_reply(fd, &good);
    }
}

static void test_replies(void **state)
{
    (void)state;
    static struct played_root root[REPLY_STEPS];
    for (int step = 0; step < REPLY_STEPS; step++) {
        played_root_open(&root[step]);
        played_root_answer(&root[step], &(struct comm_answer){.ranks = 2, .run = 5});
        replies_play(root[step].fd[CHANNEL_VALUES], (enum reply_step)step);
    }
    for (int step = 0; step < REPLY_STEPS; step++) {
        char what[32];
        snprintf(what, sizeof what, "reply %d", step);
        played_root_close(&root[step], what, replies[step].status, replies[step].text);
    }
}

/* ---- a rank that has gone wrong --------------------------------------------------------------------------------- */

/* Rank 1 as the test plays it, which knows the secret. */
struct member {
    struct ranks root;
    int fd[CHANNELS_TO_ROOT];
    struct comm_answer answer;
};

static void member_hello(struct member *member, int channel, struct comm_hello hello)
{
    struct error error;
    if (handshake_connect(&member->fd[channel], "127.0.0.1", member->root.port, RANKS_SECRET, &hello, soon(), -1, &error))
        fail_msg("%s", error.text);
}

static void member_join(struct member *member)
{
    struct comm_entry list[2];
    struct comm_answer second;
    root_start(&member->root, "");
    for (int channel = 0; channel < CHANNELS_TO_ROOT; channel++)
        member_hello(member, channel, hello_of(1, 2, channel));
    assert_true(tcp_receive(member->fd[CHANNEL_VALUES], &member->answer, sizeof member->answer, soon()));
    assert_true(tcp_receive(member->fd[CHANNEL_VALUES], list, sizeof list, soon()));
    assert_true(tcp_receive(member->fd[CHANNEL_HEARTBEAT], &second, sizeof second, soon()));
}

static void member_close(struct member *member, const char *what, int status, const char *text)
{
    ended(&member->root, what, status, text);
    for (int channel = 0; channel < CHANNELS_TO_ROOT; channel++)
        tcp_close(&member->fd[channel]);
}

/* Hellos that prove themselves and cannot be of this run: they end it for all, with the reason. */
static void test_proved_hellos(void **state)
{
    (void)state;
    static const struct {
        int rank, size, channel, status;
        const char *version, *text;
    } cases[] = {{1, 2, 0, 2, "0.0.0 (other)", "error: rank 1 (host there) is flat 0.0.0 (other), rank 0 is flat "},
                 {1, 2, 0, 2, NASTY, "error: rank 1 (host there) is flat ?[2J"},
                 {1, 3, 0, 2, NULL, "error: rank 1 (host there) was started with 3 ranks, rank 0 with 2"},
                 {0, 2, 0, 2, NULL, "error: host there: process 1 came as rank 0 of 2"},
                 {-1, 2, 0, 2, NULL, "came as rank -1 of 2"},
                 {INT32_MAX, 2, 0, 2, NULL, "came as rank 2147483647 of 2"},
                 {1, 2, CHANNEL_DATA, 2, NULL, "came as rank 1 of 2"},
                 {1, 2, -1, 2, NULL, "came as rank 1 of 2"}};
    enum { CASES = sizeof cases / sizeof *cases };
    static struct member member[CASES];
    for (int i = 0; i < CASES; i++) {
        struct comm_answer answer = {0};
        struct comm_hello hello = hello_of(cases[i].rank, cases[i].size, cases[i].channel);
        if (cases[i].version)
            snprintf(hello.version, sizeof hello.version, "%s", cases[i].version);
        root_start(&member[i].root, "");
        member[i].fd[CHANNEL_HEARTBEAT] = -1;
        member_hello(&member[i], CHANNEL_VALUES, hello);
        /* and the one who is refused hears why */
        assert_true(tcp_receive(member[i].fd[0], &answer, sizeof answer, soon()));
        assert_int_equal(answer.status, 2);
    }
    for (int i = 0; i < CASES; i++)
        member_close(&member[i], "proved hello", cases[i].status, cases[i].text);
}

static void test_calls(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *text;
    } expected[] = {{1, "error: rank 1 makes the call "},
                    {1, " of 9223372036854775808 bytes where rank 0 makes max of 8"},
                    {1, "error: rank 1 makes the call ?[2J"},
                    {1, "a rank has 9223372036854775807 bytes of it"},
                    {2, "device: rank 1 (host there) has '"},
                    {6, "is lost: "}};
    enum { CASES = sizeof expected / sizeof *expected };
    static struct member member[CASES];
    for (int i = 0; i < CASES; i++) {
        struct comm_call call = {.name = "max", .bytes = 8};
        char bytes[4096];
        member_join(&member[i]);
        const int fd = member[i].fd[CHANNEL_VALUES];
        const int64_t length = i == 3 ? INT64_MAX : 4;
        noise(bytes, sizeof bytes);
        switch (i) {
        case 0: tcp_send(fd, bytes, sizeof bytes, soon()); break;
        case 1:
            call.bytes = (uint64_t)1 << 63;
            tcp_send(fd, &call, sizeof call, soon());
            break;
        case 2: /* a name without an end */
            memset(call.name, 'x', sizeof call.name);
            memcpy(call.name, NASTY, sizeof NASTY - 1);
            tcp_send(fd, &call, sizeof call, soon());
            break;
        case 5: /* half a call, and the end of the connection */
            tcp_send(fd, &call, sizeof call / 2, soon());
            shutdown(fd, SHUT_WR);
            break;
        default: /* a length, and then a text without an end */
            tcp_send(fd, &call, sizeof call, soon());
            tcp_send(fd, &length, sizeof length, soon());
            call = (struct comm_call){.name = "check_equal", .bytes = 4};
            tcp_send(fd, &call, sizeof call, soon());
            tcp_send(fd, "\x9b\x9b\x9b\x9b", 4, soon());
        }
    }
    for (int i = 0; i < CASES; i++)
        member_close(&member[i], "call", expected[i].status, expected[i].text);
}

static void test_beats(void **state)
{
    (void)state;
    static const struct {
        struct comm_beat beat;
        const char *text;
    } cases[] = {
        {{.kind = BEAT_LOST, .text = NASTY}, "error: rank 1 (host there, process 1) has failed: ?[2J"},
        {{.kind = BEAT_GOODBYE, .rank = 1, .calls = 0}, "it said goodbye after call 0 and this rank is at call "},
        {{.kind = BEAT_GOODBYE, .rank = 1, .calls = INT64_MAX}, "it said goodbye after call 9223372036854775807"},
        {{.kind = BEAT_GOODBYE, .rank = 1, .calls = -5}, "it sends what is no heartbeat"},
        {{.kind = BEAT_GOODBYE, .rank = 0, .calls = 1}, "it sends what is no heartbeat"},
        {{.kind = BEAT_GOODBYE, .rank = INT32_MAX, .calls = 1}, "it sends what is no heartbeat"},
        {{.kind = BEAT_GOODBYE, .rank = -7, .calls = 1}, "it sends what is no heartbeat"},
        {{.kind = BEAT_ALIVE, .rank = 1, .calls = -1}, "it sends what is no heartbeat"},
        {{.kind = 0}, "it sends what is no heartbeat"},
        {{.kind = INT32_MAX}, "it sends what is no heartbeat"},
    };
    enum { CASES = sizeof cases / sizeof *cases };
    static struct member member[CASES + 1];
    for (int i = 0; i < CASES; i++) {
        struct comm_beat beat = cases[i].beat;
        member_join(&member[i]);
        memset(beat.text + sizeof beat.text / 2, 'x', sizeof beat.text / 2); /* without an end */
        tcp_send(member[i].fd[CHANNEL_HEARTBEAT], &beat, sizeof beat, soon());
    }
    member_join(&member[CASES]);
    for (int i = 0; i < 2000; i++)
        tcp_send(member[CASES].fd[CHANNEL_HEARTBEAT], &(struct comm_beat){.kind = BEAT_ALIVE, .rank = 1},
                 sizeof(struct comm_beat), soon());
    tcp_send(member[CASES].fd[CHANNEL_HEARTBEAT], "half of one", 11, soon());
    shutdown(member[CASES].fd[CHANNEL_HEARTBEAT], SHUT_WR);
    member_close(&member[CASES], "flood of beats", 6, "it ended without a goodbye");
    for (int i = 0; i < CASES; i++)
        member_close(&member[i], cases[i].text, 6, cases[i].text);
}

/* Random bytes on a connection of a rank: whatever they mean, one line and a documented code. */
static void test_noise(void **state)
{
    (void)state;
    enum { CASES = 16 };
    static struct member member[CASES];
    for (int i = 0; i < CASES; i++) {
        unsigned char bytes[sizeof(struct comm_beat) * 4];
        member_join(&member[i]);
        noise(bytes, sizeof bytes);
        if (i % 4 == 2) /* a kind that there is */
            memcpy(bytes, &(int32_t){1 + i / 4 % 3}, 4);
        tcp_send(member[i].fd[i % 2 ? CHANNEL_VALUES : CHANNEL_HEARTBEAT], bytes, sizeof bytes, soon());
    }
    for (int i = 0; i < CASES; i++)
        member_close(&member[i], "noise", i % 2 ? 1 : 6, "error: rank 1");
}

/* ---- data connections ------------------------------------------------------------------------------------------- */

static void member_call(struct member *member, const char *name, const void *own, size_t bytes, void *result,
                        size_t result_bytes)
{
    const int fd = member->fd[CHANNEL_VALUES];
    struct comm_call call = {.bytes = bytes};
    struct comm_reply got;
    snprintf(call.name, sizeof call.name, "%s", name);
    assert_true(tcp_send(fd, &call, sizeof call, soon()) && tcp_send(fd, own, bytes, soon()));
    assert_true(tcp_receive(fd, &got, sizeof got, soon()));
    assert_int_equal(got.differs, 0);
    assert_int_equal(got.bytes, result_bytes);
    assert_true(tcp_receive(fd, result, result_bytes, soon()));
}

/* Strangers and runs with the same secret come to the port for data; then the rank itself, which sends nonsense. */
static void test_data(void **state)
{
    (void)state;
    struct member member;
    struct error error;
    struct difference difference;
    struct verdict verdict = {0};
    int64_t length = 4;
    int32_t ports[2];
    int crowd[40], data;
    member_join(&member);
    member_call(&member, "max", &length, sizeof length, &length, sizeof length);
    member_call(&member, "check_equal", "cpu", 4, &difference, sizeof difference);
    member_call(&member, "status", &verdict, sizeof verdict, &verdict, sizeof verdict);
    member_call(&member, "ports", (int32_t[1]){1}, sizeof(int32_t), ports, sizeof ports);
    for (int i = 0; i < 40; i++) {
        struct comm_hello hello = hello_of(1, 2, CHANNEL_DATA);
        hello.run = member.answer.run + (i % 4 == 2);
        crowd[i] = connected(ports[0]);
        if (i % 4 == 1) /* without a proof */
            tcp_send(crowd[i], &hello, sizeof hello, soon());
        if (i % 4 >= 2) { /* proved, and of another run, or a rank that there is not */
            hello.rank = i % 4 == 3 ? 5 : 1;
            close(crowd[i]);
            assert_int_equal(handshake_connect(&crowd[i], "127.0.0.1", ports[0], RANKS_SECRET, &hello, soon(), -1, &error), 0);
        }
    }
    struct comm_hello hello = hello_of(1, 2, CHANNEL_DATA);
    hello.run = member.answer.run;
    assert_int_equal(handshake_connect(&data, "127.0.0.1", ports[0], RANKS_SECRET, &hello, soon(), -1, &error), 0);
    member_call(&member, "status", &verdict, sizeof verdict, &verdict, sizeof verdict);
    /* what a rank does first with a tensor is told before: this is no collective */
    struct comm_collective wild;
    noise(&wild, sizeof wild);
    tcp_send(data, &wild, sizeof wild, soon());
    member_call(&member, "status", &verdict, sizeof verdict, &verdict, sizeof verdict);
    char describe[512], all[2][512];
    memset(describe, 0x1b, sizeof describe);
    member_call(&member, "describe", describe, sizeof describe, all, sizeof all);
    /* rank 0 goes on to its host values; then it sums */
    double sums[3] = {1, 0.1, 1};
    member_call(&member, "sum", sums, sizeof sums, sums, sizeof sums);
    int64_t most = 77;
    member_call(&member, "max", &most, sizeof most, &most, sizeof most);
    for (int root = 0; root < 2; root++) {
        char name[48], text[40] = "of 1";
        int64_t count = 40;
        snprintf(name, sizeof name, "broadcast 40 from rank %d", root);
        member_call(&member, name, &count, sizeof count, &count, sizeof count);
        assert_true(root ? tcp_send(member.fd[0], text, sizeof text, soon())
                         : tcp_receive(member.fd[0], text, sizeof text, soon()));
    }
    member_call(&member, "barrier", "", 0, NULL, 0);
    length = 10;
    member_call(&member, "max", &length, sizeof length, &length, sizeof length);
    member_call(&member, "check_equal", "all alike", 10, &difference, sizeof difference);
    member_call(&member, "status", &verdict, sizeof verdict, &verdict, sizeof verdict);
    member_close(&member, "data", 1, "error: rank 1 makes ? of ");
    for (int i = 0; i < 40; i++)
        close(crowd[i]);
    close(data);
}

int main(int argc, char **argv)
{
    static char path[4096];
    if (argc > 1 && !strcmp(argv[1], "rank"))
        return comm_rank_main(argc, argv);
    hostile_program(realpath(argv[0], path));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers), cmocka_unit_test(test_replies), cmocka_unit_test(test_proved_hellos),
        cmocka_unit_test(test_calls),   cmocka_unit_test(test_beats),   cmocka_unit_test(test_noise),
        cmocka_unit_test(test_data)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* handshake.c - see handshake.h. */
#include "handshake.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../util/clock.h"
#include "../util/memory.h"

#define HELLO_SECONDS 30.0 /* for a connection to prove itself; on a busy host a rank may take its time */
#define GRACE_SECONDS 1.0  /* so long nobody has to make way for those who wait */
#define RETRY_SECONDS 0.05 /* between two tries to connect */

enum side { LISTENER, CONNECTOR };

/* What a side's proof is made of. The label comes first and has a fixed length, so that no two are alike. */
struct proof_input {
    char side[16];
    struct comm_hello hello;
    unsigned char nonce[COMM_NONCE_BYTES];
};

static bool proof_make(const char *secret, enum side side, const struct comm_hello *hello,
                       const unsigned char nonce[COMM_NONCE_BYTES], unsigned char proof[COMM_PROOF_BYTES])
{
    struct proof_input input = {0};
    unsigned bytes = 0;
    strcpy(input.side, side == LISTENER ? "flat listener" : "flat connector");
    memcpy(&input.hello, hello, sizeof *hello);
    memcpy(input.nonce, nonce, sizeof input.nonce);
    return HMAC(EVP_sha256(), secret, (int)strlen(secret), (const unsigned char *)&input, sizeof input, proof, &bytes) &&
           bytes == COMM_PROOF_BYTES;
}

static bool proof_holds(const char *secret, enum side side, const struct comm_hello *hello,
                        const unsigned char nonce[COMM_NONCE_BYTES], const unsigned char proof[COMM_PROOF_BYTES])
{
    unsigned char expected[COMM_PROOF_BYTES];
    return proof_make(secret, side, hello, nonce, expected) && !CRYPTO_memcmp(expected, proof, sizeof expected);
}

/* ---- the connector ---------------------------------------------------------------------------------------------- */

enum outcome { PROVED, HUNG_UP, UNPROVED };

static enum outcome connector_half(int fd, const char *secret, const struct comm_hello *hello, double deadline)
{
    struct comm_challenge challenge;
    unsigned char proof[COMM_PROOF_BYTES];
    if (!tcp_send(fd, hello, sizeof *hello, deadline) || !tcp_receive(fd, &challenge, sizeof challenge, deadline))
        return HUNG_UP;
    if (!proof_holds(secret, LISTENER, hello, challenge.nonce, challenge.proof) ||
        !proof_make(secret, CONNECTOR, hello, challenge.nonce, proof))
        return UNPROVED;
    return tcp_send(fd, proof, sizeof proof, deadline) ? PROVED : HUNG_UP;
}

int handshake_connect(int *fd, const char *address, int port, const char *secret, struct comm_hello *hello,
                      double deadline, int stop, struct error *error)
{
    for (;;) {
        int status = tcp_connect(fd, address, port, deadline, stop, error);
        if (status)
            return status;
        if (getentropy(hello->nonce, sizeof hello->nonce))
            status = error_set(error, STATUS_RUNTIME, "no random numbers from the system: %s", strerror(errno));
        const enum outcome outcome = status ? UNPROVED : connector_half(*fd, secret, hello, deadline);
        const int failure = errno;
        if (outcome == PROVED)
            return STATUS_OK;
        tcp_close(fd);
        if (status)
            return status;
        if (outcome == UNPROVED)
            return error_set(error, STATUS_PEER, "%s port %d: what answers there does not prove to know this rank's "
                             "FLAT_COMM_SECRET (%s here); set the same on every rank", address, port,
                             *secret ? "set" : "not set");
        if (clock_seconds() >= deadline || tcp_readable(stop))
            return error_set(error, STATUS_PEER, "%s port %d: no connection: %s", address, port, tcp_reason(failure));
        clock_sleep(RETRY_SECONDS);
    }
}

/* ---- the listener ----------------------------------------------------------------------------------------------- */

struct acceptor_pending {
    int fd;
    double since;
    size_t received; /* of the hello, then of the proof */
    bool challenged;
    struct comm_hello hello;
    unsigned char nonce[COMM_NONCE_BYTES], proof[COMM_PROOF_BYTES];
    char from[TCP_ADDRESS_BYTES];
};

int acceptor_open(struct acceptor *acceptor, int listener, const char *secret, struct error *error)
{
    *acceptor = (struct acceptor){.listener = listener, .secret = secret};
    acceptor->pending = memory_array(HANDSHAKE_PENDING, sizeof *acceptor->pending, error);
    if (!acceptor->pending)
        return STATUS_MEMORY;
    /* a connection that poll has seen may be gone when accept asks for it */
    fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK);
    return STATUS_OK;
}

static void pending_drop(struct acceptor *acceptor, int i)
{
    tcp_close(&acceptor->pending[i].fd);
    acceptor->pending[i] = acceptor->pending[--acceptor->count];
}

void acceptor_close(struct acceptor *acceptor)
{
    while (acceptor->pending && acceptor->count)
        pending_drop(acceptor, acceptor->count - 1);
    free(acceptor->pending);
    acceptor->pending = NULL;
}

/* Makes room by dropping the oldest, where that has had its grace or `now_or_never` says so; false where there is none. */
static bool pending_make_way(struct acceptor *acceptor, double now, bool now_or_never)
{
    int oldest = -1;
    for (int i = 0; i < acceptor->count; i++)
        if (oldest < 0 || acceptor->pending[i].since < acceptor->pending[oldest].since)
            oldest = i;
    if (oldest < 0 || (!now_or_never && now - acceptor->pending[oldest].since < GRACE_SECONDS))
        return false;
    pending_drop(acceptor, oldest);
    return true;
}

static void connections_accept(struct acceptor *acceptor, double now)
{
    for (;;) {
        if (acceptor->count == HANDSHAKE_PENDING && !pending_make_way(acceptor, now, false))
            return;
        struct acceptor_pending *pending = &acceptor->pending[acceptor->count];
        *pending = (struct acceptor_pending){.since = now};
        pending->fd = tcp_accept_now(acceptor->listener, pending->from);
        if (pending->fd >= 0)
            acceptor->count++;
        else if (errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS)
            return;
        else if (!pending_make_way(acceptor, now, true)) {
            clock_sleep(RETRY_SECONDS); /* poll would not wait: somebody is there */
            return;
        }
    }
}

enum progress { WAITING, COMPLETE, DROPPED };

/* Whether what has come of a hello can still become one of ours. */
static bool hello_begins_well(struct acceptor *acceptor, const struct acceptor_pending *pending)
{
    const struct comm_hello *hello = &pending->hello;
    const size_t magic = pending->received < sizeof hello->magic ? pending->received : sizeof hello->magic;
    if (memcmp(hello->magic, COMM_MAGIC, magic))
        return false;
    if (pending->received < sizeof hello->magic + sizeof hello->protocol || hello->protocol == COMM_PROTOCOL)
        return true;
    acceptor->other_protocol = hello->protocol;
    return false;
}

static bool challenge_send(const struct acceptor *acceptor, struct acceptor_pending *pending)
{
    struct comm_challenge challenge;
    if (getentropy(pending->nonce, sizeof pending->nonce) ||
        !proof_make(acceptor->secret, LISTENER, &pending->hello, pending->nonce, challenge.proof))
        return false;
    memcpy(challenge.nonce, pending->nonce, sizeof challenge.nonce);
    pending->challenged = true;
    pending->received = 0;
    /* a fresh connection has room for it */
    return send(pending->fd, &challenge, sizeof challenge, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof challenge;
}

/* Reads what is there of one connection's hello and proof. */
static enum progress pending_read(struct acceptor *acceptor, struct acceptor_pending *pending)
{
    for (;;) {
        char *to = pending->challenged ? (char *)pending->proof : (char *)&pending->hello;
        const size_t wanted = pending->challenged ? sizeof pending->proof : sizeof pending->hello;
        ssize_t got = recv(pending->fd, to + pending->received, wanted - pending->received, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
            return WAITING;
        if (got <= 0) {
            acceptor->unproved += pending->challenged;
            return DROPPED;
        }
        pending->received += (size_t)got;
        if (!pending->challenged && !hello_begins_well(acceptor, pending))
            return DROPPED;
        if (pending->received < wanted)
            continue;
        if (!pending->challenged) {
            if (!challenge_send(acceptor, pending))
                return DROPPED;
        } else if (proof_holds(acceptor->secret, CONNECTOR, &pending->hello, pending->nonce, pending->proof)) {
            return COMPLETE;
        } else {
            acceptor->unproved++;
            return DROPPED;
        }
    }
}

/* Waits for something to happen at the listener or a pending connection, a quarter of a second at most. */
static void acceptor_wait(const struct acceptor *acceptor, struct pollfd ready[HANDSHAKE_PENDING + 1], double until)
{
    const double left = until - clock_seconds();
    /* a full table takes nobody in: the listener would be ready all the time */
    ready[acceptor->count] = (struct pollfd){.fd = acceptor->count < HANDSHAKE_PENDING ? acceptor->listener : -1,
                                             .events = POLLIN};
    for (int i = 0; i < acceptor->count; i++)
        ready[i] = (struct pollfd){.fd = acceptor->pending[i].fd, .events = POLLIN};
    poll(ready, (nfds_t)acceptor->count + 1, left <= 0 ? 0 : left < 0.25 ? (int)(1000 * left) + 1 : 250);
}

int acceptor_next(struct acceptor *acceptor, double until, struct comm_hello *hello, char from[TCP_ADDRESS_BYTES])
{
    struct pollfd ready[HANDSHAKE_PENDING + 1];
    for (;;) {
        acceptor_wait(acceptor, ready, until);
        const double now = clock_seconds();
        for (int i = acceptor->count - 1; i >= 0; i--) { /* backwards: a dropped one is replaced by the last */
            struct acceptor_pending *pending = &acceptor->pending[i];
            const enum progress progress = ready[i].revents ? pending_read(acceptor, pending) : WAITING;
            if (progress == COMPLETE) {
                const int fd = pending->fd;
                *hello = pending->hello;
                memcpy(from, pending->from, TCP_ADDRESS_BYTES);
                pending->fd = -1;
                pending_drop(acceptor, i);
                return fd;
            }
            if (progress == DROPPED || now - pending->since > HELLO_SECONDS)
                pending_drop(acceptor, i);
        }
        connections_accept(acceptor, now);
        if (now >= until)
            return -1;
    }
}

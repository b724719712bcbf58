/* handshake.h - every connection between ranks begins with a proof both ways that the other side knows the run's secret.
 *
 *   connector -> listener   hello, with 32 random bytes
 *   listener -> connector   32 random bytes, HMAC(secret, "listener", hello, both)
 *   connector -> listener   HMAC(secret, "connector", hello, both)
 *
 * HMAC-SHA-256. A proof holds for one connection and one direction only, so that none can be replayed or sent back. The
 * listener proves first, and learns nothing more from a stranger than its hello; nothing of a hello is acted upon before
 * its proof. An empty secret makes the same exchange and proves nothing. What travels afterwards is neither encrypted nor
 * signed: docs/security.md.
 *
 * HMAC comes from OpenSSL's libcrypto: cryptography is not to be written by hand, and this is the library that every
 * distribution has installed, patches and keeps.
 *
 * Cost: one round trip per connection. A listener reads the hellos of all who come side by side: silence costs it nothing
 * but a descriptor.
 */
#ifndef FLAT_COMM_HANDSHAKE_H
#define FLAT_COMM_HANDSHAKE_H
#include <stdbool.h>

#include "../util/error.h"
#include "messages.h"
#include "tcp.h"

enum { HANDSHAKE_PENDING = 256 }; /* connections whose hello is read at one time */

/* Connects to address:port and makes the connector's half, again and again until `deadline` or `stop` (see tcp_connect)
 * while nobody is there or hangs up first. hello->nonce is filled. STATUS_PEER with the reason: nobody in time, or one that
 * proves nothing. */
int handshake_connect(int *fd, const char *address, int port, const char *secret, struct comm_hello *hello,
                      double deadline, int stop, struct error *error);

/* The listener's half, for all who come to one listener. */
struct acceptor {
    int listener;
    const char *secret;
    struct acceptor_pending *pending; /* [HANDSHAKE_PENDING] */
    int count;
    int unproved;       /* connections that spoke our protocol and proved nothing */
    int other_protocol; /* of the last that spoke another version of it; 0: none did */
};

/* listener and secret stay the caller's. */
int acceptor_open(struct acceptor *acceptor, int listener, const char *secret, struct error *error);
void acceptor_close(struct acceptor *acceptor);
/* The next connection that has proved itself, with its hello; -1 when `until` passes first. from: the other side's
 * address in digits, "" where it is this host. */
int acceptor_next(struct acceptor *acceptor, double until, struct comm_hello *hello, char from[TCP_ADDRESS_BYTES]);

#endif

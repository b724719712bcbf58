/* tcp.h - TCP as the ranks use it: whole messages, deadlines, and the reason in words when it fails. */
#ifndef FLAT_COMM_TCP_H
#define FLAT_COMM_TCP_H
#include <stdbool.h>
#include <stddef.h>

#include "../util/error.h"

enum { TCP_ADDRESS_BYTES = 256 };

/* Listens at address:port (port 0: any that is free, told in *bound). A loopback address listens there only, any other
 * on all of the host's. STATUS_RUNTIME names address and port. */
int tcp_listen(int *fd, const char *address, int port, int *bound, struct error *error);
/* Connects, again and again until `deadline` (of clock_seconds), for the other side may not be up yet, or until `stop` (-1:
 * none), another connection to it, has something to be read. */
int tcp_connect(int *fd, const char *address, int port, double deadline, int stop, struct error *error);
/* Whether a connection has something to be read, or has ended. */
bool tcp_readable(int fd);
/* A connection that is there, without waiting where the listener is O_NONBLOCK, or -1 with errno. `from` gets the other
 * side's address in digits, "" where that is this host. */
int tcp_accept_now(int listener, char from[TCP_ADDRESS_BYTES]);

/* All of the bytes, whatever the number of calls it takes; false when the connection breaks or the deadline (0: none)
 * passes. errno is 0 where the other side closed it. */
bool tcp_send(int fd, const void *bytes, size_t count, double deadline);
bool tcp_receive(int fd, void *bytes, size_t count, double deadline);
/* What errno says of the last tcp_send or tcp_receive. */
const char *tcp_reason(int failure);
bool tcp_is_loopback(const char *address);
void tcp_close(int *fd);

#endif

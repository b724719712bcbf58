/* tcp.c - see tcp.h. */
#include "tcp.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../util/clock.h"

#define RETRY_SECONDS 0.05 /* between two tries */

static int milliseconds_to(double deadline)
{
    double left = deadline - clock_seconds();
    return left <= 0 ? 0 : left > 1e6 ? 1000000000 : (int)(left * 1000) + 1;
}

bool tcp_is_loopback(const char *address)
{
    return !strcmp(address, "localhost") || !strncmp(address, "127.", 4) || !strcmp(address, "::1") ||
           !strncmp(address, "::ffff:127.", 11);
}

void tcp_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Small messages go out at once; what stays unanswered is noticed by the heartbeats. */
static void socket_prepare(int fd)
{
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

static int resolve(const char *address, int port, bool listening, struct addrinfo **list, struct error *error)
{
    char service[16];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = listening ? AI_PASSIVE : 0};
    const bool all = listening && !tcp_is_loopback(address);
    snprintf(service, sizeof service, "%d", port);
    int failure = getaddrinfo(all ? NULL : address, service, &hints, list);
    if (failure)
        return error_set(error, STATUS_USAGE, "%s: no such host: %s", address, gai_strerror(failure));
    return STATUS_OK;
}

static int socket_listen(const struct addrinfo *at)
{
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (at->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){0}, sizeof(int));
    if (bind(fd, at->ai_addr, at->ai_addrlen) || listen(fd, SOMAXCONN)) {
        int failure = errno;
        close(fd);
        errno = failure;
        return -1;
    }
    return fd;
}

static int port_bound(int fd)
{
    struct sockaddr_storage own;
    socklen_t length = sizeof own;
    if (getsockname(fd, (struct sockaddr *)&own, &length))
        return 0;
    return ntohs(own.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&own)->sin6_port
                                           : ((struct sockaddr_in *)&own)->sin_port);
}

int tcp_listen(int *fd, const char *address, int port, int *bound, struct error *error)
{
    struct addrinfo *list;
    int failure = 0;
    *fd = -1;
    int status = resolve(address, port, true, &list, error);
    if (status)
        return status;
    /* IPv6 first: its socket takes IPv4 too, and where the kernel has none of it, the other follows */
    for (int pass = 0; pass < 2 && *fd < 0; pass++)
        for (struct addrinfo *at = list; at && *fd < 0; at = at->ai_next)
            if ((at->ai_family == AF_INET6) == (pass == 0) && (*fd = socket_listen(at)) < 0)
                failure = errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL ? failure : errno;
    freeaddrinfo(list);
    if (*fd < 0)
        return error_set(error, STATUS_RUNTIME,
                         "%s port %d: rank 0 cannot listen there: %s; choose another MASTER_PORT",
                         address, port, strerror(failure ? failure : EADDRNOTAVAIL));
    *bound = port_bound(*fd);
    return STATUS_OK;
}

/* One try. -1 with errno. */
static int socket_connect(const struct addrinfo *at, double deadline)
{
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), failure = 0;
    if (fd < 0)
        return -1;
    if (connect(fd, at->ai_addr, at->ai_addrlen) && errno != EINPROGRESS)
        failure = errno;
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    if (!failure && poll(&ready, 1, milliseconds_to(deadline)) <= 0)
        failure = ETIMEDOUT;
    socklen_t length = sizeof failure;
    if (!failure && getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &length))
        failure = errno;
    /* A port of one's own range may be connected to itself; that is nobody's listener. */
    struct sockaddr_storage own = {0}, other = {0};
    socklen_t own_length = sizeof own, other_length = sizeof other;
    if (!failure && (getsockname(fd, (struct sockaddr *)&own, &own_length) ||
                     getpeername(fd, (struct sockaddr *)&other, &other_length)))
        failure = errno;
    if (!failure && own_length == other_length && !memcmp(&own, &other, own_length))
        failure = ECONNREFUSED;
    if (failure) {
        close(fd);
        errno = failure;
        return -1;
    }
    socket_prepare(fd);
    return fd;
}

bool tcp_readable(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    return fd >= 0 && poll(&ready, 1, 0) == 1;
}

int tcp_connect(int *fd, const char *address, int port, double deadline, int stop, struct error *error)
{
    struct addrinfo *list;
    int failure = 0;
    *fd = -1;
    int status = resolve(address, port, false, &list, error);
    if (status)
        return status;
    while (*fd < 0) {
        for (struct addrinfo *at = list; at && *fd < 0; at = at->ai_next)
            if ((*fd = socket_connect(at, deadline)) < 0)
                failure = errno;
        if (*fd < 0 && (clock_seconds() >= deadline || tcp_readable(stop)))
            break;
        if (*fd < 0)
            clock_sleep(RETRY_SECONDS);
    }
    freeaddrinfo(list);
    if (*fd < 0)
        return error_set(error, STATUS_PEER, "%s port %d: no connection: %s", address, port, strerror(failure));
    return STATUS_OK;
}

static bool same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    if (a->ss_family != b->ss_family)
        return false;
    if (a->ss_family == AF_INET6)
        return !memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr, &((const struct sockaddr_in6 *)b)->sin6_addr,
                       sizeof(struct in6_addr));
    return a->ss_family == AF_INET &&
           ((const struct sockaddr_in *)a)->sin_addr.s_addr == ((const struct sockaddr_in *)b)->sin_addr.s_addr;
}

int tcp_accept_now(int listener, char from[TCP_ADDRESS_BYTES])
{
    for (;;) {
        struct sockaddr_storage other, own;
        socklen_t length = sizeof other, own_length = sizeof own;
        int fd = accept4(listener, (struct sockaddr *)&other, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue; /* a signal, or a caller that has gone again */
        if (fd < 0)
            return -1;
        if (getnameinfo((struct sockaddr *)&other, length, from, TCP_ADDRESS_BYTES, NULL, 0, NI_NUMERICHOST))
            *from = 0;
        if (tcp_is_loopback(from) ||
            (!getsockname(fd, (struct sockaddr *)&own, &own_length) && same_address(&own, &other)))
            *from = 0;
        socket_prepare(fd);
        return fd;
    }
}

/* Waits until fd is ready for `events`; false with errno when the deadline passes. */
static bool tcp_wait(int fd, short events, double deadline)
{
    for (;;) {
        struct pollfd ready = {.fd = fd, .events = events};
        int got = poll(&ready, 1, deadline > 0 ? milliseconds_to(deadline) : -1);
        if (got > 0)
            return true;
        if (got == 0)
            errno = ETIMEDOUT;
        if (got == 0 || errno != EINTR)
            return false;
    }
}

bool tcp_send(int fd, const void *bytes, size_t count, double deadline)
{
    for (const char *at = bytes; count;) {
        ssize_t sent = send(fd, at, count, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            at += sent;
            count -= (size_t)sent;
        } else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
            return false;
        } else if (errno != EINTR && !tcp_wait(fd, POLLOUT, deadline)) {
            return false;
        }
    }
    return true;
}

bool tcp_receive(int fd, void *bytes, size_t count, double deadline)
{
    for (char *at = bytes; count;) {
        ssize_t got = recv(fd, at, count, MSG_DONTWAIT);
        if (got > 0) {
            at += got;
            count -= (size_t)got;
        } else if (got == 0) {
            errno = 0;
            return false;
        } else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
            return false;
        } else if (errno != EINTR && !tcp_wait(fd, POLLIN, deadline)) {
            return false;
        }
    }
    return true;
}

const char *tcp_reason(int failure)
{
    return failure ? strerror(failure) : "the connection was closed";
}

/* fuzz_messages.c - any bytes of a stranger at a rank's port: never let in, and gone once they end; any bytes as the text or
 * the status of a rank: one printable line, a documented code.
 */
#include <sys/socket.h>
#include <sys/un.h>

#include "../../host/comm/handshake.h"
#include "../../host/util/clock.h"
#include "../../host/util/utf8.h"
#include "fuzz.h"

/* In the abstract names of this host: thousands of TCP connections a second would use up its ports. */
static int listener_open(struct sockaddr_un *at, socklen_t *bytes)
{
    *at = (struct sockaddr_un){.sun_family = AF_UNIX};
    *bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
                         (size_t)snprintf(at->sun_path + 1, sizeof at->sun_path - 1, "flat-fuzz-%d", (int)getpid()));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    FUZZ_CHECK(fd >= 0 && !bind(fd, (struct sockaddr *)at, *bytes) && !listen(fd, 8));
    return fd;
}

static void stranger(const uint8_t *data, size_t length)
{
    static struct sockaddr_un at;
    static socklen_t bytes;
    static struct acceptor acceptor;
    struct error error;
    struct comm_hello hello;
    char from[TCP_ADDRESS_BYTES];
    if (!acceptor.pending)
        FUZZ_CHECK(!acceptor_open(&acceptor, listener_open(&at, &bytes), "what only the ranks know", &error));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    FUZZ_CHECK(fd >= 0 && !connect(fd, (struct sockaddr *)&at, bytes));
    FUZZ_CHECK(length == 0 || send(fd, data, length, MSG_NOSIGNAL) == (ssize_t)length);
    shutdown(fd, SHUT_WR);
    FUZZ_CHECK(acceptor_next(&acceptor, 0, &hello, from) < 0); /* takes the connection, */
    FUZZ_CHECK(acceptor_next(&acceptor, 0, &hello, from) < 0); /* reads all of it, and its end */
    FUZZ_CHECK(acceptor.count == 0);
    close(fd);
}

static void cleaned(const uint8_t *data, size_t length)
{
    char text[256];
    int32_t status = 0;
    memset(text, 'x', sizeof text); /* without an end, unless there is one in the data */
    memcpy(text, data, length < sizeof text ? length : sizeof text);
    memcpy(&status, data, length < sizeof status ? length : sizeof status);
    message_text_clean(text, sizeof text);
    FUZZ_CHECK(memchr(text, 0, sizeof text) && utf8_valid(text, strlen(text), NULL));
    for (const char *at = text; *at; at++)
        FUZZ_CHECK((unsigned char)*at >= 0x20 && *at != 0x7f);
    const int code = message_status(status);
    FUZZ_CHECK((code >= STATUS_OK && code <= STATUS_PEER) || code == STATUS_SIGNAL);
    FUZZ_CHECK((code == STATUS_OK) == (status == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    cleaned(data, length);
    stranger(data, length);
    return 0;
}

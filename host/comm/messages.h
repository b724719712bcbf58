/* messages.h - everything that ranks say to each other over TCP, byte for byte. All ranks run the same program on the same
 * kind of machine, so structs travel as they lie in memory; COMM_PROTOCOL changes when one of them does.
 *
 *   every connection    hello ->  <- challenge  proof ->                            handshake.c
 *   to rank 0, both     <- answer                                                   rendezvous.c
 *     values            <- entry [ranks], then call and bytes ->  <- reply and bytes, again and again     values.c
 *     heartbeat         beats both ways                                             heartbeat.c
 *   between two ranks   collective both ways, then the tensors' bytes, again and again                    cpu_collectives.c
 *
 * What comes in is believed only after the proof, and even then lengths, ranks, ports and codes are checked and texts are
 * cleaned: a rank that has gone wrong must not take the others with it into a hang, a crash or a wrong verdict.
 */
#ifndef FLAT_COMM_MESSAGES_H
#define FLAT_COMM_MESSAGES_H
#include <stddef.h>
#include <stdint.h>

enum { COMM_PROTOCOL = 2, COMM_NONCE_BYTES = 32, COMM_PROOF_BYTES = 32, COMM_HOST_BYTES = 72, COMM_ADDRESS_BYTES = 256 };
#define COMM_MAGIC "FLATCOMM"

enum comm_channel { CHANNEL_VALUES, CHANNEL_HEARTBEAT, CHANNELS_TO_ROOT, CHANNEL_DATA = CHANNELS_TO_ROOT };

/* Who connects, and for what. */
struct comm_hello {
    char magic[8];
    int32_t protocol, rank, size, channel;
    int64_t process;
    uint64_t run; /* CHANNEL_DATA: of the answer; 0 before there is one */
    char version[64], host[COMM_HOST_BYTES];
    unsigned char nonce[COMM_NONCE_BYTES];
};

/* The listener proves that it knows the secret, and asks the same. */
struct comm_challenge {
    unsigned char nonce[COMM_NONCE_BYTES], proof[COMM_PROOF_BYTES];
};

/* Rank 0, once all are there, or when the run does not begin. */
struct comm_answer {
    int32_t status, ranks;
    uint64_t run;
    char text[512]; /* of a status that is not 0 */
};

/* One rank in the list that everybody gets. */
struct comm_entry {
    int64_t process;
    char host[COMM_HOST_BYTES];
    char address[COMM_ADDRESS_BYTES]; /* in digits; "" where it is rank 0's own host */
};

/* A host value: the call, `bytes` bytes of it; rank 0 replies with the result, or, where ranks differ, with a text. */
struct comm_call {
    char name[48];
    uint64_t bytes;
};
struct comm_reply {
    uint64_t bytes;
    int64_t differs;
};

/* The heartbeat's connection. */
enum comm_beat_kind { BEAT_ALIVE = 1, BEAT_GOODBYE, BEAT_LOST };
struct comm_beat {
    int32_t kind, rank; /* GOODBYE: who; a rank speaks for itself, rank 0 for all */
    int64_t calls;      /* ALIVE, GOODBYE: that the rank has made */
    char text[496];     /* LOST: the reason, which rank 0 passes on with the name of the rank */
};

/* What each rank is about to do with a tensor: whoever does something else is found out. */
struct comm_collective {
    int32_t collective, dtype, root, unused;
    int64_t n;
};

/* A text that came in, made fit to print and to pass on: it ends inside its bytes and is one printable line. */
void message_text_clean(char *text, size_t bytes);
/* A status that came in as one of the program's exit codes: 0 only where 0 came, STATUS_RUNTIME where it is none. */
int message_status(int32_t status);

#endif

/* mpi.c - MPI as a transport (transport.h), in a library of its own: libflat_mpi.so, built where there is MPI and
 * loaded where mpirun started the ranks. It uses what MPI's network has (InfiniBand, shared memory); the sums stay with
 * the lane, in the order of ranks, and so have the bits that they have over sockets.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

#include "transport.h"

enum { TAG = 7 };

struct mpi_state {
    int rank, size;
    MPI_Request *request; /* [2 size] */
};

__attribute__((visibility("default"))) bool flat_mpi(struct transport *transport, int rank, int size);

/* Whoever calls MPI_Init_thread is MPI's main thread: here the lane, which makes all the calls. */
static int mpi_start(void *user, char *error, size_t error_bytes)
{
    struct mpi_state *state = user;
    int provided = 0, rank = -1, size = 0;
    if (!state || !state->request) {
        snprintf(error, error_bytes, "out of host memory");
        return -1;
    }
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS || provided < MPI_THREAD_FUNNELED) {
        snprintf(error, error_bytes, "MPI_Init_thread does not allow a program with threads");
        return -1;
    }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (rank == state->rank && size == state->size)
        return 0;
    snprintf(error, error_bytes, "MPI counts this process as rank %d of %d, its environment as %d of %d", rank, size,
             state->rank, state->size);
    return -1;
}

static int mpi_exchange(void *user, const struct piece *send, const struct piece *receive, int *rank, char *error,
                        size_t error_bytes)
{
    struct mpi_state *state = user;
    int count = 0, status = MPI_SUCCESS, length = 0;
    char text[MPI_MAX_ERROR_STRING] = "";
    for (int peer = 0; peer < state->size && status == MPI_SUCCESS; peer++)
        if (peer != state->rank && receive[peer].count)
            status = MPI_Irecv(receive[peer].bytes, (int)receive[peer].count, MPI_BYTE, peer, TAG, MPI_COMM_WORLD,
                               &state->request[count++]);
    for (int peer = 0; peer < state->size && status == MPI_SUCCESS; peer++)
        if (peer != state->rank && send[peer].count)
            status = MPI_Isend(send[peer].bytes, (int)send[peer].count, MPI_BYTE, peer, TAG, MPI_COMM_WORLD,
                               &state->request[count++]);
    if (status == MPI_SUCCESS)
        status = MPI_Waitall(count, state->request, MPI_STATUSES_IGNORE);
    if (status == MPI_SUCCESS)
        return 0;
    *rank = -1;
    MPI_Error_string(status, text, &length);
    snprintf(error, error_bytes, "%.200s", text);
    return -1;
}

static void mpi_close(void *user, bool failed)
{
    struct mpi_state *state = user;
    int begun = 0, ended = 0;
    MPI_Initialized(&begun);
    MPI_Finalized(&ended);
    if (begun && !ended && !failed)
        MPI_Finalize();
    if (state)
        free(state->request);
    free(state);
}

bool flat_mpi(struct transport *transport, int rank, int size)
{
#ifdef OPEN_MPI
    if (!getenv("OMPI_COMM_WORLD_SIZE"))
        return false;
#endif
    struct mpi_state *state = calloc(1, sizeof *state);
    if (state)
        *state = (struct mpi_state){rank, size, calloc(2 * (size_t)size, sizeof *state->request)};
    *transport = (struct transport){"MPI", state, mpi_start, mpi_exchange, mpi_close};
    return true;
}

/* rank_env.h - which rank of how many this process is, as its launcher says. */
#ifndef FLAT_COMM_RANK_ENV_H
#define FLAT_COMM_RANK_ENV_H
#include "../util/error.h"

struct rank_env {
    int rank, size;             /* in the whole run */
    int local_rank, local_size; /* on this host: local_rank picks the GPU */
    char address[256];          /* where rank 0 listens */
    int port;
    int listener;               /* rank 0: a socket that listens there already, which comm_open takes over; -1: none */
    double timeout_seconds;     /* to wait for the others at the start: 60 */
    char secret[256];           /* that every connection proves to know; "": none */
    const char *launcher;       /* "torchrun", "mpirun", "srun", "environment", "flat", or "none" with one rank */
};

/* Reads the environment, in this order:
 *   RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT   torchrun (whose own store holds MASTER_PORT: we meet at
 *                                                            the next one), flat --nproc_per_node, or by hand
 *   OMPI_COMM_WORLD_*, PMI_*                                 mpirun of Open MPI; of MPICH and its like
 *   SLURM_PROCID, SLURM_STEP_*                               srun
 * mpirun on several hosts does not say where rank 0 is: MASTER_ADDR must, or a SLURM allocation does.
 * Where all ranks are of this host they meet at its loopback address, whatever MASTER_ADDR says.
 * FLAT_COMM_TIMEOUT is timeout_seconds, FLAT_COMM_SECRET the secret, 16 characters or more, the same for all ranks;
 * FLAT_LISTENER the listener of flat --nproc_per_node, which also makes a secret.
 * Contradictory or half-set variables are STATUS_USAGE, naming the variable. */
int rank_env_read(struct rank_env *env, struct error *error);
/* What is to be said of an environment with several ranks and no secret; NULL: nothing. */
const char *rank_env_warning(const struct rank_env *env);
/* Number of the GPU for device_open: local_rank, or, where CUDA_VISIBLE_DEVICES shows fewer than local_size (as srun
 * does with --gpus-per-task), local_rank modulo those. */
int rank_env_device(const struct rank_env *env);

#endif

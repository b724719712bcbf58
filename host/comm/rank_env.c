/* rank_env.c - see rank_env.h. */
#include "rank_env.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Ports made from a job's number lie below those that Linux hands out by itself (32768 and up). */
enum { SECRET_BYTES_MIN = 16, SIZE_MAX_RANKS = 16384, PORT_FIRST = 10000, PORT_COUNT = 20000 };
#define TIMEOUT_SECONDS 60

/* NULL where it is not set or empty. */
static const char *variable(const char *name)
{
    const char *text = getenv(name);
    return text && *text ? text : NULL;
}

/* A whole number from min to max; *value is left alone where the variable is not set. */
static int variable_int(const char *name, int min, int max, int *value, struct error *error)
{
    const char *text = variable(name);
    if (!text)
        return STATUS_OK;
    char *end;
    long number = strtol(text, &end, 10);
    if (*end || end == text || number < min || number > max)
        return error_set(error, STATUS_USAGE, "%s: expected a whole number from %d to %d, found '%.40s'", name, min,
                         max, text);
    *value = (int)number;
    return STATUS_OK;
}

/* Names of one launcher's variables; NULL for what it does not tell. */
struct names {
    const char *launcher, *rank, *size, *local_rank, *local_size;
};

static const struct names by_environment = {"environment", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"};
static const struct names by_open_mpi = {"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                                         "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"};
static const struct names by_pmi = {"mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"};

/* rank, size, local_rank, local_size of one launcher; local_size stays 0 where it is not told. */
static int numbers_read(struct rank_env *env, const struct names *names, struct error *error)
{
    int rank = -1, size = 0, local_rank = -1, local_size = 0;
    int status = variable_int(names->size, 1, SIZE_MAX_RANKS, &size, error);
    if (!status)
        status = variable_int(names->rank, 0, SIZE_MAX_RANKS, &rank, error);
    if (!status)
        status = variable_int(names->local_rank, 0, SIZE_MAX_RANKS, &local_rank, error);
    if (!status && names->local_size)
        status = variable_int(names->local_size, 1, SIZE_MAX_RANKS, &local_size, error);
    if (status)
        return status;
    const char *missing = rank < 0 ? names->rank : !size ? names->size : NULL;
    if (!missing && size > 1 && local_rank < 0)
        missing = names->local_rank;
    if (missing)
        return error_set(error, STATUS_USAGE, "%s: not set, but %s is; a rank needs both, or neither for a run alone",
                         missing, rank < 0 ? names->size : names->rank);
    if (rank >= size)
        return error_set(error, STATUS_USAGE, "%s: %d, but %s is %d and ranks count from 0", names->rank, rank,
                         names->size, size);
    local_rank = local_rank < 0 ? 0 : local_rank;
    if ((local_size && (local_rank >= local_size || local_size > size)))
        return error_set(error, STATUS_USAGE, "%s: %d does not go with %s %d and %s %d", names->local_rank, local_rank,
                         names->rank, rank, names->local_size, local_size);
    env->rank = rank;
    env->size = size;
    env->local_rank = local_rank;
    env->local_size = local_size;
    env->launcher = names->launcher;
    return STATUS_OK;
}

static int address_set(struct rank_env *env, const char *address, size_t length, const char *name,
                       struct error *error)
{
    if (!length || length >= sizeof env->address)
        return error_set(error, STATUS_USAGE, "%s: expected a host name or address, found '%.80s'", name, address);
    memcpy(env->address, address, length);
    env->address[length] = 0;
    return STATUS_OK;
}

/* The first name of a SLURM host list: "gpu[03-05,9],n1" gives "gpu03". */
static int nodelist_first(struct rank_env *env, const char *name, struct error *error)
{
    const char *list = variable(name);
    char host[sizeof env->address];
    size_t length = 0;
    for (const char *at = list; at && *at && *at != ',' && length + 1 < sizeof host; at++) {
        if (*at != '[') {
            host[length++] = *at;
            continue;
        }
        size_t number = strcspn(++at, "-,]");
        if (!number || length + number + 1 >= sizeof host || !strchr(at, ']'))
            return error_set(error, STATUS_USAGE, "%s: cannot read the host list '%.80s'", name, list);
        memcpy(host + length, at, number);
        length += number;
        at = strchr(at, ']');
    }
    host[length] = 0;
    return address_set(env, host, length, name, error);
}

/* A port that every rank of a job makes alike: FNV-1a of the job's name. */
static int port_of(const char *job)
{
    unsigned hash = 2166136261u;
    for (; *job; job++)
        hash = (hash ^ (unsigned char)*job) * 16777619u;
    return PORT_FIRST + (int)(hash % PORT_COUNT);
}

/* MASTER_ADDR and MASTER_PORT where they are set. */
static int master_read(struct rank_env *env, struct error *error)
{
    const char *address = variable("MASTER_ADDR");
    int status = variable_int("MASTER_PORT", 1, 65535, &env->port, error);
    if (!status && address)
        status = address_set(env, address, strlen(address), "MASTER_ADDR", error);
    return status;
}

static int is_loopback(const char *address)
{
    return !strcmp(address, "localhost") || !strncmp(address, "127.", 4) || !strcmp(address, "::1");
}

static int listener_read(struct rank_env *env, struct error *error)
{
    int listening = 0;
    socklen_t length = sizeof listening;
    int status = env->rank ? STATUS_OK : variable_int("FLAT_LISTENER", 3, 1 << 20, &env->listener, error);
    if (status || env->listener < 0)
        return status;
    if (getsockopt(env->listener, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) || !listening)
        return error_set(error, STATUS_USAGE, "FLAT_LISTENER: descriptor %d does not listen; flat --nproc_per_node "
                         "sets this, leave it out", env->listener);
    fcntl(env->listener, F_SETFD, FD_CLOEXEC);
    return STATUS_OK;
}

static int find_by_environment(struct rank_env *env, struct error *error)
{
    int other = -1;
    int status = numbers_read(env, &by_environment, error);
    if (!status)
        status = variable_int(by_open_mpi.rank, 0, SIZE_MAX_RANKS, &other, error);
    if (status || env->size == 1)
        return status;
    if (other >= 0 && other != env->rank)
        return error_set(error, STATUS_USAGE, "RANK: %d, but mpirun says %s %d; unset RANK and WORLD_SIZE, or start "
                         "without mpirun", env->rank, by_open_mpi.rank, other);
    status = master_read(env, error);
    if (status)
        return status;
    if (!*env->address || !env->port)
        return error_set(error, STATUS_USAGE, "%s: not set, but RANK and WORLD_SIZE are; set it to the %s of rank 0",
                         *env->address ? "MASTER_PORT" : "MASTER_ADDR", *env->address ? "port" : "host");
    if (variable("TORCHELASTIC_RUN_ID")) {
        env->launcher = "torchrun";
        if (++env->port > 65535)
            return error_set(error, STATUS_USAGE,
                             "MASTER_PORT: torchrun's own store holds 65535, and ranks meet at the "
                             "port above it; give torchrun a smaller --master_port");
    } else if (variable("FLAT_LAUNCHER")) {
        env->launcher = "flat";
        status = listener_read(env, error);
    }
    if (!env->local_size && is_loopback(env->address))
        env->local_size = env->size;
    return status;
}

static int find_by_mpi(struct rank_env *env, const struct names *names, struct error *error)
{
    static const char *const job[] = {"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "PMI_ID", "SLURM_JOB_ID"};
    int status = numbers_read(env, names, error);
    if (!status)
        status = master_read(env, error);
    if (status || env->size == 1)
        return status;
    if (!*env->address && env->local_size == env->size)
        status = address_set(env, "127.0.0.1", 9, "MASTER_ADDR", error);
    else if (!*env->address && variable("SLURM_JOB_NODELIST"))
        status = nodelist_first(env, "SLURM_JOB_NODELIST", error);
    else if (!*env->address)
        status = error_set(error, STATUS_USAGE, "MASTER_ADDR: not set, and mpirun does not tell the host of rank 0 to "
                           "ranks on other hosts; add -x MASTER_ADDR=HOST -x MASTER_PORT=PORT");
    for (size_t i = 0; !status && !env->port && i < sizeof job / sizeof *job; i++)
        if (variable(job[i]))
            env->port = port_of(variable(job[i]));
    if (!status && !env->port)
        status = error_set(error, STATUS_USAGE,
                           "MASTER_PORT: not set, and mpirun gives the job no name to make one from; "
                           "add MASTER_PORT=PORT to the environment");
    return status;
}

/* Ranks on this host: the SLURM_NODEID-th number of a list like "4(x2),3". */
static int tasks_here(const char *list, int node)
{
    while (list && *list) {
        int tasks = 0, times = 1, used = 0;
        if (sscanf(list, "%d%n(x%d)%n", &tasks, &used, &times, &used) < 1)
            return 0;
        if (node < times)
            return tasks;
        node -= times;
        list += used;
        list += *list == ',';
    }
    return 0;
}

/* Only inside a step: the batch script itself has SLURM_PROCID 0 and the tasks of the whole job, too. */
static int find_by_srun(struct rank_env *env, struct error *error)
{
    const char *step_size = variable("SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
    const struct names names = {"srun", "SLURM_PROCID", step_size, "SLURM_LOCALID", NULL};
    int node = 0;
    int status = numbers_read(env, &names, error);
    if (!status)
        status = variable_int("SLURM_NODEID", 0, SIZE_MAX_RANKS, &node, error);
    if (!status)
        status = master_read(env, error);
    if (status || env->size == 1)
        return status;
    const char *nodes = variable("SLURM_STEP_NODELIST") ? "SLURM_STEP_NODELIST" : "SLURM_JOB_NODELIST";
    if (!*env->address)
        status = variable(nodes) ? nodelist_first(env, nodes, error)
                                 : error_set(error, STATUS_USAGE, "SLURM_STEP_NODELIST: not set, and neither is "
                                             "MASTER_ADDR; set that to the host of rank 0");
    if (!status && !env->port) {
        char job[128];
        snprintf(job, sizeof job, "%.60s.%.60s", variable("SLURM_JOB_ID") ? variable("SLURM_JOB_ID") : "",
                 variable("SLURM_STEP_ID"));
        env->port = port_of(job);
    }
    env->local_size = tasks_here(variable("SLURM_STEP_TASKS_PER_NODE"), node);
    return status;
}

static int secret_read(struct rank_env *env, struct error *error)
{
    const char *secret = variable("FLAT_COMM_SECRET");
    const size_t length = secret ? strlen(secret) : 0;
    if (secret && (length < SECRET_BYTES_MIN || length >= sizeof env->secret))
        return error_set(error, STATUS_USAGE, "FLAT_COMM_SECRET: expected %d to %zu characters, found %zu; make one with "
                         "openssl rand -hex 32", SECRET_BYTES_MIN, sizeof env->secret - 1, length);
    memcpy(env->secret, secret ? secret : "", length + 1);
    return STATUS_OK;
}

int rank_env_read(struct rank_env *env, struct error *error)
{
    *env = (struct rank_env){.size = 1, .local_size = 1, .listener = -1, .launcher = "none"};
    int timeout = TIMEOUT_SECONDS;
    int status = variable_int("FLAT_COMM_TIMEOUT", 1, 86400, &timeout, error);
    env->timeout_seconds = timeout;
    if (!status)
        status = secret_read(env, error);
    if (status)
        return status;
    if (variable("RANK") || variable("WORLD_SIZE"))
        status = find_by_environment(env, error);
    else if (variable(by_open_mpi.rank) || variable(by_open_mpi.size))
        status = find_by_mpi(env, &by_open_mpi, error);
    else if (variable(by_pmi.rank) || variable(by_pmi.size))
        status = find_by_mpi(env, &by_pmi, error);
    else if (variable("SLURM_PROCID") && variable("SLURM_STEP_ID"))
        status = find_by_srun(env, error);
    if (status)
        return status;
    if (env->size > 1 && env->local_size == env->size && !is_loopback(env->address))
        strcpy(env->address, "127.0.0.1");
    if (env->local_size < env->local_rank + 1)
        env->local_size = env->local_rank + 1; /* not told */
    return STATUS_OK;
}

const char *rank_env_warning(const struct rank_env *env)
{
    return env->size > 1 && !*env->secret ? "FLAT_COMM_SECRET is not set: whoever reaches a port of these ranks can take part "
                                            "in the run or end it; give all ranks the same, made with openssl rand -hex 32"
                                          : NULL;
}

int rank_env_device(const struct rank_env *env)
{
    const char *visible = variable("CUDA_VISIBLE_DEVICES");
    int count = visible ? 1 : env->local_size;
    for (; visible && *visible; visible++)
        count += *visible == ',';
    return count < env->local_size ? env->local_rank % count : env->local_rank;
}

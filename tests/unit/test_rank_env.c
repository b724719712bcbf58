/* test_rank_env.c - which rank of how many, by every launcher's environment, and what contradicts itself. */
#include "../support/temporary.h"

#include "../../host/comm/rank_env.h"

static const char *const known[] = {
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID",
    "FLAT_LAUNCHER", "FLAT_LISTENER", "FLAT_COMM_TIMEOUT", "FLAT_COMM_SECRET", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "OMPI_COMM_WORLD_LOCAL_SIZE", "PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "PMI_RANK", "PMI_SIZE", "PMI_ID",
    "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID",
    "SLURM_NODEID", "SLURM_STEP_ID", "SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_STEP_NODELIST",
    "SLURM_STEP_TASKS_PER_NODE"};

/* Sets exactly these "NAME=value ..." and asks. */
static int env_with(const char *variables, struct rank_env *env, struct error *error)
{
    char copy[1024];
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        unsetenv(known[i]);
    snprintf(copy, sizeof copy, "%s", variables);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
        char *value = strchr(word, '=');
        *value = 0;
        setenv(word, value + 1, 1);
    }
    *error = (struct error){0};
    return rank_env_read(env, error);
}

static void test_found(void **state)
{
    (void)state;
    static const struct {
        const char *variables, *launcher;
        int rank, size, local_rank, local_size;
        const char *address;
        int port;
    } cases[] = {
        {"", "none", 0, 1, 0, 1, "", 0},
        {"MASTER_ADDR=a MASTER_PORT=5", "none", 0, 1, 0, 1, "", 0},
        {"RANK=0 WORLD_SIZE=1", "environment", 0, 1, 0, 1, "", 0},
        {"RANK=3 WORLD_SIZE=8 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=head MASTER_PORT=2000", "environment", 3, 8,
         1, 2, "head", 2000},
        {"RANK=3 WORLD_SIZE=4 LOCAL_RANK=3 MASTER_ADDR=127.0.0.1 MASTER_PORT=2000", "environment", 3, 4, 3, 4,
         "127.0.0.1", 2000},
        {"RANK=3 WORLD_SIZE=4 LOCAL_RANK=3 MASTER_ADDR=::1 MASTER_PORT=2000 FLAT_LAUNCHER=1", "flat", 3, 4, 3, 4, "::1",
         2000},
        /* all of one host: its loopback address, whatever its name */
        {"RANK=3 WORLD_SIZE=4 LOCAL_RANK=3 LOCAL_WORLD_SIZE=4 MASTER_ADDR=head MASTER_PORT=2000 TORCHELASTIC_RUN_ID=x",
         "torchrun", 3, 4, 3, 4, "127.0.0.1", 2001},
        {"RANK=3 WORLD_SIZE=8 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=head MASTER_PORT=2000 TORCHELASTIC_RUN_ID=x",
         "torchrun", 3, 8, 1, 2, "head", 2001},
        /* torchrun under srun: the inner one counts */
        {"RANK=3 WORLD_SIZE=8 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=head MASTER_PORT=2000 TORCHELASTIC_RUN_ID=x "
         "SLURM_PROCID=1 SLURM_STEP_ID=0 SLURM_NTASKS=4",
         "torchrun", 3, 8, 1, 2, "head", 2001},
        {"OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=2 "
         "MASTER_PORT=77",
         "mpirun", 1, 2, 1, 2, "127.0.0.1", 77},
        {"OMPI_COMM_WORLD_RANK=5 OMPI_COMM_WORLD_SIZE=8 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=4 "
         "MASTER_PORT=77 MASTER_ADDR=head",
         "mpirun", 5, 8, 1, 4, "head", 77},
        {"OMPI_COMM_WORLD_RANK=5 OMPI_COMM_WORLD_SIZE=8 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=4 "
         "MASTER_PORT=77 SLURM_JOB_NODELIST=n[7-8]",
         "mpirun", 5, 8, 1, 4, "n7", 77},
        {"PMI_RANK=1 PMI_SIZE=2 MPI_LOCALRANKID=1 MPI_LOCALNRANKS=2 MASTER_PORT=77", "mpirun", 1, 2, 1, 2, "127.0.0.1",
         77},
        /* the batch script is no step: it runs alone */
        {"SLURM_PROCID=0 SLURM_NTASKS=8 SLURM_JOB_ID=4 SLURM_JOB_NODELIST=a1", "none", 0, 1, 0, 1, "", 0},
        {"SLURM_PROCID=5 SLURM_NTASKS=7 SLURM_LOCALID=1 SLURM_NODEID=2 SLURM_STEP_ID=0 SLURM_JOB_ID=4 MASTER_PORT=9 "
         "SLURM_STEP_NODELIST=gpu[03-05,9],n1 SLURM_STEP_TASKS_PER_NODE=2(x2),3",
         "srun", 5, 7, 1, 3, "gpu03", 9},
        {"SLURM_PROCID=1 SLURM_NTASKS=9 SLURM_STEP_NUM_TASKS=2 SLURM_LOCALID=0 SLURM_STEP_ID=0 MASTER_PORT=9 "
         "SLURM_JOB_NODELIST=rack[2,4]-node[11-12].x",
         "srun", 1, 2, 0, 1, "rack2-node11.x", 9},
        {"SLURM_PROCID=1 SLURM_NTASKS=2 SLURM_LOCALID=0 SLURM_STEP_ID=0 MASTER_PORT=9 SLURM_JOB_NODELIST=one,two",
         "srun", 1, 2, 0, 1, "one", 9},
        {"SLURM_PROCID=0 SLURM_NTASKS=1 SLURM_LOCALID=0 SLURM_STEP_ID=0", "srun", 0, 1, 0, 1, "", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rank_env env;
        struct error error;
        if (env_with(cases[i].variables, &env, &error))
            fail_msg("%s: %s", cases[i].variables, error.text);
        if (strcmp(env.launcher, cases[i].launcher) || env.rank != cases[i].rank || env.size != cases[i].size ||
            env.local_rank != cases[i].local_rank || env.local_size != cases[i].local_size ||
            strcmp(env.address, cases[i].address) || (env.port != cases[i].port && env.size > 1))
            fail_msg("%s: got %s %d/%d local %d/%d %s:%d", cases[i].variables, env.launcher, env.rank, env.size,
                     env.local_rank, env.local_size, env.address, env.port);
        assert_true(env.timeout_seconds == 60);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *variables, *text;
    } cases[] = {
        {"RANK=1", "WORLD_SIZE: not set"},
        {"WORLD_SIZE=2", "RANK: not set"},
        {"RANK=1 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=1", "LOCAL_RANK: not set"},
        {"RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 MASTER_PORT=1", "MASTER_ADDR: not set"},
        {"RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 MASTER_ADDR=a", "MASTER_PORT: not set"},
        {"RANK=2 WORLD_SIZE=2 LOCAL_RANK=1 MASTER_ADDR=a MASTER_PORT=1", "RANK: 2, but WORLD_SIZE is 2"},
        {"RANK=-1 WORLD_SIZE=2", "RANK: expected a whole number from 0"},
        {"RANK=x WORLD_SIZE=2", "RANK: expected a whole number"},
        {"RANK=1e9 WORLD_SIZE=2", "RANK: expected a whole number"},
        {"RANK=0 WORLD_SIZE=0", "WORLD_SIZE: expected"},
        {"RANK=0 WORLD_SIZE=99999999999999999999", "WORLD_SIZE: expected"},
        {"RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 MASTER_ADDR=a MASTER_PORT=70000", "MASTER_PORT: expected"},
        {"RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 MASTER_ADDR=a MASTER_PORT=65535 TORCHELASTIC_RUN_ID=x", "torchrun"},
        {"RANK=1 WORLD_SIZE=4 LOCAL_RANK=2 LOCAL_WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=1",
         "LOCAL_RANK: 2 does not go"},
        {"RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 MASTER_ADDR=a MASTER_PORT=1 OMPI_COMM_WORLD_RANK=0", "but mpirun says"},
        {"OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_SIZE: not set"},
        {"OMPI_COMM_WORLD_RANK=5 OMPI_COMM_WORLD_SIZE=8 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=4",
         "-x MASTER_ADDR=HOST"},
        {"PMI_RANK=1 PMI_SIZE=2 MPI_LOCALRANKID=1 MPI_LOCALNRANKS=2", "MASTER_PORT: not set"},
        {"SLURM_PROCID=1 SLURM_NTASKS=2 SLURM_LOCALID=0 SLURM_STEP_ID=0", "SLURM_STEP_NODELIST: not set"},
        {"SLURM_PROCID=1 SLURM_STEP_ID=0 SLURM_LOCALID=0", "SLURM_NTASKS: not set"},
        {"SLURM_PROCID=1 SLURM_NTASKS=2 SLURM_LOCALID=0 SLURM_STEP_ID=0 SLURM_STEP_NODELIST=gpu[",
         "cannot read the host"},
        {"SLURM_PROCID=1 SLURM_NTASKS=2 SLURM_LOCALID=0 SLURM_STEP_ID=0 SLURM_STEP_NODELIST=gpu[1-2",
         "cannot read the"},
        {"RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 MASTER_ADDR=a MASTER_PORT=1 FLAT_LAUNCHER=1 FLAT_LISTENER=77",
         "FLAT_LISTENER: descriptor 77 does not listen"},
        {"FLAT_COMM_TIMEOUT=soon", "FLAT_COMM_TIMEOUT: expected"},
        {"FLAT_COMM_SECRET=fifteen-letters", "FLAT_COMM_SECRET: expected 16 to 255 characters, found 15"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rank_env env;
        struct error error;
        int status = env_with(cases[i].variables, &env, &error);
        if (!status)
            fail_msg("%s: not refused", cases[i].variables);
        assert_error(&error, status, STATUS_USAGE, cases[i].text);
    }
}

/* Several ranks without a secret are warned about; with one, or alone, there is nothing to say. */
static void test_secret(void **state)
{
    (void)state;
    struct rank_env env;
    struct error error;
    const char *two = "RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 MASTER_ADDR=a MASTER_PORT=1";
    char text[256];
    assert_int_equal(env_with(two, &env, &error), 0);
    assert_string_equal(env.secret, "");
    assert_non_null(strstr(rank_env_warning(&env), "FLAT_COMM_SECRET is not set"));
    snprintf(text, sizeof text, "%s FLAT_COMM_SECRET=sixteen--letters", two);
    assert_int_equal(env_with(text, &env, &error), 0);
    assert_string_equal(env.secret, "sixteen--letters");
    assert_null(rank_env_warning(&env));
    assert_int_equal(env_with("RANK=0 WORLD_SIZE=1", &env, &error), 0);
    assert_null(rank_env_warning(&env));
}

/* A port that ranks make from the job is the same for all of them, another for another job, and no privileged one. */
static void test_port(void **state)
{
    (void)state;
    struct rank_env one, two;
    struct error error;
    const char *step = "SLURM_NTASKS=2 SLURM_LOCALID=0 SLURM_STEP_NODELIST=a,b SLURM_STEP_ID=%d SLURM_JOB_ID=77 "
                       "SLURM_PROCID=%d";
    char text[512];
    snprintf(text, sizeof text, step, 0, 0);
    assert_int_equal(env_with(text, &one, &error), 0);
    snprintf(text, sizeof text, step, 0, 1);
    assert_int_equal(env_with(text, &two, &error), 0);
    assert_int_equal(one.port, two.port);
    assert_true(one.port >= 1024 && one.port < 32768);
    snprintf(text, sizeof text, step, 1, 1);
    assert_int_equal(env_with(text, &two, &error), 0);
    assert_int_not_equal(one.port, two.port);
    assert_int_equal(env_with("FLAT_COMM_TIMEOUT=5", &one, &error), 0);
    assert_true(one.timeout_seconds == 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_found), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_port), cmocka_unit_test(test_secret)};
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}

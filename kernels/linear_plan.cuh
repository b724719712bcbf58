/* linear_plan.cuh - matrix products on cublasLt, with the algorithm chosen once a shape.
 *
 * linear_plan.cu keeps the plans, linear_pick.cu chooses the algorithms, linear.cu asks for products.
 */
#ifndef FLAT_KERNELS_LINEAR_PLAN_CUH
#define FLAT_KERNELS_LINEAR_PLAN_CUH
#include "engine/cuda.cuh"

#include <cublasLt.h>

/* d [m, n] (+)= scale op(a) op(b) (+ bias [m] for every column): column-major, op(a) [m, k], op(b) [k, n]. */
struct linear_product {
    enum dtype in, out; /* of a, b and bias; of d */
    bool transpose_a, transpose_b;
    int64_t m, n, k; /* > 0 */
    const void *a, *b;
    const void *bias; /* NULL: none */
    void *d;
    bool accumulate;
    int64_t ldb, ldd; /* elements between columns of b (as stored) and d; a is dense */
    float scale;
};

/* Queues the product. *queued is false, with OP_OK, when cublasLt has no way to add the bias: then nothing was done. */
int linear_product_run(struct engine_context *context, const char *op, const struct linear_product *product,
                       bool *queued);

/* ---- between linear_plan.cu and linear_pick.cu ------------------------------------------------------------------- */

/* What an algorithm is chosen by. Compared byte by byte: no padding, all fields set. */
struct linear_key {
    int64_t m, n, k, ldb, ldd;
    uint8_t in, out, transpose_a, transpose_b, bias;
    uint8_t alignment; /* of all pointers, 16 at most */
    uint8_t unused[2];
};

struct linear_plan {
    bool used, possible; /* possible: cublasLt has an algorithm for it */
    struct linear_key key;
    cublasLtMatmulDescOpaque_t operation;
    cublasLtMatrixLayoutOpaque_t a, b, d;
    cublasLtMatmulAlgo_t algorithm;
};

/* One line of the file of picks. */
struct linear_pick {
    struct linear_key key;
    cublasLtMatmulAlgo_t algorithm;
};

enum : size_t { LINEAR_WORKSPACE = (size_t)32 << 20 };
enum { LINEAR_PLANS = 1024 };

struct linear_plans {
    cublasLtHandle_t handle;
    cublasLtMatmulPreference_t preference;
    void *workspace;
    struct linear_plan plan[LINEAR_PLANS]; /* open addressing by key */
    int used;
    char *file; /* NULL: no timing */
    struct linear_pick *pick;
    int picks;
};

int linear_status(struct engine_context *context, const char *op, cublasStatus_t status);

/* The product by `algorithm` into `d`. */
cublasStatus_t linear_plan_queue(struct engine_context *context, struct linear_plan *plan,
                                 const cublasLtMatmulAlgo_t *algorithm, const struct linear_product *product, void *d,
                                 bool accumulate);

/* Fills plan->possible and plan->algorithm. */
int linear_pick_choose(struct engine_context *context, const char *op, struct linear_plan *plan,
                       const struct linear_product *product);

/* Reads the picks of earlier runs, or begins the file. */
int linear_pick_open(struct engine_context *context, const char *file);
void linear_pick_close(struct linear_plans *plans);

#endif

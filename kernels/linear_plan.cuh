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
    bool rows_are_k; /* which of the sizes is that of a batch's rows: k, or n */
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
    uint8_t rows_are_k;
    uint8_t unused;
};

struct linear_plan {
    bool used, possible; /* possible: cublasLt has an algorithm for it */
    struct linear_key key;
    cublasLtMatmulDescOpaque_t operation;
    cublasLtMatrixLayoutOpaque_t a, b, d;
    cublasLtMatmulAlgo_t algorithm;
};

/* The algorithm of all products of a key whose rows round up to the key's. */
struct linear_pick {
    struct linear_key key;
    cublasLtMatmulAlgo_t algorithm;
    bool used; /* a product has taken it */
};

enum : size_t { LINEAR_WORKSPACE = (size_t)32 << 20 };
enum { LINEAR_PLANS = 1024, LINEAR_ALGORITHM_WORDS = sizeof(cublasLtMatmulAlgo_t) / sizeof(uint64_t) };

struct linear_plans {
    cublasLtHandle_t handle;
    cublasLtMatmulPreference_t preference;
    void *workspace;
    struct linear_plan plan[LINEAR_PLANS]; /* open addressing by key */
    int used;
    struct linear_pick *pick;
    int picks;
    bool timing; /* a product without a pick times the proposals */
    char scope[200], line[ENGINE_PICK_BYTES]; /* what pick_scope and pick_get give */
};

int linear_status(struct engine_context *context, const char *op, cublasStatus_t status);

/* The product by `algorithm` into `d`. */
cublasStatus_t linear_plan_queue(struct engine_context *context, struct linear_plan *plan,
                                 const cublasLtMatmulAlgo_t *algorithm, const struct linear_product *product, void *d,
                                 bool accumulate);

/* Fills plan->possible and plan->algorithm. */
int linear_pick_choose(struct engine_context *context, const char *op, struct linear_plan *plan,
                       const struct linear_product *product);

/* Descriptors of a key's product, whose bias, where it has one, is yet to be set. */
cublasStatus_t linear_plan_describe(struct linear_plan *plan, const struct linear_key *key);
/* Plans are made anew, with picks as they are then. */
void linear_plans_forget(struct linear_plans *plans);

#endif

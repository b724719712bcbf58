/* nccl_check.cpp - compares nccl_api.h with NVIDIA's nccl.h, where that is installed: at compile time, and no more. */
#include "engine/nccl_api.h"

#include <type_traits>

#if defined(__CUDA_RUNTIME_API_H__) && __has_include(<nccl.h>) /* it needs NVIDIA's own CUDA headers */
#include <nccl.h>

namespace {

/* nccl_api.h has int for NCCL's enums, and a struct of its own for the id. */
template <class T> struct plain {
    typedef typename std::conditional<std::is_enum<T>::value, int, T>::type type;
};
template <> struct plain<ncclUniqueId> {
    typedef nccl_id type;
};
template <> struct plain<ncclUniqueId *> {
    typedef nccl_id *type;
};
template <> struct plain<ncclResult_t *> {
    typedef int *type;
};

template <class R, class... A>
auto plain_function(R (*)(A...)) -> typename plain<R>::type (*)(typename plain<A>::type...);

#define X(type, name, arguments) \
    static_assert(std::is_same<decltype(plain_function(&::name)), decltype(nccl_api::name)>::value, #name);
NCCL_API(X)
#undef X

static_assert(sizeof(ncclUniqueId) == sizeof(nccl_id) && sizeof(ncclDataType_t) == sizeof(int), "sizes");
static_assert((int)ncclSuccess == NCCL_SUCCESS && (int)ncclInProgress == NCCL_IN_PROGRESS &&
                  (int)ncclSystemError == NCCL_SYSTEM_ERROR && (int)ncclInvalidArgument == NCCL_INVALID_ARGUMENT &&
                  (int)ncclRemoteError == NCCL_REMOTE_ERROR,
              "results");
static_assert((int)ncclUint8 == NCCL_UINT8 && (int)ncclFloat16 == NCCL_FLOAT16 && (int)ncclFloat32 == NCCL_FLOAT32 &&
                  (int)ncclFloat64 == NCCL_FLOAT64 && (int)ncclBfloat16 == NCCL_BFLOAT16,
              "types");
static_assert((int)ncclSum == NCCL_SUM, "operations");

} // namespace
#endif

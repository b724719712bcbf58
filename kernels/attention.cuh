/* attention.cuh - what the CUDA files of attention share: which rows a block works on, rows between global and shared
 * memory, products of tensor-core fragments.
 *
 * Keys are numbered per segment: 0 .. prefix_count - 1 are the shared prefix, the segment's own follow, and query r
 * sees the keys below prefix_count + key_cached + r + 1, of which a window leaves the last so many. A tile of keys may span both ranges, so a short prefix and a
 * short branch share one tile, and a query's arithmetic does not depend on how its batch was packed.
 *
 * A launch has a block for every tile of the host's list. Without a list it has one for every tile that there could be, for so many
 * rows and segments, and a block finds its segment (tile_find) or ends.
 */
#ifndef FLAT_KERNELS_ATTENTION_CUH
#define FLAT_KERNELS_ATTENTION_CUH
#include "engine/cuda.cuh"

enum { ATTENTION_THREADS = 128, ATTENTION_WARPS = ATTENTION_THREADS / WARP_SIZE };

/* ---- between the files ------------------------------------------------------------------------------------------ */

/* What the sizes of grids allow. */
#define REQUIRE_GRID(args)                                                                                     \
    REQUIRE((args)->rows <= INT_MAX / 2 && (args)->segments <= INT_MAX / 2 && (args)->heads <= 65535,          \
            "rows or segments above 2^30, or heads above 65535")

cudaError_t attention_forward_f32(struct engine_context *context, const struct attention_args *args);
/* delta [heads, rows] = rowsum(dout * out) */
cudaError_t attention_backward_f32(struct engine_context *context, const struct attention_backward_args *args,
                                   const float *delta);

/* Blocks for all tiles. */
static inline unsigned attention_tile_blocks(const struct attention_args *args, int rows_a_tile)
{
    return (unsigned)(args->tile ? args->tiles : attention_tiles_most(args->rows, args->segments, rows_a_tile));
}

template <int N> struct attention_width {
    static constexpr int value = N;
};

/* f(attention_width<DIM>()) for the tensor-core kernels' width that holds head_dim: 64, 80, 96 and 128 are meant for
 * speed, other widths are padded with zeros in shared memory. */
template <typename F> cudaError_t attention_dispatch(int head_dim, F f)
{
    return head_dim <= 16    ? f(attention_width<16>())
           : head_dim <= 32  ? f(attention_width<32>())
           : head_dim <= 64  ? f(attention_width<64>())
           : head_dim <= 80  ? f(attention_width<80>())
           : head_dim <= 96  ? f(attention_width<96>())
           : head_dim <= 128 ? f(attention_width<128>())
           : head_dim <= 192 ? f(attention_width<192>())
                             : f(attention_width<256>());
}

/* LAUNCH with leave to use that much dynamic shared memory; more than 48 KB must be asked for. */
#define ATTENTION_LAUNCH(kernel, grid, bytes, ...)                                                             \
    ([&]() -> cudaError_t {                                                                                    \
        const cudaError_t error =                                                                              \
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes));           \
        return error != cudaSuccess                                                                            \
                   ? error                                                                                     \
                   : LAUNCH(kernel, grid, ATTENTION_THREADS, bytes, context->stream, __VA_ARGS__);             \
    }())

/* ---- rows ------------------------------------------------------------------------------------------------------- */

/* Tile `number` of those of all segments, in the order of these. Every lane of a warp calls it. */
DEVICE attention_tile tile_find(const attention_args &args, int number, int rows_a_tile)
{
    const int lane = (int)threadIdx.x % WARP_SIZE;
    for (int base = 0; base < args.segments; base += WARP_SIZE) {
        const int rows = base + lane < args.segments ? load_global(&args.segment[base + lane].query_count) : 0;
        const int tiles = (rows + rows_a_tile - 1) / rows_a_tile;
        int end = tiles;
#pragma unroll
        for (int distance = 1; distance < WARP_SIZE; distance *= 2) {
            const int below = __shfl_up_sync(FULL_WARP, end, (unsigned)distance);
            end += lane >= distance ? below : 0;
        }
        const unsigned beyond = __ballot_sync(FULL_WARP, end > number);
        if (beyond) {
            const int first = __ffs((int)beyond) - 1;
            return {base + first, number - __shfl_sync(FULL_WARP, end - tiles, first)};
        }
        number -= __shfl_sync(FULL_WARP, end, WARP_SIZE - 1);
    }
    return {args.segments, 0};
}

/* The block's tile. Every lane of a warp calls it. */
DEVICE attention_tile tile_of_block(const attention_args &args, int rows_a_tile)
{
    const int number = (int)blockIdx.x;
    if (!args.tile)
        return tile_find(args, number, rows_a_tile);
    return {load_global(&args.tile[number].segment), load_global(&args.tile[number].number)};
}

DEVICE attention_segment segment_load(const attention_args &args, int segment)
{
    const attention_segment *from = args.segment + segment;
    return {load_global(&from->query_begin),  load_global(&from->query_count),  load_global(&from->key_begin),
            load_global(&from->key_cached),   load_global(&from->prefix_begin), load_global(&from->prefix_count)};
}

/* What a block of the forward kernels and of those for dq works on: a tile of queries of one head, some a warp. */
struct query_block {
    attention_segment segment;
    int head, column, kv_column; /* head, and its first columns in q and out, in k and v */
    int row, rows;               /* of the tile in q */
    int keys;                    /* that its last query sees */
    int first, count;            /* of the warp: its first query in the tile, and how many of its queries exist */
    int visible;                 /* the warp's first query sees keys hidden .. visible - 1; each one after it is one on */
    int hidden;                  /* below 0: none */
    int start;                   /* first key that a query of the tile sees */
};

/* How scores are capped: scale score becomes cap t with t = tanh(inner score), so that a capped score is outer t. */
struct score_cap {
    float inner, outer; /* 0: not capped */
};

DEVICE score_cap score_cap_make(const attention_args &args)
{
    return args.cap > 0 ? score_cap{(float)(args.scale / args.cap), (float)(args.cap / args.scale)} : score_cap{0.0f, 0.0f};
}

template <int TILES> DEVICE void scores_cap(float (&score)[TILES][4], const score_cap &cap)
{
    if (cap.inner == 0.0f)
        return;
#pragma unroll
    for (int tile = 0; tile < TILES; tile++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            score[tile][e] = cap.outer * tanh_near(cap.inner * score[tile][e]);
}

/* What the gradient of a capped score is multiplied by for that of the score; 1 without a cap. */
DEVICE float score_cap_slope(const score_cap &cap, float capped)
{
    const float t = cap.inner * capped;
    return fmaf(-t, t, 1.0f);
}

/* False: there is no such tile. EACH: queries per warp. The tiles of a segment are numbered from its end, so that those
 * with the most keys start first. Every thread of the block calls it. */
template <int EACH> DEVICE bool query_block_make(const attention_args &args, query_block &block)
{
    constexpr int rows = EACH * ATTENTION_WARPS;
    const attention_tile at = tile_of_block(args, rows);
    if (at.segment == args.segments)
        return false;
    const attention_segment segment = segment_load(args, at.segment);
    const int begin = ((segment.query_count + rows - 1) / rows - 1 - at.number) * rows; /* first query of the tile */
    block.segment = segment;
    block.head = (int)blockIdx.y;
    block.column = block.head * args.head_dim;
    block.kv_column = block.head / (args.heads / args.kv_heads) * args.head_dim;
    block.row = segment.query_begin + begin;
    block.rows = min(rows, segment.query_count - begin);
    block.keys = segment.prefix_count + segment.key_cached + begin + block.rows;
    block.first = (int)threadIdx.x / WARP_SIZE * EACH;
    block.count = min(EACH, block.rows - block.first);
    block.visible = block.keys - block.rows + block.first + 1;
    block.hidden = args.window ? block.visible - args.window : -block.keys - rows;
    block.start = args.window ? max(0, block.keys - block.rows + 1 - args.window) : 0;
    return true;
}

/* Row of k and v that holds a key of the tile; -1 beyond those that its queries see. */
DEVICE int key_row(const query_block &block, int key)
{
    const attention_segment &segment = block.segment;
    if (key >= block.keys)
        return -1;
    return key < segment.prefix_count ? segment.prefix_begin + key : segment.key_begin + key - segment.prefix_count;
}

/* Whether the rows of a matrix can be moved 16 bytes at a time. head_dim is a multiple of 8. */
template <typename T> DEVICE bool rows_are_aligned(const T *matrix, int64_t stride)
{
    return is_vector_aligned(matrix) && stride * (int)sizeof(T) % 16 == 0;
}

/* Rows of shared memory: the 16 bytes at the end keep ldmatrix and vector reads of 8 rows off bank conflicts. */
template <typename T, int DIM> constexpr int row_pitch = DIM + 16 / (int)sizeof(T);

/* Starts to copy ROWS rows of head_dim columns to shared memory; row(i) is the row in global memory that comes i-th,
 * or negative for zeros. Columns head_dim .. DIM - 1 are zeros. All threads of the block call it. */
template <int ROWS, int DIM, typename T, typename F>
DEVICE void rows_load_lane(T *to, const T *from, int64_t stride, int head_dim, bool aligned, F row)
{
    constexpr int width = vector16<T>::count, vectors = DIM / width, rows_at_once = ATTENTION_THREADS / vectors;
    const int column = (int)threadIdx.x % vectors * width, first = (int)threadIdx.x / vectors;
    if (first >= rows_at_once)
        return;
    if (!aligned) {
#pragma unroll 1
        for (int i = first; i < ROWS; i += rows_at_once) {
            const int source_row = row(i);
            const bool valid = source_row >= 0 && column < head_dim;
#pragma unroll 1
            for (int j = column; j < column + width; j++)
                to[i * row_pitch<T, DIM> + j] =
                    valid ? load_global(from + source_row * stride + j) : from_float<T>(0.0f);
        }
        return;
    }
    for (int i = first; i < ROWS; i += rows_at_once) {
        const int source_row = row(i);
        const bool valid = source_row >= 0 && column < head_dim;
        async_copy_16(to + i * row_pitch<T, DIM> + column, from + (valid ? source_row * stride + column : 0), valid);
    }
}

/* Lanes take part in a different number of copies, and what follows (ldmatrix, mma) is for whole warps. */
template <int ROWS, int DIM, typename T, typename F>
DEVICE void rows_load(T *to, const T *from, int64_t stride, int head_dim, bool aligned, F row)
{
    rows_load_lane<ROWS, DIM>(to, from, stride, head_dim, aligned, row);
    __syncwarp();
}

/* ---- readers of a tile of keys (backward) ----------------------------------------------------------------------- */

/* The queries that see a tile of keys, in the order in which they are summed: those of the keys' own segment from the
 * tile's first row on, then every query of the later segments of the group whose prefix holds some of the keys. */
struct reader_list {
    int own, end;               /* segments own .. end - 1 may have readers */
    int own_begin, key_begin;   /* first key: number in its segment, and row */
    int keys;                   /* in the tile */
    int queries;                /* in the list */
};

/* One past the last segment of the group that holds `segment`. Every lane of a warp calls it. */
DEVICE int group_end(const attention_args &args, int segment)
{
    for (int base = 1;; base += WARP_SIZE) {
        const int group = base + (int)threadIdx.x % WARP_SIZE;
        const int end = group <= args.groups ? load_global(args.group_begin + group) : args.segments;
        const unsigned beyond = __ballot_sync(FULL_WARP, end > segment);
        if (beyond)
            return __shfl_sync(FULL_WARP, end, __ffs((int)beyond) - 1);
    }
}

/* Queries of a segment that are in the list. */
DEVICE int readers_of(const attention_args &args, const reader_list &list, int segment)
{
    const attention_segment *from = args.segment + segment;
    const int count = load_global(&from->query_count);
    if (segment == list.own)
        return args.window ? min(count - list.own_begin, list.keys + args.window - 1) : count - list.own_begin;
    const int begin = load_global(&from->prefix_begin), end = begin + load_global(&from->prefix_count);
    if (begin >= list.key_begin + list.keys || end <= list.key_begin)
        return 0;
    /* The last key of the tile is `distance` before the first query; the later ones that still see it: */
    const int distance = end + 1 - min(list.key_begin + list.keys, end);
    return args.window ? max(0, min(count, args.window - distance)) : count;
}

/* Every lane of a warp calls it. */
DEVICE reader_list reader_list_make(const attention_args &args, int own, const attention_segment &segment, int begin,
                                    int keys)
{
    /* Only what has no prefix can be one. */
    reader_list list = {own, segment.prefix_count ? own + 1 : group_end(args, own), begin, segment.query_begin + begin,
                        keys, 0};
    for (int base = own; base < list.end; base += WARP_SIZE) {
        const int s = base + (int)threadIdx.x % WARP_SIZE;
        list.queries += warp_sum(s < list.end ? readers_of(args, list, s) : 0);
    }
    return list;
}

/* A position in the list, which one thread moves forward. */
struct reader {
    int segment, offset;
};

/* What a query of the list sees of the tile: keys first .. first + extent - 1, counted from the tile's first. */
struct reader_row {
    int row, first, extent; /* row -1: the list has ended */
};

DEVICE reader_row reader_resolve(const attention_args &args, const reader_list &list, reader &at)
{
    while (at.segment < list.end) {
        const int count = readers_of(args, list, at.segment);
        if (at.offset < count) {
            const attention_segment *from = args.segment + at.segment;
            const int query_begin = load_global(&from->query_begin);
            if (at.segment == list.own) {
                const int hidden = args.window ? max(0, at.offset + 1 - args.window) : 0;
                return {query_begin + list.own_begin + at.offset, hidden, at.offset + 1 - hidden};
            }
            const int prefix = load_global(&from->prefix_count);
            const int hidden = args.window ? min(prefix, max(0, prefix + at.offset + 1 - args.window)) : 0;
            return {query_begin + at.offset, load_global(&from->prefix_begin) - list.key_begin + hidden, prefix - hidden};
        }
        at.offset -= count;
        at.segment++;
    }
    return {-1, 0, 0};
}

DEVICE bool reader_sees(int first, int extent, int key)
{
    return (unsigned)(key - first) < (unsigned)extent;
}

/* ---- fragments (bf16) ------------------------------------------------------------------------------------------- */

/* Operand a of mma: 16 x 16 of a row-major tile in shared memory. */
DEVICE void fragment_load(uint32_t (&a)[4], const bf16 *tile, int pitch)
{
    const int lane = (int)threadIdx.x % WARP_SIZE;
    ldmatrix_x4(a, tile + lane % 16 * pitch + lane / 16 * 8);
}

/* Operand a of mma out of two neighbouring results d of 16 x 8, rounded to bf16. */
DEVICE void fragment_round(uint32_t (&a)[4], const float (&left)[4], const float (&right)[4])
{
    a[0] = pack_bf16(left[0], left[1]);
    a[1] = pack_bf16(left[2], left[3]);
    a[2] = pack_bf16(right[0], right[1]);
    a[3] = pack_bf16(right[2], right[3]);
}

/* d [16, 8 TILES] += a b^T; b is [8 TILES, 16] in shared memory. */
template <int TILES> DEVICE void multiply_transposed(float (&d)[TILES][4], const uint32_t (&a)[4], const bf16 *b,
                                                     int pitch)
{
    const int lane = (int)threadIdx.x % WARP_SIZE;
    const bf16 *row = b + (lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * 8;
#pragma unroll
    for (int tile = 0; tile < TILES; tile += 2) {
        uint32_t four[4];
        ldmatrix_x4(four, row + tile * 8 * pitch);
        const uint32_t left[2] = {four[0], four[1]}, right[2] = {four[2], four[3]};
        mma_m16n8k16(d[tile], a, left);
        mma_m16n8k16(d[tile + 1], a, right);
    }
}

/* d [16, 8 TILES] += a b; b is [16, 8 TILES] in shared memory. */
template <int TILES> DEVICE void multiply(float (&d)[TILES][4], const uint32_t (&a)[4], const bf16 *b, int pitch)
{
    const int lane = (int)threadIdx.x % WARP_SIZE;
    const bf16 *row = b + lane % 16 * pitch + lane / 16 * 8;
#pragma unroll
    for (int tile = 0; tile < TILES; tile += 2) {
        uint32_t four[4];
        ldmatrix_x4_trans(four, row + tile * 8);
        const uint32_t left[2] = {four[0], four[1]}, right[2] = {four[2], four[3]};
        mma_m16n8k16(d[tile], a, left);
        mma_m16n8k16(d[tile + 1], a, right);
    }
}

/* d [16, 8 TILES] += weights b, weights rounded to bf16; b is [8 WEIGHTS, 8 TILES] in shared memory. */
template <int TILES, int WEIGHTS>
DEVICE void multiply_weights(float (&d)[TILES][4], const float (&weights)[WEIGHTS][4], const bf16 *b, int pitch)
{
#pragma unroll
    for (int k = 0; k < WEIGHTS; k += 2) {
        uint32_t a[4];
        fragment_round(a, weights[k], weights[k + 1]);
        multiply(d, a, b + k * 8 * pitch, pitch);
    }
}

/* The 16 rows of a warp's result d, row i times scale[i / 8], to consecutive rows of global memory, of which `count`
 * exist; through 16 rows of shared memory, so that stores are 16 bytes wide. Those rows are the warp's own, and
 * what its lanes have read there has gone into the sums it stores: none is still reading. */
template <int TILES>
DEVICE void warp_rows_store(bf16 *to, int64_t stride, int columns, int count, const float (&d)[TILES][4],
                            const float (&scale)[2], bf16 *staging, int pitch)
{
    const int lane = (int)threadIdx.x % WARP_SIZE;
    const bool aligned = rows_are_aligned(to, stride);
#pragma unroll
    for (int tile = 0; tile < TILES; tile++)
#pragma unroll
        for (int half = 0; half < 2; half++)
            *reinterpret_cast<uint32_t *>(staging + (lane / 4 + half * 8) * pitch + tile * 8 + lane % 4 * 2) =
                pack_bf16(d[tile][2 * half] * scale[half], d[tile][2 * half + 1] * scale[half]);
    __syncwarp();
    for (int i = lane; i < 16 * TILES; i += WARP_SIZE) {
        const int row = i / TILES, column = i % TILES * 8;
        if (row >= count || column >= columns)
            continue;
        const bf16 *from = staging + row * pitch + column;
        bf16 *place = to + row * stride + column;
        if (aligned) {
            store_vector(place, vector_from_bits<bf16>(*reinterpret_cast<const uint4 *>(from)));
        } else {
            for (int j = 0; j < 8; j++)
                store_global(place + j, from[j]);
        }
    }
}

#endif

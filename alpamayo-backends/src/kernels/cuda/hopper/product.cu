// Products of a few rows (tokens) with a bf16 weight that is streamed once from memory, for Hopper (sm_90a).
//
//   out[t, n] = residual[t, n] + activation(sum_k x[t, k] * weight[n, k] + bias[n])
//   GATED: the weight's rows are [gate ; up], rows / 2 each, and
//   out[t, n] = residual[t, n] + silu(gate[t, n] + bias[n]) * (up[t, n] + bias[rows / 2 + n]),  n < rows / 2
//
// The weight is the wgmma's A (64 of its rows a warpgroup) and x its B (the tokens are the wgmma's columns), so a
// product of few tokens wastes nothing. A block takes ROWS rows of the weight and one of SPLIT parts of the columns.
// One thread copies weight and x tiles into a ring of stages; the warpgroups multiply; the blocks of a cluster hold
// the same rows and different columns, and add their sums through distributed shared memory, always in rank order.
// The first stages' weights are requested before the wait for the kernel in front; x, residual and out come after it.
//
// LAUNCH CONTRACT
//   macros    TOKENS      16, 32 or 64: the most tokens (a smaller one reads and multiplies less)
//             WARPGROUPS  1, 2 or 4: ROWS = 64 * WARPGROUPS weight rows a block
//             SPLIT       1, 2, 4 or 8: blocks along the columns = the cluster's size (fixed in the kernel)
//             STAGES      ring depth, >= 2
//             GATED       0 or 1;   ACTIVATION  0 none, 1 GELU (tanh), 2 SiLU (of an ungated product)
//             OUT_BF16    0: out is f32, 1: out is bf16
//   kernel    product(weight_map, x_map, bias, residual, out, tokens, rows, columns, prefetch)
//   grid      (SPLIT * ceil(rows / ROWS), 1, 1);  block (128 * WARPGROUPS + 32, 1, 1);  cluster is compiled in
//   shared    1024 + STAGES * 128 * (ROWS + TOKENS) + 16 * STAGES bytes, dynamic;
//             the ring, STAGES * 128 * (ROWS + TOKENS), must be at least 4 * TOKENS * (ROWS + 4) (checked)
//   maps      both 2-D, bf16, dims {columns, rows or tokens}, row stride 2 * columns bytes, swizzle 128B, zero fill,
//             L2 promotion 256B; boxes: weight {64, GATED ? ROWS / 2 : ROWS}, x {64, TOKENS}
//   bias      f32 [rows] or null;  residual f32 [tokens, width] or null, may be out itself (f32)
//   out       f32 or bf16 [tokens, width], width = GATED ? rows / 2 : rows
//   shapes    tokens 1..=TOKENS; rows a multiple of 8 (GATED 16); columns a multiple of 8; any sizes otherwise
//   align     weight, x, residual, out and bias 16 bytes
//   prefetch  tiles of 64 columns that each block asks into L2 beyond its ring before it waits for the kernel in
//             front; useful only when that kernel leaves the memory idle, 0 otherwise
//   launch    attribute programmatic stream serialization is optional
//   choices   (TOKENS 64, H100) gated 2048 -> 16512: WARPGROUPS 1, SPLIT 1, STAGES 6; down 8256 -> 2048 and
//             o 2048 -> 2048: 1, 4, 6; q|k|v 2048 -> 4096: 2, 4, 4

#ifndef TOKENS
#define TOKENS 64
#endif
#ifndef WARPGROUPS
#define WARPGROUPS 2
#endif
#ifndef SPLIT
#define SPLIT 1
#endif
#ifndef STAGES
#define STAGES 4
#endif
#ifndef GATED
#define GATED 0
#endif
#ifndef ACTIVATION
#define ACTIVATION 0
#endif
#ifndef OUT_BF16
#define OUT_BF16 0
#endif

typedef unsigned int u32;
typedef unsigned long long u64;

struct alignas(64) TensorMap { unsigned char bytes[128]; };

constexpr int ROWS = 64 * WARPGROUPS;
constexpr int WIDTH = GATED ? ROWS / 2 : ROWS;      // outputs of a block
constexpr int BLOCK = 64;                           // columns of a stage: one 128-byte swizzled row
constexpr int CONSUMERS = 128 * WARPGROUPS;
constexpr int THREADS = CONSUMERS + 32;
constexpr u32 WEIGHT_BYTES = ROWS * 128;
constexpr u32 X_BYTES = TOKENS * 128;
constexpr int SUMS = TOKENS / 2;                    // a thread's sums of a 64 x TOKENS tile
constexpr int PITCH = ROWS + 4;                     // floats from token to token of the partial sums: no bank conflicts
constexpr int PART = TOKENS / SPLIT;                // tokens that a block of the cluster finishes
constexpr int QUADS = PART * WIDTH / 4;
constexpr int ITEMS = (QUADS + CONSUMERS - 1) / CONSUMERS;

static_assert(TOKENS == 16 || TOKENS == 32 || TOKENS == 64, "TOKENS");
static_assert(SPLIT == 1 || SPLIT == 2 || SPLIT == 4 || SPLIT == 8, "SPLIT");
static_assert(STAGES * (WEIGHT_BYTES + X_BYTES) >= 4 * TOKENS * PITCH, "the partial sums reuse the ring");

// ---- barriers, copies ----

__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void barrier_init(u32 barrier, u32 count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

__device__ __forceinline__ void barrier_expect(u32 barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

__device__ __forceinline__ void barrier_arrive(u32 barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void barrier_wait(u32 barrier, u32 parity) {
    asm volatile(
        "{\n\t"
        ".reg .pred done;\n\t"
        "again:\n\t"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n\t"
        "@!done bra again;\n\t"
        "}" ::"r"(barrier), "r"(parity) : "memory");
}

__device__ __forceinline__ void copy_tile(u32 to, const TensorMap& map, int column, int row, u32 barrier, u64 policy) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
        " [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to), "l"(&map), "r"(column), "r"(row), "r"(barrier), "l"(policy)
        : "memory");
}

__device__ __forceinline__ void prefetch_tile(const TensorMap& map, int column, int row, u64 policy) {
    asm volatile("cp.async.bulk.prefetch.tensor.2d.L2.global.tile.L2::cache_hint [%0, {%1, %2}], %3;" ::"l"(&map),
                 "r"(column), "r"(row), "l"(policy) : "memory");
}

__device__ __forceinline__ void prefetch_map(const TensorMap& map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

__device__ __forceinline__ u64 evict_first() {
    u64 policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

__device__ __forceinline__ u64 evict_last() {
    u64 policy;
    asm volatile("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

__device__ __forceinline__ void wait_for_predecessor() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
__device__ __forceinline__ void let_successor_start() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

// ---- the cluster ----

__device__ __forceinline__ void cluster_arrive() {
    __syncwarp();
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

// Four floats of the shared memory of the cluster's block `rank`, at this block's address `address`.
__device__ __forceinline__ float4 load_of_rank(u32 address, u32 rank) {
    float4 v;
    u32 remote;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(address), "r"(rank));
    asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(remote) : "memory");
    return v;
}

// The cluster's sums of four neighbouring weight rows, added in rank order.
__device__ __forceinline__ float4 sum_of_ranks(u32 address) {
    float4 part[SPLIT];
#pragma unroll
    for (int r = 0; r < SPLIT; r++) part[r] = load_of_rank(address, r);
    float4 sum = part[0];
#pragma unroll
    for (int r = 1; r < SPLIT; r++) {
        sum.x += part[r].x;
        sum.y += part[r].y;
        sum.z += part[r].z;
        sum.w += part[r].w;
    }
    return sum;
}

// ---- wgmma ----

// A K-major tile of 128-byte rows, swizzled 128B: 8-row groups lie 1024 bytes apart (the leading offset is unused).
__device__ __forceinline__ u64 tile_descriptor(u32 address) {
    return (u64)((address & 0x3FFFF) >> 4) | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}

__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING> __device__ __forceinline__ void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

#define F8(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])

// sums[64 x TOKENS] += a[64 x 16] * b[TOKENS x 16]^T
__device__ __forceinline__ void wgmma_step(float (&d)[SUMS], u64 a, u64 b) {
#if TOKENS == 64
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, 1, 1, 1, 0, 0;"
        : F8(d, 0), F8(d, 8), F8(d, 16), F8(d, 24) : "l"(a), "l"(b));
#elif TOKENS == 32
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, %16, %17, 1, 1, 1, 0, 0;"
        : F8(d, 0), F8(d, 8) : "l"(a), "l"(b));
#else
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7}, %8, %9, 1, 1, 1, 0, 0;"
        : F8(d, 0) : "l"(a), "l"(b));
#endif
}

// ---- what follows the sums ----

__device__ __forceinline__ float silu(float v) { return v / (1.0f + __expf(-v)); }

__device__ __forceinline__ float activation(float v) {
#if ACTIVATION == 1
    // v * (1 + tanh(u)) / 2 = v / (1 + exp(-2 u))
    float u = 0.7978845608028654f * (v + 0.044715f * v * v * v);
    return v / (1.0f + __expf(-2.0f * u));
#elif ACTIVATION == 2
    return silu(v);
#else
    return v;
#endif
}

__device__ __forceinline__ float4 add(float4 a, float4 b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

__device__ __forceinline__ u32 pack_bf16(float low, float high) {
    u32 packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

__device__ __forceinline__ void store(void* out, u64 at, float4 v) {
#if OUT_BF16
    reinterpret_cast<uint2*>(out)[at / 4] = make_uint2(pack_bf16(v.x, v.y), pack_bf16(v.z, v.w));
#else
    reinterpret_cast<float4*>(out)[at / 4] = v;
#endif
}

// ---- the kernel ----

// A block's part of the product: `count` tiles of 64 columns from column `column`, of ROWS weight rows.
struct Part {
    int column;
    int count;
    int row;
    int rows;
};

__device__ __forceinline__ void copy_weight(u32 to, const TensorMap& map, const Part& part, int i, u32 barrier, u64 policy) {
    int column = part.column + i * BLOCK;
    copy_tile(to, map, column, part.row, barrier, policy);
    if (GATED) copy_tile(to + WEIGHT_BYTES / 2, map, column, part.rows / 2 + part.row, barrier, policy);
}

extern "C" __global__ void __cluster_dims__(SPLIT, 1, 1) __launch_bounds__(THREADS)
product(const __grid_constant__ TensorMap weight_map, const __grid_constant__ TensorMap x_map,
        const float* __restrict__ bias, const float* residual, void* out, int tokens, int rows, int columns, int prefetch) {
    extern __shared__ unsigned char memory[];
    u32 weights = (shared_address(memory) + 1023) & ~1023u;
    u32 xs = weights + STAGES * WEIGHT_BYTES;
    u32 full = xs + STAGES * X_BYTES;
    u32 empty = full + STAGES * 8;

    int rank = blockIdx.x % SPLIT;
    int tile = blockIdx.x / SPLIT;
    int blocks = (columns + BLOCK - 1) / BLOCK;
    int first = blocks * rank / SPLIT;
    Part part = {first * BLOCK, blocks * (rank + 1) / SPLIT - first, tile * WIDTH, rows};
    bool producer = threadIdx.x == CONSUMERS;
    int ahead = min(STAGES, part.count);

    if (producer) {
        prefetch_map(weight_map);
        for (int s = 0; s < STAGES; s++) {
            barrier_init(full + 8 * s, 1);
            barrier_init(empty + 8 * s, WARPGROUPS);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        u64 once = evict_first();
        for (int i = 0; i < ahead; i++) {
            barrier_expect(full + 8 * i, WEIGHT_BYTES + X_BYTES);
            copy_weight(weights + i * WEIGHT_BYTES, weight_map, part, i, full + 8 * i, once);
        }
        for (int i = ahead; i < min(part.count, ahead + prefetch); i++) {
            prefetch_tile(weight_map, part.column + i * BLOCK, part.row, once);
            if (GATED) prefetch_tile(weight_map, part.column + i * BLOCK, rows / 2 + part.row, once);
        }
        prefetch_map(x_map);
    }
    __syncthreads();
    let_successor_start();
    wait_for_predecessor();

    int width = GATED ? rows / 2 : rows;
    float4 start[ITEMS];        // the residual, requested before the products so that it has come when they end

    if (threadIdx.x >= CONSUMERS) {
        if (producer) {
            u64 once = evict_first(), again = evict_last();
            for (int i = 0; i < ahead; i++) copy_tile(xs + i * X_BYTES, x_map, part.column + i * BLOCK, 0, full + 8 * i, again);
            int stage = 0;
            u32 parity = 0;
            for (int i = ahead; i < part.count; i++) {
                barrier_wait(empty + 8 * stage, parity);
                barrier_expect(full + 8 * stage, WEIGHT_BYTES + X_BYTES);
                copy_weight(weights + stage * WEIGHT_BYTES, weight_map, part, i, full + 8 * stage, once);
                copy_tile(xs + stage * X_BYTES, x_map, part.column + i * BLOCK, 0, full + 8 * stage, again);
                if (++stage == STAGES) stage = 0, parity ^= 1;
            }
        }
    } else {
#pragma unroll
        for (int item = 0; item < ITEMS; item++) {
            int quad = item * CONSUMERS + threadIdx.x;
            int token = rank * PART + quad / (WIDTH / 4);
            int n = tile * WIDTH + quad % (WIDTH / 4) * 4;
            start[item] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (residual && quad < QUADS && token < tokens && n < width)
                start[item] = *reinterpret_cast<const float4*>(residual + (u64)token * width + n);
        }

        int warpgroup = threadIdx.x / 128;
        float sums[SUMS];
#pragma unroll
        for (int j = 0; j < SUMS; j++) sums[j] = 0.0f;
        int stage = 0, before = 0;
        u32 parity = 0;
        for (int i = 0; i < part.count; i++) {
            barrier_wait(full + 8 * stage, parity);
            u64 a = tile_descriptor(weights + stage * WEIGHT_BYTES + warpgroup * 8192);
            u64 b = tile_descriptor(xs + stage * X_BYTES);
            wgmma_fence();
#pragma unroll
            for (int k = 0; k < BLOCK / 16; k++) wgmma_step(sums, a + 2 * k, b + 2 * k);   // 32 bytes on in the swizzled row
            wgmma_commit();
            if (i > 0) {
                wgmma_wait<1>();
                if (threadIdx.x % 128 == 0) barrier_arrive(empty + 8 * before);
            }
            before = stage;
            if (++stage == STAGES) stage = 0, parity ^= 1;
        }
        wgmma_wait<0>();
#pragma unroll
        for (int j = 0; j < SUMS; j++) asm volatile("" : "+f"(sums[j])::"memory");

        // Every warpgroup has read its last tile: the ring becomes the partial sums, [token][weight row].
        asm volatile("bar.sync 1, %0;" ::"n"(CONSUMERS) : "memory");
        float* partial = reinterpret_cast<float*>(memory + (weights - shared_address(memory)));
        int lane = threadIdx.x % 32;
        int row = threadIdx.x / 32 * 16 + lane / 4;
#pragma unroll
        for (int j = 0; j < SUMS; j++) {
            int token = j / 4 * 8 + lane % 4 * 2 + j % 2;
            partial[token * PITCH + row + j % 4 / 2 * 8] = sums[j];
        }
    }

    if (SPLIT > 1) {
        cluster_arrive();
        cluster_wait();
    } else {
        __syncthreads();
    }

    float4 values[ITEMS];
    if (threadIdx.x < CONSUMERS) {
#pragma unroll
        for (int item = 0; item < ITEMS; item++) {
            int quad = item * CONSUMERS + threadIdx.x;
            int local = quad % (WIDTH / 4) * 4;
            int n = tile * WIDTH + local;
            if (quad >= QUADS || n >= width) continue;
            u32 at = weights + ((rank * PART + quad / (WIDTH / 4)) * PITCH + local) * 4;
            float4 v = sum_of_ranks(at);
            if (bias) v = add(v, *reinterpret_cast<const float4*>(bias + n));
#if GATED
            float4 up = sum_of_ranks(at + 4 * WIDTH);
            if (bias) up = add(up, *reinterpret_cast<const float4*>(bias + width + n));
            v = make_float4(silu(v.x) * up.x, silu(v.y) * up.y, silu(v.z) * up.z, silu(v.w) * up.w);
#else
            v = make_float4(activation(v.x), activation(v.y), activation(v.z), activation(v.w));
#endif
            values[item] = add(v, start[item]);
        }
    }
    if (SPLIT > 1) cluster_arrive();        // this block has read the others' sums
    if (threadIdx.x < CONSUMERS) {
#pragma unroll
        for (int item = 0; item < ITEMS; item++) {
            int quad = item * CONSUMERS + threadIdx.x;
            int token = rank * PART + quad / (WIDTH / 4);
            int n = tile * WIDTH + quad % (WIDTH / 4) * 4;
            if (quad < QUADS && token < tokens && n < width) store(out, (u64)token * width + n, values[item]);
        }
    }
    if (SPLIT > 1) cluster_wait();          // and they this block's, so it may go
}

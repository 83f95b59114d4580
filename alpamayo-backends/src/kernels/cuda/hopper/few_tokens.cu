// What products of 9 to 64 tokens have in common, in front of product.cu or quantized_product.cu: rings of tiles in shared memory,
// wgmma, the exchange of sums between the blocks of the same rows, and what follows the sums. product.cu tells the macros.

#ifndef TOKENS
#define TOKENS 64
#endif
#ifndef WARPGROUPS
#define WARPGROUPS 1
#endif
#ifndef SPLIT
#define SPLIT 1
#endif
#ifndef STAGES
#define STAGES 12
#endif
#ifndef X_STAGES
#define X_STAGES 6
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

constexpr int ROWS = 64 * WARPGROUPS;               // weight rows of a block
constexpr int BLOCK = 64;                           // columns of a tile: one 128-byte swizzled row
constexpr int CONSUMERS = 128 * WARPGROUPS;
constexpr int WEIGHT_THREAD = CONSUMERS;
constexpr int X_THREAD = CONSUMERS + 32;
constexpr int THREADS = CONSUMERS + 64;
constexpr u32 WEIGHT_BYTES = ROWS * 128;
constexpr u32 X_BYTES = TOKENS * 128;
constexpr int GROUPS = TOKENS / 8;                  // groups of four sums that a thread holds
constexpr int ITEMS = (GROUPS + SPLIT - 1) / SPLIT; // groups that a thread finishes
constexpr u32 EMPTY = 0xFFFFFFFFu;                  // in the workspace: a NaN that no sum is

static_assert(TOKENS == 16 || TOKENS == 32 || TOKENS == 64, "TOKENS");
static_assert(SPLIT >= 1 && SPLIT <= 8, "SPLIT");

// ---- barriers, copies ----

__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void barrier_init(u32 barrier, u32 count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

__device__ __forceinline__ void barriers_are_ready() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
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

__device__ __forceinline__ void copy_x(u32 to, const TensorMap& map, int column, u32 barrier, u64 policy) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
        " [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to), "l"(&map), "r"(column), "r"(0), "r"(barrier), "l"(policy)
        : "memory");
}

__device__ __forceinline__ void copy_weight(u32 to, const TensorMap& map, int column, int tile, u32 barrier, u64 policy) {
#if GATED
    // Eight gate rows, the eight up rows of the same outputs, the next eight gate rows ...
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
        " [%0], [%1, {%2, %3, %3, %4}], [%5], %6;" ::"r"(to), "l"(&map), "r"(column), "r"(0), "r"(tile * (ROWS / 16)),
        "r"(barrier), "l"(policy) : "memory");
#else
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
        " [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to), "l"(&map), "r"(column), "r"(tile * ROWS), "r"(barrier), "l"(policy)
        : "memory");
#endif
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

// A place in a ring, and the parity of the barriers' phase there.
template <int COUNT> struct Place {
    int stage = 0;
    u32 parity = 0;
    __device__ __forceinline__ void next() {
        if (++stage == COUNT) stage = 0, parity ^= 1;
    }
};

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

#define F4(v) "+f"(v.x), "+f"(v.y), "+f"(v.z), "+f"(v.w)

// sums[64 x TOKENS] += a[64 x 16] * b[TOKENS x 16]^T
__device__ __forceinline__ void wgmma_step(float4 (&d)[GROUPS], u64 a, u64 b) {
#if TOKENS == 64
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, 1, 1, 1, 0, 0;"
        : F4(d[0]), F4(d[1]), F4(d[2]), F4(d[3]), F4(d[4]), F4(d[5]), F4(d[6]), F4(d[7]) : "l"(a), "l"(b));
#elif TOKENS == 32
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, %16, %17, 1, 1, 1, 0, 0;"
        : F4(d[0]), F4(d[1]), F4(d[2]), F4(d[3]) : "l"(a), "l"(b));
#else
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7}, %8, %9, 1, 1, 1, 0, 0;"
        : F4(d[0]), F4(d[1]) : "l"(a), "l"(b));
#endif
}

// ---- the sums of the other parts ----

// A slot of the workspace holds four sums of one thread for the block that finishes them, or EMPTY until they come.
// The data is its own flag: no fence, no counter, and the reader leaves the slot empty for the next launch.

__device__ __forceinline__ void send(float4* slot, float4 v) {
    asm volatile("st.relaxed.gpu.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(slot), "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w)
                 : "memory");
}

__device__ __forceinline__ float4 look(const float4* slot) {
    float4 v;
    asm volatile("ld.relaxed.gpu.global.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "l"(slot) : "memory");
    return v;
}

__device__ __forceinline__ bool empty(float v) { return __float_as_uint(v) == EMPTY; }
__device__ __forceinline__ bool incomplete(float4 v) { return empty(v.x) || empty(v.y) || empty(v.z) || empty(v.w); }
__device__ __forceinline__ float never_empty(float v) { return empty(v) ? __uint_as_float(0x7FFFFFFFu) : v; }

__device__ __forceinline__ float4 add(float4 a, float4 b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// Where the part `sender` of group `group` lies among a thread's slots.
__device__ __forceinline__ int slot_of(int group, int sender) { return (group * SPLIT + sender) * CONSUMERS; }

// own[item]: this block's sums of group item * SPLIT + rank, to which it adds the other parts, in the parts' order.
__device__ __forceinline__ void gather(float4 (&own)[ITEMS], float4* slots, int rank) {
    float4 part[ITEMS][SPLIT];
    bool again;
    do {        // all at once: a look at the L2 takes long
        again = false;
#pragma unroll
        for (int item = 0; item < ITEMS; item++)
#pragma unroll
            for (int r = 0; r < SPLIT; r++)
                part[item][r] = r == rank || item * SPLIT + rank >= GROUPS ? own[item] : look(slots + slot_of(item * SPLIT + rank, r));
#pragma unroll
        for (int item = 0; item < ITEMS; item++)
#pragma unroll
            for (int r = 0; r < SPLIT; r++) again |= incomplete(part[item][r]);
    } while (again);
#pragma unroll
    for (int item = 0; item < ITEMS; item++) {
        own[item] = part[item][0];
#pragma unroll
        for (int r = 1; r < SPLIT; r++) own[item] = add(own[item], part[item][r]);
    }
}

// The slots that this block has read are empty again.
__device__ __forceinline__ void leave_empty(float4* slots, int rank) {
    float nothing = __uint_as_float(EMPTY);
#pragma unroll
    for (int item = 0; item < ITEMS; item++)
#pragma unroll
        for (int r = 0; r < SPLIT; r++)
            if (r != rank && item * SPLIT + rank < GROUPS)
                send(slots + slot_of(item * SPLIT + rank, r), make_float4(nothing, nothing, nothing, nothing));
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

__device__ __forceinline__ void store(void* out, u64 at, float v) {
#if OUT_BF16
    unsigned short bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(v));
    reinterpret_cast<unsigned short*>(out)[at] = bits;
#else
    reinterpret_cast<float*>(out)[at] = v;
#endif
}

// A thread's group g of sums: two weight rows, 8 apart, by the tokens t and t + 1 = 8 g + 2 (lane % 4) + {0, 1}.
// Ungated those are the outputs n and n + 8; gated the gate and the up row of output n.
struct Results {
    int tile, rank, width, n;
    bool inside, inside_8;
    float bias_a, bias_b;
    float4 start[ITEMS];    // the residual
};

// Requests what is added to the products, before them, so that it has come when they end.
__device__ __forceinline__ Results results(int tile, int rank, const float* bias, const float* residual, int tokens, int rows) {
    Results r;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int width = r.width = GATED ? rows / 2 : rows;
    int n = r.n = GATED ? tile * (ROWS / 2) + warp * 8 + lane / 4 : tile * ROWS + warp * 16 + lane / 4;
    bool inside = r.inside = n < width, inside_8 = r.inside_8 = !GATED && n + 8 < width;
    r.tile = tile, r.rank = rank;
#pragma unroll
    for (int item = 0; item < ITEMS; item++) {
        int t = (item * SPLIT + rank) * 8 + lane % 4 * 2;
        const float* from = residual + (u64)t * width + n;
        bool first = residual && t < tokens, second = residual && t + 1 < tokens;
        r.start[item].x = first && inside ? from[0] : 0.0f;
        r.start[item].y = second && inside ? from[width] : 0.0f;
        r.start[item].z = first && inside_8 ? from[8] : 0.0f;
        r.start[item].w = second && inside_8 ? from[width + 8] : 0.0f;
    }
    r.bias_a = bias && inside ? bias[n] : 0.0f;
    r.bias_b = bias && inside && GATED ? bias[width + n] : bias && inside_8 ? bias[n + 8] : 0.0f;
    return r;
}

// Adds the other parts to this block's sums, and writes those that it finishes.
__device__ __forceinline__ void finish(const Results& r, const float4 (&sums)[GROUPS], void* out, int tokens, float4* workspace) {
    float4 own[ITEMS];
    float4* slots = workspace + (u64)r.tile * slot_of(GROUPS, 0) + threadIdx.x;
#pragma unroll
    for (int item = 0; item < ITEMS; item++) own[item] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
        float4 v = make_float4(never_empty(sums[g].x), never_empty(sums[g].y), never_empty(sums[g].z), never_empty(sums[g].w));
        if (g % SPLIT == r.rank) own[g / SPLIT] = v;
        else send(slots + slot_of(g, r.rank), v);
    }
    if (SPLIT > 1) gather(own, slots, r.rank);

#pragma unroll
    for (int item = 0; item < ITEMS; item++) {
        int t = (item * SPLIT + r.rank) * 8 + threadIdx.x % 4 * 2; // beyond TOKENS for a group that isn't: stores nothing
        bool first = t < tokens, second = t + 1 < tokens;
        u64 to = (u64)t * r.width + r.n;
        float4 v = own[item];
        v = make_float4(v.x + r.bias_a, v.y + r.bias_a, v.z + r.bias_b, v.w + r.bias_b);
#if GATED
        v = make_float4(silu(v.x) * v.z, silu(v.y) * v.w, 0.0f, 0.0f);
#else
        v = make_float4(activation(v.x), activation(v.y), activation(v.z), activation(v.w));
#endif
        v = add(v, r.start[item]);
        if (first && r.inside) store(out, to, v.x);
        if (second && r.inside) store(out, to + r.width, v.y);
        if (first && r.inside_8) store(out, to + 8, v.z);
        if (second && r.inside_8) store(out, to + r.width + 8, v.w);
    }
    if (SPLIT > 1) leave_empty(slots, r.rank);
}

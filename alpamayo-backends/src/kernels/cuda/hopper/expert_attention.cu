// Attention of the flow-matching expert: every row's few action tokens (queries) over a long key-value cache, in one launch.
// Preparation of queries and keys (per-head RMSNorm, rotary, scaling, rounding), softmax attention and the merge of the splits.
//
// A cluster of SPLITS blocks serves one key-value head of one clip. Each block holds 1/SPLITS of the prompt's keys in shared memory,
// prepares 1/SPLITS of the queries for the whole cluster, attends with all of them to its keys and sends the partial outputs
// to the blocks that merge them, all through distributed shared memory. Sums have a fixed order: results are reproducible.
//
// Launch contract
//   entry      expert_attention; grid (SPLITS, KEY_VALUE_HEADS, clips), cluster (SPLITS, 1, 1), block 384 threads.
//              Dynamic shared memory 115'760 + 16'408 * STAGES bytes (SPLITS 8 or 16; 214'208 for 6 stages).
//              Attributes: max dynamic shared memory; non-portable cluster size where SPLITS > 8; programmatic stream serialization optional.
//   macros     HEADS, KEY_VALUE_HEADS (group of 1 to 8 heads), QKV_BF16 (1: qkv is bf16, 0: f32); SPLITS (8 runs everywhere at once;
//              16 only where cuOccupancyMaxActiveClusters gives at least KEY_VALUE_HEADS), STAGES (6).
//   maps       prompt_keys, prompt_values: bf16, rank 4, dims (128, prompt_length, KEY_VALUE_HEADS, clips), strides of the cache (its
//              capacity isn't seen: the extent is prompt_length, beyond it zeros), box (64, 32, 1, 1), swizzle 128 B, zero fill, no interleave.
//   arguments  qkv [rows * tokens, (HEADS + 2 * KEY_VALUE_HEADS) * 128]; cos, sin f32 [rows * tokens, 128], rows `angle_stride` elements apart, second
//              halves equal to the first; query_weight, key_weight f32 [128]; suffix_keys, suffix_values bf16, same strides (elements, multiples of 4);
//              lengths i32 [rows]; output bf16 [rows * tokens, HEADS * 128]; samples = rows per clip (row = clip * samples + sample).
//              All pointers 16-byte aligned, angle_stride even.
//   shapes     tokens 1..64, prompt_length >= 1, lengths >= 0, samples >= 1, clips >= 1.
//   order      prompt, suffix, lengths and weights are read before griddepcontrol.wait: they must be older than the previous launch
//              (and than any launch still running when that one began). qkv, cos and sin are read, output is written, after it.
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short bf16_bits;
typedef long long i64;

struct alignas(64) TensorMap {
    unsigned char bytes[128];
};

#ifndef SPLITS
#define SPLITS 8
#endif
#ifndef BUFFERS
#define BUFFERS 3
#endif
#ifndef TILE_KEYS
#define TILE_KEYS 80
#endif

constexpr int HEAD_DIM = 128;
constexpr int GROUP = HEADS / KEY_VALUE_HEADS;
constexpr int MAX_TOKENS = 64;
// One pass takes two heads of the group: 128 query rows, 64 for each of the two consumer warpgroups.
constexpr int PASS_ROWS = 2 * MAX_TOKENS;
constexpr int PASSES = (GROUP + 1) / 2;
constexpr int BOX_KEYS = 16;  // keys of one bulk copy

constexpr int CONSUMER_THREADS = 256;
constexpr int PREPARE_WARPS = 3;

// The cluster shares out 128 query rows (to prepare) and 128 units of 8 rows x 16 columns of output (to merge).
__host__ __device__ constexpr int first_of(int block) { return block * 128 / SPLITS; }
__host__ __device__ constexpr int owner_of(int index) { return ((index + 1) * SPLITS - 1) / 128; }
constexpr int MAX_SHARE = (128 + SPLITS - 1) / SPLITS;
constexpr int MAX_GROUPS = SPLITS == 8 ? 2 : SPLITS == 16 ? 1 : (MAX_SHARE + 6) / 8 + 1;  // 8-row groups that a block's units touch
constexpr int MAX_OWN = (MAX_TOKENS + SPLITS - 1) / SPLITS;  // at most so many of a row's own keys in one block
constexpr int PREPARE_ITEMS = (MAX_SHARE + MAX_OWN + PREPARE_WARPS - 1) / PREPARE_WARPS;

constexpr float LOG2_E = 1.4426950408889634f;
constexpr float QUERY_SCALE = 0.08838834764831845f;  // HEAD_DIM^-0.5
constexpr float NO_MAXIMUM = -1e30f;                 // below every score, and finite: differences stay defined

// Shared memory. Tiles are [head_dim half][row][64 elements] under the 128-byte swizzle.
constexpr u32 QUERY_BYTES = PASS_ROWS * HEAD_DIM * 2;
constexpr u32 TILE_HALF = TILE_KEYS * HEAD_DIM;
constexpr u32 TILE_BYTES = 2 * TILE_HALF;
constexpr u32 UNIT_BYTES = 512;
constexpr u32 QUERIES = 0;
constexpr u32 TILES = QUERIES + QUERY_BYTES;                         // BUFFERS x (keys, values)
constexpr u32 PARTIALS = TILES + BUFFERS * 2 * TILE_BYTES;           // [split][unit][lane][4]
constexpr u32 STATISTICS = PARTIALS + SPLITS * MAX_SHARE * UNIT_BYTES;  // [split][group][row](maximum, sum)
constexpr u32 BARRIERS = STATISTICS + SPLITS * MAX_GROUPS * 64;
constexpr u32 QUERIES_FULL = BARRIERS;
constexpr u32 QUERIES_FREE = BARRIERS + 8;
constexpr u32 PARTIALS_FULL = BARRIERS + 16;
constexpr u32 PARTIALS_FREE = BARRIERS + 24;
constexpr u32 KEYS_FULL = BARRIERS + 32;
constexpr u32 VALUES_FULL = KEYS_FULL + 8 * BUFFERS;
constexpr u32 TILE_FREE = VALUES_FULL + 8 * BUFFERS;

#ifdef TRACE
__device__ u64 trace_times[16 * 16 * 32];
__device__ __forceinline__ void mark(int i) {
    u64 now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now)::"memory");
    trace_times[(blockIdx.y * 16 + blockIdx.x) * 32 + i] = now;
    if (blockIdx.y == 3 && blockIdx.x == 5) trace_times[15 * 16 * 32 + i] = clock64();
}
#define MARK(i) mark(i);
#else
#define MARK(i)
#endif

// --- Barriers, clusters, copies ---

__device__ __forceinline__ u32 in_block(u32 address, u32 block) {
    u32 remote;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(address), "r"(block));
    return remote;
}

__device__ __forceinline__ void barrier_init(u32 barrier, u32 arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void arrive(u32 barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void arrive_in(u32 block, u32 barrier) {
    asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(in_block(barrier, block)) : "memory");
}

__device__ __forceinline__ void expect(u32 barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

__device__ __forceinline__ void wait(u32 barrier, u32 parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
        "@done bra.uni finished;\n"
        "bra.uni again;\n"
        "finished:\n"
        "}\n" ::"r"(barrier), "r"(parity) : "memory");
}

__device__ __forceinline__ void send(u32 address, u32 barrier, u32 a, u32 b, u32 c, u32 d) {
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(address),
                 "r"(a), "r"(b), "r"(c), "r"(d), "r"(barrier) : "memory");
}

__device__ __forceinline__ void send(u32 address, u32 barrier, float a, float b) {
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];" ::"r"(address), "f"(a),
                 "f"(b), "r"(barrier) : "memory");
}

__device__ __forceinline__ void load_box(const TensorMap& map, u32 address, u32 barrier, int column, int key, int head, int clip) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(
            address), "l"(&map), "r"(barrier), "r"(column), "r"(key), "r"(head), "r"(clip) : "memory");
}

// --- Products ---

// A tile of 64 columns' halves: 8 rows of 128 bytes repeat every 1024 bytes; `halves_apart` matters to transposed operands only.
__device__ __forceinline__ u64 descriptor(u32 address, u32 halves_apart) {
    return (u64)((address & 0x3ffff) >> 4) | (u64)(halves_apart >> 4) << 16 | (u64)(1024 >> 4) << 32 | 1ull << 62;
}

#define R4(x, i) "+f"(x[i]), "+f"(x[i + 1]), "+f"(x[i + 2]), "+f"(x[i + 3])
#define R16(x, i) R4(x, i), R4(x, i + 4), R4(x, i + 8), R4(x, i + 12)

// Products of 64 rows, one of 16 steps of the inner dimension: A from registers, B from shared memory.
#if TILE_KEYS == 64
__device__ __forceinline__ void multiply_keys(float (&s)[32], const u32 (&a)[4], u64 b, int add) {
    asm volatile(
        "{\n.reg .pred add;\nsetp.ne.b32 add, %37, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13,  "
        "%14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, %36,  "
        "add, 1, 1, 0;\n}\n"
        : R16(s, 0), R16(s, 16)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
}

#elif TILE_KEYS == 80
__device__ __forceinline__ void multiply_keys(float (&s)[40], const u32 (&a)[4], u64 b, int add) {
    asm volatile(
        "{\n.reg .pred add;\nsetp.ne.b32 add, %45, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n80k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13,  "
        "%14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36,  "
        "%37, %38, %39}, {%40, %41, %42, %43}, %44, add, 1, 1, 0;\n}\n"
        : R16(s, 0), R16(s, 16), R4(s, 32), R4(s, 36)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
}

#elif TILE_KEYS == 112
__device__ __forceinline__ void multiply_keys(float (&s)[56], const u32 (&a)[4], u64 b, int add) {
    asm volatile(
        "{\n.reg .pred add;\nsetp.ne.b32 add, %61, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n112k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13,  "
        "%14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36,  "
        "%37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55}, {%56, %57, %58, %59},  "
        "%60, add, 1, 1, 0;\n}\n"
        : R16(s, 0), R16(s, 16), R16(s, 32), R4(s, 48), R4(s, 52)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
}

#endif

__device__ __forceinline__ void multiply_values(float (&o)[64], u32 a0, u32 a1, u32 a2, u32 a3, u64 b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, "
        "%40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "{%64, %65, %66, %67}, %68, 1, 1, 1, 1;\n"
        : R16(o, 0), R16(o, 16), R16(o, 32), R16(o, 48)
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b));
}

__device__ __forceinline__ void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void products_end() {
    asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
}

// Keeps the compiler from moving an accumulator across the beginning or end of products.
template <int N>
__device__ __forceinline__ void pin(float (&x)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(x[i])::"memory");
}

// --- Numbers ---

__device__ __forceinline__ u32 rounded(float low, float high) {
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}

__device__ __forceinline__ float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ int share_of(int total) { return (total + SPLITS - 1) / SPLITS; }

__device__ __forceinline__ int clamp(int x, int low, int high) { return x < low ? low : x > high ? high : x; }

// --- Consumers: attention of a warpgroup's 64 query rows; a thread has parts of two rows, 8 apart ---

struct Rows {
    float output[64];
    float maximum[2];
    float sum[2];
};

// Attends to a tile's keys: the first `prompt` ones and those from `tail_begin` to `tail_end`.
__device__ __forceinline__ void attend(Rows& rows, const u32 (&query)[8][4], u32 tile, int prompt, int tail_begin, int tail_end,
                                       u32 values_full, u32 parity) {
    const u64 key_tile = descriptor(tile, 16), value_tile = descriptor(tile + TILE_BYTES, TILE_HALF);
    float s[TILE_KEYS / 2];
    pin(s);
    products_begin();
#pragma unroll
    for (int k = 0; k < 8; k++)
        multiply_keys(s, query[k], key_tile + (k / 4 * TILE_HALF + k % 4 * 32) / 16, k != 0);
    products_end();
    pin(s);
    if (prompt < TILE_KEYS) {
        const int first = threadIdx.x % 4 * 2;
#pragma unroll
        for (int i = 0; i < TILE_KEYS / 2; i++) {
            const int key = i / 4 * 8 + i % 2 + first;
            if (key >= prompt && (key < tail_begin || key >= tail_end)) s[i] = -__int_as_float(0x7f800000);
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float maximum = rows.maximum[h];
#pragma unroll
        for (int i = 0; i < TILE_KEYS / 2; i += 4) maximum = fmaxf(maximum, fmaxf(s[i + 2 * h], s[i + 2 * h + 1]));
        maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, 1));
        maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, 2));
        const float scale = power_of_two((rows.maximum[h] - maximum) * LOG2_E);
        const float offset = maximum * LOG2_E;
        float sum = 0;
#pragma unroll
        for (int i = 0; i < TILE_KEYS / 2; i += 4) {
            s[i + 2 * h] = power_of_two(fmaf(s[i + 2 * h], LOG2_E, -offset));
            s[i + 2 * h + 1] = power_of_two(fmaf(s[i + 2 * h + 1], LOG2_E, -offset));
            sum += s[i + 2 * h] + s[i + 2 * h + 1];
        }
        rows.maximum[h] = maximum;
        rows.sum[h] = rows.sum[h] * scale + sum;
#pragma unroll
        for (int i = 0; i < 64; i += 4) {
            rows.output[i + 2 * h] *= scale;
            rows.output[i + 2 * h + 1] *= scale;
        }
    }
    u32 p[TILE_KEYS / 4];
#pragma unroll
    for (int i = 0; i < TILE_KEYS / 4; i++) p[i] = rounded(s[2 * i], s[2 * i + 1]);
    wait(values_full, parity);
    pin(rows.output);
    products_begin();
#pragma unroll
    for (int k = 0; k < TILE_KEYS / 16; k++)
        multiply_values(rows.output, p[4 * k], p[4 * k + 1], p[4 * k + 2], p[4 * k + 3],
                        value_tile + k * 16 * 128 / 16);
    products_end();
    pin(rows.output);
}

// The warp's 16 rows of queries as A operands.
__device__ __forceinline__ void load_queries(u32 (&query)[8][4], u32 queries) {
    const int lane = threadIdx.x % 32;
    const int row = threadIdx.x / 32 * 16 + lane % 16;
#pragma unroll
    for (int k = 0; k < 8; k++) {
        const int chunk = k % 4 * 2 + lane / 16;
        const u32 address = queries + k / 4 * PASS_ROWS * 128 + row * 128 + ((chunk ^ row % 8) << 4);
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(query[k][0]), "=r"(query[k][1]), "=r"(query[k][2]), "=r"(query[k][3])
                     : "r"(address) : "memory");
    }
}

// Sends the unnormalised outputs of the warp's rows to the blocks that merge them.
__device__ __forceinline__ void send_partials(Rows& rows, u32 shared, u32 rank) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float sum = rows.sum[h];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        const int group = warp * 2 + h, first = owner_of(group * 8), last = owner_of(group * 8 + 7);
        if (first + lane % 4 <= last) {
            const u32 block = first + lane % 4;
            const u32 at = STATISTICS + (rank * MAX_GROUPS + group - first_of(block) / 8) * 64 + lane / 4 * 8;
            send(in_block(shared + at, block), in_block(shared + PARTIALS_FULL, block), rows.maximum[h], sum);
        }
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int unit = group * 8 + i, block = owner_of(unit);
            const u32 at = PARTIALS + (rank * MAX_SHARE + unit - first_of(block)) * UNIT_BYTES + lane * 16;
            const float* o = &rows.output[8 * i + 2 * h];
            send(in_block(shared + at, block), in_block(shared + PARTIALS_FULL, block), __float_as_uint(o[0]), __float_as_uint(o[1]),
                 __float_as_uint(o[4]), __float_as_uint(o[5]));
        }
    }
}

// Merges this block's units of a pass and writes them.
__device__ __forceinline__ void merge(const unsigned char* shared, u32 rank, bf16_bits* output, i64 first_token, int tokens,
                                      int first_head, int heads) {
    const int lane = threadIdx.x % 32, begin = first_of(rank);
    for (int unit = begin + threadIdx.x / 32; unit < first_of(rank + 1); unit += CONSUMER_THREADS / 32) {
        const unsigned char* statistics = shared + STATISTICS + (unit / 8 - begin / 8) * 64 + lane / 4 * 8;
        float2 statistic[SPLITS];
        float maximum = NO_MAXIMUM;
#pragma unroll
        for (int split = 0; split < SPLITS; split++) {
            statistic[split] = *(const float2*)(statistics + split * MAX_GROUPS * 64);
            maximum = fmaxf(maximum, statistic[split].x);
        }
        const unsigned char* partials = shared + PARTIALS + (unit - begin) * UNIT_BYTES + lane * 16;
        float sum = 0, o[4] = {};
#pragma unroll
        for (int split = 0; split < SPLITS; split++) {
            const float weight = power_of_two((statistic[split].x - maximum) * LOG2_E);
            const float4 partial = *(const float4*)(partials + split * MAX_SHARE * UNIT_BYTES);
            sum += weight * statistic[split].y;
            o[0] += weight * partial.x;
            o[1] += weight * partial.y;
            o[2] += weight * partial.z;
            o[3] += weight * partial.w;
        }
        const int row = unit / 8 * 8 + lane / 4, head = row / MAX_TOKENS, token = row % MAX_TOKENS;
        if (head < heads && token < tokens) {
            const float factor = 1 / sum;
            bf16_bits* to =
                output + ((first_token + token) * HEADS + first_head + head) * HEAD_DIM + unit % 8 * 16 + lane % 4 * 2;
            *(u32*)to = rounded(o[0] * factor, o[1] * factor);
            *(u32*)(to + 8) = rounded(o[2] * factor, o[3] * factor);
        }
    }
}

// --- Preparation: a warp takes a row; a lane has elements 2l, 2l+1 and their partners 64 further ---

#if QKV_BF16
typedef bf16_bits Projected;
#else
typedef float Projected;
#endif

__device__ __forceinline__ void load_row(float (&x)[4], const float* row) {
    const float* at = row + threadIdx.x % 32 * 2;
    asm volatile("ld.global.v2.f32 {%0, %1}, [%2];" : "=f"(x[0]), "=f"(x[1]) : "l"(at));
    asm volatile("ld.global.v2.f32 {%0, %1}, [%2];" : "=f"(x[2]), "=f"(x[3]) : "l"(at + HEAD_DIM / 2));
}

__device__ __forceinline__ void load_row(float (&x)[4], const bf16_bits* row) {
    u32 low, high;
    const bf16_bits* at = row + threadIdx.x % 32 * 2;
    asm volatile("ld.global.u32 %0, [%1];" : "=r"(low) : "l"(at));
    asm volatile("ld.global.u32 %0, [%1];" : "=r"(high) : "l"(at + HEAD_DIM / 2));
    x[0] = __uint_as_float(low << 16), x[1] = __uint_as_float(low & 0xffff0000);
    x[2] = __uint_as_float(high << 16), x[3] = __uint_as_float(high & 0xffff0000);
}

// The tables' second halves equal the first: cosines then sines.
__device__ __forceinline__ void load_angles(float (&angles)[4], const float* cos, const float* sin) {
    const int at = threadIdx.x % 32 * 2;
    asm volatile("ld.global.v2.f32 {%0, %1}, [%2];" : "=f"(angles[0]), "=f"(angles[1]) : "l"(cos + at));
    asm volatile("ld.global.v2.f32 {%0, %1}, [%2];" : "=f"(angles[2]), "=f"(angles[3]) : "l"(sin + at));
}

__device__ __forceinline__ void normalize_rotate(float (&x)[4], const float (&weight)[4], const float (&angles)[4], float epsilon,
                                                 float scale) {
    float squares = x[0] * x[0] + x[1] * x[1] + x[2] * x[2] + x[3] * x[3];
#pragma unroll
    for (int step = 16; step > 0; step /= 2) squares += __shfl_xor_sync(~0u, squares, step);
    const float factor = rsqrtf(squares / HEAD_DIM + epsilon);
#pragma unroll
    for (int i = 0; i < 4; i++) x[i] = x[i] * factor * weight[i];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const float low = x[i], high = x[i + 2];
        x[i] = (low * angles[i] - high * angles[i + 2]) * scale;
        x[i + 2] = (high * angles[i] + low * angles[i + 2]) * scale;
    }
}

// Sends a prepared query row to every block of the cluster.
__device__ __forceinline__ void send_query(const float (&x)[4], int row, u32 shared, u32 rank) {
    const int lane = threadIdx.x % 32;
    const u32 low = rounded(x[0], x[1]), high = rounded(x[2], x[3]);
    u32 chunk[4];  // lanes 0-7 and 16-23: a chunk of the first half each; the others: of the second
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const u32 a = __shfl_sync(~0u, low, lane % 8 * 4 + i), b = __shfl_sync(~0u, high, lane % 8 * 4 + i);
        chunk[i] = lane & 8 ? b : a;
    }
    const u32 address = shared + QUERIES + (lane / 8 & 1) * PASS_ROWS * 128 + row * 128 + ((lane % 8 ^ row % 8) << 4);
#pragma unroll
    for (int i = 0; i < SPLITS; i += 2) {
        const u32 block = (rank + i + lane / 16) % SPLITS;
        if (SPLITS % 2 == 0 || i + lane / 16 < SPLITS) send(in_block(address, block), in_block(shared + QUERIES_FULL, block), chunk[0], chunk[1], chunk[2], chunk[3]);
    }
}

// Stores a prepared row of own keys (or values): its elements 2l, 2l+1 and their partners.
__device__ __forceinline__ void store_row(u32 tile, int row, u32 low, u32 high) {
    const int lane = threadIdx.x % 32;
    const u32 to = tile + row * 128 + ((lane / 4 ^ row % 8) << 4) + lane % 4 * 4;
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(low) : "memory");
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(to + TILE_HALF), "r"(high) : "memory");
}

struct Schedule {
    int tiles;
    bool resident;
    __device__ __forceinline__ int buffer(int pass, int tile) const { return resident ? tile : (pass * tiles + tile) % BUFFERS; }
    __device__ __forceinline__ int use(int pass, int tile) const { return resident ? pass : (pass * tiles + tile) / BUFFERS; }
};

extern "C" __global__ void __cluster_dims__(SPLITS, 1, 1) __launch_bounds__(384, 1)
    expert_attention(const __grid_constant__ TensorMap prompt_keys, const __grid_constant__ TensorMap prompt_values,
                     const Projected* qkv, const float* cos, const float* sin, i64 angle_stride, const float* query_weight,
                     const float* key_weight, float epsilon, const bf16_bits* suffix_keys, const bf16_bits* suffix_values,
                     const int* lengths, i64 suffix_row_stride, i64 suffix_head_stride, i64 suffix_key_stride, bf16_bits* output,
                     int samples, int tokens, int prompt_length) {
    extern __shared__ __align__(1024) unsigned char memory[];
    const u32 shared = (u32)__cvta_generic_to_shared(memory);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const u32 rank = blockIdx.x;  // the cluster spans the grid's first dimension
    const int key_value_head = blockIdx.y, clip = blockIdx.z;
    const int passes = samples * PASSES;

    // This block's keys: its share of the prompt, filled up to whole boxes, then the tail, its share of the row's own and suffix keys.
    // They are cut into tiles, which stay for all passes where they fit.
    const int prompt_begin = min((int)rank * share_of(prompt_length), prompt_length);
    const int prompt_keys_here = min(share_of(prompt_length), prompt_length - prompt_begin);
    const int tail_begin = (prompt_keys_here + BOX_KEYS - 1) / BOX_KEYS * BOX_KEYS;
    const int own_begin = rank * share_of(tokens);
    const int own = clamp(tokens - own_begin, 0, share_of(tokens));

    // The prompt's part of a tile. Its first ones are older than the previous launch: their loads needn't wait for that.
    auto load_prompt = [&](int tile, int buffer) {
        const int boxes = clamp(tail_begin - tile * TILE_KEYS, 0, TILE_KEYS) / BOX_KEYS;
        for (int values = 0; values < 2; values++) {
            const u32 full = shared + (values ? VALUES_FULL : KEYS_FULL) + 8 * buffer;
            expect(full, boxes * BOX_KEYS * HEAD_DIM * 2);
            for (int box = 0; box < boxes; box++)
                for (int half = 0; half < 2; half++)
                    load_box(values ? prompt_values : prompt_keys,
                             shared + TILES + (2 * buffer + values) * TILE_BYTES + half * TILE_HALF + box * BOX_KEYS * 128, full, half * 64,
                             prompt_begin + tile * TILE_KEYS + box * BOX_KEYS, key_value_head, clip);
        }
    };
    const int partial_units = first_of(rank + 1) - first_of(rank);
    const int partial_groups = (first_of(rank + 1) - 1) / 8 - first_of(rank) / 8 + 1;
    const u32 partial_bytes = SPLITS * (partial_units * UNIT_BYTES + partial_groups * 64);
    // How the tiles go through the buffers; all roles count alike.
    auto make_schedule = [&] {
        int longest = 0;
        for (int sample = 0; sample < samples; sample++) longest = max(longest, share_of(lengths[clip * samples + sample]));
        const int tiles = (tail_begin + own + longest + TILE_KEYS - 1) / TILE_KEYS;
        return Schedule{tiles, tiles <= BUFFERS};
    };
    const int prompt_tiles = min((tail_begin + TILE_KEYS - 1) / TILE_KEYS, BUFFERS);

    if (threadIdx.x == 0) { MARK(0) }
    if (warp == 11 && lane == 0) {
        barrier_init(shared + QUERIES_FULL, 1);
        barrier_init(shared + QUERIES_FREE, SPLITS * ((first_of(rank + 1) - 1) / 16 - first_of(rank) / 16 + 1));
        barrier_init(shared + PARTIALS_FULL, 1);
        barrier_init(shared + PARTIALS_FREE, SPLITS);
        for (int i = 0; i < BUFFERS; i++) {
            barrier_init(shared + KEYS_FULL + 8 * i, 1 + PREPARE_WARPS);
            barrier_init(shared + VALUES_FULL + 8 * i, 1 + PREPARE_WARPS);
            barrier_init(shared + TILE_FREE + 8 * i, CONSUMER_THREADS / 32);
        }
        expect(shared + QUERIES_FULL, QUERY_BYTES);
        expect(shared + PARTIALS_FULL, partial_bytes);
        asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncwarp();
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    if (warp == 11 && lane == 0)
        for (int tile = 0; tile < prompt_tiles; tile++) load_prompt(tile, tile);
    __syncwarp();
    if (threadIdx.x == 352) { MARK(1) }
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");

    if (warp < CONSUMER_THREADS / 32) {
        asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
        asm volatile("griddepcontrol.wait;" ::: "memory");
        const Schedule schedule = make_schedule();
        auto merge_pass = [&](int pass) {
            wait(shared + PARTIALS_FULL, pass & 1);
            if (threadIdx.x == 0) { MARK(13) }
            const int first = pass % PASSES * 2;
            merge(memory, rank, output, (i64)(clip * samples + pass / PASSES) * tokens, tokens, key_value_head * GROUP + first,
                  GROUP - first);
        };
        for (int pass = 0; pass < passes; pass++) {
            const bool last = pass + 1 == passes;
            const int length = lengths[clip * samples + pass / PASSES];
            const int tail_end = tail_begin + own + clamp(length - (int)rank * share_of(length), 0, share_of(length));

            u32 query[8][4];
            wait(shared + QUERIES_FULL, pass & 1);
            if (threadIdx.x == 0) { MARK(5) }
            load_queries(query, shared + QUERIES);
            __syncwarp();
            if (!last) {
                if (threadIdx.x == 0) expect(shared + QUERIES_FULL, QUERY_BYTES);
                const int first = owner_of(warp * 16);
                if (first + lane <= owner_of(warp * 16 + 15)) arrive_in(first + lane, shared + QUERIES_FREE);
            }

            Rows rows;
#pragma unroll
            for (int i = 0; i < 64; i++) rows.output[i] = 0;
#pragma unroll
            for (int h = 0; h < 2; h++) rows.maximum[h] = NO_MAXIMUM, rows.sum[h] = 0;
            for (int tile = 0; tile < schedule.tiles; tile++) {
                const int buffer = schedule.buffer(pass, tile), begin = tile * TILE_KEYS;
                const u32 parity = schedule.use(pass, tile) & 1;
                wait(shared + KEYS_FULL + 8 * buffer, parity);
                if (threadIdx.x == 0) { MARK(6 + tile) }
                attend(rows, query, shared + TILES + 2 * buffer * TILE_BYTES, prompt_keys_here - begin, tail_begin - begin,
                       tail_end - begin, shared + VALUES_FULL + 8 * buffer, parity);
                if (lane == 0) arrive(shared + TILE_FREE + 8 * buffer);
            }
            if (threadIdx.x == 0) { MARK(11) }
            if (pass > 0) {
                // The partials' memory is free for this pass when every block has merged the one before.
                merge_pass(pass - 1);
                if (threadIdx.x == 0) expect(shared + PARTIALS_FULL, partial_bytes);
                asm volatile("bar.sync 1, 256;" ::: "memory");
                if (threadIdx.x < SPLITS) arrive_in(threadIdx.x, shared + PARTIALS_FREE);
                wait(shared + PARTIALS_FREE, (pass - 1) & 1);
            }
            send_partials(rows, shared, rank);
            if (threadIdx.x == 0) { MARK(12) }
        }
        // Whatever is sent to this block has arrived by then: it may exit.
        merge_pass(passes - 1);
        if (threadIdx.x == 0) { MARK(14) }
    } else if (warp < 8 + PREPARE_WARPS) {
        const int worker = warp - 8;
        float query_weights[4], key_weights[4];
        load_row(query_weights, query_weight);
        load_row(key_weights, key_weight);
        // What the previous launch wrote is read from here on.
        asm volatile("griddepcontrol.wait;" ::: "memory");
        if (threadIdx.x == 256) { MARK(2) }
        Schedule schedule;
        for (int pass = 0; pass < passes; pass++) {
            const int row = clip * samples + pass / PASSES, first_head = pass % PASSES * 2;
            // All loads of the warp's rows before their first use.
            float x[PREPARE_ITEMS][4], value[PREPARE_ITEMS][4], angles[PREPARE_ITEMS][4];
            const int queries = first_of(rank + 1) - first_of(rank);
#pragma unroll
            for (int i = 0; i < PREPARE_ITEMS; i++) {
                const int item = i * PREPARE_WARPS + worker, key = item - queries, query = first_of(rank) + item;
                const bool is_query = item < queries;
                const int token = is_query ? query % MAX_TOKENS : own_begin + key;
                const int head = first_head + query / MAX_TOKENS;
#pragma unroll
                for (int j = 0; j < 4; j++) x[i][j] = value[i][j] = angles[i][j] = 0;
                if (is_query ? token >= tokens || head >= GROUP : key >= own) continue;
                const i64 entry = (i64)row * tokens + token;
                const Projected* projected = qkv + entry * (HEADS + 2 * KEY_VALUE_HEADS) * HEAD_DIM;
                const int of_head = is_query ? key_value_head * GROUP + head : HEADS + key_value_head;
                load_row(x[i], projected + of_head * HEAD_DIM);
                if (!is_query) load_row(value[i], projected + (of_head + KEY_VALUE_HEADS) * HEAD_DIM);
                load_angles(angles[i], cos + entry * angle_stride, sin + entry * angle_stride);
            }
            if (pass == 0) asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
            if (threadIdx.x == 256 && pass == 0) { MARK(3) }
            if (pass > 0) wait(shared + QUERIES_FREE, (pass - 1) & 1);
            u32 bits[PREPARE_ITEMS][4];
#pragma unroll
            for (int i = 0; i < PREPARE_ITEMS; i++) {
                const int item = i * PREPARE_WARPS + worker;
                const bool is_query = item < queries;
                float weight[4];
#pragma unroll
                for (int j = 0; j < 4; j++) weight[j] = is_query ? query_weights[j] : key_weights[j];
                normalize_rotate(x[i], weight, angles[i], epsilon, is_query ? QUERY_SCALE : 1);
                if (is_query) send_query(x[i], first_of(rank) + item, shared, rank);
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    bits[i][half] = rounded(x[i][2 * half], x[i][2 * half + 1]);
                    bits[i][half + 2] = rounded(value[i][2 * half], value[i][2 * half + 1]);
                }
            }
            if (threadIdx.x == 256) { MARK(4) }
            if (pass == 0) schedule = make_schedule();
            const int length = lengths[row];
            const int suffix_begin = rank * share_of(length);
            const int suffix = clamp(length - suffix_begin, 0, share_of(length));
            for (int tile = 0; tile < schedule.tiles; tile++) {
                const int buffer = schedule.buffer(pass, tile), use = schedule.use(pass, tile);
                const u32 keys = shared + TILES + 2 * buffer * TILE_BYTES;
                if (use > 0) wait(shared + TILE_FREE + 8 * buffer, (use - 1) & 1);
                // Suffix keys, and zeros after the last.
                for (int at = max(tail_begin - tile * TILE_KEYS, 0) + worker; at < TILE_KEYS; at += PREPARE_WARPS) {
                    const int key = tile * TILE_KEYS + at - tail_begin - own;
                    if (key < 0) continue;
                    uint2 k = {0, 0}, v = {0, 0};
                    if (key < suffix) {
                        const i64 from = row * suffix_row_stride + key_value_head * suffix_head_stride +
                                         (suffix_begin + key) * suffix_key_stride + lane * 4;
                        k = *(const uint2*)(suffix_keys + from);
                        v = *(const uint2*)(suffix_values + from);
                    }
                    const u32 to = keys + lane / 16 * TILE_HALF + at * 128 + ((lane % 16 / 2 ^ at % 8) << 4) + lane % 2 * 8;
                    asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(to), "r"(k.x), "r"(k.y) : "memory");
                    asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(to + TILE_BYTES), "r"(v.x), "r"(v.y) : "memory");
                }
                if (tile == tail_begin / TILE_KEYS) {
#pragma unroll
                    for (int i = 0; i < PREPARE_ITEMS; i++) {
                        const int key = i * PREPARE_WARPS + worker - queries;
                        if (key < 0 || key >= own) continue;
                        const int at = tail_begin % TILE_KEYS + key;
                        store_row(keys, at, bits[i][0], bits[i][1]);
                        store_row(keys + TILE_BYTES, at, bits[i][2], bits[i][3]);
                    }
                }
                asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
                __syncwarp();
                if (lane == 0) {
                    arrive(shared + KEYS_FULL + 8 * buffer);
                    arrive(shared + VALUES_FULL + 8 * buffer);
                }
            }
            if (threadIdx.x == 256) { MARK(15) }
        }
    } else {
        asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
        const Schedule schedule = make_schedule();
        if (lane == 0)
            for (int pass = 0; pass < passes; pass++)
                for (int tile = pass == 0 ? prompt_tiles : 0; tile < schedule.tiles; tile++) {
                    const int buffer = schedule.buffer(pass, tile), use = schedule.use(pass, tile);
                    if (use > 0) wait(shared + TILE_FREE + 8 * buffer, (use - 1) & 1);
                    if (schedule.resident && pass > 0) {
                        arrive(shared + KEYS_FULL + 8 * buffer);
                        arrive(shared + VALUES_FULL + 8 * buffer);
                    } else {
                        load_prompt(tile, buffer);
                    }
                }
    }
}

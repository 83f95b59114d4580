// Flash attention for Hopper (sm_90a): softmax(query · keyᵀ) · value in one pass, with TMA copies, wgmma products and
// specialised warpgroups. One warpgroup feeds tiles of keys and values through a ring in shared memory; every other
// one owns 64 queries, and overlaps the softmax of one tile with the product P·V of the tile before it.
//
// Macros    HEAD_DIM  64, 72, 80, 96 or 128     CAUSAL     1: query t sees the keys 0 ..= t + keys - queries; 0: all
//           KEYS      keys of a tile: 64, 80, 96, 128, 144 or 176
//           CHUNK     columns of a swizzled chunk of a row: 64, 32 or 16 (128-, 64-, 32-byte swizzle)
//           CONSUMERS warpgroups of 64 queries: 2 or 3               STAGES  tiles in the ring: 2 or more
//           ORDERED   1: warpgroups take turns at issuing products
// Arguments query, key, value, output maps, queries, keys (of one entry; causal: keys >= queries),
//           heads, key_value_heads (divides heads), entries
// Maps      bf16, 4 dimensions (HEAD_DIM, rows, heads, entries), where rows are the queries or keys *that exist* (what lies
//           beyond must read as zero and stay unwritten), strides as they are in memory (multiples of 16 bytes, base too),
//           element strides 1, interleave none, fill zeros, swizzle of 2 * CHUNK bytes, and the boxes
//             query (CHUNK, 64, 1, 1)   key, value (CHUNK, KEYS, 1, 1)   output (CHUNK, 16, 1, 1)
// Launch    block (CONSUMERS + 1) * 128; grid min(multiprocessors, entries * heads * ceil(queries / (64 * CONSUMERS)));
//           dynamic shared memory 2048 + 2 * CHUNKS * CHUNK * (2 * 64 * CONSUMERS + 2 * STAGES * KEYS) bytes
//           with CHUNKS = ceil(HEAD_DIM / CHUNK); programmatic stream serialisation allowed.
//           Best so far: prefill HEAD_DIM 128, CAUSAL 1, KEYS 128, CHUNK 64, CONSUMERS 2, STAGES 2;
//           vision HEAD_DIM 72, CAUSAL 0, KEYS 80, CHUNK 64, CONSUMERS 3, STAGES 3.
// Values    The query comes scaled; scores, their maxima and sums are f32, weights are rounded to bf16 before P·V.

#ifndef ORDERED
#define ORDERED 1
#endif

typedef unsigned int u32;
typedef unsigned long long u64;

struct alignas(64) TensorMap {
    unsigned char bytes[128];
};

constexpr int CHUNKS = (HEAD_DIM + CHUNK - 1) / CHUNK;
constexpr int QUERIES = 64 * CONSUMERS;
constexpr int THREADS = 128 * (CONSUMERS + 1);
constexpr u32 ROW = 2 * CHUNK;                       // bytes of a chunk's row
constexpr u32 QUERY_CHUNK = 64 * ROW;                // bytes of a chunk of a warpgroup's queries
constexpr u32 KEY_CHUNK = KEYS * ROW;                // bytes of a chunk of a tile
constexpr u32 TILE = CHUNKS * KEY_CHUNK;
constexpr u32 BLOCK = CONSUMERS * CHUNKS * QUERY_CHUNK;
constexpr float LOG2E = 1.4426950408889634f;
constexpr float LOWEST = -1e30f;                     // a maximum before any key: finite, so differences are never NaN

// ---- barriers ----------------------------------------------------------------------------------------------------------

__device__ __forceinline__ void barrier_init(u32 barrier, u32 arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void barrier_expect(u32 barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

__device__ __forceinline__ void barrier_arrive(u32 barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void barrier_wait(u32 barrier, u32 parity) {
    asm volatile(
        "{\n.reg .pred done;\n"
        "again:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@done bra.uni finished;\nbra.uni again;\n"
        "finished:\n}" ::"r"(barrier), "r"(parity) : "memory");
}

// A position in the ring: stages in turn, the parity flips with each round.
struct Ring {
    u32 stage = 0, parity = 0;
    __device__ __forceinline__ void next() {
        if (++stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
};

// Shared memory: queries, outputs, keys, values, barriers.
struct Memory {
    u32 query, output, key, value, barriers;
    __device__ __forceinline__ explicit Memory(u32 start) {
        query = (start + 1023) & ~1023u;
        output = query + BLOCK;
        key = output + BLOCK;
        value = key + STAGES * TILE;
        barriers = value + STAGES * TILE;
    }
    __device__ __forceinline__ u32 query_full() const { return barriers; }
    __device__ __forceinline__ u32 query_free() const { return barriers + 8; }
    __device__ __forceinline__ u32 key_full(u32 stage) const { return barriers + 16 + 32 * stage; }
    __device__ __forceinline__ u32 key_free(u32 stage) const { return barriers + 24 + 32 * stage; }
    __device__ __forceinline__ u32 value_full(u32 stage) const { return barriers + 32 + 32 * stage; }
    __device__ __forceinline__ u32 value_free(u32 stage) const { return barriers + 40 + 32 * stage; }
};

// Warpgroups take turns: each waits for its own named barrier (1 + index), then opens the next one's.
__device__ __forceinline__ void turn_wait(int warpgroup) {
    if (ORDERED) asm volatile("barrier.sync %0, 256;" ::"r"(1 + warpgroup) : "memory");
}

__device__ __forceinline__ void turn_pass(int warpgroup) {
    int next = warpgroup + 1 == CONSUMERS ? 0 : warpgroup + 1;
    if (ORDERED) asm volatile("barrier.arrive %0, 256;" ::"r"(1 + next) : "memory");
}

// ---- copies ------------------------------------------------------------------------------------------------------------

__device__ __forceinline__ void copy_in(u32 to, const TensorMap &map, u32 barrier, int column, int row, int head, int entry) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to),
        "l"(&map), "r"(barrier), "r"(column), "r"(row), "r"(head), "r"(entry)
        : "memory");
}

__device__ __forceinline__ void copy_out(u32 from, const TensorMap &map, int column, int row, int head, int entry) {
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%1, {%2, %3, %4, %5}], [%0];" ::"r"(from), "l"(&map),
                 "r"(column), "r"(row), "r"(head), "r"(entry)
                 : "memory");
}

// ---- products ----------------------------------------------------------------------------------------------------------

// Shared-memory matrix descriptor of a swizzled chunk; `leading` is the distance between chunks, which only the
// row-major (transposed) value needs; groups of 8 rows are 8 * ROW bytes apart.
__device__ __forceinline__ u64 describe(u32 address, u32 leading) {
    constexpr u64 swizzle = CHUNK == 64 ? 1 : CHUNK == 32 ? 2 : 3;
    return (u64)((address & 0x3ffff) >> 4) | (u64)(leading >> 4) << 16 | (u64)(8 * ROW >> 4) << 32 | swizzle << 62;
}

__device__ __forceinline__ void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

template <int PENDING> __device__ __forceinline__ void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// Keeps reads of accumulators behind a wait, and writes before a product.
template <int COUNT> __device__ __forceinline__ void pin(float (&d)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

#define TEN(a) "%" #a "0, %" #a "1, %" #a "2, %" #a "3, %" #a "4, %" #a "5, %" #a "6, %" #a "7, %" #a "8, %" #a "9, "
#define D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define D16(i) D4(i), D4(i + 4), D4(i + 8), D4(i + 12)
#define PLACES_32 TEN() TEN(1) TEN(2) "%30, %31"
#define PLACES_36 TEN() TEN(1) TEN(2) "%30, %31, %32, %33, %34, %35"
#define PLACES_40 TEN() TEN(1) TEN(2) "%30, %31, %32, %33, %34, %35, %36, %37, %38, %39"
#define PLACES_48 TEN() TEN(1) TEN(2) TEN(3) "%40, %41, %42, %43, %44, %45, %46, %47"
#define PLACES_64 TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) "%60, %61, %62, %63"
#define PLACES_72 TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) TEN(6) "%70, %71"
#define PLACES_88 TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) TEN(6) TEN(7) "%80, %81, %82, %83, %84, %85, %86, %87"

// d[64, N] (+)= a · b for k = 16: `add` has both factors in shared memory, rows of `a` against rows of `b`;
// `add_registers` has `a` in registers and `b` row-major in shared memory.
template <int N> struct Product;
#define PRODUCT(N, PLACES, I0, I1, I2, I3, I4, I5, ...)                                                                              \
    template <> struct Product<N> {                                                                                                  \
        static __device__ __forceinline__ void add(float (&d)[N / 2], u64 a, u64 b, int keep) {                                      \
            asm volatile("{.reg .pred keep; setp.ne.b32 keep, " I2 ", 0; wgmma.mma_async.sync.aligned.m64n" #N                       \
                         "k16.f32.bf16.bf16 {" PLACES "}, " I0 ", " I1 ", keep, 1, 1, 0, 0;}"                                        \
                         : __VA_ARGS__ : "l"(a), "l"(b), "r"(keep));                                                                 \
        }                                                                                                                            \
        static __device__ __forceinline__ void add_registers(float (&d)[N / 2], const u32 *a, u64 b, int keep) {                     \
            asm volatile("{.reg .pred keep; setp.ne.b32 keep, " I5 ", 0; wgmma.mma_async.sync.aligned.m64n" #N                       \
                         "k16.f32.bf16.bf16 {" PLACES "}, {" I0 ", " I1 ", " I2 ", " I3 "}, " I4 ", keep, 1, 1, 1;}"                 \
                         : __VA_ARGS__ : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep));                             \
        }                                                                                                                            \
    };
PRODUCT(64, PLACES_32, "%32", "%33", "%34", "%35", "%36", "%37", D16(0), D16(16))
PRODUCT(72, PLACES_36, "%36", "%37", "%38", "%39", "%40", "%41", D16(0), D16(16), D4(32))
PRODUCT(80, PLACES_40, "%40", "%41", "%42", "%43", "%44", "%45", D16(0), D16(16), D4(32), D4(36))
PRODUCT(96, PLACES_48, "%48", "%49", "%50", "%51", "%52", "%53", D16(0), D16(16), D16(32))
PRODUCT(128, PLACES_64, "%64", "%65", "%66", "%67", "%68", "%69", D16(0), D16(16), D16(32), D16(48))
PRODUCT(144, PLACES_72, "%72", "%73", "%74", "%75", "%76", "%77", D16(0), D16(16), D16(32), D16(48), D4(64), D4(68))
PRODUCT(176, PLACES_88, "%88", "%89", "%90", "%91", "%92", "%93", D16(0), D16(16), D16(32), D16(48), D16(64), D4(80), D4(84))

// scores = query · keyᵀ. HEAD_DIM 72 reads 8 columns of zeros.
__device__ __forceinline__ void score(float (&scores)[KEYS / 2], u32 query, u32 key) {
#pragma unroll
    for (int k = 0; k < (HEAD_DIM + 15) / 16; ++k) {
        int chunk = k / (CHUNK / 16), inside = k % (CHUNK / 16) * 32;
        Product<KEYS>::add(scores, describe(query + chunk * QUERY_CHUNK + inside, 16), describe(key + chunk * KEY_CHUNK + inside, 16), k > 0);
    }
}

// sums += weights · value.
__device__ __forceinline__ void gather(float (&sums)[HEAD_DIM / 2], const u32 (&weights)[KEYS / 4], u32 value, int keep) {
#pragma unroll
    for (int k = 0; k < KEYS / 16; ++k)
        Product<HEAD_DIM>::add_registers(sums, &weights[4 * k], describe(value + k * 16 * ROW, KEY_CHUNK), k > 0 || keep);
}

// ---- softmax -----------------------------------------------------------------------------------------------------------

__device__ __forceinline__ float power2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ u32 pack(float low, float high) {
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}

__device__ __forceinline__ float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}

__device__ __forceinline__ float quad_sum(float x) {
    x += __shfl_xor_sync(~0u, x, 1);
    return x + __shfl_xor_sync(~0u, x, 2);
}

// What a thread keeps of its two rows (lane / 4, and 8 further down); `sum` covers its own columns only.
struct Rows {
    float max[2], sum[2], factor[2];
};

// Removes the keys after last[row], counted from the thread's first column of the tile.
__device__ __forceinline__ void mask(float (&scores)[KEYS / 2], const int (&last)[2]) {
    const float none = __int_as_float(0xff800000);
#pragma unroll
    for (int i = 0; i < KEYS / 8; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e)
            if (8 * i + (e & 1) > last[e >> 1]) scores[4 * i + e] = none;
}

// Scores become weights, relative to the rows' new maxima; `factor` is what earlier weights are worth now.
__device__ __forceinline__ void softmax(float (&scores)[KEYS / 2], Rows &rows) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        float top = fmaxf(scores[2 * r], scores[2 * r + 1]);
#pragma unroll
        for (int i = 1; i < KEYS / 8; ++i) top = fmaxf(top, fmaxf(scores[4 * i + 2 * r], scores[4 * i + 2 * r + 1]));
        top = fmaxf(rows.max[r], quad_max(top));
        rows.factor[r] = power2((rows.max[r] - top) * LOG2E);
        rows.max[r] = top;
        float shift = top * LOG2E, sums[2] = {};
#pragma unroll
        for (int i = 0; i < KEYS / 8; ++i)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                float weight = power2(fmaf(scores[4 * i + 2 * r + e], LOG2E, -shift));
                scores[4 * i + 2 * r + e] = weight;
                sums[e] += weight;
            }
        rows.sum[r] = fmaf(rows.sum[r], rows.factor[r], sums[0] + sums[1]);
    }
}

template <int COUNT> __device__ __forceinline__ void rescale(float (&sums)[COUNT], const float (&factor)[2]) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) sums[i] *= factor[i >> 1 & 1];
}

// The accumulator layout of the scores is the layout of a left factor once neighbours are packed.
__device__ __forceinline__ void pack_weights(u32 (&weights)[KEYS / 4], const float (&scores)[KEYS / 2]) {
#pragma unroll
    for (int i = 0; i < KEYS / 4; ++i) weights[i] = pack(scores[2 * i], scores[2 * i + 1]);
}

// ---- work --------------------------------------------------------------------------------------------------------------

// A block's share: every gridDim-th item, there and back, which evens out items that get shorter and shorter.
struct Item {
    int entry, head, first, tiles;
    __device__ __forceinline__ Item(int item, int queries, int keys, int heads, int entries) {
        int blocks = (queries + QUERIES - 1) / QUERIES, lanes = heads * entries, lane;
        if (CAUSAL) { // longest first
            first = (blocks - 1 - item / lanes) * QUERIES;
            lane = item % lanes;
        } else { // blocks with the same keys together
            first = item % blocks * QUERIES;
            lane = item / blocks;
        }
        head = lane % heads;
        entry = lane / heads;
        int seen = CAUSAL ? min(first + QUERIES, queries) + keys - queries : keys;
        tiles = (seen + KEYS - 1) / KEYS;
    }
};

__device__ __forceinline__ int item_of_round(int round) {
    return round * gridDim.x + (round & 1 ? gridDim.x - 1 - blockIdx.x : blockIdx.x);
}

__device__ __forceinline__ void copy_tile(u32 to, const TensorMap &map, u32 barrier, int tile, int head, int entry) {
    barrier_expect(barrier, TILE);
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c) copy_in(to + c * KEY_CHUNK, map, barrier, c * CHUNK, tile * KEYS, head, entry);
}

// Tiles run from the last one, which needs a mask, to the first. A tile's values follow the next tile's keys, as they are used.
__device__ void produce(const Memory &memory, const TensorMap &query, const TensorMap &key, const TensorMap &value, int queries, int keys,
                        int heads, int key_value_heads, int entries, int items) {
    Ring key_ring, value_ring;
    u32 query_parity = 0;
    for (int round = 0, i; (i = item_of_round(round)) < items; ++round) {
        Item item(i, queries, keys, heads, entries);
        int head = item.head / (heads / key_value_heads);
        for (int tile = item.tiles; tile >= 0; --tile) {
            if (tile > 0) {
                barrier_wait(memory.key_free(key_ring.stage), key_ring.parity ^ 1);
                copy_tile(memory.key + key_ring.stage * TILE, key, memory.key_full(key_ring.stage), tile - 1, head, item.entry);
                key_ring.next();
            }
            if (tile == item.tiles) {
                barrier_wait(memory.query_free(), query_parity ^ 1);
                query_parity ^= 1;
                barrier_expect(memory.query_full(), BLOCK);
#pragma unroll
                for (int w = 0; w < CONSUMERS; ++w)
#pragma unroll
                    for (int c = 0; c < CHUNKS; ++c)
                        copy_in(memory.query + (w * CHUNKS + c) * QUERY_CHUNK, query, memory.query_full(), c * CHUNK, item.first + 64 * w,
                                item.head, item.entry);
            } else {
                barrier_wait(memory.value_free(value_ring.stage), value_ring.parity ^ 1);
                copy_tile(memory.value + value_ring.stage * TILE, value, memory.value_full(value_ring.stage), tile, head, item.entry);
                value_ring.next();
            }
        }
    }
}

// Writes a warp's 16 rows through shared memory; the map drops rows and columns that don't exist.
__device__ __forceinline__ void write(const TensorMap &output, u32 shared, const float (&sums)[HEAD_DIM / 2], int row, const Item &item) {
    int lane = threadIdx.x % 32;
    if (lane == 0) asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
    __syncwarp();
    int line = lane % 16, swizzle = CHUNK == 64 ? line & 7 : CHUNK == 32 ? line >> 1 & 3 : line >> 2 & 1;
#pragma unroll
    for (int j = 0; j < HEAD_DIM / 8; j += 2) {
        u32 a = pack(sums[4 * j], sums[4 * j + 1]), b = pack(sums[4 * j + 2], sums[4 * j + 3]);
        bool pair = j + 1 < HEAD_DIM / 8;
        int group = pair ? j + lane / 16 : j;
        u32 to = shared + group / (CHUNK / 8) * 16 * ROW + line * ROW + (group % (CHUNK / 8) ^ swizzle) * 16;
        if (pair) {
            u32 c = pack(sums[4 * j + 4], sums[4 * j + 5]), d = pack(sums[4 * j + 6], sums[4 * j + 7]);
            asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
        } else {
            asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1, %2};" ::"r"(to), "r"(a), "r"(b) : "memory");
        }
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncwarp();
    if (lane == 0) {
#pragma unroll
        for (int c = 0; c < CHUNKS; ++c) copy_out(shared + c * 16 * ROW, output, c * CHUNK, row, item.head, item.entry);
        asm volatile("cp.async.bulk.commit_group;" ::: "memory");
    }
}

__device__ void consume(const Memory &memory, const TensorMap &output, int queries, int keys, int heads, int entries, int items) {
    const int warpgroup = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    const u32 query = memory.query + warpgroup * CHUNKS * QUERY_CHUNK;
    const u32 staging = memory.output + (warpgroup * 4 + warp) * CHUNKS * 16 * ROW;
    Ring key_ring, value_ring;
    u32 query_parity = 0;
    float sums[HEAD_DIM / 2], scores[KEYS / 2];
    u32 weights[KEYS / 4];
    if (warpgroup == CONSUMERS - 1) turn_pass(warpgroup);

    for (int round = 0, i; (i = item_of_round(round)) < items; ++round) {
        Item item(i, queries, keys, heads, entries);
        const int row = item.first + warpgroup * 64 + warp * 16;
        Rows rows = {{LOWEST, LOWEST}, {0, 0}, {0, 0}};
        // Last key of the thread's rows, and of the warp's first row: tiles beyond it need the mask.
        int last[2], warp_last = CAUSAL ? min(row + keys - queries, keys - 1) : keys - 1;
#pragma unroll
        for (int r = 0; r < 2; ++r) last[r] = CAUSAL ? min(row + lane / 4 + 8 * r + keys - queries, keys - 1) : keys - 1;

        auto weigh = [&](int tile) {
            if (tile * KEYS + KEYS - 1 > warp_last) {
                int start = tile * KEYS + lane % 4 * 2, inside[2] = {last[0] - start, last[1] - start};
                mask(scores, inside);
            }
            softmax(scores, rows);
        };
        auto free_key = [&]() {
            if (lane == 0) barrier_arrive(memory.key_free(key_ring.stage));
            key_ring.next();
        };
        auto free_value = [&]() {
            if (lane == 0) barrier_arrive(memory.value_free(value_ring.stage));
            value_ring.next();
        };

        barrier_wait(memory.query_full(), query_parity);
        query_parity ^= 1;
        barrier_wait(memory.key_full(key_ring.stage), key_ring.parity);
        turn_wait(warpgroup);
        products_begin();
        score(scores, query, memory.key + key_ring.stage * TILE);
        products_commit();
        turn_pass(warpgroup);
        products_wait<0>();
        pin(scores);
        free_key();
        weigh(item.tiles - 1);
        pack_weights(weights, scores);

        for (int tile = item.tiles - 2; tile >= 0; --tile) {
            barrier_wait(memory.key_full(key_ring.stage), key_ring.parity);
            turn_wait(warpgroup);
            products_begin();
            score(scores, query, memory.key + key_ring.stage * TILE);
            products_commit();
            barrier_wait(memory.value_full(value_ring.stage), value_ring.parity);
            products_begin();
            gather(sums, weights, memory.value + value_ring.stage * TILE, tile < item.tiles - 2);
            products_commit();
            turn_pass(warpgroup);
            products_wait<1>();
            pin(scores);
            free_key();
            weigh(tile);
            products_wait<0>();
            pin(sums);
            free_value();
            rescale(sums, rows.factor);
            pack_weights(weights, scores);
        }
        if (lane == 0) barrier_arrive(memory.query_free());

        barrier_wait(memory.value_full(value_ring.stage), value_ring.parity);
        products_begin();
        gather(sums, weights, memory.value + value_ring.stage * TILE, item.tiles > 1);
        products_commit();
        float scale[2] = {1 / quad_sum(rows.sum[0]), 1 / quad_sum(rows.sum[1])};
        products_wait<0>();
        pin(sums);
        free_value();
        rescale(sums, scale);
        write(output, staging, sums, row, item);
    }
    if (lane == 0) asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    attention(const __grid_constant__ TensorMap query, const __grid_constant__ TensorMap key, const __grid_constant__ TensorMap value,
              const __grid_constant__ TensorMap output, int queries, int keys, int heads, int key_value_heads, int entries) {
    extern __shared__ unsigned char shared[];
    const Memory memory((u32)__cvta_generic_to_shared(shared));
    const int items = entries * heads * ((queries + QUERIES - 1) / QUERIES);
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    if (threadIdx.x == 0) {
        barrier_init(memory.query_full(), 1);
        barrier_init(memory.query_free(), 4 * CONSUMERS);
        for (u32 s = 0; s < STAGES; ++s) {
            barrier_init(memory.key_full(s), 1);
            barrier_init(memory.key_free(s), 4 * CONSUMERS);
            barrier_init(memory.value_full(s), 1);
            barrier_init(memory.value_free(s), 4 * CONSUMERS);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncthreads();
    asm volatile("griddepcontrol.wait;" ::: "memory");
    if (threadIdx.x < 128) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(CONSUMERS == 2 ? 24 : 32));
        if (threadIdx.x == 0) produce(memory, query, key, value, queries, keys, heads, key_value_heads, entries, items);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(CONSUMERS == 2 ? 240 : 160));
        consume(memory, output, queries, keys, heads, entries, items);
    }
}

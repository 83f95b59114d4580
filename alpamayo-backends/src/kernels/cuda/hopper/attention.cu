// Flash attention for Hopper (sm_90a): softmax(query · keyᵀ) · value in one pass, with TMA copies, wgmma products and
// specialised warpgroups. One warpgroup feeds tiles of keys and values through a ring in shared memory. Every other one owns 64
// rows of queries, and runs the softmax of one tile while the product P·V of the tile before it is under way; blocks stay
// resident and walk through their items without draining that pipeline in between.
//
// Macros    HEAD_DIM  64, 72, 80, 96 or 128     CAUSAL  1: query t sees the keys 0 ..= t + keys - queries; 0: all
//           KEYS      keys of a tile: 64, 80, 96 or 128
//           CONSUMERS warpgroups with queries: 2 or 3             STAGES  tiles in the ring: 2 or more
//           PACK      heads that share a warpgroup's 64 rows (1, 2, 4 or 8; divides heads / key_value_heads)
//           CLUSTER   blocks that fetch keys and values together (1, 2 or 4; KEYS / CLUSTER is a multiple of 8)
//           REGISTERS 1: queries are held in registers, 0: in shared memory
//           prefill  HEAD_DIM=128 CAUSAL=1 KEYS=128 CONSUMERS=2 STAGES=2 PACK=4 CLUSTER=1 REGISTERS=0
//           vision   HEAD_DIM=72  CAUSAL=0 KEYS=80  CONSUMERS=3 STAGES=3 PACK=1 CLUSTER=2 REGISTERS=1
// Arguments query, key, value, output maps (const __grid_constant__, 128 bytes each), then the ints queries, keys (of one entry; causal:
//           keys >= queries), heads, key_value_heads (divides heads), entries
// Maps      bf16, 4 dimensions (HEAD_DIM, rows, heads, entries): rows are the queries or keys *that exist* (what lies beyond must read
//           as zero and stay unwritten), heads of the key and value maps are key_value_heads; strides as they lie in memory (multiples
//           of 16 bytes, base too); element strides 1, no interleave, zero fill, swizzle of 128 bytes, L2 promotion 256; boxes
//             query (64, 64 / PACK, PACK, 1)    key, value (64, KEYS / CLUSTER, 1, 1)    output (64, min(16, 64 / PACK), 1, 1)
// Launch    block (CONSUMERS + 1) * 128; cluster CLUSTER (compiled in, no attribute needed);
//           grid CLUSTER * min(clusters that fit at once, items), where CLUSTER <= 2 fits multiprocessors / CLUSTER times, and
//           items = entries * heads / PACK * ceil(ceil(queries / (64 / PACK * CONSUMERS)) / CLUSTER);
//           dynamic shared memory 2048 + 256 * ceil(HEAD_DIM / 64) * (64 * CONSUMERS + STAGES * KEYS) bytes;
//           programmatic stream serialisation allowed.
// Values    The query comes scaled; scores, their maxima and sums are f32, weights are rounded to bf16 before P·V.

#define INLINE __device__ __forceinline__
#define UNROLL _Pragma("unroll")

typedef unsigned int u32;
typedef unsigned long long u64;

struct alignas(64) TensorMap { unsigned char bytes[128]; };

constexpr int CHUNKS = (HEAD_DIM + 63) / 64;         // rows are split into swizzled chunks of 64 columns
constexpr int STEPS = (HEAD_DIM + 15) / 16;          // of 16 columns; HEAD_DIM 72 ends with 8 columns of zeros
constexpr int SPAN = 64 / PACK;                      // queries of a warpgroup, each with PACK heads
constexpr int QUERIES = SPAN * CONSUMERS;
constexpr int STRIP = SPAN < 16 ? SPAN : 16;         // queries of a warp
constexpr int THREADS = 128 * (CONSUMERS + 1);
constexpr u32 ROW = 128;                             // bytes of a chunk's row
constexpr u32 QUERY_CHUNK = 64 * ROW;                // bytes of a chunk of a warpgroup's queries
constexpr u32 KEY_CHUNK = KEYS * ROW;                // bytes of a chunk of a tile
constexpr u32 TILE = CHUNKS * KEY_CHUNK;
constexpr int SHARE = KEYS / CLUSTER;                // keys of a tile that each block of a cluster fetches for all
constexpr u32 BLOCK = CONSUMERS * CHUNKS * QUERY_CHUNK;
constexpr float LOG2E = 1.4426950408889634f;
constexpr float LOWEST = -1e30f;                     // a maximum before any key: finite, so differences are never NaN

// ---- barriers ----------------------------------------------------------------------------------------------------------

INLINE void barrier_arrive(u32 barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory"); }

INLINE void barrier_init(u32 barrier, u32 arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

INLINE void barrier_expect(u32 barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

INLINE void barrier_wait(u32 barrier, u32 parity) {
    asm volatile("{.reg .pred done; again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; @!done bra.uni again;}" ::"r"(barrier),
                 "r"(parity) : "memory");
}

// Arrives at the same barrier in another block of the cluster.
INLINE void barrier_arrive_in(u32 barrier, u32 block) {
    asm volatile("{.reg .b32 there; mapa.shared::cluster.u32 there, %0, %1; mbarrier.arrive.shared::cluster.b64 _, [there];}" ::"r"(barrier),
                 "r"(block) : "memory");
}

INLINE u32 cluster_rank() {
    u32 rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return CLUSTER == 1 ? 0 : rank;
}

INLINE void cluster_sync() {
    if (CLUSTER > 1) asm volatile("barrier.cluster.arrive.release; barrier.cluster.wait.acquire;" ::: "memory");
}

// A position in a ring: stages in turn, the parity flips with each round.
template <int COUNT> struct Ring {
    u32 stage = 0, parity = 0;
    INLINE void next() {
        parity ^= stage + 1 == COUNT;
        stage = stage + 1 == COUNT ? 0 : stage + 1;
    }
};

// Shared memory: two blocks of queries, each of which becomes its block of outputs, then keys, values, barriers.
struct Memory {
    u32 query, key, value, barriers;
    INLINE explicit Memory(u32 start) {
        query = (start + 1023) & ~1023u;
        key = query + 2 * BLOCK;
        value = key + STAGES * TILE;
        barriers = value + STAGES * TILE;
    }
    INLINE u32 query_full(u32 block) const { return barriers + 8 * block; }
    INLINE u32 query_free(u32 block) const { return barriers + 16 + 8 * block; }
    INLINE u32 key_full(u32 stage) const { return barriers + 32 + 32 * stage; }
    INLINE u32 key_free(u32 stage) const { return barriers + 40 + 32 * stage; }
    INLINE u32 value_full(u32 stage) const { return barriers + 48 + 32 * stage; }
    INLINE u32 value_free(u32 stage) const { return barriers + 56 + 32 * stage; }
};

// Warpgroups take turns: each waits for its own named barrier (1 + index), then opens the next one's.
INLINE void turn_wait(int warpgroup) { asm volatile("barrier.sync %0, 256;" ::"r"(1 + warpgroup) : "memory"); }
INLINE void turn_pass(int warpgroup) { asm volatile("barrier.arrive %0, 256;" ::"r"(1 + (warpgroup + 1) % CONSUMERS) : "memory"); }

// ---- copies ------------------------------------------------------------------------------------------------------------

// With ALL for every block of the cluster, to the same place and the same barrier in each.
template <bool ALL> INLINE void copy_in(u32 to, const TensorMap &map, u32 barrier, int column, int row, int head, int entry) {
    if constexpr (ALL && CLUSTER > 1)
        asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
                     " [%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(to), "l"(&map), "r"(barrier), "r"(column), "r"(row), "r"(head), "r"(entry),
                     "h"((unsigned short)((1 << CLUSTER) - 1)) : "memory");
    else
        asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
                     " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to), "l"(&map), "r"(barrier), "r"(column), "r"(row), "r"(head), "r"(entry) : "memory");
}

INLINE void copy_out(u32 from, const TensorMap &map, int column, int row, int head, int entry) {
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%1, {%2, %3, %4, %5}], [%0];" ::"r"(from), "l"(&map), "r"(column),
                 "r"(row), "r"(head), "r"(entry) : "memory");
}

// ---- products ----------------------------------------------------------------------------------------------------------

// Shared-memory matrix descriptor of a swizzled chunk, `offset` bytes on. `leading` is the distance between chunks, which only the
// row-major values need; groups of 8 rows are 8 * ROW bytes apart. Offsets only touch the low word: one addition.
INLINE u64 describe(u32 address, u32 leading, u32 offset) {
    constexpr u32 high = 8 * ROW >> 4 | 1u << 30; // and a swizzle of 128 bytes
    return (u64)high << 32 | (((address & 0x3ffff) >> 4) + (leading >> 4 << 16) + (offset >> 4));
}

INLINE void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
INLINE void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

template <int PENDING> INLINE void products_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory"); }

// Keeps reads of accumulators behind a wait, and writes before a product.
template <int COUNT> INLINE void pin(float (&d)[COUNT]) {
    UNROLL for (int i = 0; i < COUNT; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

#define TEN(a) "%" #a "0, %" #a "1, %" #a "2, %" #a "3, %" #a "4, %" #a "5, %" #a "6, %" #a "7, %" #a "8, %" #a "9, "
#define D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define D16(i) D4(i), D4(i + 4), D4(i + 8), D4(i + 12)
#define PLACES_32 TEN() TEN(1) TEN(2) "%30, %31"
#define PLACES_36 TEN() TEN(1) TEN(2) "%30, %31, %32, %33, %34, %35"
#define PLACES_40 TEN() TEN(1) TEN(2) "%30, %31, %32, %33, %34, %35, %36, %37, %38, %39"
#define PLACES_48 TEN() TEN(1) TEN(2) TEN(3) "%40, %41, %42, %43, %44, %45, %46, %47"
#define PLACES_64 TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) "%60, %61, %62, %63"

// d[64, N] (+)= a · b for k = 16: `b` in shared memory, `a` there too (rows against rows) or in registers (`b` as rows or row-major).
template <int N> struct Product;
#define PRODUCT(N, PLACES, I0, I1, I2, I3, I4, I5, I6, ...)                                                                          \
    template <> struct Product<N> {                                                                                                  \
        static INLINE void add(float (&d)[N / 2], u64 a, u64 b, int keep) {                                      \
            asm volatile("{.reg .pred keep; setp.ne.b32 keep, " I2 ", 0; wgmma.mma_async.sync.aligned.m64n" #N                       \
                         "k16.f32.bf16.bf16 {" PLACES "}, " I0 ", " I1 ", keep, 1, 1, 0, 0;}"                                        \
                         : __VA_ARGS__ : "l"(a), "l"(b), "r"(keep));                                                                 \
        }                                                                                                                            \
        template <int ROW_MAJOR> static INLINE void add(float (&d)[N / 2], const u32 *a, u64 b, int keep) {      \
            asm volatile("{.reg .pred keep; setp.ne.b32 keep, " I5 ", 0; wgmma.mma_async.sync.aligned.m64n" #N                       \
                         "k16.f32.bf16.bf16 {" PLACES "}, {" I0 ", " I1 ", " I2 ", " I3 "}, " I4 ", keep, 1, 1, " I6 ";}"            \
                         : __VA_ARGS__ : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep), "n"(ROW_MAJOR));             \
        }                                                                                                                            \
    };
PRODUCT(64, PLACES_32, "%32", "%33", "%34", "%35", "%36", "%37", "%38", D16(0), D16(16))
PRODUCT(72, PLACES_36, "%36", "%37", "%38", "%39", "%40", "%41", "%42", D16(0), D16(16), D4(32))
PRODUCT(80, PLACES_40, "%40", "%41", "%42", "%43", "%44", "%45", "%46", D16(0), D16(16), D4(32), D4(36))
PRODUCT(96, PLACES_48, "%48", "%49", "%50", "%51", "%52", "%53", "%54", D16(0), D16(16), D16(32))
PRODUCT(128, PLACES_64, "%64", "%65", "%66", "%67", "%68", "%69", "%70", D16(0), D16(16), D16(32), D16(48))

// scores = query · keyᵀ, with the queries at an address or as `fragments`.
INLINE void score(float (&scores)[KEYS / 2], u32 query, const u32 (&fragments)[4 * STEPS], u32 key) {
    UNROLL for (int k = 0; k < STEPS; ++k) {
        int chunk = k / 4, inside = k % 4 * 32;
        u64 columns = describe(key, 16, chunk * KEY_CHUNK + inside);
        if constexpr (REGISTERS)
            Product<KEYS>::add<0>(scores, &fragments[4 * k], columns, k > 0);
        else
            Product<KEYS>::add(scores, describe(query, 16, chunk * QUERY_CHUNK + inside), columns, k > 0);
    }
}

// sums += weights · value.
INLINE void gather(float (&sums)[HEAD_DIM / 2], const u32 (&weights)[KEYS / 4], u32 value, int keep) {
    UNROLL for (int k = 0; k < KEYS / 16; ++k)
        Product<HEAD_DIM>::add<1>(sums, &weights[4 * k], describe(value, KEY_CHUNK, k * 16 * ROW), k > 0 || keep);
}

// Where a lane finds its row of the 16 x 16 matrix `step` among a warp's 16 rows of queries or outputs, for ldmatrix and stmatrix.
INLINE u32 matrix_row(u32 rows, int step) {
    const int lane = threadIdx.x % 32, line = lane % 16;
    return rows + step / 4 * QUERY_CHUNK + line * ROW + (step % 4 * 2 + lane / 16 ^ line & 7) * 16;
}

// ---- softmax -----------------------------------------------------------------------------------------------------------

INLINE float power2(float x) { asm("ex2.approx.ftz.f32 %0, %0;" : "+f"(x)); return x; }
INLINE float inverse(float x) { asm("rcp.approx.ftz.f32 %0, %0;" : "+f"(x)); return x; }

INLINE u32 pack(float low, float high) {
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}

// Over the four lanes that share a row.
INLINE float quad_max(float x) { return x = fmaxf(x, __shfl_xor_sync(~0u, x, 1)), fmaxf(x, __shfl_xor_sync(~0u, x, 2)); }
INLINE float quad_sum(float x) { return x += __shfl_xor_sync(~0u, x, 1), x + __shfl_xor_sync(~0u, x, 2); }

// What a thread keeps of its two rows (lane / 4, and 8 further down); `sum` covers its own columns only.
struct Rows { float max[2], sum[2], factor[2]; };

// Removes the keys after last[row], counted from the thread's first column of the tile.
INLINE void mask(float (&scores)[KEYS / 2], const int (&last)[2]) {
    const float none = __int_as_float(0xff800000);
    UNROLL for (int i = 0; i < KEYS / 8; ++i) UNROLL for (int e = 0; e < 4; ++e)
        if (8 * i + (e & 1) > last[e >> 1]) scores[4 * i + e] = none;
}

// Scores become weights relative to the rows' new maxima; `factor` is what earlier weights are worth now.
INLINE void softmax(float (&scores)[KEYS / 2], Rows &rows) {
    UNROLL for (int r = 0; r < 2; ++r) {
        float top = fmaxf(scores[2 * r], scores[2 * r + 1]);
        UNROLL for (int i = 1; i < KEYS / 8; ++i) top = fmaxf(top, fmaxf(scores[4 * i + 2 * r], scores[4 * i + 2 * r + 1]));
        top = fmaxf(rows.max[r], quad_max(top));
        rows.factor[r] = power2((rows.max[r] - top) * LOG2E);
        rows.max[r] = top;
    }
    UNROLL for (int r = 0; r < 2; ++r) {
        float shift = rows.max[r] * LOG2E, sums[2] = {};
        UNROLL for (int i = 0; i < KEYS / 8; ++i) UNROLL for (int e = 0; e < 2; ++e)
            sums[e] += scores[4 * i + 2 * r + e] = power2(fmaf(scores[4 * i + 2 * r + e], LOG2E, -shift));
        rows.sum[r] = fmaf(rows.sum[r], rows.factor[r], sums[0] + sums[1]);
    }
}

// Sums are never negative: this only keeps the assembler from moving the wait for P·V ahead of the softmax that is to overlap it.
INLINE void after_softmax(const Rows &rows) {
    if (__any_sync(~0u, fminf(rows.sum[0], rows.sum[1]) < 0)) asm volatile("trap;" ::: "memory");
}

template <int COUNT> INLINE void rescale(float (&sums)[COUNT], const float (&factor)[2]) {
    UNROLL for (int i = 0; i < COUNT; ++i) sums[i] *= factor[i >> 1 & 1];
}

// The accumulator layout of the scores is the layout of a left factor once neighbours are packed.
INLINE void pack_weights(u32 (&weights)[KEYS / 4], const float (&scores)[KEYS / 2]) {
    UNROLL for (int i = 0; i < KEYS / 4; ++i) weights[i] = pack(scores[2 * i], scores[2 * i + 1]);
}

// ---- work --------------------------------------------------------------------------------------------------------------

struct Sizes {
    int queries, keys, heads, key_value_heads, entries;
    INLINE int groups() const { return (queries + CLUSTER * QUERIES - 1) / (CLUSTER * QUERIES); } // blocks of queries, by cluster
    INLINE int items() const { return entries * (heads / PACK) * groups(); }
};

// A block of queries of PACK heads, and the tiles of keys it sees.
struct Item {
    int entry, head, first, tiles;
    INLINE Item(int item, const Sizes &sizes) {
        int packs = sizes.heads / PACK, lanes = packs * sizes.entries;
        // Causal: longest first. Else: those with the same keys together.
        int group = CAUSAL ? sizes.groups() - 1 - item / lanes : item % sizes.groups(), pack = CAUSAL ? item % lanes : item / sizes.groups();
        first = (group * CLUSTER + cluster_rank()) * QUERIES;
        head = pack % packs * PACK;
        entry = pack / packs;
        int seen = CAUSAL ? min((group + 1) * CLUSTER * QUERIES, sizes.queries) + sizes.keys - sizes.queries : sizes.keys;
        tiles = (seen + KEYS - 1) / KEYS;
    }
};

// Every gridDim-th item is ours, there and back, which evens out items that get shorter and shorter.
INLINE int item_of_round(int round) {
    int clusters = gridDim.x / CLUSTER, cluster = blockIdx.x / CLUSTER;
    return round * clusters + (round & 1 ? clusters - 1 - cluster : cluster);
}

INLINE void copy_tile(u32 to, const TensorMap &map, u32 barrier, int tile, int head, int entry) {
    barrier_expect(barrier, TILE);
    int share = cluster_rank() * SHARE;
    UNROLL for (int c = 0; c < CHUNKS; ++c) copy_in<true>(to + c * KEY_CHUNK + share * ROW, map, barrier, c * 64, tile * KEYS + share, head, entry);
}

// Tiles run from the last one, which may need a mask, to the first; a tile's values follow the next keys, as they are used.
INLINE void produce(const Memory &memory, const TensorMap &query, const TensorMap &key, const TensorMap &value, const Sizes &sizes) {
    Ring<STAGES> key_ring, value_ring;
    Ring<2> query_ring;
    const int items = sizes.items();
    int value_tile = -1, value_head = 0, value_entry = 0; // values still to follow
    auto follow = [&]() {
        if (value_tile < 0) return;
        barrier_wait(memory.value_free(value_ring.stage), value_ring.parity ^ 1);
        copy_tile(memory.value + value_ring.stage * TILE, value, memory.value_full(value_ring.stage), value_tile, value_head, value_entry);
        value_ring.next();
    };
    for (int round = 0, i; (i = item_of_round(round)) < items; ++round) {
        Item item(i, sizes);
        int head = item.head / (sizes.heads / sizes.key_value_heads);
        barrier_wait(memory.query_free(query_ring.stage), query_ring.parity ^ 1);
        barrier_expect(memory.query_full(query_ring.stage), BLOCK);
        UNROLL for (int w = 0; w < CONSUMERS; ++w) UNROLL for (int c = 0; c < CHUNKS; ++c)
                copy_in<false>(memory.query + query_ring.stage * BLOCK + (w * CHUNKS + c) * QUERY_CHUNK, query, memory.query_full(query_ring.stage), c * 64,
                        item.first + w * SPAN, item.head, item.entry);
        query_ring.next();
        for (int tile = item.tiles - 1; tile >= 0; --tile) {
            barrier_wait(memory.key_free(key_ring.stage), key_ring.parity ^ 1);
            copy_tile(memory.key + key_ring.stage * TILE, key, memory.key_full(key_ring.stage), tile, head, item.entry);
            key_ring.next();
            follow();
            value_tile = tile, value_head = head, value_entry = item.entry;
        }
    }
    follow();
}

// Writes a warp's 16 rows through shared memory; the map drops rows and columns that don't exist.
INLINE void write(const TensorMap &output, u32 shared, const float (&sums)[HEAD_DIM / 2], int warp, const Item &item, int first) {
    UNROLL for (int j = 0; j < HEAD_DIM / 8; j += 2) {
        u32 to = matrix_row(shared + warp * 16 * ROW, j / 2), a = pack(sums[4 * j], sums[4 * j + 1]), b = pack(sums[4 * j + 2], sums[4 * j + 3]);
        if (j + 1 < HEAD_DIM / 8) {
            u32 c = pack(sums[4 * j + 4], sums[4 * j + 5]), d = pack(sums[4 * j + 6], sums[4 * j + 7]);
            asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
        } else {
            asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1, %2};" ::"r"(to), "r"(a), "r"(b) : "memory");
        }
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncwarp();
    if (threadIdx.x % 32 == 0) {
        UNROLL for (int c = 0; c < CHUNKS; ++c) UNROLL for (int row = warp * 16; row < warp * 16 + 16; row += STRIP)
            copy_out(shared + c * QUERY_CHUNK + row * ROW, output, c * 64, first + row % SPAN, item.head + row / SPAN, item.entry);
        asm volatile("cp.async.bulk.commit_group;" ::: "memory");
    }
}

INLINE void consume(const Memory &memory, const TensorMap &output, const Sizes &sizes) {
    const int warpgroup = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    const int items = sizes.items();
    Ring<STAGES> key_ring, value_ring;
    Ring<2> query_ring;
    float sums[HEAD_DIM / 2], scores[KEYS / 2];
    u32 weights[KEYS / 4], fragments[4 * STEPS];
    Rows rows;
    int round = 0;
    bool stored = false; // an earlier item's outputs may still be on their way out of the other block of queries
    Item item(item_of_round(0), sizes);

    auto block_of = [&](u32 stage) { return memory.query + stage * BLOCK + warpgroup * CHUNKS * QUERY_CHUNK; };
    auto await_queries = [&]() {
        barrier_wait(memory.query_full(query_ring.stage), query_ring.parity);
        UNROLL for (int k = 0; k < 4 * STEPS; k += 4)
            if constexpr (REGISTERS)
                asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                             : "=r"(fragments[k]), "=r"(fragments[k + 1]), "=r"(fragments[k + 2]), "=r"(fragments[k + 3])
                             : "r"(matrix_row(block_of(query_ring.stage) + warp * 16 * ROW, k / 4)) : "memory");
    };
    auto release = [&](u32 barrier) {
        if (CLUSTER == 1 && lane == 0) barrier_arrive(barrier);
        if (CLUSTER > 1 && lane < CLUSTER) barrier_arrive_in(barrier, lane);
    };
    auto flush = [&]() {
        if (stored && lane == 0) {
            asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
            barrier_arrive(memory.query_free(query_ring.stage ^ 1));
        }
        stored = false;
    };
    auto begin = [&]() { rows = {{LOWEST, LOWEST}, {0, 0}, {1, 1}}; };
    auto weigh = [&](const Item &of, int tile) {
        int last[2], start = tile * KEYS + lane % 4 * 2, end = sizes.keys - 1;
        // The first query of the warp sees the least: its last key tells whether the tile needs the mask.
        bool whole = tile * KEYS + KEYS - 1 <= (CAUSAL ? min(of.first + warpgroup * SPAN + warp * 16 % SPAN + sizes.keys - sizes.queries, end) : end);
        if (!whole) {
            UNROLL for (int r = 0; r < 2; ++r) {
                int query = of.first + warpgroup * SPAN + (warp * 16 + lane / 4 + 8 * r) % SPAN;
                last[r] = (CAUSAL ? min(query + sizes.keys - sizes.queries, end) : end) - start;
            }
            mask(scores, last);
        }
        softmax(scores, rows);
    };
    auto finish = [&](const float (&total)[2], u32 stage) {
        float scale[2] = {inverse(quad_sum(total[0])), inverse(quad_sum(total[1]))};
        rescale(sums, scale);
        asm volatile("barrier.sync %0, 128;" ::"r"(1 + CONSUMERS + warpgroup) : "memory"); // no warp reads these queries any more
        write(output, block_of(stage), sums, warp, item, item.first + warpgroup * SPAN);
    };

    if (warpgroup == CONSUMERS - 1) turn_pass(warpgroup);
    await_queries();
    barrier_wait(memory.key_full(0), 0);
    turn_wait(warpgroup);
    products_begin();
    score(scores, block_of(0), fragments, memory.key);
    products_commit();
    turn_pass(warpgroup);
    products_wait<0>();
    pin(scores);
    release(memory.key_free(0));
    key_ring.next();
    int tile = item.tiles - 1; // whose weights wait for their values
    begin();
    weigh(item, tile);
    pack_weights(weights, scores);

    for (;;) {
        const bool ends = tile == 0, begins = tile == item.tiles - 1;
        Item next = item;
        int next_tile = tile - 1;
        if (ends) {
            int i = item_of_round(++round);
            if (i >= items) break;
            next = Item(i, sizes);
            next_tile = next.tiles - 1;
            flush();
            query_ring.next();
            await_queries();
        }
        barrier_wait(memory.key_full(key_ring.stage), key_ring.parity);
        turn_wait(warpgroup);
        products_begin();
        score(scores, block_of(query_ring.stage), fragments, memory.key + key_ring.stage * TILE);
        products_commit();
        barrier_wait(memory.value_full(value_ring.stage), value_ring.parity);
        products_begin();
        gather(sums, weights, memory.value + value_ring.stage * TILE, !begins);
        products_commit();
        turn_pass(warpgroup);
        float total[2] = {rows.sum[0], rows.sum[1]};
        ends ? begin() : flush();
        products_wait<1>();
        pin(scores);
        release(memory.key_free(key_ring.stage));
        key_ring.next();
        weigh(next, next_tile);
        after_softmax(rows);
        products_wait<0>();
        pin(sums);
        release(memory.value_free(value_ring.stage));
        value_ring.next();
        if (ends) {
            finish(total, query_ring.stage ^ 1);
            stored = true;
        } else {
            rescale(sums, rows.factor);
        }
        item = next;
        tile = next_tile;
        pack_weights(weights, scores);
    }

    barrier_wait(memory.value_full(value_ring.stage), value_ring.parity);
    products_begin();
    gather(sums, weights, memory.value + value_ring.stage * TILE, tile != item.tiles - 1);
    products_commit();
    products_wait<0>();
    pin(sums);
    finish(rows.sum, query_ring.stage);
    if (lane == 0) asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(THREADS, 1)
    attention(const __grid_constant__ TensorMap query, const __grid_constant__ TensorMap key, const __grid_constant__ TensorMap value,
              const __grid_constant__ TensorMap output, int queries, int keys, int heads, int key_value_heads, int entries) {
    extern __shared__ unsigned char shared[];
    const Memory memory((u32)__cvta_generic_to_shared(shared));
    const Sizes sizes{queries, keys, heads, key_value_heads, entries};
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    if (threadIdx.x == 0) {
        for (u32 s = 0; s < 2; ++s) barrier_init(memory.query_full(s), 1), barrier_init(memory.query_free(s), 4 * CONSUMERS);
        for (u32 s = 0; s < STAGES; ++s) {
            barrier_init(memory.key_full(s), 1), barrier_init(memory.key_free(s), 4 * CONSUMERS * CLUSTER);
            barrier_init(memory.value_full(s), 1), barrier_init(memory.value_free(s), 4 * CONSUMERS * CLUSTER);
        }
        asm volatile("fence.mbarrier_init.release.cluster; fence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncthreads();
    cluster_sync();
    asm volatile("griddepcontrol.wait;" ::: "memory");
    if (threadIdx.x < 128) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(CONSUMERS == 2 ? 24 : 32));
        if (threadIdx.x == 0) produce(memory, query, key, value, sizes);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(CONSUMERS == 2 ? 240 : 160));
        consume(memory, output, sizes);
    }
    cluster_sync(); // others may still arrive here
}

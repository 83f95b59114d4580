// Attention of one new token of each clip over its prompt and its suffix, in one launch, as decode_attention.cu has it for several
// samples: RMSNorm and rotary embedding of q and k, the append of k and v to the suffix, softmax(q k^T / sqrt(head_dim)) v.
//
// SPLITS blocks take one key head of one clip and split its keys; each of their warps takes one tile of 16 keys from its scores to its
// weighted sum of values. Blocks hand their parts on through memory as soon as they have them: every block merges 32 of the head
// group's 512 columns, and waits for each part until it is no longer what nobody writes, all ones. (Counting blocks instead and
// merging by the last one takes a store, a fence, a counter and a load one after another: 2.5 us more.)
// Blocks of a key head wait for each other, so all blocks have to fit the device at once, one per multiprocessor.
//
// What is read of q, k and v alone comes from the kernel in front. Everything else is on its way before griddepcontrol.wait.
//
// The source is bf16_products.cu, decode_parts.cu and this file, one after the other, as one translation unit.
//
// Launch
//   grid      (SPLITS, kv_heads, clips), at most as many blocks as multiprocessors; block 512
//   shared    (PROMPT_TILES + 1) * 8192 + 3792 bytes, dynamic, or more: see decode_row_attention.rs
//   attribute programmatic stream serialization allowed (and useful); right without it too.
//             Dependents are launched at once
//   shapes    heads = 4 * kv_heads, head_dim 128, 0 <= prompt_length <= 16 * SPLITS * PROMPT_TILES, suffix_capacity <= 16 * SPLITS
//   alignment 16 bytes for all pointers. cos, sin, suffix_length, the prompt and the suffix are read before the wait: at least one
//             kernel launched without the attribute must lie between their writers and this one
//   projected f32 [clips, (heads + 2 * kv_heads) * 128], q then k then v
//   cos, sin  f32 [clips, rotary_stride], rotary_stride even; the first 64 of each row are used (the second half equals them)
//   prompt    bf16 [clips, kv_heads, prompt_capacity, 128], suffix bf16 [clips, kv_heads, suffix_capacity, 128]
//   suffix_length  [1], how many tokens each suffix holds before the new ones: 0 <= it < suffix_capacity
//   out       f32 [clips, heads * 128]
//   exchange  4 * clips * kv_heads * SPLITS * SPLITS * 34 bytes, all ones; the launch leaves them so
// Macros
//   SPLITS    blocks per key head: 16
//   PROMPT_TILES tiles of 16 keys of the prompt that a block holds, up to 15

constexpr int SLOTS = PROMPT_TILES + 1;        // tiles in shared memory, and warps that attend to one: the last one is the suffix's
constexpr int OWN = GROUP * HEAD_DIM / SPLITS; // columns that a block merges
constexpr int SPREAD = 16;                     // floats behind a head's sums, which spread heads over the banks
constexpr unsigned MISSING = ~0u;
static_assert(SLOTS <= WARPS && SPLITS == WARPS && OWN == 32, "a warp per tile, and per part");

struct Shared {
    union {
        unsigned char keys[SLOTS][TILE_BYTES];        // rows of 256 bytes, their 16-byte chunks permuted: see chunk_offset
        float found[SLOTS][GROUP][HEAD_DIM + SPREAD]; // sums of the tiles' weighted values, once no warp needs keys any more
    };
    unsigned char values[SLOTS][TILE_BYTES];
    unsigned char queries[OPERAND_ROWS * QUERY_STRIDE];
    float maxima[GROUP][WARPS];
    float sums[GROUP][WARPS];
    uint4 zero;
};

__device__ __forceinline__ void load_transposed(unsigned (&m)[4], unsigned row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3]) : "r"(row) : "memory");
}

// Scores of a tile's 16 keys: this lane's head's with keys 2 q, 2 q + 1, 8 + 2 q and 9 + 2 q, q the lane's place in its quad.
__device__ __forceinline__ void score(float (&scores)[4], const unsigned char* tile, unsigned query, int query_step, int lane) {
    float c[2][2][4] = {}; // even and odd steps, first and last 8 keys
    unsigned keys = shared_address(tile) + (lane / 16 * 8 + lane % 8) * HEAD_DIM * 2;
#pragma unroll
    for (int base = 0; base < HEAD_DIM / 16; base += 4) {
        unsigned a[4][4], b[4][4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            load_matrices(b[i], keys + (((base + i) * 2 + lane / 8 % 2) ^ (lane & 7)) * 16);
            load_matrices(a[i], query + (base + i) * query_step);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            multiply(c[i % 2][0], a[i], b[i][0], b[i][1]);
            multiply(c[i % 2][1], a[i], b[i][2], b[i][3]);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int half = i / 2, e = i % 2;
        scores[i] = sum_parts(c[0][half][e] + c[1][half][e], c[0][half][2 + e] + c[1][half][2 + e]);
    }
}

// Softmax weights of a tile as the left operand; returns the lane's part of their sum.
__device__ __forceinline__ float weigh(unsigned (&weights)[4], const float (&scores)[4], float maximum, int lane) {
    float sum = 0.0f;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float low = exp2_fast(scores[half * 2] - maximum), high = exp2_fast(scores[half * 2 + 1] - maximum);
        sum += low + high;
        unsigned parts[PARTS];
        split(parts, low, high);
        weights[half * 2] = lane < 16 ? parts[0] : parts[1];
        weights[half * 2 + 1] = lane < 16 ? parts[2] : 0;
    }
    return sum;
}

// The tile's weighted sums of values. The loop is short on purpose: code is run once, and comes from afar.
__device__ __forceinline__ void add_values(float (&found)[GROUP][HEAD_DIM + SPREAD], const unsigned char* tile, const unsigned (&weights)[4],
                                           bool active, int lane) {
    unsigned values = shared_address(tile) + (lane / 8 % 2 * 8 + lane % 8) * HEAD_DIM * 2;
    bool lower = lane < 16;
#pragma unroll 2
    for (int j = 0; j < HEAD_DIM / 8; j += 2) { // 8 columns each
        float r[2][4] = {};
        if (active) {
            unsigned b[4];
            load_transposed(b, values + ((j + lane / 16) ^ (lane & 7)) * 16);
            multiply(r[0], weights, b[0], b[1]);
            multiply(r[1], weights, b[2], b[3]);
        }
        // The three parts' sum: lower lanes end with the first eight columns, upper ones with the others.
        float x = r[0][0] + r[0][2], y = r[0][1] + r[0][3], x_1 = r[1][0] + r[1][2], y_1 = r[1][1] + r[1][3];
        float2 sum = make_float2((lower ? x : x_1) + __shfl_xor_sync(~0u, lower ? x_1 : x, 16),
                                 (lower ? y : y_1) + __shfl_xor_sync(~0u, lower ? y_1 : y, 16));
        *reinterpret_cast<float2*>(&found[lane / 4 % GROUP][(j + !lower) * 8 + lane % 4 * 2]) = sum;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
decode_row_attention(const float* projected, const float* q_norm, const float* k_norm, float epsilon, const float* cos, const float* sin,
                     int rotary_stride, const bf16* prompt_keys, const bf16* prompt_values, int prompt_capacity, int prompt_length,
                     bf16* suffix_keys, bf16* suffix_values, int suffix_capacity, const int* suffix_length, float* out, unsigned* exchange) {
    extern __shared__ __align__(128) unsigned char memory[];
    Shared& shared = *reinterpret_cast<Shared*>(memory);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int rank = blockIdx.x, kv_head = blockIdx.y, kv_heads = gridDim.y, clip = blockIdx.z;
    int head = lane / 4 % GROUP; // of this lane's rows in every result

    int tiles = (prompt_length + TILE - 1) / TILE;
    int first_tile = tiles * rank / SPLITS, end_tile = tiles * (rank + 1) / SPLITS;
    size_t prompt = (static_cast<size_t>(clip) * kv_heads + kv_head) * prompt_capacity * HEAD_DIM;
#pragma unroll 2
    for (int i = threadIdx.x; i < (end_tile - first_tile) * TILE * 16; i += THREADS) {
        int key = i / 16, chunk = i % 16, source = first_tile * TILE + key;
        bool valid = source < prompt_length;
        size_t from = prompt + (valid ? source * static_cast<size_t>(HEAD_DIM) + chunk * 8 : 0);
        copy_chunk(shared.keys[0] + chunk_offset(key, chunk), prompt_keys + from, valid);
        copy_chunk(shared.values[0] + chunk_offset(key, chunk), prompt_values + from, valid);
    }
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    if (threadIdx.x == 0) shared.zero = make_uint4(0, 0, 0, 0);
    int position = *suffix_length, suffix_tile = SPLITS - 1 - rank, new_tile = position / TILE;
    size_t suffix = (static_cast<size_t>(clip) * kv_heads + kv_head) * suffix_capacity * HEAD_DIM;
    if (suffix_tile <= new_tile) {
        int key = threadIdx.x / 16 % TILE, chunk = threadIdx.x % 16, source = suffix_tile * TILE + key;
        bool of_values = threadIdx.x >= THREADS / 2, valid = source < position;
        size_t from = suffix + (valid ? static_cast<size_t>(source) * HEAD_DIM + chunk * 8 : 0);
        unsigned char* to = (of_values ? shared.values : shared.keys)[PROMPT_TILES] + chunk_offset(key, chunk);
        if (source != position) copy_chunk(to, (of_values ? suffix_values : suffix_keys) + from, valid);
    }
    const float* norm = (warp < GROUP ? q_norm : k_norm) + 2 * lane;
    Pairs norms = {*reinterpret_cast<const float2*>(norm), *reinterpret_cast<const float2*>(norm + 64)};
    size_t angles = static_cast<size_t>(clip) * rotary_stride + 2 * lane;
    float2 cosines = load_fresh2(cos + angles), sines = load_fresh2(sin + angles);
    asm volatile("griddepcontrol.wait;" ::: "memory");

    // A warp per head: queries, and where the new token's tile is, its key and its value.
    if (warp < GROUP || (warp < GROUP + 2 && suffix_tile == new_tile)) {
        bool is_q = warp < GROUP, is_k = warp == GROUP;
        int source = is_q ? kv_head * GROUP + warp : kv_heads * warp + kv_head;
        const float* from = projected + (static_cast<size_t>(clip) * (GROUP + 2) * kv_heads + source) * HEAD_DIM + 2 * lane;
        Pairs x = {load_fresh2(from), load_fresh2(from + 64)};
        if (is_q || is_k) x = prepare(x, norms, cosines, sines, epsilon);
        if (is_q) store_query(shared.queries, warp, x, lane);
        else append((is_k ? shared.keys : shared.values)[PROMPT_TILES], (is_k ? suffix_keys : suffix_values) + suffix, position, x, lane);
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();

    bool on_suffix = warp == PROMPT_TILES, active = on_suffix ? suffix_tile <= new_tile : warp < end_tile - first_tile;
    float scores[4] = {MINUS_INFINITY, MINUS_INFINITY, MINUS_INFINITY, MINUS_INFINITY};
    if (active) {
        bool is_zero = lane % 16 >= OPERAND_ROWS; // rows past the last are zero
        unsigned query = is_zero ? shared_address(&shared.zero) : shared_address(shared.queries) + lane % 16 * QUERY_STRIDE + lane / 16 * 16;
        score(scores, shared.keys[warp], query, is_zero ? 0 : 32, lane);
        int first_key = (on_suffix ? suffix_tile : first_tile + warp) * TILE + lane % 4 * 2, end_key = on_suffix ? position + 1 : prompt_length;
#pragma unroll
        for (int i = 0; i < 4; i++) scores[i] = first_key + i / 2 * 8 + i % 2 < end_key ? scores[i] : MINUS_INFINITY;
    }
    float maximum = quad_max(fmaxf(fmaxf(scores[0], scores[1]), fmaxf(scores[2], scores[3])));
    if (lane < 16 && lane % 4 == 0) shared.maxima[head][warp] = maximum;
    __syncthreads(); // keys are not needed any more
    float4 maxima = *reinterpret_cast<const float4*>(&shared.maxima[head][lane % 4 * 4]);
    maximum = fmaxf(-1e30f, quad_max(fmaxf(fmaxf(maxima.x, maxima.y), fmaxf(maxima.z, maxima.w)))); // a number where there are no keys
    unsigned weights[4];
    float sum = quad_sum(weigh(weights, scores, maximum, lane));
    if (lane < 16 && lane % 4 == 0) shared.sums[head][warp] = sum;
    if (warp < SLOTS) add_values(shared.found[warp], shared.values[warp], weights, active, lane);
    __syncthreads();

    // The block's part, a column per thread, goes to the block that merges it: block w of the head has columns [32 w, 32 w + 32).
    exchange += (clip * kv_heads + kv_head) * SPLITS * SPLITS * (OWN + 2);
    auto values_of = [&](int owner, int part) { return exchange + (owner * SPLITS + part) * OWN; };
    auto statistics_of = [&](int owner, int part) { return exchange + SPLITS * SPLITS * OWN + (owner * SPLITS + part) * 2; };
    {
        int of_head = threadIdx.x / HEAD_DIM, column = threadIdx.x % HEAD_DIM;
        float value = 0.0f;
#pragma unroll
        for (int i = 0; i < SLOTS; i++) value += shared.found[i][of_head][column];
        asm volatile("st.relaxed.gpu.u32 [%0], %1;" ::"l"(values_of(warp, rank) + lane), "r"(__float_as_uint(value)) : "memory");
        float4 sums = *reinterpret_cast<const float4*>(&shared.sums[head][lane % 4 * 4]);
        float total = quad_sum(sums.x + sums.y + sums.z + sums.w);
        if (lane == of_head * 4)
            asm volatile("st.relaxed.gpu.v2.u32 [%0], {%1, %2};" ::"l"(statistics_of(warp, rank)), "r"(__float_as_uint(maximum)), "r"(__float_as_uint(total)) : "memory");
    }
    // Lanes p and 16 + p wait for part p of columns 2 warp and 2 warp + 1.
    int part = lane % SPLITS, column = warp * 2 + lane / SPLITS;
    unsigned *from = values_of(rank, part) + column, *statistics = statistics_of(rank, part);
    unsigned value, most, total;
    do asm volatile("ld.relaxed.gpu.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
    while (value == MISSING);
    do asm volatile("ld.relaxed.gpu.v2.u32 {%0, %1}, [%2];" : "=r"(most), "=r"(total) : "l"(statistics) : "memory");
    while (most == MISSING || total == MISSING);
    __syncthreads(); // everybody has them
    *from = MISSING; // for the next launch
    if (column == 0) statistics[0] = MISSING, statistics[1] = MISSING;
    float all = __uint_as_float(most);
#pragma unroll
    for (int offset = SPLITS / 2; offset > 0; offset /= 2) all = fmaxf(all, __shfl_xor_sync(~0u, all, offset));
    float weight = exp2_fast(__uint_as_float(most) - all), whole = weight * __uint_as_float(total), merged = weight * __uint_as_float(value);
#pragma unroll
    for (int offset = SPLITS / 2; offset > 0; offset /= 2) whole += __shfl_xor_sync(~0u, whole, offset), merged += __shfl_xor_sync(~0u, merged, offset);
    if (part == 0) out[(static_cast<size_t>(clip) * kv_heads + kv_head) * GROUP * HEAD_DIM + rank * OWN + column] = merged / whole;
}

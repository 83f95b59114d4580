// Attention of one new token per row over a prompt shared by the rows and the row's own suffix, in one launch:
// RMSNorm and rotary embedding of q and k, the append of k and v to the suffix, softmax(q k^T / sqrt(head_dim)) v.
//
// Rows are ROWS samples of each clip. SPLITS blocks take one key head of one clip and split its keys; the last of them
// to finish merges their parts. (A cluster would merge through shared memory, but clusters that large don't all fit:
// a chip's processing clusters differ in size.) Keys and values of the prompt are on their way to shared memory before
// griddepcontrol.wait, so that what is left after it is short.
//
// The source is bf16_products.cu, decode_parts.cu and this file, one after the other, as one translation unit.
//
// Launch
//   grid      (SPLITS, kv_heads, clips), block 512
//   shared    (PROMPT_TILES + ROWS) * 8192 + ROWS * (PROMPT_TILES * 384 + 4352) + 32 bytes, dynamic
//   attribute programmatic stream serialization allowed (and useful); right without it too.
//             Dependents are launched at once
//   shapes    heads = 4 * kv_heads, head_dim 128, prompt_length >= 0
//   alignment 16 bytes for all pointers. The prompt's cache is read before the wait: at least one kernel
//             launched without the attribute must lie between its writer and this one
//   projected f32 [clips * ROWS, (heads + 2 * kv_heads) * 128], q then k then v
//   cos, sin  f32 [clips * ROWS, rotary_stride], rotary_stride even; the first 64 of each row are used (the second half equals them)
//   prompt    bf16 [clips, kv_heads, prompt_capacity, 128], suffix bf16 [clips * ROWS, kv_heads, suffix_capacity, 128]
//   suffix_length  [1], how many tokens each suffix holds before the new ones: 0 <= it < suffix_capacity
//   out       f32 [clips * ROWS, heads * 128]
//   workspace f32 [clips * kv_heads * SPLITS * ROWS * 4 * 130], 16-byte aligned
//   counters  [clips * kv_heads], zero; the launch leaves them zero
// Macros
//   ROWS      samples per clip, 1..6
//   SPLITS    blocks per key head, up to 32: 16 for 8 key heads on 132 multiprocessors
//   PROMPT_TILES tiles of 16 keys of the prompt that a block holds at once, up to 14: best at least prompt_length / 16 / SPLITS
constexpr int SUFFIX_WARPS = WARPS - PROMPT_TILES; // the warps that score suffixes, one tile per row
constexpr int SLOTS = PROMPT_TILES + ROWS;        // tiles in shared memory
constexpr int WEIGHT_STRIDE = (PROMPT_TILES + 1) * TILE * 2 + 16;
constexpr int CHAINS = ROWS == 1 ? 4 : ROWS <= 3 ? 2 : 1;        // independent sums, to hide the latency of mma
static_assert(WARPS * 8 == HEAD_DIM && SPLITS <= 32, "warp w weighs the values' columns [8 w, 8 w + 8)");

struct Shared {
    unsigned char keys[SLOTS][TILE_BYTES]; // rows of 256 bytes, their 16-byte chunks permuted: see chunk_offset
    unsigned char values[SLOTS][TILE_BYTES];
    unsigned char queries[ROWS][OPERAND_ROWS * QUERY_STRIDE];
    unsigned char weights[ROWS][OPERAND_ROWS * WEIGHT_STRIDE];
    float maxima[ROWS][GROUP][WARPS];
    float sums[ROWS][GROUP][WARPS];
    uint4 zero;
    bool last; // of the blocks of this key head to finish
};

__device__ __forceinline__ void load_transposed(unsigned (&m)[2], unsigned row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(m[0]), "=r"(m[1]) : "r"(row) : "memory");
}

extern "C" __global__ void __launch_bounds__(THREADS, ROWS == 1 ? 2 : 1)
decode_attention(const float* projected, const float* q_norm, const float* k_norm, float epsilon, const float* cos, const float* sin,
                 int rotary_stride, const bf16* prompt_keys, const bf16* prompt_values, int prompt_capacity, int prompt_length,
                 bf16* suffix_keys, bf16* suffix_values, int suffix_capacity, const int* suffix_length, float* out, float* workspace, unsigned* counters) {
    extern __shared__ __align__(128) unsigned char memory[];
    Shared& shared = *reinterpret_cast<Shared*>(memory);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int rank = blockIdx.x, kv_head = blockIdx.y, kv_heads = gridDim.y, clip = blockIdx.z;
    int head = lane / 4 % GROUP; // of this lane's rows in every result

    int tiles = (prompt_length + TILE - 1) / TILE;
    int first_tile = static_cast<long long>(tiles) * rank / SPLITS, end_tile = static_cast<long long>(tiles) * (rank + 1) / SPLITS;

    size_t prompt_base = (static_cast<size_t>(clip) * kv_heads + kv_head) * prompt_capacity * HEAD_DIM;
    auto load_prompt = [&](int pass) {
        int tile = first_tile + pass * PROMPT_TILES, keys = min(PROMPT_TILES, end_tile - tile) * TILE;
#pragma unroll 2
        for (int i = threadIdx.x; i < keys * 16; i += THREADS) {
            int key = i / 16, chunk = i % 16, source = tile * TILE + key;
            bool valid = source < prompt_length;
            size_t from = prompt_base + (valid ? source * static_cast<size_t>(HEAD_DIM) + chunk * 8 : 0);
            copy_chunk(shared.keys[0] + chunk_offset(key, chunk), prompt_keys + from, valid);
            copy_chunk(shared.values[0] + chunk_offset(key, chunk), prompt_values + from, valid);
        }
    };

    load_prompt(0);
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    if (threadIdx.x == 0) shared.zero = make_uint4(0, 0, 0, 0);
    auto pairs = [&](const float* norm) {
        return Pairs{*reinterpret_cast<const float2*>(norm + 2 * lane), *reinterpret_cast<const float2*>(norm + 64 + 2 * lane)};
    };
    Pairs q_norms = pairs(q_norm), k_norms = pairs(k_norm);
    asm volatile("griddepcontrol.wait;" ::: "memory");

    int position;
    asm volatile("ld.global.cg.s32 %0, [%1];" : "=r"(position) : "l"(suffix_length) : "memory");
    int suffix_tiles = position / TILE + 1, first_suffix_tile = SPLITS - 1 - rank; // then every 16th
    int passes = max((end_tile - first_tile + PROMPT_TILES - 1) / PROMPT_TILES,
                     (suffix_tiles - first_suffix_tile + SPLITS - 1) / SPLITS);

    // Operand row for ldmatrix: lane's row of a 16-row operand, in a matrix of 16 columns; rows past the last are zero.
    int operand_row = lane % 16, operand_half = lane / 16 * 16;
    bool operand_zero = operand_row >= OPERAND_ROWS;
    unsigned zero = shared_address(&shared.zero);

    float maximum[ROWS], total[ROWS], result[ROWS][CHAINS][4];
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
        maximum[row] = MINUS_INFINITY, total[row] = 0.0f;
#pragma unroll
        for (int i = 0; i < CHAINS * 4; i++) result[row][i / 4][i % 4] = 0.0f;
    }

    for (int pass = 0; pass < passes; pass++) {
        int tile = first_tile + pass * PROMPT_TILES, pass_tiles = max(0, min(PROMPT_TILES, end_tile - tile));
        int suffix_tile = first_suffix_tile + pass * SPLITS;
        bool has_suffix = suffix_tile < suffix_tiles, appends = suffix_tile == suffix_tiles - 1;
        if (pass > 0) {
            __syncthreads();
            load_prompt(pass);
        }
        if (has_suffix) {
            int key = threadIdx.x / 16 % TILE, chunk = threadIdx.x % 16, source = suffix_tile * TILE + key;
            bool of_values = threadIdx.x >= THREADS / 2, valid = source < position;
#pragma unroll
            for (int row = 0; row < ROWS; row++) {
                size_t from = ((static_cast<size_t>(clip) * ROWS + row) * kv_heads + kv_head) * suffix_capacity * HEAD_DIM;
                if (valid) from += static_cast<size_t>(source) * HEAD_DIM + chunk * 8;
                unsigned char* to = (of_values ? shared.values : shared.keys)[PROMPT_TILES + row] + chunk_offset(key, chunk);
                if (source != position) copy_chunk(to, (of_values ? suffix_values : suffix_keys) + from, valid);
            }
        }

        // q once, k and v where the new key's tile is: a warp per head.
        for (int unit = warp; unit < ROWS * (GROUP + 2); unit += WARPS) {
            int row = unit / (GROUP + 2), kind = unit % (GROUP + 2);
            bool is_q = kind < GROUP, is_k = kind == GROUP;
            if (is_q ? pass > 0 : !appends) continue;
            size_t row_index = static_cast<size_t>(clip) * ROWS + row;
            int source_head = is_q ? kv_head * GROUP + kind : kv_heads * (kind) + kv_head;
            const float* from = projected + (row_index * (GROUP + 2) * kv_heads + source_head) * HEAD_DIM + 2 * lane;
            Pairs x = {load_fresh2(from), load_fresh2(from + 64)};
            if (is_q || is_k) {
                size_t angles = row_index * rotary_stride + 2 * lane;
                x = prepare(x, is_q ? q_norms : k_norms, load_fresh2(cos + angles), load_fresh2(sin + angles), epsilon);
            }
            if (is_q) {
                store_query(shared.queries[row], kind, x, lane);
            } else {
                size_t suffix = (row_index * kv_heads + kv_head) * suffix_capacity * HEAD_DIM;
                append((is_k ? shared.keys : shared.values)[PROMPT_TILES + row], (is_k ? suffix_keys : suffix_values) + suffix, position, x, lane);
            }
        }
        asm volatile("cp.async.wait_all;" ::: "memory");
        __syncthreads();

        // Scores of this warp's tile: of the prompt, for every row; or of the suffixes of every SUFFIX_WARPSth row.
        bool on_suffix = warp >= PROMPT_TILES;
        auto active = [&](int row) { return on_suffix ? has_suffix && row % SUFFIX_WARPS == warp - PROMPT_TILES : warp < pass_tiles; };
        float scores[ROWS][TILE / 4];
        {
            float c[ROWS][2][2][4] = {}; // even and odd steps, first and last 8 keys
            int key = lane / 16 * 8 + lane % 8;
#pragma unroll
            for (int base = 0; base < HEAD_DIM / 16; base += CHAINS) { // CHAINS steps' loads in flight
                unsigned b[CHAINS][4];
#pragma unroll
                for (int row = 0; row < ROWS; row++) {
                    if (!active(row)) continue;
                    int slot = on_suffix ? PROMPT_TILES + row : warp;
                    unsigned a[CHAINS][4];
#pragma unroll
                    for (int i = 0; i < CHAINS; i++) {
                        int step = base + i;
                        if (row == 0 || on_suffix) load_matrices(b[i], shared_address(shared.keys[slot]) + chunk_offset(key, step * 2 + lane / 8 % 2));
                        unsigned from = shared_address(shared.queries[row]) + operand_row * QUERY_STRIDE + step * 32 + operand_half;
                        load_matrices(a[i], operand_zero ? zero : from);
                    }
#pragma unroll
                    for (int i = 0; i < CHAINS; i++) {
                        multiply(c[row][CHAINS > 1 ? i % 2 : 0][0], a[i], b[i][0], b[i][1]);
                        multiply(c[row][CHAINS > 1 ? i % 2 : 0][1], a[i], b[i][2], b[i][3]);
                    }
                }
            }
            int first_key = (on_suffix ? suffix_tile : tile + warp) * TILE, end_key = on_suffix ? position + 1 : prompt_length;
#pragma unroll
            for (int row = 0; row < ROWS; row++) {
                float tile_max = MINUS_INFINITY;
#pragma unroll
                for (int i = 0; i < TILE / 4; i++) {
                    int half = i / 2, e = i % 2;
                    float score = sum_parts(c[row][0][half][e] + c[row][1][half][e], c[row][0][half][2 + e] + c[row][1][half][2 + e]);
                    bool valid = active(row) && first_key + half * 8 + lane % 4 * 2 + e < end_key;
                    scores[row][i] = valid ? score : MINUS_INFINITY;
                    tile_max = fmaxf(tile_max, scores[row][i]);
                }
                tile_max = quad_max(tile_max);
                if (lane < 16 && lane % 4 == 0) shared.maxima[row][head][warp] = tile_max;
            }
        }
        __syncthreads();

        // Softmax weights against the block's maximum so far.
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
            float4 maxima = *reinterpret_cast<const float4*>(&shared.maxima[row][head][lane % 4 * 4]);
            float now = fmaxf(maximum[row], quad_max(fmaxf(fmaxf(maxima.x, maxima.y), fmaxf(maxima.z, maxima.w))));
            float rescale = exp2_fast(maximum[row] - now);
            maximum[row] = now;
            total[row] *= rescale;
#pragma unroll
            for (int i = 0; i < CHAINS * 4; i++) result[row][i / 4][i % 4] *= rescale;
            float sum = 0.0f;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float low = exp2_fast(scores[row][half * 2] - now), high = exp2_fast(scores[row][half * 2 + 1] - now);
                sum += low + high;
                unsigned parts[PARTS];
                split(parts, low, high);
                int column = (on_suffix ? PROMPT_TILES : warp) * TILE + half * 8 + lane % 4 * 2;
                unsigned char* to = shared.weights[row] + head * WEIGHT_STRIDE + column * 2;
                if (active(row)) { // both halves of the warp hold the scores: they share the stores
                    *reinterpret_cast<unsigned*>(to + (lane < 16 ? 0 : GROUP * WEIGHT_STRIDE)) = lane < 16 ? parts[0] : parts[1];
                    if (lane < 16) *reinterpret_cast<unsigned*>(to + 2 * GROUP * WEIGHT_STRIDE) = parts[2];
                }
            }
            sum = quad_sum(sum);
            if (lane < 16 && lane % 4 == 0) shared.sums[row][head][warp] = sum;
        }
        __syncthreads();

        // The weighted sum of values, 8 of their columns per warp; CHAINS tiles' loads in flight.
        auto load_values = [&](unsigned (&b)[2], int slot) {
            load_transposed(b, shared_address(shared.values[slot]) + chunk_offset(lane % 16, warp));
        };
        auto load_weights = [&](unsigned (&a)[4], int row, int column_tile) {
            unsigned from = shared_address(shared.weights[row]) + operand_row * WEIGHT_STRIDE + column_tile * TILE * 2 + operand_half;
            load_matrices(a, operand_zero ? zero : from);
        };
#pragma unroll 1
        for (int base = 0; base < pass_tiles; base += CHAINS) {
            unsigned b[CHAINS][2];
#pragma unroll
            for (int row = 0; row < ROWS; row++) {
                unsigned a[CHAINS][4];
#pragma unroll
                for (int chain = 0; chain < CHAINS; chain++) {
                    int column_tile = min(base + chain, pass_tiles - 1);
                    if (row == 0) load_values(b[chain], column_tile);
                    load_weights(a[chain], row, column_tile);
                }
#pragma unroll
                for (int chain = 0; chain < CHAINS; chain++)
                    if (base + chain < pass_tiles) multiply(result[row][chain], a[chain], b[chain][0], b[chain][1]);
            }
        }
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
            if (has_suffix) {
                unsigned a[4], b[2];
                load_values(b, PROMPT_TILES + row);
                load_weights(a, row, PROMPT_TILES);
                multiply(result[row][0], a, b[0], b[1]);
            }
            float4 sums = *reinterpret_cast<const float4*>(&shared.sums[row][head][lane % 4 * 4]);
            total[row] += quad_sum(sums.x + sums.y + sums.z + sums.w);
        }
    }

    // The parts, unnormalized: first the results of all blocks, then their statistics (maximum, sum of weights).
    int part_of = (clip * kv_heads + kv_head) * SPLITS, parts = gridDim.x * gridDim.y * gridDim.z;
    float2* statistics = reinterpret_cast<float2*>(workspace + static_cast<size_t>(parts) * ROWS * GROUP * HEAD_DIM);
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
#pragma unroll
        for (int chain = 1; chain < CHAINS; chain++)
#pragma unroll
            for (int i = 0; i < 4; i++) result[row][0][i] += result[row][chain][i];
        float x = sum_parts(result[row][0][0], result[row][0][2]), y = sum_parts(result[row][0][1], result[row][0][3]);
        if (lane < 16) {
            size_t part = (static_cast<size_t>(part_of + rank) * ROWS + row) * GROUP + head;
            *reinterpret_cast<float2*>(workspace + part * HEAD_DIM + warp * 8 + lane % 4 * 2) = make_float2(x, y);
            if (warp == 0 && lane % 4 == 0) statistics[part] = make_float2(maximum[row], total[row]);
        }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        unsigned before;
        asm volatile("fence.acq_rel.gpu;\natom.global.inc.u32 %0, [%1], %2;\nfence.acq_rel.gpu;"
                     : "=r"(before) : "l"(counters + clip * kv_heads + kv_head), "r"(SPLITS - 1) : "memory"); // back to 0 at the last
        shared.last = before == SPLITS - 1;
    }
    __syncthreads();
    if (!shared.last) return;

    int column = threadIdx.x % HEAD_DIM, merged_head = threadIdx.x / HEAD_DIM;
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
        auto part = [&](int split) { return (static_cast<size_t>(part_of + split) * ROWS + row) * GROUP + merged_head; };
        float values[SPLITS];
#pragma unroll
        for (int split = 0; split < SPLITS; split++) values[split] = load_fresh(workspace + part(split) * HEAD_DIM + column);
        float2 mine = lane < SPLITS ? load_fresh2(reinterpret_cast<const float*>(statistics + part(lane))) : make_float2(MINUS_INFINITY, 0.0f);
        float most = mine.x;
#pragma unroll
        for (int offset = 16; offset > 0; offset /= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, offset));
        float weight = exp2_fast(mine.x - most), sum = weight * mine.y, value = 0.0f;
#pragma unroll
        for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(~0u, sum, offset);
#pragma unroll
        for (int split = 0; split < SPLITS; split++) value += __shfl_sync(~0u, weight, split) * values[split];
        out[((static_cast<size_t>(clip) * ROWS + row) * kv_heads + kv_head) * GROUP * HEAD_DIM + threadIdx.x] = value / sum;
    }
}

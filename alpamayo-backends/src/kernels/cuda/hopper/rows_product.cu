// Product of 2 to 8 rows with a matrix of bf16 weights, at the speed the weights arrive from memory:
//
//   out[r][n] = residual[r][n] + activation(sum_k norm(x[r])[k] * weights[n][k] + bias[n])
//   GATED: out[r][n] = residual[r][n] + activation(gate) * up, gate from weights' row n, up from row outputs + n
//
// As row_product.cu, which takes one row: x, norm, bias, residual, out are f32, weights is bf16, x is not rounded. The
// products are the tensor cores', which take bf16: each x is split into three bf16 parts whose sum is exact.
//
// A persistent block per multiprocessor. Tiles of [TILE rows, CHUNK columns] of weights, and the same columns of x and
// norm, go through a ring in shared memory; the warps share a tile's columns between them and add up their sums at the
// end of the rows. The ring's weights are on their way before griddepcontrol.wait.
//
// The source is activation.cu, bf16_products.cu and this file, one after the other, as one translation unit.
//
// Launch
//   grid      any; as many blocks as multiprocessors (132)
//   block     THREADS
//   shared    STAGES * (TILE * (CHUNK * 2 + 16) + (ROWS + 1) * (CHUNK * 4 + 32)) + THREADS * (TILE + 5) bytes, dynamic
//   attribute programmatic stream serialization allowed (and useful); right without it too
//   shapes    x [ROWS, columns], out and residual [ROWS, outputs], outputs >= 1, columns a multiple of 8
//   alignment 16 bytes for x, norm and weights; 4 for the others. bias, norm, residual may be null;
//             residual may be out. GATED: weights and bias have 2 * outputs rows (gate, then up)
// Macros
//   ROWS      1..8
//   TILE      rows of weights per stage, a multiple of 16; best just above the rows of a block, or a fraction of them
//   CHUNK     columns per stage, a multiple of 16
//   STAGES    stages of the ring, at least 2
//   GATED     1: gated; 0: not
//   ACTIVATION 0: none, 1: GELU (tanh), 2: SiLU
//   THREADS   256, or 512 with a ring that fills a multiprocessor
//   LEAD      dependents are launched when a block has this many stages left to issue (8; large: at once)
#ifndef THREADS
#define THREADS 256
#endif
#ifndef LEAD
#define LEAD 8
#endif

typedef unsigned long long u64;

constexpr int WARPS = THREADS / 32, PARTS = 3;
constexpr int UNITS = GATED ? TILE / 2 : TILE; // outputs per tile
constexpr int BLOCKS = TILE / 16;              // the tensor cores' tiles of 16 rows
constexpr int WEIGHT_STRIDE = CHUNK * 2 + 16;  // bytes; rows spread over the banks
constexpr int X_STRIDE = CHUNK * 4 + 32;
constexpr int SUM_STRIDE = TILE + 4;           // floats
constexpr int RESULTS = (UNITS * ROWS + THREADS - 1) / THREADS; // of a thread per tile

struct Stage {
    unsigned char weights[TILE][WEIGHT_STRIDE];
    unsigned char x[ROWS + 1][X_STRIDE]; // norm last
};

struct Shared {
    Stage ring[STAGES];
    float sums[WARPS][8][SUM_STRIDE];
    float squares[WARPS][8];
};

// 16 bytes to shared memory (past L1), zeros where not valid.
__device__ __forceinline__ void copy_chunk(const void* to, const void* from, bool valid, u64 policy) {
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;"
                 ::"r"(shared_address(to)), "l"(from), "r"(valid ? 16 : 0), "l"(policy) : "memory");
}

__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int PENDING>
__device__ __forceinline__ void wait_for_copies() { asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory"); }

__device__ __forceinline__ float load_fresh(const float* from) { // past L1: the predecessor wrote it
    float v;
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(v) : "l"(from) : "memory");
    return v;
}

// The three bf16 parts of a pair.
__device__ __forceinline__ void split(unsigned (&parts)[PARTS], float2 v) {
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(parts[part]) : "f"(v.y), "f"(v.x));
        v.x -= __uint_as_float(parts[part] << 16);
        v.y -= __uint_as_float(parts[part] & 0xffff0000u);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, THREADS > 256 ? 1 : 2)
rows_product(const float* x, const unsigned short* weights, const float* norm, const float* bias, const float* residual,
             float* out, int outputs, int columns, float epsilon) {
    extern __shared__ __align__(128) unsigned char memory[];
    Shared& shared = *reinterpret_cast<Shared*>(memory);

    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int begin = static_cast<long long>(outputs) * blockIdx.x / gridDim.x;
    int end = static_cast<long long>(outputs) * (blockIdx.x + 1) / gridDim.x;
    int tiles = (end - begin + UNITS - 1) / UNITS, chunks = (columns + CHUNK - 1) / CHUNK, stages = tiles * chunks;

    u64 once, again;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(once));
    asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(again));
    auto issue_weights = [&](int tile, int chunk, int slot) {
        int first = begin + tile * UNITS;
#pragma unroll 4
        for (int i = threadIdx.x; i < TILE * (CHUNK / 8); i += THREADS) {
            int row = i / (CHUNK / 8), in_row = i % (CHUNK / 8) * 8, column = chunk * CHUNK + in_row, n = first + row % UNITS;
            bool valid = n < end && column < columns;
            size_t from = valid ? (static_cast<size_t>(row / UNITS) * outputs + n) * columns + column : 0;
            copy_chunk(shared.ring[slot].weights[row] + in_row * 2, weights + from, valid, once);
        }
    };
    auto issue_x = [&](int chunk, int slot) {
        int rows = norm ? ROWS + 1 : ROWS;
        for (int i = threadIdx.x; i < rows * (CHUNK / 4); i += THREADS) {
            int row = i / (CHUNK / 4), in_row = i % (CHUNK / 4) * 4, column = chunk * CHUNK + in_row;
            bool valid = column < columns;
            const float* from = row < ROWS ? x + static_cast<size_t>(row) * columns : norm;
            copy_chunk(shared.ring[slot].x[row] + in_row * 4, from + (valid ? column : 0), valid, again);
        }
    };
    constexpr int AHEAD = STAGES - 1;
    auto launch_dependents = [] { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); };
#pragma unroll
    for (int stage = 0; stage < AHEAD; stage++)
        if (stage < stages) issue_weights(stage / chunks, stage % chunks, stage);
    if (AHEAD + LEAD >= stages) launch_dependents();
    asm volatile("griddepcontrol.wait;" ::: "memory");
#pragma unroll
    for (int stage = 0; stage < AHEAD; stage++)
        if (stage < stages) issue_x(stage % chunks, stage);
    commit_copies();

    int x_row = min(lane / 4, ROWS - 1); // rows past the last repeat it, and their sums are dropped
    float squares = 0.0f;
    int stage = 0, slot = 0, ahead_tile = AHEAD / chunks, ahead_chunk = AHEAD % chunks, ahead_slot = AHEAD;
    for (int tile = 0; tile < tiles; tile++) {
        int first = begin + tile * UNITS;
        float addend[RESULTS];
#pragma unroll
        for (int i = 0; i < RESULTS; i++) {
            int result = i * THREADS + threadIdx.x, row = result / UNITS, n = first + result % UNITS;
            addend[i] = residual && row < ROWS && n < end ? load_fresh(residual + static_cast<size_t>(row) * outputs + n) : 0.0f;
        }
        float c[BLOCKS][4] = {};
        for (int chunk = 0; chunk < chunks; chunk++, stage++) {
            // This stage has come, and everybody is done with the one before, whose place the next copies take.
            if (stage == 0) wait_for_copies<0>();
            else wait_for_copies<AHEAD - 1>();
            __syncthreads();
            if (ahead_tile < tiles) {
                issue_weights(ahead_tile, ahead_chunk, ahead_slot);
                issue_x(ahead_chunk, ahead_slot);
                if (++ahead_chunk == chunks) ahead_chunk = 0, ahead_tile++;
                if (++ahead_slot == STAGES) ahead_slot = 0;
                if (stage + AHEAD + 1 + LEAD == stages) launch_dependents();
            }
            commit_copies();
            const Stage& in = shared.ring[slot];
            if (++slot == STAGES) slot = 0;
            int width = columns - chunk * CHUNK; // past it are zeros
#pragma unroll 2
            for (int k = warp * 16; k < CHUNK; k += WARPS * 16) {
                if (k >= width) break;
                float2 v[2];
                unsigned b[2][PARTS];
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    int column = k + half * 8 + lane % 4 * 2;
                    v[half] = *reinterpret_cast<const float2*>(in.x[x_row] + column * 4);
                    if (tile == 0) squares += v[half].x * v[half].x + v[half].y * v[half].y;
                    if (norm) {
                        float2 scale = *reinterpret_cast<const float2*>(in.x[ROWS] + column * 4);
                        v[half].x *= scale.x, v[half].y *= scale.y;
                    }
                    split(b[half], v[half]);
                }
#pragma unroll
                for (int i = 0; i < BLOCKS; i++) {
                    unsigned a[4];
                    load_matrices(a, shared_address(in.weights[i * 16 + lane % 16]) + k * 2 + lane / 16 * 16);
#pragma unroll
                    for (int part = PARTS - 1; part >= 0; part--) multiply(c[i], a, b[0][part], b[1][part]);
                }
            }
        }

        // The warps' sums, over their columns.
#pragma unroll
        for (int i = 0; i < BLOCKS; i++) {
#pragma unroll
            for (int e = 0; e < 4; e++) shared.sums[warp][lane % 4 * 2 + e % 2][i * 16 + lane / 4 + e / 2 * 8] = c[i][e];
        }
        if (tile == 0) {
            float total = squares;
            total += __shfl_xor_sync(~0u, total, 1);
            total += __shfl_xor_sync(~0u, total, 2);
            if (lane % 4 == 0) shared.squares[warp][lane / 4] = total;
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < RESULTS; i++) {
            int result = i * THREADS + threadIdx.x, row = result / UNITS, unit = result % UNITS, n = first + unit;
            if (row >= ROWS || n >= end) continue;
            float value = 0.0f, up = 0.0f, total = 0.0f;
#pragma unroll
            for (int w = 0; w < WARPS; w++) {
                value += shared.sums[w][row][unit];
                if (GATED) up += shared.sums[w][row][UNITS + unit];
                total += shared.squares[w][row];
            }
            float scale = norm ? 1.0f / sqrtf(total / columns + epsilon) : 1.0f;
            value = activation(value * scale + (bias ? bias[n] : 0.0f));
            if (GATED) value *= up * scale + (bias ? bias[outputs + n] : 0.0f);
            out[static_cast<size_t>(row) * outputs + n] = addend[i] + value;
        }
    }
}

// Products of a few rows (tokens) with a bf16 weight that is streamed once from memory, for Hopper (sm_90a).
//
//   out[t, n] = residual[t, n] + activation(sum_k x[t, k] * weight[n, k] + bias[n])
//   GATED: the weight's rows are [gate ; up], rows / 2 each, and
//   out[t, n] = residual[t, n] + silu(gate[t, n] + bias[n]) * (up[t, n] + bias[rows / 2 + n]),  n < rows / 2
//
// The weight is the wgmma's A (64 of its rows a warpgroup) and x its B (the tokens are the wgmma's columns), so a
// product of few tokens wastes nothing. A block takes ROWS rows of the weight and one of SPLIT parts of the columns.
// One thread copies weight tiles into a ring and one x tiles into another; the warpgroups multiply. The SPLIT blocks of
// the same rows then send each other their sums through the workspace: each finishes a part of the tokens, and adds the
// parts in a fixed order. (A cluster would do this in shared memory, but clusters of 4 or 8 leave up to 12 SMs idle.)
// The weight is requested before the wait for the kernel in front; x, residual, workspace and out come after it.
//
// few_tokens.cu goes in front.
//
// LAUNCH CONTRACT
//   macros    TOKENS      16, 32 or 64: the most tokens (a smaller one reads and multiplies less)
//             WARPGROUPS  1, 2 or 4: ROWS = 64 * WARPGROUPS weight rows a block
//             SPLIT       1..=8 blocks along the columns
//             STAGES, X_STAGES  depth of the rings of weight and x tiles, >= 2
//             GATED       0 or 1;   ACTIVATION  0 none, 1 GELU (tanh), 2 SiLU (of an ungated product)
//             OUT_BF16    0: out is f32, 1: out is bf16
//   kernel    product(weight_map, x_map, bias, residual, out, tokens, rows, columns, workspace)
//   grid      (SPLIT * ceil(rows / ROWS), 1, 1);  block (128 * WARPGROUPS + 64, 1, 1);  no cluster
//   shared    STAGES * (128 * ROWS + 16) + X_STAGES * (128 * TOKENS + 16) bytes, dynamic
//   maps      bf16, swizzle 128B, no interleave, zero fill, L2 promotion 256B, element strides 1
//             x       dims {columns, tokens}, strides {2 * columns} bytes, box {64, TOKENS}
//             weight  dims {columns, rows}, strides {2 * columns}, box {64, ROWS}
//             weight, GATED  dims {columns, 8, 2, rows / 16}, strides {2 * columns, rows * columns, 16 * columns},
//                     box {64, 8, 2, ROWS / 16}
//   bias      f32 [rows] or null;  residual f32 [tokens, width] or null, may be out itself (f32)
//   out       f32 or bf16 [tokens, width], width = GATED ? rows / 2 : rows
//   workspace 4 * SPLIT * TOKENS * ROWS * ceil(rows / ROWS) bytes, not touched when SPLIT is 1. All its bytes must be
//             0xFF before the first launch, and every launch leaves them so: kernels that follow each other on one stream
//             share one workspace (of the largest size), kernels that may overlap (two streams) must not.
//   shapes    tokens 1..=TOKENS; any rows (GATED a multiple of 16); columns a multiple of 8; any sizes otherwise
//   align     weight, x and workspace 16 bytes; shared memory starts at a multiple of 1024 (no static shared memory)
//   launch    attribute programmatic stream serialization is optional
//   The SPLIT blocks of a tile, neighbours in the grid, wait for each other: SPLIT blocks must fit the GPU at once.
//   choices   (H100, 64 tokens; STAGES 12, X_STAGES 6, one block a SM) the grid should just fill the SMs:
//             gated 2048 -> 16512 WARPGROUPS 2, SPLIT 1, STAGES 8;  down 8256 -> 2048 and o 2048 -> 2048 1, 4;
//             q|k|v 2048 -> 4096 and 12288 -> 4096 1, 2;  4096 -> 6144 1, 1;  gated 4096 -> 24576 as the first

extern "C" __global__ void __launch_bounds__(THREADS, 1)
product(const __grid_constant__ TensorMap weight_map, const __grid_constant__ TensorMap x_map,
        const float* bias, const float* residual, void* out, int tokens, int rows, int columns, float4* workspace) {
    extern __shared__ __align__(1024) unsigned char memory[];
    u32 weights = shared_address(memory);
    u32 xs = weights + STAGES * WEIGHT_BYTES;
    u32 weight_full = xs + X_STAGES * X_BYTES, weight_empty = weight_full + STAGES * 8;
    u32 x_full = weight_empty + STAGES * 8, x_empty = x_full + X_STAGES * 8;

    int rank = blockIdx.x % SPLIT;
    int tile = blockIdx.x / SPLIT;
    int blocks = (columns + BLOCK - 1) / BLOCK;
    int first = blocks * rank / SPLIT, count = blocks * (rank + 1) / SPLIT - first;

    if (threadIdx.x == WEIGHT_THREAD) {
        for (int s = 0; s < STAGES; s++) barrier_init(weight_full + 8 * s, 1), barrier_init(weight_empty + 8 * s, WARPGROUPS);
        barriers_are_ready();
    }
    if (threadIdx.x == X_THREAD) {
        for (int s = 0; s < X_STAGES; s++) barrier_init(x_full + 8 * s, 1), barrier_init(x_empty + 8 * s, WARPGROUPS);
        barriers_are_ready();
    }
    __syncthreads();
    let_successor_start();

    if (threadIdx.x == WEIGHT_THREAD) {     // depends on no kernel in front, so it waits for none
        u64 once = evict_first();
        Place<STAGES> to;
        for (int i = 0; i < count; i++, to.next()) {
            u32 full = weight_full + 8 * to.stage;
            if (i >= STAGES) barrier_wait(weight_empty + 8 * to.stage, to.parity ^ 1);
            barrier_expect(full, WEIGHT_BYTES);
            copy_weight(weights + to.stage * WEIGHT_BYTES, weight_map, (first + i) * BLOCK, tile, full, once);
        }
    }
    if (threadIdx.x == X_THREAD) {
        prefetch_map(x_map);
        wait_for_predecessor();
        u64 again = evict_last();
        Place<X_STAGES> to;
        for (int i = 0; i < count; i++, to.next()) {
            u32 full = x_full + 8 * to.stage;
            if (i >= X_STAGES) barrier_wait(x_empty + 8 * to.stage, to.parity ^ 1);
            barrier_expect(full, X_BYTES);
            copy_x(xs + to.stage * X_BYTES, x_map, (first + i) * BLOCK, full, again);
        }
    }
    if (threadIdx.x >= CONSUMERS) return;
    wait_for_predecessor();

    Results asked = results(tile, rank, bias, residual, tokens, rows);
    float4 sums[GROUPS];
#pragma unroll
    for (int g = 0; g < GROUPS; g++) sums[g] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    Place<STAGES> at;
    Place<X_STAGES> x_at;
    int done = 0, x_done = 0;
    u32 own_weights = weights + threadIdx.x / 128 * 8192;
    for (int i = 0; i < count; i++) {
        barrier_wait(weight_full + 8 * at.stage, at.parity);
        barrier_wait(x_full + 8 * x_at.stage, x_at.parity);
        u64 a = tile_descriptor(own_weights + at.stage * WEIGHT_BYTES);
        u64 b = tile_descriptor(xs + x_at.stage * X_BYTES);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < BLOCK / 16; k++) wgmma_step(sums, a + 2 * k, b + 2 * k);   // 32 bytes on in the swizzled row
        wgmma_commit();
        if (i > 0) {
            wgmma_wait<1>();
            if (threadIdx.x % 128 == 0) barrier_arrive(weight_empty + 8 * done), barrier_arrive(x_empty + 8 * x_done);
        }
        done = at.stage, x_done = x_at.stage;
        at.next(), x_at.next();
    }
    wgmma_wait<0>();
#pragma unroll
    for (int g = 0; g < GROUPS; g++) asm volatile("" : F4(sums[g])::"memory");

    finish(asked, sums, out, tokens, workspace);
}

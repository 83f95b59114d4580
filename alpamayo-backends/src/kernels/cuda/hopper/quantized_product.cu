// Products of 9 to 64 rows (tokens) with a weight of 8 or 4 bits that is streamed once from memory. few_tokens.cu goes in front.
//
// As there, but that the weight, the wgmma's A, is widened in registers: a code becomes a bf16 by its bits. Steps are not:
// every block of 32 columns has sums of its own, which are multiplied by the block's step in f32 and added to the row's. While
// one block's products run, the sums of the block before are added, and the next block's codes widened.
//
// The weight's map sees rows of 16-bit elements. A tile of codes is 128 bytes wide: two groups of 128 columns of 4 bits, one of
// 8 bits. Where they lie in it is told in layers/quantized.rs. The steps of all of a block's columns come first, in boxes of
// 128 bytes, 16 groups.
//
// LAUNCH CONTRACT, where it differs from product.cu's
//   macros    additionally BITS, 8 or 4
//   kernel    quantized_product, the same parameters
//   shared    additionally STEP_BOXES * 128 * ROWS + 8 bytes, where STEP_BOXES are the boxes of the largest part of the columns:
//             groups = ceil(columns / 128), boxes = ceil(2 * ceil(ceil(groups / 2) / SPLIT) / 16)
//   maps      weight  as if of bf16, with as many columns as a row has elements of 16 bits

constexpr int GROUP = 128;                          // columns
constexpr int UNIT_GROUPS = BITS == 4 ? 2 : 1;      // of a tile of codes
constexpr int PART_GROUPS = 2;                      // whose steps are 16 bytes: what the copy engine's columns are multiples of
constexpr int BOX_GROUPS = 16;                      // of a box of steps
constexpr int GROUP_ELEMENTS = GROUP * BITS / 16, STEP_ELEMENTS = 4; // of a row, for the map
constexpr u32 EVERY_128 = 0x43004300u;              // of two bf16, whose lowest bits then count ones

__device__ __forceinline__ uint4 load_words(u32 from) {
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(from) : "memory");
    return v;
}

__device__ __forceinline__ uint2 load_steps(u32 from) {
    uint2 v;
    asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(from) : "memory");
    return v;
}

__device__ __forceinline__ u32 word_of(const uint4& v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

// The step of a block among a group's four.
__device__ __forceinline__ float step_of(uint2 steps, int block) {
    float v;
    u32 both = block / 2 ? steps.y : steps.x;
    if (block % 2) asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %1;\ncvt.f32.f16 %0, high;\n}" : "=f"(v) : "r"(both));
    else asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %1;\ncvt.f32.f16 %0, low;\n}" : "=f"(v) : "r"(both));
    return v;
}

// A lane's pair of codes, in the low bits of both halves once the word is shifted, as bf16.
__device__ __forceinline__ u32 widened(u32 word, u32 shift) {
    u32 v, pair = word >> shift;
#if BITS == 4
    u32 codes = (pair & 0x000F000Fu) | EVERY_128, offset = 0xC308C308u;             // -136
#else
    u32 codes = (pair & 0x007F007Fu) | EVERY_128;                                   // what is -128 where the code's offset isn't in it
    u32 offset = (~pair & 0x00800080u) | EVERY_128 | 0x80008000u;                   // -128 or -256
#endif
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(v) : "r"(codes), "r"(0x3F803F80u), "r"(offset));
    return v;
}

// A lane's codes and steps of a group of columns. Lane 4 g + q widens columns 2 q and 2 q + 1 of every eight, of rows g and g + 8
// of its warp's 16.
struct Codes {
    u32 weights, steps_at, full, empty;
    int first, end;
    u32 lane_row, g, shift, swizzle;
    Place<STAGES> at;
    uint4 words[2][4];  // of both rows, by eights of the blocks
    uint2 steps[2];

    __device__ __forceinline__ Codes(u32 weights, u32 steps_at, u32 full, u32 empty, int first, int end)
        : weights(weights), steps_at(steps_at), full(full), empty(empty), first(first), end(end) {
        u32 q = threadIdx.x % 4;
        g = threadIdx.x % 32 / 4;
        lane_row = threadIdx.x / 32 * 2048 + g * 128;
        shift = BITS == 4 ? 4 * q : 8 * (q % 2);
        swizzle = BITS == 4 ? g : g ^ (q / 2 * 4);  // with 8 bits a chunk has half of the eight
    }

    // Waits for a tile where the group is its first one, and gives it back where it is the last one.
    __device__ __forceinline__ void load(int group) {
        bool begins = UNIT_GROUPS == 1 || group % 2 == 0, ends = UNIT_GROUPS == 1 || group % 2 == 1 || group + 1 == end;
        if (begins) barrier_wait(full + 8 * at.stage, at.parity);
        u32 from = weights + at.stage * WEIGHT_BYTES + lane_row, chunk = UNIT_GROUPS == 1 ? 0 : group % 2 * 4;
#pragma unroll
        for (int eight = 0; eight < 4; eight++) {
            u32 place = ((chunk + eight) ^ swizzle) * 16;
            words[0][eight] = load_words(from + place), words[1][eight] = load_words(from + 1024 + place);
        }
        u32 of_box = (group - first) % BOX_GROUPS;
        u32 place = steps_at + (group - first) / BOX_GROUPS * WEIGHT_BYTES + lane_row + ((of_box / 2) ^ g) * 16 + of_box % 2 * 8;
        steps[0] = load_steps(place), steps[1] = load_steps(place + 1024);
        if (ends) {
            __syncwarp();
            if (threadIdx.x % 32 == 0) barrier_arrive(empty + 8 * at.stage);
            at.next();
        }
    }

    // The wgmma's A of a block: rows g and g + 8 in the first eight columns, then in the second eight.
    __device__ __forceinline__ void widen(u32 (&a)[2][4], int block) const {
#pragma unroll
        for (int k = 0; k < 2; k++)
#pragma unroll
            for (int i = 0; i < 4; i++) a[k][i] = widened(word_of(words[i % 2][2 * k + i / 2], block), shift);
    }
};

// sums[64 x TOKENS] = a[64 x 16] * b[TOKENS x 16]^T, or += where there is something to add to
__device__ __forceinline__ void wgmma_widened(float4 (&d)[GROUPS], const u32 (&a)[4], u64 b, int add) {
#if TOKENS == 64
    asm volatile(
        "{\n.reg .pred add;\nsetp.ne.b32 add, %37, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, %36, add, 1, 1, 0;\n}"
        : F4(d[0]), F4(d[1]), F4(d[2]), F4(d[3]), F4(d[4]), F4(d[5]), F4(d[6]), F4(d[7])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
#elif TOKENS == 32
    asm volatile(
        "{\n.reg .pred add;\nsetp.ne.b32 add, %21, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, {%16, %17, %18, %19}, %20, add, 1, 1, 0;\n}"
        : F4(d[0]), F4(d[1]), F4(d[2]), F4(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
#else
    asm volatile(
        "{\n.reg .pred add;\nsetp.ne.b32 add, %13, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7}, {%8, %9, %10, %11}, %12, add, 1, 1, 0;\n}"
        : F4(d[0]), F4(d[1]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
#endif
}

// The products of a block that has ended, times its steps, of row n and row n + 8.
__device__ __forceinline__ void add_block(float4 (&sums)[GROUPS], float4 (&block)[GROUPS], float step, float step_8) {
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
        asm volatile("" : F4(block[g])::"memory");
        sums[g].x += block[g].x * step, sums[g].y += block[g].y * step;
        sums[g].z += block[g].z * step_8, sums[g].w += block[g].w * step_8;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
quantized_product(const __grid_constant__ TensorMap weight_map, const __grid_constant__ TensorMap x_map,
                  const float* bias, const float* residual, void* out, int tokens, int rows, int columns, float4* workspace) {
    extern __shared__ __align__(1024) unsigned char memory[];
    int rank = blockIdx.x % SPLIT;
    int tile = blockIdx.x / SPLIT;
    int groups = (columns + GROUP - 1) / GROUP, pairs = (groups + PART_GROUPS - 1) / PART_GROUPS;
    int first = pairs * rank / SPLIT * PART_GROUPS, end = min(pairs * (rank + 1) / SPLIT * PART_GROUPS, groups);
    int step_boxes = ((pairs + SPLIT - 1) / SPLIT * PART_GROUPS + BOX_GROUPS - 1) / BOX_GROUPS;

    u32 steps = shared_address(memory);
    u32 weights = steps + step_boxes * WEIGHT_BYTES;
    u32 xs = weights + STAGES * WEIGHT_BYTES;
    u32 weight_full = xs + X_STAGES * X_BYTES, weight_empty = weight_full + STAGES * 8;
    u32 x_full = weight_empty + STAGES * 8, x_empty = x_full + X_STAGES * 8;
    u32 steps_full = x_empty + X_STAGES * 8;

    if (threadIdx.x == WEIGHT_THREAD) {
        for (int s = 0; s < STAGES; s++) barrier_init(weight_full + 8 * s, 1), barrier_init(weight_empty + 8 * s, CONSUMERS / 32);
        barrier_init(steps_full, 1);
        barriers_are_ready();
    }
    if (threadIdx.x == X_THREAD) {
        for (int s = 0; s < X_STAGES; s++) barrier_init(x_full + 8 * s, 1), barrier_init(x_empty + 8 * s, CONSUMERS / 32);
        barriers_are_ready();
    }
    __syncthreads();
    let_successor_start();

    if (threadIdx.x == WEIGHT_THREAD) {     // depends on no kernel in front, so it waits for none
        u64 once = evict_first();
        barrier_expect(steps_full, step_boxes * WEIGHT_BYTES);
        for (int i = 0; i < step_boxes; i++)
            copy_weight(steps + i * WEIGHT_BYTES, weight_map, groups * GROUP_ELEMENTS + (first + i * BOX_GROUPS) * STEP_ELEMENTS, tile,
                        steps_full, once);
        Place<STAGES> to;
        for (int group = first, i = 0; group < end; group += UNIT_GROUPS, i++, to.next()) {
            u32 full = weight_full + 8 * to.stage;
            if (i >= STAGES) barrier_wait(weight_empty + 8 * to.stage, to.parity ^ 1);
            barrier_expect(full, WEIGHT_BYTES);
            copy_weight(weights + to.stage * WEIGHT_BYTES, weight_map, group * GROUP_ELEMENTS, tile, full, once);
        }
    }
    if (threadIdx.x == X_THREAD) {
        prefetch_map(x_map);
        wait_for_predecessor();
        u64 again = evict_last();
        Place<X_STAGES> to;
        for (int i = 2 * first; i < 2 * end; i++, to.next()) {
            u32 full = x_full + 8 * to.stage;
            if (i - 2 * first >= X_STAGES) barrier_wait(x_empty + 8 * to.stage, to.parity ^ 1);
            barrier_expect(full, X_BYTES);
            copy_x(xs + to.stage * X_BYTES, x_map, i * BLOCK, full, again);
        }
    }
    if (threadIdx.x >= CONSUMERS) return;
    wait_for_predecessor();

    // With one part there are more results than registers beside the products.
    Results asked;
    if (SPLIT > 1) asked = results(tile, rank, bias, residual, tokens, rows);
    float4 sums[GROUPS], block_sums[2][GROUPS];
#pragma unroll
    for (int g = 0; g < GROUPS; g++) sums[g] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    Codes codes(weights, steps, weight_full, weight_empty, first, end);
    barrier_wait(steps_full, 0);
    u32 left[2][2][4] = {};                 // of this block and the next one, for two steps of 16 columns each
    if (first < end) codes.load(first), codes.widen(left[0], 0);
    float step = 0.0f, step_8 = 0.0f;       // of the block before
    Place<X_STAGES> x_at;
    for (int group = first; group < end; group++) {
#pragma unroll
        for (int block = 0; block < 4; block++) {
            if (block % 2 == 0) barrier_wait(x_full + 8 * x_at.stage, x_at.parity);
            u64 x = tile_descriptor(xs + x_at.stage * X_BYTES) + block % 2 * 4;
            float next_step = step_of(codes.steps[0], block), next_step_8 = step_of(codes.steps[1], block);
            wgmma_fence();
            wgmma_widened(block_sums[block % 2], left[block % 2][0], x, 0);
            wgmma_widened(block_sums[block % 2], left[block % 2][1], x + 2, 1);
            wgmma_commit();
            if (block == 3 && group + 1 < end) codes.load(group + 1);
            codes.widen(left[(block + 1) % 2], (block + 1) % 4);
            if (block > 0) add_block(sums, block_sums[(block + 1) % 2], step, step_8);
            step = next_step, step_8 = next_step_8;
            wgmma_wait<0>();
            if (block % 2 == 1) {
                if (threadIdx.x % 32 == 0) barrier_arrive(x_empty + 8 * x_at.stage);
                x_at.next();
            }
        }
        add_block(sums, block_sums[1], step, step_8); // not in the next round: the compiler would wait for the products first
    }
    if (SPLIT == 1) asked = results(tile, rank, bias, residual, tokens, rows);
    finish(asked, sums, out, tokens, workspace);
}

// Product of 2 to 8 rows (tokens) with a matrix of weights of 8 or 4 bits, at the speed the weights arrive from memory:
//
//   out[t][n] = residual[t][n] + activation(sum_k norm(x[t])[k] * weights[n][k] + bias[n])
//   GATED: out[t][n] = residual[t][n] + activation(gate) * up, gate from weights' row n, up from row outputs + n
//
// As quantized_row_product.cu, which takes one row and tells how weights lie, but for the tensor core's operands: the left one
// is 16 weight rows (GATED: eight of the gate, then the same ones of up), the right one a limb of all tokens. The three limbs'
// sums over a block are put together and multiplied by the block's step in f32. A multiprocessor has room for one block, and
// blocks take batches of weight rows in turn.
//
// Rows that are longer than a block's threads have registers for are shared by PARTS blocks, which take the same outputs in the
// same order. One of them, another for every batch, finishes: the others send it their sums through the workspace, where the
// data is its own flag.
//
// The source is weight_ring.cu, few_bits.cu and this file, one after the other, as one translation unit.
//
// Launch
//   grid      a multiple of PARTS; as many blocks as multiprocessors (132). All must fit the GPU at once where PARTS > 1
//   block     THREADS + 32
//   shared    STAGES * (16 * bytes of a row, or of its part, + 64 * TOKENS * (WARPS + 4)) + 256 * TOKENS * WARPS bytes, dynamic, WARPS = THREADS / 32
//   attribute programmatic stream serialization allowed (and useful); right without it too. Dependents are launched
//             at once
//   shapes    x [TOKENS, COLUMNS], out and residual [TOKENS, outputs], outputs >= 1
//   alignment 16 bytes for x, norm and weights; 4 for the others. bias, norm, residual may be null;
//             residual may be out. GATED: weights and bias have 2 * outputs rows (gate, then up)
//             Where PARTS > 1 norm must be null
//   workspace where PARTS > 1: 128 * PARTS * ceil(16 * TOKENS / 32) bytes for every 16 outputs, all 0xFF, which the launch leaves so;
//             shared with launches that don't run at the same time
// Macros
//   BITS      8 or 4
//   TOKENS    2 to 8
//   COLUMNS   of x, a multiple of 8
//   PARTS     COLUMNS / (8 * THREADS), rounded up; 1 where GATED
//   STAGES    stages of the ring, at least 2
//   GATED     1: gated; 0: not
//   ACTIVATION 0: none, 1: GELU (tanh), 2: SiLU
//   THREADS   threads that multiply (512)

constexpr int WARPS = THREADS / 32;
constexpr int ROWS = 16;                         // of weights, per stage
constexpr int UNITS = GATED ? ROWS / 2 : ROWS;   // outputs per stage
constexpr int RESULTS = (UNITS * TOKENS + 31) / 32; // of a lane of the last warp, per stage
constexpr int SUM_STRIDE = WARPS + 4;            // floats; the lanes' reads spread over the banks
constexpr int PART_COLUMNS = 8 * THREADS;
static_assert((COLUMNS + PART_COLUMNS - 1) / PART_COLUMNS == PARTS && (PARTS == 1 || !GATED), "a thread has eight columns");
static_assert(TOKENS >= 2 && TOKENS <= 8 && WARPS % 4 == 0, "the tensor core has eight columns");

constexpr int PART_GROUPS = PARTS == 1 ? GROUPS : PART_COLUMNS / GROUP;
constexpr unsigned STEPS_AT = PART_GROUPS * GROUP_BYTES; // of a row in the ring
constexpr unsigned RING_ROW_BYTES = PARTS == 1 ? ROW_BYTES : PART_GROUPS * (GROUP_BYTES + STEP_BYTES);
constexpr int BLOCKS = 8;                        // of 32 columns, of a warp
constexpr unsigned EMPTY = 0xffffffffu;          // in the workspace: a NaN that no sum is

// A limb's sums over a block, of weight rows g and g + 8 with two tokens each.
__device__ __forceinline__ void multiply(float (&sums)[4], const unsigned (&a)[4], uint2 b) {
    unsigned d[4];
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %10, %10, %10};"
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y), "r"(MAGIC_BITS));
#pragma unroll
    for (int i = 0; i < 4; i++) sums[i] = __uint_as_float(d[i]) - MAGIC;
}

__device__ __forceinline__ void send(float* slot, float v) {
    unsigned bits = __float_as_uint(v) == EMPTY ? 0x7fffffffu : __float_as_uint(v);
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(slot), "r"(bits) : "memory");
}

// Waits for a sum, and leaves its place empty.
__device__ __forceinline__ float receive(float* slot) {
    unsigned bits;
    do {
        asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(bits) : "l"(slot) : "memory");
    } while (bits == EMPTY);
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(slot), "r"(EMPTY) : "memory");
    return __uint_as_float(bits);
}

// The sum of the warps' sums.
__device__ __forceinline__ float sum_of_warps(const float4* from) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < WARPS / 4; i++) sum += (from[i].x + from[i].y) + (from[i].z + from[i].w);
    return sum;
}

extern "C" __global__ void __launch_bounds__(THREADS + 32, 1)
quantized_rows_product(const float* x, const unsigned char* weights, const float* norm, const float* bias, const float* residual,
                       float* out, float* workspace, int outputs, float epsilon) {
    extern __shared__ __align__(128) unsigned char ring[];
    __shared__ __align__(8) u64 full[STAGES];
    __shared__ __align__(8) u64 empty[STAGES];
    __shared__ int batch_of[STAGES];                 // what a stage holds: outputs [batch, batch + 1) * UNITS, or the end
    __shared__ float squares[WARPS][TOKENS];
    using Partials = float4[ROWS * TOKENS * SUM_STRIDE / 4]; // row in the stage, token, warp
    Partials* partials = reinterpret_cast<Partials*>(ring + STAGES * ROWS * RING_ROW_BYTES);
    using Limb = uint2[TOKENS][32];                  // one limb of a warp's columns, by the lanes that wrote it
    Limb* limb_of = reinterpret_cast<Limb*>(partials + STAGES);

    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int part = blockIdx.x % PARTS, first_group = part * PART_GROUPS, part_groups = min(PART_GROUPS, GROUPS - first_group);

    if (warp == WARPS) { // streams the weights and finishes the sums
        int batches = (outputs + UNITS - 1) / UNITS, blocks = gridDim.x / PARTS, index = blockIdx.x / PARTS;
        u64 policy;
        asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
        auto issue = [&](int slot, int batch) {
            unsigned barrier = shared_address(&full[slot]), to = shared_address(ring) + slot * ROWS * RING_ROW_BYTES;
            if (batch >= batches) {
                if (lane == 0) batch_of[slot] = END, barrier_arrive(barrier);
                return;
            }
            int units = min(UNITS, outputs - batch * UNITS);
            unsigned code_bytes = part_groups * GROUP_BYTES, step_bytes = (part_groups + 1) / 2 * 2 * STEP_BYTES;
            const unsigned char* from = weights + static_cast<size_t>(batch) * UNITS * ROW_BYTES;
            if (lane == 0) {
                batch_of[slot] = batch;
                barrier_expect(barrier, units * (PARTS > 1 ? code_bytes + step_bytes : ROW_BYTES * (GATED ? 2 : 1)));
            }
            __syncwarp();
            if (PARTS == 1 && lane == 0) {
                copy_to_shared(to, from, units * ROW_BYTES, barrier, policy);
                if (GATED) copy_to_shared(to + UNITS * ROW_BYTES, from + static_cast<size_t>(outputs) * ROW_BYTES, units * ROW_BYTES, barrier, policy);
            }
            if (PARTS > 1 && lane % ROWS < units) { // half of the lanes copy codes, the others steps
                from += lane % ROWS * ROW_BYTES, to += lane % ROWS * RING_ROW_BYTES;
                if (lane < ROWS) copy_to_shared(to, from + first_group * GROUP_BYTES, code_bytes, barrier, policy);
                else copy_to_shared(to + STEPS_AT, from + CODE_BYTES + first_group * STEP_BYTES, step_bytes, barrier, policy);
            }
        };
        if (lane == 0) {
            for (int slot = 0; slot < STAGES; slot++) {
                barrier_init(shared_address(&full[slot]), 1);
                barrier_init(shared_address(&empty[slot]), WARPS);
            }
            asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
            asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        }
        __syncwarp();
        for (int slot = 0; slot < STAGES; slot++) issue(slot, slot * blocks + index);
        asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
        int next = blocks * STAGES + index; // the batch after those in the ring
        __syncthreads();
        asm volatile("griddepcontrol.wait;" ::: "memory");

        float scale[RESULTS];
        for (int round = 0; ; round++) {
#pragma unroll 1
            for (int slot = 0; slot < STAGES; slot++) {
                int batch = batch_of[slot];
                if (batch == END) return;
                // Lane and result tell token and output.
                float added[RESULTS], first_bias[RESULTS], up_bias[RESULTS], value[RESULTS], up[RESULTS];
#pragma unroll
                for (int i = 0; i < RESULTS; i++) {
                    int token = (i * 32 + lane) / UNITS, n = batch * UNITS + lane % UNITS;
                    bool inside = token < TOKENS && n < outputs;
                    added[i] = residual && inside ? load_fresh(residual + static_cast<size_t>(token) * outputs + n) : 0.0f;
                    first_bias[i] = bias && inside ? bias[n] : 0.0f;
                    up_bias[i] = GATED && bias && inside ? bias[outputs + n] : 0.0f;
                }
                barrier_wait(shared_address(&empty[slot]), round & 1);
#pragma unroll
                for (int i = 0; i < RESULTS; i++) {
                    int token = min((i * 32 + lane) / UNITS, TOKENS - 1), unit = lane % UNITS;
                    value[i] = sum_of_warps(partials[slot] + (unit * TOKENS + token) * (SUM_STRIDE / 4));
                    up[i] = GATED ? sum_of_warps(partials[slot] + ((UNITS + unit) * TOKENS + token) * (SUM_STRIDE / 4)) : 0.0f;
                    if (round == 0 && slot == 0) {
                        float total = 0.0f;
                        for (int w = 0; w < WARPS && norm; w++) total += squares[w][token];
                        scale[i] = norm ? 1.0f / sqrtf(total / COLUMNS + epsilon) : 1.0f;
                    }
                }
                __syncwarp();
                issue(slot, next);
                next += blocks;
                __syncwarp();
                if (PARTS > 1) { // put together in the parts' order
                    float* slots = workspace + static_cast<size_t>(batch) * PARTS * RESULTS * 32 + lane;
                    bool finishes = batch % PARTS == part;
#pragma unroll
                    for (int i = 0; i < RESULTS; i++) {
                        float own = value[i];
                        if (!finishes) send(slots + (part * RESULTS + i) * 32, own);
                        else value[i] = 0.0f;
                        for (int p = 0; p < PARTS && finishes; p++) value[i] += p == part ? own : receive(slots + (p * RESULTS + i) * 32);
                    }
                    if (!finishes) continue;
                }
#pragma unroll
                for (int i = 0; i < RESULTS; i++) {
                    int token = (i * 32 + lane) / UNITS, n = batch * UNITS + lane % UNITS;
                    float v = activation(value[i] * scale[i] + first_bias[i]);
                    if (GATED) v *= up[i] * scale[i] + up_bias[i];
                    if (token < TOKENS && n < outputs) out[static_cast<size_t>(token) * outputs + n] = added[i] + v;
                }
            }
        }
    }

    // A lane loads four columns of each of a warp's two groups.
    int q = lane % 4, token_of_operand = min(lane / 4, TOKENS - 1);
    auto column_of = [&](int half) { return part * PART_COLUMNS + warp * 256 + half * 128 + lane * 4; };
    float4 norms[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        norms[half] = make_float4(1.0f, 1.0f, 1.0f, 1.0f);
        if (norm && column_of(half) < COLUMNS) norms[half] = *reinterpret_cast<const float4*>(norm + column_of(half));
    }
    __syncthreads();
    asm volatile("griddepcontrol.wait;" ::: "memory");
    float values[TOKENS][8]; // norm(x), but for the common factor
#pragma unroll
    for (int t = 0; t < TOKENS; t++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (column_of(half) < COLUMNS) v = load_fresh4(x + t * COLUMNS + column_of(half));
            values[t][4 * half] = v.x, values[t][4 * half + 1] = v.y, values[t][4 * half + 2] = v.z, values[t][4 * half + 3] = v.w;
        }
    }
    float back[2] = {}; // what this lane's sums of two tokens are multiplied by
#pragma unroll
    for (int t = 0; t < TOKENS; t++) {
        if (norm) {
            float sum = 0.0f;
#pragma unroll
            for (int j = 0; j < 8; j++) sum += values[t][j] * values[t][j];
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float* v = values[t] + 4 * half;
                v[0] *= norms[half].x, v[1] *= norms[half].y, v[2] *= norms[half].z, v[3] *= norms[half].w;
            }
            sum = sum_of_warp(sum);
            if (lane == 0) squares[warp][t] = sum;
        }
        unsigned largest = __float_as_uint(SMALLEST); // as bits, so that what is no number is the largest
#pragma unroll
        for (int j = 0; j < 8; j++) largest = max(largest, __float_as_uint(values[t][j]) & 0x7fffffffu);
        float scale = __fdividef(LARGEST, __uint_as_float(__reduce_max_sync(~0u, largest)));
#pragma unroll
        for (int j = 0; j < 8; j++) values[t][j] = __uint_as_float(integer(values[t][j], scale));
        if (t / 2 == q) back[t % 2] = 1.0f / (scale * CODE_SCALE);
    }
    // From columns to limbs: lane 4 t + q multiplies token t's.
    uint2 right[LIMBS][BLOCKS];
#pragma unroll
    for (int limb = 0; limb < LIMBS; limb++) {
        __syncwarp();
#pragma unroll
        for (int t = 0; t < TOKENS; t++) {
            auto byte_of = [&](int a, int b, int c, int d) {
                unsigned at = limb * 0x11 + 0x40; // the limb's byte of the first, then of the second
                unsigned low = __byte_perm(__float_as_uint(values[t][a]), __float_as_uint(values[t][b]), at);
                unsigned high = __byte_perm(__float_as_uint(values[t][c]), __float_as_uint(values[t][d]), at);
                return __byte_perm(low, high, 0x5410) ^ 0x80808080u;
            };
            unsigned* to = reinterpret_cast<unsigned*>(limb_of[warp][t]) + lane;
#pragma unroll
            for (int i = 0; i < 8; i += 4) to[8 * i] = BITS == 8 ? byte_of(i, i + 2, i + 1, i + 3) : byte_of(i, i + 1, i + 2, i + 3);
        }
        __syncwarp();
#pragma unroll
        for (int block = 0; block < BLOCKS; block++) {
            uint2 v = limb_of[warp][token_of_operand][4 * block + q];
            right[limb][block] = BITS == 8 ? v : make_uint2(__byte_perm(v.x, v.y, 0x5140), __byte_perm(v.x, v.y, 0x7362));
        }
    }

    // Past the end of the row x is zero, and any codes will do.
    int group = min(warp * 2, (part_groups - 1) / 2 * 2), group_1 = min(group + 1, part_groups - 1);
    for (int slot = 0, parity = 0;;) {
        unsigned row = shared_address(ring) + (slot * ROWS + lane / 4) * RING_ROW_BYTES, row_8 = row + 8 * RING_ROW_BYTES;
        float sums[4] = {};
        barrier_wait(shared_address(&full[slot]), parity);
        if (batch_of[slot] == END) return;
        uint4 steps = load_shared(row + STEPS_AT + group * STEP_BYTES), steps_8 = load_shared(row_8 + STEPS_AT + group * STEP_BYTES);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            unsigned at = (half ? group_1 : group) * GROUP_BYTES + q * 16;
            uint4 codes = load_shared(row + at), codes_8 = load_shared(row_8 + at), more = codes, more_8 = codes_8;
            if (BITS == 8) more = load_shared(row + at + GROUP_BYTES / 2), more_8 = load_shared(row_8 + at + GROUP_BYTES / 2);
#pragma unroll
            for (int block = 0; block < 4; block++) {
                unsigned word = word_of(codes, block), word_8 = word_of(codes_8, block);
                unsigned a[4] = {first_codes(word), first_codes(word_8), second_codes(word, word_of(more, block)),
                                 second_codes(word_8, word_of(more_8, block))};
                float limbs[LIMBS][4];
#pragma unroll
                for (int limb = 0; limb < LIMBS; limb++) multiply(limbs[limb], a, right[limb][4 * half + block]);
                float2 both = steps_of(word_of(steps, 2 * half + block / 2)), both_8 = steps_of(word_of(steps_8, 2 * half + block / 2));
                float step = block % 2 ? both.y : both.x, step_8 = block % 2 ? both_8.y : both_8.x;
#pragma unroll
                for (int i = 0; i < 4; i++)
                    sums[i] += fmaf(fmaf(limbs[2][i], 256.0f, limbs[1][i]), 256.0f, limbs[0][i]) * (i < 2 ? step : step_8);
            }
        }
        float* partial = reinterpret_cast<float*>(partials[slot]);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int token = 2 * q + i % 2;
            if (token < TOKENS) partial[((lane / 4 + i / 2 * 8) * TOKENS + token) * SUM_STRIDE + warp] = sums[i] * back[i % 2];
        }
        __syncwarp();
        if (lane == 0) barrier_arrive(shared_address(&empty[slot]));
        if (++slot == STAGES) slot = 0, parity ^= 1;
    }
}

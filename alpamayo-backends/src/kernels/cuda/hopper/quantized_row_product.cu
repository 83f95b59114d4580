// Product of one row with a matrix of weights of 8 or 4 bits, at the speed the weights arrive from memory:
//
//   out[n] = residual[n] + activation(sum_k norm(x)[k] * weights[n][k] + bias[n])
//   GATED: out[n] = residual[n] + activation(gate) * up, gate from weights' row n, up from row outputs + n
//
// As row_product.cu, which takes bf16 weights: a persistent block per multiprocessor, whose last warp streams batches of
// weight rows through a ring in shared memory and finishes their sums; the others own parts of the columns and keep their
// part of x in registers. Batches behind those that fit the ring are drawn from a counter.
//
// The products are the tensor cores', in integers: codes are taken as they are. A warp writes its part of x as integers of
// 23 bits, relative to its largest magnitude, and those as three signed bytes, limbs. Columns 0, 2, 4 of the tensor core's
// right operand are the limbs of one block of 32 columns, columns 1, 3, 5 those of the next one; rows 0 to 7 of the left
// operand are the codes of eight weight rows in the first block, rows 8 to 15 those in the second one. So lane q of every four
// finds limb q of both blocks' sums in its first and its last result. Sums over a block are exact, and are multiplied by
// the block's step in f32.
//
// A row of weights, as layers/quantized.rs has it: groups of 128 columns, four blocks, in chunks of four words, one per
// block; chunk c holds columns 8 (c % 4) to 8 (c % 4) + 7 of every block, of 8 bits the first four of them in chunk c < 4 and
// the others in c + 4; columns 2 i and 2 i + 1 of a word are 16 bits apart. Then the steps, an f16 per block. Rows are
// multiples of 32 bytes.
//
// The source is weight_ring.cu, few_bits.cu and this file, one after the other, as one translation unit.
//
// Launch
//   grid      any; as many blocks as multiprocessors (132)
//   block     THREADS + 32
//   shared    STAGES * ROWS * bytes of a row in the ring, dynamic; leave room for the neighbouring kernel's block. PARTS 1: the
//             row as it is; else SLICES * 2 * WARPS groups with their steps, rounded up to multiples of 128 bytes, and 64 more
//   attribute programmatic stream serialization allowed (and useful); right without it too. Dependents are launched
//             at once
//   shapes    outputs >= 1
//   alignment 16 bytes for x, norm and weights; 4 for the others. bias, norm, residual may be null;
//             residual may be out. GATED: weights and bias have 2 * outputs rows (gate, then up)
//   counter   one zero, which the launch leaves zero; not shared with a launch that may run at the same time
// Macros
//   BITS      8 or 4
//   COLUMNS   of x, a multiple of 8
//   ROWS      weight rows per batch (GATED: of gate and up together): 8 or 16
//   PARTS     stages that the columns of a batch take: 1 for rows of which enough fit the ring
//   STAGES    stages of the ring, at least 2
//   GATED     1: gated; 0: not
//   ACTIVATION 0: none, 1: GELU (tanh), 2: SiLU
//   THREADS   threads that multiply, a multiple of 128 (256)

constexpr int WARPS = THREADS / 32;
constexpr int UNITS = GATED ? ROWS / 2 : ROWS;   // outputs per batch
constexpr int TILES = ROWS / 8;                  // of eight weight rows, which a product of the tensor core takes
constexpr int SHARERS = 32 / ROWS;               // lanes that add up a row's sums
constexpr int SHARE = WARPS / SHARERS;           // sums that each of them adds
static_assert((ROWS == 8 || ROWS == 16) && WARPS % SHARERS == 0, "a batch's sums are shared by one warp");

constexpr int SLICES = (GROUPS + 2 * WARPS * PARTS - 1) / (2 * WARPS * PARTS); // of a warp in a part: 256 columns, two groups
constexpr int PART_GROUPS = SLICES * 2 * WARPS;
constexpr unsigned STEPS_AT = PARTS == 1 ? CODE_BYTES : PART_GROUPS * GROUP_BYTES; // of a row in the ring
constexpr unsigned USED_BYTES = PARTS == 1 ? ROW_BYTES : PART_GROUPS * (GROUP_BYTES + STEP_BYTES);
// Where rows are copied one by one, neighbours lie in different banks.
constexpr unsigned RING_ROW_BYTES = PARTS == 1 ? USED_BYTES : (USED_BYTES + 127) / 128 * 128 + 64;
constexpr int FIRST = (STAGES + PARTS - 1) / PARTS; // batches of a block that are not drawn
constexpr int PREFILL = PARTS == 1 ? 1 : 2;      // stages that are on their way at a time while the predecessor runs

__device__ __forceinline__ unsigned magnitude(float v) { return __float_as_uint(v) & 0x7fffffffu; }

// The limbs of four such integers, as signed bytes.
__device__ __forceinline__ void split(unsigned (&limbs)[LIMBS], unsigned a, unsigned b, unsigned c, unsigned d) {
    unsigned low = __byte_perm(a, b, 0x5140), next = __byte_perm(c, d, 0x5140);
    limbs[0] = __byte_perm(low, next, 0x5410) ^ 0x80808080u;
    limbs[1] = __byte_perm(low, next, 0x7632) ^ 0x80808080u;
    limbs[2] = __byte_perm(__byte_perm(a, b, 0x0062), __byte_perm(c, d, 0x0062), 0x5410) ^ 0x80808080u;
}

// Sums of four bytes' products, as floats that are MAGIC too large.
__device__ __forceinline__ float2 multiply(const unsigned (&a)[4], uint2 b) {
    unsigned d[4];
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %10, %10, %10};"
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y), "r"(MAGIC_BITS));
    return make_float2(__uint_as_float(d[0]), __uint_as_float(d[3]));
}

extern "C" __global__ void __launch_bounds__(THREADS + 32, 2)
quantized_row_product(const float* x, const unsigned char* weights, const float* norm, const float* bias, const float* residual,
                      float* out, unsigned* counter, int outputs, float epsilon) {
    extern __shared__ __align__(128) unsigned char ring[];
    __shared__ __align__(8) u64 full[STAGES];
    __shared__ __align__(8) u64 empty[STAGES];
    __shared__ int batch_of[STAGES];                 // what a stage is of: outputs [batch, batch + 1) * UNITS, or the end
    __shared__ float partials[STAGES][ROWS * WARPS]; // row in the batch, warp; in the stage of the batch's last part
    __shared__ float squares[WARPS];
    __shared__ uint2 limbs_of[WARPS][LIMBS][16];     // of a group, eight columns each

    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

    if (warp == WARPS) { // streams the weights and finishes the sums
        int batches = (outputs + UNITS - 1) / UNITS, drawn = gridDim.x * FIRST; // batches from here on are drawn
        unsigned last_draw = max(batches - drawn, 0) + gridDim.x - 1;            // each block draws one too many
        u64 policy;
        asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
        auto rows_of = [&](int batch) { return weights + static_cast<size_t>(batch) * UNITS * ROW_BYTES; };
        size_t to_up = static_cast<size_t>(outputs) * ROW_BYTES; // from a row of the gate
        auto issue = [&](int slot, int batch, int part) {        // by one lane
            unsigned barrier = shared_address(&full[slot]), to = shared_address(ring) + slot * ROWS * RING_ROW_BYTES;
            if (batch >= batches) {
                batch_of[slot] = END;
                barrier_arrive(barrier);
                return;
            }
            batch_of[slot] = batch;
            int units = min(UNITS, outputs - batch * UNITS);
            const unsigned char* from = rows_of(batch);
            if (PARTS == 1) {
                barrier_expect(barrier, units * ROW_BYTES * (GATED ? 2 : 1));
                copy_to_shared(to, from, units * ROW_BYTES, barrier, policy);
                if (GATED) copy_to_shared(to + UNITS * ROW_BYTES, from + to_up, units * ROW_BYTES, barrier, policy);
                return;
            }
            int first_group = part * PART_GROUPS, groups = min(PART_GROUPS, GROUPS - first_group);
            unsigned bytes = groups * GROUP_BYTES, step_bytes = (groups + 1) / 2 * 2 * STEP_BYTES;
            barrier_expect(barrier, units * (GATED ? 2 : 1) * (bytes + step_bytes));
            from += first_group * GROUP_BYTES;
            unsigned to_steps = CODE_BYTES - first_group * (GROUP_BYTES - STEP_BYTES);
#pragma unroll
            for (int row = 0; row < ROWS; row++) {
                if (row % UNITS >= units) continue;
                const unsigned char* row_from = from + row % UNITS * ROW_BYTES + (row < UNITS ? 0 : to_up);
                copy_to_shared(to + row * RING_ROW_BYTES, row_from, bytes, barrier, policy);
                copy_to_shared(to + row * RING_ROW_BYTES + STEPS_AT, row_from + to_steps, step_bytes, barrier, policy);
            }
        };
        unsigned next = 0; // what was drawn, in lane 0
        if (lane == 0) {
            for (int slot = 0; slot < STAGES; slot++) {
                barrier_init(shared_address(&full[slot]), 1);
                barrier_init(shared_address(&empty[slot]), WARPS);
            }
            asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
            asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        }
        __syncthreads();
        if (lane == 0) {
            asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
            next = draw(counter, last_draw);
            // Few at a time, which keep the memory busy but leave room for the predecessor's x and last rows.
            for (int slot = 0; slot < STAGES; slot++) {
                if (slot >= PREFILL) barrier_wait(shared_address(&full[slot - PREFILL]), 0);
                issue(slot, slot / PARTS * gridDim.x + blockIdx.x, slot % PARTS);
            }
        }
        __syncwarp();
        asm volatile("griddepcontrol.wait;" ::: "memory");

        // What is added to a batch's sums is loaded when its last part is issued; lane u finishes unit u.
        float addend[STAGES] = {}, bias_first[STAGES] = {}, bias_up[STAGES] = {};
        auto load_addends = [&](int slot, int part) {
            int batch = batch_of[slot], n = batch * UNITS + lane;
            if (part < PARTS - 1 || batch == END || lane >= UNITS || n >= outputs) return;
            if (residual) addend[slot] = load_fresh(residual + n);
            if (bias) bias_first[slot] = bias[n];
            if (bias && GATED) bias_up[slot] = bias[outputs + n];
        };
#pragma unroll
        for (int slot = 0; slot < STAGES; slot++) load_addends(slot, slot % PARTS);
        float scale = 0.0f; // not known yet
        // The parts that come next and that are finished next, and the batch of the former.
        int part = STAGES % PARTS, finished = 0, coming = STAGES / PARTS * gridDim.x + blockIdx.x;
        for (int parity = 0;; parity ^= 1) {
#pragma unroll
            for (int slot = 0; slot < STAGES; slot++) {
                int batch = batch_of[slot];
                if (batch == END) return;
                barrier_wait(shared_address(&empty[slot]), parity);
                bool last = finished == PARTS - 1;
                finished = last ? 0 : finished + 1;
                float sum = 0.0f;
                if (last) {
#pragma unroll
                    for (int i = 0; i < SHARE; i++) sum += partials[slot][lane * SHARE + i];
                    if (scale == 0.0f) {
                        float total = 0.0f;
                        for (int i = 0; i < WARPS; i++) total += squares[i];
                        scale = norm ? 1.0f / sqrtf(total / COLUMNS + epsilon) : 1.0f;
                    }
                }
                float added = addend[slot], first_bias = bias_first[slot], up_bias = bias_up[slot];
                __syncwarp();
                if (lane == 0) {
                    if (part == 0) {
                        coming = drawn + next;
                        if (coming < batches) next = draw(counter, last_draw); // has until the next batch is issued
                    }
                    issue(slot, coming, part);
                }
                __syncwarp();
                load_addends(slot, part);
                part = part == PARTS - 1 ? 0 : part + 1;
                if (!last) continue;
#pragma unroll
                for (int offset = SHARERS / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(~0u, sum, offset);
                float value = __shfl_sync(~0u, sum, lane % UNITS * SHARERS);
                float up = __shfl_sync(~0u, sum, (GATED ? UNITS + lane % UNITS : 0) * SHARERS);
                int n = batch * UNITS + lane;
                if (lane < UNITS && n < outputs) {
                    value = activation(value * scale + first_bias);
                    out[n] = added + (GATED ? value * (up * scale + up_bias) : value);
                }
            }
        }
    }

    // A lane loads four columns of each group.
    auto column_of = [&](int i, int half) { return (i * WARPS + warp) * 256 + half * 128 + lane * 4; };
    auto inside = [&](int i, int half) { return (i + 1) * THREADS * 8 <= COLUMNS || column_of(i, half) < COLUMNS; };
    float4 slice[PARTS * SLICES][2]; // norm, then norm(x), but for the common factor
#pragma unroll
    for (int i = 0; i < PARTS * SLICES; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            slice[i][half] = make_float4(1.0f, 1.0f, 1.0f, 1.0f);
            if (norm && inside(i, half)) slice[i][half] = *reinterpret_cast<const float4*>(norm + column_of(i, half));
        }
    }
    __syncthreads();
    asm volatile("griddepcontrol.wait;" ::: "memory");
    float sum_squares = 0.0f;
    unsigned largest = __float_as_uint(SMALLEST); // as bits, so that what is no number is the largest
    {
        float4 loaded[PARTS * SLICES][2];
#pragma unroll
        for (int i = 0; i < PARTS * SLICES; i++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                loaded[i][half] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                if (inside(i, half)) loaded[i][half] = load_fresh4(x + column_of(i, half));
            }
        }
#pragma unroll
        for (int i = 0; i < PARTS * SLICES; i++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float4 v = loaded[i][half], &to = slice[i][half];
                sum_squares += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
                to = make_float4(to.x * v.x, to.y * v.y, to.z * v.z, to.w * v.w);
                largest = max(max(largest, magnitude(to.x)), max(max(magnitude(to.y), magnitude(to.z)), magnitude(to.w)));
            }
        }
    }
    largest = __reduce_max_sync(~0u, largest);
    float scale = __fdividef(LARGEST, __uint_as_float(largest));

    // From columns to limbs: lane 4 n + q multiplies limb n / 2, of the first block of two where n is even.
    int q = lane % 4, column_of_operand = lane / 4;
    uint2 right[PARTS * SLICES][4]; // of pairs of blocks
#pragma unroll
    for (int i = 0; i < PARTS * SLICES; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float4 v = slice[i][half];
            unsigned limbs[LIMBS], a = integer(v.x, scale), b = integer(v.y, scale), c = integer(v.z, scale), d = integer(v.w, scale);
            if (BITS == 8) split(limbs, a, c, b, d);
            else split(limbs, a, b, c, d);
            __syncwarp();
#pragma unroll
            for (int limb = 0; limb < LIMBS; limb++) reinterpret_cast<unsigned*>(limbs_of[warp][limb])[lane] = limbs[limb];
            __syncwarp();
#pragma unroll
            for (int pair = 0; pair < 2; pair++) {
                uint2 v = limbs_of[warp][min(column_of_operand / 2, LIMBS - 1)][(2 * pair + column_of_operand % 2) * 4 + q];
                right[i][2 * half + pair] = BITS == 8 ? v : make_uint2(__byte_perm(v.x, v.y, 0x5140), __byte_perm(v.x, v.y, 0x7362));
            }
        }
    }
    if (norm) {
        sum_squares = sum_of_warp(sum_squares);
        if (lane == 0) squares[warp] = sum_squares;
    }
    // What lane q's sums are multiplied by, the fourth lane's by nothing.
    float back = 1.0f / (scale * CODE_SCALE) * (q == 0 ? 1.0f : q == 1 ? 256.0f : q == 2 ? 65536.0f : 0.0f);

    for (int slot = 0, parity = 0;;) {
        float even[TILES] = {}, odd[TILES] = {};
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
            barrier_wait(shared_address(&full[slot]), parity);
            if (part == 0 && batch_of[slot] == END) return;
            unsigned from = shared_address(ring) + (slot * ROWS + lane / 4) * RING_ROW_BYTES;
            int groups = min(PART_GROUPS, GROUPS - part * PART_GROUPS);
#pragma unroll
            for (int tile = 0; tile < TILES; tile++) {
                unsigned row = from + tile * 8 * RING_ROW_BYTES;
#pragma unroll
                for (int i = 0; i < SLICES; i++) {
                    // Past the end of the row x is zero, and any codes will do.
                    bool whole = (i + 1) * WARPS * 2 <= groups;
                    int group = (i * WARPS + warp) * 2;
                    if (!whole) group = min(group, (groups - 1) / 2 * 2);
                    uint4 steps = load_shared(row + STEPS_AT + group * STEP_BYTES);
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        unsigned at = row + (whole ? group + half : min(group + half, groups - 1)) * GROUP_BYTES + q * 16;
                        uint4 codes = load_shared(at), more = BITS == 8 ? load_shared(at + GROUP_BYTES / 2) : codes;
#pragma unroll
                        for (int pair = 0; pair < 2; pair++) {
                            unsigned word = word_of(codes, 2 * pair), word_1 = word_of(codes, 2 * pair + 1);
                            unsigned a[4] = {first_codes(word), first_codes(word_1), second_codes(word, word_of(more, 2 * pair)),
                                             second_codes(word_1, word_of(more, 2 * pair + 1))};
                            float2 sums = multiply(a, right[part * SLICES + i][2 * half + pair]), step = steps_of(word_of(steps, 2 * half + pair));
                            even[tile] += (sums.x - MAGIC) * step.x;
                            odd[tile] += (sums.y - MAGIC) * step.y;
                        }
                    }
                }
                if (part < PARTS - 1) continue;
                float sum = (even[tile] + odd[tile]) * back;
                sum += __shfl_xor_sync(~0u, sum, 1);
                sum += __shfl_xor_sync(~0u, sum, 2);
                if (q == 0) partials[slot][(tile * 8 + lane / 4) * WARPS + warp] = sum;
            }
            __syncwarp();
            if (lane == 0) barrier_arrive(shared_address(&empty[slot]));
            if (++slot == STAGES) slot = 0, parity ^= 1;
        }
    }
}

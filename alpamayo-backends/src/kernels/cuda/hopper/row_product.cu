// Product of one row with a matrix of bf16 weights, at the speed the weights arrive from memory:
//
//   out[n] = residual[n] + activation(sum_k norm(x)[k] * weights[n][k] + bias[n])
//   GATED: out[n] = residual[n] + activation(gate) * up, gate from weights' row n, up from row outputs + n
//
// x, norm, bias, residual, out are f32 and weights is bf16; products and sums are f32, x is not rounded.
// norm(x)[k] = x[k] * rsqrt(mean(x^2) + epsilon) * norm[k] when norm is not null, else x[k].
//
// A persistent block per multiprocessor. The last warp streams groups of rows of weights through a ring in shared
// memory with bulk copies; the others each own a slice of the columns, keep their part of x in registers, and leave
// one partial sum per row for the last warp to add up. A block's first STAGES groups are fixed and on their way
// before griddepcontrol.wait, so that memory stays busy between kernels; the others it draws from a counter, for
// multiprocessors are not equally fast nor equally early.
//
// The source is weight_ring.cu and this file, one after the other, as one translation unit.
//
// Launch
//   grid      any; as many blocks as multiprocessors (132)
//   block     THREADS + 32
//   shared    STAGES * GROUP * columns * 2 bytes, dynamic; leave room for the neighbouring kernel's block
//   attribute programmatic stream serialization allowed (and useful); right without it too. Dependents are launched
//             at once
//   shapes    outputs >= 1; columns a multiple of 8, at most SLICES * THREADS * 8
//   alignment 16 bytes for x, norm and weights; 4 for the others. bias, norm, residual may be null;
//             residual may be out. GATED: weights and bias have 2 * outputs rows (gate, then up)
//   counter   one zero, which the launch leaves zero; not shared with a launch that may run at the same time
// Macros
//             best for 4096 columns: SLICES 2, GROUP 4, STAGES 3; for 12288: THREADS 512, SLICES 3, GROUP 2, STAGES 2
//   SLICES    columns / (8 * THREADS), rounded up
//   GROUP     rows per stage (GATED: rows of gate and up together), a power of two; GROUP * THREADS <= 1024
//   STAGES    stages of the ring, at least 2
//   GATED     1: gated; 0: not
//   ACTIVATION 0: none, 1: GELU (tanh), 2: SiLU
//   THREADS   threads that multiply, a power of two (256)
#ifndef THREADS
#define THREADS 256
#endif

constexpr int WARPS = THREADS / 32;
constexpr int UNITS = GATED ? GROUP / 2 : GROUP; // outputs per stage
static_assert(GROUP * WARPS <= 32 && 32 % GROUP == 0 && (!GATED || GROUP >= 2), "a stage's partial sums fill one warp");

// Sums each of `values` over the warp; value r ends in the lanes [r, r + 1) * 32 / COUNT.
template <int COUNT>
__device__ __forceinline__ float reduce(float (&values)[COUNT], int lane) {
    int offset = 16;
#pragma unroll
    for (int count = COUNT / 2; count > 0; count /= 2, offset /= 2) {
        bool high = lane & offset;
#pragma unroll
        for (int i = 0; i < count; i++) {
            float kept = high ? values[i + count] : values[i];
            float sent = high ? values[i] : values[i + count];
            values[i] = kept + __shfl_xor_sync(~0u, sent, offset);
        }
    }
    float sum = values[0];
#pragma unroll
    for (; offset > 0; offset /= 2) sum += __shfl_xor_sync(~0u, sum, offset);
    return sum;
}

extern "C" __global__ void __launch_bounds__(THREADS + 32, 2)
row_product(const float* x, const unsigned short* weights, const float* norm, const float* bias, const float* residual,
            float* out, unsigned* counter, int outputs, int columns, float epsilon) {
    extern __shared__ __align__(128) unsigned char ring[];
    __shared__ __align__(8) u64 full[STAGES];
    __shared__ __align__(8) u64 empty[STAGES];
    __shared__ int group_of[STAGES];                  // what a stage holds: outputs [group, group + 1) * UNITS, or the end
    __shared__ float partials[STAGES][GROUP * WARPS]; // row in the stage, warp
    __shared__ float squares[WARPS];

    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    unsigned row_bytes = columns * 2;

    if (warp == WARPS) { // streams the weights and finishes the sums
        int groups = (outputs + UNITS - 1) / UNITS, drawn = gridDim.x * STAGES; // groups from here on are drawn
        unsigned last_draw = max(groups - drawn, 0) + gridDim.x - 1;            // each block draws one too many
        u64 policy;
        asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
        auto issue = [&](int slot, int group) {
            unsigned barrier = shared_address(&full[slot]);
            if (group >= groups) {
                group_of[slot] = END;
                barrier_arrive(barrier);
                return;
            }
            group_of[slot] = group;
            unsigned bytes = min(UNITS, outputs - group * UNITS) * row_bytes, to = shared_address(ring) + slot * GROUP * row_bytes;
            const unsigned char* from = reinterpret_cast<const unsigned char*>(weights) + static_cast<size_t>(group) * UNITS * row_bytes;
            barrier_expect(barrier, bytes * (GATED ? 2 : 1));
            copy_to_shared(to, from, bytes, barrier, policy);
            if (GATED) copy_to_shared(to + UNITS * row_bytes, from + static_cast<size_t>(outputs) * row_bytes, bytes, barrier, policy);
        };
        unsigned next = 0; // what was drawn, in lane 0
        if (lane == 0) {
            for (int slot = 0; slot < STAGES; slot++) {
                barrier_init(shared_address(&full[slot]), 1);
                barrier_init(shared_address(&empty[slot]), WARPS);
            }
            asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
            asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
            asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
            next = draw(counter, last_draw);
        }
        __syncthreads();
        if (lane == 0) {
            // One at a time, which keeps the memory busy but leaves room for the predecessor's x and last rows.
            for (int slot = 0; slot < STAGES; slot++) {
                if (slot > 0) barrier_wait(shared_address(&full[slot - 1]), 0);
                issue(slot, slot * gridDim.x + blockIdx.x);
            }
        }
        __syncwarp();
        asm volatile("griddepcontrol.wait;" ::: "memory");

        // What is added to a stage's sums is loaded when its copy is issued; lane u finishes unit u.
        float addend[STAGES] = {}, bias_first[STAGES] = {}, bias_up[STAGES] = {};
        auto load_addends = [&](int slot) {
            int group = group_of[slot], n = group * UNITS + lane;
            if (group == END || lane >= UNITS || n >= outputs) return;
            if (residual) addend[slot] = load_fresh(residual + n);
            if (bias) bias_first[slot] = bias[n];
            if (bias && GATED) bias_up[slot] = bias[outputs + n];
        };
#pragma unroll
        for (int slot = 0; slot < STAGES; slot++) load_addends(slot);
        float scale = 1.0f;
        for (int round = 0;; round++) {
#pragma unroll
            for (int slot = 0; slot < STAGES; slot++) {
                int group = group_of[slot];
                if (group == END) return;
                barrier_wait(shared_address(&empty[slot]), round & 1);
                float sum = lane < GROUP * WARPS ? partials[slot][lane] : 0.0f;
                if (round == 0 && slot == 0 && norm) {
                    float total = 0.0f;
                    for (int i = 0; i < WARPS; i++) total += squares[i];
                    scale = rsqrtf(total / columns + epsilon);
                }
                float added = addend[slot], first_bias = bias_first[slot], up_bias = bias_up[slot];
                __syncwarp();
                if (lane == 0) {
                    int coming = drawn + next;
                    if (coming < groups) next = draw(counter, last_draw); // has until the next group is issued
                    issue(slot, coming);
                }
                __syncwarp();
                load_addends(slot);
#pragma unroll
                for (int offset = WARPS / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(~0u, sum, offset);
                float value = __shfl_sync(~0u, sum, lane % UNITS * WARPS);
                float up = __shfl_sync(~0u, sum, (GATED ? UNITS + lane % UNITS : 0) * WARPS);
                int n = group * UNITS + lane;
                if (lane < UNITS && n < outputs) {
                    value = activation(value * scale + first_bias);
                    out[n] = added + (GATED ? value * (up * scale + up_bias) : value);
                }
            }
        }
    }

    float slice[SLICES][8]; // this thread's columns of norm(x), but for the common factor
    float sum_squares = 0.0f;
#pragma unroll
    for (int i = 0; i < SLICES; i++) {
        int column = (i * THREADS + threadIdx.x) * 8;
#pragma unroll
        for (int j = 0; j < 8; j += 4) {
            float4 v = make_float4(1.0f, 1.0f, 1.0f, 1.0f);
            if (norm && column < columns) v = *reinterpret_cast<const float4*>(norm + column + j);
            slice[i][j] = v.x, slice[i][j + 1] = v.y, slice[i][j + 2] = v.z, slice[i][j + 3] = v.w;
        }
    }
    __syncthreads();
    asm volatile("griddepcontrol.wait;" ::: "memory");
#pragma unroll
    for (int i = 0; i < SLICES; i++) {
        int column = (i * THREADS + threadIdx.x) * 8;
#pragma unroll
        for (int j = 0; j < 8; j += 4) {
            float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (column < columns) v = load_fresh4(x + column + j);
            sum_squares += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
            slice[i][j] *= v.x, slice[i][j + 1] *= v.y, slice[i][j + 2] *= v.z, slice[i][j + 3] *= v.w;
        }
    }
    if (norm) {
        float values[1] = {sum_squares};
        float total = reduce(values, lane);
        if (lane == 0) squares[warp] = total;
    }

    for (int slot = 0, parity = 0;;) {
        unsigned from = shared_address(ring) + slot * GROUP * row_bytes;
        float even[GROUP] = {}, odd[GROUP] = {};
        barrier_wait(shared_address(&full[slot]), parity);
        if (group_of[slot] == END) return;
#pragma unroll
        for (int i = 0; i < SLICES; i++) {
            int column = (i * THREADS + threadIdx.x) * 8;
            if (column < columns) {
#pragma unroll
                for (int row = 0; row < GROUP; row++) {
                    uint4 w = load_shared(from + row * row_bytes + column * 2);
                    unsigned pairs[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        even[row] += slice[i][2 * j] * __uint_as_float(pairs[j] << 16);
                        odd[row] += slice[i][2 * j + 1] * __uint_as_float(pairs[j] & 0xffff0000u);
                    }
                }
            }
        }
#pragma unroll
        for (int row = 0; row < GROUP; row++) even[row] += odd[row];
        float sum = reduce(even, lane);
        constexpr int LANES = 32 / GROUP;
        if (lane % LANES == 0) partials[slot][lane / LANES * WARPS + warp] = sum;
        __syncwarp();
        if (lane == 0) barrier_arrive(shared_address(&empty[slot]));
        if (++slot == STAGES) slot = 0, parity ^= 1;
    }
}

// What the kernels that attend to one new token per row have in common, in front of them: tiles of keys and values in shared memory,
// products of f32 with bf16 on the tensor cores, and the preparation of a head.
//
// q, scores, softmax weights and sums are f32: for the tensor cores, which take bf16, a f32 factor is split into
// three bf16 parts whose sum is exact. 4 query heads x 3 parts are rows 0..12 of a 16-row operand (part * 4 + head).
typedef unsigned short bf16;

constexpr int HEAD_DIM = 128, GROUP = 4, PARTS = 3, OPERAND_ROWS = GROUP * PARTS;
constexpr int WARPS = 16, THREADS = WARPS * 32;
constexpr int TILE = 16;                         // keys a warp scores at once
constexpr int TILE_BYTES = TILE * HEAD_DIM * 2;
constexpr int QUERY_STRIDE = HEAD_DIM * 2 + 16;  // bytes; the 16 spread rows over the banks

#define MINUS_INFINITY __int_as_float(0xff800000)

__device__ __forceinline__ int chunk_offset(int key, int chunk) { return key * HEAD_DIM * 2 + ((chunk ^ (key & 7)) * 16); }

// 16 bytes to shared memory, zeros where not valid.
__device__ __forceinline__ void copy_chunk(const void* to, const bf16* from, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(valid ? 16 : 0) : "memory");
}

__device__ __forceinline__ unsigned pack(float low, float high) {
    unsigned v;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(high), "f"(low));
    return v;
}

// The three bf16 parts of a pair.
__device__ __forceinline__ void split(unsigned (&parts)[PARTS], float low, float high) {
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
        parts[part] = pack(low, high);
        low -= __uint_as_float(parts[part] << 16);
        high -= __uint_as_float(parts[part] & 0xffff0000u);
    }
}

__device__ __forceinline__ float exp2_fast(float v) {
    float e;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(v));
    return e;
}

__device__ __forceinline__ float2 load_fresh2(const float* from) { // past L1: the predecessor wrote it
    float2 v;
    asm volatile("ld.global.cg.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "l"(from) : "memory");
    return v;
}

__device__ __forceinline__ float load_fresh(const float* from) {
    float v;
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(v) : "l"(from) : "memory");
    return v;
}

// Over the quad of lanes that share a row of an mma's result.
__device__ __forceinline__ float quad_max(float v) {
    v = fmaxf(v, __shfl_xor_sync(~0u, v, 1));
    return fmaxf(v, __shfl_xor_sync(~0u, v, 2));
}

__device__ __forceinline__ float quad_sum(float v) {
    v += __shfl_xor_sync(~0u, v, 1);
    return v + __shfl_xor_sync(~0u, v, 2);
}

// The parts' rows of a result: part 0 in c[0..2] of the lower lanes, 1 in those of the upper, 2 in c[2..4] of the lower.
__device__ __forceinline__ float sum_parts(float c_low, float c_high) {
    float v = c_low + c_high;
    return v + __shfl_xor_sync(~0u, v, 16);
}

// Two pairs of a head's elements, 64 apart, which a lane prepares: elements 2 lane, 2 lane + 1 and those 64 further on.
struct Pairs {
    float2 low, high;
};

// Normalized by the root of the head's mean square, and rotated.
__device__ __forceinline__ Pairs prepare(Pairs x, Pairs norm, float2 cosines, float2 sines, float epsilon) {
    float squares = x.low.x * x.low.x + x.low.y * x.low.y + x.high.x * x.high.x + x.high.y * x.high.y;
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) squares += __shfl_xor_sync(~0u, squares, offset);
    float scale = rsqrtf(squares / HEAD_DIM + epsilon);
    float2 a = make_float2(x.low.x * scale * norm.low.x, x.low.y * scale * norm.low.y);
    float2 b = make_float2(x.high.x * scale * norm.high.x, x.high.y * scale * norm.high.y);
    return {make_float2(a.x * cosines.x - b.x * sines.x, a.y * cosines.y - b.y * sines.y),
            make_float2(b.x * cosines.x + a.x * sines.x, b.y * cosines.y + a.y * sines.y)};
}

// A query of the group as rows of the operand, scaled for exp2.
__device__ __forceinline__ void store_query(unsigned char* queries, int head, Pairs x, int lane) {
    constexpr float SCALE = 0.08838834764831845f * 1.4426950408889634f;
    unsigned low[PARTS], high[PARTS];
    split(low, x.low.x * SCALE, x.low.y * SCALE);
    split(high, x.high.x * SCALE, x.high.y * SCALE);
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
        unsigned char* to = queries + (part * GROUP + head) * QUERY_STRIDE + lane * 4;
        *reinterpret_cast<unsigned*>(to) = low[part];
        *reinterpret_cast<unsigned*>(to + HEAD_DIM) = high[part];
    }
}

// The new key or value, in its tile and in the suffix.
__device__ __forceinline__ void append(unsigned char* tile, bf16* suffix, int position, Pairs x, int lane) {
    unsigned low = pack(x.low.x, x.low.y), high = pack(x.high.x, x.high.y);
    int key = position % TILE;
    *reinterpret_cast<unsigned*>(tile + chunk_offset(key, lane / 4) + lane % 4 * 4) = low;
    *reinterpret_cast<unsigned*>(tile + chunk_offset(key, 8 + lane / 4) + lane % 4 * 4) = high;
    bf16* to = suffix + static_cast<size_t>(position) * HEAD_DIM + 2 * lane;
    *reinterpret_cast<unsigned*>(to) = low;
    *reinterpret_cast<unsigned*>(to + 64) = high;
}


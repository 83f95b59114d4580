// What products of one to eight rows with a weight of 8 or 4 bits share, behind weight_ring.cu and in front of their kernels: how a
// row lies in memory (layers/quantized.rs tells it), and how its codes meet x in the integer tensor cores.
//   BITS 8 or 4;  COLUMNS of the weight

constexpr int GROUP = 128, GROUP_BYTES = GROUP * BITS / 8, STEP_BYTES = 8; // of a row
constexpr int GROUPS = (COLUMNS + GROUP - 1) / GROUP;
constexpr unsigned CODE_BYTES = GROUPS * GROUP_BYTES, ROW_BYTES = (CODE_BYTES + GROUPS * STEP_BYTES + 31) / 32 * 32;
constexpr int LIMBS = 3;
constexpr float LARGEST = 4194300.0f;            // of the integers: their floats have no bits behind the point
constexpr float MAGIC = 12582912.0f;             // 1.5 * 2^23: the lowest bits of a float plus this are its integer
constexpr unsigned MAGIC_BITS = 0x4b400000u;
constexpr float SMALLEST = 1e-30f;               // that a part of x is scaled by
constexpr float CODE_SCALE = BITS == 4 ? 16.0f : 1.0f; // codes of four bits are taken from the high half of a byte

__device__ __forceinline__ unsigned word_of(const uint4& v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

// The steps of two neighbouring blocks.
__device__ __forceinline__ float2 steps_of(unsigned both) {
    float2 v;
    asm("{\n .reg .b16 low, high;\n mov.b32 {low, high}, %2;\n cvt.f32.f16 %0, low;\n cvt.f32.f16 %1, high;\n}" : "=f"(v.x), "=f"(v.y) : "r"(both));
    return v;
}

// Signed bytes from codes: a lane's first and second four of a block.
__device__ __forceinline__ unsigned first_codes(unsigned word) {
    return BITS == 8 ? word ^ 0x80808080u : ((word << 4) ^ 0x80808080u) & 0xf0f0f0f0u;
}

__device__ __forceinline__ unsigned second_codes(unsigned word, unsigned more) {
    return BITS == 8 ? more ^ 0x80808080u : (word ^ 0x80808080u) & 0xf0f0f0f0u;
}

// A value as an integer plus 128 in each of three bytes.
__device__ __forceinline__ unsigned integer(float v, float scale) {
    return __float_as_uint(fmaf(v, scale, MAGIC)) + (0x808080u - MAGIC_BITS);
}

__device__ __forceinline__ float sum_of_warp(float v) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(~0u, v, offset);
    return v;
}

// Rotary embedding of queries and keys straight out of a fused projection (sm_90): bound by memory, everything is read once.
//   out = x · cos + concat(-x[half..], x[..half]) · sin, in f32; queries also times head_dim^-0.5; rounded to bf16, nearest even.
//
// Macros    HEAD_DIM (multiple of 8)
// Arguments qkv bf16 [tokens, 3, heads, HEAD_DIM]; cos, sin f32 [tokens, HEAD_DIM / 2], one angle for a column and its partner
//           half a head further, rows angle_stride elements apart (a multiple of 4); query, key bf16 [tokens, heads, HEAD_DIM], written; tokens, heads, angle_stride. All aligned to 16 bytes.
// Launch    block 32 .. 1024, best the multiple of 32 at or below heads * HEAD_DIM / 8 * (1, 2, ...) near 288;
//           grid ceil(tokens * heads * HEAD_DIM / 8 / block); no shared memory; programmatic stream serialisation allowed.

typedef unsigned int u32;
typedef unsigned long long u64;

constexpr int HALF = HEAD_DIM / 2;
constexpr int UNITS = HALF / 4; // of four columns and their four partners

struct Four {
    float x[4];
};

__device__ __forceinline__ Four unpack(uint2 pair) {
    return {{__uint_as_float(pair.x << 16), __uint_as_float(pair.x & 0xffff0000), __uint_as_float(pair.y << 16), __uint_as_float(pair.y & 0xffff0000)}};
}

__device__ __forceinline__ uint2 pack(const Four &f) {
    uint2 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair.x) : "f"(f.x[1]), "f"(f.x[0]));
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair.y) : "f"(f.x[3]), "f"(f.x[2]));
    return pair;
}

__device__ __forceinline__ void turn(unsigned short *out, uint2 low, uint2 high, const float4 &cos, const float4 &sin, float scale) {
    Four a = unpack(low), b = unpack(high), first, second;
    const float c[4] = {cos.x, cos.y, cos.z, cos.w}, s[4] = {sin.x, sin.y, sin.z, sin.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        first.x[i] = (a.x[i] * c[i] - b.x[i] * s[i]) * scale;
        second.x[i] = (b.x[i] * c[i] + a.x[i] * s[i]) * scale;
    }
    *(uint2 *)out = pack(first);
    *(uint2 *)(out + HALF) = pack(second);
}

extern "C" __global__ void rotate(const unsigned short *__restrict__ qkv, const float *__restrict__ cos, const float *__restrict__ sin,
                                  unsigned short *__restrict__ query, unsigned short *__restrict__ key, int tokens, int heads, int angle_stride) {
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    u32 index = blockIdx.x * blockDim.x + threadIdx.x;
    u32 unit = index % UNITS, row = index / UNITS; // row: token and head
    u32 token = row / heads, head = row % heads;
    asm volatile("griddepcontrol.wait;" ::: "memory");
    if (token >= tokens) return;
    const unsigned short *q = qkv + ((u64)token * 3 * heads + head) * HEAD_DIM + unit * 4, *k = q + heads * HEAD_DIM;
    uint2 q_low = *(const uint2 *)q, q_high = *(const uint2 *)(q + HALF), k_low = *(const uint2 *)k, k_high = *(const uint2 *)(k + HALF);
    u64 angle = (u64)token * angle_stride + unit * 4, out = (u64)row * HEAD_DIM + unit * 4;
    float4 c = *(const float4 *)(cos + angle), s = *(const float4 *)(sin + angle);
    turn(query + out, q_low, q_high, c, s, __frsqrt_rn((float)HEAD_DIM));
    turn(key + out, k_low, k_high, c, s, 1.0f);
}

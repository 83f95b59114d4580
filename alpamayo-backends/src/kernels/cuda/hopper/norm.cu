// RMSNorm of rows, rounded to bf16 (nearest, ties to even):
//
//   out[t, n] = bf16(x[t, n] * rsqrt(mean(x[t]^2) + epsilon) * weight[n])
//
// Launch
//   grid      (rows, 1, 1), block THREADS, no dynamic shared memory
//   attribute programmatic stream serialization allowed (and useful: the weight is read before the wait)
//   shapes    columns a multiple of 4, at most SLICES * THREADS * 4
//   alignment 16 bytes for x (8 where it is bf16) and weight, 8 for out
// Macros
//   X_BF16    whether x is bf16, otherwise f32
//   THREADS   threads of a row, a multiple of 32
//   SLICES    columns / (4 * THREADS), rounded up

constexpr int WARPS = THREADS / 32;

__device__ __forceinline__ unsigned rounded(float low, float high) {
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

#if X_BF16
typedef unsigned short Element;
#else
typedef float Element;
#endif

// Four elements, past L1, which may hold what was there before.
__device__ __forceinline__ float4 four(const Element* x) {
#if X_BF16
    unsigned low, high;
    asm volatile("ld.global.cg.v2.u32 {%0, %1}, [%2];" : "=r"(low), "=r"(high) : "l"(x) : "memory");
    return make_float4(__uint_as_float(low << 16), __uint_as_float(low & 0xFFFF0000u), __uint_as_float(high << 16),
                       __uint_as_float(high & 0xFFFF0000u));
#else
    float4 v;
    asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "l"(x) : "memory");
    return v;
#endif
}

extern "C" __global__ void __launch_bounds__(THREADS)
rms_norm(const Element* x, const float* weight, unsigned short* out, int columns, float epsilon) {
    __shared__ float partials[WARPS];
    float4 values[SLICES], weights[SLICES];
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#pragma unroll
    for (int i = 0; i < SLICES; i++) {
        int column = (i * THREADS + threadIdx.x) * 4;
        if (column < columns) weights[i] = *reinterpret_cast<const float4*>(weight + column);
    }
    asm volatile("griddepcontrol.wait;" ::: "memory");
    size_t row = static_cast<size_t>(blockIdx.x) * columns;
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < SLICES; i++) {
        int column = (i * THREADS + threadIdx.x) * 4;
        float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (column < columns) v = four(x + row + column);
        sum += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
        values[i] = v;
    }
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(~0u, sum, offset);
    if (threadIdx.x % 32 == 0) partials[threadIdx.x / 32] = sum;
    __syncthreads();
    sum = 0.0f;
#pragma unroll
    for (int i = 0; i < WARPS; i++) sum += partials[i];
    float scale = 1.0f / sqrtf(sum / columns + epsilon);
#pragma unroll
    for (int i = 0; i < SLICES; i++) {
        int column = (i * THREADS + threadIdx.x) * 4;
        if (column >= columns) continue;
        float4 v = values[i], w = weights[i];
        *reinterpret_cast<uint2*>(out + row + column) =
            make_uint2(rounded(v.x * scale * w.x, v.y * scale * w.y), rounded(v.z * scale * w.z, v.w * scale * w.w));
    }
}

// What becomes of a product's sum behind its bias.
//
// Macro
//   ACTIVATION 0: none, 1: GELU (tanh), 2: SiLU
__device__ __forceinline__ float activation(float v) {
#if ACTIVATION == 1
    return v / (1.0f + expf(-1.5957691216057308f * (v + 0.044715f * v * v * v)));
#elif ACTIVATION == 2
    return v / (1.0f + expf(-v));
#else
    return v;
#endif
}


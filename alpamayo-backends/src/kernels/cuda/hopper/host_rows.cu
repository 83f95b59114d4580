// Rows of a table of bf16 in the host's memory, read over the bus and widened to f32:
//
//   out[i, n] = table[min(ids[i], rows - 1), n], ids without a sign
//
// Launch
//   grid      (ids, 1, 1), block THREADS, no dynamic shared memory
//   attribute programmatic stream serialization allowed
//   shapes    columns a multiple of 8; table [rows, columns], out [ids, columns]
//   alignment 16 bytes for table and out, 4 for ids
//   memory    the table is the host's, pinned and mapped into the device's address space; nothing writes it
// Macros
//   THREADS   threads of a row, best columns / 8

__device__ __forceinline__ float4 widened(unsigned first, unsigned second) {
    return make_float4(__uint_as_float(first << 16), __uint_as_float(first & 0xFFFF0000u), __uint_as_float(second << 16),
                       __uint_as_float(second & 0xFFFF0000u));
}

extern "C" __global__ void __launch_bounds__(THREADS)
host_rows(const unsigned* ids, const uint4* table, float4* out, int rows, int columns) {
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    int vectors = columns / 8;
    asm volatile("griddepcontrol.wait;" ::: "memory");
    // Past L1, which may hold what was there before.
    unsigned id;
    asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(id) : "l"(ids + blockIdx.x) : "memory");
    unsigned row = min(id, static_cast<unsigned>(rows) - 1u);
    const uint4* from = table + static_cast<size_t>(row) * vectors;
    float4* to = out + static_cast<size_t>(blockIdx.x) * vectors * 2;
    for (int i = threadIdx.x; i < vectors; i += THREADS) {
        uint4 v = from[i];
        to[2 * i] = widened(v.x, v.y);
        to[2 * i + 1] = widened(v.z, v.w);
    }
}

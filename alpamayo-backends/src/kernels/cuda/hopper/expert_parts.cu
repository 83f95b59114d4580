// The parts of expert_attention.cu: its constants, shared memory, and what consumers and preparing warps do with rows.
#ifndef SPLITS
#define SPLITS 8
#endif
#ifndef BUFFERS
#define BUFFERS 4
#endif

constexpr int HEAD_DIM = 128;
constexpr int GROUP = HEADS / KEY_VALUE_HEADS;
constexpr int MAX_TOKENS = 64;
// One pass takes two heads of the group: 128 query rows, 64 for each of the two consumer warpgroups.
constexpr int PASS_ROWS = 2 * MAX_TOKENS;
constexpr int PASSES = (GROUP + 1) / 2;
constexpr int TILE_KEYS = 80;
constexpr int BOX_KEYS = TILE_KEYS / 2;  // keys of one bulk copy

constexpr int CONSUMER_THREADS = 256;
constexpr int PREPARE_WARPS = 3;

constexpr int OWN_ROWS = (MAX_TOKENS / SPLITS + PREPARE_WARPS - 1) / PREPARE_WARPS;  // own keys that a warp prepares
constexpr int SHARED_ROWS = PASS_ROWS / SPLITS;  // query rows that a block prepares, and merges, for the cluster

constexpr float LOG2_E = 1.4426950408889634f;
constexpr float QUERY_SCALE = 0.08838834764831845f;  // HEAD_DIM^-0.5
constexpr float NO_MAXIMUM = -1e30f;                 // below every score, and finite: differences stay defined

// Shared memory. Tiles are [head_dim half][row][64 elements] under the 128-byte swizzle.
constexpr u32 QUERY_BYTES = PASS_ROWS * HEAD_DIM * 2;
constexpr u32 TILE_HALF = TILE_KEYS * HEAD_DIM;
constexpr u32 TILE_BYTES = 2 * TILE_HALF;
constexpr u32 UNIT_BYTES = 512;                                     // 8 rows x 32 columns of f16
constexpr u32 PARTIAL_BYTES = SHARED_ROWS / 8 * 4 * UNIT_BYTES;
constexpr u32 STATISTIC_BYTES = SHARED_ROWS * 16;
constexpr u32 QUERIES = 0;
constexpr u32 TILES = QUERIES + QUERY_BYTES;                        // BUFFERS x (keys, values)
constexpr u32 PARTIALS = TILES + BUFFERS * 2 * TILE_BYTES;          // [split][8 rows][32 columns][lane][8]
constexpr u32 STATISTICS = PARTIALS + SPLITS * PARTIAL_BYTES;       // [split][row](maximum, sum, scale, -)
constexpr u32 BARRIERS = STATISTICS + SPLITS * STATISTIC_BYTES;
constexpr u32 QUERIES_FULL = BARRIERS;
constexpr u32 QUERIES_FREE = BARRIERS + 8;
constexpr u32 PARTIALS_FULL = BARRIERS + 16;
constexpr u32 PARTIALS_FREE = BARRIERS + 24;
constexpr u32 TAIL_FULL = BARRIERS + 32;
constexpr u32 KEYS_FULL = TAIL_FULL + 8 * BUFFERS;
constexpr u32 VALUES_FULL = KEYS_FULL + 8 * BUFFERS;
constexpr u32 TILE_FREE = VALUES_FULL + 8 * BUFFERS;

__device__ __forceinline__ int share_of(int total) { return (total + SPLITS - 1) / SPLITS; }

__device__ __forceinline__ int clamp(int x, int low, int high) { return x < low ? low : x > high ? high : x; }

// --- Consumers: attention of a warpgroup's 64 query rows; a thread has parts of two rows, 8 apart ---

struct Rows {
    float output[64];
    float maximum[2];
    float sum[2];
};

// Hides all of a tile's scores but those of the first `prompt` keys and of keys `tail_begin` to `tail_end`.
__device__ __forceinline__ void hide(float (&s)[TILE_KEYS / 2], int prompt, int tail_begin, int tail_end) {
    const int first = threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < TILE_KEYS / 2; i++) {
        const int key = i / 4 * 8 + i % 2 + first;
        if (key >= prompt && (key < tail_begin || key >= tail_end)) s[i] = -__int_as_float(0x7f800000);
    }
}

// Scores become weights against the rows' new maxima; `scale` is what earlier weights shrink by.
__device__ __forceinline__ void exponentiate(float (&s)[TILE_KEYS / 2], Rows& rows, float (&scale)[2]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float maximum = rows.maximum[h];
#pragma unroll
        for (int i = 0; i < TILE_KEYS / 2; i += 4) maximum = fmaxf(maximum, fmaxf(s[i + 2 * h], s[i + 2 * h + 1]));
        maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, 1));
        maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, 2));
        scale[h] = power_of_two((rows.maximum[h] - maximum) * LOG2_E);
        const float offset = maximum * LOG2_E;
        float even = 0, odd = 0;
#pragma unroll
        for (int i = 0; i < TILE_KEYS / 2; i += 4) {
            s[i + 2 * h] = power_of_two(fmaf(s[i + 2 * h], LOG2_E, -offset));
            s[i + 2 * h + 1] = power_of_two(fmaf(s[i + 2 * h + 1], LOG2_E, -offset));
            even += s[i + 2 * h];
            odd += s[i + 2 * h + 1];
        }
        rows.maximum[h] = maximum;
        rows.sum[h] = rows.sum[h] * scale[h] + (even + odd);
    }
}

// The warp's 16 rows of queries as A operands.
__device__ __forceinline__ void load_queries(u32 (&query)[8][4], u32 queries) {
    const int lane = threadIdx.x % 32;
    const int row = threadIdx.x / 32 * 16 + lane % 16;
#pragma unroll
    for (int k = 0; k < 8; k++) {
        const int chunk = k % 4 * 2 + lane / 16;
        const u32 address = queries + k / 4 * PASS_ROWS * 128 + row * 128 + ((chunk ^ row % 8) << 4);
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(query[k][0]), "=r"(query[k][1]), "=r"(query[k][2]), "=r"(query[k][3])
                     : "r"(address) : "memory");
    }
}

// Sends the unnormalised outputs of the warp's rows to the blocks that merge them: as f16, each row scaled to a largest value below 1
// (four times the precision of the result; the copies between blocks are what takes time).
__device__ __forceinline__ void send_partials(Rows& rows, u32 shared, u32 rank) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float sum = rows.sum[h], largest = 0;
#pragma unroll
        for (int i = 0; i < 64; i += 4) largest = fmaxf(largest, fmaxf(fabsf(rows.output[i + 2 * h]), fabsf(rows.output[i + 2 * h + 1])));
#pragma unroll
        for (int step = 1; step < 4; step *= 2) {
            sum += __shfl_xor_sync(~0u, sum, step);
            largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, step));
        }
        const u32 exponent = min(__float_as_uint(largest) >> 23, 252);
        const float factor = __uint_as_float((253 - exponent) << 23), scale = __uint_as_float((exponent + 1) << 23);
        const int row = warp * 16 + h * 8;
        const u32 block = row / SHARED_ROWS, local = row % SHARED_ROWS;
        const u32 barrier = in_block(shared + PARTIALS_FULL, block);
        const u32 partial = in_block(shared + PARTIALS + rank * PARTIAL_BYTES + local / 8 * 4 * UNIT_BYTES + lane * 16, block);
        if (lane % 4 == 0)
            send(in_block(shared + STATISTICS + rank * STATISTIC_BYTES + (local + lane / 4) * 16, block), barrier,
                 __float_as_uint(rows.maximum[h]), __float_as_uint(sum), __float_as_uint(scale), 0);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u32 part[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float* o = &rows.output[16 * i + 4 * j + 2 * h];
                part[j] = halves(o[0] * factor, o[1] * factor);
            }
            send(partial + i * UNIT_BYTES, barrier, part[0], part[1], part[2], part[3]);
        }
    }
}

// Merges this block's rows of a pass and writes them.
__device__ __forceinline__ void merge(const unsigned char* shared, u32 rank, bf16_bits* output, i64 first_token, int tokens,
                                      int first_head, int heads) {
    const int unit = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (unit >= SHARED_ROWS / 2) return;
    const int local = unit / 4 * 8 + lane / 4;
    float4 statistic[SPLITS];
    float maximum = NO_MAXIMUM;
#pragma unroll
    for (int split = 0; split < SPLITS; split++) {
        statistic[split] = *(const float4*)(shared + STATISTICS + split * STATISTIC_BYTES + local * 16);
        maximum = fmaxf(maximum, statistic[split].x);
    }
    float sum = 0, o[8] = {};
#pragma unroll
    for (int split = 0; split < SPLITS; split++) {
        const float weight = power_of_two((statistic[split].x - maximum) * LOG2_E);
        sum += weight * statistic[split].y;
        const uint4 part = *(const uint4*)(shared + PARTIALS + split * PARTIAL_BYTES + unit * UNIT_BYTES + lane * 16);
        const u32 parts[4] = {part.x, part.y, part.z, part.w};
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float2 both = from_halves(parts[j]);
            o[2 * j] += weight * statistic[split].z * both.x;
            o[2 * j + 1] += weight * statistic[split].z * both.y;
        }
    }
    const int row = rank * SHARED_ROWS + local, head = row / MAX_TOKENS, token = row % MAX_TOKENS;
    if (head < heads && token < tokens) {
        const float factor = 1 / sum;
        bf16_bits* to = output + ((first_token + token) * HEADS + first_head + head) * HEAD_DIM + unit % 4 * 32 + lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < 4; j++) *(u32*)(to + 8 * j) = rounded(o[2 * j] * factor, o[2 * j + 1] * factor);
    }
}

// --- Preparation: a warp takes a row; a lane has elements 2l, 2l+1 and their partners 64 further ---

#if QKV_BF16
typedef bf16_bits Projected;
#else
typedef float Projected;
#endif

__device__ __forceinline__ void load_row(float (&x)[4], const float* row) {
    const float* at = row + threadIdx.x % 32 * 2;
    asm volatile("ld.global.v2.f32 {%0, %1}, [%2];" : "=f"(x[0]), "=f"(x[1]) : "l"(at));
    asm volatile("ld.global.v2.f32 {%0, %1}, [%2];" : "=f"(x[2]), "=f"(x[3]) : "l"(at + HEAD_DIM / 2));
}

__device__ __forceinline__ void load_row(float (&x)[4], const bf16_bits* row) {
    u32 low, high;
    const bf16_bits* at = row + threadIdx.x % 32 * 2;
    asm volatile("ld.global.u32 %0, [%1];" : "=r"(low) : "l"(at));
    asm volatile("ld.global.u32 %0, [%1];" : "=r"(high) : "l"(at + HEAD_DIM / 2));
    x[0] = __uint_as_float(low << 16), x[1] = __uint_as_float(low & 0xffff0000);
    x[2] = __uint_as_float(high << 16), x[3] = __uint_as_float(high & 0xffff0000);
}

// The tables' second halves equal the first: cosines then sines.
__device__ __forceinline__ void load_angles(float (&angles)[4], const float* cos, const float* sin) {
    const int at = threadIdx.x % 32 * 2;
    asm volatile("ld.global.v2.f32 {%0, %1}, [%2];" : "=f"(angles[0]), "=f"(angles[1]) : "l"(cos + at));
    asm volatile("ld.global.v2.f32 {%0, %1}, [%2];" : "=f"(angles[2]), "=f"(angles[3]) : "l"(sin + at));
}

// RMSNorm and rotary of a warp's rows, together so that their reductions overlap.
template <int ROWS>
__device__ __forceinline__ void normalize_rotate(float (&x)[ROWS][4], const float (&weight)[4], const float (&angles)[ROWS][4],
                                                 float epsilon, float scale) {
    float squares[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) squares[r] = x[r][0] * x[r][0] + x[r][1] * x[r][1] + x[r][2] * x[r][2] + x[r][3] * x[r][3];
#pragma unroll
    for (int step = 16; step > 0; step /= 2)
#pragma unroll
        for (int r = 0; r < ROWS; r++) squares[r] += __shfl_xor_sync(~0u, squares[r], step);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const float factor = rsqrtf(squares[r] / HEAD_DIM + epsilon);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float low = x[r][i] * factor * weight[i], high = x[r][i + 2] * factor * weight[i + 2];
            x[r][i] = (low * angles[r][i] - high * angles[r][i + 2]) * scale;
            x[r][i + 2] = (high * angles[r][i] + low * angles[r][i + 2]) * scale;
        }
    }
}

struct Projection {
    const Projected* qkv;
    const float *cos, *sin;
    i64 angle_stride;
    int tokens;
};

// Query rows `first` and following of a pass that begins with the group's head `first_head`; zeros where there is no token or head.
template <int ROWS>
__device__ __forceinline__ void load_query_rows(float (&x)[ROWS][4], float (&angles)[ROWS][4], const Projection& from, int row,
                                                int key_value_head, int first_head, int first) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int token = (first + r) % MAX_TOKENS, head = first_head + (first + r) / MAX_TOKENS;
#pragma unroll
        for (int i = 0; i < 4; i++) x[r][i] = angles[r][i] = 0;
        if (token >= from.tokens || head >= GROUP) continue;
        const i64 entry = (i64)row * from.tokens + token;
        load_row(x[r], from.qkv + (entry * (HEADS + 2 * KEY_VALUE_HEADS) + key_value_head * GROUP + head) * HEAD_DIM);
        load_angles(angles[r], from.cos + entry * from.angle_stride, from.sin + entry * from.angle_stride);
    }
}

// Sends prepared query rows to every block of the cluster.
template <int ROWS>
__device__ __forceinline__ void send_queries(const float (&x)[ROWS][4], int first, u32 shared, u32 rank) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int row = first + r;
        const u32 low = rounded(x[r][0], x[r][1]), high = rounded(x[r][2], x[r][3]);
        u32 chunk[4];  // lanes 0-7 and 16-23: a chunk of the first half each; the others: of the second
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const u32 a = __shfl_sync(~0u, low, lane % 8 * 4 + i), b = __shfl_sync(~0u, high, lane % 8 * 4 + i);
            chunk[i] = lane & 8 ? b : a;
        }
        const u32 address = shared + QUERIES + (lane / 8 & 1) * PASS_ROWS * 128 + row * 128 + ((lane % 8 ^ row % 8) << 4);
#pragma unroll
        for (int i = 0; i < SPLITS; i += 2) {
            const u32 block = (rank + i + lane / 16) % SPLITS;
            send(in_block(address, block), in_block(shared + QUERIES_FULL, block), chunk[0], chunk[1], chunk[2], chunk[3]);
        }
    }
}

// Stores a prepared row of own keys (or values): its elements 2l, 2l+1 and their partners.
__device__ __forceinline__ void store_row(u32 tile, int row, u32 low, u32 high) {
    const int lane = threadIdx.x % 32;
    const u32 to = tile + row * 128 + ((lane / 4 ^ row % 8) << 4) + lane % 4 * 4;
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(low) : "memory");
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(to + TILE_HALF), "r"(high) : "memory");
}

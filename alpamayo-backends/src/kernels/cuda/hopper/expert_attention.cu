// Attention of the flow-matching expert: every row's few action tokens (queries) over a long key-value cache, in one launch.
// Preparation of queries and keys (per-head RMSNorm, rotary, scaling, rounding), softmax attention and the merge of the splits.
//
// A cluster of SPLITS blocks serves one key-value head of one clip. Each block holds 1/SPLITS of the prompt's keys in shared memory,
// prepares 1/SPLITS of the queries for the whole cluster, attends with all of them to its keys and sends the partial outputs
// to the blocks that merge them, all through distributed shared memory. Sums have a fixed order: results are reproducible.
//
// The source is hopper.cu, expert_parts.cu and this file, one after the other, as one translation unit.
//
// Launch contract
//   entry      expert_attention: grid (SPLITS, KEY_VALUE_HEADS, clips * ceil(samples / rows_per_cluster)), cluster (SPLITS, 1, 1), 384 threads.
//              Dynamic shared memory 67'616 + 40'992 * BUFFERS bytes (231'584 for 4, 190'592 for 3), whatever SPLITS.
//              Attributes: max dynamic shared memory; the cluster is compiled in; non-portable cluster size where SPLITS is 16; programmatic stream
//              serialization optional.
//   macros     HEADS, KEY_VALUE_HEADS (group of 1 to 8), QKV_BF16 (1: qkv is bf16, 0: f32). SPLITS 8 (default: runs on every H100) or 16 (worth
//              it only where cuOccupancyMaxActiveClusters allows KEY_VALUE_HEADS clusters of 16 at once). BUFFERS 4 (default).
//   maps       prompt_keys, prompt_values: bf16, rank 4, dims (128, prompt_length, KEY_VALUE_HEADS, clips), the cache's strides (its extent is
//              prompt_length, not its capacity: what lies beyond reads as zeros), box (64, 40, 1, 1), swizzle 128 B, no interleave, zero fill.
//   arguments  qkv [rows * tokens, (HEADS + 2 * KEY_VALUE_HEADS) * 128]; cos, sin f32 [rows * tokens, 128], rows `angle_stride` elements
//              apart (even), second halves equal to the first; query_weight, key_weight f32 [128]; suffix_keys, suffix_values bf16, both with
//              these strides in elements (multiples of 4); lengths i32 [rows]; output bf16 [rows * tokens, HEADS * 128]; samples: rows of a
//              clip (row = clip * samples + sample); rows_per_cluster: 1 to samples, rows that one cluster takes in turn with the
//              prompt read once. Pointers are 16-byte aligned.
//   shapes     tokens 1 to 64; prompt_length, samples, clips at least 1; lengths 0 or more.
//   order      The prompt, the suffix, lengths and weights are read before griddepcontrol.wait: they must be complete before any launch
//              that may still run when the previous launch begins. After it qkv, cos and sin are read and output is written.
// The order of a block's tiles in a pass, and their way through the buffers. The tile with the prompt's end and own keys comes first:
// it is prepared while the queries are.
struct Schedule {
    int tiles, tail_tile;
    __device__ __forceinline__ bool resident() const { return tiles <= BUFFERS; }
    __device__ __forceinline__ int tile(int step) const { return step == 0 ? tail_tile : step <= tail_tile ? step - 1 : step; }
    __device__ __forceinline__ int buffer(int pass, int step) const { return resident() ? step : (pass * tiles + step) % BUFFERS; }
    __device__ __forceinline__ int use(int pass, int step) const { return resident() ? pass : (pass * tiles + step) / BUFFERS; }
};

extern "C" __global__ void __cluster_dims__(SPLITS, 1, 1) __launch_bounds__(384, 1)
    expert_attention(const __grid_constant__ TensorMap prompt_keys, const __grid_constant__ TensorMap prompt_values,
                     const Projected* qkv, const float* cos, const float* sin, i64 angle_stride, const float* query_weight,
                     const float* key_weight, float epsilon, const bf16_bits* suffix_keys, const bf16_bits* suffix_values,
                     const int* lengths, i64 suffix_row_stride, i64 suffix_head_stride, i64 suffix_key_stride, bf16_bits* output,
                     int samples, int rows_per_cluster, int tokens, int prompt_length) {
    extern __shared__ __align__(1024) unsigned char memory[];
    const u32 shared = (u32)__cvta_generic_to_shared(memory);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const u32 rank = blockIdx.x;  // the cluster spans the grid's first dimension
    const int key_value_head = blockIdx.y;
    const int clusters = (samples + rows_per_cluster - 1) / rows_per_cluster;  // of a clip and head
    const int clip = blockIdx.z / clusters, first_sample = blockIdx.z % clusters * rows_per_cluster;
    const int first_row = clip * samples + first_sample, rows_here = min(rows_per_cluster, samples - first_sample);
    const int passes = rows_here * PASSES;
    const bool is_consumer = warp < CONSUMER_THREADS / 32, is_loader = warp == 11;

    // This block's keys: its share of the prompt, then the tail, its share of the row's own and suffix keys. They are cut into tiles,
    // which stay for all passes where they fit. The tail begins in the tile where the prompt ends, behind its bulk copies.
    const int prompt_begin = min((int)rank * share_of(prompt_length), prompt_length);
    const int prompt_keys_here = min(share_of(prompt_length), prompt_length - prompt_begin);
    const int tail_tile = prompt_keys_here / TILE_KEYS, over = prompt_keys_here % TILE_KEYS;
    const int tail_begin = tail_tile * TILE_KEYS + (over == 0 ? 0 : max((over + 7) / 8 * 8, BOX_KEYS));
    const int own_begin = rank * share_of(tokens);
    const int own = clamp(tokens - own_begin, 0, share_of(tokens));

    // The prompt's part of a tile, in two boxes: the second one is moved back to end with the keys.
    auto load_prompt = [&](int tile, int buffer) {
        const int count = clamp(tail_begin - tile * TILE_KEYS, 0, TILE_KEYS), boxes = (count + BOX_KEYS - 1) / BOX_KEYS;
        for (int values = 0; values < 2; values++) {
            const u32 full = shared + (values ? VALUES_FULL : KEYS_FULL) + 8 * buffer;
            expect(full, boxes * BOX_KEYS * HEAD_DIM * 2);
            for (int box = 0; box < boxes; box++)
                for (int half = 0; half < 2; half++) {
                    const int key = box * (count - BOX_KEYS);
                    load_box(values ? prompt_values : prompt_keys,
                             shared + TILES + (2 * buffer + values) * TILE_BYTES + half * TILE_HALF + key * 128, full, half * 64,
                             prompt_begin + tile * TILE_KEYS + key, key_value_head, clip);
                }
        }
    };

    if (is_loader && lane == 0) {
        barrier_init(shared + QUERIES_FULL, 1);
        barrier_init(shared + QUERIES_FREE, SPLITS);
        barrier_init(shared + PARTIALS_FULL, 1);
        barrier_init(shared + PARTIALS_FREE, SPLITS);
        for (int i = 0; i < BUFFERS; i++) {
            barrier_init(shared + TAIL_FULL + 8 * i, PREPARE_WARPS);
            barrier_init(shared + KEYS_FULL + 8 * i, 1);
            barrier_init(shared + VALUES_FULL + 8 * i, 1);
            barrier_init(shared + TILE_FREE + 8 * i, CONSUMER_THREADS / 32);
        }
        expect(shared + QUERIES_FULL, QUERY_BYTES);
        expect(shared + PARTIALS_FULL, SPLITS * (PARTIAL_BYTES + STATISTIC_BYTES));
        asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncwarp();
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");

    // How the tiles go through the buffers; all roles count alike.
    auto make_schedule = [&] {
        int longest = 0;
        for (int row = 0; row < rows_here; row++) longest = max(longest, share_of(lengths[first_row + row]));
        return Schedule{max((tail_begin + own + longest + TILE_KEYS - 1) / TILE_KEYS, tail_tile + 1), tail_tile};
    };
    const Projection projection = {qkv, cos, sin, angle_stride, tokens};

    if (is_consumer) {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 192;");
        float query_weights[4];
        load_row(query_weights, query_weight);
        const Schedule schedule = make_schedule();
        asm volatile("griddepcontrol.wait;" ::: "memory");
        // The first pass waits for its queries: all warps prepare some.
        {
            float x[SHARED_ROWS / 8][4], angles[SHARED_ROWS / 8][4];
            const int first = rank * SHARED_ROWS + warp * (SHARED_ROWS / 8);
            load_query_rows(x, angles, projection, first_row, key_value_head, 0, first);
            normalize_rotate(x, query_weights, angles, epsilon, QUERY_SCALE);
            asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
            send_queries(x, first, shared, rank);
        }
        auto merge_pass = [&](int pass) {
            wait(shared + PARTIALS_FULL, pass & 1);
            const int first = pass % PASSES * 2;
            merge(memory, rank, output, (i64)(first_row + pass / PASSES) * tokens, tokens, key_value_head * GROUP + first,
                  GROUP - first);
        };
        for (int pass = 0; pass < passes; pass++) {
            const bool last = pass + 1 == passes;
            const int length = lengths[first_row + pass / PASSES];
            const int tail_end = tail_begin + own + clamp(length - (int)rank * share_of(length), 0, share_of(length));

            u32 query[8][4];
            wait(shared + QUERIES_FULL, pass & 1);
            load_queries(query, shared + QUERIES);
            __syncwarp();
            if (!last) {
                if (threadIdx.x == 0) expect(shared + QUERIES_FULL, QUERY_BYTES);
                if (lane < 16 / SHARED_ROWS) arrive_in((warp * 16 + lane * 8) / SHARED_ROWS, shared + QUERIES_FREE);
            }

            Rows rows;
#pragma unroll
            for (int i = 0; i < 64; i++) rows.output[i] = 0;
#pragma unroll
            for (int h = 0; h < 2; h++) rows.maximum[h] = NO_MAXIMUM, rows.sum[h] = 0;
            // The product of the next tile's keys runs beside this tile's product with values, and that beside the next exponentials.
            float s[TILE_KEYS / 2];
            auto begin_keys = [&](int step) {
                const int buffer = schedule.buffer(pass, step), parity = schedule.use(pass, step) & 1;
                wait(shared + KEYS_FULL + 8 * buffer, parity);
                wait(shared + TAIL_FULL + 8 * buffer, parity);
                const u64 keys = descriptor(shared + TILES + 2 * buffer * TILE_BYTES, 16);
                pin(s);
                pin(rows.output);
                products_begin();
#pragma unroll
                for (int k = 0; k < 8; k++) multiply_keys(s, query[k], keys + (k / 4 * TILE_HALF + k % 4 * 32) / 16, k != 0);
                products_commit();
            };
            auto release = [&](int step) {
                if (lane == 0) arrive(shared + TILE_FREE + 8 * schedule.buffer(pass, step));
            };
            // What a tile's scores become: weights, and the outputs so far scaled to them.
            u32 weights[TILE_KEYS / 4];
            auto weigh = [&](int step) {
                const int tile = schedule.tile(step), begin = tile * TILE_KEYS;
                if (tile >= tail_tile) hide(s, prompt_keys_here - begin, tail_begin - begin, tail_end - begin);
                float scale[2];
                exponentiate(s, rows, scale);
                products_wait<0>();
                pin(rows.output);
                if (step > 0) release(step - 1);
#pragma unroll
                for (int i = 0; i < TILE_KEYS / 4; i++) weights[i] = rounded(s[2 * i], s[2 * i + 1]);
#pragma unroll
                for (int i = 0; i < 64; i++) rows.output[i] *= scale[i / 2 % 2];
            };
            auto begin_values = [&](int step) {
                const int buffer = schedule.buffer(pass, step);
                wait(shared + VALUES_FULL + 8 * buffer, schedule.use(pass, step) & 1);
                const u64 values = descriptor(shared + TILES + (2 * buffer + 1) * TILE_BYTES, TILE_HALF);
#pragma unroll
                for (int k = 0; k < TILE_KEYS / 16; k++)
                    multiply_values(rows.output, weights[4 * k], weights[4 * k + 1], weights[4 * k + 2], weights[4 * k + 3],
                                    values + k * 16 * 128 / 16);
                products_commit();
            };
            begin_keys(0);
            products_wait<0>();
            pin(s);
            for (int step = 0; step + 1 < schedule.tiles; step++) {
                weigh(step);
                begin_keys(step + 1);
                begin_values(step);
                products_wait<1>();
                pin(s);
            }
            weigh(schedule.tiles - 1);
            pin(rows.output);
            products_begin();
            begin_values(schedule.tiles - 1);
            products_wait<0>();
            pin(rows.output);
            release(schedule.tiles - 1);
            if (pass > 0) {
                // The partials' memory is free for this pass when every block has merged the one before.
                merge_pass(pass - 1);
                if (threadIdx.x == 0) expect(shared + PARTIALS_FULL, SPLITS * (PARTIAL_BYTES + STATISTIC_BYTES));
                asm volatile("bar.sync 1, 256;" ::: "memory");
                if (threadIdx.x < SPLITS) arrive_in(threadIdx.x, shared + PARTIALS_FREE);
                wait(shared + PARTIALS_FREE, (pass - 1) & 1);
            }
            send_partials(rows, shared, rank);
        }
        // Whatever is sent to this block has arrived by then: it may exit.
        merge_pass(passes - 1);
    } else {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 120;");
        if (is_loader) {
            if (lane == 0) {
                // The prompt is older than the previous launch: its loads needn't wait for that, nor for the cluster.
                const int early = min(tail_tile + 1, BUFFERS);
                Schedule schedule = {0, tail_tile};
                for (int step = 0; step < early; step++) load_prompt(schedule.tile(step), step);
                schedule = make_schedule();
                for (int pass = 0; pass < passes; pass++)
                    for (int step = pass == 0 ? early : 0; step < schedule.tiles; step++) {
                        const int buffer = schedule.buffer(pass, step), use = schedule.use(pass, step);
                        if (use > 0) wait(shared + TILE_FREE + 8 * buffer, (use - 1) & 1);
                        if (schedule.resident() && pass > 0) {
                            arrive(shared + KEYS_FULL + 8 * buffer);
                            arrive(shared + VALUES_FULL + 8 * buffer);
                        } else {
                            load_prompt(schedule.tile(step), buffer);
                        }
                    }
            }
            __syncwarp();
            asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
        } else {
            const int worker = warp - CONSUMER_THREADS / 32;
            float query_weights[4], key_weights[4];
            load_row(query_weights, query_weight);
            load_row(key_weights, key_weight);
            const Schedule schedule = make_schedule();
            for (int pass = 0; pass < passes; pass++) {
                const int row = first_row + pass / PASSES;
                if (pass > 0) {
                    wait(shared + QUERIES_FREE, (pass - 1) & 1);
                    for (int i = worker * 2; i < SHARED_ROWS; i += PREPARE_WARPS * 2) {
                        float x[2][4], angles[2][4];
                        const int first = rank * SHARED_ROWS + i;
                        load_query_rows(x, angles, projection, row, key_value_head, pass % PASSES * 2, first);
                        normalize_rotate(x, query_weights, angles, epsilon, QUERY_SCALE);
                        send_queries(x, first, shared, rank);
                    }
                }
                const int length = lengths[row];
                const int suffix_begin = rank * share_of(length);
                const int suffix = clamp(length - suffix_begin, 0, share_of(length));
                for (int step = 0; step < schedule.tiles; step++) {
                    const int buffer = schedule.buffer(pass, step), use = schedule.use(pass, step);
                    const u32 keys = shared + TILES + 2 * buffer * TILE_BYTES;
                    // Tail keys in earlier tiles; negative: the prompt's keys here.
                    const int before = schedule.tile(step) * TILE_KEYS - tail_begin;
                    if (use > 0) wait(shared + TILE_FREE + 8 * buffer, (use - 1) & 1);
                    if (pass == 0 && step == 0) {
                        asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
                        asm volatile("griddepcontrol.wait;" ::: "memory");
                    }
                    const bool has_own = before > -TILE_KEYS && before <= 0;
                    float x[OWN_ROWS][4], value[OWN_ROWS][4], angles[OWN_ROWS][4];
#pragma unroll
                    for (int r = 0; r < OWN_ROWS; r++) {
                        const int key = worker + r * PREPARE_WARPS;
#pragma unroll
                        for (int i = 0; i < 4; i++) x[r][i] = value[r][i] = angles[r][i] = 0;
                        if (!has_own || key >= own) continue;
                        const i64 entry = (i64)row * tokens + own_begin + key;
                        const Projected* from = qkv + (entry * (HEADS + 2 * KEY_VALUE_HEADS) + HEADS + key_value_head) * HEAD_DIM;
                        load_row(x[r], from);
                        load_row(value[r], from + KEY_VALUE_HEADS * HEAD_DIM);
                        load_angles(angles[r], cos + entry * angle_stride, sin + entry * angle_stride);
                    }
                    // Suffix keys, and zeros after the last.
#pragma unroll 4
                    for (int at = max(own - before, 0) + worker; at < TILE_KEYS; at += PREPARE_WARPS) {
                        const int key = before + at - own;
                        uint2 k = {0, 0}, v = {0, 0};
                        if (key < suffix) {
                            const i64 from = row * suffix_row_stride + key_value_head * suffix_head_stride +
                                             (suffix_begin + key) * suffix_key_stride + lane * 4;
                            k = *(const uint2*)(suffix_keys + from);
                            v = *(const uint2*)(suffix_values + from);
                        }
                        const u32 to = keys + lane / 16 * TILE_HALF + at * 128 + ((lane % 16 / 2 ^ at % 8) << 4) + lane % 2 * 8;
                        asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(to), "r"(k.x), "r"(k.y) : "memory");
                        asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(to + TILE_BYTES), "r"(v.x), "r"(v.y) : "memory");
                    }
                    if (has_own) {
                        normalize_rotate(x, key_weights, angles, epsilon, 1);
#pragma unroll
                        for (int r = 0; r < OWN_ROWS; r++) {
                            const int key = worker + r * PREPARE_WARPS;
                            if (key >= own) continue;
                            store_row(keys, key - before, rounded(x[r][0], x[r][1]), rounded(x[r][2], x[r][3]));
                            store_row(keys + TILE_BYTES, key - before, rounded(value[r][0], value[r][1]),
                                      rounded(value[r][2], value[r][3]));
                        }
                    }
                    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
                    __syncwarp();
                    if (lane == 0) arrive(shared + TAIL_FULL + 8 * buffer);
                }
            }
        }
    }
}

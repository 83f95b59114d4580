// The next token of each row, drawn from its clip's logits in one launch: temperature, top-p, ids that can't be drawn, or the first of
// the most likely tokens. By the same integers and comparisons as the kernels of sample/, so that the same token is drawn.
//
// Of every token that can be drawn the weight is exp(logit / temperature - largest / temperature) in f32, and counts as
// floor(weight * 2^40). What is dropped is the share `dropped` of the total, from the least weights upwards, of one weight the lower ids
// first. A row's token is the one at which the running sum of what is kept, in the order of ids, passes the row's share of the total.
//
// Blocks of a clip keep their tokens in registers and tell each other what they found, five times: the best token; three levels of
// histograms over the leading bits of weights, of which each resolves the bin of the one before that holds the cut; what lies above the
// cut's weight, and how many tokens have it. From those sums every block knows which tokens are kept, where its own begin, and which
// rows' tokens are among them.
// Blocks wait for each other, so all blocks have to fit the device at once.
//
// A warp has 32 * ROUNDS consecutive ids, a lane every 32nd of them: the order of warps, then of rounds, then of lanes is that of ids.
//
// Launch
//   grid      (blocks, clips), at most as many blocks in all as multiprocessors; block THREADS
//   shared    no dynamic
//   attribute programmatic stream serialization allowed (and useful); right without it too. Dependents are launched at once
//   shapes    1 <= tokens <= blocks * THREADS * ROUNDS, blocks <= THREADS, 1 <= repeats and repeats * clips <= 8
//   logits    f32 [clips, tokens]; ids from masked_start to masked_end, without it, can't be drawn
//   out       [2, clips * repeats], for `repeats` rows of each clip: ids, then faults as in keys.rs
//   counters  3 * clips zeros, which the launch leaves zero
//   exchange  8 * clips * (2 * blocks * blocks + blocks + ALL_BINS) bytes, all ones; the launch leaves them so. Alignment 16 bytes
//   dropped, u0 to u7  shares in units of 2^-32: what is dropped, and for each row the number that chooses its token
// Macros
//   THREADS   a multiple of 32
//   ROUNDS    tokens of a thread, at most 32
//   GREEDY    1: the first of the most likely tokens; temperature, shares and counters don't matter

typedef unsigned long long u64;

constexpr int WARPS = THREADS / 32, ROWS = 8;
constexpr unsigned ALL = ~0u;
constexpr u64 MISSING = ~0ull; // what nobody has written yet
static_assert(THREADS % 32 == 0 && WARPS <= 32 && ROUNDS <= 32, "a lane per warp, a bit per round");

// What lies below 2^-40 is no part of any sum, and below the first level's second bin.
constexpr unsigned BEFORE = (87 << 5) - 1;
constexpr int LEVELS = 3, ALL_BINS = (127 << 5) - BEFORE + 1 + (1 << 10) + (1 << 8);

// A level's bins: the bits of a weight below them, the bits by which they resolve one of the level before, how many they are, and
// where they begin.
struct Level {
    int shift, bits, bins, start;
};

__device__ __forceinline__ Level level_of(int level) {
    constexpr int FIRST = ALL_BINS - (1 << 10) - (1 << 8);
    if (level == 0) return {18, 0, FIRST, 0};
    if (level == 1) return {8, 10, 1 << 10, FIRST};
    return {0, 8, 1 << 8, FIRST + (1 << 10)};
}

constexpr int RUN = ((127 << 5) - BEFORE + THREADS) / THREADS; // bins of a thread: of the first level, which has the most

struct Shared {
    unsigned low[ALL_BINS], high[ALL_BINS]; // the block's sums
    u64 of_warps[WARPS];                    // for scans and maxima
    u64 above[WARPS];                       // the warp's sum of weights above the cut's
    unsigned ties[WARPS];                   // its tokens with the cut's weight
    unsigned bin;                           // that holds the cut
    u64 rest;                               // what the limit leaves there
    u64 start;                              // kept sum of the blocks before
    unsigned first_tie;                     // ties of the blocks before
    unsigned uniforms[ROWS];
};

// A block's sums: of weights above the cut's, and the number of tokens that have it.
struct Sums {
    u64 above, ties;
};

// Where a block is, and its clip's memory.
struct Place {
    unsigned rank, blocks;
    unsigned* counters; // one per level
    Sums* sums;         // [reader][writer]
    u64* bests;         // [writer]
    u64* bins;          // sums minus one
};

// Where the cut falls on a level: the leading bits of the weights in its bin, and what the limit leaves there.
struct Cut {
    unsigned leading;
    u64 rest;
};

// --- Memory that blocks exchange ---

__device__ __forceinline__ unsigned load_logit(const unsigned* from) { // past L1: the predecessor wrote it
    unsigned v;
    asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(v) : "l"(from) : "memory");
    return v;
}

__device__ __forceinline__ u64 load(const u64* from) {
    u64 v;
    asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(v) : "l"(from) : "memory");
    return v;
}

__device__ __forceinline__ void store(u64* to, u64 v) { asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(to), "l"(v) : "memory"); }

__device__ __forceinline__ Sums load_sums(const Sums* from) {
    Sums v;
    asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];" : "=l"(v.above), "=l"(v.ties) : "l"(from) : "memory");
    return v;
}

__device__ __forceinline__ void store_sums(Sums* to, Sums v) {
    asm volatile("st.relaxed.gpu.global.v2.u64 [%0], {%1, %2};" ::"l"(to), "l"(v.above), "l"(v.ties) : "memory");
}

__device__ __forceinline__ void count_in(unsigned* counter) { asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory"); }

__device__ __forceinline__ unsigned counted(const unsigned* counter) {
    unsigned v;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(counter) : "memory");
    return v;
}

// What all threads of the clip's blocks wrote before, they see behind it.
__device__ __forceinline__ void meet(unsigned* counter, unsigned blocks) {
    __syncthreads();
    if (threadIdx.x == 0) {
        count_in(counter);
        while (counted(counter) != blocks) {}
    }
    __syncthreads();
}

// --- Sums and maxima of a block ---

// The sum of the lanes up to this one.
__device__ __forceinline__ u64 warp_scan(u64 own) {
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
        u64 before = __shfl_up_sync(ALL, own, offset);
        if (threadIdx.x % 32 >= offset) own += before;
    }
    return own;
}

// The lanes' sum; they are below 2^54.
__device__ __forceinline__ u64 warp_sum(u64 own) {
    constexpr int PIECE = 27;
    unsigned low = static_cast<unsigned>(own) & ((1u << PIECE) - 1), high = own >> PIECE;
    return (static_cast<u64>(__reduce_add_sync(ALL, high)) << PIECE) + __reduce_add_sync(ALL, low);
}

struct Scan {
    u64 before, total; // of the threads before this one, of all
};

__device__ __forceinline__ Scan block_scan(Shared& shared, u64 own) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    u64 in_warp = warp_scan(own);
    __syncthreads(); // nobody reads an earlier scan's
    if (lane == 31) shared.of_warps[warp] = in_warp;
    __syncthreads();
    u64 warps = warp_scan(lane < WARPS ? shared.of_warps[lane] : 0);
    u64 before = __shfl_sync(ALL, warps, (warp + 31) % 32);
    return {(warp == 0 ? 0 : before) + in_warp - own, __shfl_sync(ALL, warps, 31)};
}

__device__ __forceinline__ u64 warp_max(u64 own) {
    unsigned high = own >> 32, most = __reduce_max_sync(ALL, high);
    unsigned low = __reduce_max_sync(ALL, high == most ? static_cast<unsigned>(own) : 0u);
    return static_cast<u64>(most) << 32 | low;
}

__device__ __forceinline__ u64 block_max(Shared& shared, u64 own) {
    u64 of_warp = warp_max(own);
    __syncthreads();
    if (threadIdx.x % 32 == 0) shared.of_warps[threadIdx.x / 32] = of_warp;
    __syncthreads();
    return warp_max(threadIdx.x % 32 < WARPS ? shared.of_warps[threadIdx.x % 32] : 0);
}

// --- Logits and weights, as in keys.rs and wide.rs ---

// Ordered as the f32 of these bits; both zeros have the same, NaN the largest. What can't be drawn has the key 0.
__device__ __forceinline__ unsigned order_key(unsigned bits) {
    unsigned magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return ~0u;
    return magnitude != bits && magnitude > 0 ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float value_of(unsigned key) {
    unsigned bits = key & 0x7fffffffu;
    return __uint_as_float(bits == key ? ~key : bits);
}

// A token's key before its id: of the same key the lowest id is the largest. Never all ones.
__device__ __forceinline__ u64 candidate(unsigned key, unsigned id) { return static_cast<u64>(key) << 32 | (0x7fffffffu - id); }

__device__ __forceinline__ unsigned id_of(u64 candidate) { return 0x7fffffffu - static_cast<unsigned>(candidate); }

// What is wrong with a clip whose largest logit has this key: 1 NaN, 2 infinite, 3 nothing to draw.
__device__ __forceinline__ unsigned fault_of(unsigned key) {
    return key == ~0u ? 1 : key >= 0xff800000u ? 2 : key <= 0x007fffffu ? 3 : 0;
}

// Relative to the largest logit's, which is over the temperature already.
__device__ __forceinline__ float weight(float logit, float temperature, float largest) {
    float x = fminf(logit / temperature - largest, 0.0f);
    float clamped = fmaxf(x, -87.0f);
    float n = floorf(clamped * 1.44269504088896340736f + 0.5f);
    float r = clamped - n * 0.6933594f - n * -2.1219444e-4f;
    float sum = 1.9875691e-4f;
    sum = sum * r + 1.3982e-3f;
    sum = sum * r + 8.333452e-3f;
    sum = sum * r + 4.1665796e-2f;
    sum = sum * r + 1.6666665e-1f;
    sum = sum * r + 0.5f;
    float two_to_n = __uint_as_float(static_cast<unsigned>(static_cast<int>(n) + 127) << 23);
    float value = (sum * r * r + r + 1.0f) * two_to_n;
    return x < -87.0f ? 0.0f : value;
}

// floor(weight * 2^40) of a weight's bits; the weight is at most 1.
__device__ __forceinline__ u64 count_of(unsigned bits) {
    u64 mantissa = (bits & 0x7fffffu) | 0x800000u;
    return mantissa << 17 >> min(127 - static_cast<int>(bits >> 23), 63);
}

// floor(value * share / 2^32), share below 2^32.
__device__ __forceinline__ u64 share_of(u64 value, u64 share) { return (value >> 32) * share + ((value & ALL) * share >> 32); }

// --- The cut ---

// Adds to a bin of the block. The lower word's carry is that of whoever made it overflow.
__device__ __forceinline__ void add(Shared& shared, int bin, u64 count) {
    unsigned low = static_cast<unsigned>(count), high = count >> 32;
    if (low > 0) high += atomicAdd(&shared.low[bin], low) + low < low;
    if (high > 0) atomicAdd(&shared.high[bin], high);
}

// The bin of a level that holds the cut, from the sums of all blocks; `base` are the leading bits of its first one.
__device__ __forceinline__ Cut find(Shared& shared, const u64* sums, int bins, unsigned base, u64 limit, bool limit_is_share) {
    u64 own[RUN], sum = 0;
    int first = threadIdx.x * RUN;
#pragma unroll
    for (int i = 0; i < RUN; i++) own[i] = load(sums + min(first + i, bins - 1)) + 1;
#pragma unroll
    for (int i = 0; i < RUN; i++) {
        if (first + i >= bins) own[i] = 0;
        sum += own[i];
    }
    if (threadIdx.x == 0) shared.bin = 0, shared.rest = 0; // where all weights are zero
    Scan scan = block_scan(shared, sum);
    u64 target = limit_is_share ? share_of(scan.total, limit) : limit, passed = scan.before;
#pragma unroll
    for (int i = 0; i < RUN; i++) {
        if (target >= passed && target - passed < own[i]) shared.bin = first + i, shared.rest = target - passed;
        passed += own[i];
    }
    __syncthreads();
    return {base + shared.bin, shared.rest};
}

// Leaves a level's sums as they were found.
__device__ __forceinline__ void forget(const Place& place, Level level) {
#pragma unroll 1
    for (int bin = place.rank * THREADS + threadIdx.x; bin < level.bins; bin += place.blocks * THREADS)
        store(place.bins + level.start + bin, MISSING);
}

// The cut's weight, and what the limit leaves of its tokens: level by level, all blocks' weights in the cut's bin are added up by their
// bins of the next one. One loop: code is run from afar the first time.
__device__ __forceinline__ Cut find_cut(Shared& shared, const Place& place, const unsigned (&weights)[ROUNDS], unsigned dropped) {
    Cut cut = {0, dropped};
#pragma unroll 1
    for (int i = 0; i < LEVELS; i++) {
        Level level = level_of(i);
        unsigned base = i == 0 ? BEFORE : cut.leading << level.bits;
#pragma unroll
        for (int j = 0; j < ROUNDS; j++) {
            unsigned bin = (weights[j] >> level.shift) - base;
            if (bin < level.bins) add(shared, level.start + bin, count_of(weights[j]));
        }
        __syncthreads();
#pragma unroll 1
        for (int bin = level.start + threadIdx.x; bin < level.start + level.bins; bin += THREADS) {
            u64 sum = (static_cast<u64>(shared.high[bin]) << 32) + shared.low[bin];
            if (sum > 0) atomicAdd(place.bins + bin, sum);
        }
        meet(place.counters + i, place.blocks);
        cut = find(shared, place.bins + level.start, level.bins, base, cut.rest, i == 0);
        // Nobody reads any more what all had read before they met.
        if (i > 0) forget(place, level_of(i - 1));
        else if (threadIdx.x == 0) store(place.bests + place.rank, MISSING);
    }
    return cut;
}

// --- The launch ---

// The clip's best token, or 0 where this block needn't know.
__device__ __forceinline__ u64 best_of(Shared& shared, const Place& place, const unsigned (&logits)[ROUNDS], unsigned allowed, unsigned first) {
    unsigned key = 0, id = 0;
#pragma unroll
    for (int i = 0; i < ROUNDS; i++) {
        unsigned own = allowed >> i & 1 ? order_key(logits[i]) : 0;
        if (own > key) key = own, id = first + i * 32;
    }
    u64 best = block_max(shared, candidate(key, id));
    if (threadIdx.x == 0) store(place.bests + place.rank, best);
    if (GREEDY && place.rank > 0) return 0;
    best = 0;
    if (threadIdx.x < place.blocks)
        do best = load(place.bests + threadIdx.x);
        while (best == MISSING);
    if (GREEDY && threadIdx.x < place.blocks) store(place.bests + threadIdx.x, MISSING);
    return block_max(shared, best);
}

// Which of the tokens with the cut's weight are kept, where the block's kept tokens begin, and all blocks' sum.
struct Kept {
    unsigned dropped_ties, first_tie; // ties dropped, in the blocks before
    u64 start, total;
};

__device__ __forceinline__ Kept add_up(Shared& shared, const Place& place, const unsigned (&weights)[ROUNDS], Cut cut) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    Sums own = {0, 0};
#pragma unroll
    for (int i = 0; i < ROUNDS; i++) {
        own.above += weights[i] > cut.leading ? count_of(weights[i]) : 0;
        own.ties += __popc(__ballot_sync(ALL, weights[i] == cut.leading));
    }
    own.above = warp_sum(own.above);
    if (lane == 0) shared.above[warp] = own.above, shared.ties[warp] = own.ties;
    __syncthreads();
    own = {warp_sum(lane < WARPS ? shared.above[lane] : 0), __reduce_add_sync(ALL, lane < WARPS ? shared.ties[lane] : 0)};
    // Every block has a copy of its own, which only it reads and gives back.
    if (threadIdx.x < place.blocks) store_sums(place.sums + threadIdx.x * place.blocks + place.rank, own);
    // All tokens with the cut's weight count the same.
    u64 count = count_of(cut.leading), dropped_ties = count == 0 ? 0 : cut.rest / count;
    Sums of_block = {0, 0};
    if (threadIdx.x < place.blocks) {
        Sums* from = place.sums + place.rank * place.blocks + threadIdx.x;
        do of_block = load_sums(from);
        while (of_block.above == MISSING || of_block.ties == MISSING);
        store_sums(from, {MISSING, MISSING});
    }
    u64 first_tie = block_scan(shared, of_block.ties).before, end_tie = first_tie + of_block.ties;
    u64 kept_ties = end_tie > dropped_ties ? min(of_block.ties, end_tie - dropped_ties) : 0;
    Scan kept = block_scan(shared, of_block.above + kept_ties * count);
    if (threadIdx.x == place.rank) shared.start = kept.before, shared.first_tie = first_tie;
    __syncthreads();
    return {static_cast<unsigned>(dropped_ties), shared.first_tie, shared.start, kept.total};
}

// Writes the tokens of those rows at whose targets the running sum passes within this block.
__device__ __forceinline__ void pick(const Shared& shared, const unsigned (&weights)[ROUNDS], unsigned cut, Kept all, unsigned* out,
                                     int first_row, int repeats, unsigned first) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    unsigned ties = lane < WARPS ? shared.ties[lane] : 0, end_tie = all.first_tie + static_cast<unsigned>(warp_scan(ties));
    unsigned kept_ties = end_tie > all.dropped_ties ? min(ties, end_tie - all.dropped_ties) : 0;
    u64 kept = (lane < WARPS ? shared.above[lane] : 0) + kept_ties * count_of(cut), end = all.start + warp_scan(kept);
    kept = __shfl_sync(ALL, kept, warp);
    u64 start = __shfl_sync(ALL, end, warp) - kept;
    unsigned first_tie = __shfl_sync(ALL, end_tie - ties, warp);
    for (int row = first_row; row < first_row + repeats; row++) {
        u64 target = share_of(all.total, shared.uniforms[row]), passed = start;
        if (target < start || target - start >= kept) continue;
        unsigned tie = first_tie;
#pragma unroll 1
        for (int i = 0; i < ROUNDS && target >= passed; i++) {
            unsigned weight = 0;
#pragma unroll
            for (int j = 0; j < ROUNDS; j++) weight = i == j ? weights[j] : weight;
            unsigned equal = __ballot_sync(ALL, weight == cut);
            bool keeps = weight > cut || (weight == cut && tie + __popc(equal & ((1u << lane) - 1)) >= all.dropped_ties);
            u64 own = keeps ? count_of(weight) : 0, upto = passed + warp_scan(own);
            if (target < upto && target >= upto - own) out[row] = first + i * 32;
            passed = __shfl_sync(ALL, upto, 31);
            tie += __popc(equal);
        }
    }
}

// Draws the rows' tokens, where nothing is wrong with the logits.
__device__ __forceinline__ void choose(Shared& shared, const Place& place, const unsigned (&weights)[ROUNDS], unsigned dropped, unsigned* out,
                                       int first_row, int repeats, unsigned first) {
    Cut cut = find_cut(shared, place, weights, dropped);
    Kept kept = add_up(shared, place, weights, cut);
    // Every block has told its sums, so that none reads the last level or a counter any more.
    forget(place, level_of(LEVELS - 1));
    if (place.rank == 0 && threadIdx.x < LEVELS) place.counters[threadIdx.x] = 0;
    pick(shared, weights, cut.leading, kept, out, first_row, repeats, first);
}

extern "C" __global__ void __launch_bounds__(THREADS)
draw(const unsigned* logits, unsigned* out, unsigned* counters, u64* exchange, int tokens, int masked_start, int masked_end, int repeats,
     float temperature, unsigned dropped, unsigned u0, unsigned u1, unsigned u2, unsigned u3, unsigned u4, unsigned u5, unsigned u6, unsigned u7) {
    __shared__ Shared shared;
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#pragma unroll 1
    for (int bin = threadIdx.x; !GREEDY && bin < ALL_BINS; bin += THREADS) shared.low[bin] = 0, shared.high[bin] = 0;
    if (threadIdx.x == 0) {
        unsigned uniforms[ROWS] = {u0, u1, u2, u3, u4, u5, u6, u7};
        for (int i = 0; i < ROWS; i++) shared.uniforms[i] = uniforms[i];
    }
    unsigned blocks = gridDim.x, clip = blockIdx.y, clips = gridDim.y;
    u64* bests = exchange + clips * blocks * blocks * 2;
    Place place = {blockIdx.x, blocks, counters + clip * LEVELS, reinterpret_cast<Sums*>(exchange) + clip * blocks * blocks, bests + clip * blocks,
                   bests + clips * blocks + clip * ALL_BINS};
    int first = (blockIdx.x * THREADS + threadIdx.x / 32 * 32) * ROUNDS + threadIdx.x % 32; // id of the first round
    unsigned weights[ROUNDS], allowed = 0;
    asm volatile("griddepcontrol.wait;" ::: "memory");
#pragma unroll
    for (int i = 0; i < ROUNDS; i++) weights[i] = load_logit(logits + static_cast<size_t>(clip) * tokens + min(first + i * 32, tokens - 1));
#pragma unroll
    for (int i = 0; i < ROUNDS; i++) {
        int id = first + i * 32;
        if (id < tokens && (id < masked_start || id >= masked_end)) allowed |= 1u << i;
    }

    u64 best = best_of(shared, place, weights, allowed, first);
    unsigned key = best >> 32, fault = fault_of(key), row = clip * repeats + threadIdx.x;
    float largest = value_of(key) / temperature;
    if (!GREEDY && fault == 0 && (__float_as_uint(largest) & 0x7f800000u) == 0x7f800000u) fault = 4;
    if (place.rank == 0 && threadIdx.x < repeats) {
        out[clips * repeats + row] = fault;
        if (GREEDY || fault > 0) out[row] = id_of(best);
    }
    if (!GREEDY) {
#pragma unroll
        for (int i = 0; i < ROUNDS; i++) {
            bool counts = fault == 0 && (allowed >> i & 1);
            weights[i] = counts ? __float_as_uint(weight(__uint_as_float(weights[i]), temperature, largest)) : 0;
        }
        choose(shared, place, weights, dropped, out, clip * repeats, repeats, first);
    }
}

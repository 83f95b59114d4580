//! Flash attention in f32 without tensor cores: register blocks over tiles in shared memory, for any device.

use cubecl::prelude::*;

use super::element::{Chunk, HIDDEN, LOWEST, Quad, chunk_elements, widen};
use super::problem::{Extents, Keys, Problem, Queries, Side, Sources, keys_of, read, visible_keys};

/// Keys that one unit scores at a time, written as one quad.
const UNIT_KEYS: usize = 4;

/// Values per staged slice.
const VALUE_ROWS: usize = 16;

/// The tile of an exact attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ExactConfig {
    pub problem: Problem,
    /// Units per cube.
    pub units: usize,
    /// Queries per tile.
    pub queries: usize,
    /// Keys per tile.
    pub keys: usize,
    /// Queries that one unit scores.
    pub unit_queries: usize,
}

impl ExactConfig {
    /// The largest tile for so many queries per key-value head that takes at most so much shared memory: 16 KiB, the least that WebGPU
    /// promises, are enough for heads of up to 128.
    pub fn new(problem: Problem, queries: usize, shared_bytes: usize) -> Self {
        let tile = |queries, keys, unit_queries| Self {
            problem,
            units: 128,
            queries,
            keys,
            unit_queries,
        };
        let few = tile(8, 64, 1);
        let candidates = if queries > 16 {
            [tile(64, 32, 4), tile(32, 32, 2), tile(16, 32, 1)]
        } else {
            [few; 3]
        };
        let fitting = candidates.into_iter().find(|tile| tile.shared_bytes() <= shared_bytes);
        fitting.unwrap_or(few)
    }

    /// Shared memory of a cube.
    fn shared_bytes(&self) -> usize {
        let quads = self.stage() + self.queries * (self.key_groups() + 1);
        let floats = 2 * self.queries * self.key_groups() + 4 * self.queries;
        16 * quads + 4 * floats
    }

    /// Groups of units over the keys of a tile.
    fn key_groups(&self) -> usize {
        self.keys / UNIT_KEYS
    }

    /// Features per staged slice of queries and keys.
    fn slice(&self) -> usize {
        [32, 24, 16]
            .into_iter()
            .find(|slice| self.problem.head_dim.is_multiple_of(*slice))
            .unwrap_or(8)
    }

    /// Quads per staged row of a slice: odd, so that rows fall on different banks.
    fn slice_stride(&self) -> usize {
        self.slice() / 4 + 1
    }

    /// Quads of the stage that queries and keys, then values pass through.
    fn stage(&self) -> usize {
        ((self.queries + self.keys) * self.slice_stride()).max(VALUE_ROWS * self.problem.head_dim / 4)
    }

    /// Units over the features of the output, two quads each.
    fn feature_groups(&self) -> usize {
        self.problem.head_dim / 8
    }

    /// Output rows per unit.
    fn output_rows(&self) -> usize {
        (self.queries * self.feature_groups())
            .div_ceil(self.units)
            .next_power_of_two()
    }
}

/// Cube `(block of queries, entry · key-value heads, part of the keys)`.
///
/// `query` is `[rows · tokens, heads, head_dim]`, already scaled. Without a split, `output` is the result in the same layout.
/// With one it is `[rows · tokens, heads, parts, head_dim]` of unnormalised sums, `statistics` their maxima and weights.
#[cube(launch_unchecked)]
pub(super) fn exact(
    query: &Array<Quad>,
    sources: &Sources,
    extents: &Extents,
    output: &mut Array<Quad>,
    statistics: &mut Array<f32>,
    #[comptime] config: ExactConfig,
) {
    let problem = comptime!(config.problem);
    let unit = UNIT_POS as usize;
    let queries = Queries::of_cube(sources, extents, config.queries, problem);
    let (first, last) = (queries.first, queries.last);
    if first >= last {
        terminate!();
    }
    let split = CUBE_POS_Z as usize;
    let keys = keys_of(
        sources,
        extents,
        queries.entry,
        queries.head,
        split,
        queries.sample,
        problem,
    );

    let mut stage = SharedMemory::<Quad>::new(comptime!(config.stage()));
    let weight_stride = comptime!(config.key_groups() + 1);
    let mut weights = SharedMemory::<Quad>::new(comptime!(config.queries * (config.key_groups() + 1)));
    let mut maxima = SharedMemory::<f32>::new(comptime!(config.queries * config.key_groups()));
    let mut sums = SharedMemory::<f32>::new(comptime!(config.queries * config.key_groups()));
    let mut row_maximum = SharedMemory::<f32>::new(comptime!(config.queries));
    let mut row_next = SharedMemory::<f32>::new(comptime!(config.queries));
    let mut row_decay = SharedMemory::<f32>::new(comptime!(config.queries));
    let mut row_sum = SharedMemory::<f32>::new(comptime!(config.queries));

    let key_groups = comptime!(config.key_groups());
    let query_group = unit / key_groups;
    let key_group = unit % key_groups;
    let feature_groups = comptime!(config.feature_groups());
    let output_rows = comptime!(config.output_rows());
    let output_group = unit / feature_groups;
    let feature_group = unit % feature_groups;
    let accumulates = output_group * output_rows < config.queries;

    let mut sum = Array::<Quad>::new(comptime!(2 * config.output_rows()));
    #[unroll]
    for i in 0..comptime!(2 * config.output_rows()) {
        sum[i] = Quad::new(0.0f32);
    }
    if unit < config.queries {
        row_maximum[unit] = LOWEST;
        row_sum[unit] = 0.0f32;
    }
    sync_cube();

    // No query of this block sees beyond its last token.
    let last_query = last.min(first + config.queries) - 1;
    let end = visible_keys(extents, &keys, queries.token_of(last_query, problem), problem);
    let mut begin = keys.begin;
    while begin < end {
        let mut scores = Array::<f32>::new(comptime!(config.unit_queries * UNIT_KEYS));
        #[unroll]
        for i in 0..comptime!(config.unit_queries * UNIT_KEYS) {
            scores[i] = 0.0f32;
        }
        for slice in 0..comptime!(problem.head_dim / config.slice()) {
            stage_queries(query, &mut stage, &queries, slice, config);
            stage_keys(sources, &keys, &mut stage, begin, end, slice, config);
            sync_cube();
            multiply_queries(&stage, &mut scores, query_group, key_group, config);
            sync_cube();
        }

        // Scores to weights, relative to each row's running maximum.
        #[unroll]
        for i in 0..config.unit_queries {
            let local = query_group * config.unit_queries + i;
            let visible = visible_keys(extents, &keys, queries.token_of(first + local, problem), problem);
            let mut maximum = HIDDEN.runtime();
            #[unroll]
            for j in 0..UNIT_KEYS {
                let index = begin + key_group * UNIT_KEYS + j;
                let at = comptime!(i * UNIT_KEYS + j);
                if index >= visible {
                    scores[at] = HIDDEN;
                }
                maximum = max(maximum, scores[at]);
            }
            maxima[local * key_groups + key_group] = maximum;
        }
        sync_cube();
        #[unroll]
        for i in 0..config.unit_queries {
            let local = query_group * config.unit_queries + i;
            let previous = row_maximum[local];
            let mut maximum = previous;
            for other in 0..key_groups {
                maximum = max(maximum, maxima[local * key_groups + other]);
            }
            let mut total = 0.0f32;
            let mut quad = Quad::empty();
            #[unroll]
            for j in 0..UNIT_KEYS {
                let weight = (scores[comptime!(i * UNIT_KEYS + j)] - maximum).exp();
                total += weight;
                quad[j] = weight;
            }
            weights[local * weight_stride + key_group] = quad;
            sums[local * key_groups + key_group] = total;
            if key_group == 0 {
                row_next[local] = maximum;
                row_decay[local] = (previous - maximum).exp();
            }
        }
        sync_cube();
        if unit < config.queries {
            let mut total = row_sum[unit] * row_decay[unit];
            for other in 0..key_groups {
                total += sums[unit * key_groups + other];
            }
            row_sum[unit] = total;
            row_maximum[unit] = row_next[unit];
        }

        // Weighted values.
        if accumulates {
            #[unroll]
            for i in 0..output_rows {
                let decay = Quad::new(row_decay[output_group * output_rows + i]);
                #[unroll]
                for part in 0..2usize {
                    sum[comptime!(2 * i + part)] = sum[comptime!(2 * i + part)] * decay;
                }
            }
        }
        for slice in 0..comptime!(config.keys / VALUE_ROWS) {
            stage_values(sources, &keys, &mut stage, begin + slice * VALUE_ROWS, end, config);
            sync_cube();
            if accumulates {
                for quad in 0..comptime!(VALUE_ROWS / 4) {
                    #[unroll]
                    for i in 0..output_rows {
                        let local = output_group * output_rows + i;
                        let weight = weights[local * weight_stride + slice * comptime!(VALUE_ROWS / 4) + quad];
                        #[unroll]
                        for j in 0..4usize {
                            #[unroll]
                            for part in 0..2usize {
                                let value = stage[(4 * quad + j) * comptime!(problem.head_dim / 4)
                                    + part * feature_groups
                                    + feature_group];
                                let at = comptime!(2 * i + part);
                                sum[at] = fma(Quad::new(weight[j]), value, sum[at]);
                            }
                        }
                    }
                }
            }
            sync_cube();
        }
        begin += config.keys;
    }

    if accumulates {
        #[unroll]
        for i in 0..output_rows {
            let local = output_group * output_rows + i;
            let index = first + local;
            if index < last {
                let mut place = queries.place(index, problem);
                let mut factor = 1.0f32;
                if comptime!(problem.split) {
                    place = place * extents.slots as usize + queries.slot;
                    if feature_group == 0 {
                        statistics[2 * place] = row_maximum[local];
                        statistics[2 * place + 1] = row_sum[local];
                    }
                } else {
                    factor = 1.0f32 / row_sum[local];
                }
                #[unroll]
                for part in 0..2usize {
                    output[place * comptime!(problem.head_dim / 4) + part * feature_groups + feature_group] =
                        sum[comptime!(2 * i + part)] * Quad::new(factor);
                }
            }
        }
    }
}

/// A slice of the block's queries, rows apart by the slice's stride; rows past the last are zero.
#[cube]
fn stage_queries(
    query: &Array<Quad>,
    stage: &mut SharedMemory<Quad>,
    queries: &Queries,
    slice: usize,
    #[comptime] config: ExactConfig,
) {
    let columns = comptime!(config.slice() / 4);
    let count = comptime!(config.queries * config.slice() / 4);
    #[unroll]
    for step in 0..comptime!(count.div_ceil(config.units)) {
        let place = step * config.units + UNIT_POS as usize;
        if place < count {
            let (local, column) = (place / columns, place % columns);
            let index = queries.first + local;
            let mut quad = Quad::new(0.0f32);
            if index < queries.last {
                let source = queries.place(index, config.problem);
                quad = query[source * comptime!(config.problem.head_dim / 4) + slice * columns + column];
            }
            stage[local * comptime!(config.slice_stride()) + column] = quad;
        }
    }
}

/// A slice of the tile's keys behind the queries, key `4g + j` in row `j · groups + g`.
#[cube]
fn stage_keys(
    sources: &Sources,
    keys: &Keys,
    stage: &mut SharedMemory<Quad>,
    begin: usize,
    end: usize,
    slice: usize,
    #[comptime] config: ExactConfig,
) {
    let elements = comptime!(chunk_elements(config.problem.packed));
    let columns = comptime!(config.slice() / elements);
    let count = comptime!(config.keys * columns);
    let offset = comptime!(config.queries * config.slice_stride());
    #[unroll]
    for step in 0..comptime!(count.div_ceil(config.units)) {
        let place = step * config.units + UNIT_POS as usize;
        if place < count {
            let (local, column) = (place / columns, place % columns);
            let mut chunk = Chunk::new(0u32);
            if begin + local < end {
                chunk = read(
                    sources,
                    keys,
                    begin + local,
                    slice * columns + column,
                    comptime!(Side::Key),
                    config.problem,
                );
            }
            let target = (local % UNIT_KEYS) * comptime!(config.key_groups()) + local / UNIT_KEYS;
            #[unroll]
            for quad in 0..comptime!(elements / 4) {
                stage[offset + target * comptime!(config.slice_stride()) + column * comptime!(elements / 4) + quad] =
                    widen(chunk, quad, config.problem.packed);
            }
        }
    }
}

/// Some rows of values, whole.
#[cube]
fn stage_values(
    sources: &Sources,
    keys: &Keys,
    stage: &mut SharedMemory<Quad>,
    begin: usize,
    end: usize,
    #[comptime] config: ExactConfig,
) {
    let elements = comptime!(chunk_elements(config.problem.packed));
    let columns = comptime!(config.problem.head_dim / elements);
    let count = comptime!(VALUE_ROWS * columns);
    #[unroll]
    for step in 0..comptime!(count.div_ceil(config.units)) {
        let place = step * config.units + UNIT_POS as usize;
        if place < count {
            let (local, column) = (place / columns, place % columns);
            let mut chunk = Chunk::new(0u32);
            if begin + local < end {
                chunk = read(
                    sources,
                    keys,
                    begin + local,
                    column,
                    comptime!(Side::Value),
                    config.problem,
                );
            }
            #[unroll]
            for quad in 0..comptime!(elements / 4) {
                stage[local * comptime!(config.problem.head_dim / 4) + column * comptime!(elements / 4) + quad] =
                    widen(chunk, quad, config.problem.packed);
            }
        }
    }
}

/// Adds the slice's products to the unit's block of scores.
#[cube]
fn multiply_queries(
    stage: &SharedMemory<Quad>,
    scores: &mut Array<f32>,
    query_group: usize,
    key_group: usize,
    #[comptime] config: ExactConfig,
) {
    let stride = comptime!(config.slice_stride());
    let offset = comptime!(config.queries * config.slice_stride());
    for column in 0..comptime!(config.slice() / 4) {
        let mut queries = Array::<Quad>::new(config.unit_queries);
        #[unroll]
        for i in 0..config.unit_queries {
            queries[i] = stage[(query_group * config.unit_queries + i) * stride + column];
        }
        #[unroll]
        for j in 0..UNIT_KEYS {
            let key = stage[offset + (j * comptime!(config.key_groups()) + key_group) * stride + column];
            #[unroll]
            for i in 0..config.unit_queries {
                let at = comptime!(i * UNIT_KEYS + j);
                let query = queries[i];
                #[unroll]
                for c in 0..4usize {
                    scores[at] = fma(query[c], key[c], scores[at]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_shared_memory() {
        for (head_dim, queries) in [(16, 4), (72, 720), (80, 8), (128, 16), (128, 3006)] {
            let problem = Problem {
                heads: 4,
                key_value_heads: 2,
                head_dim,
                packed: false,
                causal: false,
                split: false,
                row_lengths: false,
                own: false,
                ragged: false,
            };
            for shared_bytes in [16 << 10, 32 << 10, 227 << 10] {
                let tile = ExactConfig::new(problem, queries, shared_bytes);
                assert!(
                    tile.shared_bytes() <= shared_bytes,
                    "{tile:?} takes {}",
                    tile.shared_bytes()
                );
                assert_eq!(tile.units, tile.queries / tile.unit_queries * tile.key_groups());
            }
        }
    }
}

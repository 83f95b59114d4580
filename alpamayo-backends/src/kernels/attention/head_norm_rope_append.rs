//! From fused `q | k | v` rows to what an attention reads: heads normalised, rotated, queries scaled, keys and values stored.

use cubecl::prelude::*;

use super::element::pack_bf16;

/// What is fixed when the kernel is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PrepareConfig {
    /// Query heads.
    pub heads: usize,
    /// Key-value heads.
    pub key_value_heads: usize,
    /// Features per head, a multiple of four.
    pub head_dim: usize,
    /// Whether queries and keys are normalised.
    pub norm: bool,
    /// Whether queries are written as bf16.
    pub pack_query: bool,
    /// Whether keys and values are written as bf16.
    pub pack_key_value: bool,
    /// Whether they are written from a position on that is in memory, otherwise from zero on.
    pub starts: bool,
    /// Units that share a head: the plane's width, or any power of two without planes.
    pub lanes: usize,
    /// Whether the lanes of a head are a plane.
    pub planes: bool,
    /// Heads per cube.
    pub rows: usize,
}

/// Where keys and values go: token `t` to entry `t / tokens`, position `start[0] + t % tokens`. Strides in elements.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Destination {
    /// Tokens of all entries.
    pub rows: u32,
    pub tokens: u32,
    pub start: Array<i32>,
    pub entry_stride: u32,
    pub head_stride: u32,
    pub row_stride: u32,
}

/// Two neighbours.
type Pair = Vector<f32, Const<2>>;

/// The parameters of norms and rotation. Row strides in pairs.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Tables {
    pub query_weight: Array<Pair>,
    pub key_weight: Array<Pair>,
    pub cos: Array<Pair>,
    pub sin: Array<Pair>,
    pub stride: u32,
    pub query_epsilon: f32,
    pub key_epsilon: f32,
    pub scale: f32,
}

/// One group of `lanes` units per (token, head); cube `(token, block of heads, further tokens)`: one extent has no place for the
/// patches of many clips.
///
/// `query`, `key`, `value` are words: an f32 or two bf16 each. Queries leave as `[tokens, heads, head_dim]`, times `scale`.
#[cube(launch_unchecked)]
pub(super) fn head_norm_rope_append<E: Float>(
    qkv: &Array<Vector<E, Const<2>>>,
    tables: &Tables,
    query: &mut Array<u32>,
    key: &mut Array<u32>,
    value: &mut Array<u32>,
    destination: &Destination,
    qkv_stride: u32,
    #[comptime] config: PrepareConfig,
) {
    let all_heads = comptime!(config.heads + 2 * config.key_value_heads);
    let half = comptime!(config.head_dim / 2);
    let pairs = comptime!(config.head_dim / 4);
    let steps = comptime!(pairs.div_ceil(config.lanes));
    let lane = UNIT_POS_X as usize;
    let token = CUBE_POS_Z as usize * CUBE_COUNT_X as usize + CUBE_POS_X as usize;
    if token >= destination.rows as usize {
        terminate!();
    }
    let wanted = CUBE_POS_Y as usize * config.rows + UNIT_POS_Y as usize;
    let head = wanted.min(all_heads - 1);
    let is_query = head < config.heads;
    let is_value = head >= comptime!(config.heads + config.key_value_heads);
    let source = (token * qkv_stride as usize + head * config.head_dim) / 2;

    // Elements 2i, 2i + 1 and their partners half a head further.
    let mut values = Array::<Pair>::new(comptime!(2 * steps));
    let mut sum = 0.0f32;
    #[unroll]
    for step in 0..steps {
        let pair = step * config.lanes + lane;
        #[unroll]
        for part in 0..2usize {
            values[comptime!(2 * step + part)] = Pair::new(0.0f32);
        }
        if pair < pairs {
            #[unroll]
            for part in 0..2usize {
                let x = Pair::cast_from(qkv[source + pair + comptime!(part * half / 2)]);
                values[comptime!(2 * step + part)] = x;
                sum += x[0] * x[0] + x[1] * x[1];
            }
        }
    }

    let mut factor = 1.0f32;
    if comptime!(config.norm) {
        let total = sum_over_lanes(sum, config);
        let epsilon = select(is_query, tables.query_epsilon, tables.key_epsilon);
        factor = 1.0f32 / (total / comptime!(config.head_dim as f32) + epsilon).sqrt();
    }
    let scale = select(is_query, tables.scale, 1.0f32);

    if wanted < all_heads {
        #[unroll]
        for step in 0..steps {
            let pair = step * config.lanes + lane;
            if pair < pairs {
                let mut first = values[comptime!(2 * step)];
                let mut second = values[comptime!(2 * step + 1)];
                if !is_value {
                    let cos = tables.cos[token * tables.stride as usize + pair];
                    let sin = tables.sin[token * tables.stride as usize + pair];
                    if comptime!(config.norm) {
                        let factor = Pair::new(factor);
                        if is_query {
                            first = first * factor * tables.query_weight[pair];
                            second = second * factor * tables.query_weight[pair + comptime!(half / 2)];
                        } else {
                            first = first * factor * tables.key_weight[pair];
                            second = second * factor * tables.key_weight[pair + comptime!(half / 2)];
                        }
                    }
                    let scale = Pair::new(scale);
                    let turned = (first * cos - second * sin) * scale;
                    second = (second * cos + first * sin) * scale;
                    first = turned;
                }
                let mut out = Array::<f32>::new(4usize);
                #[unroll]
                for part in 0..2usize {
                    out[part] = first[part];
                    out[comptime!(part + 2)] = second[part];
                }
                if is_query {
                    let row = (token * config.heads + head) * config.head_dim;
                    store(query, row + 2 * pair, &out, half, config.pack_query);
                } else {
                    let tokens = destination.tokens as usize;
                    let entry = token / tokens;
                    let mut position = token % tokens;
                    if comptime!(config.starts) {
                        position += destination.start[0] as usize;
                    }
                    let first_head = select(
                        is_value,
                        comptime!(config.heads + config.key_value_heads),
                        config.heads.runtime(),
                    );
                    let row = entry * destination.entry_stride as usize
                        + (head - first_head) * destination.head_stride as usize
                        + position * destination.row_stride as usize;
                    if is_value {
                        store(value, row + 2 * pair, &out, half, config.pack_key_value);
                    } else {
                        store(key, row + 2 * pair, &out, half, config.pack_key_value);
                    }
                }
            }
        }
    }
}

/// Writes two neighbours at `element` and two half a head further.
#[cube]
fn store(
    target: &mut Array<u32>,
    element: usize,
    values: &Array<f32>,
    #[comptime] half: usize,
    #[comptime] packed: bool,
) {
    #[unroll]
    for part in 0..2usize {
        let at = element + comptime!(part * half);
        let (first, second) = (values[comptime!(2 * part)], values[comptime!(2 * part + 1)]);
        if comptime!(packed) {
            target[at / 2] = pack_bf16(first, second);
        } else {
            target[at] = u32::reinterpret(first);
            target[at + 1] = u32::reinterpret(second);
        }
    }
}

/// The sum of `value` over the lanes that share a head.
#[cube]
fn sum_over_lanes(value: f32, #[comptime] config: PrepareConfig) -> f32 {
    if comptime!(config.planes) {
        plane_sum(value)
    } else {
        let mut sums = SharedMemory::<f32>::new(comptime!(config.lanes * config.rows));
        let row = UNIT_POS_Y as usize * config.lanes;
        let lane = UNIT_POS_X as usize;
        sums[row + lane] = value;
        sync_cube();
        let levels = comptime!(config.lanes.ilog2() as usize);
        #[unroll]
        for level in 0..levels {
            let width = comptime!(config.lanes >> (level + 1));
            if lane < width {
                sums[row + lane] += sums[row + lane + width];
            }
            sync_cube();
        }
        sums[row]
    }
}

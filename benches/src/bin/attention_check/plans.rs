//! Plans worth comparing.

use alpamayo_backends::kernels::attention::Plan;

/// Tiles on tensor cores.
pub fn tiles(cubes: usize) -> Vec<Plan> {
    let tile = |planes, tiles, keys, keep_query, asynchronous| Plan::TensorCore {
        planes,
        tiles,
        keys,
        keep_query,
        asynchronous,
        cubes,
    };
    vec![
        tile(8, 1, 64, true, false),
        tile(8, 1, 32, true, false),
        tile(8, 1, 128, true, true),
        tile(4, 1, 64, true, true),
        tile(4, 1, 64, true, false),
        tile(4, 1, 32, true, true),
        tile(4, 1, 32, true, false),
        tile(4, 2, 64, false, true),
        tile(4, 2, 64, false, false),
        tile(4, 2, 32, false, true),
        tile(4, 2, 32, false, false),
        tile(8, 2, 64, false, true),
    ]
}

/// Tiles on cooperative matrices.
pub fn cooperative_tiles(cubes: usize) -> Vec<Plan> {
    let tile = |heads, planes, tiles, keys| Plan::Cooperative {
        heads,
        planes,
        tiles,
        keys,
        cubes,
    };
    vec![
        tile(1, 4, 1, 32),
        tile(1, 4, 1, 48),
        tile(1, 8, 1, 32),
        tile(1, 8, 1, 16),
        tile(1, 9, 1, 16),
        tile(1, 12, 1, 16),
        tile(1, 15, 1, 16),
        tile(1, 16, 1, 16),
        tile(1, 4, 2, 32),
    ]
}

/// Shares of keys for a token, streamed.
pub fn streams() -> Vec<Plan> {
    let stream = |planes, unroll, cubes| Plan::Stream { planes, unroll, cubes };
    vec![
        stream(4, 4, 2),
        stream(4, 4, 3),
        stream(4, 4, 4),
        stream(4, 4, 6),
        stream(4, 2, 4),
        stream(4, 8, 3),
        stream(8, 4, 2),
        stream(8, 2, 2),
        stream(2, 4, 6),
    ]
}

/// Tiles of keys for a token.
pub fn token_tiles() -> Vec<Plan> {
    let tiles = |planes, keys| Plan::Tiles { planes, keys };
    vec![
        tiles(8, 12),
        tiles(16, 12),
        tiles(8, 8),
        tiles(16, 8),
        tiles(8, 16),
        tiles(8, 24),
    ]
}

/// A plan's name in a row.
pub fn short(plan: Plan) -> String {
    match plan {
        Plan::Native => "native".into(),
        Plan::Exact { .. } => "exact".into(),
        Plan::Tiles { planes, keys } => format!("tiles p{planes} k{keys}"),
        Plan::Stream { planes, unroll, cubes } => format!("stream p{planes} u{unroll} c{cubes}"),
        Plan::TensorCore {
            planes,
            tiles,
            keys,
            keep_query,
            asynchronous,
            cubes,
        } => {
            let query = if keep_query { "registers" } else { "shared" };
            let copies = if asynchronous { "copied" } else { "loaded" };
            format!("tensor p{planes} t{tiles} k{keys} {query} {copies} c{cubes}")
        }
        Plan::Cooperative {
            heads,
            planes,
            tiles,
            keys,
            cubes,
        } => format!("cooperative h{heads} p{planes} t{tiles} k{keys} c{cubes}"),
    }
}

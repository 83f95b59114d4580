// Rows of a table of bf16 in the host's memory, read over the bus and widened to f32:
//
//   out[i, n] = table[min(ids[i], ROWS - 1), n], ids without a sign
//
// Dispatch
//   groups    (best VECTORS / UNITS rounded up, ids, 1)
//   shapes    columns are VECTORS times eight; table [ROWS, columns], out [ids, columns]
//   bits      f32 as the words that hold it: nothing is rounded or flushed

override ROWS: u32;
override VECTORS: u32;
override UNITS: u32;

// Not written, but the ids may lie in one buffer with the result, which can be bound in one way only.
@group(0) @binding(0) var<storage, read_write> ids: array<u32>;
@group(0) @binding(1) var<storage, read> table: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<u32>>;

fn widened(words: vec2<u32>) -> vec4<u32> {
    let low = words << vec2<u32>(16u);
    let high = words & vec2<u32>(0xffff0000u);
    return vec4<u32>(low.x, high.x, low.y, high.y);
}

@compute @workgroup_size(UNITS)
fn look_up(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) unit: vec3<u32>) {
    let vector = group.x * UNITS + unit.x;
    if vector < VECTORS {
        let row = min(ids[group.y], ROWS - 1u);
        let words = table[row * VECTORS + vector];
        let to = 2u * (group.y * VECTORS + vector);
        out[to] = widened(words.xy);
        out[to + 1u] = widened(words.zw);
    }
}

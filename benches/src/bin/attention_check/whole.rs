//! Every operation of the backend against its host reference, at odd shapes and at the released ones.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{Attention, CacheFormat, WeightFormat};
use alpamayo_backends::verify::{Check, Formats, ModelShapes, verify};

/// `(text heads, key-value heads, head size, prompt, samples, waypoints)`: every head size that a tile can be cut for, lengths
/// around those of the tiles.
const ODD: [(usize, usize, usize, usize, usize, usize); 6] = [
    (4, 2, 16, 1, 1, 1),
    (8, 2, 64, 129, 1, 33),
    (6, 2, 72, 255, 2, 50),
    (8, 1, 128, 65, 1, 64),
    (4, 4, 96, 300, 5, 9),
    (32, 8, 128, 97, 1, 60),
];

/// Prints the worst check of every shape, and all that failed.
pub fn all<B: ModelBackend>(runtime: &str, device: &B::Device) {
    let odd = ODD.map(|(heads, key_value_heads, head_dim, prompt, samples, waypoints)| {
        let mut shapes = ModelShapes::small();
        let attention = Attention {
            num_heads: heads,
            num_key_value_heads: key_value_heads,
            head_dim,
        };
        shapes.text.attention = attention;
        shapes.text.hidden_size = 256;
        shapes.text.intermediate_size = 2048;
        shapes.expert.attention = attention;
        shapes.expert.hidden_size = 160;
        shapes.expert.intermediate_size = 672;
        shapes.vision.attention = Attention {
            num_key_value_heads: heads,
            ..attention
        };
        shapes.vision.hidden_size = heads * head_dim;
        (shapes.prompt_length, shapes.samples, shapes.waypoints) = (prompt, samples, waypoints);
        shapes
    });
    let bf16 = Formats {
        weight: WeightFormat::Bf16,
        cache: B::default_cache_format(WeightFormat::Bf16, device),
    };
    let packed = Formats {
        cache: CacheFormat::Bf16,
        ..bf16
    };
    let run = |name: &str, shapes: &ModelShapes, formats| match verify::<B>(shapes, formats, device) {
        Ok(checks) => print(runtime, name, shapes, &checks),
        Err(error) => println!("{runtime} {name}: {error}"),
    };
    for (name, formats) in [("bf16", bf16), ("f32", Formats::F32), ("bf16, packed cache", packed)] {
        for shapes in odd.iter().chain([&ModelShapes::small()]) {
            run(name, shapes, formats);
        }
    }
    // Last, since the host takes longest for this reference.
    run("bf16", &ModelShapes::released(), bf16);
}

fn print(runtime: &str, formats: &str, shapes: &ModelShapes, checks: &[Check]) {
    let share = |check: &Check| check.relative_error / check.tolerance;
    let worst = checks.iter().max_by(|a, b| share(a).total_cmp(&share(b)));
    let of = |check: &Check| format!("{} {} {:.1e}", check.operation, check.shape, check.relative_error);
    let attention = &shapes.text.attention;
    println!(
        "{runtime} {formats}, heads {}/{} of {}: {} of {} operations right, worst {}",
        attention.num_heads,
        attention.num_key_value_heads,
        attention.head_dim,
        checks.iter().filter(|check| check.passed()).count(),
        checks.len(),
        worst.map_or_else(String::new, of),
    );
    for check in checks.iter().filter(|check| !check.passed()) {
        println!("  WRONG {}", of(check));
    }
}

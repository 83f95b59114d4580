//! The history as tokens: exact, and what they decode to.

use alpamayo_core::DeltaTokenizer;

use super::super::Result;
use super::super::golden::Values;
use super::{Domain, get, integers, row};

const POSES: usize = 16;

pub(super) fn compare(domain: &mut Domain<'_>) -> Result<()> {
    let tensors = domain.tensors("trajectory_tokens.safetensors")?;
    let (xyz, rot) = (
        get(&tensors, "history_xyz")?.floats(),
        get(&tensors, "history_rot")?.floats(),
    );
    for (name, golden) in &tensors {
        let Some(variant) = name.strip_suffix(".ids") else {
            continue;
        };
        let digits: String = variant.chars().filter(char::is_ascii_digit).collect();
        let tokenizer = DeltaTokenizer::new(digits.parse()?)?;
        let tokenizer = if variant.ends_with("_yaw") {
            tokenizer.with_yaw()
        } else {
            tokenizer
        };
        let [histories, length] = golden.shape[..] else {
            return Err(format!("{name} is no matrix").into());
        };
        let ids = integers(golden);
        let (mut encoded, mut decoded_xyz, mut decoded_rot) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..histories {
            let xyz = row(&xyz, index, POSES * 3).as_chunks::<3>().0;
            let rot: Vec<_> = row(&rot, index, POSES * 9)
                .as_chunks::<9>()
                .0
                .iter()
                .map(super::super::rotation)
                .collect();
            encoded.extend(tokenizer.encode(xyz, &rot)?.into_iter().map(i64::from));
            let golden: Vec<u32> = ids[index * length..(index + 1) * length]
                .iter()
                .map(|&id| id as u32)
                .collect();
            let decoded = tokenizer.decode(&golden)?;
            decoded_xyz.extend(decoded.xyz().iter().flatten().map(|&x| f64::from(x)));
            decoded_rot.extend(decoded.rot().iter().flatten().flatten().map(|&x| f64::from(x)));
        }
        domain.compare("trajectory_tokens", name, golden, &Values::Integer(encoded), 0.0);
        for (part, values) in [("decoded_xyz", decoded_xyz), ("decoded_rot", decoded_rot)] {
            let name = format!("{variant}.{part}");
            let allowed = domain.tolerance.0;
            domain.compare(
                "trajectory_tokens",
                &name,
                get(&tensors, &name)?,
                &Values::Float(values),
                allowed,
            );
        }
    }
    Ok(())
}

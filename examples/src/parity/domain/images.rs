//! Resizing and patches: exact.

use alpamayo_core::image::{ImageProcessor, smart_resize};
use alpamayo_core::{Frame, ModelConfig};
use serde_json::Value;

use super::super::Result;
use super::super::golden::Values;
use super::{Domain, integers};

pub(super) fn compare(domain: &mut Domain<'_>, config: &ModelConfig) -> Result<()> {
    let table = domain.json("smart_resize.json")?;
    let factor = number(&table["factor"])?;
    let rows = table["rows"].as_array().ok_or("smart_resize.json has no `rows`")?;
    let (mut golden, mut actual) = (Vec::new(), Vec::new());
    for row in rows {
        let size = |index: usize| number(&row[index]);
        let resized = smart_resize(size(0)?, size(1)?, factor, size(2)?, size(3)?);
        golden.extend(match &row[4] {
            Value::Array(size) => [number(&size[0])? as i64, number(&size[1])? as i64],
            _ => [-1, -1],
        });
        actual.extend(resized.map_or([-1, -1], |(height, width)| [height as i64, width as i64]));
    }
    domain.equal("smart_resize".into(), golden, actual);

    let tensors = domain.tensors("images.safetensors")?;
    let processor = ImageProcessor::new(config);
    for (name, golden) in &tensors {
        let Some(size) = name.strip_suffix(".frame") else {
            continue;
        };
        let [_, height, width] = golden.shape[..] else {
            return Err(format!("{name} is no [3, height, width]").into());
        };
        let patches = processor.process(&[Frame::from_planar(width, height, &golden.bytes())?])?;
        let pixels = patches.repeated_pixels().into_iter().map(i64::from).collect();
        let grid = patches.grid_thw.iter().flatten().map(|&extent| extent as i64).collect();
        let expected = super::get(&tensors, &format!("{size}.patches_u8"))?;
        domain.compare(
            "images",
            &format!("{size}.patches_u8"),
            expected,
            &Values::Integer(pixels),
            0.0,
        );
        let expected = super::get(&tensors, &format!("{size}.grid_thw"))?;
        domain.equal(format!("images.{size}.grid_thw"), integers(expected), grid);
    }
    Ok(())
}

fn number(value: &Value) -> Result<usize> {
    Ok(value.as_u64().ok_or("smart_resize.json: a number was expected")? as usize)
}

//! Values that f16 can't hold.

use half::f16;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::layers::{WeightFormat, WeightSource};

/// The source's elements as f16 bits, if all are finite: a checkpoint's are, so an infinity was made by rounding.
///
/// # Errors
/// Where one isn't.
pub(super) fn within_f16(source: &WeightSource<'_>, bits: Vec<u16>) -> Result<Vec<u16>> {
    if !bits.par_iter().any(|bits| bits & 0x7fff >= f16::INFINITY.to_bits()) {
        return Ok(bits);
    }
    Err(Error::UnsupportedFormat {
        format: WeightFormat::F16.name(),
        rows: source.rows,
        columns: source.columns,
        reason: "a value is beyond ±65504, the largest that it holds".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::host_values;
    use crate::layers::SourceType;

    #[test]
    fn values_beyond_f16_are_refused_and_those_at_its_end_are_kept() {
        let stored = |value: f32| {
            let bytes: Vec<u8> = [1.0, -2.0, 0.5, value]
                .iter()
                .flat_map(|x: &f32| x.to_le_bytes())
                .collect();
            let source = WeightSource::new(vec![&bytes], SourceType::F32, 2, 2);
            host_values(&source, WeightFormat::F16).map(|data| data.to_vec::<f16>().unwrap()[3].to_f32())
        };
        // 65520 is where rounding to the nearest leaves f16.
        for kept in [65_504.0, -65_504.0, 65_519.0] {
            assert_eq!(stored(kept).unwrap().abs(), 65_504.0);
        }
        for refused in [65_520.0, -1e6, f32::MAX] {
            let error = stored(refused).unwrap_err();
            assert!(
                matches!(error, Error::UnsupportedFormat { format: "f16", .. }),
                "{error}"
            );
        }
    }
}

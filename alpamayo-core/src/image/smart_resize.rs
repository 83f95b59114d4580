//! The size an image is resized to.

use crate::{Error, Result};

/// Highest ratio of an image's longer to its shorter side.
pub const MAX_ASPECT_RATIO: usize = 200;

/// The height and width that a `height` x `width` image is resized to: multiples of `factor` close to the original
/// aspect ratio, with `min_pixels` to `max_pixels` pixels in all where that is possible.
///
/// # Errors
/// [`Error::Resize`] if a side is zero, one side is more than [`MAX_ASPECT_RATIO`] times the other, or no size is
/// possible between the limits.
pub fn smart_resize(
    height: usize,
    width: usize,
    factor: usize,
    min_pixels: usize,
    max_pixels: usize,
) -> Result<(usize, usize)> {
    let error = |reason: String| Error::Resize { height, width, reason };
    if height == 0 || width == 0 {
        return Err(error("it has no pixels".into()));
    }
    if height.max(width) as f64 / height.min(width) as f64 > MAX_ASPECT_RATIO as f64 {
        return Err(error(format!(
            "one side is more than {MAX_ASPECT_RATIO} times the other"
        )));
    }
    if factor == 0 || max_pixels == 0 || min_pixels > max_pixels {
        return Err(error(format!(
            "no multiples of {factor} have between {min_pixels} and {max_pixels} pixels"
        )));
    }
    let (rows, columns) = (height as f64, width as f64);
    let side = factor as f64;
    let [nearest_rows, nearest_columns] = [rows, columns].map(|length| (length / side).round_ties_even() * side);
    let (rows, columns) = if nearest_rows * nearest_columns > max_pixels as f64 {
        let shrink = (rows * columns / max_pixels as f64).sqrt();
        let shrunk = |length: f64| ((length / shrink / side).floor() * side).max(side);
        (shrunk(rows), shrunk(columns))
    } else if nearest_rows * nearest_columns < min_pixels as f64 {
        let grow = (min_pixels as f64 / (rows * columns)).sqrt();
        let grown = |length: f64| (length * grow / side).ceil() * side;
        (grown(rows), grown(columns))
    } else {
        (nearest_rows, nearest_columns)
    };
    match (rows as usize, columns as usize) {
        (0, _) | (_, 0) => Err(error(format!("it is smaller than {factor} pixels and must not grow"))),
        size => Ok(size),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_reference_case() {
        let cases: Value = serde_json::from_str(include_str!("../../tests/data/smart_resize.json")).unwrap();
        let factor = cases["factor"].as_u64().unwrap() as usize;
        let rows = cases["rows"].as_array().unwrap();
        assert!(rows.len() > 100);
        for row in rows {
            let [height, width, min, max] = [0, 1, 2, 3].map(|column| row[column].as_u64().unwrap() as usize);
            match (&row[4], smart_resize(height, width, factor, min, max)) {
                (Value::Array(size), Ok((rows, columns))) => {
                    assert_eq!(size, &[rows, columns].map(Value::from), "{row}");
                }
                (Value::String(_), Err(error)) => {
                    assert!(error.to_string().contains(&format!("{height}x{width}")), "{error}");
                }
                (_, result) => panic!("{row}: {result:?}"),
            }
        }
    }

    #[test]
    fn impossible_sizes_and_limits() {
        for (height, width, factor, min, max) in [
            (0, 4, 32, 1, 9),
            (4, 4, 0, 1, 9),
            (4, 4, 2, 9, 8),
            (usize::MAX, 1, 2, 1, 9),
            (4, 4, 32, 0, 9000),
            (201, 1, 1, 1, 9),
        ] {
            assert!(
                smart_resize(height, width, factor, min, max).is_err(),
                "{height}x{width}"
            );
        }
    }

    proptest! {
        #[test]
        fn multiples_within_the_limits(
            height in 1..5000usize, width in 1..5000usize, factor in 1..80usize, min in 1..300_000usize, more in 0..300_000usize,
        ) {
            let max = min + more;
            let Ok((rows, columns)) = smart_resize(height, width, factor, min, max) else {
                let ratio = height.max(width) as f64 / height.min(width) as f64;
                prop_assert!(ratio > MAX_ASPECT_RATIO as f64);
                return Ok(());
            };
            prop_assert_eq!((rows % factor, columns % factor), (0, 0));
            prop_assert!(rows >= factor && columns >= factor);
            let [nearest_rows, nearest_columns] =
                [height, width].map(|length| (length as f64 / factor as f64).round_ties_even() as usize * factor);
            let (nearest, pixels) = (nearest_rows * nearest_columns, rows * columns);
            if nearest > max {
                prop_assert!(pixels <= max || rows == factor || columns == factor);
            } else if nearest < min {
                prop_assert!(pixels >= min);
            } else {
                prop_assert_eq!((rows, columns), (nearest_rows, nearest_columns));
            }
            // Transposing the image transposes the result.
            prop_assert_eq!(smart_resize(width, height, factor, min, max).unwrap(), (columns, rows));
        }
    }
}

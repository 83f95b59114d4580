//! What a device can hold and run.

use std::ops::Range;

use burn::tensor::backend::Backend;
use burn_cubecl::CubeRuntime;
use cubecl::ir::features::Plane;
use cubecl::ir::{ElemType, FloatKind, StorageType};

use crate::device::Limits;
use crate::error::{Error, Result};
use crate::instances::KernelRuntime;
use crate::layers::{Weight, WeightFormat};

/// The rows of each part of a weight `(out, in)` such that one kernel of the device can read a part as one buffer: one part of all
/// rows where it can.
///
/// The largest weights of the released model are its embedding and its output head: 1.28 GB each in bf16, which every desktop
/// GPU reads as one; in f32 they are in two parts on Vulkan.
///
/// # Errors
/// Where a single row is too large.
pub fn parts<R: CubeRuntime>(
    shape: (usize, usize),
    format: WeightFormat,
    device: &R::Device,
) -> Result<Vec<Range<usize>>> {
    let largest = R::client(device).properties().memory.max_page_size;
    parts_of(shape, format, largest)
}

fn parts_of((rows, columns): (usize, usize), format: WeightFormat, largest: u64) -> Result<Vec<Range<usize>>> {
    let row_bytes = format.row_bytes(columns) as u64;
    if row_bytes > largest {
        return Err(Error::UnsupportedFormat {
            format: format.name(),
            rows,
            columns,
            reason: format!(
                "a row takes {row_bytes} bytes, and a kernel on this device can read {largest} as one buffer"
            ),
        });
    }
    let most = usize::try_from(largest / row_bytes.max(1)).unwrap_or(usize::MAX).max(1);
    let count = rows.div_ceil(most).max(1);
    let each = rows.div_ceil(count);
    Ok((0..count)
        .map(|part| part * each..rows.min((part + 1) * each))
        .collect())
}

/// A weight of as many parts as the device asks for, each made by `part` from its rows.
///
/// # Errors
/// As [`parts`] and as `part`.
pub fn in_parts<R: CubeRuntime, B: Backend>(
    shape: (usize, usize),
    format: WeightFormat,
    device: &R::Device,
    part: impl Fn(Range<usize>) -> Result<Weight<B>>,
) -> Result<Weight<B>> {
    let parts = parts::<R>(shape, format, device)?.into_iter().map(part);
    Ok(Weight::from_parts(parts.collect::<Result<_>>()?))
}

/// See [`ModelBackend::limits`](crate::ModelBackend::limits).
pub fn device_limits<R: KernelRuntime>(device: &R::Device) -> Limits {
    let client = R::client(device);
    let properties = client.properties();
    let (hardware, features) = (&properties.hardware, &properties.features);
    let mut names = Vec::new();
    if features.plane.contains(Plane::Ops) {
        names.push("plane sums".to_owned());
    }
    if !features.matmul.cmma.is_empty() {
        names.push(format!("{} matrix shapes", features.matmul.cmma.len()));
    }
    for (kind, name) in [(FloatKind::F16, "f16"), (FloatKind::BF16, "bf16")] {
        if features
            .types
            .storage
            .contains_key(&StorageType::Scalar(ElemType::Float(kind)))
        {
            names.push(name.to_owned());
        }
    }
    let (x, y, z) = hardware.max_cube_count;
    Limits {
        memory: R::memory(device),
        own_memory: R::has_own_memory(device),
        largest_buffer: Some(properties.memory.max_page_size),
        buffers: Some(hardware.max_bindings),
        workgroup_units: Some(hardware.max_units_per_cube),
        workgroup_memory: Some(hardware.max_shared_memory_size as u64),
        workgroups: Some([x, y, z]),
        plane_units: Some([hardware.plane_size_min, hardware.plane_size_max]),
        features: names,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The largest weight of the released model.
    const EMBEDDING: (usize, usize) = (155_697, 4096);

    #[test]
    fn the_released_embedding_is_split_where_it_must_be() {
        let count = |format, largest: u64| parts_of(EMBEDDING, format, largest).unwrap().len();
        let (vulkan, metal, browser) = ((1 << 31) - 1, (1 << 32) - 4, 128 << 20);
        for format in [WeightFormat::Bf16, WeightFormat::Int8, WeightFormat::Int4] {
            assert_eq!(count(format, vulkan), 1);
        }
        assert_eq!(count(WeightFormat::F32, vulkan), 2);
        assert_eq!(count(WeightFormat::F32, metal), 1);
        assert_eq!(count(WeightFormat::Bf16, browser), 10);
        let error = parts_of(EMBEDDING, WeightFormat::F32, 1000).unwrap_err().to_string();
        assert!(error.contains("155697 x 4096") && error.contains("16384"), "{error}");
    }

    proptest! {
        #[test]
        fn parts_follow_one_another_and_fit(rows in 1..5000usize, columns in 1..300usize, rows_per_part in 1..600u64) {
            for format in WeightFormat::ALL {
                let largest = rows_per_part * format.row_bytes(columns) as u64;
                let parts = parts_of((rows, columns), format, largest).unwrap();
                prop_assert_eq!(parts[0].start, 0);
                prop_assert_eq!(parts.last().unwrap().end, rows);
                prop_assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
                prop_assert!(parts.iter().all(|part| !part.is_empty() && part.len() as u64 <= rows_per_part));
            }
        }
    }
}

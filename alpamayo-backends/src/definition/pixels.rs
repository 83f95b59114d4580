//! Pixel normalisation, on the host.

use burn::tensor::{Tensor, TensorData, backend::Backend};

/// See [`ModelBackend::normalize_pixels`](crate::ModelBackend::normalize_pixels).
pub fn normalize_pixels<B: Backend>(
    pixels: &[u8],
    channels: usize,
    temporal: usize,
    area: usize,
    device: &B::Device,
) -> Tensor<B, 2> {
    let patches = pixels.len() / (channels * area);
    let mut values = Vec::with_capacity(pixels.len() * temporal);
    for plane in pixels.chunks_exact(area) {
        for _ in 0..temporal {
            values.extend(plane.iter().map(|&pixel| (f32::from(pixel) - 127.5) / 127.5));
        }
    }
    Tensor::from_data(TensorData::new(values, [patches, channels * temporal * area]), device)
}

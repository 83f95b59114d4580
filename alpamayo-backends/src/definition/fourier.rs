//! Fourier features, their sines taken on the host.

use burn::tensor::{Tensor, TensorData};

use crate::ModelBackend;

/// See [`ModelBackend::fourier_features`].
///
/// The waypoints come to the host because a device's sine of large angles can't be trusted; they are a few hundred numbers.
pub fn fourier_features<B: ModelBackend>(x: Tensor<B, 2>, time: f32, frequencies: &Tensor<B, 2>) -> Tensor<B, 2> {
    let device = x.device();
    let [waypoints, inputs] = x.dims();
    let [rows, count] = frequencies.dims();
    let x: Vec<f32> = host(x);
    let frequencies: Vec<f32> = host(frequencies.clone());
    let mut features = Vec::with_capacity(waypoints * rows * 2 * count);
    for waypoint in x.chunks_exact(inputs) {
        for (value, frequencies) in waypoint.iter().chain([&time]).zip(frequencies.chunks_exact(count)) {
            let angle = |frequency: &f32| (value * frequency) * std::f32::consts::TAU;
            features.extend(frequencies.iter().map(|f| std::f32::consts::SQRT_2 * angle(f).sin()));
            features.extend(frequencies.iter().map(|f| std::f32::consts::SQRT_2 * angle(f).cos()));
        }
    }
    Tensor::from_data(TensorData::new(features, [waypoints, rows * 2 * count]), &device)
}

fn host<B: ModelBackend>(tensor: Tensor<B, 2>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

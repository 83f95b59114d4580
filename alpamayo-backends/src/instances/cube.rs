//! Every GPU: the kernels are written once in CubeCL and compiled to CUDA, SPIR-V, Metal and WGSL.

use burn::tensor::{Int, Tensor, TensorData};
use burn_cubecl::{BoolElement, CubeBackend, FloatElement, IntElement};
use cubecl::ir::features::TypeUsage;

use super::{KernelRuntime, opening};
use crate::ModelBackend;
use crate::device::Limits;
use crate::error::{Error, Result};
use crate::kernels::{self, attention};
use crate::layers::{
    ActionTokens, Activation, Attention, CacheFormat, DecodeStep, HeadNorms, HostBytes, HostRows, KeyValue, LayerCache,
    Linear, Norm, Rotary, RowLengths, SuffixPosition, Weight, WeightFormat, WeightSource,
};
use crate::repetition::{Anew, Place, Repetition};
use crate::sampling::{Drawn, TokenSampling};

impl<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement> ModelBackend for CubeBackend<R, F, I, BT> {
    fn store_weight(source: &WeightSource<'_>, format: WeightFormat, device: &R::Device) -> Result<Weight<Self>> {
        kernels::store_weight(source, format, device)
    }

    fn store_host_rows(bytes: &HostBytes, shape: (usize, usize), device: &R::Device) -> Option<HostRows> {
        R::host_rows(&R::client(device), device, bytes, shape)
    }

    fn random_weight(
        shape: (usize, usize),
        amplitude: f64,
        format: WeightFormat,
        device: &R::Device,
    ) -> Result<Weight<Self>> {
        kernels::random_weight(shape, amplitude, format, device)
    }

    fn open(device: &R::Device) {
        opening::open::<R>(device);
    }

    fn default_weight_format(_device: &R::Device) -> WeightFormat {
        WeightFormat::Bf16
    }

    fn supports_cache_format(format: CacheFormat, device: &R::Device) -> bool {
        // Kernels compute nothing in it.
        let usage = R::client(device).properties().type_usage(format.dtype().into());
        usage.is_superset(TypeUsage::Buffer | TypeUsage::Conversion)
    }

    fn default_cache_format(weights: WeightFormat, device: &R::Device) -> CacheFormat {
        match weights {
            WeightFormat::F32 => CacheFormat::F32,
            _ => R::cache_format(device),
        }
    }

    fn run_stage<T: Send + 'static>(device: &R::Device, stage: impl FnOnce() -> T + Send) -> Result<T> {
        let client = R::client(device);
        // Buffers of a size of their own are kept for the next run of the stage; the pages that buffers of like sizes share otherwise
        // hold up to a quarter of the weights of few bits without a use.
        let run = || client.memory_persistent_allocation((), |()| stage());
        opening::run(|| client.exclusive(run))
            .and_then(|output| output)
            .map_err(|error| Error::Device {
                context: "running a stage on the device's thread".into(),
                message: error.to_string(),
            })
    }

    fn repetition() -> Box<dyn Repetition<Self>> {
        Box::new(kernels::Repeat::<R>::default())
    }

    fn place(tensor: &Tensor<Self, 4>) -> Option<Place> {
        let extents = tensor.dims();
        let tensor = tensor.clone().into_primitive().tensor();
        let (buffer, offset) = R::place(&tensor.client, &tensor.handle)?;
        Some(Place {
            buffer,
            offset,
            extents,
        })
    }

    fn reserved_memory(device: &R::Device) -> Option<u64> {
        R::client(device).memory_usage().ok().map(|usage| usage.bytes_reserved)
    }

    fn limits(device: &R::Device) -> Limits {
        kernels::device_limits::<R>(device)
    }

    fn normalize_pixels(
        pixels: &[u8],
        channels: usize,
        temporal: usize,
        area: usize,
        device: &R::Device,
    ) -> Tensor<Self, 2> {
        kernels::normalize_pixels(pixels, channels, temporal, area, device)
    }

    fn lookup_rows(ids: Tensor<Self, 1, Int>, table: &Weight<Self>) -> Tensor<Self, 2> {
        kernels::lookup_rows(ids, table)
    }

    fn lookup_host_rows(ids: Tensor<Self, 1, Int>, table: &HostRows) -> Option<Tensor<Self, 2>> {
        kernels::lookup_host_rows(ids, table)
    }

    fn normalize(x: Tensor<Self, 2>, norm: &Norm<Self>) -> Tensor<Self, 2> {
        kernels::normalize(x, norm)
    }

    fn project(x: Tensor<Self, 2>, linear: &Linear<Self>, activation: Activation) -> Tensor<Self, 2> {
        kernels::linear::project(x, linear, activation)
    }

    fn norm_project(
        x: Tensor<Self, 2>,
        norm: &Norm<Self>,
        linear: &Linear<Self>,
        activation: Activation,
    ) -> Tensor<Self, 2> {
        kernels::linear::norm_project(x, norm, linear, activation)
    }

    fn norm_logits(x: Tensor<Self, 2>, norm: &Norm<Self>, linear: &Linear<Self>) -> Tensor<Self, 2> {
        kernels::linear::norm_logits(x, norm, linear)
    }

    fn project_add(x: Tensor<Self, 2>, linear: &Linear<Self>, residual: Tensor<Self, 2>) -> Tensor<Self, 2> {
        kernels::linear::project_add(x, linear, residual)
    }

    fn norm_gate_up(x: Tensor<Self, 2>, norm: &Norm<Self>, gate_up: &Linear<Self>) -> Tensor<Self, 2> {
        kernels::linear::norm_gate_up(x, norm, gate_up)
    }

    fn plain_rows(x: Tensor<Self, 2>) -> Tensor<Self, 2> {
        kernels::plain_rows(x)
    }

    fn project_add_norm_project(
        x: Tensor<Self, 2>,
        linear: &Linear<Self>,
        residual: Tensor<Self, 2>,
        norm: &Norm<Self>,
        next: &Linear<Self>,
    ) -> [Tensor<Self, 2>; 2] {
        kernels::linear::project_add_norm_project(x, linear, residual, norm, next)
    }

    fn project_add_norm_gate_up(
        x: Tensor<Self, 2>,
        linear: &Linear<Self>,
        residual: Tensor<Self, 2>,
        norm: &Norm<Self>,
        gate_up: &Linear<Self>,
    ) -> [Tensor<Self, 2>; 2] {
        kernels::linear::project_add_norm_gate_up(x, linear, residual, norm, gate_up)
    }

    fn add_rows(x: Tensor<Self, 2>, rows: Tensor<Self, 1, Int>, values: Tensor<Self, 2>) -> Tensor<Self, 2> {
        kernels::add_rows(x, rows, values)
    }

    fn vision_attention(
        qkv: Tensor<Self, 2>,
        attention: &Attention,
        rotary: &Rotary<Self>,
        image_lengths: &[usize],
    ) -> Tensor<Self, 2> {
        attention::vision(qkv, attention, rotary, image_lengths)
    }

    fn prefill_attention(
        qkv: Tensor<Self, 2>,
        attention: &Attention,
        norms: &HeadNorms<Self>,
        rotary: &Rotary<Self>,
        prompt: &mut KeyValue<Self>,
    ) -> Tensor<Self, 2> {
        attention::prefill(qkv, attention, norms, rotary, prompt)
    }

    fn decode_attention(
        qkv: Tensor<Self, 2>,
        attention: &Attention,
        norms: &HeadNorms<Self>,
        rotary: &Rotary<Self>,
        cache: &mut LayerCache<Self>,
        position: &SuffixPosition<Self>,
    ) -> Tensor<Self, 2> {
        attention::decode(qkv, attention, norms, rotary, cache, position)
    }

    fn decode_repetition(attention: &Attention) -> Box<dyn Repetition<Self>> {
        // The definition takes the step from the host.
        if attention::takes(attention) && kernels::moves_steps::<F, I>() {
            Self::repetition()
        } else {
            Box::new(Anew)
        }
    }

    fn decode_step(
        table: &Rotary<Self>,
        rows: usize,
        position: usize,
        previous: Option<DecodeStep<Self>>,
    ) -> DecodeStep<Self> {
        kernels::decode_step(table, rows, position, previous)
    }

    fn move_action_tokens(tokens: ActionTokens<Self>, previous: ActionTokens<Self>) -> Option<ActionTokens<Self>> {
        kernels::move_action_tokens(tokens, previous)
    }

    fn expert_attention(
        qkv: Tensor<Self, 2>,
        attention: &Attention,
        norms: &HeadNorms<Self>,
        rotary: &Rotary<Self>,
        cache: &LayerCache<Self>,
        suffix_lengths: &RowLengths<Self>,
    ) -> Tensor<Self, 2> {
        attention::expert(qkv, attention, norms, rotary, cache, suffix_lengths)
    }

    fn sample_tokens(logits: Tensor<Self, 2>, sampling: &TokenSampling) -> Option<Drawn<Self>> {
        kernels::sample_tokens(logits, sampling)
    }

    fn read_beside(tensor: Tensor<Self, 2, Int>, work: impl FnOnce()) -> Result<TensorData> {
        kernels::read_beside(tensor, work)
    }

    fn fourier_features(x: Tensor<Self, 2>, time: f32, frequencies: &Tensor<Self, 2>) -> Tensor<Self, 2> {
        kernels::fourier_features(x, time, frequencies)
    }
}

//! The trait of the model's heavy operations.

use burn::tensor::{DType, Int, Tensor, TensorData, backend::Backend};

use crate::definition;
use crate::device::Limits;
use crate::error::{Result, unreadable};
use crate::layers::{
    ActionTokens, Activation, Attention, CacheFormat, DecodeStep, HeadNorms, HostBytes, HostRows, KeyValue, LayerCache,
    Linear, Norm, Rotary, RowLengths, SuffixPosition, Weight, WeightFormat, WeightSource,
};
use crate::repetition::{Anew, Place, Repetition};
use crate::sampling::{Drawn, TokenSampling};

/// A Burn backend with the operations that decide Alpamayo-R1's speed.
///
/// Every operation has a default body in plain Burn operations, its definition. An instance overrides what it has a kernel or
/// a workaround for; `impl ModelBackend for MyBackend {}` is a complete instance.
///
/// Activations are `[tokens, features]`, rows of a batch one after another. Unless said otherwise they are f32.
pub trait ModelBackend: Backend {
    /// Moves a weight to the device in the given storage format. Values are converted exactly as the format's docs say.
    ///
    /// # Errors
    /// When the bytes don't fill the shape or the format can't hold it on this backend.
    fn store_weight(source: &WeightSource<'_>, format: WeightFormat, device: &Self::Device) -> Result<Weight<Self>> {
        definition::store_weight(source, format, device)
    }

    /// As [`store_weight`](Self::store_weight), for a table whose rows [`lookup_rows`](Self::lookup_rows) looks up.
    ///
    /// # Errors
    /// As there.
    fn store_table(source: &WeightSource<'_>, format: WeightFormat, device: &Self::Device) -> Result<Weight<Self>> {
        Self::store_weight(source, format, device)
    }

    /// Rows `(rows, columns)` of bf16 that stay in the host's memory, where the device can look them up by itself
    /// ([`lookup_host_rows`](Self::lookup_host_rows)): these bytes, or a copy where the device has to be shown them. None where it can't,
    /// or where the bytes don't fill the shape.
    fn store_host_rows(_bytes: &HostBytes, _shape: (usize, usize), _device: &Self::Device) -> Option<HostRows> {
        None
    }

    /// A device weight of random values, uniform in ±`amplitude`, made without a checkpoint (for measuring at the released size).
    ///
    /// # Errors
    /// When the format can't hold the shape on this backend.
    fn random_weight(
        shape: (usize, usize),
        amplitude: f64,
        format: WeightFormat,
        device: &Self::Device,
    ) -> Result<Weight<Self>> {
        definition::random_weight(shape, amplitude, format, device)
    }

    /// Whether the backend can store weights in this format.
    fn supports_format(format: WeightFormat, device: &Self::Device) -> bool {
        definition::supports_format::<Self>(format, device)
    }

    /// Whether the backend can store keys and values in this format.
    fn supports_cache_format(format: CacheFormat, device: &Self::Device) -> bool {
        Self::supports_dtype(device, format.dtype())
    }

    /// Makes the device ready, before anything else is asked of it: `Alpamayo` does so at load.
    ///
    /// Waits for stages that run in other threads, so it isn't for use inside [`run_stage`](Self::run_stage). A device that can't be opened
    /// panics, as in every other operation.
    fn open(_device: &Self::Device) {}

    /// What the device says about itself.
    fn limits(_device: &Self::Device) -> Limits {
        Limits::default()
    }

    /// How weights are stored where the user doesn't say.
    fn default_weight_format(_device: &Self::Device) -> WeightFormat {
        WeightFormat::F32
    }

    /// How the cache's keys and values are stored beside weights of this format where the user doesn't say.
    fn default_cache_format(_weights: WeightFormat, _device: &Self::Device) -> CacheFormat {
        CacheFormat::F32
    }

    /// Runs a stage of the model where queueing its work costs least: a backend that hands work to a thread of the device's
    /// lets the stage run on that thread.
    ///
    /// # Errors
    /// When that thread is gone.
    fn run_stage<T: Send + 'static>(_device: &Self::Device, stage: impl FnOnce() -> T + Send) -> Result<T> {
        Ok(stage())
    }

    /// A way to do the same work over and over: a backend that can record what a device is told to do tells it at once the next
    /// time.
    fn repetition() -> Box<dyn Repetition<Self>> {
        Box::new(Anew)
    }

    /// Where a tensor lies, once what was done with it before has been handed over; none where recorded work isn't bound to places.
    fn place(_tensor: &Tensor<Self, 4>) -> Option<Place> {
        None
    }

    /// Bytes of device memory that the backend's allocator holds, in use or kept for reuse, where it tells.
    fn reserved_memory(_device: &Self::Device) -> Option<u64> {
        None
    }

    /// Pixels of image patches, normalised: `(x - 127.5) / 127.5`, each patch repeated over the temporal patch size.
    ///
    /// `pixels` is `[patches, channels, area]` u8; the result `[patches, channels · temporal · area]`.
    fn normalize_pixels(
        pixels: &[u8],
        channels: usize,
        temporal: usize,
        area: usize,
        device: &Self::Device,
    ) -> Tensor<Self, 2> {
        definition::normalize_pixels(pixels, channels, temporal, area, device)
    }

    /// Rows of a table `[vocabulary, features]` for the given ids: `[ids, features]`.
    fn lookup_rows(ids: Tensor<Self, 1, Int>, table: &Weight<Self>) -> Tensor<Self, 2> {
        definition::lookup_rows(ids, table)
    }

    /// As [`lookup_rows`](Self::lookup_rows), of rows in the host's memory: `[ids, columns]` in f32, ids past the end being the last
    /// row's. None where the device can't look them up by itself; then they are the host's to look up.
    fn lookup_host_rows(_ids: Tensor<Self, 1, Int>, _table: &HostRows) -> Option<Tensor<Self, 2>> {
        None
    }

    /// `x` `[tokens, features]` normalised over its features.
    fn normalize(x: Tensor<Self, 2>, norm: &Norm<Self>) -> Tensor<Self, 2> {
        definition::normalize(x, norm)
    }

    /// `activation(x · weightᵀ + bias)`: `[tokens, in]` → `[tokens, out]`.
    fn project(x: Tensor<Self, 2>, linear: &Linear<Self>, activation: Activation) -> Tensor<Self, 2> {
        definition::project(x, linear, activation)
    }

    /// `activation(norm(x) · weightᵀ + bias)`: `[tokens, in]` → `[tokens, out]`.
    ///
    /// For what another operation reads: the result may be in the element type that products take their rows in, bf16 on
    /// tensor cores.
    fn norm_project(
        x: Tensor<Self, 2>,
        norm: &Norm<Self>,
        linear: &Linear<Self>,
        activation: Activation,
    ) -> Tensor<Self, 2> {
        Self::project(Self::normalize(x, norm), linear, activation)
    }

    /// `norm(x) · weightᵀ + bias` in f32: `[tokens, in]` → `[tokens, out]`.
    fn norm_logits(x: Tensor<Self, 2>, norm: &Norm<Self>, linear: &Linear<Self>) -> Tensor<Self, 2> {
        Self::project(Self::normalize(x, norm), linear, Activation::None)
    }

    /// `residual + x · weightᵀ + bias`: `[tokens, in]`, `[tokens, out]` → `[tokens, out]`.
    fn project_add(x: Tensor<Self, 2>, linear: &Linear<Self>, residual: Tensor<Self, 2>) -> Tensor<Self, 2> {
        residual + Self::project(x, linear, Activation::None)
    }

    /// `silu(g) · u` where `g | u = norm(x) · gate_upᵀ`: `[tokens, in]` → `[tokens, intermediate]`.
    ///
    /// `gate_up` is `[2 · intermediate, in]`: all rows of the gate, then all of the up projection. The result's element type is
    /// as [`norm_project`](Self::norm_project)'s.
    fn norm_gate_up(x: Tensor<Self, 2>, norm: &Norm<Self>, gate_up: &Linear<Self>) -> Tensor<Self, 2> {
        definition::gate(Self::norm_project(x, norm, gate_up, Activation::None))
    }

    /// The rows that an operation has left for another one, in f32, as closely as that one reads them.
    fn plain_rows(x: Tensor<Self, 2>) -> Tensor<Self, 2> {
        x.cast(DType::F32)
    }

    /// [`project_add`](Self::project_add), then [`norm_project`](Self::norm_project) of its result by `next`, without an activation:
    /// the sum `[tokens, out]` and the projection of its norm.
    fn project_add_norm_project(
        x: Tensor<Self, 2>,
        linear: &Linear<Self>,
        residual: Tensor<Self, 2>,
        norm: &Norm<Self>,
        next: &Linear<Self>,
    ) -> [Tensor<Self, 2>; 2] {
        let sum = Self::project_add(x, linear, residual);
        let projected = Self::norm_project(sum.clone(), norm, next, Activation::None);
        [sum, projected]
    }

    /// [`project_add`](Self::project_add), then [`norm_gate_up`](Self::norm_gate_up) of its result: the sum `[tokens, out]` and the
    /// gated projection of its norm, which may be in whatever form a product takes its rows in ([`plain_rows`](Self::plain_rows)).
    fn project_add_norm_gate_up(
        x: Tensor<Self, 2>,
        linear: &Linear<Self>,
        residual: Tensor<Self, 2>,
        norm: &Norm<Self>,
        gate_up: &Linear<Self>,
    ) -> [Tensor<Self, 2>; 2] {
        let sum = Self::project_add(x, linear, residual);
        let gated = Self::norm_gate_up(sum.clone(), norm, gate_up);
        [sum, gated]
    }

    /// Adds `values` `[rows, features]` to the rows of `x` `[tokens, features]` that `rows` names, each at most once.
    fn add_rows(x: Tensor<Self, 2>, rows: Tensor<Self, 1, Int>, values: Tensor<Self, 2>) -> Tensor<Self, 2> {
        definition::add_rows(x, rows, values)
    }

    /// Writes keys or values `[entries, heads, tokens, head_dim]` into a cache `[entries, heads, capacity, head_dim]` from a position
    /// on, in the cache's element type. The cache stays where it is, on backends that can assign in place.
    fn write_cache(cache: &mut Tensor<Self, 4>, values: Tensor<Self, 4>, position: usize) {
        definition::write_cache(cache, values, position);
    }

    /// Vision attention: bidirectional within each image, 2-D rotation in f32.
    ///
    /// `qkv` is `[patches, 3 · heads · head_dim]`, all of q, then k, then v; `rotary` has one row per patch; `image_lengths` the
    /// patches of each image. Returns `[patches, heads · head_dim]`.
    fn vision_attention(
        qkv: Tensor<Self, 2>,
        attention: &Attention,
        rotary: &Rotary<Self>,
        image_lengths: &[usize],
    ) -> Tensor<Self, 2> {
        definition::vision_attention(qkv, attention, rotary, image_lengths)
    }

    /// Causal attention of whole prompts that fills the prompt cache.
    ///
    /// `qkv` is `[clips · length, qkv_features]`; queries and keys are normalised per head and rotated (`rotary` has one row per
    /// token of all clips), keys and values are written to `prompt`, whose capacity is `length`. Returns
    /// `[clips · length, heads · head_dim]`.
    fn prefill_attention(
        qkv: Tensor<Self, 2>,
        attention: &Attention,
        norms: &HeadNorms<Self>,
        rotary: &Rotary<Self>,
        prompt: &mut KeyValue<Self>,
    ) -> Tensor<Self, 2> {
        definition::prefill_attention(qkv, attention, norms, rotary, prompt)
    }

    /// Causal attention of the next tokens of every row over the clip's prompt and the row's own suffix.
    ///
    /// `qkv` is `[rows · tokens, qkv_features]` (one token per row when decoding, more under teacher forcing); its keys and
    /// values are written to the suffix from `position` on. Returns `[rows · tokens, heads · head_dim]`.
    fn decode_attention(
        qkv: Tensor<Self, 2>,
        attention: &Attention,
        norms: &HeadNorms<Self>,
        rotary: &Rotary<Self>,
        cache: &mut LayerCache<Self>,
        position: &SuffixPosition<Self>,
    ) -> Tensor<Self, 2> {
        definition::decode_attention(qkv, attention, norms, rotary, cache, position)
    }

    /// A repetition for work that decodes tokens with heads of this shape, one step after another ([`decode_step`](Self::decode_step)).
    fn decode_repetition(_attention: &Attention) -> Box<dyn Repetition<Self>> {
        Box::new(Anew)
    }

    /// The step that decodes one token of each of `rows` rows at suffix `position`, whose rotations are rows `position · rows` and on of
    /// a table `[positions · rows, head_dim / 2]`.
    ///
    /// `previous`, a step of the same extents, is what it replaces: a backend that [repeats](Self::decode_repetition) what was done with
    /// it writes the new step to its memory.
    fn decode_step(
        table: &Rotary<Self>,
        rows: usize,
        position: usize,
        previous: Option<DecodeStep<Self>>,
    ) -> DecodeStep<Self> {
        let _ = previous;
        definition::decode_step(table, rows, position)
    }

    /// Action tokens in the memory of previous ones that they [are like](ActionTokens::is_like): work that was recorded over those reads
    /// them there. None where the backend can't.
    fn move_action_tokens(_tokens: ActionTokens<Self>, _previous: ActionTokens<Self>) -> Option<ActionTokens<Self>> {
        None
    }

    /// Bidirectional attention of the action tokens among themselves, over the clip's prompt and over the first
    /// `suffix_lengths[row]` tokens of the row's suffix. The cache is only read.
    ///
    /// `qkv` is `[rows · tokens, qkv_features]`; returns `[rows · tokens, heads · head_dim]`.
    fn expert_attention(
        qkv: Tensor<Self, 2>,
        attention: &Attention,
        norms: &HeadNorms<Self>,
        rotary: &Rotary<Self>,
        cache: &LayerCache<Self>,
        suffix_lengths: &RowLengths<Self>,
    ) -> Tensor<Self, 2> {
        definition::expert_attention(qkv, attention, norms, rotary, cache, suffix_lengths)
    }

    /// The next token of every row, chosen where the logits are.
    ///
    /// `logits` are `[clips, vocabulary]`, each of them those of `rows / clips` rows, `rows` being the number of uniform numbers. The
    /// definition is alpamayo-core's sampler, which works on the host; `None` where the backend leaves it to that. Probabilities
    /// are within 1e-6 of the definition's, the same number always chooses the same token, and tokens count as equally likely where their
    /// weights are the same in f32.
    fn sample_tokens(_logits: Tensor<Self, 2>, _sampling: &TokenSampling) -> Option<Drawn<Self>> {
        None
    }

    /// The values of a tensor. `work` queues what the device shall do meanwhile: on backends that can, reading doesn't wait for it.
    ///
    /// # Errors
    /// When the device fails.
    fn read_beside(tensor: Tensor<Self, 2, Int>, work: impl FnOnce()) -> Result<TensorData> {
        work();
        tensor.try_into_data().map_err(unreadable)
    }

    /// Fourier features of waypoints and of the flow's time.
    ///
    /// `x` is `[waypoints, inputs]`, `frequencies` `[inputs + 1, n]` (the last row is the time's). For each input and then the time:
    /// `√2 · [sin(2π f x), cos(2π f x)]`, the angle formed in f32 as `(x · f) · 2π` with `x · f` rounded first. Angles reach
    /// 2,000 radians, so the sine must be exact there. Returns `[waypoints, (inputs + 1) · 2 n]`.
    fn fourier_features(x: Tensor<Self, 2>, time: f32, frequencies: &Tensor<Self, 2>) -> Tensor<Self, 2> {
        definition::fourier_features(x, time, frequencies)
    }
}

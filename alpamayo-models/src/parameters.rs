//! Where modules get their parameters from.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{Linear, Norm, RmsNorm, Weight};

use crate::error::Result;
use crate::token_table::TokenTable;

/// A source of parameters: a checkpoint, or a random initialiser.
///
/// Every module is built by its `new`, which asks the source for its fields one after another, in the order of the data's way.
/// A `field` is the module field's path, `decoder.layers.3.qkv`. The import's table maps these paths to a checkpoint's names; a source
/// that has no checkpoint needs only the shapes.
pub trait ParameterSource<B: ModelBackend> {
    /// A linear layer: weight `[out, in]` and bias `[out]` where asked for.
    ///
    /// `out_features` has one entry per matrix that is stacked: `[q, k, v]`, `[gate, up]`, or a single one.
    ///
    /// # Errors
    /// When the parameter is missing, of another shape, or can't be stored.
    fn linear(&mut self, field: &str, in_features: usize, out_features: &[usize], bias: bool) -> Result<Linear<B>>;

    /// A table of `rows` embeddings, `[rows, features]`.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    fn embedding(&mut self, field: &str, rows: usize, features: usize) -> Result<Weight<B>>;

    /// The table of token embeddings, `[rows, features]`; on the device, unless the source was told otherwise.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    fn token_table(&mut self, field: &str, rows: usize, features: usize) -> Result<TokenTable<B>> {
        self.embedding(field, rows, features).map(TokenTable::Device)
    }

    /// An RMSNorm's weight `[features]`.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    fn rms_norm(&mut self, field: &str, features: usize, epsilon: f64) -> Result<RmsNorm<B>>;

    /// A LayerNorm's weight and bias `[features]`.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    fn layer_norm(&mut self, field: &str, features: usize, epsilon: f64) -> Result<Norm<B>>;

    /// The values of a buffer of `length` numbers on the host, or `None` where the source doesn't hold it (Alpamayo 1.5's files hold
    /// no buffers, R1's hold seven): they are then computed from the configuration.
    ///
    /// # Errors
    /// When the buffer is there with another shape.
    fn buffer(&mut self, field: &str, length: usize) -> Result<Option<Vec<f32>>>;

    /// The device that the parameters are made on.
    fn device(&self) -> &B::Device;
}

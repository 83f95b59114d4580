//! The parameters and tables that the operations of [`ModelBackend`](crate::ModelBackend) read.

mod cache;
mod host_rows;
mod linear;
mod norm;
mod quantized;
mod rotary;
mod source;
mod step;
mod weight;

pub use cache::{CacheConfig, CacheFormat, KeyValue, LayerCache, RowLengths};
pub use host_rows::{HostBytes, HostRows};
pub use linear::{Activation, Linear};
pub use norm::{LayerNorm, Norm, RmsNorm};
pub use quantized::{Quantization, QuantizedWeight};
pub use rotary::{Attention, HeadNorms, Rotary};
pub use source::{SourceType, WeightSource};
pub use step::{ActionTokens, DecodeStep, SuffixPosition};
pub use weight::{FloatWeight, PackedWeight, Weight, WeightFormat, WeightParts};

//! Every GPU: the kernels are written once in CubeCL and compiled to CUDA, SPIR-V, Metal and WGSL.

use burn::tensor::Tensor;
use burn_cubecl::{BoolElement, CubeBackend, FloatElement, IntElement};

use super::KernelRuntime;
use crate::ModelBackend;
use crate::kernels::attention;
use crate::layers::{Attention, HeadNorms, KeyValue, LayerCache, Rotary, RowLengths};

impl<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement> ModelBackend for CubeBackend<R, F, I, BT> {
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
        position: usize,
    ) -> Tensor<Self, 2> {
        attention::decode(qkv, attention, norms, rotary, cache, position)
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
}

//! Reading while the device goes on.

use burn::tensor::{Int, Tensor, TensorData};
use burn_cubecl::{BoolElement, CubeBackend, FloatElement, IntElement};
use cubecl::future::block_on;

use super::tensors::int;
use crate::error::{Result, unreadable};
use crate::instances::KernelRuntime;

/// See [`ModelBackend::read_beside`](crate::ModelBackend::read_beside). The copy is queued in front of the work: Burn queues it where it is waited
/// for.
pub fn read_beside<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    tensor: Tensor<CubeBackend<R, F, I, BT>, 2, Int>,
    work: impl FnOnce(),
) -> Result<TensorData> {
    let tensor = int(tensor);
    let copied = tensor.client.read_async(vec![tensor.handle.clone()]);
    work();
    R::hand_over(&tensor.client)?;
    let mut buffers = block_on(copied).map_err(unreadable)?;
    Ok(TensorData::from_bytes(
        buffers.remove(0),
        tensor.meta.shape().clone(),
        tensor.dtype,
    ))
}

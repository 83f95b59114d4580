//! From a device's name to its backend's type.

use super::{BackendKind, Device};
use crate::error::{Error, Result};
use crate::{ModelBackend, instances};

/// Code that runs on whichever backend a [`Device`] names.
pub trait DeviceVisitor {
    /// What it returns.
    type Output;

    /// Runs on backend `B`.
    fn visit<B: ModelBackend>(self, device: B::Device) -> Self::Output;
}

impl Device {
    /// Opens the device and runs the visitor on its backend.
    ///
    /// # Errors
    /// As [`check`](Self::check), and where the driver refuses the device.
    pub fn run<V: DeviceVisitor>(self, visitor: V) -> Result<V::Output> {
        self.check()?;
        match self.kind {
            #[cfg(feature = "flex")]
            BackendKind::Cpu => Ok(visitor.visit::<instances::Flex>(Default::default())),
            #[cfg(feature = "candle")]
            BackendKind::Candle | BackendKind::CandleCuda | BackendKind::CandleMetal => {
                Ok(visitor.visit::<instances::Candle>(instances::candle::open(self)?))
            }
            #[cfg(feature = "wgpu")]
            BackendKind::Vulkan | BackendKind::Metal | BackendKind::WebGpu => {
                Ok(visitor.visit::<instances::Wgpu>(instances::adapters::open(self)?))
            }
            #[cfg(feature = "cuda")]
            BackendKind::Cuda => Ok(visitor.visit::<instances::Cuda>(instances::cuda_devices::open(self))),
            #[allow(unreachable_patterns)]
            kind => Err(Error::NotCompiled {
                backend: kind.name(),
                feature: kind.feature(),
            }),
        }
    }
}

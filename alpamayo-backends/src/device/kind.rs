//! The backends by name.

use super::Found;

/// A backend of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackendKind {
    /// NVIDIA GPUs through CUDA.
    Cuda,
    /// Apple GPUs through wgpu's Metal.
    Metal,
    /// Any GPU with a Vulkan driver, through wgpu and SPIR-V.
    Vulkan,
    /// Whatever wgpu finds, through WGSL.
    WebGpu,
    /// NVIDIA GPUs through Candle.
    CandleCuda,
    /// Apple GPUs through Candle.
    CandleMetal,
    /// The CPU through Burn's Flex.
    Cpu,
    /// The CPU through Candle.
    Candle,
}

impl BackendKind {
    /// All backends, the fastest kind first.
    pub const ALL: [Self; 8] = [
        Self::Cuda,
        Self::Metal,
        Self::Vulkan,
        Self::WebGpu,
        Self::CandleCuda,
        Self::CandleMetal,
        Self::Cpu,
        Self::Candle,
    ];

    /// The name in [`Device`](super::Device)'s text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Metal => "metal",
            Self::Vulkan => "vulkan",
            Self::WebGpu => "wgpu",
            Self::CandleCuda => "candle-cuda",
            Self::CandleMetal => "candle-metal",
            Self::Cpu => "cpu",
            Self::Candle => "candle",
        }
    }

    /// The backend of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The Cargo feature that compiles it.
    pub fn feature(self) -> &'static str {
        match self {
            Self::Cpu => "flex",
            other => other.name(),
        }
    }

    /// Whether there can be several devices of this kind.
    pub fn is_numbered(self) -> bool {
        !matches!(self, Self::Cpu | Self::Candle)
    }

    /// Whether this build contains it.
    pub fn is_compiled(self) -> bool {
        match self {
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Metal => cfg!(feature = "metal"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::WebGpu => cfg!(feature = "wgpu"),
            Self::CandleCuda => cfg!(feature = "candle-cuda"),
            Self::CandleMetal => cfg!(feature = "candle-metal"),
            Self::Cpu => cfg!(feature = "flex"),
            Self::Candle => cfg!(feature = "candle"),
        }
    }

    /// What to check where the machine has no such device.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Cuda | Self::CandleCuda => {
                "is an NVIDIA driver installed (nvidia-smi), and libcuda.so on the library path?"
            }
            Self::Vulkan => "is a Vulkan driver installed (vulkaninfo --summary; Debian: mesa-vulkan-drivers)?",
            Self::Metal | Self::CandleMetal => "Metal needs macOS on Apple Silicon",
            Self::WebGpu => "is a Vulkan, Metal or DirectX 12 driver installed?",
            Self::Cpu | Self::Candle => "there is one CPU device, without a number",
        }
    }

    /// What this build calls this machine's graphics adapters, where it compiles kernels for them in a better way than this one.
    pub(super) fn called_instead(self) -> Option<Self> {
        match self {
            #[cfg(feature = "wgpu")]
            Self::WebGpu => Some(crate::instances::adapters::kind()).filter(|kind| *kind != self),
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }

    /// The devices of this kind that this build and machine can run.
    pub(super) fn list(self) -> Vec<Found> {
        match self {
            #[cfg(feature = "flex")]
            Self::Cpu => vec![Found::new(self, 0, "CPU, Burn's Flex backend")],
            #[cfg(feature = "candle")]
            Self::Candle | Self::CandleCuda | Self::CandleMetal => crate::instances::candle::list(self),
            #[cfg(feature = "wgpu")]
            Self::Vulkan | Self::Metal | Self::WebGpu if self.is_compiled() => crate::instances::adapters::list(self),
            #[cfg(feature = "cuda")]
            Self::Cuda => crate::instances::cuda_devices::list(),
            #[allow(unreachable_patterns)]
            _ => Vec::new(),
        }
    }
}

//! Verifies and times the attention kernels at the released model's shapes, several plans side by side.
//!
//! `attention_check [cuda|vulkan] operations`: every operation of the backend against its definition instead.
//! `attention_check [cuda|vulkan] [word…]`: only rows whose name contains all the words. Relative errors are against a host
//! reference in f64 on sampled tokens and heads; times are medians of the whole operation with launches queued back to back.

#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod cases;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod check;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod plans;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod reference;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod whole;

#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn main() {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let on = |name: &str, words: &mut Vec<String>| {
        let found = words.iter().position(|word| word == name);
        found.map(|index| words.remove(index)).is_some()
    };
    let (cuda, vulkan) = (on("cuda", &mut words), on("vulkan", &mut words));
    let whole = on("operations", &mut words);
    #[cfg(feature = "cuda")]
    if whole && (cuda || !vulkan) {
        whole::all::<alpamayo_backends::instances::Cuda>("cuda", &Default::default());
    } else if cuda || !vulkan {
        cases::all::<cubecl::cuda::CudaRuntime, u8>("cuda", &words);
    }
    #[cfg(feature = "wgpu")]
    if whole && (vulkan || !cuda) {
        whole::all::<alpamayo_backends::instances::Wgpu>("vulkan", &Default::default());
    } else if vulkan || !cuda {
        cases::all::<alpamayo_backends::instances::WgpuRuntime, u32>("vulkan", &words);
    }
}

#[cfg(not(any(feature = "cuda", feature = "wgpu")))]
fn main() {
    eprintln!("attention_check needs the feature cuda, vulkan or wgpu");
}

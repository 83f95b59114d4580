//! Checks and times the GPU kernels at the released model's shapes, variant by variant.
//!
//! ```text
//! kernel_check <cuda|vulkan> [section …] [--tokens 1,6] [--variants 4,2,2,4;2,4,1,8] [--all] [--divide 1]
//! ```
//!
//! Sections: `matvec` (cuts of the matrix-vector kernel; a variant is outputs, unroll, splits, groups), `streamed` (cuts of the
//! product on tensor cores: row tiles, unroll, splits, groups), `wide` (the same product in tiles of many weight rows that share the rows
//! of `x`), `quantized` (8 and 4 bits: cuts of the integer product, or of the matrix-vector kernel where there are no such tensor cores,
//! for a few rows, of the streamed one for 64, and with `--all` what many rows call; an integer variant is splits, groups, rounds, 0),
//! `fused` (what is fused around them), `library` and `cooperative` (large products), `flow` (what a
//! layer of a flow step launches on cooperative matrices: time on the device alone and with the host's), `chain` (such layers one after another, anew and
//! recorded), `rows` (norms, gates, random weights),
//! `sample` (drawing tokens). All of them without a name; `--all` prints every variant.
//! `--divide 16` takes a sixteenth of every extent, for devices without memory or speed.

mod chain;
mod cooperative;
mod flow;
mod fused;
mod library;
mod matvec;
mod measure;
mod quantized;
mod rows;
mod sample;
mod streamed;
mod wide;

use alpamayo_backends::instances::KernelRuntime;
use measure::Options;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let backend = arguments.next().unwrap_or_default();
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(message) => return eprintln!("{message}"),
    };
    match backend.as_str() {
        #[cfg(feature = "cuda")]
        "cuda" => run::<cubecl::cuda::CudaRuntime>(&options),
        #[cfg(feature = "wgpu")]
        "vulkan" | "metal" | "wgpu" => run::<alpamayo_backends::instances::WgpuRuntime>(&options),
        other => eprintln!("no backend {other:?} in this build: cuda, vulkan, metal or wgpu by feature"),
    }
}

fn run<R: KernelRuntime>(options: &Options) {
    let device = R::Device::default();
    measure::header();
    for (name, section) in [
        ("matvec", matvec::run::<R> as fn(&R::Device, &Options)),
        ("streamed", streamed::run::<R>),
        ("wide", wide::run::<R>),
        ("quantized", quantized::run::<R>),
        ("fused", fused::run::<R>),
        ("library", library::run::<R>),
        ("cooperative", cooperative::run::<R>),
        ("flow", flow::run::<R>),
        ("chain", chain::run::<R>),
        ("rows", rows::run::<R>),
        ("sample", sample::run::<R>),
    ] {
        if options.wants(name) {
            section(&device, options);
        }
    }
}

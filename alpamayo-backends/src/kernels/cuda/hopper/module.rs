//! Sources to functions: compiled by NVRTC for the device at hand, kept between runs.

use std::collections::HashMap;
use std::ffi::CString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};

use burn_cuda::CudaDevice;
use cudarc::driver::{result, sys};
use cudarc::nvrtc;

use crate::instances::{cuda_libraries, kernel_cache};

/// What one compiled function is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kernel<const N: usize> {
    /// CUDA C++.
    pub source: &'static str,
    /// Name of the function.
    pub entry: &'static str,
    /// Macros and their values.
    pub definitions: [(&'static str, usize); N],
    /// Dynamic shared memory of a launch, in bytes.
    pub shared: usize,
}

/// A function on a device.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    pub(super) raw: sys::CUfunction,
    /// Dynamic shared memory of a launch, in bytes.
    pub(super) shared: usize,
    /// Parameters.
    pub(super) parameters: usize,
}

// SAFETY: functions live as long as the process and may be launched from any thread.
unsafe impl Send for Function {}
// SAFETY: as above; launching doesn't change them.
unsafe impl Sync for Function {}

/// What was asked for, by device, entry and definitions; `None` where it can't be had.
type Known = HashMap<(usize, u64), Option<Function>>;

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// Compute capability that the sources are written for: its own instructions don't exist before and were dropped after.
const CAPABILITY: (i32, i32) = (9, 0);

/// The first driver that tells a function's parameters.
const MINIMUM_DRIVER: i32 = 12_040;

/// What NVRTC calls it.
const ARCHITECTURE: &str = "--gpu-architecture=sm_90a";

/// Whether the device is of the kind that the sources are written for, and the compiler is there.
pub fn is_present(device: &CudaDevice) -> bool {
    static PRESENT: LazyLock<Mutex<HashMap<usize, bool>>> = LazyLock::new(Mutex::default);
    let mut present = PRESENT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *present.entry(device.index).or_insert_with(|| {
        let index = i32::try_from(device.index).ok();
        let device = index.and_then(|index| result::device::get(index).ok());
        device.and_then(capability) == Some(CAPABILITY) && driver() >= MINIMUM_DRIVER && compiler().is_some()
    })
}

impl<const N: usize> Kernel<N> {
    /// The function on a device, or `None` where the device is another kind or the compiler is missing.
    pub fn function(&self, device: &CudaDevice) -> Option<Function> {
        let mut hasher = DefaultHasher::new();
        (self.entry, self.definitions, self.shared).hash(&mut hasher);
        let mut known = KNOWN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *known
            .entry((device.index, hasher.finish()))
            .or_insert_with(|| self.load(device.index))
    }

    fn load(&self, index: usize) -> Option<Function> {
        let device = result::device::get(i32::try_from(index).ok()?).ok()?;
        if capability(device)? != CAPABILITY || driver() < MINIMUM_DRIVER {
            return None;
        }
        let options = self.options();
        let binary = kept(self.source, &options)?;
        let entry = CString::new(self.entry).ok()?;
        // SAFETY: the primary context stays retained, and the module loaded, as long as the process runs.
        unsafe {
            let context = result::primary_ctx::retain(device).ok()?;
            result::ctx::set_current(context).ok()?;
            let module = result::module::load_data(binary.as_ptr().cast()).ok()?;
            let raw = result::module::get_function(module, entry).ok()?;
            allow(raw, self.shared)?;
            Some(Function {
                raw,
                shared: self.shared,
                parameters: parameters(raw),
            })
        }
    }

    fn options(&self) -> Vec<String> {
        let definitions = self.definitions.iter();
        [ARCHITECTURE, "--std=c++17"]
            .map(String::from)
            .into_iter()
            .chain(definitions.map(|(name, value)| format!("-D{name}={value}")))
            .collect()
    }
}

/// Lets launches take so many bytes of shared memory, and clusters of more than eight blocks.
///
/// # Safety
/// The function is alive and its context current.
unsafe fn allow(function: sys::CUfunction, shared: usize) -> Option<()> {
    use sys::CUfunction_attribute_enum::{
        CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED,
    };
    let shared = i32::try_from(shared).ok()?;
    // SAFETY: by the caller's promise.
    unsafe {
        sys::cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared)
            .result()
            .ok()?;
        sys::cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1)
            .result()
            .ok()
    }
}

/// How many parameters the function has.
///
/// # Safety
/// The function is alive.
unsafe fn parameters(function: sys::CUfunction) -> usize {
    let (mut offset, mut size) = (0, 0);
    // SAFETY: by the caller's promise; an index past the last parameter is an error and nothing else.
    let exists = |index| unsafe { sys::cuFuncGetParamInfo(function, index, &mut offset, &mut size) };
    let indices = (0..).map(exists);
    indices
        .take_while(|&status| status == sys::CUresult::CUDA_SUCCESS)
        .count()
}

fn capability(device: sys::CUdevice) -> Option<(i32, i32)> {
    use sys::CUdevice_attribute_enum::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
    };
    // SAFETY: the device is valid.
    let attribute = |attribute| unsafe { result::device::get_attribute(device, attribute).ok() };
    Some((
        attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    ))
}

/// The driver's version.
fn driver() -> i32 {
    let mut version = 0;
    // SAFETY: CubeCL has initialised the driver.
    let status = unsafe { sys::cuDriverGetVersion(&mut version) };
    if status == sys::CUresult::CUDA_SUCCESS {
        version
    } else {
        0
    }
}

/// The machine code: what an earlier run left, or freshly compiled.
fn kept(source: &str, options: &[String]) -> Option<Vec<u8>> {
    let path = place(source, options);
    if let Some(binary) = path.as_deref().and_then(|path| std::fs::read(path).ok())
        && is_elf(&binary)
    {
        return Some(binary);
    }
    let binary = compile(source, options)?;
    if let Some(path) = path {
        keep(&path, &binary);
    }
    Some(binary)
}

/// Whether this is machine code at all, and not what is left of a broken file.
fn is_elf(binary: &[u8]) -> bool {
    binary.starts_with(b"\x7fELF")
}

/// Where machine code is kept: its name tells source, options and compiler.
fn place(source: &str, options: &[String]) -> Option<PathBuf> {
    let mut hasher = DefaultHasher::new();
    (source, options, compiler()?).hash(&mut hasher);
    Some(kernel_cache::directory()?.join(format!("hopper-{:016x}.cubin", hasher.finish())))
}

/// Written under another name first, so that no other process reads half of it. Where nothing can be written, nothing is kept.
fn keep(path: &Path, binary: &[u8]) {
    let unfinished = path.with_extension(format!("{}.part", std::process::id()));
    let written = path
        .parent()
        .is_some_and(|directory| std::fs::create_dir_all(directory).is_ok())
        && std::fs::write(&unfinished, binary).is_ok()
        && std::fs::rename(&unfinished, path).is_ok();
    if !written {
        let _ = std::fs::remove_file(&unfinished);
    }
}

/// The compiler's version, or `None` where it is missing.
fn compiler() -> Option<(i32, i32)> {
    if !cuda_libraries::has_compiler() {
        return None;
    }
    let mut version = (0, 0);
    // SAFETY: only asks the library for its version.
    unsafe { nvrtc::sys::nvrtcVersion(&mut version.0, &mut version.1).result().ok()? };
    Some(version)
}

fn compile(source: &str, options: &[String]) -> Option<Vec<u8>> {
    compiler()?;
    let source = CString::new(source).ok()?;
    let program = nvrtc::result::create_program(&source, None).ok()?;
    // SAFETY: the program was just made and is destroyed once.
    unsafe {
        let binary = nvrtc::result::compile_program(program, options)
            .ok()
            .and_then(|()| machine_code(program));
        let _ = nvrtc::result::destroy_program(program);
        binary
    }
}

/// # Safety
/// The program is compiled.
unsafe fn machine_code(program: nvrtc::sys::nvrtcProgram) -> Option<Vec<u8>> {
    let mut bytes = 0;
    // SAFETY: by the caller's promise; the buffer has the size that was asked for first.
    unsafe {
        nvrtc::sys::nvrtcGetCUBINSize(program, &mut bytes).result().ok()?;
        let mut binary = vec![0_u8; bytes];
        nvrtc::sys::nvrtcGetCUBIN(program, binary.as_mut_ptr().cast())
            .result()
            .ok()?;
        Some(binary)
    }
}

/// That the kernel compiles and is what its entry says, where the compiler is; it needs no device.
#[cfg(test)]
pub(super) fn assert_compiles<const N: usize>(kernel: &Kernel<N>) {
    if compiler().is_none() {
        return eprintln!("not checked: NVRTC is missing");
    }
    let binary = compile(kernel.source, &kernel.options());
    let found = binary.is_some_and(|binary| {
        let entry = kernel.entry.as_bytes();
        is_elf(&binary) && binary.windows(entry.len()).any(|window| window == entry)
    });
    assert!(found, "{} with {:?}", kernel.entry, kernel.definitions);
    assert!(
        kernel.shared <= 227 << 10,
        "{} with {:?}",
        kernel.entry,
        kernel.definitions
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_sources_are_none() {
        if compiler().is_some() {
            assert_eq!(compile("extern \"C\" __global__ void broken(", &[]), None);
        }
    }

    #[test]
    fn machine_code_is_kept_whole_or_not_at_all() {
        let directory = std::env::temp_dir().join(format!("alpamayo-kept-{}", std::process::id()));
        let path = directory.join("kernel.cubin");
        keep(&path, b"\x7fELF and more");
        assert_eq!(std::fs::read(&path).unwrap(), b"\x7fELF and more");
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_differs_is_kept_apart() {
        if compiler().is_some() {
            let options = ["-DA=1".to_owned()];
            assert_ne!(place("a", &options), place("b", &options));
            assert_ne!(place("a", &options), place("a", &[]));
        }
    }
}

//! Compiled kernels are kept between runs: compiling those of the whole model takes many seconds.
//!
//! CubeCL keeps CUDA's and Vulkan's. Its key lacks which optional operands a kernel has, so kernels' configurations name them
//! (`Operands`): without that, results were wrong in the second process.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use cubecl::config::cache::CacheConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

/// Turns CubeCL's cache of compiled kernels on, unless the process or a `cubecl.toml` has configured CubeCL.
///
/// A kernel's key doesn't tell its source: another build of the program has a cache of its own.
pub(crate) fn enable() {
    let mut storage = CubeClRuntimeConfig::storage().lock();
    if storage.is_some() {
        return;
    }
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    if config.compilation.cache.is_none() {
        config.compilation.cache = directory().map(CacheConfig::File);
    }
    *storage = Some(Arc::new(config));
}

/// A directory of this build of the program among the user's caches; none where the system names no place for them.
pub(crate) fn directory() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?.metadata().ok()?;
    let mut hasher = DefaultHasher::new();
    (program.len(), program.modified().ok()?).hash(&mut hasher);
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let caches = variable("XDG_CACHE_HOME")
        .or_else(|| variable("LOCALAPPDATA"))
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))?;
    Some(
        caches
            .join("alpamayo")
            .join(format!("kernels-{:016x}", hasher.finish())),
    )
}

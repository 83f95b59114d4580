//! Which of CUDA's libraries are there.
//!
//! They are loaded when they are first used, and may be missing. Where Candle's CUDA is in the build too they are linked, as Candle asks of the
//! crate that both use: a program that runs has found them.

macro_rules! library {
    ($name:ident, $($library:ident)::+, $docs:literal) => {
        #[doc = $docs]
        pub(crate) fn $name() -> bool {
            #[cfg(feature = "candle-cuda")]
            return true;
            #[cfg(not(feature = "candle-cuda"))]
            // SAFETY: only asks whether the library can be loaded.
            return unsafe { $($library)::+::is_culib_present() };
        }
    };
}

library!(
    has_driver,
    cudarc::driver::sys,
    "Whether the driver's library is there."
);
library!(
    has_compiler,
    cudarc::nvrtc::sys,
    "Whether the compiler of kernels is there."
);
library!(
    has_products,
    cudarc::cublaslt::sys,
    "Whether the library of products is there."
);

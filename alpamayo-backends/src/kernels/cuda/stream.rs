//! A stream of our own, ordered with CubeCL's without stopping host or device.
//!
//! CubeCL doesn't show its streams, but they live in the device's primary context, and the driver (from CUDA 12.5 on) records and
//! awaits events for all streams of a context at once.

use cudarc::driver::{DriverError, result, sys};

/// A stream, and the events that order it with everything else in its context.
pub(super) struct OrderedStream {
    context: sys::CUcontext,
    stream: sys::CUstream,
    before: sys::CUevent,
    after: sys::CUevent,
}

// SAFETY: the driver's handles may be used from any thread; the stream's owner uses it from one at a time.
unsafe impl Send for OrderedStream {}

impl OrderedStream {
    /// The first driver that orders events with a whole context.
    const MINIMUM_DRIVER: i32 = 12_050;

    /// A stream in the primary context of a device, or `None` where the driver can't order it.
    pub fn new(ordinal: i32) -> Option<Self> {
        result::init().ok()?;
        let mut version = 0;
        // SAFETY: the driver was just initialised.
        let status = unsafe { sys::cuDriverGetVersion(&mut version) };
        if status != sys::CUresult::CUDA_SUCCESS || version < Self::MINIMUM_DRIVER {
            return None;
        }
        Self::create(ordinal).ok()
    }

    fn create(ordinal: i32) -> Result<Self, DriverError> {
        let device = result::device::get(ordinal)?;
        // SAFETY: the device is valid; the context stays retained as long as the process runs.
        let context = unsafe { result::primary_ctx::retain(device)? };
        // SAFETY: the context was just retained.
        unsafe { result::ctx::set_current(context)? };
        let event = || result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING);
        Ok(Self {
            context,
            stream: result::stream::create(result::stream::StreamKind::NonBlocking)?,
            before: event()?,
            after: event()?,
        })
    }

    /// Device memory that lives as long as the process.
    pub fn allocate(&self, bytes: usize) -> Result<sys::CUdeviceptr, DriverError> {
        // SAFETY: the context is retained; the memory is never freed.
        unsafe {
            result::ctx::set_current(self.context)?;
            result::malloc_sync(bytes)
        }
    }

    /// Runs `enqueue` on the stream, after all work that the context was given before and before all that it is given later.
    pub fn ordered<T>(&self, enqueue: impl FnOnce(sys::CUstream) -> Result<T, DriverError>) -> Result<T, DriverError> {
        // SAFETY: context, stream and events are alive as long as the process.
        unsafe {
            result::ctx::set_current(self.context)?;
            sys::cuCtxRecordEvent(self.context, self.before).result()?;
            result::stream::wait_event(self.stream, self.before, sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT)?;
            let output = enqueue(self.stream)?;
            result::event::record(self.after, self.stream)?;
            sys::cuCtxWaitEvent(self.context, self.after).result()?;
            Ok(output)
        }
    }
}

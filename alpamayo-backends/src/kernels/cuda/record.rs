//! What a piece of work launches, recorded as a graph of the driver's and launched again as one.

use burn_cuda::CudaDevice;
use cubecl::client::ComputeClient;
use cubecl::cuda::CudaRuntime;
use cudarc::driver::{DriverError, result, sys};

use super::client_stream::client_stream;
use crate::instances::{Recorded, Recording};

/// Records what `work` launches on the stream of the calling thread, without running it.
///
/// It has to run on the client's own thread, and `work` must have run before, so that its kernels are compiled, the memory that
/// it takes in between is there, and whatever it reads of other streams has been waited for.
pub fn record(client: &ComputeClient<CudaRuntime>, device: &CudaDevice, work: &mut dyn FnMut()) -> Recorded {
    let Some(stream) = client_stream(client, device) else {
        return Recorded::Nothing;
    };
    // SAFETY: the stream is CubeCL's and lives as long as the process. Relaxed: other threads go on as they like.
    let begun =
        unsafe { result::stream::begin_capture(stream, sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED) };
    if begun.is_err() {
        return Recorded::Nothing;
    }
    work();
    // SAFETY: the capture was begun above.
    let Ok(graph) = (unsafe { result::stream::end_capture(stream) }) else {
        return Recorded::Nothing;
    };
    // SAFETY: the graph was just captured, and is destroyed once.
    unsafe {
        let recorded = finish(graph, stream);
        let _ = result::graph::destroy(graph);
        recorded.unwrap_or(Recorded::Nothing)
    }
}

/// # Safety
/// The graph and the stream are valid.
unsafe fn finish(graph: sys::CUgraph, stream: sys::CUstream) -> Result<Recorded, DriverError> {
    // SAFETY: by the caller's promise; a graph may be destroyed while what was launched of it still runs.
    unsafe {
        let exec = Graph {
            exec: result::graph::instantiate(graph, sys::CUgraphInstantiate_flags_enum(0))?,
            stream,
        };
        if repeatable(graph)? {
            return Ok(Recorded::Repeatable(Box::new(exec)));
        }
        // Memory that was taken meanwhile exists once the graph has run, and can't be taken again.
        result::graph::launch(exec.exec, stream)?;
        Ok(Recorded::Once)
    }
}

/// Whether the graph does nothing but compute and copy.
///
/// # Safety
/// The graph is valid.
unsafe fn repeatable(graph: sys::CUgraph) -> Result<bool, DriverError> {
    use sys::CUgraphNodeType_enum::{CU_GRAPH_NODE_TYPE_KERNEL, CU_GRAPH_NODE_TYPE_MEMCPY, CU_GRAPH_NODE_TYPE_MEMSET};
    let mut count = 0;
    // SAFETY: asked for their number first; the buffer has room for so many.
    let nodes = unsafe {
        sys::cuGraphGetNodes(graph, std::ptr::null_mut(), &mut count).result()?;
        let mut nodes = vec![std::ptr::null_mut(); count];
        sys::cuGraphGetNodes(graph, nodes.as_mut_ptr(), &mut count).result()?;
        nodes
    };
    for node in nodes {
        let mut kind = CU_GRAPH_NODE_TYPE_KERNEL;
        // SAFETY: the node is the graph's.
        unsafe { sys::cuGraphNodeGetType(node, &mut kind) }.result()?;
        if !matches!(
            kind,
            CU_GRAPH_NODE_TYPE_KERNEL | CU_GRAPH_NODE_TYPE_MEMCPY | CU_GRAPH_NODE_TYPE_MEMSET
        ) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A graph that can be launched.
struct Graph {
    exec: sys::CUgraphExec,
    stream: sys::CUstream,
}

// SAFETY: the driver's functions on graphs and streams may be called from any thread, one at a time, as `&mut` and ownership see to.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made once, destroyed once.
        let _ = unsafe { result::graph::exec_destroy(self.exec) };
    }
}

impl Recording for Graph {
    fn replay(&self) -> bool {
        // SAFETY: both are alive; the buffers that the graph names are kept by whoever keeps the recording.
        unsafe { result::graph::launch(self.exec, self.stream) }.is_ok()
    }
}

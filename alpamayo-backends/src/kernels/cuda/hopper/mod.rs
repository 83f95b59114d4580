//! Kernels for Hopper, where CubeCL has no words for what the chip offers: matrix products from shared memory by a whole group of
//! warps, copies by the tensor copy engine, clusters of blocks, launches that begin before their predecessor has ended.
//!
//! They are written in CUDA C++ (`*.cu`), compiled at run time, and launched on CubeCL's own stream over its buffers. Each is
//! checked against the same definition as the common kernel whose work it takes.

mod attention;
mod decode_attention;
mod decode_row_attention;
mod draw;
mod expert_attention;
mod few_rows;
mod host_rows;
mod launch;
mod module;
mod norm;
mod product;
mod quantized_row_product;
mod quantized_rows_product;
mod row_product;
mod rows_product;
mod scratch;
mod tensor_map;
mod tokens;

use std::cell::RefCell;

use burn_cubecl::tensor::CubeTensor;
use burn_cuda::CudaDevice;
use cubecl::Runtime;
use cubecl::client::ComputeClient;
use cubecl::cuda::CudaRuntime;
use cubecl::device::Device;
use cubecl::device_handle::DeviceHandle;
use cubecl::server::{ComputeServer, Handle};
use cubecl::stream_id::StreamId;
use cudarc::driver::sys;

use launch::Argument;

use super::buffers::is_of_this_stream;
use super::client_stream::client_stream;
use crate::kernels::native::NativeWork;

type Client = ComputeClient<CudaRuntime>;
type Server = <CudaRuntime as Runtime>::Server;
type Tensor = CubeTensor<CudaRuntime>;

pub use host_rows::store_host_rows;
pub use module::is_present;

/// The work's result, or `None` where no kernel here takes it.
pub fn run(work: &NativeWork<'_, CudaRuntime>) -> Option<Tensor> {
    match work {
        NativeWork::Product(product) => row_product::run(product)
            .or_else(|| quantized_row_product::run(product))
            .or_else(|| quantized_rows_product::run(product))
            .or_else(|| rows_product::run(product))
            .or_else(|| product::run(product)),
        NativeWork::Norm(rows) => norm::run(rows),
        NativeWork::Images { prepare, patches } => attention::images(prepare, *patches),
        NativeWork::Prompts { prepare, launch } => attention::prompts(launch, &prepare.qkv),
        NativeWork::Tokens { prepare, launch } => tokens::run(prepare, launch),
        NativeWork::HostRows { ids, table } => host_rows::run(ids, table),
        NativeWork::Draw(work) => draw::run(work),
    }
}

/// What work needs to be launched: the stream, and who knows the addresses of buffers.
struct Queue<'a> {
    server: RefCell<&'a mut Server>,
    /// The stream's number at CubeCL.
    id: StreamId,
    stream: sys::CUstream,
}

impl Queue<'_> {
    /// A buffer's address, once all work on it has been handed to the driver.
    fn address(&self, handle: &Handle) -> Option<u64> {
        let mut server = self.server.borrow_mut();
        let found = server.get_resource(handle.clone().binding(), self.id).ok()?;
        Some(found.resource().ptr)
    }

    /// A buffer's address as an argument.
    fn argument(&self, handle: &Handle) -> Option<Argument> {
        self.address(handle).map(Argument::Address)
    }

    /// So many counters that are zero.
    fn counters(&self, count: usize) -> Option<Argument> {
        scratch::counters(self.stream, count).map(Argument::Address)
    }

    /// So many bytes by which the blocks of a launch exchange sums.
    fn exchange(&self, bytes: usize) -> Option<Argument> {
        scratch::exchange(self.stream, bytes).map(Argument::Address)
    }

    /// Remembers whether the weight of the product that is launched next has few bits.
    fn precede(&self, few_bits: bool) {
        scratch::set_few_bits(self.stream, few_bits);
    }

    /// Whether the weight of the last product of one row had few bits.
    fn follows_few_bits(&self) -> bool {
        scratch::few_bits(self.stream)
    }

    /// A tensor's address, or zero where there is no tensor.
    fn optional(&self, tensor: Option<&Tensor>) -> Option<Argument> {
        tensor.map_or(Some(Argument::Address(0)), |tensor| self.argument(&tensor.handle))
    }
}

/// Runs `enqueue` on the server's own thread, which asks it for all addresses in one visit: it may ask it for nothing else.
///
/// Nothing is run where the stream can't be named, or where an input is another stream's.
fn queue<T: Send + 'static>(
    client: &Client,
    device: &CudaDevice,
    inputs: &[&Handle],
    enqueue: impl FnOnce(&Queue<'_>) -> Option<T> + Send,
) -> Option<T> {
    if !inputs.iter().all(|input| is_of_this_stream(input)) {
        return None;
    }
    let id = StreamId::current();
    let address = client_stream(client, device)? as usize;
    let run = |server: &mut Server| {
        enqueue(&Queue {
            server: RefCell::new(server),
            id,
            stream: address as sys::CUstream,
        })
    };
    let server = DeviceHandle::<Server>::new(device.to_id());
    server.submit_blocking(run).ok().flatten()
}

/// Processors of the device.
fn processors(client: &Client) -> usize {
    let processors = client.properties().hardware.num_streaming_multiprocessors;
    processors.map_or(132, |processors| processors as usize)
}

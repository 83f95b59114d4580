//! The stream that CubeCL launches on.
//!
//! Work of the library's on a stream of its own costs the device some 20 µs at each of the two hand-overs, and a stream has to be
//! named to record what is launched on it. CubeCL keeps its streams to itself; the one place that tells of them is what its server
//! prints of itself for debugging. The versions of both are fixed in the workspace; where the text is not as it is known,
//! nothing is read from it, and what needs the stream does without.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use burn_cuda::CudaDevice;
use cubecl::Runtime;
use cubecl::client::ComputeClient;
use cubecl::cuda::CudaRuntime;
use cubecl::device::Device;
use cubecl::device_handle::DeviceHandle;
use cubecl::stream_id::StreamId;
use cudarc::driver::sys;

/// Addresses of streams by device and the number that CubeCL gives a stream; `None` where they can't be had.
type Known = HashMap<(usize, u64), Option<usize>>;

/// Those that were asked for.
static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// The stream of the calling thread's work, or `None` where CubeCL doesn't tell.
pub(super) fn client_stream(client: &ComputeClient<CudaRuntime>, device: &CudaDevice) -> Option<sys::CUstream> {
    let id = StreamId::current();
    let mut known = KNOWN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let address = *known
        .entry((device.index, id.value))
        .or_insert_with(|| ask(client, device, id));
    address.map(|address| address as sys::CUstream)
}

fn ask(client: &ComputeClient<CudaRuntime>, device: &CudaDevice, id: StreamId) -> Option<usize> {
    // A stream is made when something is first asked of it.
    client.memory_usage().ok()?;
    let server = DeviceHandle::<<CudaRuntime as Runtime>::Server>::new(device.to_id());
    let text = server.submit_blocking(|server| format!("{server:?}")).ok()?;
    let streams = addresses(&text)?;
    // The last one is CubeCL's own, for what other streams leave behind.
    let shared = streams.len().checked_sub(1).filter(|&shared| shared > 0)?;
    let address = streams[id.value as usize % shared]?;
    let mut flags = 0;
    // SAFETY: CubeCL never destroys a stream that it has made.
    let status = unsafe { sys::cuStreamGetFlags(address as sys::CUstream, &mut flags) };
    let made_like_cubecl = flags == sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32;
    (status == sys::CUresult::CUDA_SUCCESS && made_like_cubecl).then_some(address)
}

/// The addresses of the streams in the server's pool, in its order; those that aren't made yet have none.
fn addresses(server: &str) -> Option<Vec<Option<usize>>> {
    const POOL: &str = "streams: StreamPool { streams: [";
    const STREAM: &str = "Some(StreamWrapper { stream: Stream { sys: 0x";
    let pool = &server[server.find(POOL)? + POOL.len()..];
    elements(pool)?
        .into_iter()
        .map(|element| match element.strip_prefix(STREAM) {
            Some(rest) => {
                let digits = rest.find(|c: char| !c.is_ascii_hexdigit())?;
                usize::from_str_radix(&rest[..digits], 16).ok().map(Some)
            }
            None => (element == "None").then_some(None),
        })
        .collect()
}

/// The elements of a printed list whose opening bracket is already read.
fn elements(text: &str) -> Option<Vec<&str>> {
    let (mut found, mut start, mut depth) = (Vec::new(), 0, 0usize);
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => skip_string(&mut characters)?,
            '[' | '(' | '{' => depth += 1,
            ']' if depth == 0 => {
                found.push(text[start..at].trim());
                return Some(found);
            }
            ']' | ')' | '}' => depth = depth.checked_sub(1)?,
            ',' if depth == 0 => {
                found.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    None
}

fn skip_string(characters: &mut std::str::CharIndices<'_>) -> Option<()> {
    loop {
        match characters.next()?.1 {
            '"' => return Some(()),
            '\\' => _ = characters.next()?,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_found_at_their_places() {
        let server = r#"CudaServer { ctx: CudaContext { names: {"a [": 1} }, streams: MultiStream { streams: StreamPool { streams: [None,
            Some(StreamWrapper { stream: Stream { sys: 0x7f01ab, memory: Pool { pages: [1, 2], name: "\"Main\" ], (GPU" } }, cursor: 7 }), None,
            Some(StreamWrapper { stream: Stream { sys: 0x10, memory: [] }, cursor: 0 })], factory: X }, logger: L }, comm_stream: 0x0 }"#;
        assert_eq!(addresses(server), Some(vec![None, Some(0x7f01ab), None, Some(0x10)]));
    }

    #[test]
    fn other_words_tell_nothing() {
        for server in [
            "",
            "CudaServer { streams: [] }",
            "streams: StreamPool { streams: [None, Some(3)], factory: X }",
            "streams: StreamPool { streams: [None, Some(StreamWrapper { stream: Stream { sys: 0x",
            "streams: StreamPool { streams: [None, None",
        ] {
            assert_eq!(addresses(server), None, "{server}");
        }
    }
}

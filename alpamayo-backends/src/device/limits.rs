//! What a device says about itself.

/// The limits that decide what a device can run; nothing where a backend doesn't tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the device's memory.
    pub memory: Option<u64>,
    /// Whether that memory is the device's own, not the host's.
    pub own_memory: Option<bool>,
    /// Bytes that one kernel can read as one buffer: the largest weight.
    pub largest_buffer: Option<u64>,
    /// Buffers of one kernel.
    pub buffers: Option<u32>,
    /// Units of a workgroup.
    pub workgroup_units: Option<u32>,
    /// Bytes of memory that a workgroup shares.
    pub workgroup_memory: Option<u64>,
    /// Workgroups in each dimension of a dispatch.
    pub workgroups: Option<[u32; 3]>,
    /// Units that run in step, the fewest and the most.
    pub plane_units: Option<[u32; 2]>,
    /// What is there beyond the minimum: sums over planes, matrix units, element types.
    pub features: Vec<String>,
}

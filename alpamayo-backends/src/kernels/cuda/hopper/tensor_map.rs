//! What the copy engine is told of a tensor in device memory.

use std::ffi::c_void;

use cudarc::driver::sys;

/// A bf16 tensor: extents from the innermost dimension out, strides of all but the innermost in elements, the box of one copy.
///
/// Rows of the box are at most 128 bytes, swizzled over the banks of shared memory. What lies outside is read as zeros. `None` where the driver refuses, as it does where an address or a stride isn't a multiple of
/// sixteen bytes.
pub fn bf16_map<const D: usize>(
    address: u64,
    extents: [usize; D],
    strides: [usize; D],
    extents_of_box: [usize; D],
) -> Option<sys::CUtensorMap> {
    let extents = extents.map(|extent| extent as u64);
    let strides = strides.map(|stride| 2 * stride as u64);
    let mut size = [0; D];
    for (size, extent) in size.iter_mut().zip(extents_of_box) {
        *size = u32::try_from(extent).ok()?;
    }
    let steps = [1_u32; D];
    // SAFETY: plain old data, which the driver fills in.
    let mut map: sys::CUtensorMap = unsafe { std::mem::zeroed() };
    // SAFETY: all arrays have the rank's length; the strides begin with the second dimension's.
    unsafe {
        sys::cuTensorMapEncodeTiled(
            &mut map,
            sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            D as u32,
            address as *mut c_void,
            extents.as_ptr(),
            strides[1..].as_ptr(),
            size.as_ptr(),
            steps.as_ptr(),
            sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
            sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
        .result()
        .ok()?;
    }
    Some(map)
}

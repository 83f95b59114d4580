//! Pipelines whose buffers are bound as if they were only read, so that wgpu puts no barriers between their launches.

use std::sync::Arc;

use wgpu::{
    BindGroupLayoutDescriptor, BindGroupLayoutEntry, BindingType, BufferBindingType, ComputePipeline,
    ComputePipelineDescriptor, Device, PipelineCompilationOptions, PipelineLayoutDescriptor, ShaderModule,
    ShaderStages,
};

/// A module's pipeline: with so many buffers, and scalars, in a uniform buffer or not, where there are any.
pub(super) fn pipeline(
    device: &Device,
    (name, module): (&str, &ShaderModule),
    buffers: usize,
    uniform: Option<bool>,
) -> Arc<ComputePipeline> {
    let read = BufferBindingType::Storage { read_only: true };
    let info = uniform.map(|is_uniform| if is_uniform { BufferBindingType::Uniform } else { read });
    let entries: Vec<_> = (0..)
        .zip(std::iter::repeat_n(read, buffers).chain(info))
        .map(|(binding, ty)| BindGroupLayoutEntry {
            binding,
            visibility: ShaderStages::COMPUTE,
            ty: BindingType::Buffer {
                ty,
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        })
        .collect();
    let group = device.create_bind_group_layout(&BindGroupLayoutDescriptor {
        label: None,
        entries: &entries,
    });
    let layout = device.create_pipeline_layout(&PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&group)],
        immediate_size: 0,
    });
    Arc::new(device.create_compute_pipeline(&ComputePipelineDescriptor {
        label: Some(name),
        layout: Some(&layout),
        module,
        entry_point: Some(name),
        compilation_options: PipelineCompilationOptions {
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        },
        cache: None,
    }))
}

//! Dispatches that are submitted, once or again and again.

use std::sync::Arc;

use wgpu::{BindGroup, CommandEncoder, ComputePipeline, PollType, SubmissionIndex};

use super::bindings::{Bindings, Bound};
use super::overlapping::{Overlap, Overlapping, Place, Words, overlap};

/// A device and its queue.
#[derive(Debug, Clone)]
pub(super) struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
}

/// What one launch asks for.
#[derive(Debug)]
pub(super) struct Dispatch {
    pub(super) bound: Bound,
    pub(super) cubes: [u32; 3],
    /// What it binds instead where it may begin before the one in front is done.
    pub(super) overlapping: Option<Arc<Overlapping>>,
}

/// Dispatches with all that they bind, in order.
#[derive(Debug, Clone)]
pub(super) struct Commands {
    gpu: Gpu,
    steps: Vec<Step>,
    /// Of steps that wait for those in front by themselves.
    words: Option<Words>,
}

#[derive(Debug, Clone)]
struct Step {
    pipeline: Arc<ComputePipeline>,
    group: BindGroup,
    cubes: [u32; 3],
    overlapping: Option<Arc<Overlapping>>,
    place: Place,
}

impl Commands {
    /// Makes what the dispatches bind.
    pub(super) fn new(gpu: &Gpu, bindings: &mut Bindings, dispatches: impl Iterator<Item = Dispatch>) -> Self {
        let step = |Dispatch {
                        bound,
                        cubes,
                        overlapping,
                    }| Step {
            pipeline: bound.pipeline.clone(),
            group: bindings.of(gpu, bound),
            cubes,
            overlapping,
            place: Place::Apart,
        };
        let steps = dispatches.map(step).collect();
        bindings.write(gpu);
        Self {
            gpu: gpu.clone(),
            steps,
            words: None,
        }
    }

    /// The same dispatches, of which those that can begin before the one in front is done, to be submitted again and again.
    pub(super) fn overlapping(mut self, bindings: &mut Bindings) -> Self {
        let cubes = |step: &Step| step.cubes.iter().fold(1_u32, |all, side| all.saturating_mul(*side));
        let launches: Vec<_> = (self.steps.iter())
            .map(|step| (cubes(step), step.overlapping.as_deref()))
            .collect();
        if let Some(Overlap { words, bound }) = overlap(&self.gpu, &launches) {
            for (step, bound) in self.steps.iter_mut().zip(bound) {
                if let Some((bound, place)) = bound {
                    step.pipeline = bound.pipeline.clone();
                    step.group = bindings.of(&self.gpu, bound);
                    step.place = place;
                }
            }
            bindings.write(&self.gpu);
            self.words = Some(words);
        }
        self
    }

    /// The same dispatches, then others.
    pub(super) fn extend(&mut self, with: &Self) {
        self.steps.extend_from_slice(&with.steps);
    }

    /// How many begin before those in front are done.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.steps.iter().filter(|step| step.place == Place::Behind).count()
    }

    /// Hands the dispatches to the queue.
    pub(super) fn submit(&self) -> SubmissionIndex {
        submit(&self.gpu, &self.steps, None, |_| {})
    }

    /// Hands the dispatches to the queue, and what is to be copied behind them.
    pub(super) fn submit_before(&self, copy: impl FnOnce(&mut CommandEncoder)) -> SubmissionIndex {
        submit(&self.gpu, &self.steps, None, copy)
    }

    /// Hands the dispatches to the queue, together with others before them: a device is slow to begin what is submitted. To one that has
    /// little left to do a few go at once: encoding them takes a quarter of the device's time for them.
    pub(super) fn submit_behind(&self, before: Option<&Self>, is_idle: bool) {
        /// Dispatches that such a device begins with, and by how much more it takes then.
        const FEW: usize = 16;
        const MORE: usize = 8;
        let before = before.map_or(&[][..], |before| &before.steps);
        let steps: Vec<&Step> = before.iter().chain(&self.steps).collect();
        let (mut rest, mut count) = (&steps[..], if is_idle { FEW } else { steps.len() });
        let mut is_first = true;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(count.min(rest.len()));
            let words = self.words.as_ref().map(|words| (words, is_first));
            submit(&self.gpu, now.iter().copied(), words, |_| {});
            is_first = false;
            (rest, count) = (later, count * MORE);
        }
    }
}

/// Submits the steps, `words` of those that overlap and whether a repetition begins with them, and what is to be copied behind.
fn submit<'a>(
    gpu: &Gpu,
    steps: impl IntoIterator<Item = &'a Step>,
    words: Option<(&Words, bool)>,
    behind: impl FnOnce(&mut CommandEncoder),
) -> SubmissionIndex {
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    if let Some((words, is_first)) = words {
        words.begin(&mut encoder, is_first);
    }
    let mut pass = encoder.begin_compute_pass(&Default::default());
    for step in steps {
        if let (Place::First, Some((words, _))) = (step.place, words) {
            drop(pass);
            words.barrier(&mut encoder);
            pass = encoder.begin_compute_pass(&Default::default());
        }
        let [x, y, z] = step.cubes;
        pass.set_pipeline(&step.pipeline);
        pass.set_bind_group(0, &step.group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
    drop(pass);
    behind(&mut encoder);
    gpu.queue.submit([encoder.finish()])
}

/// How far the queue may be ahead of the device.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Dispatches since the last milestone.
    dispatches: usize,
    milestone: Option<SubmissionIndex>,
}

impl Pace {
    /// As many as CubeCL's own server lets wait: enough to keep a device busy, too few to starve what else it does.
    const DISPATCHES: usize = 512;

    /// Waits for the last milestone but one where as many dispatches follow it.
    pub(super) fn submitted(&mut self, gpu: &Gpu, dispatches: usize, index: SubmissionIndex) {
        self.dispatches += dispatches;
        if self.dispatches < Self::DISPATCHES {
            return;
        }
        self.dispatches = 0;
        if let Some(before) = self.milestone.replace(index) {
            // A device that is lost says so to whoever reads from it.
            let _ = gpu.device.poll(PollType::Wait {
                submission_index: Some(before),
                timeout: None,
            });
        }
    }
}

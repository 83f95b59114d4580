use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Distribution, Int, Tensor, TensorData};
use burn_cubecl::kernel::into_contiguous;
use burn_wgpu::graphics::{AutoGraphicsApi, GraphicsApi};
use cubecl::future::block_on;
use cubecl::wgpu as stock;
use proptest::prelude::*;

use super::bindings::RECENT;
use super::*;
use crate::ModelBackend;
use crate::instances::adapters;
use crate::kernels::copy::copy;
use crate::layers::{Activation, CacheConfig, CacheFormat, LayerCache, Linear, WeightFormat};
use crate::repetition::{Anew, Place, Repetition};

type Matrix = Tensor<Wgpu, 2>;

fn device() -> WgpuDevice {
    WgpuDevice::default()
}

/// Work on the device's thread, as stages do it.
fn on_device<T: Send + 'static>(work: impl FnOnce() -> T + Send) -> T {
    Wgpu::run_stage(&device(), work).unwrap()
}

fn random(rows: usize, columns: usize) -> Matrix {
    Tensor::random([rows, columns], Distribution::Default, &device())
}

fn values(tensor: Matrix) -> Vec<f32> {
    tensor.into_data().to_vec().unwrap()
}

/// Records `work`; what it makes of `x`, and what became of the recording.
fn record(x: &Matrix, work: impl Fn(Matrix) -> Matrix) -> (Matrix, Recorded) {
    let mut result = None;
    let client = WgpuRuntime::client(&device());
    let recorded = WgpuRuntime::record(&client, &device(), &mut || result = Some(work(x.clone())));
    (result.unwrap(), recorded)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Tensors that were made on the way are kept to the end, as an observer may.
    #[test]
    fn repeated_work_gives_what_it_gives_anew_and_nothing_is_written_over(
        rows in 1..6usize, blocks in 1..4usize, parts in 1..4usize, steps in 2..6usize,
    ) {
        on_device(move || {
            let columns = 32 * blocks;
            let square = |_| {
                let weight = Wgpu::random_weight((columns, columns), 0.5, WeightFormat::Bf16, &device());
                Linear::new(weight.unwrap(), None)
            };
            let layers: Vec<Linear<Wgpu>> = (0..2 * parts).map(square).collect();
            let mut work = |part: usize, x: Matrix| {
                let next = Wgpu::project(x.clone(), &layers[2 * part], Activation::Silu);
                Wgpu::project_add(next, &layers[2 * part + 1], x)
            };
            let mut repetition = Wgpu::repetition();
            let mut kept: Vec<(Matrix, Vec<f32>)> = Vec::new();
            for _ in 0..steps {
                let x = Wgpu::project(random(rows, columns), &layers[0], Activation::None);
                kept.push((x.clone(), values(x.clone())));
                let anew = values(Anew.run(x.clone(), parts, &mut work));
                kept.push((repetition.run(x, parts, &mut work), anew));
            }
            for (tensor, expected) in kept {
                assert_eq!(values(tensor), expected);
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Small results and larger ones, which CubeCL's server reads; what is queued behind them writes to the same memory.
    #[test]
    fn what_is_read_is_what_was_there(columns in 1..20_000usize, rows in 1..3usize) {
        on_device(move || {
            let count = (rows * columns) as i32;
            let numbers = |first: i32| {
                let data = TensorData::new((first..first + count).collect::<Vec<i32>>(), [rows, columns]);
                Tensor::<Wgpu, 2, Int>::from_data(data, (&device(), DType::I32))
            };
            let (tensor, other) = (numbers(0), numbers(count));
            let overwrite = || {
                let [from, to] = [&other, &tensor].map(|tensor| tensor.clone().into_primitive());
                assert!(copy(&from, &to));
            };
            let read = Wgpu::read_beside(tensor.clone(), overwrite).unwrap();
            assert_eq!(read.to_vec::<i32>().unwrap(), (0..count).collect::<Vec<_>>());
            let after = tensor.into_data().to_vec::<i32>().unwrap();
            assert_eq!(after, (count..2 * count).collect::<Vec<_>>());
        });
    }
}

/// Something that a program does with a tensor.
#[derive(Debug, Clone)]
enum Does {
    /// Launches, each with the result of the one before.
    Launch(u8),
    /// The same sums again, over buffers that may be the same.
    Add,
    /// An upload between launches.
    AddFromHost(u8),
    /// A download between launches.
    Read,
    /// Free buffers leave the device.
    CleanUp,
}

fn does() -> impl Strategy<Value = Does> {
    prop_oneof![
        (1..80_u8).prop_map(Does::Launch),
        Just(Does::Add),
        (0..9_u8).prop_map(Does::AddFromHost),
        Just(Does::Read),
        Just(Does::CleanUp),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn launches_transfers_and_cleaning_up_happen_in_their_order(program in prop::collection::vec(does(), 1..12)) {
        on_device(move || {
            let kept = Matrix::from_floats([[1.0, 2.0, 3.0]], &device());
            let (mut x, mut expected) = (kept.clone(), [1.0_f32, 2.0, 3.0]);
            for step in program {
                match step {
                    Does::Launch(times) => (0..times).for_each(|time| {
                        x = x.clone() + f32::from(time);
                        expected = expected.map(|value| value + f32::from(time));
                    }),
                    Does::Add => {
                        x = x + kept.clone();
                        (0..3).for_each(|i| expected[i] += i as f32 + 1.0);
                    }
                    Does::AddFromHost(number) => {
                        x = x + Tensor::from_floats([[f32::from(number); 3]], &device());
                        expected = expected.map(|value| value + f32::from(number));
                    }
                    Does::Read => assert_eq!(values(x.clone()), expected),
                    Does::CleanUp => Wgpu::memory_cleanup(&device()),
                }
            }
            assert_eq!(values(x), expected);
        });
    }
}

#[test]
fn more_launches_than_are_remembered_compute() {
    on_device(|| {
        let mut x = Matrix::from_floats([[1.0, 2.0, 3.0]], &device());
        // Every number is a launch of its own kind, and all of them come back when the first ones are forgotten.
        for number in (1..=RECENT).chain(1..=RECENT) {
            x = (x + number as f32) - number as f32;
        }
        assert_eq!(values(x), [1.0, 2.0, 3.0]);
    });
}

#[test]
fn what_is_recorded_has_run_and_runs_again_with_other_input() {
    on_device(|| {
        let x = random(3, 8);
        let (result, recorded) = record(&x, |x| x * 2.0 + 1.0);
        let Recorded::RunAndRepeatable(recording) = recorded else {
            panic!("two kernels can be recorded");
        };
        assert_eq!(values(result.clone()), values(x.clone() * 2.0 + 1.0));
        for _ in 0..2 {
            let other = random(3, 8);
            let primitive = |tensor: &Matrix| into_contiguous(tensor.clone().into_primitive().tensor());
            assert!(copy(&primitive(&other), &primitive(&x)));
            assert!(recording.replay());
            assert_eq!(values(result.clone()), values(other * 2.0 + 1.0));
        }
    });
}

#[test]
fn work_that_writes_from_the_host_runs_once() {
    on_device(|| {
        let x = random(2, 4);
        let work = |x: Matrix| (x + 1.0) * Tensor::from_floats([[2.0, 3.0, 4.0, 5.0]], &device());
        let (result, recorded) = record(&x, work);
        assert!(matches!(recorded, Recorded::Once));
        assert_eq!(values(result), values(work(x)));
    });
}

#[test]
fn work_that_reads_on_the_host_reads_what_it_launched() {
    on_device(|| {
        let x = random(2, 4);
        let expected = values(x.clone() + 1.0);
        let (result, recorded) = record(&x, |x| {
            let next = x + 1.0;
            assert_eq!(values(next.clone()), expected);
            next * 2.0
        });
        assert!(matches!(recorded, Recorded::Once));
        assert_eq!(values(result), values((x + 1.0) * 2.0));
    });
}

#[test]
fn work_that_panics_leaves_a_device_that_launches() {
    on_device(|| {
        let x = random(2, 4);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            record(&x, |x| {
                let _ = x + 1.0;
                panic!("on purpose")
            })
        }));
        assert!(panicked.is_err());
        let sum = values(x.clone()).iter().sum::<f32>();
        assert!((values(x.sum().reshape([1, 1]))[0] - sum).abs() < 1e-4);
    });
}

/// A device that wgpu opened, with all features but those that are for few uses, of which these are wanted, and its queue.
pub(super) fn setup(wanted: wgpu::Features) -> WgpuSetup {
    let backend = AutoGraphicsApi::backend();
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: backend.into(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapter = block_on(instance.request_adapter(&Default::default())).unwrap();
    let (features, limits) = (adapter.features(), adapter.limits());
    let unwanted = wgpu::Features::MAPPABLE_PRIMARY_BUFFERS | wgpu::Features::all_experimental_mask();
    let (device, queue) = block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        required_features: features & (!unwanted | wanted),
        required_limits: limits,
        ..Default::default()
    }))
    .unwrap();
    WgpuSetup {
        instance,
        adapter,
        device,
        queue,
        backend,
    }
}

#[test]
fn a_programs_own_device_computes_and_records() {
    let device = share_device(setup(wgpu::Features::empty()));
    let stage = Wgpu::run_stage(&device.clone(), move || {
        let x = Matrix::ones([2, 4], &device);
        let (client, mut result) = (WgpuRuntime::client(&device), None);
        let recorded = WgpuRuntime::record(&client, &device, &mut || result = Some(x.clone() * 2.0));
        let Recorded::RunAndRepeatable(recording) = recorded else {
            panic!("a kernel can be recorded");
        };
        assert!(recording.replay());
        assert_eq!(values(result.unwrap()), [2.0; 8]);
    });
    stage.unwrap();
}

/// CubeCL's own runtime on a device keeps it from being opened a second time by the same name.
#[test]
fn a_device_that_burns_backend_has_opened_computes() {
    // The adapter's own name, where the other tests ask for the default.
    let first = adapters::list(adapters::kind()).remove(0);
    let device = adapters::open(first.device).unwrap();
    let stock = Tensor::<burn_cubecl::CubeBackend<stock::WgpuRuntime, f32, i32, u32>, 2>::ones([2, 4], &device);
    assert_eq!((stock * 2.0).into_data().to_vec::<f32>().unwrap(), [2.0; 8]);
    let sums = Wgpu::run_stage(&device.clone(), move || {
        let mut repetition = Wgpu::repetition();
        let mut work = |_: usize, x: Matrix| x * 2.0;
        let x = Matrix::ones([2, 4], &device);
        [(); 3].map(|()| values(repetition.run(x.clone(), 1, &mut work)))
    });
    assert_eq!(sums.unwrap(), [vec![2.0; 8], vec![2.0; 8], vec![2.0; 8]]);
}

/// Where caches of such extents come to lie; nothing of them stays.
fn places(prompt_length: usize, layers: usize) -> Vec<Place> {
    let config = CacheConfig {
        clips: 1,
        samples: 1,
        prompt_length,
        suffix_capacity: 3,
        num_key_value_heads: 2,
        head_dim: 16,
        format: CacheFormat::F32,
    };
    let caches: Vec<LayerCache<Wgpu>> = (0..layers).map(|_| LayerCache::new(&config, &device())).collect();
    let tensors = caches.iter().flat_map(|cache| {
        let (prompt, suffix) = (&cache.prompt, &cache.suffix);
        [&prompt.key, &prompt.value, &suffix.key, &suffix.value]
    });
    tensors.map(|tensor| Wgpu::place(tensor).unwrap()).collect()
}

#[test]
fn a_cache_lies_where_one_like_it_lay_until_that_is_taken() {
    on_device(|| {
        // Lengths of this test's own: others run on the same device.
        let first = places(1_777, 3);
        assert_eq!(places(1_777, 3), first);
        let held: Matrix = Tensor::empty([2 * 1_777, 16], &device());
        assert_ne!(places(1_777, 3), first);
        drop(held);
        assert_eq!(places(1_777, 3), first);
    });
}

//! Each stage of one clip's drive: what `latency` reports as a table, here with Criterion's statistics.

use alpamayo_backends::layers::SuffixPosition;
use alpamayo_backends::repetition::Anew;
use alpamayo_backends::{DeviceVisitor, ModelBackend};
use alpamayo_benches::{Clock, Settings, inputs};
use alpamayo_models::pipeline::{Generation, Prefilled};
use alpamayo_models::vision::VisionFeatures;
use alpamayo_models::{Alpamayo, DriveOptions};
use burn::tensor::{Distribution, Tensor};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};

/// Tokens of reasoning before the flow.
const REASONING: usize = 40;
/// Rows that share the prompt.
const SAMPLES: [usize; 2] = [1, 6];

struct Stages<'a> {
    criterion: &'a mut Criterion,
    settings: Settings,
}

struct Bench<'a, B: ModelBackend> {
    group: BenchmarkGroup<'a, WallTime>,
    clock: Clock<B>,
    model: Alpamayo<B>,
}

impl DeviceVisitor for Stages<'_> {
    type Output = Result<(), String>;

    fn visit<B: ModelBackend>(self, device: B::Device) -> Self::Output {
        let Self { criterion, settings } = self;
        let mut bench = Bench::<B> {
            group: criterion.benchmark_group(settings.group("stages")),
            clock: Clock::new(&device),
            model: inputs::model(&settings, &device)?,
        };
        bench.run(&settings).map_err(|error| error.to_string())?;
        bench.group.finish();
        Ok(())
    }
}

impl<B: ModelBackend> Bench<'_, B> {
    fn run(&mut self, settings: &Settings) -> Result<(), Box<dyn std::error::Error>> {
        let inputs = inputs::inputs(settings.size, self.model.config())?;
        let features = self.model.encode(&inputs.patches, &mut ())?;
        self.time(&format!("encode {} patches", inputs.patches.num_patches()), |model| {
            model.encode(&inputs.patches, &mut ()).expect("as before")
        });
        let prefilled = self.prefill(&inputs, &features)?;
        drop(features);
        for samples in SAMPLES {
            self.decode(&prefilled, samples);
            // Given tokens need no logits: the cache is filled in one go.
            let options = DriveOptions {
                samples,
                max_generation_length: Some(REASONING),
                forced_tokens: vec![(0..REASONING as u32).collect()],
                ..DriveOptions::default()
            };
            let generation = self.model.generate(&prefilled, &options, &mut ())?;
            self.flow_step(&generation);
        }
        Ok(())
    }

    fn prefill(
        &mut self,
        inputs: &alpamayo_models::pipeline::Inputs,
        features: &VisionFeatures<B>,
    ) -> alpamayo_models::Result<Prefilled<B>> {
        let prompts = &inputs.prompts;
        let prefilled = self.model.prefill(prompts, features, &mut ())?;
        self.time(&format!("prefill {} tokens", prompts[0].len()), |model| {
            model.prefill(prompts, features, &mut ()).expect("as before")
        });
        Ok(prefilled)
    }

    /// One token of every row behind the prompt, from its id to logits on the device.
    fn decode(&mut self, prefilled: &Prefilled<B>, samples: usize) {
        let mut cache = prefilled.cache.branch(samples, 1);
        let first = prefilled.cache.prompt_length() as i64 + prefilled.rope_deltas[0];
        let device = self.model.device().clone();
        let rotary = self
            .model
            .network()
            .decoder
            .rope
            .table(vec![[first; 3]; samples], &device);
        let position = SuffixPosition::new(0, &device);
        let ids = vec![0; samples];
        self.time(&format!("decode a token of {samples}"), |model| {
            let decoder = &model.network().decoder;
            let x = decoder.embed(&ids, &device);
            let x = decoder.decode(x, &rotary, &mut cache, &position);
            decoder.logits(x)
        });
    }

    /// One evaluation of the velocity of every row.
    fn flow_step(&mut self, generation: &Generation<B>) {
        let rows = generation.tokens.len();
        let waypoints = self.model.config().action_space.n_waypoints;
        let noise = Distribution::Normal(0.0, 1.0);
        let x = Tensor::<B, 2>::random([rows * waypoints, 2], noise, self.model.device());
        self.time_with(&format!("flow step of {rows}"), |model, clock, iterations| {
            let context = model
                .expert_context(generation)
                .unwrap_or_else(|error| panic!("{error}"));
            let expert = &model.network().expert;
            clock.time(iterations, || {
                expert.velocity(0, x.clone(), 0.3, &context, &mut Anew, &mut ())
            })
        });
    }

    fn time<T>(&mut self, name: &str, mut work: impl FnMut(&Alpamayo<B>) -> T) {
        self.time_with(name, |model, clock, iterations| clock.time(iterations, || work(model)));
    }

    fn time_with(&mut self, name: &str, mut work: impl FnMut(&Alpamayo<B>, &Clock<B>, u64) -> std::time::Duration) {
        let Self { group, clock, model } = self;
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| work(model, clock, iterations));
        });
    }
}

fn stages(criterion: &mut Criterion) {
    Settings::run(|settings| Stages { criterion, settings });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = stages
}
criterion_main!(benches);

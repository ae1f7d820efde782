//! The step of an optimizer beyond forward and backward, on SmolLM2-135M's adapter: gradients given.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use criterion::{Criterion, Throughput};
use ivon_lora::lora::{Adapter, LoraConfig};
use ivon_lora::method::{EvonMethodConfig, IvonMethodConfig, Method, Sides};
use ivon_lora::train::{Evidence, Objective, TrainError};

/// AdamW, IVON, and EVON on the side of the rank and on both sides.
pub fn benchmarks(criterion: &mut Criterion) {
    let config = bench::shapes::named("smollm2-135m").expect("a known shape");
    let lora = LoraConfig::default();
    let adapter =
        || Adapter::new(&lora, &config, 1, &Device::flex().autodiff()).expect("the recipe fits");
    let mut group = criterion.benchmark_group("step of an optimizer");
    group.throughput(Throughput::Elements(adapter().parameter_count() as u64));
    let evon = |sides, widest_side| {
        Method::Evon(EvonMethodConfig {
            sides,
            widest_side,
            ..EvonMethodConfig::default()
        })
    };
    for (name, method) in [
        ("AdamW", Method::named("adamw").expect("a known method")),
        ("IVON", Method::Ivon(IvonMethodConfig::default())),
        ("EVON, rank", evon(Sides::Smaller, 64)),
        ("EVON, both sides", evon(Sides::Both, 192)),
    ] {
        let mut optimizer = method
            .settings()
            .start(adapter(), &bench::setup(1, 4, lora.dropout))
            .expect("the settings are valid");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                optimizer
                    .step(method.learning_rate(), &mut Given)
                    .expect("finite gradients")
            })
        });
    }
    group.finish();
}

/// Gradients that cost nothing: the weights themselves.
struct Given;

impl Objective for Given {
    fn micro_batches(&self) -> usize {
        1
    }

    fn share(&self, _: usize) -> f64 {
        1.0
    }

    fn tokens(&self) -> usize {
        0
    }

    fn evaluate(&mut self, adapter: &Adapter, _: usize, _: u64) -> Result<Evidence, TrainError> {
        let mut gradients = GradientsParams::new();
        adapter.visit(&mut Register(&mut gradients));
        Ok(Evidence {
            loss: 0.0,
            gradients,
        })
    }
}

struct Register<'a>(&'a mut GradientsParams);

impl ModuleVisitor for Register<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.register(param.id, param.val().inner());
    }
}

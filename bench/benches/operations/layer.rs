//! A whole decoder layer, forward and backward, and a whole training step, against plain Burn
//! operations.

use burn::tensor::Device;
use criterion::{Criterion, Throughput};
use ivon_lora::data::Encoded;
use ivon_lora::lora::{Draw, LoraConfig};
use ivon_lora::method::Method;
use ivon_lora::train::BatchObjective;

use super::inputs::{adapter, config, networks, questions, tokens, whole_batch};

/// Number of layers of the decoder on which a step is timed: the plain form of the whole model
/// would need 4 GB.
const STEP_LAYERS: usize = 6;

/// One layer without gradients; one layer with the gradients of its adapter (it is the first layer,
/// so nothing is propagated below it); one step.
pub fn benchmarks(criterion: &mut Criterion) {
    forward(criterion);
    training(criterion);
    step(criterion);
}

fn forward(criterion: &mut Criterion) {
    let config = config(1);
    let (batch, adapter) = (
        whole_batch(config.vocab_size),
        burn::module::Module::valid(&adapter(&config)),
    );
    let mut group = criterion.benchmark_group("layer forward");
    group.throughput(Throughput::Elements(tokens() as u64));
    for (name, network) in networks(&config)
        .into_iter()
        .filter(|(name, _)| *name != "host, recomputing")
    {
        let draw = Draw::of(adapter.clone());
        group.bench_function(name, |bencher| {
            bencher.iter(|| network.hidden(&batch, &draw).states.into_data())
        });
    }
    group.finish();
}

fn training(criterion: &mut Criterion) {
    let config = config(1);
    let (batch, adapter) = (whole_batch(config.vocab_size), adapter(&config));
    let mut group = criterion.benchmark_group("layer forward and back");
    group.throughput(Throughput::Elements(tokens() as u64));
    for (name, network) in networks(&config) {
        let draw = Draw::of(adapter.clone());
        group.bench_function(name, |bencher| {
            bencher.iter(|| network.hidden(&batch, &draw).states.sum().backward())
        });
    }
    group.finish();
}

fn step(criterion: &mut Criterion) {
    let config = config(STEP_LAYERS);
    let questions = questions(config.vocab_size);
    let questions: Vec<&Encoded> = questions.iter().collect();
    let mut group = criterion.benchmark_group(format!("step of {STEP_LAYERS} layers"));
    group
        .sample_size(10)
        .throughput(Throughput::Elements(tokens() as u64));
    for (name, network) in networks(&config) {
        for method in ["adamw", "ivon"] {
            let method = Method::named(method).expect("a known method");
            let lora = LoraConfig::default();
            let adapter =
                ivon_lora::lora::Adapter::new(&lora, &config, 1, &Device::flex().autodiff())
                    .expect("the recipe fits");
            let mut optimizer = method
                .settings()
                .start(adapter, &bench::setup(1, 4, lora.dropout))
                .expect("the defaults are valid");
            let mut at = 0;
            group.bench_function(format!("{name}, {}", method.name()), |bencher| {
                bencher.iter(|| {
                    let mut objective = BatchObjective::new(
                        &network,
                        lora.dropout,
                        1,
                        at,
                        std::slice::from_ref(&questions),
                    );
                    at += 1;
                    optimizer
                        .step(method.learning_rate(), &mut objective)
                        .expect("finite losses")
                })
            });
        }
    }
    group.finish();
}

//! Measures what IVON costs: noise from the host against noise from the device, and a whole step
//! against AdamW's; and EVON's with an eigenbasis on the side of the rank.
//!
//! `cargo run -p ivon --example noise_cost` (the numbers in docs/choosing-the-settings.md)

use std::hint::black_box;
use std::time::Instant;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor};
use ivon::{EigenbasisConfig, Ivon, IvonConfig, IvonError, NoiseSource, Sides};

#[derive(Module, Debug)]
struct Adapter {
    tensors: Vec<Param<Tensor<2>>>,
}

impl Adapter {
    fn new(count: usize, shape: [usize; 2], device: &Device) -> Self {
        let tensor = || {
            Param::from_tensor(Tensor::random(
                shape,
                Distribution::Normal(0.0, 0.02),
                device,
            ))
        };
        Self {
            tensors: (0..count).map(|_| tensor()).collect(),
        }
    }
}

/// Gradients that cost nothing: the weights themselves.
struct Register<'a>(&'a mut GradientsParams);

impl ModuleVisitor for Register<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.register(param.id, param.val().inner());
    }
}

fn gradients(adapter: &Adapter) -> GradientsParams {
    let mut gradients = GradientsParams::new();
    adapter.visit(&mut Register(&mut gradients));
    gradients
}

/// The median of the milliseconds of `runs` calls, after two to warm up.
fn median(runs: usize, mut call: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..runs + 2)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed().as_secs_f64() * 1e3
        })
        .skip(2)
        .collect();
    times.sort_by(f64::total_cmp);
    times[runs / 2]
}

fn measure(
    name: &str,
    count: usize,
    shape: [usize; 2],
    runs: usize,
    device: &Device,
) -> Result<(), IvonError> {
    let adapter = Adapter::new(count, shape, device);
    println!(
        "{name}: {} parameters in {count} tensors",
        adapter.num_params()
    );
    let mut optimizer = AdamWConfig::new().init();
    let mut model = Some(adapter.clone());
    let adamw = median(runs, || {
        model = model.take().map(|model| {
            let gradients = gradients(&model);
            optimizer.step(1e-3, model, gradients)
        });
    });
    println!("  AdamW step                    {adamw:8.2} ms");
    let host = NoiseSource::Host { seed: 1 };
    let rank = EigenbasisConfig {
        sides: Sides::Smaller,
        ..EigenbasisConfig::default()
    };
    for (label, noise, eigenbasis) in [
        ("IVON, noise of the host  ", host, None),
        ("IVON, noise of the device", NoiseSource::Device, None),
        ("EVON, noise of the host  ", host, Some(rank)),
    ] {
        let config = IvonConfig {
            noise,
            eigenbasis,
            clip_radius: Some(1e-3),
            weight_decay: 0.0,
            hessian_init: 1e-3,
            ..IvonConfig::new(1e6)
        };
        let mut ivon = Ivon::new(config, adapter.clone())?;
        let draw = median(runs, || drop(black_box(ivon.draw_numbered(0))));
        let step = median(runs, || {
            let taken = ivon.step(0.03, |model: &Adapter| {
                Ok::<_, IvonError>((0.0, gradients(model)))
            });
            black_box(taken.expect("the gradients are finite"));
        });
        println!(
            "  {label}     {step:8.2} ms, of which the draw {draw:.2} ms; {:+.2} ms against AdamW",
            step - adamw
        );
    }
    Ok(())
}

fn main() -> Result<(), IvonError> {
    let device = Device::flex().autodiff();
    measure("adapter", 120, [8, 480], 41, &device)?;
    measure("large adapter", 320, [16, 4096], 5, &device)
}

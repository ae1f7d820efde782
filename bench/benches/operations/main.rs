//! Each hot operation of the CPU's forward and backward pass against its plain Burn form, at
//! SmolLM2-135M's shapes and with a batch of four arc_easy questions; and the step of each
//! optimizer.
//!
//! ```sh
//! cargo bench -p bench --bench operations            # all
//! cargo bench -p bench --bench operations -- layer   # those whose name has `layer`
//! ```

mod inputs;
mod layer;
mod optimizer;
mod product;

use criterion::{Criterion, criterion_group, criterion_main};

criterion_group! {
    name = operations;
    config = Criterion::default().sample_size(20);
    targets = product::benchmarks, layer::benchmarks, optimizer::benchmarks
}
criterion_main!(operations);

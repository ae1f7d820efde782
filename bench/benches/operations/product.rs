//! The product with a frozen matrix, f32 and in blocks, against Burn's `matmul`.

use criterion::{Criterion, Throughput};
use ivon_lora::kernel::{Output, apply};
use ivon_lora::model::{Change, Encoding, FrozenMatrix, StoredTensor, gguf::quantize::quantize};

use super::inputs::{tensor, tokens, wave};

/// `[out, in]`: queries, keys, and the two shapes of the gated layer.
const SHAPES: [[usize; 2]; 4] = [[576, 576], [192, 576], [1536, 576], [576, 1536]];

/// The matrix, quantised into blocks of this encoding.
fn kept(encoding: Encoding, [rows, columns]: [usize; 2], values: &[f32]) -> FrozenMatrix {
    let mut bytes = Vec::new();
    assert!(
        quantize(encoding, values, &mut bytes),
        "{} can be written",
        encoding.name()
    );
    let stored = StoredTensor::new(
        "w".into(),
        vec![rows, columns],
        encoding,
        &bytes,
        Change::default(),
    );
    FrozenMatrix::kept(&stored.expect("whole blocks"))
}

/// x `[N, in]` · Wᵀ.
pub fn benchmarks(criterion: &mut Criterion) {
    let n = tokens();
    for [rows, columns] in SHAPES {
        let mut group = criterion.benchmark_group(format!("product {n} × {columns} × {rows}"));
        group.throughput(Throughput::Elements((2 * n * rows * columns) as u64));
        let values = wave(rows * columns, 1.0 / (columns as f32).sqrt());
        let x = wave(n * columns, 1.0);
        let mut y = vec![0.0; n * rows];
        let f32_matrix = FrozenMatrix::new(rows, columns, values.clone());
        group.bench_function("host, f32", |bencher| {
            bencher.iter(|| {
                apply(
                    &x,
                    vec![Output {
                        matrix: &f32_matrix,
                        y: &mut y,
                        onto: None,
                    }],
                )
            })
        });
        for encoding in [Encoding::Q4_0, Encoding::Q8_0] {
            let matrix = kept(encoding, [rows, columns], &values);
            group.bench_function(format!("host, {}", encoding.name()), |bencher| {
                bencher.iter(|| {
                    apply(
                        &x,
                        vec![Output {
                            matrix: &matrix,
                            y: &mut y,
                            onto: None,
                        }],
                    )
                })
            });
        }
        let (left, right) = (
            tensor(x.clone(), n, columns),
            tensor(values, rows, columns).transpose(),
        );
        group.bench_function("plain", |bencher| {
            bencher.iter(|| left.clone().matmul(right.clone()).into_data())
        });
        group.finish();
    }
}

use super::*;
use crate::model::{Change, Compute, Encoding, StoredTensor};

/// Numbers that look random: nearly normal, by the sum of four uniform ones.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count)
        .map(|_| (0..4).map(|_| uniform()).sum::<f32>() * 1.7)
        .collect()
}

fn stored(encoding: Encoding, shape: [usize; 2], bytes: &[u8]) -> FrozenMatrix {
    let stored = StoredTensor::new("w".into(), shape.into(), encoding, bytes, Change::default());
    FrozenMatrix::kept(&stored.unwrap()).computed_in(Compute::Int8)
}

/// A matrix of normal numbers, rounded to an encoding.
fn matrix(encoding: Encoding, shape: [usize; 2]) -> FrozenMatrix {
    let values = numbers(shape[0] * shape[1], 3);
    let mut bytes = Vec::new();
    match encoding {
        Encoding::F32 => {
            let [rows, columns] = shape;
            return FrozenMatrix::new(rows, columns, values).computed_in(Compute::Int8);
        }
        Encoding::BF16 => {
            let halves = values.iter().map(|&x| half::bf16::from_f32(x));
            bytes.extend(halves.flat_map(|x| x.to_le_bytes()));
        }
        // Blocks of arbitrary bits around zero: nothing writes this encoding.
        Encoding::Q4_1 => {
            let ends = [0.01, -0.075].map(|x| half::f16::from_f32(x).to_le_bytes());
            for block in values.as_chunks::<32>().0 {
                bytes.extend(ends.as_flattened());
                bytes.extend(block[..16].iter().map(|x| (x * 1000.0) as i32 as u8));
            }
        }
        _ => assert!(crate::model::gguf::quantize::quantize(
            encoding, &values, &mut bytes
        )),
    }
    stored(encoding, shape, &bytes)
}

fn forward(matrix: &FrozenMatrix, x: &[f32], onto: Option<&[f32]>) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.len() / matrix.columns() * matrix.rows()];
    let y_mut = &mut y;
    apply(
        x,
        vec![Output {
            matrix,
            y: y_mut,
            onto,
        }],
    );
    y
}

fn backward(matrix: &FrozenMatrix, dy: &[f32]) -> Vec<f32> {
    let mut dx = vec![f32::NAN; dy.len() / matrix.rows() * matrix.columns()];
    apply_transposed(&[(matrix, dy)], &mut dx, false);
    dx
}

/// x Wᵀ and dy W in f64, with the numbers that the matrix holds.
fn expected(matrix: &FrozenMatrix, direction: Direction, x: &[f32]) -> Vec<f64> {
    let [rows, columns] = [matrix.rows(), matrix.columns()];
    let weight = matrix.gather(&(0..rows as u32).collect::<Vec<_>>());
    let at = |row: usize, column: usize| f64::from(weight[row * columns + column]);
    let [depth, width] = direction.shape(matrix, &(0..rows));
    let element = |row: &[f32], j: usize| -> f64 {
        let terms = row.iter().enumerate();
        let terms = terms.map(|(i, x)| {
            let w = match direction {
                Direction::Forward => at(j, i),
                Direction::Backward => at(i, j),
            };
            f64::from(*x) * w
        });
        terms.sum()
    };
    let rows = x.chunks(depth);
    rows.flat_map(|row| (0..width).map(move |j| (row, j)))
        .map(|(row, j)| element(row, j))
        .collect()
}

/// |found − expected| / |expected|, of all elements together.
fn relative_error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected);
    let squares = pairs.map(|(x, y)| [(f64::from(*x) - y).powi(2), y * y]);
    let [error, size] = squares.fold([0.0; 2], |sums, x| [sums[0] + x[0], sums[1] + x[1]]);
    (error / size).sqrt()
}

#[test]
fn both_directions_are_within_a_few_thousandths_of_f64() {
    // What 8-bit rounding of normal numbers costs: 0.5 % for each side that is rounded.
    for (encoding, most) in [
        (Encoding::Q8_0, [0.007, 0.010]),
        (Encoding::Q4_0, [0.007, 0.010]),
        (Encoding::Q4_1, [0.009, 0.012]),
        (Encoding::BF16, [0.009, 0.012]),
        (Encoding::F32, [0.009, 0.012]),
    ] {
        for (n, shape) in [(5, [100, 64]), (9, [65, 800]), (7, [900, 256])] {
            let matrix = matrix(encoding, shape);
            let (x, dy) = (numbers(n * shape[1], 1), numbers(n * shape[0], 2));
            let (y, dx) = (forward(&matrix, &x, None), backward(&matrix, &dy));
            let errors = [
                relative_error(&y, &expected(&matrix, Direction::Forward, &x)),
                relative_error(&dx, &expected(&matrix, Direction::Backward, &dy)),
            ];
            let name = encoding.name();
            assert!(errors[0] < most[0], "{name} {shape:?} forward: {errors:?}");
            assert!(errors[1] < most[1], "{name} {shape:?} backward: {errors:?}");
        }
    }
}

#[test]
fn any_shape_is_multiplied() {
    for (n, shape) in [(1, [1, 1]), (2, [3, 5]), (13, [33, 31]), (7, [16, 100])] {
        let matrix = matrix(Encoding::F32, shape);
        let (x, dy) = (numbers(n * shape[1], 1), numbers(n * shape[0], 2));
        let (y, dx) = (forward(&matrix, &x, None), backward(&matrix, &dy));
        let y_expected = expected(&matrix, Direction::Forward, &x);
        let dx_expected = expected(&matrix, Direction::Backward, &dy);
        assert!(relative_error(&y, &y_expected) < 0.02, "{n} {shape:?}");
        assert!(relative_error(&dx, &dx_expected) < 0.02, "{n} {shape:?}");
    }
}

#[test]
fn planted_outliers_do_not_spoil_a_product() {
    let shape = [96, 576];
    let matrix = matrix(Encoding::Q8_0, shape);
    let (mut x, mut dy) = (numbers(6 * 576, 1), numbers(6 * 96, 2));
    // Larger than all others together in two rows, as the first token of a text has them.
    for at in [7, 40, 576 + 300] {
        x[at] = 500.0;
    }
    dy[3 * 96 + 17] = -300.0;
    // What is left when the outliers' own product is taken off.
    let without = |values: &[f32]| -> Vec<f32> {
        let small = values
            .iter()
            .map(|&x| if x.abs() > 100.0 { 0.0 } else { x });
        small.collect()
    };
    for (direction, x, found) in [
        (Direction::Forward, &x, forward(&matrix, &x, None)),
        (Direction::Backward, &dy, backward(&matrix, &dy)),
    ] {
        let whole = expected(&matrix, direction, x);
        let rest = expected(&matrix, direction, &without(x));
        let large = whole.iter().zip(&rest).map(|(x, y)| x - y);
        let found = found
            .iter()
            .zip(large)
            .map(|(x, y)| (f64::from(*x) - y) as f32);
        let most = match direction {
            Direction::Forward => 0.008,
            // The outlier's product has the second rounding of W.
            Direction::Backward => 0.2,
        };
        let error = relative_error(&found.collect::<Vec<f32>>(), &rest);
        assert!(error < most, "{error}");
    }
}

#[test]
fn a_row_depends_neither_on_the_others_nor_on_the_number_of_threads() {
    for encoding in [Encoding::Q8_0, Encoding::Q4_0, Encoding::F32] {
        let matrix = matrix(encoding, [90, 1600]);
        let (mut x, dy) = (numbers(15 * 1600, 1), numbers(15 * 90, 2));
        x[1600 * 4 + 900] = 1e4;
        let run = |threads: usize, rows: Range<usize>| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let x = &x[rows.start * 1600..rows.end * 1600];
            let dy = &dy[rows.start * 90..rows.end * 90];
            let both = || (forward(&matrix, x, None), backward(&matrix, dy));
            pool.build().unwrap().install(both)
        };
        let (y, dx) = run(1, 0..15);
        assert!(run(3, 0..15) == (y.clone(), dx.clone()));
        for rows in [0..1, 4..5, 3..14] {
            let (some_y, some_dx) = run(2, rows.clone());
            assert!(some_y == y[rows.start * 90..rows.end * 90]);
            assert!(some_dx == dx[rows.start * 1600..rows.end * 1600]);
        }
    }
}

#[test]
fn several_matrices_and_some_rows_of_one_are_as_one_after_the_other() {
    let matrices = [[40, 256], [100, 256]].map(|shape| matrix(Encoding::Q8_0, shape));
    let x = numbers(9 * 256, 1);
    let expected = matrices.each_ref().map(|matrix| forward(matrix, &x, None));
    let mut found = matrices
        .each_ref()
        .map(|matrix| vec![0.0; 9 * matrix.rows()]);
    let outputs = matrices.iter().zip(&mut found);
    let outputs = outputs.map(|(matrix, y)| Output {
        matrix,
        y,
        onto: None,
    });
    apply(&x, outputs.collect());
    assert!(found == expected);
    let pairs: Vec<_> = matrices.iter().zip(&expected).collect();
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(matrix, dy)| (*matrix, &dy[..]))
        .collect();
    let mut together = vec![1.0; 9 * 256];
    apply_transposed(&pairs, &mut together, false);
    let mut apart = backward(pairs[0].0, pairs[0].1);
    apply_transposed(&pairs[1..], &mut apart, true);
    assert!(together == apart);

    let mut some = vec![0.0; 9 * 60];
    apply_rows(&x, &matrices[1], 32..92, &mut some);
    let whole = expected[1].chunks(100).flat_map(|row| &row[32..92]);
    assert!(some.iter().eq(whole));
    let mut dy = vec![0.0; 9 * 100];
    for (to, from) in dy.chunks_mut(100).zip(some.chunks(60)) {
        to[32..92].copy_from_slice(from);
    }
    let mut dx = vec![0.0; 9 * 256];
    add_rows_transposed(&some, &matrices[1], 32..92, &mut dx);
    let expected = super::tests::expected(&matrices[1], Direction::Backward, &dy);
    assert!(relative_error(&dx, &expected) < 0.02);
}

#[test]
fn what_a_product_is_added_to_is_where_its_sum_begins() {
    for columns in [64, 1600] {
        let matrix = matrix(Encoding::Q8_0, [33, columns]);
        let (x, onto) = (numbers(7 * columns, 1), numbers(7 * 33, 5));
        let (y, alone) = (
            forward(&matrix, &x, Some(&onto)),
            forward(&matrix, &x, None),
        );
        for ((y, alone), onto) in y.iter().zip(alone).zip(&onto) {
            assert!((y - alone - onto).abs() < 1e-4);
        }
    }
}

#[test]
fn a_number_that_is_not_finite_reaches_its_row_only() {
    let matrix = matrix(Encoding::Q8_0, [20, 64]);
    let mut x = numbers(3 * 64, 1);
    x[70] = f32::NAN;
    let y = forward(&matrix, &x, None);
    assert!(y[20..40].iter().all(|y| y.is_nan()));
    assert!(y[..20].iter().chain(&y[40..]).all(|y| y.is_finite()));
}

//! The chunked rule against the recurrence in f64.

use super::*;

/// The inputs of a run in f64, rows one after another, and its sizes [T, d_k, d_v].
#[derive(Clone)]
struct Inputs {
    sizes: [usize; 3],
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    beta: Vec<f64>,
    g: Vec<f64>,
    start: Vec<f64>,
}

/// Numbers between −1 and 1 that f32 holds exactly.
fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 48) as f64 / 32768.0 - 1.0
    };
    (0..count).map(next).collect()
}

/// Keys and queries of length about 1, β in (0, 1), g in (−fastest, 0).
fn inputs(sizes: [usize; 3], fastest: f64) -> Inputs {
    let [tokens, keys, values] = sizes;
    let unit = |x: Vec<f64>, scale: f64| -> Vec<f64> {
        let row = |row: &[f64]| {
            let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            row.iter().map(|x| scale * x / length).collect::<Vec<_>>()
        };
        let rounded = x.chunks(keys).flat_map(row).map(|x| f64::from(x as f32));
        rounded.collect()
    };
    let part = |seed| numbers(tokens, seed).into_iter().map(|x| (x + 1.0) / 2.0);
    let decay = |x: f64| f64::from((-fastest * x) as f32);
    Inputs {
        sizes,
        q: unit(numbers(tokens * keys, 1), (keys as f64).powf(-0.5)),
        k: unit(numbers(tokens * keys, 2), 1.0),
        v: numbers(tokens * values, 3),
        beta: part(4).collect(),
        g: part(5).map(decay).collect(),
        start: numbers(keys * values, 6),
    }
}

/// The recurrence, token by token: the outputs and the last state.
fn recurrent(inputs: &Inputs) -> (Vec<f64>, Vec<f64>) {
    let mut out = Vec::new();
    let steps = recurrent_steps(inputs);
    for (step, q) in steps.iter().zip(inputs.q.chunks(inputs.sizes[1])) {
        out.extend(read(&step.after, q));
    }
    (out, steps.last().unwrap().after.clone())
}

/// Sᵀ x.
fn read(state: &[f64], x: &[f64]) -> Vec<f64> {
    let width = state.len() / x.len();
    let mut out = vec![0.0; width];
    for (row, x) in state.chunks(width).zip(x) {
        out.iter_mut().zip(row).for_each(|(out, s)| *out += s * x);
    }
    out
}

/// S x.
fn write(state: &[f64], x: &[f64]) -> Vec<f64> {
    let row = |row: &[f64]| row.iter().zip(x).map(|(s, x)| s * x).sum();
    state.chunks(x.len()).map(row).collect()
}

fn add_outer(state: &mut [f64], scale: f64, x: &[f64], y: &[f64]) {
    for (row, x) in state.chunks_mut(y.len()).zip(x) {
        row.iter_mut().zip(y).for_each(|(s, y)| *s += scale * x * y);
    }
}

/// The decayed state, the error u, and the state after a token.
struct Step {
    decayed: Vec<f64>,
    u: Vec<f64>,
    after: Vec<f64>,
}

fn recurrent_steps(inputs: &Inputs) -> Vec<Step> {
    let [tokens, keys, values] = inputs.sizes;
    let mut state = inputs.start.clone();
    let step = |token: usize| {
        let k = &inputs.k[token * keys..][..keys];
        state.iter_mut().for_each(|s| *s *= inputs.g[token].exp());
        let decayed = state.clone();
        let v = &inputs.v[token * values..][..values];
        let u: Vec<f64> = v.iter().zip(read(&state, k)).map(|(v, o)| v - o).collect();
        add_outer(&mut state, inputs.beta[token], k, &u);
        let after = state.clone();
        Step { decayed, u, after }
    };
    (0..tokens).map(step).collect()
}

/// The gradients of the recurrence, token by token from the last; in the order q, k, v, β, g,
/// start.
fn recurrent_backward(inputs: &Inputs, d_out: &[f64], d_end: &[f64]) -> [Vec<f64>; 6] {
    let [tokens, keys, values] = inputs.sizes;
    let mut d_state = d_end.to_vec();
    let (mut dq, mut dk, mut dv) = (vec![], vec![], vec![]);
    let (mut d_beta, mut dg) = (vec![0.0; tokens], vec![0.0; tokens]);
    for (token, step) in recurrent_steps(inputs).iter().enumerate().rev() {
        let (q, k) = (
            &inputs.q[token * keys..][..keys],
            &inputs.k[token * keys..][..keys],
        );
        let (beta, d_out) = (inputs.beta[token], &d_out[token * values..][..values]);
        dq.push(write(&step.after, d_out));
        add_outer(&mut d_state, 1.0, q, d_out);
        let d_delta = read(&d_state, k);
        let du: Vec<f64> = d_delta.iter().map(|d| beta * d).collect();
        let delta: Vec<f64> = step.u.iter().map(|u| beta * u).collect();
        let through = write(&d_state, &delta).into_iter();
        let through = through.zip(write(&step.decayed, &du));
        dk.push(through.map(|(a, b)| a - b).collect());
        d_beta[token] = d_delta.iter().zip(&step.u).map(|(d, u)| d * u).sum();
        add_outer(&mut d_state, -1.0, k, &du);
        dg[token] = d_state.iter().zip(&step.decayed).map(|(d, s)| d * s).sum();
        d_state.iter_mut().for_each(|d| *d *= inputs.g[token].exp());
        dv.push(du);
    }
    let rows = |rows: Vec<Vec<f64>>| rows.into_iter().rev().flatten().collect();
    [rows(dq), rows(dk), rows(dv), d_beta, dg, d_state]
}

/// [`Inputs`] in f32: q, k and v side by side in rows of one matrix, β and g in those of
/// another.
struct Packed {
    sizes: [usize; 3],
    rows: Vec<f32>,
    gates: Vec<f32>,
    start: Vec<f32>,
}

/// Columns between and behind the inputs, which belong to other heads.
const OTHERS: usize = 3;

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&x| x as f32).collect()
}

fn columns<'a>(values: &'a [f32], rows: usize, first: usize, columns: usize) -> View<'a> {
    let stride = values.len() / rows;
    let values = &values[first..];
    View {
        values,
        rows,
        columns,
        stride,
    }
}

impl Packed {
    fn new(inputs: &Inputs) -> Self {
        let [tokens, keys, values] = inputs.sizes;
        let others = [f64::NAN; OTHERS];
        let mut packed = Self {
            sizes: inputs.sizes,
            rows: Vec::new(),
            gates: Vec::new(),
            start: narrow(&inputs.start),
        };
        for token in 0..tokens {
            for (x, width) in [(&inputs.q, keys), (&inputs.k, keys), (&inputs.v, values)] {
                packed.rows.extend(narrow(&x[token * width..][..width]));
                packed.rows.extend(narrow(&others));
            }
            for x in [&inputs.beta, &inputs.g] {
                packed.gates.extend([x[token] as f32, f32::NAN]);
            }
        }
        packed
    }

    fn run(&self) -> DeltaRule<'_> {
        let [tokens, keys, values] = self.sizes;
        let second = keys + OTHERS;
        DeltaRule {
            q: columns(&self.rows, tokens, 0, keys),
            k: columns(&self.rows, tokens, second, keys),
            v: columns(&self.rows, tokens, 2 * second, values),
            beta: columns(&self.gates, tokens, 0, 1),
            g: columns(&self.gates, tokens, 2, 1),
            start: Some(&self.start),
        }
    }
}

/// Outputs and last state.
fn forward(run: &DeltaRule<'_>) -> (Vec<f32>, Vec<f32>) {
    let width = run.v.columns;
    let mut out = vec![f32::NAN; run.v.rows * width];
    let mut end = vec![f32::NAN; run.state_len()];
    let scratch = &mut DeltaRuleScratch::default();
    delta_rule(run, Target::over(&mut out, width), Some(&mut end), scratch);
    (out, end)
}

/// The gradients in the order of [`recurrent_backward`].
fn backward(run: &DeltaRule<'_>, d_out: &[f32], d_end: Option<&[f32]>) -> [Vec<f32>; 6] {
    let (tokens, keys, values) = (run.v.rows, run.k.columns, run.v.columns);
    let lens = [
        tokens * keys,
        tokens * keys,
        tokens * values,
        tokens,
        tokens,
    ];
    let mut gradients = lens.map(|len| vec![f32::NAN; len]);
    let mut d_start = vec![0.0; run.state_len()];
    let [dq, dk, dv, d_beta, dg] = &mut gradients;
    let targets = DeltaRuleGradients {
        dq: Target::over(dq, keys),
        dk: Target::over(dk, keys),
        dv: Target::over(dv, values),
        d_beta: Target::over(d_beta, 1),
        dg: Target::over(dg, 1),
        d_start: Some(&mut d_start),
    };
    let d_out = View::new(d_out, tokens, values);
    delta_rule_backward(run, d_out, d_end, targets, &mut DeltaRuleScratch::default());
    let [dq, dk, dv, d_beta, dg] = gradients;
    [dq, dk, dv, d_beta, dg, d_start]
}

/// Equal to `tolerance` of the largest number.
fn close(name: &str, found: &[f32], truth: &[f64], tolerance: f64) {
    assert_eq!(found.len(), truth.len(), "{name}");
    let largest = truth.iter().fold(0.0f64, |max, x| max.max(x.abs()));
    for (index, (found, truth)) in found.iter().zip(truth).enumerate() {
        let error = (f64::from(*found) - truth).abs();
        assert!(
            error <= tolerance * largest,
            "{name} {index}: {found} {truth}, largest {largest}"
        );
    }
}

const NAMES: [&str; 6] = ["dq", "dk", "dv", "d_beta", "dg", "d_start"];

#[test]
fn the_recurrent_gradients_are_difference_quotients() {
    let truth = inputs([5, 3, 4], 1.5);
    let (d_out, d_end) = (numbers(20, 7), numbers(12, 8));
    let gradients = recurrent_backward(&truth, &d_out, &d_end);
    let loss = |inputs: &Inputs| {
        let (out, end) = recurrent(inputs);
        let along = |x: &[f64], d: &[f64]| x.iter().zip(d).map(|(x, d)| x * d).sum::<f64>();
        along(&out, &d_out) + along(&end, &d_end)
    };
    let fields: [fn(&mut Inputs) -> &mut Vec<f64>; 6] = [
        |i| &mut i.q,
        |i| &mut i.k,
        |i| &mut i.v,
        |i| &mut i.beta,
        |i| &mut i.g,
        |i| &mut i.start,
    ];
    for ((field, gradient), name) in fields.into_iter().zip(gradients).zip(NAMES) {
        for (index, gradient) in gradient.into_iter().enumerate() {
            let moved = |by: f64| {
                let mut inputs = truth.clone();
                field(&mut inputs)[index] += by;
                loss(&inputs)
            };
            let quotient = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((quotient - gradient).abs() < 1e-8, "{name} {index}");
        }
    }
}

#[test]
fn chunks_give_what_the_recurrence_gives() {
    for tokens in [1, 2, 63, 64, 65, 200] {
        let truth = inputs([tokens, 16, 24], 2.0);
        let (out, end) = recurrent(&truth);
        let packed = Packed::new(&truth);
        let (found_out, found_end) = forward(&packed.run());
        close("out", &found_out, &out, 2e-6);
        close("end", &found_end, &end, 2e-6);
        let (d_out, d_end) = (numbers(tokens * 24, 7), numbers(16 * 24, 8));
        let gradients = recurrent_backward(&truth, &d_out, &d_end);
        let found = backward(&packed.run(), &narrow(&d_out), Some(&narrow(&d_end)));
        for ((found, truth), name) in found.iter().zip(&gradients).zip(NAMES) {
            close(&format!("{name} of {tokens}"), found, truth, 5e-6);
        }
    }
}

#[test]
fn without_a_start_and_an_end_they_count_as_zeros() {
    let mut truth = inputs([70, 8, 8], 0.5);
    truth.start.fill(0.0);
    let packed = Packed::new(&truth);
    let run = DeltaRule {
        start: None,
        ..packed.run()
    };
    close("out", &forward(&run).0, &recurrent(&truth).0, 2e-6);
    let d_out = numbers(70 * 8, 7);
    let gradients = recurrent_backward(&truth, &d_out, &[0.0; 64]);
    let found = backward(&run, &narrow(&d_out), None);
    for ((found, truth), name) in found.iter().zip(&gradients).zip(NAMES) {
        close(name, found, truth, 5e-6);
    }
}

#[test]
fn no_decay_and_the_fastest_decay_stay_finite() {
    for fastest in [0.0, 30.0, 1000.0] {
        let truth = inputs([130, 8, 8], fastest);
        let packed = Packed::new(&truth);
        close("out", &forward(&packed.run()).0, &recurrent(&truth).0, 1e-5);
        let (d_out, d_end) = (numbers(130 * 8, 7), numbers(64, 8));
        let gradients = recurrent_backward(&truth, &d_out, &d_end);
        let found = backward(&packed.run(), &narrow(&d_out), Some(&narrow(&d_end)));
        for ((found, truth), name) in found.iter().zip(&gradients).zip(NAMES) {
            close(&format!("{name} at {fastest}"), found, truth, 2e-5);
        }
    }
}

#[test]
fn two_runs_through_the_state_are_one() {
    let truth = inputs([130, 8, 12], 1.0);
    let packed = Packed::new(&truth);
    let whole = packed.run();
    let (out, end) = forward(&whole);
    let (d_out, d_end) = (narrow(&numbers(130 * 12, 7)), narrow(&numbers(96, 8)));
    let gradients = backward(&whole, &d_out, Some(&d_end));
    for at in [64, 100] {
        let [first, second] = [0..at, at..130].map(|rows| DeltaRule {
            q: whole.q.part(rows.clone()),
            k: whole.k.part(rows.clone()),
            v: whole.v.part(rows.clone()),
            beta: whole.beta.part(rows.clone()),
            g: whole.g.part(rows),
            start: whole.start,
        });
        let (out_first, middle) = forward(&first);
        let second = DeltaRule {
            start: Some(&middle),
            ..second
        };
        let (out_second, end_second) = forward(&second);
        let widened = |x: &[f32]| -> Vec<f64> { x.iter().map(|&x| x.into()).collect() };
        close(
            "out",
            &[out_first, out_second].concat(),
            &widened(&out),
            2e-6,
        );
        close("end", &end_second, &widened(&end), 2e-6);
        let after = backward(&second, &d_out[at * 12..], Some(&d_end));
        let before = backward(&first, &d_out[..at * 12], Some(&after[5]));
        for index in 0..5 {
            let joined = [&before[index][..], &after[index]].concat();
            close(NAMES[index], &joined, &widened(&gradients[index]), 5e-6);
        }
        close("d_start", &before[5], &widened(&gradients[5]), 5e-6);
    }
}

#[test]
fn gradients_of_a_shared_head_and_of_a_shared_start_are_added() {
    let truth = inputs([70, 8, 8], 0.5);
    let packed = Packed::new(&truth);
    let run = packed.run();
    let d_out = narrow(&numbers(70 * 8, 7));
    let alone = backward(&run, &d_out, None);
    let mut sums = [70 * 8, 70 * 8, 70 * 8, 70, 70, 64].map(|len| vec![1.0; len]);
    let [dq, dk, dv, d_beta, dg, d_start] = &mut sums;
    let targets = DeltaRuleGradients {
        dq: Target::onto(dq, 8),
        dk: Target::onto(dk, 8),
        dv: Target::over(dv, 8),
        d_beta: Target::over(d_beta, 1),
        dg: Target::over(dg, 1),
        d_start: Some(d_start),
    };
    let d_out = View::new(&d_out, 70, 8);
    delta_rule_backward(&run, d_out, None, targets, &mut DeltaRuleScratch::default());
    for (index, (sum, alone)) in sums.iter().zip(&alone).enumerate() {
        let before = if [0, 1, 5].contains(&index) { 1.0 } else { 0.0 };
        let expected: Vec<f32> = alone.iter().map(|x| before + x).collect();
        assert_eq!(*sum, expected, "{}", NAMES[index]);
    }
}

//! Qwen3.5's gated delta net on slices, forward and backward:
//!
//! ```text
//! q, k, v = silu(convolution(W x))      β = σ(W x)      g = −e^{A_log} softplus(W x + dt_bias)
//! o = delta_rule(q/‖q‖ · d^−½, k/‖k‖, v, β, g)      y = W (w ⊙ rmsnorm(o) ⊙ silu(W x))
//! ```
//!
//! The backward pass keeps the outputs of the linear layers, and o with the states at which
//! segments continue others; it recomputes the rest.

use rayon::prelude::*;

use super::cache::Carry;
use super::low_rank::{Low, ProjectionGradient};
use super::pass::{LayerPass, MixerGradient};
use super::runs::Carried;
use crate::kernel::{
    self, Buffer, Convolution, DeltaRule, DeltaRuleGradients, DeltaRuleScratch, Shared, View,
    delta_rule, delta_rule_backward,
};
use crate::model::{DeltaNet, LayerVector, Projection};

/// The linear layers of the input.
const INPUTS: [Projection; 4] = [
    Projection::DeltaQkv,
    Projection::DeltaZ,
    Projection::DeltaB,
    Projection::DeltaA,
];

/// The state of all value heads after a segment, `[value heads, d_k, d_v]`; none if no segment
/// continues it.
type States = Carried;

/// What the forward pass keeps.
pub struct DeltaNetTape {
    qkv: Buffer,
    z: Buffer,
    b: Buffer,
    a: Buffer,
    o: Buffer,
    states: States,
    low: [Option<Low>; 4],
    low_out: Option<Low>,
}

/// The inputs of the delta rule for all tokens and heads.
struct RuleInputs {
    /// q, k, v before the norms, `[N, 2 keys + values]`.
    mixed: Buffer,
    q: Buffer,
    k: Buffer,
    beta: Buffer,
    g: Buffer,
}

impl RuleInputs {
    /// Those of one value head in a segment.
    fn head<'a>(
        &'a self,
        net: &DeltaNet,
        tokens: &std::ops::Range<usize>,
        head: usize,
        start: Option<&'a [f32]>,
    ) -> DeltaRule<'a> {
        let part = |values: &'a [f32], stride: usize, first: usize, columns: usize| View {
            values: &values[tokens.start * stride + first..],
            rows: tokens.len(),
            columns,
            stride,
        };
        let key = head / (net.value_heads / net.key_heads) * net.key_head_dim;
        let value = 2 * net.key_width() + head * net.value_head_dim;
        DeltaRule {
            q: part(&self.q, net.key_width(), key, net.key_head_dim),
            k: part(&self.k, net.key_width(), key, net.key_head_dim),
            v: part(&self.mixed, net.qkv_width(), value, net.value_head_dim),
            beta: part(&self.beta, net.value_heads, head, 1),
            g: part(&self.g, net.value_heads, head, 1),
            start,
        }
    }
}

/// The state of one head.
fn head_state(net: &DeltaNet, head: usize) -> std::ops::Range<usize> {
    let len = net.key_head_dim * net.value_head_dim;
    head * len..(head + 1) * len
}

fn states_len(net: &DeltaNet) -> usize {
    net.value_heads * net.key_head_dim * net.value_head_dim
}

impl LayerPass<'_> {
    /// y of x `[N, H]`, added `onto` rows if there are any; `[S, H]` at the requested tokens for the
    /// last layer.
    pub fn delta_net(
        &self,
        net: &DeltaNet,
        x: &[f32],
        onto: Option<&[f32]>,
    ) -> (Buffer, DeltaNetTape) {
        let [(qkv, low_qkv), (z, low_z), (b, low_b), (a, low_a)] = self.project(INPUTS, x, None);
        let inputs = self.rule_inputs(net, &qkv, [&b, &a]);
        let mut o = self.take(z.len());
        let mut states = self.run_rule(net, &inputs, &mut o);
        if self.pass.cache.is_some() {
            self.leave(Carry::State, std::mem::take(&mut states));
        }
        let gated = self.gated_output(&o, &z);
        let [(y, low_out)] = self.project([Projection::DeltaOut], &gated, onto);
        let tape = DeltaNetTape {
            qkv,
            z,
            b,
            a,
            o,
            states,
            low: [low_qkv, low_z, low_b, low_a],
            low_out,
        };
        (y, tape)
    }

    fn delta_filters(&self, net: &DeltaNet) -> Convolution {
        let weight = self.weights.vector(LayerVector::DeltaConvolution);
        Convolution::new(weight, net.qkv_width(), None, true)
    }

    fn rates(&self) -> [&[f32]; 2] {
        [LayerVector::DeltaDecay, LayerVector::DeltaTimeStep].map(|rate| self.weights.vector(rate))
    }

    /// Queries, or keys, before their norm.
    fn unnormed<'a>(net: &DeltaNet, mixed: &'a [f32], first: usize) -> View<'a> {
        View {
            values: &mixed[first..],
            rows: mixed.len() / net.qkv_width(),
            columns: net.key_width(),
            stride: net.qkv_width(),
        }
    }

    fn rule_inputs(&self, net: &DeltaNet, qkv: &[f32], ba: [&[f32]; 2]) -> RuleInputs {
        let (mixed, tails) = self.along_runs(&self.delta_filters(net)).apply(qkv);
        self.leave(Carry::Inputs, tails);
        let len = mixed.len() / net.qkv_width() * net.key_width();
        let (mut q, mut k) = (self.take(len), self.take(len));
        let width = net.key_head_dim;
        let queries = Self::unnormed(net, &mixed, 0);
        kernel::l2_norm(queries, width, query_scale(net), &mut q);
        let keys = Self::unnormed(net, &mixed, net.key_width());
        kernel::l2_norm(keys, width, 1.0, &mut k);
        let [mut beta, mut g] = ba.map(|values| self.take(values.len()));
        kernel::delta_rates(ba, self.rates(), [&mut beta, &mut g]);
        RuleInputs {
            mixed,
            q,
            k,
            beta,
            g,
        }
    }

    /// Writes o `[N, values]`; returns the states at which segments are continued.
    fn run_rule(&self, net: &DeltaNet, inputs: &RuleInputs, o: &mut [f32]) -> States {
        let (batch, runs) = (self.pass.batch, self.pass.runs);
        let past = self.past(Carry::State);
        let mut states: States = vec![None; batch.segments.len()];
        let out = Shared::new(o);
        for level in &runs.levels {
            let mut ends: Vec<Vec<f32>> = level
                .iter()
                .map(|&index| match runs.is_continued[index] {
                    true => vec![0.0; states_len(net)],
                    false => Vec::new(),
                })
                .collect();
            let shared: Vec<Shared<'_>> = ends.iter_mut().map(|end| Shared::new(end)).collect();
            (0..level.len() * net.value_heads)
                .into_par_iter()
                .for_each_init(DeltaRuleScratch::default, |scratch, task| {
                    let (place, head) = (task / net.value_heads, task % net.value_heads);
                    let segment = &batch.segments[level[place]];
                    let tokens = segment.start..segment.start + segment.len;
                    let above = match segment.parent {
                        Some(parent) => states[parent].as_ref(),
                        None => past.get(level[place]).and_then(Option::as_ref),
                    };
                    let start = above.map(|above| &above[head_state(net, head)]);
                    let rule = inputs.head(net, &tokens, head, start);
                    let stride = net.value_width();
                    let first = tokens.start * stride + head * net.value_head_dim;
                    // SAFETY: no other task writes this head of these tokens, or its state.
                    let (target, end) = unsafe {
                        let end = runs.is_continued[level[place]]
                            .then(|| shared[place].part(head_state(net, head)));
                        (out.target(first, stride, false), end)
                    };
                    delta_rule(&rule, target, end, scratch);
                });
            drop(shared);
            for (&index, end) in level.iter().zip(ends) {
                states[index] = runs.is_continued[index].then_some(end);
            }
        }
        states
    }

    /// w ⊙ rmsnorm(o) ⊙ silu(z), in the last layer at the requested tokens only.
    fn gated_output(&self, o: &[f32], z: &[f32]) -> Buffer {
        let weight = self.weights.vector(LayerVector::DeltaNorm);
        let epsilon = self.pass.config.rms_norm_eps as f32;
        let mut gated = self.take(o.len());
        kernel::gated_norm([o, z], weight, epsilon, &mut gated);
        match self.last {
            true => self.pick(&gated),
            false => gated,
        }
    }

    /// The gradient of x `[N, H]`, if it is wanted.
    pub fn delta_net_backward(
        &self,
        net: &DeltaNet,
        tape: DeltaNetTape,
        given: MixerGradient<'_>,
    ) -> Option<Buffer> {
        let MixerGradient {
            d_out,
            input,
            gradient,
            wants_dx,
        } = given;
        let DeltaNetTape {
            qkv,
            mut z,
            b,
            a,
            mut o,
            states,
            low,
            low_out,
        } = tape;
        let gated = self.gated_output(&o, &z);
        let through = ProjectionGradient::new(Projection::DeltaOut, d_out, low_out.as_ref());
        let d_gated = self.input_gradient(through, &gated, gradient);
        drop(gated);
        let d_gated = self.of_all_tokens(d_gated);
        let weight = self.weights.vector(LayerVector::DeltaNorm);
        let epsilon = self.pass.config.rms_norm_eps as f32;
        kernel::gated_norm_backward(&d_gated, [&mut o, &mut z], weight, epsilon);
        let [d_qkv, d_b, d_a] = self.inputs_gradient(net, &qkv, [&b, &a], (&o, &states));
        let mut dx = wants_dx.then(|| self.take(input.len()));
        let gradients = [&d_qkv, &z, &d_b, &d_a];
        let through: Vec<_> = INPUTS
            .into_iter()
            .zip(gradients)
            .zip(&low)
            .map(|((projection, d), low)| ProjectionGradient::new(projection, d, low.as_ref()))
            .collect();
        self.project_backward(&through, input, dx.as_deref_mut(), gradient);
        dx
    }

    /// The gradients of the outputs of the linear layers of q, k, v, of β and of g, from that of o.
    fn inputs_gradient(
        &self,
        net: &DeltaNet,
        qkv: &[f32],
        ba: [&[f32]; 2],
        (d_o, states): (&[f32], &States),
    ) -> [Buffer; 3] {
        let inputs = self.rule_inputs(net, qkv, ba);
        let pool = self.pass.pool;
        let [mut dq, mut dk] = [&inputs.q, &inputs.k].map(|values| pool.zeros(values.len()));
        let mut d_mixed = pool.zeros(inputs.mixed.len());
        let [mut d_beta, mut dg] = ba.map(|values| pool.zeros(values.len()));
        let gradients = RuleGradients {
            dq: Shared::new(&mut dq),
            dk: Shared::new(&mut dk),
            d_mixed: Shared::new(&mut d_mixed),
            d_beta: Shared::new(&mut d_beta),
            dg: Shared::new(&mut dg),
        };
        self.rule_backward(net, &inputs, (d_o, states), &gradients);
        kernel::delta_rates_backward(ba, self.rates(), [&mut d_beta, &mut dg]);
        let (width, stride) = (net.key_head_dim, net.qkv_width());
        let queries = Self::unnormed(net, &inputs.mixed, 0);
        kernel::l2_norm_backward(
            &dq,
            queries,
            [width, stride],
            query_scale(net),
            &mut d_mixed,
        );
        let first = net.key_width();
        let keys = Self::unnormed(net, &inputs.mixed, first);
        kernel::l2_norm_backward(&dk, keys, [width, stride], 1.0, &mut d_mixed[first..]);
        let filters = self.delta_filters(net);
        let d_qkv = self.along_runs(&filters).apply_backward(qkv, &mut d_mixed);
        [d_qkv, d_beta, dg]
    }

    /// Backward through the delta rule, from the deepest level of segments up. A task is a segment
    /// and a key head, whose value heads add to the gradients of the same queries and keys.
    fn rule_backward(
        &self,
        net: &DeltaNet,
        inputs: &RuleInputs,
        (d_o, states): (&[f32], &States),
        gradients: &RuleGradients<'_>,
    ) {
        let (batch, runs) = (self.pass.batch, self.pass.runs);
        let mut d_states: States = vec![None; batch.segments.len()];
        let group = net.value_heads / net.key_heads;
        for level in runs.levels.iter().rev() {
            let tasks = (0..level.len() * net.key_heads).into_par_iter();
            let above: Vec<(usize, usize, Vec<f32>)> = tasks
                .map_init(DeltaRuleScratch::default, |scratch, task| {
                    let (index, key_head) = (level[task / net.key_heads], task % net.key_heads);
                    let segment = &batch.segments[index];
                    let tokens = segment.start..segment.start + segment.len;
                    let start = segment.parent.and_then(|parent| states[parent].as_ref());
                    let len = net.key_head_dim * net.value_head_dim;
                    let mut d_start = vec![0.0; if start.is_some() { group * len } else { 0 }];
                    for member in 0..group {
                        let head = key_head * group + member;
                        let state = head_state(net, head);
                        let start = start.map(|start| &start[state.clone()]);
                        let d_end = d_states[index].as_ref().map(|d| &d[state.clone()]);
                        let rule = inputs.head(net, &tokens, head, start);
                        let d_start = start.map(|_| &mut d_start[member * len..][..len]);
                        let targets = gradients.head(net, tokens.start, head, d_start);
                        let d_out = View {
                            values: &d_o
                                [tokens.start * net.value_width() + head * net.value_head_dim..],
                            rows: tokens.len(),
                            columns: net.value_head_dim,
                            stride: net.value_width(),
                        };
                        delta_rule_backward(&rule, d_out, d_end, targets, scratch);
                    }
                    (index, key_head, d_start)
                })
                .collect();
            for (index, key_head, d_start) in above {
                let Some(parent) = batch.segments[index].parent else {
                    continue;
                };
                let sum = d_states[parent].get_or_insert_with(|| vec![0.0; states_len(net)]);
                let first = head_state(net, key_head * group).start;
                kernel::add(&mut sum[first..first + d_start.len()], &d_start);
            }
        }
    }
}

/// By which normalised queries are multiplied.
fn query_scale(net: &DeltaNet) -> f32 {
    1.0 / (net.key_head_dim as f32).sqrt()
}

/// The gradients of [`RuleInputs`], written by many tasks.
struct RuleGradients<'a> {
    dq: Shared<'a>,
    dk: Shared<'a>,
    d_mixed: Shared<'a>,
    d_beta: Shared<'a>,
    dg: Shared<'a>,
}

impl RuleGradients<'_> {
    /// The targets of one value head from a token on; those of queries and keys are added to.
    fn head<'a>(
        &'a self,
        net: &DeltaNet,
        token: usize,
        head: usize,
        d_start: Option<&'a mut [f32]>,
    ) -> DeltaRuleGradients<'a> {
        let key = head / (net.value_heads / net.key_heads) * net.key_head_dim;
        let keys = token * net.key_width() + key;
        let value = 2 * net.key_width() + head * net.value_head_dim;
        let (mixed, rate) = (
            token * net.qkv_width() + value,
            token * net.value_heads + head,
        );
        // SAFETY: a task has all value heads of a key head of a segment, and takes them in turn.
        unsafe {
            DeltaRuleGradients {
                dq: self.dq.target(keys, net.key_width(), true),
                dk: self.dk.target(keys, net.key_width(), true),
                dv: self.d_mixed.target(mixed, net.qkv_width(), false),
                d_beta: self.d_beta.target(rate, net.value_heads, false),
                dg: self.dg.target(rate, net.value_heads, false),
                d_start,
            }
        }
    }
}

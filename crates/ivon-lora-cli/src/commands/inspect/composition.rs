//! The composition of a decoder's layers in words.

use ivon_lora::model::{
    Attention, DecoderConfig, DeltaNet, Gate, HeadNorm, KeyValues, LayerKind, Mixer, Mlp, Norms,
    Rope, RopeScaling,
};

/// What layers consist of: a line for each part, and for each variant of it the number of layers
/// that have it, unless all do.
pub fn composition(config: &DecoderConfig) -> Vec<(&'static str, String)> {
    let layers = &config.layers;
    let mut lines = Vec::new();
    for (part, describe) in [
        ("mixer", mixer as fn(&LayerKind) -> Option<String>),
        ("MLP", |layer| Some(mlp(&layer.mlp))),
        ("norms", |layer| Some(norms(layer.norms).into())),
        ("own input", own_input),
        ("residual", residual),
    ] {
        lines.extend(
            variants(layers, describe)
                .into_iter()
                .map(|text| (part, text)),
        );
    }
    lines
}

/// The descriptions of the layers, each once, with the number of its layers unless all have it.
fn variants(layers: &[LayerKind], describe: fn(&LayerKind) -> Option<String>) -> Vec<String> {
    let mut found: Vec<(String, usize)> = Vec::new();
    for text in layers.iter().filter_map(describe) {
        match found.iter_mut().find(|(known, _)| *known == text) {
            Some((_, count)) => *count += 1,
            None => found.push((text, 1)),
        }
    }
    let all = layers.len();
    let line = |(text, count): (String, usize)| match count == all {
        true => text,
        false => format!("{text} ({count} of {all} layers)"),
    };
    found.into_iter().map(line).collect()
}

fn mixer(layer: &LayerKind) -> Option<String> {
    Some(match &layer.mixer {
        Mixer::Attention(attention) => attention_text(attention),
        Mixer::DeltaNet(net) => delta_net(net),
        Mixer::ShortConvolution(convolution) => {
            format!("short convolution over {} tokens", convolution.kernel)
        }
    })
}

fn attention_text(attention: &Attention) -> String {
    let [queries, keys, width] = [
        attention.num_attention_heads,
        attention.num_key_value_heads,
        attention.head_dim,
    ];
    let mut said = format!("attention, {queries} heads of {width}, {keys} for keys and values");
    let mut add = |text: String| {
        said.push_str(", ");
        said.push_str(&text);
    };
    match attention.key_values {
        KeyValues::Separate => {}
        KeyValues::Fused => add("queries, keys and values from one layer".into()),
        KeyValues::ValuesAreKeys => add("values are the keys".into()),
        KeyValues::OfLayer(layer) => add(format!("keys and values of layer {layer}")),
    }
    match attention.qk_norm {
        HeadNorm::None => {}
        HeadNorm::PerHead => add("queries and keys normalised per head".into()),
        HeadNorm::Whole => add("queries and keys normalised".into()),
    }
    if attention.attention_bias {
        add("with biases".into());
    }
    if attention.has_gate {
        add("gated".into());
    }
    if let Some(cap) = attention.softcap {
        add(format!("scores limited to {cap}"));
    }
    if let Some(window) = attention.window {
        add(format!("sliding window {window}"));
    }
    if attention.rope.is_none() {
        add("no rotary embedding".into());
    }
    said
}

fn delta_net(net: &DeltaNet) -> String {
    format!(
        "gated delta net, {} heads of {} for queries and keys, {} of {} for values",
        net.key_heads, net.key_head_dim, net.value_heads, net.value_head_dim
    )
}

fn mlp(mlp: &Mlp) -> String {
    let gate = match mlp.gate {
        Gate::Silu => "silu",
        Gate::GeluTanh => "gelu",
    };
    let fused = if mlp.is_fused {
        ", gate and up as one"
    } else {
        ""
    };
    format!("{gate} gate, width {}{fused}", mlp.intermediate_size)
}

fn norms(norms: Norms) -> &'static str {
    match norms {
        Norms::Before => "before both parts",
        Norms::After => "after both parts",
        Norms::Around => "before and after both parts",
    }
}

fn own_input(layer: &LayerKind) -> Option<String> {
    let width = layer.per_layer_input?;
    Some(format!("width {width}"))
}

fn residual(layer: &LayerKind) -> Option<String> {
    let multiplier = layer.residual_multiplier;
    (multiplier != 1.0).then(|| format!("multiplied by {multiplier}"))
}

/// `, rotary base 10000 and 1000000 (yarn)`; empty without a rotary embedding.
pub fn bases(config: &DecoderConfig) -> String {
    let bases: Vec<String> = config
        .ropes()
        .0
        .into_iter()
        .map(|rope| base(rope.0))
        .collect();
    match bases.is_empty() {
        true => String::new(),
        false => format!(", rotary base {}", bases.join(" and ")),
    }
}

fn base(rope: &Rope) -> String {
    let kind = match &rope.scaling {
        RopeScaling::Default => None,
        RopeScaling::Linear { .. } => Some("linear"),
        RopeScaling::Dynamic { .. } => Some("dynamic"),
        RopeScaling::Llama3 { .. } => Some("llama3"),
        RopeScaling::Yarn(_) => Some("yarn"),
        RopeScaling::LongRope { .. } => Some("longrope"),
        RopeScaling::Proportional { .. } => Some("proportional"),
        RopeScaling::Factors { .. } => Some("factors"),
    };
    let part = rope
        .partial_rotary_factor
        .map(|part| format!("{part} of each head"));
    let said: Vec<String> = kind.map(String::from).into_iter().chain(part).collect();
    match said.is_empty() {
        true => rope.theta.to_string(),
        false => format!("{} ({})", rope.theta, said.join(", ")),
    }
}

/// What happens to embeddings and logits, if anything does.
pub fn ends(config: &DecoderConfig) -> Option<String> {
    let ends = &config.ends;
    let mut said = Vec::new();
    if ends.embedding_multiplier != 1.0 {
        said.push(format!("embeddings × {}", ends.embedding_multiplier));
    }
    if ends.logits_scaling != 1.0 {
        said.push(format!("logits / {}", ends.logits_scaling));
    }
    if let Some(cap) = ends.final_logit_softcapping {
        said.push(format!("logits limited to {cap}"));
    }
    (!said.is_empty()).then(|| said.join(", "))
}

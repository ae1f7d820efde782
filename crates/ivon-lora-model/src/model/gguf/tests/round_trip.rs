//! Golden models written as llama.cpp's converter writes them, read back: the configuration, the
//! tensors and the logits are those of the folder.
//!
//! The conversion is written here a second time, from the configuration as text and with plain
//! loops, so that it does not share its errors with what reads the files. If `IVON_LORA_GGUF_OUT`
//! names a folder, the files stay there, with logits beside them, for
//! `scripts/check_llama_cpp.py`.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::{Map, Value, json};

use super::{GgufWriter, Metadata};
use crate::data::Batch;
use crate::forward::Network;
use crate::lora::{
    Adapter, Companions, Draw, MergeOptions, Precision, StoredBase, merge, merge_into_gguf,
    read_peft,
};
use crate::model::{
    BasePrecision, Checkpoint, Decoder, DecoderConfig, Encoding, Rope, RopeScaling,
};
use crate::testing::{self, golden_json};

/// A golden model with the settings that a GGUF file can express.
struct Folder {
    config: Value,
    path: tempfile::TempDir,
    /// The divisors of rotary frequencies that its file has, in place of those of its rule.
    divisors: Option<Vec<f32>>,
}

impl Folder {
    fn new(family: &str) -> Self {
        let golden = testing::golden().join("tiny").join(family);
        let text = std::fs::read_to_string(golden.join("config.json")).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        // The converter does not write it: llama.cpp takes the width of a head.
        if config.get("query_pre_attn_scalar").is_some() {
            config["query_pre_attn_scalar"] = config["head_dim"].clone();
        }
        // The converter writes it, but llama.cpp computes its own.
        if family == "olmo3-yarn" {
            let factor = 1.0 + 0.1 * 4f64.ln();
            config["rope_parameters"]["full_attention"]["attention_factor"] = json!(factor);
        }
        let path = tempfile::tempdir().unwrap();
        std::fs::write(path.path().join("config.json"), config.to_string()).unwrap();
        let weights = "model.safetensors";
        std::fs::copy(golden.join(weights), path.path().join(weights)).unwrap();
        Self {
            config,
            path,
            divisors: None,
        }
    }

    fn open(&self) -> Checkpoint {
        Checkpoint::open(self.path.path().to_str().unwrap()).unwrap()
    }

    fn count(&self, key: &str) -> usize {
        self.config[key].as_u64().unwrap() as usize
    }

    /// Numbers of heads of queries and keys, and the width of a head.
    fn heads(&self) -> [usize; 3] {
        let heads = self.count("num_attention_heads");
        let width = self.config.get("head_dim").and_then(Value::as_u64);
        let width = width.map_or(self.count("hidden_size") / heads, |width| width as usize);
        [heads, self.count("num_key_value_heads"), width]
    }

    fn layer_types(&self, kind: &str) -> Vec<bool> {
        let kinds = self.config["layer_types"].as_array().unwrap();
        kinds.iter().map(|found| found == kind).collect()
    }

    /// The rotary settings of layers without a window.
    fn rope(&self) -> &Value {
        let rope = &self.config["rope_parameters"];
        rope.get("full_attention").unwrap_or(rope)
    }
}

/// Golden models that Llama's keys do not describe, and that remain of their family in a file.
const TRANSLATED: [&str; 12] = [
    "smollm3",
    "granite",
    "ministral3",
    "phi3",
    "olmo2",
    "olmo3-yarn",
    "gemma2",
    "gemma3",
    "gemma4",
    "gemma4-shared",
    "lfm2",
    "qwen3_5",
];

/// The architecture under which the converter writes a golden model.
fn architecture(family: &str) -> &str {
    match family {
        "llama" | "llama3-rope" | "mistral" => "llama",
        "granite4" => "granite",
        "ministral3" => "mistral3",
        "olmo2" | "olmo3" | "olmo3-yarn" => "olmo2",
        "gemma4-shared" => "gemma4",
        "qwen3_5" => "qwen35",
        other => other,
    }
}

/// The metadata of a file, as it grows.
struct Keys<'a> {
    folder: &'a Folder,
    architecture: &'a str,
    writer: GgufWriter,
}

impl Keys<'_> {
    fn set(&mut self, key: &str, value: Metadata) {
        self.writer
            .set(&format!("{}.{key}", self.architecture), value);
    }

    fn count(&mut self, key: &str, value: usize) {
        self.set(key, Metadata::U32(value as u32));
    }

    fn counts(&mut self, key: &str, values: &[usize]) {
        let values = values.iter().map(|value| *value as i32).collect();
        self.set(key, Metadata::I32s(values));
    }

    /// A number of the configuration, if it is there.
    fn number(&mut self, key: &str, value: &Value) {
        if let Some(value) = value.as_f64() {
            self.set(key, Metadata::F32(value as f32));
        }
    }

    /// What all architectures have.
    fn common(&mut self) {
        let folder = self.folder;
        let [heads, key_heads, width] = folder.heads();
        for (key, value) in [
            ("block_count", folder.count("num_hidden_layers")),
            ("context_length", folder.count("max_position_embeddings")),
            ("embedding_length", folder.count("hidden_size")),
            ("feed_forward_length", folder.count("intermediate_size")),
            ("attention.head_count", heads),
            ("attention.head_count_kv", key_heads),
            ("vocab_size", folder.count("vocab_size")),
        ] {
            self.count(key, value);
        }
        if folder.config.get("head_dim").is_some() {
            self.count("attention.key_length", width);
            self.count("attention.value_length", width);
        }
        self.number(
            "attention.layer_norm_rms_epsilon",
            &folder.config["rms_norm_eps"],
        );
        let rope = folder.rope();
        self.number("rope.freq_base", &rope["rope_theta"]);
        let sliding = &folder.config["rope_parameters"]["sliding_attention"];
        self.number("rope.freq_base_swa", &sliding["rope_theta"]);
        let kind = rope["rope_type"].as_str().unwrap();
        if ["linear", "yarn"].contains(&kind) {
            self.set("rope.scaling.type", Metadata::Text(kind.into()));
            self.number("rope.scaling.factor", &rope["factor"]);
        }
        if kind == "yarn" {
            let length = &rope["original_max_position_embeddings"];
            let length = length.as_u64().unwrap() as usize;
            self.count("rope.scaling.original_context_length", length);
            self.number("rope.scaling.yarn_attn_factor", &rope["attention_factor"]);
            self.number("rope.scaling.yarn_beta_fast", &rope["beta_fast"]);
            self.number("rope.scaling.yarn_beta_slow", &rope["beta_slow"]);
        }
    }

    /// What an architecture has besides.
    fn own(&mut self) {
        let folder = self.folder;
        let [_, key_heads, width] = folder.heads();
        match self.architecture {
            "llama" | "smollm3" => self.count("rope.dimension_count", width),
            "mistral3" => {
                self.count("rope.dimension_count", width);
                let rope = folder.rope();
                self.number("rope.scaling.yarn_log_multiplier", &rope["mscale_all_dim"]);
                self.number("attention.temperature_scale", &rope["llama_4_scaling_beta"]);
            }
            "granite" => {
                self.count("rope.dimension_count", width);
                for (key, origin) in [
                    ("attention.scale", "attention_multiplier"),
                    ("embedding_scale", "embedding_multiplier"),
                    ("residual_scale", "residual_multiplier"),
                    ("logit_scale", "logits_scaling"),
                ] {
                    self.number(key, &folder.config[origin]);
                }
            }
            "phi3" => {
                let part = folder.rope()["partial_rotary_factor"].as_f64().unwrap();
                self.count("rope.dimension_count", (part * width as f64) as usize);
                let length = folder.count("original_max_position_embeddings");
                self.count("rope.scaling.original_context_length", length);
                let scale = folder.count("max_position_embeddings") as f64 / length as f64;
                let factor = (1.0 + scale.ln() / (length as f64).ln()).sqrt();
                self.number("rope.scaling.attn_factor", &json!(factor));
                self.count("attention.sliding_window", 0);
            }
            "olmo2" if folder.config.get("sliding_window").is_some() => {
                self.count("attention.sliding_window", folder.count("sliding_window"));
                self.windows();
            }
            "gemma2" => {
                self.count("attention.sliding_window", folder.count("sliding_window"));
                for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
                    self.number(key, &folder.config[key]);
                }
            }
            "gemma3" => {
                self.count("attention.sliding_window", folder.count("sliding_window"));
                // Six by default; this model has two.
                self.count("attention.sliding_window_pattern", 2);
            }
            "gemma4" => self.gemma4(),
            "lfm2" => {
                let attends = folder.layer_types("full_attention");
                let heads = attends
                    .iter()
                    .map(|attends| key_heads * usize::from(*attends));
                let heads: Vec<usize> = heads.collect();
                self.counts("attention.head_count_kv", &heads);
                self.count("shortconv.l_cache", folder.count("conv_L_cache"));
            }
            "qwen35" => {
                let (heads, wide) = ("linear_num_value_heads", "linear_value_head_dim");
                for (key, value) in [
                    ("ssm.conv_kernel", folder.count("linear_conv_kernel_dim")),
                    ("ssm.state_size", folder.count("linear_key_head_dim")),
                    ("ssm.group_count", folder.count("linear_num_key_heads")),
                    ("ssm.time_step_rank", folder.count(heads)),
                    ("ssm.inner_size", folder.count(heads) * folder.count(wide)),
                    ("full_attention_interval", 4),
                    ("rope.dimension_count", width / 4),
                ] {
                    self.count(key, value);
                }
                self.counts("rope.dimension_sections", &[1, 1, 0, 0]);
                let nets = folder.layer_types("linear_attention");
                let nets: Vec<usize> = nets.into_iter().map(usize::from).collect();
                self.counts("attention.recurrent_layers", &nets);
            }
            _ => {}
        }
        if let ("llama", Some(window)) = (
            self.architecture,
            folder.config.get("sliding_window").and_then(Value::as_u64),
        ) {
            self.count("attention.sliding_window", window as usize);
        }
    }

    fn windows(&mut self) {
        let slides = self.folder.layer_types("sliding_attention");
        let slides: Vec<usize> = slides.into_iter().map(usize::from).collect();
        self.counts("attention.sliding_window_pattern", &slides);
    }

    fn gemma4(&mut self) {
        let folder = self.folder;
        self.windows();
        let [_, key_heads, width] = folder.heads();
        let wide = &folder.config["per_layer_config"]["1"];
        let full = wide["head_dim"].as_u64().unwrap() as usize;
        let shared = folder.count("num_kv_shared_layers");
        for (key, value) in [
            ("attention.sliding_window", folder.count("sliding_window")),
            ("attention.shared_kv_layers", shared),
            ("attention.key_length", full),
            ("attention.value_length", full),
            ("attention.key_length_swa", width),
            ("attention.value_length_swa", width),
            ("rope.dimension_count", full),
            ("rope.dimension_count_swa", width),
            (
                "embedding_length_per_layer_input",
                folder.count("hidden_size_per_layer_input"),
            ),
        ] {
            self.count(key, value);
        }
        self.number(
            "final_logit_softcapping",
            &folder.config["final_logit_softcapping"],
        );
        let layers = folder.count("num_hidden_layers");
        if folder.config["use_double_wide_mlp"] == true {
            let width = folder.count("intermediate_size");
            let widths = (0..layers).map(|layer| match layer < layers - shared {
                true => width,
                false => 2 * width,
            });
            self.counts("feed_forward_length", &widths.collect::<Vec<_>>());
        }
        if let Some(global) = wide["num_key_value_heads"].as_u64() {
            let slides = folder.layer_types("sliding_attention");
            let heads = slides.iter().map(|slides| match slides {
                true => key_heads,
                false => global as usize,
            });
            self.counts("attention.head_count_kv", &heads.collect::<Vec<_>>());
        }
    }
}

/// A tensor of a file.
struct Written {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// The tensors that hold divisors of rotary frequencies.
fn divisors(folder: &Folder, architecture: &str) -> Vec<Written> {
    let tensor = |name: &str, values: Vec<f32>| Written {
        name: name.into(),
        shape: vec![values.len()],
        values,
    };
    if let Some(divisors) = &folder.divisors {
        return vec![tensor("rope_freqs.weight", divisors.clone())];
    }
    let rope = folder.rope();
    let list = |key: &str| {
        let list = rope[key].as_array().unwrap().iter();
        list.map(|number| number.as_f64().unwrap() as f32).collect()
    };
    match (architecture, rope["rope_type"].as_str().unwrap()) {
        (_, "longrope") => vec![
            tensor("rope_factors_long.weight", list("long_factor")),
            tensor("rope_factors_short.weight", list("short_factor")),
        ],
        // A quarter of 16 pairs turns.
        ("gemma4", _) => {
            let values = (0..16).map(|pair| if pair < 4 { 1.0 } else { 1e30 });
            vec![tensor("rope_freqs.weight", values.collect())]
        }
        (_, "llama3") => {
            let [_, _, width] = folder.heads();
            let checkpoint = folder.open();
            let scaled = checkpoint.config().layers[0].rope().unwrap();
            let plain = Rope {
                scaling: RopeScaling::Default,
                ..scaled.clone()
            };
            let both = (
                plain.inverse_frequencies(width, 1),
                scaled.inverse_frequencies(width, 1),
            );
            let values = both
                .0
                .iter()
                .zip(&both.1)
                .map(|(plain, scaled)| plain / scaled);
            vec![tensor("rope_freqs.weight", values.collect())]
        }
        _ => Vec::new(),
    }
}

/// llama.cpp's `permute`: `reshape(heads, 2, head / 2, columns).swapaxes(1, 2)`, as loops.
fn interleave(values: &[f32], head: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::new();
    for rows in values.chunks_exact(head * columns) {
        for pair in 0..head / 2 {
            for half in 0..2 {
                out.extend(&rows[(half * head / 2 + pair) * columns..][..columns]);
            }
        }
    }
    out
}

/// llama.cpp's `_reorder_v_heads`: heads of `width` numbers, `[groups, members]` → `[members,
/// groups]`.
fn regroup(values: &[f32], [groups, members]: [usize; 2], width: usize) -> Vec<f32> {
    let mut out = Vec::new();
    for member in 0..members {
        for group in 0..groups {
            out.extend(&values[(group * members + member) * width..][..width]);
        }
    }
    out
}

/// A tensor of a delta net of 2 key heads and 4 value heads, 8 wide, on a stream 32 wide.
fn delta_net(part: &str, values: Vec<f32>) -> Vec<f32> {
    let heads = [2, 2];
    let tail = |width: usize| {
        let (queries_keys, values) = values.split_at(2 * 2 * 8 * width);
        [queries_keys, &regroup(values, heads, 8 * width)].concat()
    };
    match part {
        "in_proj_qkv.weight" => tail(32),
        "conv1d.weight" => tail(4),
        "in_proj_z.weight" => regroup(&values, heads, 8 * 32),
        "in_proj_a.weight" | "in_proj_b.weight" => regroup(&values, heads, 32),
        "out_proj.weight" => {
            let rows = values.chunks_exact(32);
            rows.flat_map(|row| regroup(row, heads, 8)).collect()
        }
        "dt_bias" => regroup(&values, heads, 1),
        "A_log" => {
            let decays: Vec<f32> = values.iter().map(|log| -log.exp()).collect();
            regroup(&decays, heads, 1)
        }
        _ => values,
    }
}

/// A tensor of the folder as it is in the file; fused ones become two.
fn convert(folder: &Checkpoint, architecture: &str, name: &str) -> Vec<Written> {
    let tensor = folder.tensor(name).unwrap();
    let (columns, mut shape) = (tensor.columns(), tensor.shape.clone());
    let mut values = tensor.to_f32();
    let to_gguf = |name: &str| folder.config().family().to_gguf(name);
    if let Some(part) = name.find("shared_mlp.input_linear").map(|at| &name[..at]) {
        let layer = part
            .trim_start_matches("model.layers.")
            .trim_end_matches('.');
        let up = values.split_off(values.len() / 2);
        return [("gate", values), ("up", up)]
            .map(|(kind, values)| Written {
                name: format!("blk.{layer}.ffn_{kind}.weight"),
                shape: vec![shape[0] / 2, columns],
                values,
            })
            .into();
    }
    let renamed = name.replace("shared_mlp.output_linear", "mlp.down_proj");
    if ["llama", "granite", "smollm3", "mistral3"].contains(&architecture)
        && (name.contains("q_proj") || name.contains("k_proj"))
    {
        values = interleave(&values, folder.config().heads()[2], columns);
    }
    if let Some((_, part)) = name.split_once(".linear_attn.") {
        values = delta_net(part, values);
    } else if ["gemma2", "gemma3", "qwen35"].contains(&architecture)
        && name.ends_with("norm.weight")
    {
        values.iter_mut().for_each(|value| *value += 1.0);
    }
    if shape.len() == 3 {
        shape.remove(1);
    }
    vec![Written {
        name: to_gguf(&renamed).unwrap(),
        shape,
        values,
    }]
}

/// Writes a golden model to a file, as the converter does except for this.
fn write(folder: &Folder, family: &str, path: &Path, except: impl Fn(&mut GgufWriter)) {
    write_in(Encoding::F32, folder, family, path, except);
}

/// The same, with matrices in this encoding whose rows are whole blocks.
fn write_in(
    encoding: Encoding,
    folder: &Folder,
    family: &str,
    path: &Path,
    except: impl Fn(&mut GgufWriter),
) {
    let architecture = architecture(family);
    let mut keys = Keys {
        folder,
        architecture,
        writer: GgufWriter::new(architecture),
    };
    keys.common();
    keys.own();
    let mut writer = keys.writer;
    // llama.cpp then makes names for as many tokens as there are.
    writer.set("tokenizer.ggml.model", Metadata::Text("none".into()));
    except(&mut writer);
    let checkpoint = folder.open();
    let mut tensors = divisors(folder, architecture);
    for name in checkpoint.names() {
        tensors.extend(convert(&checkpoint, architecture, &name));
    }
    for Written { name, shape, .. } in &tensors {
        let in_blocks = shape.len() == 2 && shape[1].is_multiple_of(32);
        let encoding = if in_blocks { encoding } else { Encoding::F32 };
        writer.tensor(name, shape, encoding).unwrap();
    }
    let values = |name: &str| {
        let found = tensors.iter().find(|tensor| tensor.name == name);
        found.unwrap().values.clone()
    };
    writer.write_f32(path, values).unwrap();
}

/// The logits after every token of a sequence.
fn logits(checkpoint: &Checkpoint, tokens: &[u32]) -> Vec<f32> {
    logits_in(BasePrecision::F32, checkpoint, tokens)
}

fn logits_in(precision: BasePrecision, checkpoint: &Checkpoint, tokens: &[u32]) -> Vec<f32> {
    let decoder = Decoder::load(checkpoint, precision).unwrap();
    let all: Vec<u32> = (0..decoder.config.vocab_size as u32).collect();
    let network = Network::new(decoder, &Device::flex(), false);
    let mut batch = Batch::default();
    batch.push(tokens, None, 0);
    batch.asked = (0..tokens.len()).collect();
    let hidden = network.hidden(&batch, &Draw::of(Adapter::empty()));
    let logits = network.logits_of(&hidden, &all);
    logits.into_data().try_to_vec().unwrap()
}

/// Panics unless two values are equal, numbers up to the rounding to f32.
fn agree(found: &Value, expected: &Value, place: &str) {
    match (found, expected) {
        (Value::Object(one), Value::Object(other)) => {
            let names: Vec<_> = one.keys().chain(other.keys()).collect();
            for name in names {
                agree(&found[name], &expected[name], &format!("{place}.{name}"));
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                agree(one, other, &format!("{place}.{index}"));
            }
        }
        (Value::Number(one), Value::Number(other)) => {
            let (one, other) = (one.as_f64().unwrap(), other.as_f64().unwrap());
            assert!(
                (one - other).abs() <= 1e-6 * other.abs(),
                "{place}: {one} for {other}"
            );
        }
        _ => assert_eq!(found, expected, "{place}"),
    }
}

/// Panics unless logits are equal up to 1e-5 of the largest.
fn close(found: &[f32], expected: &[f32], family: &str) {
    let most = expected
        .iter()
        .fold(0.0f32, |most, logit| most.max(logit.abs()));
    for (found, expected) in found.iter().zip(expected) {
        let holds = (found - expected).abs() <= 1e-5 * most;
        assert!(holds, "{family}: {found} for {expected}");
    }
}

/// The configuration that is read from a file.
fn expected_config(checkpoint: &Checkpoint, family: &str) -> Value {
    let mut config = checkpoint.config().clone();
    match family {
        "mistral" => config.model_type = "llama".into(),
        // The dense Granite 4 is a Granite 3, with gate and up apart.
        "granite4" => {
            config.model_type = "granite".into();
            config
                .layers
                .iter_mut()
                .for_each(|layer| layer.mlp.is_fused = false);
        }
        _ => {}
    }
    serde_json::to_value(&config).unwrap()
}

fn check(family: &str) {
    let (folder, kept) = (Folder::new(family), tempfile::tempdir().unwrap());
    let out = std::env::var_os("IVON_LORA_GGUF_OUT");
    let out = out.map_or_else(|| kept.path().into(), PathBuf::from);
    let path = out.join(format!("{family}.gguf"));
    write(&folder, family, &path, |_| ());
    let gguf = Checkpoint::open(path.to_str().unwrap()).unwrap();
    let checkpoint = folder.open();
    assert_eq!(gguf.notes(), [""; 0], "{family}");
    if family != "llama3-rope" {
        let found = serde_json::to_value(gguf.config()).unwrap();
        agree(&found, &expected_config(&checkpoint, family), family);
    }
    assert_eq!(gguf.parameters(), checkpoint.parameters(), "{family}");
    if family != "granite4" {
        assert_eq!(gguf.names(), checkpoint.names(), "{family}");
        for name in checkpoint.names() {
            let pair = [&gguf, &checkpoint].map(|one| one.tensor(&name).unwrap());
            let [found, expected] = &pair;
            assert_eq!(found.shape, expected.shape, "{family} {name}");
            for (found, expected) in found.to_f32().iter().zip(expected.to_f32()) {
                assert!(
                    (found - expected).abs() <= 3e-7,
                    "{family} {name}: {found} for {expected}"
                );
            }
        }
    }
    let tokens = &golden_json(&format!("tiny/{family}/long.json"))["sequence"];
    let tokens: Vec<u32> = serde_json::from_value(tokens.clone()).unwrap();
    let expected = logits(&checkpoint, &tokens);
    close(&logits(&gguf, &tokens), &expected, family);
    let beside = json!({ "tokens": tokens, "logits": expected });
    std::fs::write(out.join(format!("{family}.json")), beside.to_string()).unwrap();
}

/// The error for a golden model whose metadata has this key changed.
fn refusal(family: &str, key: &str, value: Metadata) -> String {
    let (folder, kept) = (Folder::new(family), tempfile::tempdir().unwrap());
    let path = kept.path().join("model.gguf");
    write(&folder, family, &path, |writer| {
        writer.set(key, value.clone())
    });
    let opened = Checkpoint::open(path.to_str().unwrap());
    opened.expect_err(key).to_string()
}

#[test]
fn what_a_family_cannot_be_is_refused_by_the_key_of_the_metadata() {
    let layers = |heads: [i32; 4]| Metadata::I32s(heads.into());
    for (family, key, value, message) in [
        (
            "granite",
            "granite.attention.head_count_kv",
            layers([0, 2, 2, 2]),
            "is `0`, expected one number above 0 for all layers: Mamba layers are not supported",
        ),
        (
            "granite",
            "granite.rope.scaling.finetuned",
            Metadata::Bool(false),
            "is `false`, expected `true`: queries and keys are rotated",
        ),
        (
            "gemma4",
            "gemma4.expert_count",
            Metadata::U32(128),
            "is `128`, expected no experts",
        ),
        (
            "gemma4",
            "gemma4.feed_forward_length",
            layers([48, 96, 48, 96]),
            "is `48, 96, 48, 96`, expected one width, or twice that in the layers that share keys and values",
        ),
        (
            "gemma4",
            "gemma4.attention.shared_kv_layers",
            Metadata::U32(3),
            "is `3`, expected an earlier layer of each kind with keys and values of its own",
        ),
        (
            "gemma3",
            "gemma3.attention.causal",
            Metadata::Bool(false),
            "is `false`, expected `true`: a token sees no later one",
        ),
        (
            "gemma2",
            "gemma2.final_logit_softcapping",
            Metadata::F32(-1.0),
            "is `-1`, expected above 0, at most 1e6",
        ),
        (
            "ministral3",
            "mistral3.rope.scaling.yarn_beta_fast",
            Metadata::F32(-1.0),
            "is `-1`, expected above 0, at most 1e6",
        ),
        (
            "qwen3_5",
            "qwen35.ssm.inner_size",
            Metadata::U32(33),
            "is `33`, expected a multiple of 4 value heads",
        ),
        (
            "lfm2",
            "lfm2.shortconv.l_cache",
            Metadata::U32(0),
            "is `0`, expected 1 to 64",
        ),
        (
            "phi3",
            "phi3.rope.dimension_count",
            Metadata::U32(3),
            "is `3 rotated columns`, expected an even number of rotated columns, at least 2",
        ),
    ] {
        let found = refusal(family, key, value);
        assert_eq!(found, format!("`{key}` in `model.gguf` {message}"));
    }
}

#[test]
fn the_translated_configuration_describes_the_same_decoder() {
    for family in TRANSLATED {
        let (folder, kept) = (Folder::new(family), tempfile::tempdir().unwrap());
        let path = kept.path().join("model.gguf");
        write(&folder, family, &path, |_| ());
        let gguf = Checkpoint::open(path.to_str().unwrap()).unwrap();
        let text = serde_json::to_string(gguf.translated_config().unwrap()).unwrap();
        let read = DecoderConfig::from_json(&text, "config.json").unwrap();
        assert_eq!(&read, gguf.config(), "{family}");
        assert!(!gguf.config().is_like_llama(), "{family}");
    }
}

/// A base with an adapter merged in, in f32.
fn merged(
    base: &Checkpoint,
    config: Map<String, Value>,
    adapter: &Adapter,
    out: &Path,
) -> Checkpoint {
    let stored = StoredBase {
        names: base.names(),
        written: base.names_in_files(),
        tensor: |name: &str| base.tensor(name),
    };
    let companions = Companions {
        config,
        files: Vec::new(),
    };
    let options = MergeOptions {
        precision: Precision::F32,
        ..MergeOptions::default()
    };
    merge(out, &stored, &companions, adapter, options).unwrap();
    Checkpoint::open(out.to_str().unwrap()).unwrap()
}

#[test]
fn an_adapter_merged_into_a_file_gives_the_model_that_it_gives_merged_into_the_folder() {
    for family in TRANSLATED {
        let (folder, kept) = (Folder::new(family), tempfile::tempdir().unwrap());
        let place = |name: &str| kept.path().join(name);
        write(&folder, family, &place("model.gguf"), |_| ());
        let gguf = Checkpoint::open(place("model.gguf").to_str().unwrap()).unwrap();
        let adapter = testing::golden().join("tiny").join(family).join("adapter");
        let adapter = read_peft(&adapter, gguf.config(), &Device::flex());
        let adapter = adapter.unwrap().adapter;
        let config = gguf.translated_config().unwrap().clone();
        let of_file = merged(&gguf, config, &adapter, &place("of_file"));
        let config = folder.config.as_object().unwrap().clone();
        let of_folder = merged(&folder.open(), config, &adapter, &place("of_folder"));
        assert_eq!(of_file.names(), of_folder.names(), "{family}");
        let tokens: Vec<u32> = (1..40).collect();
        let (found, expected) = (logits(&of_file, &tokens), logits(&of_folder, &tokens));
        close(&found, &expected, family);
    }
}

#[test]
fn an_adapter_merged_into_a_new_file_gives_the_model_that_it_gives_merged_into_the_folder() {
    for family in TRANSLATED.into_iter().chain(["llama"]) {
        let (folder, kept) = (Folder::new(family), tempfile::tempdir().unwrap());
        let place = |name: &str| kept.path().join(name);
        write(&folder, family, &place("model.gguf"), |_| ());
        let gguf = Checkpoint::open(place("model.gguf").to_str().unwrap()).unwrap();
        let adapter = testing::golden().join("tiny").join(family).join("adapter");
        let adapter = read_peft(&adapter, gguf.config(), &Device::flex());
        let adapter = adapter.unwrap().adapter;
        let config = folder.config.as_object().unwrap().clone();
        let of_folder = merged(&folder.open(), config, &adapter, &place("of_folder"));
        let tokens: Vec<u32> = (1..40).collect();
        let expected = logits(&of_folder, &tokens);
        for encoding in [Encoding::F32, Encoding::Q8_0] {
            let path = place(encoding.name());
            let path = path.with_extension("gguf");
            let summary = merge_into_gguf(&path, &gguf, &adapter, encoding);
            let summary = summary.unwrap_or_else(|error| panic!("{family}: {error}"));
            assert!(summary.merged > 0 && summary.largest_change > 0.0);
            let written = Checkpoint::open(path.to_str().unwrap()).unwrap();
            assert_eq!(written.config(), gguf.config(), "{family}");
            assert_eq!(written.names(), gguf.names(), "{family}");
            let found = logits(&written, &tokens);
            match encoding {
                Encoding::F32 => close(&found, &expected, family),
                _ => assert!(found.iter().all(|logit| logit.is_finite()), "{family}"),
            }
        }
    }
}

#[test]
fn divisors_of_rotary_frequencies_are_in_the_merged_folder() {
    let mut count = 0;
    for family in TRANSLATED {
        let (mut folder, kept) = (Folder::new(family), tempfile::tempdir().unwrap());
        let config = folder.open().config().clone();
        let (ropes, _) = config.ropes();
        // Beside another rule they are refused.
        let is_plain = |rope: &Rope| rope.scaling == RopeScaling::Default;
        if !ropes.iter().all(|(rope, _)| is_plain(rope)) {
            continue;
        }
        let (rope, head) = ropes[0];
        let place = |name: &str| kept.path().join(name);
        let file = |folder: &Folder, name: &str| {
            write(folder, family, &place(name), |_| ());
            Checkpoint::open(place(name).to_str().unwrap()).unwrap()
        };
        let tokens: Vec<u32> = (1..40).collect();
        let without = logits(&file(&folder, "without.gguf"), &tokens);
        let pairs = 0..rope.width(head) / 2;
        folder.divisors = Some(pairs.map(|pair| 1.0 + pair as f32 / 7.0).collect());
        let gguf = file(&folder, "with.gguf");
        let expected = logits(&gguf, &tokens);
        assert_ne!(expected, without, "{family}");
        let config = gguf.translated_config().unwrap().clone();
        let written = merged(&gguf, config, &Adapter::empty(), &place("merged"));
        close(&logits(&written, &tokens), &expected, family);
        count += 1;
    }
    assert!(count >= 6, "{count}");
}

#[test]
fn blocks_kept_as_they_are_give_the_logits_of_their_numbers() {
    for family in TRANSLATED {
        let (folder, kept) = (Folder::new(family), tempfile::tempdir().unwrap());
        let path = kept.path().join("model.gguf");
        write_in(Encoding::Q8_0, &folder, family, &path, |_| ());
        let gguf = Checkpoint::open(path.to_str().unwrap()).unwrap();
        let tokens: Vec<u32> = (1..20).collect();
        let of = |precision| logits_in(precision, &gguf, &tokens);
        let expected = of(BasePrecision::F32);
        close(&of(BasePrecision::AsIs), &expected, family);
        assert!(expected.iter().all(|logit| logit.is_finite()), "{family}");
    }
}

#[test]
fn a_golden_model_as_llama_cpp_writes_it_is_the_folder_s() {
    // A file cannot say that the base grows with the length.
    let families = testing::FAMILIES
        .into_iter()
        .filter(|family| *family != "llama-dynamic");
    families.for_each(check);
}

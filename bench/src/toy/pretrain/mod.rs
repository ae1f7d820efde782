//! Makes the built-in toy model: pre-trains a small Llama on the text of `ivon_lora_toy::text`.
//!
//! ```sh
//! cargo run --release -p bench -- pretrain-toy          # into crates/ivon-lora-toy/src/model
//! cargo run --release -p bench -- pretrain-toy FOLDER   # somewhere else
//! ```
//! This takes two minutes on one core. The same processor gives the same bytes: there is one
//! thread, and every random number is addressed. At the end, the files are read back with the
//! library, and the logits are compared.

mod decoder;
mod files;

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::grad_clipping::GradientClippingConfig;
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::Device;
use ivon_lora::data::{Batch, Tokenizer};
use ivon_lora::forward::Network;
use ivon_lora::lora::Draw;
use ivon_lora::model::{
    Attention, BasePrecision, Checkpoint, DecoderConfig, Ends, LayerKind, Mixer, Mlp, Rope,
    RopeScaling,
};
use ivon_lora_toy::text::{Part, document};

use crate::Failure;
use decoder::Decoder;

/// Where to write the model.
#[derive(clap::Args)]
pub struct Options {
    /// A folder to use instead of the one that the binary is built from.
    folder: Option<PathBuf>,
}

const SEED: u64 = 1;
/// Number of tokens that a row predicts.
const LENGTH: usize = 64;
/// Rows per step.
const BATCH: usize = 16;
const STEPS: u64 = 800;
const WARMUP: u64 = 40;
const LEARNING_RATE: f64 = 3e-3;
/// The written weights are rounded to 16 bits, and the library computes in a different order.
const TOLERANCE: f32 = 2e-2;

fn config(vocab_size: usize) -> DecoderConfig {
    let rope = Rope {
        theta: 10_000.0,
        scaling: RopeScaling::Default,
        partial_rotary_factor: None,
    };
    let attention = Attention::new([4, 2, 32], Some(rope));
    let layer = LayerKind::new(Mixer::Attention(attention), Mlp::new(256));
    DecoderConfig {
        model_type: "llama".into(),
        module: ivon_lora::model::MODEL,
        vocab_size,
        hidden_size: 128,
        num_hidden_layers: 3,
        max_position_embeddings: 256,
        rms_norm_eps: 1e-5,
        layers: vec![layer; 3],
        tie_word_embeddings: true,
        ends: Ends::default(),
    }
}

/// The rows of a part of the text: each consists of whole documents, starts with a begin token and
/// is cut at `LENGTH` + 1 tokens.
struct Rows<'a> {
    tokenizer: &'a tokenizers::Tokenizer,
    part: Part,
    next: u64,
}

impl Rows<'_> {
    fn row(&mut self) -> Result<Vec<u32>, Failure> {
        let mut row = Vec::with_capacity(2 * LENGTH);
        while row.len() <= LENGTH {
            row.extend_from_slice(
                self.tokenizer
                    .encode_fast(document(self.part, SEED, self.next), true)?
                    .get_ids(),
            );
            self.next += 1;
        }
        row.truncate(LENGTH + 1);
        Ok(row)
    }

    fn batch(&mut self, rows: usize) -> Result<Vec<Vec<u32>>, Failure> {
        (0..rows).map(|_| self.row()).collect()
    }
}

/// The factor on the learning rate at a step: linear warm-up, then cosine decay to 0.
fn factor(step: u64) -> f64 {
    if step < WARMUP {
        return (step + 1) as f64 / WARMUP as f64;
    }
    let done = (step - WARMUP) as f64 / (STEPS - WARMUP) as f64;
    0.5 * (1.0 + (std::f64::consts::PI * done).cos())
}

fn scalar(tensor: burn::tensor::Tensor<1>) -> Result<f64, Failure> {
    Ok(f64::from(
        tensor
            .try_into_scalar::<f32>()
            .map_err(|error| format!("{error:?}"))?,
    ))
}

fn pretrain(config: &DecoderConfig, tokenizer: &tokenizers::Tokenizer) -> Result<Decoder, Failure> {
    let device = Device::flex();
    let mut model = Decoder::new(config, SEED, &device.clone().autodiff());
    let mut optimizer = AdamWConfig::new()
        .with_weight_decay(0.0)
        .with_beta_2(0.98)
        .with_epsilon(1e-8);
    optimizer = optimizer.with_grad_clipping(Some(GradientClippingConfig::Norm(1.0)));
    let mut optimizer = optimizer.init();
    let mut training = Rows {
        tokenizer,
        part: Part::Training,
        next: 0,
    };
    let held_out = Rows {
        tokenizer,
        part: Part::HeldOut,
        next: 0,
    }
    .batch(64)?;
    let started = Instant::now();
    let mut mean = 0.0;
    for step in 0..STEPS {
        let loss = model.loss(config, &training.batch(BATCH)?);
        mean += scalar(loss.clone())? / 100.0;
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(LEARNING_RATE * factor(step), model, gradients);
        if (step + 1) % 100 == 0 {
            let unseen = scalar(model.valid().loss(config, &held_out))?;
            let right = answered_right(&model.valid(), config, tokenizer, &held_out)?;
            println!(
                "step {:4}: loss {mean:.4} nats a token; on held-out text {unseen:.4}, {:.1} % of its questions answered right; {:.0} s",
                step + 1,
                100.0 * right,
                started.elapsed().as_secs_f64()
            );
            mean = 0.0;
        }
    }
    Ok(model.valid())
}

/// The share of the questions in these rows for which the model prefers the correct answer, Yes or
/// No.
fn answered_right(
    model: &Decoder,
    config: &DecoderConfig,
    tokenizer: &tokenizers::Tokenizer,
    rows: &[Vec<u32>],
) -> Result<f64, Failure> {
    let id = |word: &str| {
        tokenizer
            .token_to_id(word)
            .ok_or_else(|| format!("`{word}` is no token"))
    };
    let (yes, no) = (id("ĠYes")?, id("ĠNo")?);
    let inputs: Vec<Vec<u32>> = rows.iter().map(|row| row[..LENGTH].to_vec()).collect();
    let logits = model
        .logits(config, &inputs)
        .into_data()
        .try_to_vec::<f32>()
        .map_err(|error| format!("{error:?}"))?;
    let targets = rows.iter().flat_map(|row| &row[1..]).copied();
    let (mut asked, mut right) = (0, 0);
    for (logits, target) in logits
        .chunks_exact(config.vocab_size)
        .zip(targets)
        .filter(|(_, target)| [yes, no].contains(target))
    {
        asked += 1;
        right += usize::from((logits[yes as usize] > logits[no as usize]) == (target == yes));
    }
    Ok(right as f64 / f64::from(asked))
}

/// The largest difference between the logits of the trained model and those of the folder, over
/// held-out text.
fn largest_difference(
    model: &Decoder,
    folder: &Path,
    tokenizer: &tokenizers::Tokenizer,
) -> Result<f32, Failure> {
    let checkpoint = Checkpoint::open(&folder.display().to_string())?;
    let network = Network::new(
        ivon_lora::model::Decoder::load(&checkpoint, BasePrecision::F32)?,
        &Device::flex(),
        false,
    );
    let opened: Tokenizer = checkpoint.tokenizer()?;
    let mut largest = 0.0f32;
    let mut rows = Rows {
        tokenizer,
        part: Part::HeldOut,
        next: 1_000_000,
    };
    for row in rows.batch(8)? {
        let text = document(Part::HeldOut, SEED, rows.next);
        if opened.encode(&text, true)? != tokenizer.encode_fast(text.as_str(), true)?.get_ids() {
            return Err("the written tokenizer differs from the one that was used".into());
        }
        let trained = model
            .logits(checkpoint.config(), std::slice::from_ref(&row))
            .into_data();
        let mut batch = Batch::default();
        batch.push(&row, None, 0);
        batch.asked = (0..row.len()).collect();
        let hidden = network.hidden(&batch, &Draw::base());
        let every: Vec<u32> = (0..checkpoint.config().vocab_size as u32).collect();
        let found = network.logits_of(&hidden, &every).into_data();
        let [trained, found] =
            [trained, found].map(|data| data.try_to_vec::<f32>().expect("f32 on the host"));
        largest = trained
            .iter()
            .zip(&found)
            .map(|(a, b)| (a - b).abs())
            .fold(largest, f32::max);
    }
    Ok(largest)
}

/// Pre-trains the model, writes it and reads it back.
pub fn run(options: &Options) -> Result<(), Failure> {
    // One thread fixes the order of every sum.
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build_global()?;
    let own = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../crates/ivon-lora-toy/src/model"
    );
    let folder = options.folder.clone().unwrap_or_else(|| PathBuf::from(own));
    let tokenizer = files::tokenizer(SEED)?;
    let config = config(tokenizer.get_vocab_size(true));
    let model = pretrain(&config, &tokenizer)?;
    files::write_folder(&folder, &config, &tokenizer, &model.named())?;
    let parameters: usize = model
        .named()
        .iter()
        .map(|(_, _, values)| values.len())
        .sum();
    println!(
        "{parameters} parameters, {} tokens, written to `{}`",
        config.vocab_size,
        folder.display()
    );
    let difference = largest_difference(&model, &folder, &tokenizer)?;
    println!("logits read back differ by at most {difference:.4}");
    if difference > TOLERANCE {
        return Err(format!("that is more than {TOLERANCE}").into());
    }
    Ok(())
}

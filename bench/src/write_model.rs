//! The name of a shape → a GGUF file of that shape with random weights, or a Hugging Face folder for
//! other families than Llama's, for measurements in which only the size matters.
//!
//! Quantised blocks are not computed from numbers: their bytes are drawn at random. Any 32 quants
//! next to a scale form a valid block, so seven billion numbers take only as long as writing them.
//! Each tensor streams through a buffer of a few hundred kilobytes.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use half::f16;
use ivon_lora::model::gguf::{GgufFile, GgufWriter, Metadata, Value};
use ivon_lora::model::{DecoderConfig, Encoding};
use ivon_lora::random::{Purpose, stream};
use rand_core::Rng;

use crate::{Failure, shapes, write_folder};

/// What to write.
#[derive(clap::Args)]
pub struct Options {
    /// Such as `smollm2-135m`, `llama-2-7b`, `gemma-3-270m`; another name lists them all.
    #[arg(long)]
    shape: String,
    /// The encoding of matrices: `q4_0`, `q8_0` or `f16`; norms are F32.
    #[arg(long, default_value = "q4_0")]
    encoding: String,
    /// A GGUF file whose tokenizer is used, cut to the shape's number of tokens; without it, every
    /// byte is a token.
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// The seed of the random numbers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The output file.
    #[arg(long)]
    out: PathBuf,
}

/// Number of blocks drawn at a time.
const AT_ONCE: usize = 8192;

/// Writes the file and prints its size.
pub fn run(options: &Options) -> Result<(), Failure> {
    let config = shapes::named(&options.shape).ok_or_else(|| {
        format!(
            "there is no shape `{}`, there are {}",
            options.shape,
            shapes::names().join(", ")
        )
    })?;
    if shapes::config_json(&options.shape).is_some() {
        write_folder::write(&options.out, &options.shape, options.seed)?;
        let parameters = shapes::parameters(&config);
        println!("`{}`: {parameters} parameters", options.out.display());
        return Ok(());
    }
    let encoding = match options.encoding.as_str() {
        "q4_0" => Encoding::Q4_0,
        "q8_0" => Encoding::Q8_0,
        "f16" => Encoding::F16,
        other => {
            return Err(
                format!("the encoding is `{other}`, expected `q4_0`, `q8_0` or `f16`").into(),
            );
        }
    };
    let tokenizer = match &options.tokenizer {
        Some(path) => tokenizer_of(&GgufFile::open(path)?, config.vocab_size)?,
        None => bytes_as_tokens(),
    };
    write(&options.out, &config, encoding, tokenizer, options.seed)?;
    let bytes = std::fs::metadata(&options.out)?.len();
    println!(
        "`{}`: {} parameters, {bytes} bytes",
        options.out.display(),
        shapes::parameters(&config)
    );
    Ok(())
}

/// Writes a model of this shape; equal arguments give equal bytes.
///
/// # Errors
/// If the rows of a matrix are not a whole number of blocks, or the file cannot be written.
pub fn write(
    path: &Path,
    config: &DecoderConfig,
    encoding: Encoding,
    tokenizer: Vec<(String, Metadata)>,
    seed: u64,
) -> Result<(), Failure> {
    let mut writer = GgufWriter::new("llama");
    for (key, value) in shape_metadata(config).into_iter().chain(tokenizer) {
        writer.set(&key, value);
    }
    let tensors = tensors(config);
    for (name, shape) in &tensors {
        writer.tensor(
            name,
            shape,
            if shape.len() == 1 {
                Encoding::F32
            } else {
                encoding
            },
        )?;
    }
    writer.write(path, |name, out| {
        match tensors
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, shape)| shape.as_slice())
        {
            Some([rows, columns]) => random_matrix(
                encoding,
                *rows,
                *columns,
                &mut stream(seed, Purpose::Generation, 0, 0, name),
                out,
            ),
            Some(shape) => {
                (0..shape.iter().product()).try_for_each(|_| out.write_all(&1f32.to_le_bytes()))
            }
            None => Ok(()),
        }
    })?;
    Ok(())
}

/// The metadata that llama.cpp's converter writes for a Llama.
fn shape_metadata(config: &DecoderConfig) -> Vec<(String, Metadata)> {
    let whole = [
        ("block_count", config.num_hidden_layers),
        ("context_length", config.max_position_embeddings),
        ("embedding_length", config.hidden_size),
        ("feed_forward_length", config.intermediate_size()),
        ("attention.head_count", config.heads()[0]),
        ("attention.head_count_kv", config.heads()[1]),
        ("rope.dimension_count", config.heads()[2]),
        ("vocab_size", config.vocab_size),
    ]
    .map(|(key, value)| (key, Metadata::U32(value as u32)));
    let real = [
        ("attention.layer_norm_rms_epsilon", config.rms_norm_eps),
        ("rope.freq_base", config.ropes().0[0].0.theta),
    ]
    .map(|(key, value)| (key, Metadata::F32(value as f32)));
    whole
        .into_iter()
        .chain(real)
        .map(|(key, value)| (format!("llama.{key}"), value))
        .collect()
}

/// GGUF names and shapes of all tensors.
fn tensors(config: &DecoderConfig) -> Vec<(String, Vec<usize>)> {
    let table = vec![config.vocab_size, config.hidden_size];
    let norm = vec![config.hidden_size];
    let mut tensors = vec![
        ("token_embd.weight".to_string(), table.clone()),
        ("output_norm.weight".into(), norm.clone()),
    ];
    if !config.tie_word_embeddings {
        tensors.push(("output.weight".into(), table));
    }
    for layer in 0..config.num_hidden_layers {
        tensors.push((format!("blk.{layer}.attn_norm.weight"), norm.clone()));
        tensors.push((format!("blk.{layer}.ffn_norm.weight"), norm.clone()));
    }
    for (path, linear) in config.linears() {
        let name = config.family().to_gguf(&path.tensor("weight"));
        tensors.extend(name.map(|name| (name, linear.shape.to_vec())));
    }
    tensors
}

/// Random numbers with mean 0 and standard deviation 1/√columns, already encoded.
///
/// Quants are uniform over their range of n values, with one more value below zero than above, so
/// their mean is −½; the sign of the scale is random as well, which makes the overall mean 0. The
/// mean square of the quants is (n² − 1) / 12 + ¼ = (n² + 2) / 12.
fn random_matrix(
    encoding: Encoding,
    rows: usize,
    columns: usize,
    random: &mut impl Rng,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (numbers, bytes) = encoding.block();
    let deviation = 1.0 / (columns as f32).sqrt();
    let uniform = |values: f32| ((values * values + 2.0) / 12.0).sqrt();
    let mut buffer = vec![0; AT_ONCE * bytes];
    let mut left = rows * columns / numbers;
    while left > 0 {
        let blocks = left.min(AT_ONCE);
        let drawn = &mut buffer[..blocks * bytes];
        random.fill_bytes(drawn);
        match encoding {
            Encoding::Q4_0 => drawn
                .chunks_exact_mut(bytes)
                .for_each(|block| scale(block, deviation / uniform(16.0))),
            Encoding::Q8_0 => drawn
                .chunks_exact_mut(bytes)
                .for_each(|block| scale(block, deviation / uniform(256.0))),
            _ => drawn.as_chunks_mut().0.iter_mut().for_each(|number| {
                let whole = f32::from(i16::from_le_bytes(*number));
                *number = f16::from_f32(whole * deviation / uniform(65_536.0)).to_le_bytes();
            }),
        }
        out.write_all(drawn)?;
        left -= blocks;
    }
    Ok(())
}

/// Writes the scale in front of a block's quants, with the sign that was drawn in its place.
fn scale(block: &mut [u8], size: f32) {
    let signed = if block[0] & 1 == 0 { size } else { -size };
    block[..2].copy_from_slice(&f16::from_f32(signed).to_le_bytes());
}

/// A tokenizer in which every byte is a token, and so is every ASCII letter preceded by a space (as
/// in the tasks' answers).
pub fn bytes_as_tokens() -> Vec<(String, Metadata)> {
    let mut tokens: Vec<String> = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet()
        .into_iter()
        .map(String::from)
        .collect();
    tokens.sort();
    let letters: Vec<String> = ('A'..='Z').chain('a'..='z').map(String::from).collect();
    tokens.extend(letters.iter().map(|letter| format!("Ġ{letter}")));
    let merges = letters.iter().map(|letter| format!("Ġ {letter}")).collect();
    vec![
        ("tokenizer.ggml.model".into(), Metadata::Text("gpt2".into())),
        ("tokenizer.ggml.pre".into(), Metadata::Text("gpt-2".into())),
        ("tokenizer.ggml.tokens".into(), Metadata::Texts(tokens)),
        ("tokenizer.ggml.merges".into(), Metadata::Texts(merges)),
    ]
}

/// The tokenizer of another file, cut to its first `vocab_size` tokens and the merges among them.
///
/// # Errors
/// If the file's entries cannot be read.
fn tokenizer_of(file: &GgufFile, vocab_size: usize) -> Result<Vec<(String, Metadata)>, Failure> {
    let mut entries = Vec::new();
    for (key, value) in file.metadata() {
        if !key.starts_with("tokenizer.") {
            continue;
        }
        let value = match value {
            Value::Bool(flag) => Some(Metadata::Bool(*flag)),
            Value::Text(text) => Some(Metadata::Text(text.clone())),
            Value::Float(number) => Some(Metadata::F32(*number as f32)),
            // A special token beyond the end was cut off.
            Value::Unsigned(number) => {
                (*number < vocab_size as u64).then_some(Metadata::U32(*number as u32))
            }
            Value::Signed(_) => None,
            Value::Array(_) => cut_list(file, key, vocab_size)?,
        };
        entries.extend(value.map(|value| (key.clone(), value)));
    }
    Ok(entries)
}

/// A list of the tokenizer, cut to the first `vocab_size` tokens; none if it is not about tokens.
fn cut_list(file: &GgufFile, key: &str, vocab_size: usize) -> Result<Option<Metadata>, Failure> {
    let texts = || file.texts(key).map(Option::unwrap_or_default);
    let numbers = || {
        let numbers = file.numbers(key)?.unwrap_or_default();
        Ok::<_, Failure>(numbers.into_iter().take(vocab_size))
    };
    let (_, list) = key.rsplit_once('.').unwrap_or_default();
    Ok(Some(match list {
        "merges" => Metadata::Texts(merges_within(file, texts()?, vocab_size)?),
        "tokens" => Metadata::Texts(
            texts()?
                .into_iter()
                .take(vocab_size)
                .map(String::from)
                .collect(),
        ),
        "token_type" => Metadata::I32s(numbers()?.map(|kind| kind as i32).collect()),
        "scores" => Metadata::F32s(numbers()?.map(|score| score as f32).collect()),
        _ => return Ok(None),
    }))
}

/// The merges whose parts and result are among the first `vocab_size` tokens.
fn merges_within(
    file: &GgufFile,
    merges: Vec<&str>,
    vocab_size: usize,
) -> Result<Vec<String>, Failure> {
    let tokens = file.texts("tokenizer.ggml.tokens")?.unwrap_or_default();
    let known: HashSet<&str> = tokens.into_iter().take(vocab_size).collect();
    let is_within = |merge: &&str| {
        merge.split_once(' ').is_some_and(|(left, right)| {
            let parts = [left, right, &format!("{left}{right}")];
            parts.iter().all(|part| known.contains(part))
        })
    };
    let kept = merges.into_iter().filter(is_within);
    Ok(kept.map(String::from).collect())
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use ivon_lora::data::Batch;
    use ivon_lora::forward::Network;
    use ivon_lora::lora::Draw;
    use ivon_lora::model::{BasePrecision, Checkpoint, Decoder};

    use super::*;

    fn written(folder: &Path, encoding: Encoding) -> PathBuf {
        let path = folder.join(format!("{}.gguf", encoding.name()));
        write(
            &path,
            &shapes::named("tiny").unwrap(),
            encoding,
            bytes_as_tokens(),
            1,
        )
        .unwrap();
        path
    }

    fn logits(checkpoint: &Checkpoint, precision: BasePrecision, tokens: &[u32]) -> Vec<f32> {
        let network = Network::new(
            Decoder::load(checkpoint, precision).unwrap(),
            &Device::flex(),
            false,
        );
        let mut batch = Batch::default();
        let prompt = batch.push(tokens, None, 0);
        batch.ask_last(prompt);
        let hidden = network.hidden(&batch, &Draw::base());
        network
            .logits_of(&hidden, &(0..512).collect::<Vec<_>>())
            .into_data()
            .try_to_vec()
            .unwrap()
    }

    #[test]
    fn a_written_model_opens_tokenises_and_runs_in_every_encoding() {
        let folder = tempfile::tempdir().unwrap();
        for encoding in [Encoding::Q4_0, Encoding::Q8_0, Encoding::F16] {
            let checkpoint =
                Checkpoint::open(&written(folder.path(), encoding).display().to_string()).unwrap();
            assert_eq!(
                checkpoint.config(),
                &DecoderConfig {
                    rms_norm_eps: f64::from(1e-5f32),
                    ..shapes::named("tiny").unwrap()
                }
            );
            assert_eq!(
                checkpoint.parameters(),
                shapes::parameters(checkpoint.config()) as u64
            );
            let tokenizer = checkpoint.tokenizer().unwrap();
            assert_eq!(tokenizer.encode(" A", false).unwrap().len(), 1);
            let tokens = tokenizer.encode("Which one? A. é Answer:", true).unwrap();
            let [widened, kept] = [BasePrecision::F32, BasePrecision::AsIs]
                .map(|precision| logits(&checkpoint, precision, &tokens));
            let largest = widened.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            // 512 outputs of variance about 1.
            assert!(
                widened.iter().all(|x| x.is_finite()) && (2.0..6.0).contains(&largest),
                "{largest}"
            );
            assert!(
                widened
                    .iter()
                    .zip(&kept)
                    .all(|(a, b)| (a - b).abs() <= 1e-3 * largest)
            );
        }
    }

    #[test]
    fn random_blocks_have_mean_0_and_the_deviation_of_a_linear_layer() {
        let folder = tempfile::tempdir().unwrap();
        for encoding in [Encoding::Q4_0, Encoding::Q8_0, Encoding::F16] {
            let checkpoint =
                Checkpoint::open(&written(folder.path(), encoding).display().to_string()).unwrap();
            let values = checkpoint.tensor("lm_head.weight").unwrap().to_f32();
            let count = values.len() as f64;
            let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
            let square = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / count;
            // 32,768 numbers with standard deviation 1/8; those of a block share an offset of half
            // a step, with the scale's sign.
            assert!(
                mean.abs() < 0.004 && (square.sqrt() - 0.125).abs() < 0.002,
                "{} {mean} {}",
                encoding.name(),
                square.sqrt()
            );
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let first = std::fs::read(written(folder.path(), Encoding::Q4_0)).unwrap();
        assert_eq!(
            first,
            std::fs::read(written(folder.path(), Encoding::Q4_0)).unwrap()
        );
    }

    #[test]
    fn a_tokenizer_is_cut_to_fewer_tokens_and_still_works() {
        let folder = tempfile::tempdir().unwrap();
        let file = GgufFile::open(&written(folder.path(), Encoding::Q4_0)).unwrap();
        // 256 bytes and ` A` to ` J`.
        let cut = tokenizer_of(&file, 266).unwrap();
        let path = folder.path().join("cut.gguf");
        write(
            &path,
            &shapes::named("tiny").unwrap(),
            Encoding::F16,
            cut,
            1,
        )
        .unwrap();
        let tokenizer = Checkpoint::open(&path.display().to_string())
            .unwrap()
            .tokenizer()
            .unwrap();
        assert_eq!(
            [" A", " J", " K"].map(|text| tokenizer.encode(text, false).unwrap().len()),
            [1, 1, 2]
        );
    }
}

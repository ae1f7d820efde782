//! A Hugging Face folder of a shape with random weights in BF16: `config.json` and one file of
//! weights, for measurements in which only the size matters.

use std::io::{self, Write};
use std::path::Path;

use half::bf16;
use ivon_lora::model::DecoderConfig;
use ivon_lora::random::{Purpose, stream, uniform};
use serde_json::{Map, json};

use crate::{Failure, shapes};

/// Numbers written at a time.
const AT_ONCE: usize = 1 << 16;

/// Writes a model of this name; equal arguments give equal bytes.
///
/// # Errors
/// If there is no such shape, or a file cannot be written.
pub fn write(folder: &Path, name: &str, seed: u64) -> Result<(), Failure> {
    let text = shapes::config_json(name).ok_or_else(|| format!("there is no shape `{name}`"))?;
    let config = DecoderConfig::from_json(text, name)?;
    ivon_lora::files::create_folder(folder)?;
    ivon_lora::files::write_bytes(&folder.join("config.json"), text.as_bytes())?;
    let tensors = config.tensors();
    let (mut header, mut offset) = (Map::new(), 0);
    for (name, shape) in &tensors {
        let end = offset + 2 * shape.iter().product::<usize>();
        let entry = json!({ "dtype": "BF16", "shape": shape, "data_offsets": [offset, end] });
        header.insert(name.clone(), entry);
        offset = end;
    }
    let header = serde_json::to_vec(&header)?;
    ivon_lora::files::write_with(&folder.join("model.safetensors"), |out| -> io::Result<()> {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        tensors
            .iter()
            .try_for_each(|(name, shape)| write_tensor(out, name, shape, seed))
    })?;
    Ok(())
}

/// Uniform numbers with mean 0 and standard deviation 1/√columns; vectors are all ones.
fn write_tensor(out: &mut impl Write, name: &str, shape: &[usize], seed: u64) -> io::Result<()> {
    let mut left: usize = shape.iter().product();
    let columns = shape.get(1).copied();
    let width = columns.map_or(0.0, |columns| (3.0 / columns as f64).sqrt());
    let mut random = stream(seed, Purpose::Generation, 0, 0, name);
    let mut bytes = Vec::with_capacity(2 * AT_ONCE);
    while left > 0 {
        bytes.clear();
        for _ in 0..left.min(AT_ONCE) {
            let number = match columns {
                Some(_) => width * (2.0 * uniform(&mut random) - 1.0),
                None => 1.0,
            };
            bytes.extend(bf16::from_f64(number).to_le_bytes());
        }
        left -= left.min(AT_ONCE);
        out.write_all(&bytes)?;
    }
    Ok(())
}

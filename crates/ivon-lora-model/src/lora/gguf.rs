//! An adapter ↔ a GGUF file of the kind that llama.cpp's `--lora` loads.
//!
//! llama.cpp multiplies B A by `adapter.lora.alpha` / r, with the r of each layer. Where the adapter's
//! own factor is another one (rsLoRA, patterns of ranks or alphas), B is multiplied by the ratio. Rows
//! of B and columns of A follow those of the base, which llama.cpp's converter moves for some
//! architectures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::tensor::Device;

use super::portable::{PortablePair, adapter_of_pairs, portable_pairs};
use super::{Adapter, HostMatrix, LoraError, PeftAdapter};
use crate::model::gguf::{GgufFile, GgufWriter, Metadata};
use crate::model::{Change, DecoderConfig, Encoding, LinearPath, ModelError, Order, StoredTensor};

const FORMAT: &str = "GGUF";

/// Writes an adapter of a base of this shape; `alpha` is the adapter's `lora_alpha`, which must not be
/// 0.
///
/// # Errors
/// [`LoraError::NotPortable`] if the adapter has more than A and B, llama.cpp does not know the
/// architecture, or a layer has no name there; if the file cannot be written.
pub fn write_gguf_adapter(
    path: &Path,
    adapter: &Adapter,
    alpha: f64,
    decoder: &DecoderConfig,
) -> Result<(), LoraError> {
    let refused = |what| LoraError::NotPortable {
        format: FORMAT,
        what,
    };
    let architecture = decoder.gguf_architecture();
    let architecture =
        architecture.ok_or_else(|| refused("an architecture without a name there"))?;
    let mut writer = GgufWriter::new(architecture);
    writer.set("general.type", Metadata::Text("adapter".into()));
    writer.set("adapter.type", Metadata::Text("lora".into()));
    writer.set("adapter.lora.alpha", Metadata::F32(alpha as f32));
    let mut tensors = BTreeMap::new();
    for pair in portable_pairs(adapter, FORMAT)? {
        let named = decoder.in_gguf(pair.path);
        let (name, order) = named.ok_or_else(|| refused("a layer without a name there"))?;
        let [a, b] = in_order(pair, alpha, order);
        tensors.insert(format!("{name}.lora_a"), a);
        tensors.insert(format!("{name}.lora_b"), b);
    }
    for (name, matrix) in &tensors {
        let declared = writer.tensor(name, &matrix.shape, Encoding::F32);
        declared.map_err(|_| refused("a tensor that cannot be stored"))?;
    }
    let values = |name: &str| {
        tensors
            .get(name)
            .map_or_else(Vec::new, |m| m.values.clone())
    };
    Ok(writer.write_f32(path, values)?)
}

/// Reads an adapter for a base of this shape.
///
/// # Errors
/// If it is no such file, it adapts what is no linear layer of this base, or a matrix does not fit.
pub fn read_gguf_adapter(
    path: &Path,
    decoder: &DecoderConfig,
    device: &Device,
) -> Result<PeftAdapter, LoraError> {
    let malformed = |reason: String| LoraError::Malformed {
        path: path.into(),
        expected: "a LoRA adapter of llama.cpp",
        reason,
    };
    let of_file = |error: ModelError| malformed(error.to_string());
    let file = GgufFile::open(path).map_err(of_file)?;
    for (key, expected) in [("general.type", "adapter"), ("adapter.type", "lora")] {
        let found = file.text(key).map_err(of_file)?.unwrap_or("absent");
        if found != expected {
            return Err(malformed(format!(
                "`{key}` is `{found}`, expected `{expected}`"
            )));
        }
    }
    // With an alpha of 0, llama.cpp adds B A as it is.
    let alpha = file
        .float("adapter.lora.alpha")
        .map_err(of_file)?
        .filter(|alpha| *alpha != 0.0);
    let mut unread: BTreeSet<&str> = file.tensors().keys().map(String::as_str).collect();
    let mut pairs = Vec::new();
    for (path, _) in decoder.linears() {
        let Some((name, order)) = decoder.in_gguf(path) else {
            continue;
        };
        let [a, b] = ["lora_a", "lora_b"].map(|part| format!("{name}.{part}"));
        if !unread.remove(a.as_str()) {
            continue;
        }
        unread.remove(b.as_str());
        let [a, b] = [
            matrix(&file, &a, Side::Columns(order))?,
            matrix(&file, &b, Side::Rows(order))?,
        ];
        pairs.push(pair(path, a, b, alpha));
    }
    match unread.first() {
        Some(name) => Err(LoraError::UnknownTensor {
            path: path.into(),
            name: (*name).into(),
            reason: "this base has no such linear layer".into(),
        }),
        None if pairs.is_empty() => Err(malformed("it has no tensor".into())),
        None => adapter_of_pairs(pairs, path, decoder, device),
    }
}

fn pair(path: LinearPath, a: HostMatrix, b: HostMatrix, alpha: Option<f64>) -> PortablePair {
    let rank = a.shape[0].max(1) as f64;
    PortablePair {
        path,
        a,
        b,
        scale: alpha.map_or(1.0, |alpha| alpha / rank),
    }
}

/// On which side of a matrix the order is that of the base.
#[derive(Clone, Copy)]
enum Side {
    Rows(Order),
    Columns(Order),
}

/// A matrix in the order of the checkpoint.
fn matrix(file: &GgufFile, name: &str, side: Side) -> Result<HostMatrix, LoraError> {
    let path = || file.name().into();
    let entry = file
        .tensors()
        .get(name)
        .ok_or_else(|| LoraError::MissingTensor {
            path: path(),
            name: name.into(),
        })?;
    let malformed = |reason: &str| LoraError::Malformed {
        path: path(),
        expected: "a LoRA adapter of llama.cpp",
        reason: format!("tensor `{name}` {reason}"),
    };
    let &[rows, columns] = entry.shape.as_slice() else {
        return Err(malformed("is no matrix"));
    };
    let encoding = Encoding::from_ggml_type(entry.ggml_type);
    let encoding = encoding.ok_or_else(|| malformed("has an encoding that is not read"))?;
    let order = match side {
        Side::Rows(order @ (Order::Kept | Order::Interleaved(_) | Order::Rows(_)))
        | Side::Columns(order @ Order::Columns(_)) => order,
        Side::Rows(_) | Side::Columns(_) => Order::Kept,
    };
    let bytes = file.bytes(entry);
    let shape = entry.shape.clone();
    let stored = StoredTensor::new(name.into(), shape, encoding, bytes, Change::of_order(order));
    let values = stored.map(|stored| stored.to_f32());
    let values = values.ok_or_else(|| malformed("does not fit the heads of the base"))?;
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(HostMatrix::new([rows, columns], values)),
        false => Err(malformed("has a number that is not finite")),
    }
}

/// A and B with the factor alpha / r, in the order of the base's rows and columns.
fn in_order(pair: PortablePair, alpha: f64, order: Order) -> [HostMatrix; 2] {
    let PortablePair { a, b, scale, .. } = pair;
    let [rank, columns] = a.shape;
    let [rows, _] = b.shape;
    let b = b.times(scale * rank as f64 / alpha);
    let (mut stored_a, mut stored_b) = (a.clone(), b.clone());
    for row in 0..rows {
        let to = order.stored_row(row);
        stored_b.values[to * rank..(to + 1) * rank]
            .copy_from_slice(&b.values[row * rank..(row + 1) * rank]);
    }
    for column in 0..columns {
        let to = order.stored_column(column);
        for row in 0..rank {
            stored_a.values[row * columns + to] = a.values[row * columns + column];
        }
    }
    [stored_a, stored_b]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gguf::GgufFile;
    use crate::testing::tiny::{adapter, decoder};

    fn written(adapter: &Adapter, alpha: f64) -> (tempfile::TempDir, GgufFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        write_gguf_adapter(&path, adapter, alpha, &decoder(4)).unwrap();
        let file = GgufFile::open(&path).unwrap();
        (folder, file)
    }

    fn numbers(file: &GgufFile, name: &str) -> Vec<f32> {
        let bytes = file.bytes(&file.tensors()[name]);
        let number = |four: &[u8]| f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
        bytes.chunks(4).map(number).collect()
    }

    #[test]
    fn the_file_has_a_and_b_with_the_rows_of_q_as_llama_cpp_has_them() {
        let adapter = adapter(4, "q_proj");
        let pairs = portable_pairs(&adapter, FORMAT).unwrap();
        let pair = &pairs[0];
        let rank = pair.a.shape[0];
        let (_folder, file) = written(&adapter, pair.scale * rank as f64);
        assert_eq!(file.text("general.type").unwrap(), Some("adapter"));
        assert_eq!(file.text("adapter.type").unwrap(), Some("lora"));
        assert_eq!(numbers(&file, "blk.0.attn_q.weight.lora_a"), pair.a.values);
        let head = decoder(4).heads()[2];
        // llama.cpp's permute: reshape(heads, 2, head / 2, columns).swapaxes(1, 2).
        let mut permuted: Vec<f32> = Vec::new();
        for first in (0..pair.b.shape[0]).step_by(head) {
            for within in 0..head / 2 {
                for half in 0..2 {
                    let row = first + half * (head / 2) + within;
                    permuted.extend(&pair.b.values[row * rank..(row + 1) * rank]);
                }
            }
        }
        assert_eq!(numbers(&file, "blk.0.attn_q.weight.lora_b"), permuted);
    }

    #[test]
    fn another_factor_than_alpha_by_r_is_in_b() {
        let adapter = adapter(4, "v_proj").with_scaling(3.0);
        let pairs = portable_pairs(&adapter, FORMAT).unwrap();
        let rank = pairs[0].a.shape[0];
        let (_folder, file) = written(&adapter, rank as f64);
        assert_eq!(file.float("adapter.lora.alpha").unwrap(), Some(rank as f64));
        let thrice: Vec<f32> = pairs[0].b.values.iter().map(|value| value * 3.0).collect();
        assert_eq!(numbers(&file, "blk.0.attn_v.weight.lora_b"), thrice);
    }

    #[test]
    fn what_was_written_is_read_again() {
        let device = Device::flex();
        for targets in ["q_proj", "k_proj", "o_proj", "down_proj"] {
            let adapter = adapter(4, targets).with_scaling(3.0);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.gguf");
            write_gguf_adapter(&path, &adapter, 8.0, &decoder(4)).unwrap();
            let read = read_gguf_adapter(&path, &decoder(4), &device).unwrap();
            let own = portable_pairs(&adapter, FORMAT).unwrap();
            let found = portable_pairs(&read.adapter, FORMAT).unwrap();
            assert_eq!(own.len(), found.len());
            for (own, found) in own.into_iter().zip(found) {
                assert_eq!((own.path, &own.a), (found.path, &found.a));
                let [own, found] = [own, found].map(|pair| pair.b.times(pair.scale));
                let pairs = own.values.iter().zip(&found.values);
                assert!(
                    pairs
                        .into_iter()
                        .all(|(own, found)| (own - found).abs() < 1e-6)
                );
            }
            assert_eq!(read.config.alpha, 8.0);
        }
    }

    #[test]
    fn a_file_that_is_no_adapter_of_this_base_is_refused() {
        let device = Device::flex();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        let adapter = adapter(4, "q_proj");
        write_gguf_adapter(&path, &adapter, 8.0, &decoder(4)).unwrap();
        let mut other = decoder(4);
        other.layers.pop();
        other.num_hidden_layers -= 1;
        let error = read_gguf_adapter(&path, &other, &device).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("this base has no such linear layer"),
            "{error}"
        );
        let mut writer = GgufWriter::new("llama");
        writer.set("general.type", Metadata::Text("model".into()));
        writer
            .tensor("token_embd.weight", &[1], Encoding::F32)
            .unwrap();
        writer.write_f32(&path, |_| vec![1.0]).unwrap();
        let error = read_gguf_adapter(&path, &decoder(4), &device).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("`general.type` is `model`, expected `adapter`"),
            "{error}"
        );
    }

    #[test]
    fn what_is_more_than_a_and_b_is_refused() {
        let path = Path::new("/nowhere/a.gguf");
        let error = write_gguf_adapter(path, &Adapter::empty(), 1.0, &decoder(4)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the adapter has no layer, which GGUF adapters cannot hold"
        );
    }
}

//! A new adapter, initialised as in PEFT: A Kaiming-uniform and B zero, or for the embeddings A zero
//! and B standard normal, so that the adapted model equals the base.

use burn::tensor::Device;
use ivon::noise::{self, Address};

use super::adapter::AdaptedLinear;
use super::layer_options::LayerOptions;
use super::table::{AdaptedTable, EMBEDDING_FACTORS, factor_shapes};
use super::target::{Target, resolve_tables, saved_tables};
use super::{Adapter, HostMatrix, LoraConfig, LoraError, LoraPair, resolve_targets};
use crate::model::{DecoderConfig, LinearPath, Table};
use crate::random::{Purpose, stream, uniform};

impl Adapter {
    /// A new adapter for a decoder of this shape.
    ///
    /// A is uniform in (−1/√in, 1/√in), with standard deviation 1/√(3·in): Kaiming's rule with
    /// PEFT's a = √5; B is 0. The numbers are addressed by `seed` and the parameter's path: they do
    /// not depend on other layers or the device.
    ///
    /// With `use_dora`, magnitudes are still to be set: [`Self::with_magnitudes`]; and so are whole
    /// tables: [`Self::with_whole_tables`].
    ///
    /// # Errors
    /// If the options are invalid, or match no layer that can be adapted.
    pub fn new(
        config: &LoraConfig,
        decoder: &DecoderConfig,
        seed: u64,
        device: &Device,
    ) -> Result<Self, LoraError> {
        let targets = resolve_targets(config, decoder)?;
        let options = config.layer_options()?;
        let tables = resolve_tables(config, decoder)?;
        let adapted = targets.iter().map(|path| Target::Linear(*path));
        let adapted = adapted.chain(tables.iter().map(|table| Target::Table(*table)));
        options.refuse_unmatched(&adapted.collect::<Vec<_>>())?;
        let all = decoder.linears();
        let adapted = all.iter().filter(|(path, _)| targets.contains(path));
        let linears = adapted.map(|&(path, shape)| {
            let [out, inputs] = shape.shape;
            let rank = options.rank(path);
            let a = kaiming_uniform(rank, inputs, seed, &path.part("lora_A"));
            let b = vec![0.0; out * rank];
            let pair = LoraPair {
                lora_A: HostMatrix::new([rank, inputs], a).parameter(device),
                lora_B: HostMatrix::new([out, rank], b).parameter(device),
                lora_magnitude_vector: None,
                side: None,
            };
            AdaptedLinear { path, pair }
        });
        let adapter = Self {
            linears: linears.collect(),
            decoder: all.iter().map(|(path, _)| *path).collect(),
            scaling: config.scaling_in(decoder)?,
            ..Self::empty()
        };
        let start = |table| new_factors(table, &options, decoder, seed);
        let tables = tables
            .into_iter()
            .map(|table| AdaptedTable::low_rank(table, start(table), device));
        Ok(tables.fold(adapter, Self::with_table))
    }
}

impl Adapter {
    /// With the tables of `modules_to_save`, which start as those of the base: `base` returns its
    /// table, row by row.
    ///
    /// # Errors
    /// If the options name a layer that is not a table, or a table with A and B.
    pub fn with_whole_tables(
        self,
        config: &LoraConfig,
        decoder: &DecoderConfig,
        base: impl Fn(Table) -> Vec<f32>,
        device: &Device,
    ) -> Result<Self, LoraError> {
        let shape = [decoder.vocab_size, decoder.hidden_size];
        let saved = |table: Table| {
            let values = HostMatrix::new(shape, base(table));
            AdaptedTable::saved(table, values, device)
        };
        let tables = saved_tables(config, decoder)?.into_iter();
        Ok(tables.map(saved).fold(self, Self::with_table))
    }

    /// With these magnitudes of rows for each linear layer, such as the lengths of the rows of W,
    /// with which DoRA starts.
    #[must_use]
    pub fn with_magnitudes(
        mut self,
        mut magnitudes: impl FnMut(LinearPath) -> Vec<f32>,
        device: &Device,
    ) -> Self {
        for linear in &mut self.linears {
            let values = magnitudes(linear.path);
            let matrix = HostMatrix::new([values.len(), 1], values);
            linear.pair.lora_magnitude_vector = Some(matrix.parameter(device));
        }
        self
    }
}

/// A and B of a table.
fn new_factors(
    table: Table,
    options: &LayerOptions<'_>,
    decoder: &DecoderConfig,
    seed: u64,
) -> [HostMatrix; 2] {
    let shapes = factor_shapes(table, decoder, options.rank(table));
    let [a, b] = shapes.map(|[rows, columns]| vec![0.0; rows * columns]);
    let (a, b) = match table {
        Table::EmbedTokens => {
            let mut normals = b;
            let path = format!("{}.{}", table.name(), EMBEDDING_FACTORS[1]);
            let address = Address {
                seed,
                purpose: noise::Purpose::Start,
                step: 0,
                draw: 0,
            };
            address.fill(&path, &mut normals);
            (a, normals)
        }
        Table::LmHead => {
            let [rank, hidden] = shapes[0];
            let path = format!("{}.lora_A", table.name());
            (kaiming_uniform(rank, hidden, seed, &path), b)
        }
    };
    [HostMatrix::new(shapes[0], a), HostMatrix::new(shapes[1], b)]
}

/// `rows · inputs` numbers uniform in (−1/√inputs, 1/√inputs).
fn kaiming_uniform(rows: usize, inputs: usize, seed: u64, path: &str) -> Vec<f32> {
    let bound = 1.0 / (inputs as f64).sqrt();
    let mut numbers = stream(seed, Purpose::Initialisation, 0, 0, path);
    (0..rows * inputs)
        .map(|_| (bound * (2.0 * uniform(&mut numbers) - 1.0)) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora::TargetModules;
    use crate::testing::tiny::decoder;

    fn new(seed: u64) -> Adapter {
        Adapter::new(&LoraConfig::default(), &decoder(2), seed, &Device::flex()).unwrap()
    }

    #[test]
    fn a_is_uniform_within_its_bound_and_b_is_zero() {
        let bound = 1.0 / 32f32.sqrt();
        for (path, matrix) in new(7).to_matrices().unwrap() {
            if path.ends_with("lora_B") {
                assert!(matrix.values.iter().all(|&value| value == 0.0));
            } else {
                assert_eq!(matrix.shape, [8, 32]);
                let mean_square =
                    matrix.values.iter().map(|value| value * value).sum::<f32>() / 256.0;
                assert!(matrix.values.iter().all(|value| value.abs() <= bound));
                // The variance of a uniform is bound² / 3; its estimate from 256 numbers has a
                // relative standard deviation of 0.056.
                assert!(
                    (mean_square / (bound * bound / 3.0) - 1.0).abs() < 0.25,
                    "{mean_square}"
                );
            }
        }
    }

    #[test]
    fn the_factors_of_a_table_start_as_in_peft_and_change_nothing() {
        let config = LoraConfig {
            target_modules: TargetModules::List(vec!["embed_tokens".into(), "lm_head".into()]),
            ..LoraConfig::default()
        };
        let adapter = Adapter::new(&config, &decoder(2), 7, &Device::flex()).unwrap();
        let matrices = adapter.to_matrices().unwrap();
        let [(_, a), (_, b), (_, head), (_, zero)] = &matrices[..] else {
            panic!("{} matrices", matrices.len())
        };
        assert_eq!((a.shape, b.shape), ([8, 96], [32, 8]));
        assert_eq!((head.shape, zero.shape), ([8, 32], [96, 8]));
        assert!(
            [a, zero]
                .iter()
                .all(|matrix| matrix.values.iter().all(|value| *value == 0.0))
        );
        let mean_square = |values: &[f32]| {
            values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32
        };
        // A χ² of 256 numbers has a relative standard deviation of 0.088.
        assert!((mean_square(&b.values) - 1.0).abs() < 0.3);
        assert!((mean_square(&head.values) * 96.0 - 1.0).abs() < 0.25);
    }

    #[test]
    fn a_whole_table_starts_as_that_of_the_base() {
        let config = LoraConfig {
            modules_to_save: vec!["lm_head".into()],
            ..LoraConfig::default()
        };
        let (decoder, device) = (decoder(2), Device::flex());
        let base = |table: Table| {
            assert_eq!(table, Table::LmHead);
            (0..96 * 32).map(|number| number as f32).collect()
        };
        let adapter = Adapter::new(&config, &decoder, 7, &device).unwrap();
        let adapter = adapter
            .with_whole_tables(&config, &decoder, base, &device)
            .unwrap();
        let (path, last) = adapter.to_matrices().unwrap().pop().unwrap();
        assert_eq!((path.as_str(), last.shape), ("lm_head.weight", [96, 32]));
        assert_eq!(last.values[97], 97.0);
    }

    #[test]
    fn the_seed_and_the_path_name_the_numbers() {
        let (one, again, other) = (
            new(1).to_matrices().unwrap(),
            new(1).to_matrices().unwrap(),
            new(2).to_matrices().unwrap(),
        );
        assert_eq!(one, again);
        assert_ne!(one[0], other[0]);
        assert_ne!(one[0].1, one[2].1);
        let mut fewer = LoraConfig {
            layers_to_transform: Some(vec![1]),
            ..LoraConfig::default()
        };
        fewer.rank = 8;
        let second = Adapter::new(&fewer, &decoder(2), 1, &Device::flex())
            .unwrap()
            .to_matrices()
            .unwrap();
        assert_eq!(second, one[4..]);
    }
}

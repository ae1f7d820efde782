//! Merged weights compared with B A computed directly, and refused merges.

use safetensors::SafeTensors;

use super::*;
use crate::testing::golden;
use crate::testing::tiny::adapter;

/// Weights in memory.
struct Memory(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Memory {
    /// Every tensor of an f32 safetensors file.
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let numbers = |data: &[u8]| {
            data.as_chunks::<4>()
                .0
                .iter()
                .map(|&bytes| f32::from_le_bytes(bytes))
                .collect()
        };
        Self(
            file.tensors()
                .into_iter()
                .map(|(name, view)| (name, (view.shape().to_vec(), numbers(view.data()))))
                .collect(),
        )
    }

    fn tiny() -> Self {
        Self::read(&golden().join("tiny/llama/model.safetensors"))
    }

    fn companions() -> Companions {
        let mut found = Companions::of_folder(&golden().join("tiny/llama")).unwrap();
        found.files.push((
            "additional_chat_templates/tool.jinja".into(),
            b"{{ 1 }}".to_vec(),
        ));
        found
    }
}

impl MergeBase for Memory {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Result<Vec<usize>, LoraError> {
        Ok(self.0[name].0.clone())
    }

    fn read_rows(&self, name: &str, rows: Range<usize>, out: &mut [f32]) -> Result<(), LoraError> {
        let (shape, values) = &self.0[name];
        let columns = shape.last().unwrap();
        out.copy_from_slice(&values[rows.start * columns..rows.end * columns]);
        Ok(())
    }
}

const Q: &str = "model.layers.1.self_attn.q_proj.weight";

fn merged(adapter: &Adapter, options: MergeOptions) -> (tempfile::TempDir, MergeSummary) {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("merged");
    let summary = merge(
        &target,
        &Memory::tiny(),
        &Memory::companions(),
        adapter,
        options,
    )
    .unwrap();
    (folder, summary)
}

#[test]
fn only_the_adapted_weights_change_and_by_scaled_b_a() {
    let adapter = adapter(3, "q_proj");
    let (folder, summary) = merged(
        &adapter,
        MergeOptions {
            precision: Precision::F32,
            ..MergeOptions::default()
        },
    );
    let (base, after) = (
        Memory::tiny(),
        Memory::read(&folder.path().join("merged/model.safetensors")),
    );
    assert_eq!(
        (summary.tensors, summary.merged, summary.files),
        (base.0.len(), 3, 1)
    );
    assert!(
        folder
            .path()
            .join("merged/additional_chat_templates/tool.jinja")
            .exists()
    );
    assert_eq!(after.names(), base.names());
    let matrices: BTreeMap<_, _> = adapter.to_matrices().unwrap().into_iter().collect();
    for (name, (shape, values)) in &base.0 {
        let found = &after.0[name].1;
        let path = name
            .trim_start_matches("model.")
            .trim_end_matches(".weight");
        let Some(a) = matrices.get(&format!("{path}.lora_A")) else {
            assert_eq!(found, values, "{name}");
            continue;
        };
        let b = &matrices[&format!("{path}.lora_B")];
        for row in 0..shape[0] {
            for column in 0..shape[1] {
                let product: f64 = (0..4)
                    .map(|k| {
                        f64::from(b.values[row * 4 + k])
                            * f64::from(a.values[k * shape[1] + column])
                    })
                    .sum();
                let expected = f64::from(values[row * shape[1] + column]) + 2.0 * product;
                assert!(
                    (f64::from(found[row * shape[1] + column]) - expected).abs() < 1e-6,
                    "{name} {row} {column}"
                );
            }
        }
    }
    assert!(summary.largest_change > 0.0);
    let config: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("merged/config.json")).unwrap())
            .unwrap();
    assert_eq!(config["dtype"], "float32");
}

#[test]
fn sixteen_bits_are_the_rounded_sum() {
    let adapter = adapter(3, "q_proj");
    let (exact, _) = merged(
        &adapter,
        MergeOptions {
            precision: Precision::F32,
            ..MergeOptions::default()
        },
    );
    let exact = Memory::read(&exact.path().join("merged/model.safetensors"));
    for precision in [Precision::F16, Precision::BF16] {
        let (folder, _) = merged(
            &adapter,
            MergeOptions {
                precision,
                ..MergeOptions::default()
            },
        );
        let bytes = std::fs::read(folder.path().join("merged/model.safetensors")).unwrap();
        let mut expected = Vec::new();
        assert!(precision.append(&exact.0[Q].1, &mut expected));
        assert_eq!(
            SafeTensors::deserialize(&bytes)
                .unwrap()
                .tensor(Q)
                .unwrap()
                .data(),
            expected
        );
    }
}

#[test]
fn shards_hold_the_same_tensors_and_the_index_finds_them() {
    let adapter = adapter(3, "q_proj");
    let whole = MergeOptions {
        precision: Precision::F32,
        ..MergeOptions::default()
    };
    let (one, _) = merged(&adapter, whole);
    let (many, summary) = merged(
        &adapter,
        MergeOptions {
            shard_bytes: 30_000,
            ..whole
        },
    );
    assert!(summary.files > 2);
    let folder = many.path().join("merged");
    let index: Value = serde_json::from_slice(
        &std::fs::read(folder.join("model.safetensors.index.json")).unwrap(),
    )
    .unwrap();
    let one = Memory::read(&one.path().join("merged/model.safetensors"));
    assert_eq!(index["weight_map"].as_object().unwrap().len(), one.0.len());
    assert_eq!(index["metadata"]["total_size"], summary.bytes);
    for (name, values) in &one.0 {
        let file = Memory::read(&folder.join(index["weight_map"][name].as_str().unwrap()));
        assert_eq!(&file.0[name], values);
        assert!(
            file.0
                .values()
                .map(|(_, values)| values.len() * 4)
                .sum::<usize>()
                <= 30_000
        );
    }
}

#[test]
fn an_adapter_for_another_base_leaves_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("merged");
    let try_merge = |base: &Memory, precision| {
        let options = MergeOptions {
            precision,
            ..MergeOptions::default()
        };
        merge(
            &target,
            base,
            &Memory::companions(),
            &adapter(3, "q_proj"),
            options,
        )
        .unwrap_err()
    };
    let mut base = Memory::tiny();
    base.0.get_mut(Q).unwrap().0 = vec![16, 64];
    assert_eq!(
        try_merge(&base, Precision::F32).to_string(),
        format!("tensor `{Q}` has shape [16, 64], expected [32, 32]")
    );
    base.0.remove(Q);
    assert_eq!(
        try_merge(&base, Precision::F32).to_string(),
        format!("the base has no tensor `{Q}` to merge the adapter into")
    );
    let mut large = Memory::tiny();
    large.0.get_mut(Q).unwrap().1[5] = 1e5;
    let error = try_merge(&large, Precision::F16);
    assert_eq!(
        error.to_string(),
        format!("tensor `{Q}` holds a number that is not finite once rounded to 16 bits")
    );
    assert!(error.hint().unwrap().contains("bf16"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn strips_give_what_the_whole_gives() {
    // 2,500 rows of 1,000 numbers are processed in three strips.
    let base = Memory(BTreeMap::from([(
        "x.weight".to_string(),
        (vec![2500, 1000], (0..2_500_000).map(|i| i as f32).collect()),
    )]));
    let folder = tempfile::tempdir().unwrap();
    let empty = Adapter::empty();
    let options = MergeOptions {
        precision: Precision::F32,
        ..MergeOptions::default()
    };
    merge(
        &folder.path().join("m"),
        &base,
        &Companions::default(),
        &empty,
        options,
    )
    .unwrap();
    assert_eq!(
        Memory::read(&folder.path().join("m/model.safetensors")).0,
        base.0
    );
}

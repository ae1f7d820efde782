//! Adapters with DoRA: numbers of PEFT (testdata/golden/adapters.py), the plain form and the CPU
//! operation under dropout, merged weights, and training; and training with ranks by layer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ivon_lora::bundle::{Bundle, summarise};
use ivon_lora::data::{Batch, Dataset, Split};
use ivon_lora::forward::Network;
use ivon_lora::lora::{
    ADAPTER_FILE, Adapter, CONFIG_FILE, Companions, Draw, Dropout, LoraConfig, MergeOptions,
    MergeSummary, Precision, StoredBase, TargetModules, check_base_tables, merge, read_matrices,
    read_peft, write_matrices, write_peft,
};
use ivon_lora::method::Method;
use ivon_lora::model::{BasePrecision, Checkpoint, Decoder, Table};
use ivon_lora::run::{Start, TrainingData, UntunedAnswers, train_on_data};
use ivon_lora_toy as toy;
use serde_json::Value;

const CASES: [&str; 2] = ["dora", "dora-patterns"];
/// With A and B on the tables over the vocabulary, or with whole tables.
const TABLES: [&str; 13] = [
    "head",
    "embeddings",
    "head-tied",
    "embeddings-tied",
    "tables-tied",
    "tables-layer-inputs",
    "tables-multiplied",
    "saved-head",
    "saved-embeddings-tied",
    "saved-tables-tied",
    "saved-and-adapted",
    KEPT_TIED,
    SAVED_KEPT_TIED,
];
/// With `ensure_weight_tying`.
const KEPT_TIED: &str = "kept-tied";
const SAVED_KEPT_TIED: &str = "saved-kept-tied";

fn golden() -> PathBuf {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/golden"
    ))
    .into()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap() as f32],
    }
}

/// |a − b| ≤ tolerance · max|expected|.
#[track_caller]
fn agree(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    let worst = differences.fold(0.0, f32::max);
    assert!(
        found.len() == expected.len() && worst <= tolerance * largest,
        "{what}: off by {worst} of {largest}"
    );
}

/// A golden case: its adapter's folder, its base, PEFT's numbers, and those of the base.
struct Case {
    folder: PathBuf,
    base: Checkpoint,
    expected: Value,
    of_base: Value,
}

impl Case {
    fn new(name: &str) -> Self {
        let folder = golden().join("adapters").join(name);
        let expected = json(&folder.join("expected.json"));
        let base = golden()
            .join("tiny")
            .join(expected["family"].as_str().unwrap());
        Self {
            of_base: json(&base.join("expected.json")),
            base: Checkpoint::open(base.to_str().unwrap()).unwrap(),
            folder,
            expected,
        }
    }

    /// The base as the CPU operation, with every layer computed again in the backward pass, and as
    /// plain operations.
    fn networks(&self) -> [Network; 3] {
        let decoder = || Decoder::load(&self.base, BasePrecision::F32).unwrap();
        let device = Device::flex();
        [
            Network::new(decoder(), &device, false),
            Network::new(decoder(), &device, true),
            Network::plain(decoder(), &device),
        ]
    }

    fn adapter(&self) -> (Adapter, LoraConfig) {
        let read = read_peft(&self.folder, self.base.config(), &Device::flex()).unwrap();
        (read.adapter, read.config)
    }

    fn batch(&self) -> Batch {
        let mut batch = Batch::default();
        let sequences = self.of_base["sequences"].as_array().unwrap();
        for (key, sequence) in sequences.iter().enumerate() {
            let tokens: Vec<u32> = numbers(sequence).iter().map(|&id| id as u32).collect();
            let segment = batch.push(&tokens, None, key as u64);
            batch.ask_last(segment);
        }
        batch
    }

    /// The mean cross-entropy over the vocabulary.
    fn loss_over_all(&self, network: &Network, adapter: &Adapter) -> Tensor<1> {
        let of = |key: &str| numbers(&self.of_base[key]).into_iter();
        let choices: Vec<i64> = of("choice_ids").map(|id| id as i64).collect();
        let labels: Vec<i64> = of("labels").map(|label| choices[label as usize]).collect();
        let hidden = network.hidden(&self.batch(), &Draw::of(adapter.clone()));
        let logits = network.logits_of(&hidden, &vocabulary(network));
        let labels = TensorData::new(labels.clone(), [labels.len(), 1]);
        let labels = Tensor::<2, Int>::from_data(labels, &logits.device());
        log_softmax(logits, 1).gather(1, labels).mean().neg()
    }

    /// The mean cross-entropy over the choices.
    fn loss(&self, network: &Network, adapter: &Adapter, dropout: Option<Dropout>) -> Tensor<1> {
        let of = |key: &str| numbers(&self.of_base[key]).into_iter();
        let choices: Vec<u32> = of("choice_ids").map(|id| id as u32).collect();
        let labels: Vec<i64> = of("labels").map(|label| label as i64).collect();
        let draw = Draw {
            adapter: adapter.clone(),
            dropout,
        };
        let hidden = network.hidden(&self.batch(), &draw);
        let logits = network.logits_of(&hidden, &choices);
        let labels = TensorData::new(labels.clone(), [labels.len(), 1]);
        let labels = Tensor::<2, Int>::from_data(labels, &logits.device());
        log_softmax(logits, 1).gather(1, labels).mean().neg()
    }
}

fn vocabulary(network: &Network) -> Vec<u32> {
    (0..network.config().vocab_size as u32).collect()
}

/// The name of a parameter in PEFT's model.
fn name_in_training(path: &str) -> String {
    let module = match path.starts_with("lm_head") {
        true => "base_model.model",
        false => "base_model.model.model",
    };
    match path.split_once('.').filter(|(_, part)| *part == "weight") {
        Some((table, _)) => format!("{module}.{table}.modules_to_save.default.weight"),
        None if path.contains("lora_embedding") => format!("{module}.{path}.default"),
        None => format!("{module}.{path}.default.weight"),
    }
}

fn logits(network: &Network, batch: &Batch, adapter: Adapter) -> Vec<f32> {
    let tokens = vocabulary(network);
    let hidden = network.hidden(batch, &Draw::of(adapter));
    let logits = network.logits_of(&hidden, &tokens);
    logits.into_data().try_to_vec().unwrap()
}

fn gradients(adapter: &Adapter, loss: Tensor<1>) -> Vec<(String, Vec<f32>)> {
    let mut gradients = GradientsParams::from_grads(loss.backward(), adapter);
    let mut all = Vec::new();
    for (path, parameter) in adapter.parameters() {
        let gradient = gradients.remove::<2>(parameter.id).unwrap();
        all.push((path, gradient.into_data().try_to_vec().unwrap()));
    }
    all
}

#[test]
fn logits_and_gradients_are_those_of_peft() {
    for name in CASES {
        let case = Case::new(name);
        let (adapter, config) = case.adapter();
        assert!(config.use_dora);
        for network in case.networks() {
            let found = logits(&network, &case.batch(), adapter.clone());
            agree(
                &found,
                &numbers(&case.expected["adapted_logits"]),
                1e-4,
                name,
            );
            let adapter = adapter.clone().train();
            let loss = case.loss(&network, &adapter, None);
            for (path, gradient) in gradients(&adapter, loss) {
                let name = format!("base_model.model.model.{path}.default.weight");
                let truth = numbers(&case.expected["gradients"][&name]);
                agree(&gradient, &truth, 1e-4, &name);
            }
        }
    }
}

#[test]
fn logits_loss_and_gradients_of_adapted_and_whole_tables_are_those_of_peft() {
    for name in TABLES {
        let case = Case::new(name);
        let (adapter, _) = case.adapter();
        assert!(adapter.tables().count() > 0);
        for network in case.networks() {
            let found = logits(&network, &case.batch(), adapter.clone());
            let truth = numbers(&case.expected["adapted_logits"]);
            agree(&found, &truth, 1e-4, name);
            let adapter = adapter.clone().train();
            let losses = [
                ("", case.loss(&network, &adapter, None)),
                ("_over_all", case.loss_over_all(&network, &adapter)),
            ];
            for (end, loss) in losses {
                let value: Vec<f32> = loss.clone().into_data().try_to_vec().unwrap();
                let key = format!("loss{end}");
                agree(&value, &numbers(&case.expected[&key]), 1e-4, name);
                let truth = &case.expected[format!("gradients{end}")];
                agree_with_peft(&adapter, loss, truth, name);
            }
        }
    }
}

/// Compares all gradients. Where PEFT trains one table at both ends, its gradient is their sum.
fn agree_with_peft(adapter: &Adapter, loss: Tensor<1>, truth: &Value, name: &str) {
    let mut found = gradients(adapter, loss);
    if name == SAVED_KEPT_TIED {
        let (_, head) = found.pop().unwrap();
        let embeddings = found[0].1.iter_mut().zip(head);
        embeddings.for_each(|(sum, gradient)| *sum += gradient);
    }
    assert_eq!(found.len(), truth.as_object().unwrap().len());
    for (path, gradient) in found {
        let truth = numbers(&truth[name_in_training(&path)]);
        agree(&gradient, &truth, 1e-4, &format!("{name} {path}"));
    }
}

#[test]
fn under_dropout_the_cpu_operation_agrees_with_plain_operations() {
    for name in CASES.into_iter().chain(["head", "tables-multiplied"]) {
        let case = Case::new(name);
        let adapter = case.adapter().0.train();
        let dropout = Some(Dropout {
            rate: 0.2,
            seed: 1,
            step: 2,
            draw: 0,
        });
        let of = |network: &Network| gradients(&adapter, case.loss(network, &adapter, dropout));
        let [host, recompute, plain] = case.networks();
        let (host, recompute, plain) = (of(&host), of(&recompute), of(&plain));
        for ((host, recompute), plain) in host.iter().zip(&recompute).zip(&plain) {
            agree(&host.1, &plain.1, 1e-4, &host.0);
            assert_eq!(host, recompute);
        }
    }
}

/// The model with the adapter merged in, and its summary.
fn merged(case: &Case, folder: &Path) -> (Checkpoint, MergeSummary) {
    let merged = folder.join("merged");
    let base = StoredBase {
        names: case.base.names_to_copy(),
        written: case.base.names_in_files(),
        tensor: |name: &str| case.base.tensor(name),
    };
    let companions = Companions::of_folder(case.base.folder().unwrap()).unwrap();
    let options = MergeOptions {
        precision: Precision::F32,
        ..MergeOptions::default()
    };
    let summary = merge(&merged, &base, &companions, &case.adapter().0, options).unwrap();
    (Checkpoint::open(merged.to_str().unwrap()).unwrap(), summary)
}

fn logits_of_base(base: &Checkpoint, batch: &Batch) -> Vec<f32> {
    let decoder = Decoder::load(base, BasePrecision::F32).unwrap();
    let network = Network::new(decoder, &Device::flex(), false);
    logits(&network, batch, Adapter::empty())
}

#[test]
fn merged_weights_give_the_same_logits() {
    for name in CASES {
        let case = Case::new(name);
        let folder = tempfile::tempdir().unwrap();
        let (merged, _) = merged(&case, folder.path());
        let found = logits_of_base(&merged, &case.batch());
        let truth = numbers(&case.expected["merged_logits"]);
        agree(&found, &truth, 1e-4, name);
    }
}

#[test]
fn merged_tables_give_the_logits_of_the_adapter_with_two_tables_where_one_no_longer_does() {
    for name in TABLES {
        let case = Case::new(name);
        let folder = tempfile::tempdir().unwrap();
        let (merged, summary) = merged(&case, folder.path());
        let found = logits_of_base(&merged, &case.batch());
        // PEFT adds the factors of both ends to the one table of a tied base, and warns of it.
        let truth = numbers(&case.expected["adapted_logits"]);
        agree(&found, &truth, 1e-4, name);
        let were_tied = case.base.config().tie_word_embeddings;
        let stay_tied = were_tied && name.contains("kept");
        assert_eq!(merged.config().tie_word_embeddings, stay_tied, "{name}");
        assert_eq!(summary.untied, were_tied && !stay_tied, "{name}");
    }
}

#[test]
fn a_folder_with_a_table_of_another_base_is_refused() {
    for (name, table) in [
        ("head-tied", "lm_head"),
        ("embeddings", "model.embed_tokens"),
    ] {
        let case = Case::new(name);
        let [network, ..] = case.networks();
        let row = |table, row: usize, out: &mut [f32]| network.table_row(table, row, out);
        let (adapter, config) = case.adapter();
        check_base_tables(&case.folder, &adapter, row).unwrap();
        let folder = tempfile::tempdir().unwrap();
        write_peft(folder.path(), &adapter, &config, None).unwrap();
        check_base_tables(folder.path(), &adapter, row).unwrap();
        let path = folder.path().join(ADAPTER_FILE);
        let (mut matrices, metadata) = read_matrices(&case.folder.join(ADAPTER_FILE)).unwrap();
        let saved = format!("base_model.model.{table}.base_layer.weight");
        let saved_table = matrices.get_mut(&saved).unwrap();
        let width = saved_table.shape[1];
        saved_table.values[7 * width..8 * width].fill(0.02);
        write_matrices(&path, &matrices, metadata).unwrap();
        let error = check_base_tables(folder.path(), &adapter, row).unwrap_err();
        let start = format!("row 7 of `{saved}` in ");
        assert!(error.to_string().starts_with(&start), "{error}");
    }
}

#[test]
fn an_adapter_of_the_tables_is_written_so_that_it_reads_back_and_peft_would_read_it() {
    for name in TABLES {
        let case = Case::new(name);
        let (adapter, config) = case.adapter();
        let folder = tempfile::tempdir().unwrap();
        write_peft(folder.path(), &adapter, &config, None).unwrap();
        let file = |folder: &Path| read_matrices(&folder.join(ADAPTER_FILE)).unwrap().0;
        let mut theirs = file(&case.folder);
        // PEFT saves the table of the base along with its factors.
        theirs.retain(|name, _| !name.contains("base_layer"));
        assert_eq!(file(folder.path()), theirs, "{name}");
        let again = read_peft(folder.path(), case.base.config(), &Device::flex()).unwrap();
        let matrices = |adapter: &Adapter| adapter.to_matrices().unwrap();
        assert_eq!(matrices(&again.adapter), matrices(&adapter), "{name}");
        assert_eq!(again.adapter.scaling, adapter.scaling, "{name}");
        let tables = |config: &LoraConfig| config.modules_to_save.clone();
        assert_eq!(tables(&again.config), tables(&config), "{name}");
    }
}

#[test]
fn a_folder_is_written_as_peft_writes_it_and_needs_its_magnitudes() {
    for name in CASES {
        let case = Case::new(name);
        let (adapter, config) = case.adapter();
        let folder = tempfile::tempdir().unwrap();
        write_peft(folder.path(), &adapter, &config, None).unwrap();
        let file = |folder: &Path| std::fs::read(folder.join(ADAPTER_FILE)).unwrap();
        assert_eq!(file(folder.path()), file(&case.folder));
        let path = folder.path().join(CONFIG_FILE);
        let mut options = json(&path);
        assert_eq!(options["use_dora"], true);
        options["use_dora"] = false.into();
        std::fs::write(&path, options.to_string()).unwrap();
        let error = read_peft(folder.path(), case.base.config(), &Device::flex()).unwrap_err();
        assert!(error.to_string().contains("`use_dora` of its"), "{error}");

        let without = adapter.to_matrices().unwrap().into_iter();
        let without = without.filter(|(path, _)| !path.ends_with("magnitude_vector"));
        let plain = Adapter::from_matrices(
            without.collect(),
            adapter.scaling.clone(),
            case.base.config(),
            &Device::flex(),
        );
        write_peft(folder.path(), &plain.unwrap(), &config, None).unwrap();
        options = json(&path);
        assert_eq!(options["use_dora"], false);
        options["use_dora"] = true.into();
        std::fs::write(&path, options.to_string()).unwrap();
        let error = read_peft(folder.path(), case.base.config(), &Device::flex()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(".lora_magnitude_vector` is missing"),
            "{error}"
        );
    }
}

#[test]
fn with_the_lengths_of_the_base_s_rows_a_new_adapter_changes_nothing() {
    let case = Case::new("dora");
    let config = LoraConfig {
        target_modules: TargetModules::Pattern("all-linear".into()),
        use_dora: true,
        ..LoraConfig::default()
    };
    for network in case.networks() {
        let device = Device::flex();
        let adapter = Adapter::new(&config, network.config(), 1, &device).unwrap();
        let adapter = adapter.with_magnitudes(|path| network.row_lengths(path), &device);
        let found = logits(&network, &case.batch(), adapter);
        agree(&found, &numbers(&case.of_base["base_logits"]), 1e-5, "new");
    }
}

fn rows(animals: &[&str]) -> Vec<serde_json::Map<String, Value>> {
    let row = |animal: &&str| {
        let report = format!("At dusk, Anna the farmer met {animal} in the forest.");
        let label = usize::from(animal.contains("wolf"));
        let row = serde_json::json!({ "report": report, "label": label });
        row.as_object().unwrap().clone()
    };
    animals.iter().map(row).collect()
}

/// Three steps of a method on the toy with changed options; the folder of its adapter.
fn trained(
    method: &str,
    folder: &Path,
    change: fn(&mut LoraConfig),
) -> Result<PathBuf, ivon_lora::run::RunError> {
    let model = folder.join(toy::NAME);
    toy::write_model(&model).unwrap();
    let run = folder.join(method);
    let method = Method::named(method).unwrap();
    let mut config = toy::run_config(method, &model, "".as_ref(), &run);
    config.train.steps = Some(3);
    config.train.eval_interval = None;
    change(&mut config.lora);
    let task = toy::task();
    let sets = [
        (
            Split::Train,
            rows(&["an owl", "a wolf", "a hen", "a grey wolf"]),
        ),
        (Split::Tune, rows(&["a cow"])),
        (Split::Calibrate, rows(&["a horse", "an old wolf"])),
        (Split::Test, rows(&["a pig", "a white wolf"])),
    ];
    let dataset = Dataset::from_rows(&config.data, &task, sets.into()).unwrap();
    let data = TrainingData {
        model: &model.display().to_string(),
        task: &task,
        dataset: &dataset,
        untuned: &UntunedAnswers::default(),
    };
    train_on_data(&config, &data, Start::New, &mut |_| true)?;
    Ok(run.join("adapter"))
}

fn with_dora(lora: &mut LoraConfig) {
    lora.use_dora = true;
}

fn with_ranks_by_layer(lora: &mut LoraConfig) {
    lora.rank_pattern = [("layers.0.*.q_proj".into(), 3), ("v_proj".into(), 5)].into();
    lora.alpha_pattern = [("layers.1.*".into(), 4.0)].into();
}

#[test]
fn every_method_trains_with_ranks_by_layer_and_its_folder_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    for method in Method::all() {
        let name = method.name();
        let adapter = trained(name, folder.path(), with_ranks_by_layer)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let base = Checkpoint::open(folder.path().join(toy::NAME).to_str().unwrap()).unwrap();
        let bundle = Bundle::read(&adapter, base.config(), &Device::flex())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let pairs = bundle.posterior.mean().pairs();
        let ranks: BTreeSet<usize> = pairs.map(|(_, pair)| pair.rank()).collect();
        assert!(
            ranks.contains(&3) && ranks.contains(&5),
            "{name}: {ranks:?}"
        );
    }
}

#[test]
fn adamw_and_ivon_train_the_magnitudes_and_other_methods_refuse_them() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join(toy::NAME);
    let magnitudes = |method: &str| {
        let adapter = trained(method, folder.path(), with_dora).unwrap();
        let base = Checkpoint::open(model.to_str().unwrap()).unwrap();
        let read = read_peft(&adapter, base.config(), &Device::flex()).unwrap();
        let decoder = Decoder::load(&base, BasePrecision::F32).unwrap();
        let network = Network::new(decoder, &Device::flex(), false);
        let mut moved = 0f32;
        for (path, pair) in read.adapter.pairs() {
            let magnitudes = pair.lora_magnitude_vector.as_ref().unwrap().val();
            let magnitudes: Vec<f32> = magnitudes.into_data().try_to_vec().unwrap();
            let start = network.row_lengths(path);
            let changes = magnitudes.iter().zip(&start).map(|(a, b)| (a - b).abs());
            moved = changes.fold(moved, f32::max);
        }
        moved
    };
    for method in ["adamw", "ivon"] {
        let moved = magnitudes(method);
        assert!(moved > 0.0 && moved < 0.5, "{method}: {moved}");
    }
    let base = Checkpoint::open(model.to_str().unwrap()).unwrap();
    let adapter = folder.path().join("ivon/adapter");
    let bundle = Bundle::read(&adapter, base.config(), &Device::flex()).unwrap();
    assert!(bundle.lora.use_dora && bundle.posterior.variance().unwrap().has_magnitudes());
    let summary = summarise(&adapter).unwrap();
    let mean = bundle.posterior.mean();
    assert_eq!(summary.parameters, mean.parameter_count());
    let factors: usize = summary.layers.iter().map(|layer| layer.all.weights).sum();
    let magnitudes = mean
        .parameters()
        .filter(|(path, _)| path.ends_with("vector"));
    let magnitudes: usize = magnitudes
        .map(|(_, parameter)| parameter.lazy_shape().num_elements())
        .sum();
    assert_eq!(factors + magnitudes, summary.parameters);
    let error = trained("laplace", folder.path(), with_dora).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`laplace` does not train the magnitudes of an adapter (`use_dora`), expected ivon, adamw, mc-dropout or ensemble"
    );
}

fn with_tables(lora: &mut LoraConfig) {
    let names = ["q_proj", "v_proj", "embed_tokens"];
    lora.target_modules = TargetModules::List(names.map(String::from).into());
    lora.modules_to_save = vec!["lm_head".into()];
}

#[test]
fn methods_that_treat_all_parameters_alike_train_tables_and_others_refuse_them() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join(toy::NAME);
    for method in ["adamw", "ivon", "swag"] {
        let adapter = trained(method, folder.path(), with_tables).unwrap();
        let base = Checkpoint::open(model.to_str().unwrap()).unwrap();
        let bundle = Bundle::read(&adapter, base.config(), &Device::flex()).unwrap();
        assert_eq!(bundle.lora.modules_to_save, ["lm_head"]);
        let decoder = Decoder::load(&base, BasePrecision::F32).unwrap();
        let network = Network::new(decoder, &Device::flex(), false);
        let mean = bundle.posterior.mean();
        let start = network.table(Table::LmHead);
        let whole = mean.table(Table::LmHead).unwrap().whole().unwrap().val();
        let whole: Vec<f32> = whole.into_data().try_to_vec().unwrap();
        let moved = whole.iter().zip(&start).map(|(a, b)| (a - b).abs());
        let moved = moved.fold(0f32, f32::max);
        assert!(moved > 0.0 && moved < 0.5, "{method}: {moved}");
        let matrices = mean.to_matrices().unwrap();
        let (path, a) = &matrices[0];
        assert_eq!(path, "embed_tokens.lora_embedding_A");
        assert!(a.values.iter().any(|value| *value != 0.0), "{method}");
        let summary = summarise(&adapter).unwrap();
        assert_eq!(summary.parameters, mean.parameter_count());
        assert_eq!(summary.tables.len(), 2);
        let draw = bundle.posterior.draw(0, 1, 1.0).unwrap();
        let differs = draw.adapter.flatten().unwrap() != mean.flatten().unwrap();
        assert!(differs || method != "ivon");
    }
    let error = trained("laplace", folder.path(), with_tables).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`laplace` does not train `embed_tokens` and `lm_head`, neither as `target_modules` nor as `modules_to_save`, expected ivon, adamw, mc-dropout, swag or ensemble"
    );
}

#[test]
fn the_options_of_a_trained_adapter_of_tables_make_the_same_parameters() {
    let folder = tempfile::tempdir().unwrap();
    let first = trained("adamw", folder.path(), with_tables).unwrap();
    let model = folder.path().join(toy::NAME);
    let base = Checkpoint::open(model.to_str().unwrap()).unwrap();
    let read = read_peft(&first, base.config(), &Device::flex()).unwrap();
    let again = Adapter::new(&read.config, base.config(), 1, &Device::flex()).unwrap();
    let paths = |adapter: &Adapter| -> Vec<String> {
        let parameters = adapter.parameters();
        let paths = parameters.map(|(path, _)| path);
        paths.filter(|path| path != "lm_head.weight").collect()
    };
    assert_eq!(paths(&again), paths(&read.adapter));
}

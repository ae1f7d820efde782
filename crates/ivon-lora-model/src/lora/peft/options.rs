//! The options of a PEFT folder: `adapter_config.json`, and whether they fit its tensors.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::LARGEST_CONFIG;
use crate::files;
use crate::lora::parameters::{MODULES, PEFT_MODEL};
use crate::lora::target::{portable_targets, resolve_tables};
use crate::lora::{LoraConfig, LoraError, TargetModules, module_path, resolve_targets};
use crate::model::{DecoderConfig, LinearPath, Table};

/// `adapter_config.json`, checked; the targets are resolved once the tensors are known.
pub(super) struct PeftOptions {
    pub lora: LoraConfig,
    pub targets: Option<TargetModules>,
    excludes: bool,
    pub base: Option<String>,
    /// Whether both tables of a base that has one for both are changed alike.
    pub ensures_tying: bool,
}

/// Keys that change the computation unless they are null, false or an empty collection.
const MUST_BE_EMPTY: [(&str, &str); 11] = [
    ("lora_bias", "B would have a bias"),
    ("use_qalora", "inputs of A are pooled in groups"),
    (
        "alora_invocation_tokens",
        "the adapter acts only after certain tokens",
    ),
    ("layer_replication", "layers of the base are repeated"),
    (
        "target_parameters",
        "the adapter acts on parameters that are no linear layers",
    ),
    (
        "trainable_token_indices",
        "rows of the embedding are replaced",
    ),
    ("velora_config", "another kind of adapter"),
    ("monteclora_config", "another kind of adapter"),
    ("use_bdlora", "another kind of adapter"),
    ("arrow_config", "several adapters are mixed by token"),
    ("kasa_config", "another kind of adapter"),
];

impl PeftOptions {
    pub fn read(path: &Path) -> Result<Self, LoraError> {
        let malformed = |reason: String| LoraError::Malformed {
            path: path.into(),
            expected: "a PEFT configuration",
            reason,
        };
        let text = files::read_text(path, LARGEST_CONFIG)?;
        let map: Map<String, Value> =
            serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        let keys = Keys { path, map: &map };
        keys.check_supported()?;
        let lora = keys.lora_config()?;
        lora.validate()?;
        Ok(Self {
            lora,
            targets: keys.get(
                "target_modules",
                "a list of names or an expression",
                |value| serde_json::from_value(value.clone()).ok(),
            )?,
            excludes: !is_empty(map.get("exclude_modules")),
            ensures_tying: keys
                .get("ensure_weight_tying", "true or false", Value::as_bool)?
                .unwrap_or(false),
            base: keys.get("base_model_name_or_path", "a name", |value| {
                value.as_str().map(String::from)
            })?,
        })
    }

    /// Refuses whole layers other than tables that only the options mention; those in the tensors
    /// are refused before.
    ///
    /// # Errors
    /// [`LoraError::Unsupported`].
    pub fn refuse_whole_layers(&self, path: &Path, module: &str) -> Result<(), LoraError> {
        let mut names = self.lora.modules_to_save.iter();
        match names.find(|name| saved_by(name, module).is_empty()) {
            None => Ok(()),
            Some(_) => Err(LoraError::Unsupported {
                path: path.into(),
                key: "modules_to_save".into(),
                value: shortened(&json!(self.lora.modules_to_save)),
                meaning: "the folder replaces whole layers of the base",
            }),
        }
    }

    /// The tables that the folder should contain as a whole.
    pub fn whole_tables(&self, module: &str) -> BTreeSet<Table> {
        let names = self.lora.modules_to_save.iter();
        names.flat_map(|name| saved_by(name, module)).collect()
    }

    /// The options with targets that match exactly the layers of `there`.
    pub fn config(
        &self,
        path: &Path,
        there: &BTreeSet<String>,
        decoder: &DecoderConfig,
    ) -> Result<LoraConfig, LoraError> {
        if let Some(config) = self.stated_config(path, there, decoder)? {
            return Ok(config);
        }
        let all: Vec<_> = decoder
            .linears()
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        let is_there = |path: &LinearPath| there.contains(&module_path(*path));
        let targets: Vec<_> = all.iter().copied().filter(is_there).collect();
        let tables = Table::ALL.into_iter();
        let tables = tables.filter(|table| there.contains(&table.path_in(decoder.module)));
        let tables: Vec<Table> = tables.collect();
        let (names, layers_to_transform) = portable_targets(&targets, &tables, &all);
        Ok(LoraConfig {
            target_modules: TargetModules::List(names),
            layers_to_transform,
            ..self.lora.clone()
        })
    }
}

impl PeftOptions {
    /// The options with the targets of the file, if these match exactly the layers of `there`.
    fn stated_config(
        &self,
        path: &Path,
        there: &BTreeSet<String>,
        decoder: &DecoderConfig,
    ) -> Result<Option<LoraConfig>, LoraError> {
        let both_alike = self.ensures_tying && decoder.tie_word_embeddings;
        let Some(target_modules) = self.targets.clone().filter(|_| !both_alike) else {
            return Ok(None);
        };
        let config = LoraConfig {
            target_modules,
            ..self.lora.clone()
        };
        if is_stated_elsewhere(&config, there, decoder) {
            return Ok(None);
        }
        let stated = match stated_modules(&config, decoder, decoder.module) {
            // Python's regular expressions are more powerful than ours; the tensors themselves show
            // what is adapted.
            Err(LoraError::Pattern { .. }) => return Ok(None),
            stated => stated?,
        };
        if let Some(module) = there.difference(&stated).next() {
            return Err(LoraError::UnknownTensor {
                path: path.into(),
                name: first_factor(module),
                reason: format!(
                    "`target_modules` {} does not name it",
                    config.target_modules
                ),
            });
        }
        match stated.difference(there).next() {
            None => Ok(Some(config)),
            Some(module) if !self.excludes => Err(LoraError::MissingTensor {
                path: path.into(),
                name: first_factor(module),
            }),
            Some(_) => Ok(None),
        }
    }
}

/// The tables that an entry of `modules_to_save` names: PEFT saves each module whose path ends with
/// it.
fn saved_by(name: &str, module: &str) -> Vec<Table> {
    let tables = Table::ALL.into_iter();
    let is_named = |table: &Table| table.path_in(module).ends_with(name);
    tables.filter(is_named).collect()
}

/// The name of A of the module at a path.
fn first_factor(module: &str) -> String {
    match module.ends_with(Table::EmbedTokens.name()) {
        true => format!("{PEFT_MODEL}{module}.lora_embedding_A"),
        false => format!("{PEFT_MODEL}{module}.lora_A.weight"),
    }
}

/// The paths of the layers that the targets match in a decoder, as if it were at `module`.
fn stated_modules(
    config: &LoraConfig,
    decoder: &DecoderConfig,
    module: &'static str,
) -> Result<BTreeSet<String>, LoraError> {
    let linears = resolve_targets(config, decoder)?.into_iter();
    let linears = linears.map(|path| module_path(LinearPath { module, ..path }));
    let tables = resolve_tables(config, decoder)?.into_iter();
    let tables = tables.map(|table| table.path_in(module));
    Ok(linears.chain(tables).collect())
}

/// Whether the targets match exactly the layers of `there` in a model that has the same decoder at
/// another place, such as a multimodal one.
fn is_stated_elsewhere(
    config: &LoraConfig,
    there: &BTreeSet<String>,
    decoder: &DecoderConfig,
) -> bool {
    let names_them = |module: &'static str| {
        let elsewhere = DecoderConfig {
            module,
            ..decoder.clone()
        };
        stated_modules(config, &elsewhere, decoder.module).is_ok_and(|stated| stated == *there)
    };
    let mut others = MODULES.into_iter().filter(|place| *place != decoder.module);
    !names_them(decoder.module) && others.any(names_them)
}

/// The keys of a configuration file, with what errors need.
struct Keys<'a> {
    path: &'a Path,
    map: &'a Map<String, Value>,
}

impl Keys<'_> {
    /// The value of a key through `read`; none if it is absent or null.
    fn get<T>(
        &self,
        key: &'static str,
        expected: &'static str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, LoraError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| LoraError::Key {
                path: self.path.into(),
                key,
                expected,
                found: shortened(value),
            }),
        }
    }

    fn unsupported(&self, key: &str, meaning: &'static str) -> LoraError {
        let value = self
            .map
            .get(key)
            .map_or_else(|| "nothing".into(), shortened);
        LoraError::Unsupported {
            path: self.path.into(),
            key: key.into(),
            value,
            meaning,
        }
    }

    fn lora_config(&self) -> Result<LoraConfig, LoraError> {
        let rank = |value: &Value| usize::try_from(value.as_u64()?).ok();
        let alpha = self.get("lora_alpha", "a number", Value::as_f64)?;
        let dropout = self.get("lora_dropout", "a number", Value::as_f64)?;
        let use_rslora = self.get("use_rslora", "true or false", Value::as_bool)?;
        let use_dora = self.get("use_dora", "true or false", Value::as_bool)?;
        let expected = "a layer or a list of layers";
        Ok(LoraConfig {
            rank: self.get("r", "a whole number", rank)?.unwrap_or(8),
            alpha: alpha.unwrap_or(8.0),
            dropout: dropout.unwrap_or(0.0),
            modules_to_save: self.modules_to_save()?,
            layers_to_transform: self.get("layers_to_transform", expected, layers)?,
            use_rslora: use_rslora.unwrap_or(false),
            use_dora: use_dora.unwrap_or(false),
            rank_pattern: self.pattern("rank_pattern", "whole numbers by layer", rank)?,
            alpha_pattern: self.pattern("alpha_pattern", "numbers by layer", Value::as_f64)?,
            ..LoraConfig::default()
        })
    }

    /// A list of names; empty if it is absent or null.
    fn modules_to_save(&self) -> Result<Vec<String>, LoraError> {
        let names = |value: &Value| serde_json::from_value(value.clone()).ok();
        let found = self.get("modules_to_save", "a list of names", names)?;
        Ok(found.unwrap_or_default())
    }

    /// An object of numbers; empty if it is absent or null.
    fn pattern<T>(
        &self,
        key: &'static str,
        expected: &'static str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<BTreeMap<String, T>, LoraError> {
        let entries = |value: &Value| {
            let entries = value.as_object()?.iter();
            let entry = |(key, value): (&String, &Value)| Some((key.clone(), read(value)?));
            entries.map(entry).collect()
        };
        Ok(self.get(key, expected, entries)?.unwrap_or_default())
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.map.get(key).and_then(Value::as_str)
    }

    /// Refuses adapters of other kinds and for other tasks.
    fn check_kind(&self) -> Result<(), LoraError> {
        if !self.map.contains_key("peft_type")
            && ["fine_tune_type", "lora_parameters"]
                .iter()
                .any(|key| self.map.contains_key(*key))
        {
            return Err(LoraError::Mlx {
                path: self.path.into(),
            });
        }
        if self.text("peft_type") != Some("LORA") {
            return Err(self.unsupported("peft_type", "only LORA is read"));
        }
        if !matches!(self.map.get("task_type"), None | Some(Value::Null))
            && self.text("task_type") != Some("CAUSAL_LM")
        {
            return Err(self.unsupported(
                "task_type",
                "the adapter was made for another head than the language model's",
            ));
        }
        Ok(())
    }

    fn check_supported(&self) -> Result<(), LoraError> {
        self.check_kind()?;
        if self.text("bias").is_some_and(|bias| bias != "none") {
            return Err(self.unsupported("bias", "biases of the base are replaced"));
        }
        // Other initialisations (PiSSA, OLoRA, CorDA, LoftQ, …) change the base's weights when PEFT
        // loads them.
        let kept = ["gaussian", "eva", "orthogonal"];
        let init = self.text("init_lora_weights");
        if init.is_some_and(|init| !kept.contains(&init)) {
            return Err(self.unsupported(
                "init_lora_weights",
                "the base's weights are changed on loading",
            ));
        }
        let pattern = self.map.get("layers_pattern");
        if !is_empty(pattern)
            && pattern != Some(&json!("layers"))
            && pattern != Some(&json!(["layers"]))
        {
            return Err(self.unsupported("layers_pattern", "decoder layers are under `layers`"));
        }
        match MUST_BE_EMPTY
            .iter()
            .find(|(key, _)| !is_empty(self.map.get(*key)))
        {
            Some((key, meaning)) => Err(self.unsupported(key, meaning)),
            None => Ok(()),
        }
    }
}

/// Absent, null, false, or an empty string, list or object.
fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        Some(_) => false,
    }
}

/// One layer, or a list of layers.
fn layers(value: &Value) -> Option<Vec<usize>> {
    let one = |value: &Value| usize::try_from(value.as_u64()?).ok();
    match value {
        Value::Array(items) => items.iter().map(one).collect(),
        value => one(value).map(|layer| vec![layer]),
    }
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 {
        text
    } else {
        text.chars().take(57).chain("...".chars()).collect()
    }
}

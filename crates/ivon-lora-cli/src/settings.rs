//! Every key of the configuration file: where it stands, its flag, its kind, its meaning. One
//! table, from which the file is checked, flags are placed, `init` writes its comments and the docs
//! are tested.

use Kind::{Flag, FlagOrPath, Number, OneOf, Path, Text, TextOrTexts, Texts, Whole, Wholes};

/// A key of the configuration file.
#[derive(Debug)]
pub struct Setting {
    /// Its table; empty for the top of the file.
    pub table: &'static str,
    /// Its name there.
    pub key: &'static str,
    /// The flag that overrides it, without the dashes.
    pub flag: Option<&'static str>,
    /// What its value may be.
    pub kind: Kind,
    /// The optimizers that have it; empty for all.
    pub only: &'static [&'static str],
    /// A value to show where the key has no default.
    pub example: &'static str,
    /// One sentence.
    pub help: &'static str,
}

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number, at least 0.
    Whole,
    /// A number.
    Number,
    /// True or false.
    Flag,
    /// True, false, or a file.
    FlagOrPath,
    /// A text.
    Text,
    /// A file or folder, relative to where the command runs.
    Path,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// A text or a list of texts.
    TextOrTexts,
    /// A list of whole numbers.
    Wholes,
}

impl Kind {
    /// The kind in words, as errors and docs name it.
    pub fn name(self) -> String {
        match self {
            Whole => "a whole number".into(),
            Number => "a number".into(),
            Flag => "true or false".into(),
            FlagOrPath => "true, false or a text".into(),
            Text | Path => "a text".into(),
            OneOf(words) => format!(
                "one of {}",
                words
                    .iter()
                    .map(|word| format!("`{word}`"))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            Texts => "a list of texts".into(),
            TextOrTexts => "a text or a list of texts".into(),
            Wholes => "a list of whole numbers".into(),
        }
    }
}

impl Setting {
    /// `table.key`, or `key` at the top.
    pub fn name(&self) -> String {
        if self.table.is_empty() {
            self.key.into()
        } else {
            format!("{}.{}", self.table, self.key)
        }
    }

    /// Whether this optimizer has it.
    pub fn belongs_to(&self, optimizer: &str) -> bool {
        self.only.is_empty() || self.only.contains(&optimizer)
    }
}

/// The tables of the file, in its order, each with a sentence; the top has no name.
pub const TABLES: [(&str, &str); 7] = [
    ("", "The run."),
    ("model", "The base model."),
    ("data", "Where the examples come from."),
    ("lora", "The adapter, in the words of PEFT."),
    (
        "optimizer",
        "The optimizer; which keys there are depends on its name.",
    ),
    ("train", "Length, batches, schedule, intervals."),
    ("evaluation", "The evaluation at the end."),
];

/// The setting of a table and a key.
pub fn find(table: &str, key: &str) -> Option<&'static Setting> {
    SETTINGS
        .iter()
        .find(|setting| setting.table == table && setting.key == key)
}

/// The setting that a flag overrides.
pub fn of_flag(flag: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.flag == Some(flag))
}

/// The devices that Burn has a backend for.
pub const DEVICES: &[&str] = &["cpu", "cuda", "rocm", "metal", "vulkan", "wgpu"];
const OPTIMIZERS: &[&str] = &ivon_lora::method::Method::NAMES;
const IVON: &[&str] = &["ivon"];
const SWAG: &[&str] = &["swag"];
const LAPLACE: &[&str] = &["laplace"];
const TFB: &[&str] = &["tfb"];
const BLOB: &[&str] = &["blob"];
const SCALABL: &[&str] = &["scalabl"];
/// Methods with a KL.
const KL: &[&str] = &["blob", "scalabl"];
const CLORA: &[&str] = &["clora"];
const ENSEMBLE: &[&str] = &["ensemble"];
const NOISE: &[&str] = &["adamw-noise"];
/// Methods that train with AdamW.
const ADAMW: &[&str] = &[
    "adamw",
    "mc-dropout",
    "swag",
    "laplace",
    "tfb",
    "blob",
    "scalabl",
    "clora",
    "ensemble",
    "adamw-noise",
];
const SCORES: &[&str] = &["nll", "accuracy", "brier", "ece"];

const fn row(
    table: &'static str,
    key: &'static str,
    flag: &'static str,
    kind: Kind,
    only: &'static [&'static str],
    example: &'static str,
    help: &'static str,
) -> Setting {
    Setting {
        table,
        key,
        flag: if flag.is_empty() { None } else { Some(flag) },
        kind,
        only,
        example,
        help,
    }
}

/// All of them, in the order of the file.
#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    row("", "seed", "seed", Whole, &[], "", "Names everything random: start values, data order, dropout, noise."),
    row("", "out", "out", Path, &[], "\"runs/first\"", "The folder that the run writes; `runs/` and a name made of task, optimizer and seed by default."),

    row("model", "path", "model", Text, &[], "\"HuggingFaceTB/SmolLM2-135M\"", "A Hugging Face folder, a .gguf file, or a hub name org/name[@revision]."),
    row("model", "adapter", "adapter", Path, &[], "\"runs/earlier/adapter\"", "A PEFT folder to start the adapter from."),
    row("model", "device", "device", OneOf(DEVICES), &[], "", "Where to compute; all but cpu need a build with the feature of that name."),
    row("model", "threads", "threads", Whole, &[], "2", "Threads of the CPU; all by default."),
    row("model", "base_precision", "base-precision", OneOf(&["f32", "bf16", "as-is"]), &[], "", "How the base is kept: widened to f32, rounded to bf16, or as it lies in the file (smallest)."),
    row("model", "recompute", "recompute", Flag, &[], "", "Keep less for the backward pass and compute it again: a third more work, a fraction of the memory."),

    row("data", "path", "data", Path, &[], "\"data/sst2\"", "A folder with files named train, tune, calibrate, validation, test; or one file (jsonl, csv, tsv, parquet; all but parquet packed as .gz too)."),
    row("data", "task", "task", Text, &[], "\"sst2\"", "A built-in task; leave it away for a prompt of your own."),
    row("data", "prompt", "prompt", Text, &[], "\"Review: {text} Sentiment:\"", "A prompt template with field names in braces."),
    row("data", "answers", "answers", Texts, &[], "[\"Negative\", \"Positive\"]", "The answer words in the order of the labels."),
    row("data", "label_field", "label-field", Text, &[], "\"label\"", "The field with the label: an index from 0, true or false, or the answer word; refused where that leaves two readings."),
    row("data", "label_reading", "label-reading", OneOf(&["index", "word"]), &[], "\"word\"", "What labels are, where they could be read in two ways: indices from 0, or the answers (or choices) themselves."),
    row("data", "id_field", "id-field", Text, &[], "\"key\"", "The field with a row's id; id, ID, qID, question_id, idx or index by default, else the file's name and the line."),
    row("data", "scoring", "scoring", OneOf(&["token", "answer"]), &[], "", "Score answers by their first token where that tells them apart, or by all of their tokens."),
    row("data", "tune_share", "", Number, &[], "", "The share of train that becomes tune where no file is named so; 0 for none."),
    row("data", "calibrate_share", "", Number, &[], "", "The share of train that becomes calibrate where no file is named so; 0 for none."),
    row("data", "test_share", "", Number, &[], "", "The share of train that becomes test where no file is named test or validation; 0 for none."),
    row("data", "test_from", "", OneOf(&["test", "validation"]), &[], "\"validation\"", "Which file is the test set; test by default, else validation."),
    row("data", "group_field", "", Text, &[], "\"author\"", "The field of what must stay together in one role: author, document, patient."),
    row("data", "train_limit", "train-limit", Whole, &[], "200", "The most training examples: the first of the file."),
    row("data", "eval_limit", "eval-limit", Whole, &[], "500", "The most examples of each other role: the first of its file."),
    row("data", "max_length", "max-length", Whole, &[], "", "The most tokens of a prompt; longer ones lose text of a field, never the answer cue."),
    row("data", "seed", "", Whole, &[], "", "Decides which rows are carved from train; keep it where runs are compared."),
    row("data", "chat_template", "chat-template", FlagOrPath, &[], "", "Put a chat template around the prompt: the model's own, or that of a file."),

    row("lora", "rank", "rank", Whole, &[], "", "The rank r of A and B."),
    row("lora", "alpha", "alpha", Number, &[], "", "The adapter's output is scaled by alpha / r."),
    row("lora", "dropout", "dropout", Number, &[], "", "The probability that an input of A is set to zero in training, from 0 to below 1."),
    row("lora", "target_modules", "target-modules", TextOrTexts, &[], "", "The layers that are adapted: a list of names, a regular expression, or \"all-linear\"."),
    row("lora", "layers_to_transform", "", Wholes, &[], "[0, 1]", "Only these decoder layers, counted from 0; all by default."),
    row("lora", "use_rslora", "", Flag, &[], "", "Scale by alpha / √r in place of alpha / r."),

    row("optimizer", "name", "optimizer", OneOf(OPTIMIZERS), &[], "", "The method: ivon learns a variance for each weight, adamw a point; docs/methods.md has all of them."),
    row("optimizer", "learning_rate", "learning-rate", Number, &[], "", "The learning rate before the schedule."),
    row("optimizer", "ess", "ess", Number, IVON, "", "The effective sample size: a weight's variance is 1 / (ess · (h + weight_decay))."),
    row("optimizer", "posterior_sd", "posterior-sd", Number, IVON, "0.03", "The posterior's standard deviation at the start; where given, it sets ess."),
    row("optimizer", "hess_init", "hess-init", Number, IVON, "", "The Hessian at the start, h₀."),
    row("optimizer", "beta1", "beta1", Number, &[], "", "Decay of the momentum."),
    row("optimizer", "beta2", "beta2", Number, &[], "", "Decay of the Hessian (adamw: of the second moment)."),
    row("optimizer", "epsilon", "", Number, ADAMW, "", "Added to the root of the second moment."),
    row("optimizer", "weight_decay", "weight-decay", Number, &[], "", "Pulls weights to 0; with ivon it is the prior's precision per effective example."),
    row("optimizer", "clip_radius", "clip-radius", Number, IVON, "", "The largest size of an update before the learning rate; 0 for no limit."),
    row("optimizer", "mc_samples", "mc-samples", Whole, IVON, "", "Draws per step; each costs a forward and a backward pass."),
    row("optimizer", "rescale_lr", "rescale-lr", Flag, IVON, "", "Multiply the learning rate by hess_init + weight_decay."),
    row("optimizer", "debias", "", Flag, IVON, "", "Debias the momentum."),
    row("optimizer", "hess_approx", "", OneOf(&["price", "gradsq"]), IVON, "", "How the Hessian is estimated: price (unbiased) or the squared gradient."),
    row("optimizer", "max_grad_norm", "max-grad-norm", Number, &[], "", "The largest norm of the gradient; 0 for no limit."),
    row("optimizer", "frozen_hessian", "", Flag, IVON, "", "Control: the Hessian stays as it is at the start."),
    row("optimizer", "no_noise", "", Flag, IVON, "", "Control: train without noise; the Hessian stays as it is, too."),
    row("optimizer", "swag_start", "", Number, SWAG, "", "The share of the steps before snapshots are collected."),
    row("optimizer", "swag_rate", "", Number, SWAG, "", "The constant learning rate of the collection, as a share of learning_rate."),
    row("optimizer", "swag_snapshots", "", Whole, SWAG, "", "Snapshots to collect, evenly over the rest of the steps."),
    row("optimizer", "swag_rank", "", Whole, SWAG, "", "The newest snapshots that make the low-rank part; 0 for a diagonal posterior."),
    row("optimizer", "laplace_structure", "", OneOf(&["diagonal", "kronecker"]), LAPLACE, "", "The curvature: its diagonal, or a Kronecker product for each matrix (on the CPU alone)."),
    row("optimizer", "laplace_layers", "", OneOf(&["all", "last"]), LAPLACE, "", "Which weights are random: those of all adapted layers, or of the last decoder layer."),
    row("optimizer", "laplace_prediction", "", OneOf(&["samples", "probit", "weights"]), LAPLACE, "", "Linearised with draws of the logits or in closed form, or by draws of the weights."),
    row("optimizer", "kronecker_rank", "", Whole, LAPLACE, "", "Eigenpairs kept of a Kronecker factor as wide as the layer."),
    row("optimizer", "prior_precision_by", "", OneOf(&["evidence", "calibration"]), LAPLACE, "", "How the prior precision is chosen: by the evidence on train, or by the NLL on calibrate where it can tell."),
    row("optimizer", "prior_precision", "", Number, LAPLACE, "1.0", "The prior precision of the weights; chosen where absent."),
    row("optimizer", "tfb_tolerance", "", Number, TFB, "", "How much the NLL of training examples may rise by the noise, as a share of what it is."),
    row("optimizer", "tfb_samples", "", Whole, TFB, "", "Draws of each trial of the search."),
    row("optimizer", "tfb_examples", "", Whole, TFB, "", "The most training examples of each trial."),
    row("optimizer", "tfb_halvings", "", Whole, TFB, "", "Halvings of the range of the noise, after its two ends."),
    row("optimizer", "kl_rate", "", Number, KL, "", "The learning rate of the KL before the schedule, with blob of the spread as well."),
    row("optimizer", "rho_init", "", Number, BLOB, "", "The root of the standard deviation starts uniform between this over √2 and this."),
    row("optimizer", "prior_sd", "", Number, BLOB, "", "The prior's standard deviation."),
    row("optimizer", "kl_period", "", Whole, KL, "200", "The steps over which the KL counts once; an epoch by default."),
    row("optimizer", "flipout", "", Flag, BLOB, "", "Give each token signs of its own on the noise of training."),
    row("optimizer", "sd_init", "", Number, SCALABL, "", "The standard deviation of each row starts uniform between this over √2 and this."),
    row("optimizer", "row_prior_sd", "", Number, SCALABL, "", "The prior's standard deviation of each row."),
    row("optimizer", "context_hidden", "", Whole, CLORA, "", "Numbers between the two layers of the network that predicts the matrix between A and B."),
    row("optimizer", "context_sd", "", Number, CLORA, "", "About what the standard deviation of each entry of that matrix starts as."),
    row("optimizer", "context_prior_sd", "", Number, CLORA, "", "The prior's standard deviation of each entry."),
    row("optimizer", "kl_weight", "", Number, CLORA, "", "What a nat of the KL, over all tokens of an example, counts beside a nat of loss."),
    row("optimizer", "members", "", Whole, ENSEMBLE, "", "How many adapters are trained, one after the other."),
    row("optimizer", "noise_sd", "", Number, NOISE, "", "The standard deviation of the noise on every weight."),
    row("optimizer", "learn_prior", "", Flag, IVON, "", "Learn the prior precision of each matrix of A and B, after a tenth of the steps."),
    row("optimizer", "draw_per", "", OneOf(&["step", "micro-batch"]), IVON, "", "With accumulation: one draw for a whole step, or one for each of its forward passes."),

    row("train", "steps", "steps", Whole, &[], "400", "Optimizer steps; where absent, epochs decides; 0 to fit a method to an adapter."),
    row("train", "epochs", "epochs", Number, &[], "", "Passes over the training examples; read where steps is absent."),
    row("train", "batch_size", "batch-size", Whole, &[], "", "Examples per forward pass."),
    row("train", "accumulation", "accumulation", Whole, &[], "", "Forward passes per optimizer step."),
    row("train", "schedule", "schedule", OneOf(&["constant", "linear", "cosine"]), &[], "", "How the learning rate changes after the warm-up."),
    row("train", "warmup", "warmup", Whole, &[], "", "Steps over which the learning rate rises from 0."),
    row("train", "eval_interval", "eval-interval", Whole, &[], "50", "Steps between evaluations on tune; ten over the run by default."),
    row("train", "checkpoint_interval", "checkpoint-interval", Whole, &[], "50", "Steps between checkpoints; one at every evaluation by default."),
    row("train", "keep_checkpoints", "", Whole, &[], "", "The newest checkpoints that are kept."),
    row("train", "keep_best", "keep-best", OneOf(SCORES), &[], "\"nll\"", "The score on tune by which the best step is kept; the last step by default."),
    row("train", "patience", "patience", Whole, &[], "3", "Stop after this many evaluations in a row without a better score; needs keep_best."),
    row("train", "eval_samples", "", Whole, &[], "", "Draws in the evaluations on tune; 0 for the mean alone."),

    row("evaluation", "samples", "samples", Whole, &[], "", "Draws from the posterior in the evaluation at the end."),
    row("evaluation", "scale", "scale", Number, &[], "", "The posterior's variance is multiplied by this."),
    row("evaluation", "choose_scale", "choose-scale", Flag, &[], "", "Choose the scale on calibrate, in [0, 4], by NLL; costs the draws eight times over on that set."),
    row("evaluation", "batch_tokens", "", Whole, &[], "", "Prompts are packed up to this many tokens per forward pass."),
    row("evaluation", "include_text", "include-text", Flag, &[], "", "Write the prompts into predictions.jsonl as well."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ivon_lora::method::Method;
    use ivon_lora::run::RunConfig;

    use super::*;

    /// `table.key` of a configuration, those of absent values not.
    fn keys(config: &RunConfig) -> BTreeSet<String> {
        let table: toml::Table = toml::from_str(&toml::to_string(config).unwrap()).unwrap();
        let mut keys = BTreeSet::new();
        for (name, value) in &table {
            match value.as_table() {
                Some(inner) => keys.extend(inner.keys().map(|key| format!("{name}.{key}"))),
                None => {
                    keys.insert(name.clone());
                }
            }
        }
        keys
    }

    #[test]
    fn the_table_names_every_key_that_has_a_default_and_no_other() {
        for name in Method::NAMES {
            let config = RunConfig {
                optimizer: Method::named(name).unwrap(),
                ..RunConfig::default()
            };
            // A setting without an example has a default, and the reverse; the path of the data is
            // empty by default.
            let has_default =
                |setting: &&Setting| setting.example.is_empty() || setting.name() == "data.path";
            let named: BTreeSet<_> = SETTINGS
                .iter()
                .filter(|setting| setting.belongs_to(name))
                .filter(has_default)
                .map(Setting::name)
                .collect();
            assert_eq!(named, keys(&config), "{name}");
        }
    }

    #[test]
    fn every_key_is_one_that_the_library_reads() {
        for setting in SETTINGS {
            let optimizer = setting.only.first().unwrap_or(&"ivon");
            let mut file = format!("[optimizer]\nname = '{optimizer}'\n");
            let value = if setting.example.is_empty() {
                continue;
            } else {
                setting.example
            };
            match setting.table {
                "" => file = format!("{} = {value}\n{file}", setting.key),
                "optimizer" => file += &format!("{} = {value}\n", setting.key),
                table => file += &format!("[{table}]\n{} = {value}\n", setting.key),
            }
            let config: RunConfig =
                toml::from_str(&file).unwrap_or_else(|error| panic!("{}: {error}", setting.name()));
            assert!(
                keys(&config).contains(&setting.name()),
                "{}",
                setting.name()
            );
        }
    }

    #[test]
    fn names_and_flags_are_unique() {
        let names: BTreeSet<_> = SETTINGS.iter().map(Setting::name).collect();
        let flags: BTreeSet<_> = SETTINGS.iter().filter_map(|setting| setting.flag).collect();
        assert_eq!(
            (names.len(), flags.len()),
            (
                SETTINGS.len(),
                SETTINGS
                    .iter()
                    .filter(|setting| setting.flag.is_some())
                    .count()
            )
        );
    }
}

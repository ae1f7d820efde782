//! The model card, `README.md` of an adapter folder: what the adapter is, how it scores, and how other
//! programs load it.

use std::fmt::Write;
use std::path::Path;

use super::{BundleError, POSTERIOR_FILE, SIDECAR_FILE};
use crate::files;

/// The file's name in the adapter folder.
const MODEL_CARD_FILE: &str = "README.md";

/// What a model card says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CardFacts {
    /// The base by hub name or file name.
    pub base: String,
    /// The task's name.
    pub task: String,
    /// How many training rows there were, and from which files.
    pub data: String,
    /// The method, such as `IVON`.
    pub method: String,
    /// Name and value of the main settings: steps, learning rate, rank, …
    pub settings: Vec<(String, String)>,
    /// A Markdown table of scores, or empty.
    pub scores: String,
    /// The tag of the posterior (`variance`, …); none if there is no `posterior.safetensors`.
    pub posterior: Option<String>,
}

/// The card as Markdown, with the front matter for the hub.
fn model_card(facts: &CardFacts) -> String {
    let mut card = front_matter(&facts.base);
    let CardFacts {
        base,
        task,
        data,
        method,
        ..
    } = facts;
    let _ = write!(
        card,
        "\n# LoRA adapter for {task}\n\nTrained with {method} by ivon-lora on the frozen base `{base}`.\n\nData: {data}\n"
    );
    if !facts.settings.is_empty() {
        card.push_str("\n| setting | value |\n|---|---|\n");
        for (name, value) in &facts.settings {
            let _ = writeln!(card, "| {} | {} |", cell(name), cell(value));
        }
    }
    if !facts.scores.is_empty() {
        let _ = write!(card, "\n## Scores\n\n{}\n", facts.scores.trim_end());
    }
    card.push_str(&loading(facts));
    card
}

/// Writes the card into an adapter folder.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn write_model_card(folder: &Path, facts: &CardFacts) -> Result<(), BundleError> {
    Ok(files::write_bytes(
        &folder.join(MODEL_CARD_FILE),
        model_card(facts).as_bytes(),
    )?)
}

/// `base_model` must be a hub name, because the hub turns it into a link.
fn front_matter(base: &str) -> String {
    let hub = base.matches('/').count() == 1 && !base.ends_with(".gguf");
    let quoted = serde_json::Value::from(base);
    let (model, tag) = if hub {
        (
            format!("base_model: {quoted}\n"),
            format!(
                "- {}\n",
                serde_json::Value::from(format!("base_model:adapter:{base}"))
            ),
        )
    } else {
        Default::default()
    };
    format!(
        "---\n{model}library_name: peft\npipeline_tag: text-generation\ntags:\n{tag}- lora\n- ivon\n- transformers\n---\n"
    )
}

/// How PEFT, llama.cpp and this program load the adapter.
fn loading(facts: &CardFacts) -> String {
    let base = &facts.base;
    let what = match facts.posterior.as_deref() {
        None => "the adapter",
        Some("contextual") => "A and B of a contextual adapter (C-LoRA)",
        Some("members") => "the first member of the ensemble",
        Some(_) => "the mean of the posterior",
    };
    let text = format!(
        "\n## Loading\n\n`adapter_model.safetensors` is {what}, in PEFT's format:\n\n```python\n\
         from peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n\
         base = AutoModelForCausalLM.from_pretrained({quoted})\nmodel = PeftModel.from_pretrained(base, \"path/to/this/folder\")\n```\n\n\
         For llama.cpp, convert it and load it beside the base:\n\n```sh\n\
         python convert_lora_to_gguf.py path/to/this/folder --base path/to/the/base --outfile adapter.gguf\n\
         llama-cli -m base.gguf --lora adapter.gguf\n```\n\n\
         With ivon-lora, which also knows the task (`{SIDECAR_FILE}`):\n\n```sh\n\
         ivon-lora predict --model {base} --adapter path/to/this/folder --data rows.jsonl\n```\n",
        quoted = serde_json::Value::from(base.as_str()),
    );
    text + &posterior_note(facts.posterior.as_deref())
}

/// What the posterior's file holds; nothing if there is no such file.
fn posterior_note(kind: Option<&str>) -> String {
    let note = match kind {
        None => return String::new(),
        Some("variance") => {
            "holds the variance of every weight under the same names, in f32: a draw of the weights is\n\
             mean + √(scale · variance) · z with z standard normal; the scale stands in its metadata."
                .into()
        }
        Some("contextual") => {
            "holds the network that predicts a matrix between A and B from each input. Without it, in PEFT or\n\
             llama.cpp, A and B are another adapter than the one that was trained: use ivon-lora. It cannot be merged."
                .into()
        }
        Some(kind) => {
            format!("holds what ivon-lora's draws are made from (`{kind}`, see its metadata).")
        }
    };
    format!("\n`{POSTERIOR_FILE}` {note}\n")
}

/// Text that fits into a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_names_base_data_scores_and_how_to_load() {
        let facts = CardFacts {
            base: "org/model".into(),
            task: "sst2".into(),
            data: "train.jsonl, 200 rows".into(),
            method: "IVON".into(),
            settings: vec![("target|modules".into(), "q_proj".into())],
            scores: "| accuracy |\n|---|\n| 0.85 |".into(),
            posterior: Some("variance".into()),
        };
        let card = model_card(&facts);
        assert!(card.starts_with("---\nbase_model: \"org/model\"\nlibrary_name: peft\n"));
        for part in [
            "- \"base_model:adapter:org/model\"",
            "200 rows",
            "target\\|modules",
            "| 0.85 |",
            "PeftModel",
            "convert_lora_to_gguf",
            "variance",
        ] {
            assert!(card.contains(part), "{part}");
        }
        let contextual = model_card(&CardFacts {
            posterior: Some("contextual".into()),
            ..facts.clone()
        });
        assert!(contextual.contains("It cannot be merged."));
        let file = model_card(&CardFacts {
            base: "x.gguf".into(),
            posterior: None,
            ..facts
        });
        assert!(file.starts_with("---\nlibrary_name") && !file.contains("variance"));
    }
}

//! The output: a tokenizer trained on the text, and a Hugging Face folder.

use std::collections::HashMap;
use std::path::Path;

use half::f16;
use ivon_lora::data::Role;
use ivon_lora::files::write_bytes;
use ivon_lora::model::DecoderConfig;
use ivon_lora_toy::questions::{PROMPT, questions};
use ivon_lora_toy::text::{Part, document};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};
use serde_json::json;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

use crate::Failure;

/// The token at the beginning of every document.
pub const BOS: &str = "<s>";
/// Number of documents that the tokenizer is trained on; they contain every word of the world many
/// times.
const DOCUMENTS: u64 = 4000;

/// A byte-level BPE, merged until every word of the text is one token.
pub fn tokenizer(seed: u64) -> Result<Tokenizer, Failure> {
    let special = |text: &str| AddedToken::from(text, true);
    let trainer = BpeTrainer::builder()
        .vocab_size(4096)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![special(BOS)])
        .build();
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, false, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    let text = (0..DOCUMENTS).map(|index| document(Part::Training, seed, index));
    // The tokenizer must know the words of the questions too; it learns nothing from their reports
    // and labels.
    let asked = questions(Role::Train, seed)
        .into_iter()
        .map(|question| PROMPT.replace("{report}", &question.report));
    tokenizer.train(&mut TrainerWrapper::from(trainer), text.chain(asked))?;
    let id = tokenizer
        .token_to_id(BOS)
        .ok_or("the tokenizer has no begin token")?;
    let frame = TemplateProcessing::builder()
        .try_single(format!("{BOS} $A"))?
        .special_tokens(vec![(BOS, id)])
        .build()?;
    tokenizer.with_post_processor(Some(frame));
    Ok(tokenizer)
}

/// Writes config.json, model.safetensors (F16), tokenizer.json and tokenizer_config.json.
pub fn write_folder(
    folder: &Path,
    config: &DecoderConfig,
    tokenizer: &Tokenizer,
    parameters: &[(String, Vec<usize>, Vec<f32>)],
) -> Result<(), Failure> {
    ivon_lora::files::create_folder(folder)?;
    let pretty =
        |value: &serde_json::Value| serde_json::to_string_pretty(value).map(|text| text + "\n");
    write_bytes(
        &folder.join("config.json"),
        pretty(&config_json(config, tokenizer))?.as_bytes(),
    )?;
    let settings = json!({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": BOS, "add_bos_token": true,
        "clean_up_tokenization_spaces": false, "model_max_length": config.max_position_embeddings});
    write_bytes(
        &folder.join("tokenizer_config.json"),
        pretty(&settings)?.as_bytes(),
    )?;
    write_bytes(
        &folder.join("tokenizer.json"),
        tokenizer.to_string(false)?.as_bytes(),
    )?;
    let encoded: Vec<(&str, &Vec<usize>, Vec<u8>)> = parameters
        .iter()
        .map(|(name, shape, values)| {
            (
                name.as_str(),
                shape,
                values
                    .iter()
                    .flat_map(|&value| f16::from_f32(value).to_le_bytes())
                    .collect(),
            )
        })
        .collect();
    let mut views = Vec::with_capacity(encoded.len());
    for (name, shape, bytes) in &encoded {
        views.push((*name, TensorView::new(Dtype::F16, shape.to_vec(), bytes)?));
    }
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    write_bytes(
        &folder.join("model.safetensors"),
        &serialize(views, Some(metadata))?,
    )?;
    Ok(())
}

fn config_json(config: &DecoderConfig, tokenizer: &Tokenizer) -> serde_json::Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": config.model_type, "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size, "intermediate_size": config.intermediate_size(),
        "num_hidden_layers": config.num_hidden_layers, "num_attention_heads": config.heads()[0],
        "num_key_value_heads": config.heads()[1], "head_dim": config.heads()[2], "hidden_act": "silu",
        "max_position_embeddings": config.max_position_embeddings, "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.layers[0].rope().map(|rope| rope.theta), "tie_word_embeddings": config.tie_word_embeddings, "attention_bias": false,
        "mlp_bias": false, "bos_token_id": tokenizer.token_to_id(BOS), "eos_token_id": tokenizer.token_to_id(BOS),
        "torch_dtype": "float16",
    })
}

//! The keys of a `config.json` that are read, the keys known to have no effect, and notes on the
//! others.
//!
//! transformers accepts any key: one that its class does not know becomes an attribute that nothing
//! reads. A key in neither list is therefore not an error; but a note mentions it, in case its
//! author meant something by it.

use serde_json::{Map, Value};

/// Keys that are used, or refused if they require something that the decoder lacks.
pub(in crate::model) const READ: [&str; 28] = [
    "architectures",
    "attention_bias",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "is_causal",
    "layer_types",
    "max_position_embeddings",
    "max_window_layers",
    "mlp_bias",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "per_layer_config",
    "quantization_config",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "tie_word_embeddings",
    "transformers_weights",
    "use_sliding_window",
    "vocab_size",
];

/// Keys without influence on a logit: generation, training, labels of a classifier, bookkeeping.
/// `dtype` is one of them, because all computation is in f32. testdata/model/generate.py checks the
/// list against transformers.
pub(in crate::model) const WITHOUT_EFFECT: [&str; 71] = [
    "_attn_implementation_autoset",
    "_commit_hash",
    "_flash_attn_2_enabled",
    "_name_or_path",
    "add_cross_attention",
    "attention_dropout",
    "attn_implementation",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "is_llama_config",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "name_or_path",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "pruned_heads",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "rope_interleaved",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
];

/// The keys of a file that are in neither list nor among the family's own, except those that are
/// null or false.
pub(in crate::model) fn unknown<'a>(object: &'a Map<String, Value>, own: &[&str]) -> Vec<&'a str> {
    let known =
        |key: &str| READ.contains(&key) || WITHOUT_EFFECT.contains(&key) || own.contains(&key);
    let holds = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    object
        .iter()
        .filter(|(key, value)| !known(key) && holds(value))
        .map(|(key, _)| key.as_str())
        .collect()
}

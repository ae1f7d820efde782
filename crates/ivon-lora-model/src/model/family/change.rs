//! What llama.cpp's converter changes of a tensor, by the tensor's name in Hugging Face, in more than
//! one family.

use crate::model::change::{Change, NumberChange, Order};
use crate::model::config::DecoderConfig;

/// Nothing.
pub(super) fn no_change(_: &DecoderConfig, _: &str) -> Change {
    Change::default()
}

/// It interleaves the two halves of each head of q and k.
pub(super) fn interleaved_heads(config: &DecoderConfig, name: &str) -> Change {
    let [_, _, head] = config.heads();
    let is_rotary = [
        ".q_proj.weight",
        ".k_proj.weight",
        ".q_proj.bias",
        ".k_proj.bias",
    ]
    .iter()
    .any(|ending| name.ends_with(ending));
    match is_rotary {
        true => Change::of_order(Order::Interleaved(head)),
        false => Change::default(),
    }
}

/// It adds the 1 to the weights of norms, of which the model has no other than those
/// that multiply by 1 + w.
pub(super) fn norms_plus_one(_: &DecoderConfig, name: &str) -> Change {
    match name.ends_with("norm.weight") {
        true => Change::of_number(NumberChange::PlusOne),
        false => Change::default(),
    }
}

//! The pre-tokenizers that `tokenizer.ggml.pre` names: how a text is split into pieces before
//! byte-level BPE merges within each.
//!
//! A name stands for what the checkpoint's `tokenizer.json` does. Where llama.cpp does otherwise
//! (it composes no accents, and takes the tokens of SmolLM3 by their merges alone), this is the
//! checkpoint's way.

use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

/// Llama 3's split: contractions, words with a leading space or sign, numbers in groups of three,
/// signs, line ends, spaces.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's split: the same with single digits.
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 3.5's split: the same with combining marks in words.
const QWEN_3_5: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// GPT-4o's split: words end where a capital follows a small letter, and hold their combining marks
/// and contractions; signs hold slashes.
const GPT_4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The split of Mistral's Tekken: the same with single digits and without contractions.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How a text is split.
#[derive(Clone, Copy)]
enum Rule {
    /// GPT-2's split: contractions in small letters, words, numbers and signs with a leading space.
    Gpt2,
    /// Each digit apart, then GPT-2's split.
    DigitsThenGpt2,
    /// Each match of a regular expression apart, and what lies between them.
    Pattern(&'static str),
}

/// A pre-tokenizer, and what else its name says of a tokenizer.
pub(super) struct PreTokenizer {
    /// Its names in GGUF.
    names: &'static [&'static str],
    rule: Rule,
    /// Whether accents are composed first (NFC).
    pub composes: bool,
    /// Whether a piece that is a token is taken whole, whatever its merges.
    pub ignores_merges: bool,
    /// Whether llama.cpp begins a text with BOS if the file does not say.
    pub starts_with_bos: bool,
}

/// A pre-tokenizer of which nothing else is to be said.
const fn plain(names: &'static [&'static str], rule: Rule) -> PreTokenizer {
    PreTokenizer {
        names,
        rule,
        composes: false,
        ignores_merges: false,
        starts_with_bos: false,
    }
}

/// All of them.
const ALL: [PreTokenizer; 9] = [
    plain(&["gpt-2"], Rule::Gpt2),
    // SmolLM 1 and 2; Granite 3 (`refact`) and its coders (`starcoder`).
    plain(&["smollm", "refact", "starcoder"], Rule::DigitsThenGpt2),
    // Llama 3; LFM2.
    PreTokenizer {
        ignores_merges: true,
        starts_with_bos: true,
        ..plain(
            &["llama-bpe", "llama3", "llama-v3", "lfm2"],
            Rule::Pattern(LLAMA_3),
        )
    },
    // SmolLM3: Llama 3 without BOS.
    PreTokenizer {
        ignores_merges: true,
        ..plain(&["smaug-bpe"], Rule::Pattern(LLAMA_3))
    },
    // Granite 4, OLMo 2 and 3, Phi-4 (14B): GPT-4's split, which is Llama 3's.
    plain(&["dbrx"], Rule::Pattern(LLAMA_3)),
    // Qwen 2 and 3.
    PreTokenizer {
        composes: true,
        ..plain(&["qwen2", "deepseek-r1-qwen"], Rule::Pattern(QWEN_2))
    },
    PreTokenizer {
        composes: true,
        ..plain(&["qwen35"], Rule::Pattern(QWEN_3_5))
    },
    // Mistral Nemo, Ministral, Ministral 3.
    PreTokenizer {
        ignores_merges: true,
        starts_with_bos: true,
        ..plain(&["tekken"], Rule::Pattern(TEKKEN))
    },
    // Phi-4-mini.
    plain(&["gpt-4o"], Rule::Pattern(GPT_4O)),
];

impl PreTokenizer {
    /// The pre-tokenizer with a name.
    ///
    /// # Errors
    /// With the names that there are, if it is not one of them.
    pub fn named(name: &str) -> Result<&'static Self, String> {
        let known = ALL.iter().find(|known| known.names.contains(&name));
        known.ok_or_else(|| {
            let names: Vec<&str> = ALL.iter().flat_map(|known| known.names).copied().collect();
            format!(
                "its pre-tokenizer is `{name}`, supported are {}",
                names.join(", ")
            )
        })
    }

    /// As a pre-tokenizer of the `tokenizers` crate, with bytes as letters.
    ///
    /// # Errors
    /// The message of the crate.
    pub fn build(&self) -> Result<PreTokenizerWrapper, String> {
        let gpt_2 = || ByteLevel::new(false, true, true).into();
        Ok(match self.rule {
            Rule::Gpt2 => gpt_2(),
            Rule::DigitsThenGpt2 => Sequence::new(vec![Digits::new(true).into(), gpt_2()]).into(),
            Rule::Pattern(pattern) => {
                let pattern = SplitPattern::Regex(pattern.into());
                let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
                let split = split.map_err(|error| error.to_string())?;
                let bytes = ByteLevel::new(false, true, false);
                Sequence::new(vec![split.into(), bytes.into()]).into()
            }
        })
    }
}

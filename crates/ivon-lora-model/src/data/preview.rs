//! How the model sees a data set, for `ivon-lora data preview`; it can be printed or saved.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::account::{Drops, Tally};
use super::error::DataError;
use super::task::Example;
use super::tokens::{
    Choices, EncodeOptions, EncodeOutcome, Encoded, EncodedText, Encoder, Tokenizer,
};

/// One token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenView {
    /// Its id.
    pub id: u32,
    /// Its text; � if it is only part of a character.
    pub text: String,
}

/// One example.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExampleView {
    /// Its id.
    pub id: String,
    /// The text that the model reads, with the chat template but without special tokens before it.
    pub prompt: String,
    /// The tokens of the prompt, or of the text.
    pub tokens: Vec<TokenView>,
    /// The weight of each token of a text in the loss; empty where choices are scored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<f32>,
    /// The answers, each with the tokens by which it is scored.
    pub choices: Vec<(String, Vec<TokenView>)>,
    /// The index of the correct answer.
    pub label: Option<usize>,
    /// Whether the prompt was shortened.
    pub truncated: bool,
}

/// Prompt lengths in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lengths {
    /// The shortest.
    pub min: usize,
    /// The lower median.
    pub median: usize,
    /// The 90th percentile.
    pub p90: usize,
    /// The longest.
    pub max: usize,
}

impl Lengths {
    /// The lengths of a list in any order; zeros for an empty one.
    pub fn of(mut lengths: Vec<usize>) -> Self {
        lengths.sort_unstable();
        Self {
            min: quantile(&lengths, 0),
            median: quantile(&lengths, 5),
            p90: quantile(&lengths, 9),
            max: quantile(&lengths, 10),
        }
    }
}

/// The smallest length that is at least as long as this share of the examples.
fn quantile(sorted: &[usize], tenths: usize) -> usize {
    let index = (sorted.len() * tenths).div_ceil(10).saturating_sub(1);
    sorted.get(index).copied().unwrap_or(0)
}

/// The tokens of texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TextCounts {
    /// All tokens.
    pub tokens: usize,
    /// Those that are trained on.
    pub trained: usize,
    /// The bytes that these spell.
    pub bytes: usize,
    /// The rows that are divided into several stretches.
    pub divided: usize,
}

/// How tokens that are trained on are set off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks<'a> {
    /// Before the first of them.
    pub before: &'a str,
    /// After the last of them.
    pub after: &'a str,
}

impl Marks<'_> {
    /// Square brackets.
    pub const BRACKETS: Self = Self {
        before: "[",
        after: "]",
    };
}

/// A summary of a set of examples.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Preview {
    /// The first examples.
    pub examples: Vec<ExampleView>,
    /// The number of usable examples; each stretch of a long text is one.
    pub count: usize,
    /// The tokens of texts; none where choices are scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<TextCounts>,
    /// Completions whose first token spells the end of their prompt too.
    #[serde(skip_serializing_if = "Tally::is_empty")]
    pub merged: Tally,
    /// Prompt lengths of the usable examples.
    pub lengths: Lengths,
    /// For each label its answer word and the number of examples with it.
    pub labels: BTreeMap<usize, (String, usize)>,
    /// Examples without a label.
    pub unlabelled: usize,
    /// Examples shortened to fit.
    pub shortened: Tally,
    /// Examples with an empty field in the prompt.
    pub empty: Tally,
    /// The number of examples whose answers are scored by all of their tokens.
    pub whole_answers: usize,
    /// The dropped rows, by reason.
    pub dropped: Drops,
}

/// Summarises `examples` and shows the first `shown`. `dropped` are the rows dropped before.
///
/// # Errors
/// If the tokenizer or the chat template fails, or answers cannot be told apart.
pub fn preview(
    examples: &[Example],
    dropped: &Drops,
    tokenizer: &Tokenizer,
    options: EncodeOptions,
    shown: usize,
) -> Result<Preview, DataError> {
    let mut encoder = Encoder::new(tokenizer, options)?;
    let mut lengths = Vec::with_capacity(examples.len());
    let mut preview = Preview {
        dropped: dropped.clone(),
        ..Preview::default()
    };
    for example in examples {
        if example.has_empty_field() {
            preview.empty.add(&example.id);
        }
        match encoder.encode(example)? {
            EncodeOutcome::Dropped(reason) => preview.dropped.add(reason, &example.id),
            EncodeOutcome::Texts(texts) => {
                lengths.extend(texts.iter().map(|text| text.encoded.tokens.len()));
                preview.count_texts(&texts);
                for text in texts {
                    if preview.examples.len() < shown {
                        let view = ExampleView::of_text(text, tokenizer)?;
                        preview.examples.push(view);
                    }
                }
            }
            EncodeOutcome::Encoded {
                encoded,
                text,
                truncated,
            } => {
                lengths.push(encoded.tokens.len());
                preview.count(example, &encoded, truncated);
                if preview.examples.len() < shown {
                    let view = ExampleView::of(example, encoded, text, truncated, tokenizer)?;
                    preview.examples.push(view);
                }
            }
        }
    }
    preview.lengths = Lengths::of(lengths);
    Ok(preview)
}

impl Preview {
    /// Counts a usable example.
    fn count(&mut self, example: &Example, encoded: &Encoded, truncated: bool) {
        self.count += 1;
        if truncated {
            self.shortened.add(&example.id);
        }
        self.whole_answers += usize::from(matches!(encoded.choices(), Some(Choices::Answers(_))));
        match example.label {
            Some(label) => {
                let word = example.answers.get(label).cloned().unwrap_or_default();
                self.labels.entry(label).or_insert((word, 0)).1 += 1;
            }
            None => self.unlabelled += 1,
        }
    }
}

impl Preview {
    /// Counts the sequences of a row of text.
    fn count_texts(&mut self, texts: &[EncodedText]) {
        self.count += texts.len();
        let counts = self.text.get_or_insert_default();
        counts.divided += usize::from(texts.len() > 1);
        for text in texts {
            counts.tokens += text.encoded.tokens.len();
            if let Some(target) = text.encoded.text() {
                counts.trained += target.trained();
                counts.bytes += target.bytes;
            }
            if text.truncated {
                self.shortened.add(&text.encoded.id);
            }
            if text.merged {
                self.merged.add(&text.encoded.id);
            }
        }
    }
}

impl ExampleView {
    fn of_text(text: EncodedText, tokenizer: &Tokenizer) -> Result<Self, DataError> {
        let weights = text.encoded.text().map(|target| target.weights.clone());
        Ok(Self {
            tokens: views(tokenizer, &text.encoded.tokens)?,
            id: text.encoded.id,
            prompt: text.text,
            weights: weights.unwrap_or_default(),
            choices: Vec::new(),
            label: None,
            truncated: text.truncated,
        })
    }

    fn of(
        example: &Example,
        encoded: Encoded,
        prompt: String,
        truncated: bool,
        tokenizer: &Tokenizer,
    ) -> Result<Self, DataError> {
        let scored: Vec<Vec<TokenView>> = match encoded.choices() {
            Some(Choices::Tokens(ids)) => ids
                .iter()
                .map(|id| views(tokenizer, &[*id]))
                .collect::<Result<_, _>>()?,
            Some(Choices::Answers(answers)) => answers
                .iter()
                .map(|ids| views(tokenizer, ids))
                .collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        Ok(Self {
            label: encoded.label(),
            tokens: views(tokenizer, &encoded.tokens)?,
            weights: Vec::new(),
            choices: example.answers.iter().cloned().zip(scored).collect(),
            id: encoded.id,
            prompt,
            truncated,
        })
    }
}

fn views(tokenizer: &Tokenizer, ids: &[u32]) -> Result<Vec<TokenView>, DataError> {
    ids.iter()
        .map(|&id| {
            Ok(TokenView {
                id,
                text: tokenizer.decode(&[id])?,
            })
        })
        .collect()
}

impl fmt::Display for TokenView {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{:?}", self.id, self.text)
    }
}

/// The tokens, separated by spaces.
fn joined(tokens: &[TokenView]) -> String {
    tokens
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

impl ExampleView {
    /// Plain text: the prompt, its tokens, and the choices with theirs; or the tokens of a text,
    /// with those that are trained on between `marks`.
    fn text(&self, marks: &Marks<'_>) -> String {
        let cut = match (self.truncated, self.weights.is_empty()) {
            (false, _) => "",
            (true, true) => " (shortened)",
            (true, false) => " (cut)",
        };
        let mut text = format!("{}{cut}\n", self.id);
        if !self.weights.is_empty() {
            text += &format!("  tokens  {}\n", self.marked(marks));
            return text;
        }
        text += &format!("  prompt  {}\n", self.prompt.replace('\n', "\n          "));
        text += &format!("  tokens  {}\n", joined(&self.tokens));
        for (index, (word, tokens)) in self.choices.iter().enumerate() {
            let mark = if self.label == Some(index) { "*" } else { " " };
            text += &format!("  {mark} {index:>3}  {word}  [{}]\n", joined(tokens));
        }
        text
    }

    /// The tokens of a text, each run of one weight between marks, with the weight before it if that
    /// is neither 0 nor 1.
    fn marked(&self, marks: &Marks<'_>) -> String {
        let mut runs = Vec::new();
        let mut start = 0;
        for run in self.weights.chunk_by(|one, other| one == other) {
            let tokens = joined(&self.tokens[start..start + run.len()]);
            let (before, after) = (marks.before, marks.after);
            runs.push(match run[0] {
                0.0 => tokens,
                1.0 => format!("{before}{tokens}{after}"),
                weight => format!("{before}{weight}× {tokens}{after}"),
            });
            start += run.len();
        }
        runs.join(" ")
    }
}

impl fmt::Display for Preview {
    /// [`Preview::to_text`] with brackets around what is trained on.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(formatter, &Marks::BRACKETS)
    }
}

impl Preview {
    /// Plain text: the examples, then one fact a line. `*` marks the correct answer, `marks` what is
    /// trained on in a text.
    pub fn to_text(&self, marks: &Marks<'_>) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut text, marks);
        text
    }

    fn write(&self, out: &mut impl fmt::Write, marks: &Marks<'_>) -> fmt::Result {
        for example in &self.examples {
            writeln!(out, "{}", example.text(marks))?;
        }
        let Lengths {
            min,
            median,
            p90,
            max,
        } = self.lengths;
        writeln!(out, "examples   {}", self.count)?;
        writeln!(
            out,
            "tokens     min {min}, median {median}, 90 % {p90}, max {max}"
        )?;
        match &self.text {
            Some(counts) => self.write_text_counts(out, counts)?,
            None => self.write_labels(out)?,
        }
        if self.empty.count > 0 {
            writeln!(out, "no text in a field: {}", with_ids(&self.empty))?;
        }
        if self.whole_answers > 0 {
            writeln!(out, "scored by whole answers: {}", self.whole_answers)?;
        }
        self.write_dropped(out)
    }

    fn write_labels(&self, out: &mut impl fmt::Write) -> fmt::Result {
        writeln!(out, "labels     {}", self.labels_in_words())?;
        if self.unlabelled > 0 {
            writeln!(out, "unlabelled {}", self.unlabelled)?;
        }
        writeln!(out, "shortened  {}", with_ids(&self.shortened))
    }

    fn write_text_counts(&self, out: &mut impl fmt::Write, counts: &TextCounts) -> fmt::Result {
        let TextCounts {
            tokens,
            trained,
            bytes,
            divided,
        } = counts;
        let read = tokens - trained;
        writeln!(
            out,
            "trained on {trained} tokens ({bytes} bytes), read only {read}"
        )?;
        writeln!(out, "cut        {}", with_ids(&self.shortened))?;
        if *divided > 0 {
            writeln!(out, "divided    {divided}")?;
        }
        if !self.merged.is_empty() {
            writeln!(
                out,
                "a token spells the end of the prompt and the start of the completion: {}",
                with_ids(&self.merged)
            )?;
        }
        Ok(())
    }
}

impl Preview {
    fn write_dropped(&self, out: &mut impl fmt::Write) -> fmt::Result {
        writeln!(out, "left out   {}", self.dropped.total())?;
        for (reason, rows) in self.dropped.iter() {
            let noun = if rows.count == 1 { "row" } else { "rows" };
            writeln!(out, "  {} {noun}: {reason} ({rows})", rows.count)?;
        }
        Ok(())
    }

    fn labels_in_words(&self) -> String {
        if self.labels.is_empty() {
            return "none".into();
        }
        let label =
            |(index, (word, count)): (&usize, &(String, usize))| format!("{index} {word}: {count}");
        let labels: Vec<String> = self.labels.iter().map(label).collect();
        labels.join(", ")
    }
}

/// `3 (a, b, c)`; `0` alone.
fn with_ids(rows: &Tally) -> String {
    match rows.count {
        0 => "0".into(),
        count => format!("{count} ({rows})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tokens::testing::byte_level;
    use crate::data::{DropReason, Scoring};

    #[test]
    fn quantiles_are_lengths_that_occur() {
        assert_eq!(
            Lengths::of((1..=10).rev().collect()),
            Lengths {
                min: 1,
                median: 5,
                p90: 9,
                max: 10
            }
        );
        assert_eq!(
            Lengths::of(vec![7]),
            Lengths {
                min: 7,
                median: 7,
                p90: 7,
                max: 7
            }
        );
        assert_eq!(Lengths::of(Vec::new()), Lengths::default());
    }

    #[test]
    fn a_preview_shows_prompt_tokens_choices_label_and_what_was_left_out() {
        let tokenizer = byte_level(&["Ġ A", "Ġ B"], false);
        let answers = ["A".to_string(), "B".to_string()].into();
        let mut examples: Vec<Example> = ["Q:", "Why:", "longer than that:"]
            .iter()
            .map(|prompt| Example::from_prompt(*prompt, *prompt, std::sync::Arc::clone(&answers)))
            .collect();
        examples[0].label = Some(1);
        let mut dropped = Drops::default();
        dropped.add(DropReason::ChoiceCount { found: 5, kept: 4 }, "q7");
        let options = EncodeOptions {
            max_length: 10,
            scoring: Scoring::Token,
            chat_template: false,
        };
        let preview = preview(&examples, &dropped, &tokenizer, options, 1).unwrap();
        let id = |token: &str| tokenizer.token_to_id(token).unwrap();
        let expected = format!(
            "Q:\n  prompt  Q:\n  tokens  {}:\"Q\" {}:\":\"\n      0  A  [{}:\" A\"]\n  *   1  B  [{}:\" B\"]\n\n\
             examples   2\ntokens     min 2, median 2, 90 % 4, max 4\nlabels     1 B: 1\nunlabelled 1\nshortened  0\nleft out   2\n  \
             1 row: 5 choices where the task keeps 4 (`q7`)\n  1 row: longer than 10 tokens even with its fields shortened (`longer than that:`)\n",
            id("Q"),
            id(":"),
            id("ĠA"),
            id("ĠB"),
        );
        assert_eq!(preview.to_string(), expected);
        let saved = serde_json::to_value(&preview).unwrap();
        assert_eq!(saved["labels"]["1"][1], 1);
        assert_eq!(saved["examples"][0]["choices"][1][1][0]["text"], " B");
    }
}

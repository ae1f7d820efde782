//! One example as the model sees it: token ids, the choices, the label.

/// A prompt in tokens with its choices.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// The example's id, as in its file.
    pub id: String,
    /// Names the example in everything random (dropout masks): its hash, so that it does not depend
    /// on the order of rows.
    pub key: u64,
    /// The prompt's token ids, special tokens included, never empty.
    pub tokens: Vec<u32>,
    /// What can be answered.
    pub choices: Choices,
    /// The index of the right choice; none for rows to predict.
    pub label: Option<usize>,
}

/// How the choices of an example are scored.
#[derive(Clone, Debug, PartialEq)]
pub enum Choices {
    /// By the logit of one token each at the prompt's last position.
    Tokens(Vec<u32>),
    /// By the log-probability of all tokens of each answer given the prompt; no answer is empty.
    Answers(Vec<Vec<u32>>),
}

impl Choices {
    /// The number of choices.
    pub fn len(&self) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.len(),
            Self::Answers(answers) => answers.len(),
        }
    }

    /// Whether there is nothing to choose.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

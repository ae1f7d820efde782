//! One example for the model: token ids, choices, label.

/// A prompt in tokens with its choices.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// The example's id, as in its file.
    pub id: String,
    /// Identifies the example in random numbers (dropout masks): a hash of its content, independent
    /// of the order of rows.
    pub key: u64,
    /// The prompt's token ids, special tokens included, never empty.
    pub tokens: Vec<u32>,
    /// What is to be predicted.
    pub target: Target,
}

/// What is to be predicted, and the correct answer if it is known.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// One of several choices.
    Choice {
        /// The choices.
        choices: Choices,
        /// The index of the correct choice; none for rows to predict.
        label: Option<usize>,
    },
}

impl Encoded {
    /// The index of the correct choice, if it is known.
    pub fn label(&self) -> Option<usize> {
        let Target::Choice { label, .. } = &self.target;
        *label
    }

    /// The choices.
    pub fn choices(&self) -> &Choices {
        let Target::Choice { choices, .. } = &self.target;
        choices
    }
}

/// How the choices of an example are scored.
#[derive(Clone, Debug, PartialEq)]
pub enum Choices {
    /// By the logit of one token for each choice at the prompt's last position.
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

    /// Whether there are no choices.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

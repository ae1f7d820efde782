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
    /// What is to be answered.
    pub target: Target,
}

/// What an example asks for, with the right answer where it is known.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// One of several choices.
    Choice {
        /// What can be answered.
        choices: Choices,
        /// The index of the right choice; none for rows to predict.
        label: Option<usize>,
    },
}

impl Encoded {
    /// The index of the right choice, where it is known.
    pub fn label(&self) -> Option<usize> {
        let Target::Choice { label, .. } = &self.target;
        *label
    }

    /// What can be chosen.
    pub fn choices(&self) -> &Choices {
        let Target::Choice { choices, .. } = &self.target;
        choices
    }
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

//! One example for the model: token ids and what is to be predicted, a choice or the text itself.

/// One sequence of tokens with what is to be predicted from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// The example's id, as in its file.
    pub id: String,
    /// Identifies the example in random numbers (dropout masks): a hash of its content, independent
    /// of the order of rows.
    pub key: u64,
    /// Token ids, special tokens included, never empty: those of the prompt where a choice is to be
    /// predicted, the whole sequence of a text.
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
    /// The tokens of the sequence itself, each from those before it.
    Text(TextTarget),
}

/// Which tokens of a text are to be predicted.
#[derive(Clone, Debug, PartialEq)]
pub struct TextTarget {
    /// The weight of each token in the loss, `[tokens]`; 0 for tokens that are only read. The first
    /// is always 0, since nothing predicts it.
    pub weights: Vec<f32>,
    /// The bytes of UTF-8 that the trained tokens spell, for bits per byte. Special tokens spell
    /// none.
    pub bytes: usize,
    /// The document that the sequence belongs to, a hash of its row's id: intervals are over
    /// documents, since the tokens of one depend on each other.
    pub document: u64,
}

impl TextTarget {
    /// The number of tokens in the loss.
    pub fn trained(&self) -> usize {
        self.weights.iter().filter(|weight| **weight > 0.0).count()
    }
}

impl Encoded {
    /// The index of the correct choice, if it is known; none for a text.
    pub fn label(&self) -> Option<usize> {
        match &self.target {
            Target::Choice { label, .. } => *label,
            Target::Text(_) => None,
        }
    }

    /// The choices; none for a text.
    pub fn choices(&self) -> Option<&Choices> {
        match &self.target {
            Target::Choice { choices, .. } => Some(choices),
            Target::Text(_) => None,
        }
    }

    /// What is to be predicted of a text; none where a choice is.
    pub fn text(&self) -> Option<&TextTarget> {
        match &self.target {
            Target::Choice { .. } => None,
            Target::Text(text) => Some(text),
        }
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

//! The two tables over the vocabulary: the embeddings, and the output layer.

use super::config::DecoderConfig;

/// A table over the vocabulary, `[V, H]`: a row for each token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// The embeddings, with which the forward pass begins.
    EmbedTokens,
    /// The output layer, with which it ends.
    LmHead,
}

impl Table {
    /// Both, in the order of the forward pass.
    pub const ALL: [Self; 2] = [Self::EmbedTokens, Self::LmHead];

    /// Its name in checkpoints, without the path of the decoder.
    pub fn name(self) -> &'static str {
        match self {
            Self::EmbedTokens => "embed_tokens",
            Self::LmHead => "lm_head",
        }
    }

    /// Its path in a model whose decoder is at `module`, such as `model.embed_tokens`; the output
    /// layer stands beside the decoder.
    pub fn path_in(self, module: &str) -> String {
        match self {
            Self::EmbedTokens => format!("{module}.{}", self.name()),
            Self::LmHead => self.name().into(),
        }
    }

    /// The name of its tensor in a checkpoint of this decoder.
    pub fn tensor(self, decoder: &DecoderConfig) -> String {
        format!("{}.weight", self.path_in(decoder.module))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny::decoder;

    #[test]
    fn tables_have_the_names_of_the_tensors_that_a_decoder_needs() {
        let needed = decoder(1).tensors();
        for table in Table::ALL {
            assert!(needed.contains_key(&table.tensor(&decoder(1))));
        }
        assert_eq!(
            Table::EmbedTokens.path_in("model.language_model"),
            "model.language_model.embed_tokens"
        );
    }
}
